/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with two root ports, and what a guest does with them. */
#ifndef UNIT_PCIE_SLOT_H
#define UNIT_PCIE_SLOT_H

#include "pci_card.h"

#include "vmm/outside.h"
#include "vmm/pcie_port.h"

#define CARD_ID 0x10d38086

/* The PCI Express capability, and of its registers the slot's and the link's. */
#define EXP 0x40
#define LNKCTL (EXP + 0x10)
#define LNKSTA (EXP + 0x12)
#define SLTCTL (EXP + 0x18)
#define SLTSTA (EXP + 0x1a)
#define LINK_ACTIVE 0x2000

/* Status: button, presence changed, present, link changed; control: what enables these. */
#define ABP 0x0001
#define PDC 0x0008
#define PDS 0x0040
#define DLLSC 0x0100
#define ABPE 0x0001
#define HPIE 0x0020

/* Control: indicator on, blinking, off; power off. */
#define IND_ON 0x0100
#define IND_BLINK 0x0200
#define IND_OFF 0x0300
#define POWER_OFF 0x0400

static inline struct platform *new_ports(void)
{
	struct platform *p = platform_new();

	p->m.config.pci.root_ports = 2;
	new_bus(p);
	return p;
}

/* What the machine's owner hears of its pins. */
struct pins {
	struct machine_outside outside;
	int level;
};

static inline void hear_pin(void *opaque, bool level)
{
	((struct pins *)opaque)->level = level;
}

static inline struct platform *new_ports_with_pins(struct pins *pins)
{
	struct platform *p = platform_new();
	struct gw_error err;

	pins->outside.opaque = pins;
	pins->outside.set_pin = hear_pin;
	p->m.outside = &pins->outside;
	cr_assert_eq(irqs_create(&p->m, &p->m.irqs, &err), 0);
	p->m.config.pci.root_ports = 2;
	new_bus(p);
	return p;
}

/* Ports are functions of slot 31. */
static inline uint32_t port_read(struct platform *p, unsigned port, unsigned reg, unsigned size)
{
	return (uint32_t)bus_read(&p->m.mmio, ecam(0, 31, port - 1, reg), size);
}

static inline void port_write(struct platform *p, unsigned port, unsigned reg, unsigned size,
                              uint32_t value)
{
	bus_write(&p->m.mmio, ecam(0, 31, port - 1, reg), size, value);
}

#endif
