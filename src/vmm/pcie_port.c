/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pcie_port.h"

#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/pci_internal.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Red Hat's generic PCIe root port IDs, as other VMMs use them; guests go by the class. */
#define PORT_VENDOR 0x1b36
#define PORT_DEVICE 0x000c
#define PORT_CLASS 0x0604

/* Their pins, C and D. What is in a port's slot has the interrupts of the port's pins, mostly that
 * of A, and B of one slot of ports is A of the next. Linux removes a device on the thread that
 * serves its port's interrupt; to give up an interrupt of the device it waits for all threads that
 * serve that one, which must not be the same. */
#define PIN_FIRST 3
#define PINS 2

#define EXP_SIZE 0x3c /* of version 2 of the capability */
#define MSI_SIZE 14   /* one vector, 64-bit address */
#define LINK_X1 (PCI_EXP_LNKCAP_SLS_2_5GB | 1u << 4)
#define SLOT_NUMBER_SHIFT 19

#define SLOT_HAS                                                                                   \
	(PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_HPS |       \
	 PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_NCCS)

/* What the guest can write, and what a written 1 clears. */
static const struct {
	uint8_t reg;
	uint16_t wmask, w1c;
} masks[] = {
	{ PCI_EXP_DEVCTL, 0x7fff & ~PCI_EXP_DEVCTL_EXT_TAG, 0 },
	{ PCI_EXP_DEVSTA, 0, 0x000f },
	{ PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_LD | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES, 0 },
	{ PCI_EXP_SLTCTL,
	  PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PIC |
	          PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_DLLSCE,
	  0 },
	{ PCI_EXP_SLTSTA, 0, PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC },
	{ PCI_EXP_RTCTL, 0x000f, 0 },
};

/* An event's bit in the slot's status, and the one in its control that enables it. */
static const struct {
	uint16_t status, enable;
} events[] = {
	{ PCI_EXP_SLTSTA_ABP, PCI_EXP_SLTCTL_ABPE },
	{ PCI_EXP_SLTSTA_PDC, PCI_EXP_SLTCTL_PDCE },
	{ PCI_EXP_SLTSTA_DLLSC, PCI_EXP_SLTCTL_DLLSCE },
};

static struct pcie_port *port_of(struct pci_function *f)
{
	return container_of(f, struct pcie_port, function);
}

static uint32_t get(const struct pcie_port *port, unsigned reg)
{
	return pci_get(port->function.config, port->cap + reg, 2);
}

static void set_bits(struct pcie_port *port, unsigned reg, uint32_t bits, bool on)
{
	const uint32_t old = get(port, reg);

	pci_set(port->function.config, port->cap + reg, 2, on ? old | bits : old & ~bits);
}

/* ---- interrupts ---- */

static bool event_waits(const struct pcie_port *port)
{
	const uint32_t control = get(port, PCI_EXP_SLTCTL), status = get(port, PCI_EXP_SLTSTA);
	bool waits = false;

	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		waits |= (status & events[i].status) && (control & events[i].enable);
	return waits && (control & PCI_EXP_SLTCTL_HPIE);
}

