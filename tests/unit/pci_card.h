/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI function for tests of the bus, and what a guest does with the ECAM. */
#ifndef UNIT_PCI_CARD_H
#define UNIT_PCI_CARD_H

#include "platform.h"

#include "vmm/arch.h"
#include "vmm/pci.h"

#include <stdio.h>

/* A function that counts what it is told. */
struct card {
	struct pci_function f;
	unsigned changes, resets, ejected, written;
	uint64_t stored;
};

static inline struct card *card_of(struct pci_function *f)
{
	return container_of(f, struct card, f);
}

static inline uint64_t card_read(struct pci_function *f, unsigned bar, uint64_t offset,
                                 unsigned size)
{
	(void)size;
	return (uint64_t)f->slot << 16 | bar << 12 | offset;
}

static inline void card_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                              uint64_t value)
{
	(void)bar;
	(void)offset;
	(void)size;
	card_of(f)->stored = value;
}

static inline void card_changed(struct pci_function *f, unsigned bar)
{
	(void)bar;
	card_of(f)->changes++;
}

static inline void card_reset(struct pci_function *f)
{
	card_of(f)->resets++;
}

static inline void card_ejected(struct pci_function *f)
{
	card_of(f)->ejected++;
}

static inline void card_written(struct pci_function *f, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	card_of(f)->written++;
}

static const struct pci_function_ops card_ops = {
	.bar_read = card_read,
	.bar_write = card_write,
	.bar_changed = card_changed,
	.reset = card_reset,
	.ejected = card_ejected,
	.config_written = card_written,
};

static inline struct card *new_card(const char *name)
{
	struct card *c = calloc(1, sizeof(*c));

	cr_assert_not_null(c);
	c->f.ops = &card_ops;
	snprintf(c->f.name, sizeof(c->f.name), "%s", name);
	pci_set(c->f.config, 0, 4, 0x10d38086);
	pci_set(c->f.config, 8, 4, 0x02000000);
	pci_set(c->f.config, 6, 2, 0x0010);
	c->f.config[0x34] = 0x40;
	pci_set(c->f.config, 0x40, 2, 0x0001);
	return c;
}

static inline struct pci_bus *new_bus(struct platform *p)
{
	struct gw_error err = { 0 };

	cr_assert_eq(pci_create(&p->m, &p->m.pci, &err), 0, "%s", err.text);
	return p->m.pci;
}

static inline void plug(struct pci_bus *bus, struct card *c, unsigned slot)
{
	struct gw_error err = { 0 };

	cr_assert_eq(pci_plug(bus, &c->f, slot, false, &err), 0, "%s", err.text);
}

static inline void end(struct platform *p)
{
	pci_destroy(p->m.pci);
	platform_free(p);
}

static inline bool within(uint64_t at, struct arch_range r)
{
	return at >= r.gpa && at - r.gpa < r.size;
}

static inline uint64_t ecam(unsigned bus, unsigned slot, unsigned function, unsigned reg)
{
	return arch_pci.ecam.gpa + (bus << 20 | slot << 15 | function << 12 | reg);
}

static inline uint32_t cfg_read(struct platform *p, unsigned slot, unsigned reg)
{
	return (uint32_t)bus_read(&p->m.mmio, ecam(0, slot, 0, reg), 4);
}

static inline void cfg_write(struct platform *p, unsigned slot, unsigned reg, uint32_t value)
{
	bus_write(&p->m.mmio, ecam(0, slot, 0, reg), 4, value);
}

#endif