static bool msi_enabled(const struct pcie_port *port)
{
	return pci_get(port->function.config, port->msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE;
}

static void send_msi(const struct pcie_port *port)
{
	const uint8_t *config = port->function.config;
	const struct msi_message msg = {
		.address = pci_get(config, port->msi + PCI_MSI_ADDRESS_LO, 4) |
		           (uint64_t)pci_get(config, port->msi + PCI_MSI_ADDRESS_HI, 4) << 32,
		.data = pci_get(config, port->msi + PCI_MSI_DATA_64, 2),
		.requester = pci_requester(&port->function),
	};

	irq_send_msi(port->bus->machine->irqs, &msg);
}

/* By pin as long as an event waits, by message when the first one comes (6.7.3.4). */
static void update_interrupt(struct pcie_port *port, bool may_send)
{
	uint8_t *config = port->function.config;
	const bool waits = event_waits(port), by_pin = waits && !msi_enabled(port);
	const bool high =
	        by_pin && !(pci_get(config, PCI_REG_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
	const uint32_t status =
	        pci_get(config, PCI_REG_STATUS, 2) & ~(uint32_t)PCI_STATUS_INTERRUPT;

	pci_set(config, PCI_REG_STATUS, 2, status | (by_pin ? PCI_STATUS_INTERRUPT : 0));
	if (waits && !port->asserted && msi_enabled(port) && may_send)
		send_msi(port);
	port->asserted = waits;
	if (high != port->pin_high)
		irq_share_line(port->bus->machine->irqs,
		               pci_intx_gsi(port->function.slot, config[PCI_REG_IRQ_PIN]), high);
	port->pin_high = high;
}

/* ---- the slot ---- */

static const struct pci_slot *slot_of(const struct pcie_port *port)
{
	return &port->bus->slots[port->place];
}

static bool is_powered(const struct pcie_port *port)
{
	return !(get(port, PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PCC);
}

bool pcie_port_is_live(const struct pcie_port *port)
{
	const struct pci_slot *s = slot_of(port);

	return s->f[0] && !s->left && is_powered(port) &&
	       !(get(port, PCI_EXP_LNKCTL) & PCI_EXP_LNKCTL_LD) &&
	       !(pci_get(port->function.config, PCI_REG_BRIDGE_CONTROL, 2) &
	         PCI_BRIDGE_CTL_BUS_RESET);
}

static bool blinks(uint32_t control)
{
	return (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_BLINK;
}

static bool is_lit(uint32_t control)
{
	return (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_ON;
}

static void no_longer_asked(struct pcie_port *port)
{
	port->asked = port->early = false;
}

static void reset_one(struct pci_function *f)
{
	if (f->ops->reset_alone)
		f->ops->reset_alone(f);
	else if (f->ops->reset)
		f->ops->reset(f);
}

/* What is out of reach has lost power, link, or been reset by the bridge: either way it begins
 * anew. One that the guest has let go of is its owner's already. */
static void reset_below(struct pcie_port *port)
{
	const struct pci_slot *s = slot_of(port);

	if (s->left)
		return;
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (s->f[i])
			memcpy(s->f[i]->config, s->f[i]->initial, PCI_CONFIG_SIZE);
	pci_bar_update(port->bus, NULL);
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (s->f[i])
			reset_one(s->f[i]);
}

/* The status that follows from card, power and link. Returns the events that its change makes. */
static uint32_t update_status(struct pcie_port *port)
{
	const bool present = slot_of(port)->f[0], live = pcie_port_is_live(port);
	uint32_t changes = 0;

	if (present != !!(get(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS))
		changes |= PCI_EXP_SLTSTA_PDC;
	if (live != !!(get(port, PCI_EXP_LNKSTA) & PCI_EXP_LNKSTA_DLLLA))
		changes |= PCI_EXP_SLTSTA_DLLSC;
	set_bits(port, PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS, present);
	set_bits(port, PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_DLLLA, live);
	return changes;
}

static void update(struct pcie_port *port, uint32_t pressed)
{
	const bool was_live = port->below_live;
	const uint32_t changes = update_status(port);

	port->below_live = pcie_port_is_live(port);
	if (was_live && !port->below_live)
		reset_below(port);
	else if (was_live != port->below_live)
		pci_bar_update(port->bus, NULL);
	set_bits(port, PCI_EXP_SLTSTA, changes | pressed, true);
	update_interrupt(port, true);
}

/* As it is at power-on: with a card the slot has power, without one it has none. */
static void settle_at_power_on(struct pcie_port *port)
{
	const bool filled = slot_of(port)->f[0];

	port->was_master = pci_has_master_bit(&port->function);
	set_bits(port, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC, false);
	set_bits(port, PCI_EXP_SLTCTL,
	         filled ? PCI_EXP_SLTCTL_PWR_IND_ON
	                : PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PWR_OFF,
	         true);
	port->control = (uint16_t)get(port, PCI_EXP_SLTCTL);
	no_longer_asked(port);
	port->below_live = pcie_port_is_live(port);
	update_status(port);
	update_interrupt(port, false);
}

static unsigned find_capability(const struct pci_function *f, uint8_t id)
{
	unsigned at = f->config[PCI_REG_CAPABILITIES] & ~3u;

	if (!(pci_get(f->config, PCI_REG_STATUS, 2) & PCI_STATUS_CAPABILITIES))
		return 0;
	/* No more than there is room for. */
	for (unsigned n = 0; n < (0x100 - PCI_FIRST_CAPABILITY) / 4 && at; n++) {
		if (f->config[at] == id)
			return at;
		at = f->config[at + 1] & ~3u;
	}
	return 0;
}

void pcie_port_fit(struct pci_function *f)
{
	const unsigned at = find_capability(f, PCI_CAP_ID_EXP);
	const uint32_t flags = pci_get(f->config, at + PCI_EXP_FLAGS, 2);

	if (!at || (flags & PCI_EXP_FLAGS_TYPE) >> 4 != PCI_EXP_TYPE_RC_END)
		return;
	pci_set(f->config, at + PCI_EXP_FLAGS, 2, flags & ~(uint32_t)PCI_EXP_FLAGS_TYPE);
	pci_set(f->config, at + PCI_EXP_LNKCAP, 4, LINK_X1);
	pci_set(f->config, at + PCI_EXP_LNKSTA, 2, LINK_X1);
}

void pcie_port_filled(struct pcie_port *port, bool hot)
{
	if (hot)
		update(port, PCI_EXP_SLTSTA_ABP);
	else
		settle_at_power_on(port);
}

void pcie_port_emptied(struct pcie_port *port)
{
	no_longer_asked(port);
	update(port, 0);
}

/* A second press while the guest blinks would be taken as a change of mind (6.7.1.5). */
void pcie_port_ask(struct pcie_port *port)
{
	if (port->asked && blinks(get(port, PCI_EXP_SLTCTL)))
		return;
	port->early |= !port->asked && !is_lit(get(port, PCI_EXP_SLTCTL));
	port->asked = true;
	update(port, PCI_EXP_SLTSTA_ABP);
}

void pcie_port_keep(struct pcie_port *port)
{
	if (!port->asked)
		return;
	if (get(port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP) {
		set_bits(port, PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_ABP, false);
		no_longer_asked(port);
		update(port, 0);
	} else if (blinks(get(port, PCI_EXP_SLTCTL))) {
		update(port, PCI_EXP_SLTSTA_ABP);
	}
}

/* ---- what the guest writes ---- */

static void control_written(struct pcie_port *port)
{
	const uint32_t old = port->control, control = get(port, PCI_EXP_SLTCTL);

	port->control = (uint16_t)control;
	/* The card stays, or has just come to be used, and the guest will hear of the press. */
	if (is_lit(control) && !is_lit(old)) {
		port->asked = port->early;
		port->early = false;
	}
	if (port->asked && (control & ~old & PCI_EXP_SLTCTL_PCC)) {
		no_longer_asked(port);
		pci_guest_eject(port->bus, port->place);
	}
}

/* As if their own bit had changed. */
static void pass_master_on(struct pcie_port *port)
{
	const bool master = pci_has_master_bit(&port->function);
	const struct pci_slot *s = slot_of(port);

	if (master == port->was_master)
		return;
	port->was_master = master;
	for (unsigned i = 0; i < PCI_FUNCTIONS && !s->left; i++)
		if (s->f[i] && s->f[i]->ops->config_written)
			s->f[i]->ops->config_written(s->f[i], PCI_REG_COMMAND, 2);
}

static void port_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct pcie_port *port = port_of(f);

	pass_master_on(port);
	/* From the bus numbers to the end of the windows; the core has looked at the first. */
	if (offset < PCI_REG_CAPABILITIES && offset + size > PCI_REG_PRIMARY) {
		pci_renumbered(port->bus, port->place);
		pci_bar_update(port->bus, NULL);
	}
	control_written(port);
	update(port, 0);
}

static void port_reset(struct pci_function *f)
{
	settle_at_power_on(port_of(f));
}

static const struct pci_function_ops port_ops = {
	.config_written = port_written,
	.reset = port_reset,
};

bool pcie_is_port(const struct pci_function *f)
{
	return f->ops == &port_ops;
}

/* ---- made ---- */

static void add_express(struct pcie_port *port, unsigned number)
{
	uint8_t body[EXP_SIZE] = { 0 };
	struct pci_function *f = &port->function;

	pci_set(body, PCI_EXP_FLAGS, 2, 2u | PCI_EXP_TYPE_ROOT_PORT << 4 | PCI_EXP_FLAGS_SLOT);
	pci_set(body, PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_RBER);
	pci_set(body, PCI_EXP_LNKCAP, 4, LINK_X1 | PCI_EXP_LNKCAP_DLLLARC | number << 24);
	pci_set(body, PCI_EXP_LNKSTA, 2, LINK_X1);
	pci_set(body, PCI_EXP_LNKCAP2, 4, PCI_EXP_LNKCAP2_SLS_2_5GB);
	pci_set(body, PCI_EXP_LNKCTL2, 2, PCI_EXP_LNKCTL2_TLS_2_5GT);
	pci_set(body, PCI_EXP_SLTCAP, 4, SLOT_HAS | port->place << SLOT_NUMBER_SHIFT);
	port->cap = pci_add_capability(f, PCI_CAP_ID_EXP, body, sizeof(body));
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		pci_set(f->wmask, port->cap + masks[i].reg, 2, masks[i].wmask);
		pci_set(f->w1c, port->cap + masks[i].reg, 2, masks[i].w1c);
	}
}

static void add_msi(struct pcie_port *port)
{
	uint8_t body[MSI_SIZE] = { 0 };
	struct pci_function *f = &port->function;

	pci_set(body, PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT);
	port->msi = pci_add_capability(f, PCI_CAP_ID_MSI, body, sizeof(body));
	pci_set(f->wmask, port->msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	pci_set(f->wmask, port->msi + PCI_MSI_ADDRESS_LO, 4, ~3u);
	pci_set(f->wmask, port->msi + PCI_MSI_ADDRESS_HI, 4, ~0u);
	pci_set(f->wmask, port->msi + PCI_MSI_DATA_64, 2, 0xffff);
}

static int create_one(struct pci_bus *bus, unsigned i, struct gw_error *err)
{
	struct pcie_port *port = &bus->ports[i];
	struct pci_function *f = &port->function;

	port->bus = bus;
	port->place = pci_place(0, i + 1);
	f->ops = &port_ops;
	f->number = (uint8_t)(i % PCI_FUNCTIONS);
	snprintf(f->name, sizeof(f->name), "root-port%u", i + 1);
	pci_set(f->config, PCI_REG_VENDOR, 2, PORT_VENDOR);
	pci_set(f->config, PCI_REG_DEVICE, 2, PORT_DEVICE);
	pci_set(f->config, PCI_REG_CLASS, 2, PORT_CLASS);
	f->config[PCI_REG_IRQ_PIN] = (uint8_t)(PIN_FIRST + i % PINS);
	pcie_bridge_init(f);
	add_express(port, i + 1);
	add_msi(port);
	return pci_plug(bus, f, PCI_PORT_SLOT(i + 1), false, err);
}

int pcie_ports_create(struct pci_bus *bus, unsigned count, struct gw_error *err)
{
	int r = 0;

	bus->ports = calloc(count + 1, sizeof(*bus->ports));
	if (!bus->ports)
		return error_set(err, -ENOMEM, "no memory for root ports");
	bus->port_count = count;
	/* Function 0 of a slot comes last, as with any that is filled for a guest that has run. */
	for (unsigned i = count; i-- && !r;) {
		r = create_one(bus, i, err);
		if (!r)
			settle_at_power_on(&bus->ports[i]);
	}
	return r;
}

struct pcie_port *pcie_port_above(const struct pci_bus *bus, unsigned place)
{
	const unsigned first = pci_place(0, 1);

	return place >= first && place - first < bus->port_count ? &bus->ports[place - first]
	                                                         : NULL;
}

/* ---- state ---- */

enum { STATE_ASKED = 1, STATE_EARLY = 2 };

void pcie_port_save(const struct pcie_port *port, uint8_t state[PCIE_PORT_STATE_SIZE])
{
	pci_function_save(&port->function, state);
	state[PCI_FUNCTION_STATE_SIZE] =
	        (port->asked ? STATE_ASKED : 0) | (port->early ? STATE_EARLY : 0);
}

int pcie_port_load(struct pcie_port *port, const uint8_t state[PCIE_PORT_STATE_SIZE],
                   struct gw_error *err)
{
	int r = pci_function_load(&port->function, state, err);

	if (r < 0)
		return r;
	port->asked = state[PCI_FUNCTION_STATE_SIZE] & STATE_ASKED;
	port->early = port->asked && (state[PCI_FUNCTION_STATE_SIZE] & STATE_EARLY);
	port->control = (uint16_t)get(port, PCI_EXP_SLTCTL);
	/* What is behind it takes its own state later. */
	port->was_master = pci_has_master_bit(&port->function);
	update_status(port);
	port->below_live = pcie_port_is_live(port);
	pci_renumbered(port->bus, port->place);
	pci_bar_update(port->bus, NULL);
	/* A message that was due has been sent already. */
	update_interrupt(port, false);
	return 0;
}
