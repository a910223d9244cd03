/* SPDX-License-Identifier: Apache-2.0 */
/* The root bus: its making, what is plugged into it, reset. */
#include "vmm/pci_internal.h"

#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/msi_irqfds.h"
#include "vmm/pm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The host bridge: Red Hat's generic PCIe host bridge IDs, as other VMMs use them; guests need
 * no driver for it. */
#define BRIDGE_VENDOR 0x1b36
#define BRIDGE_DEVICE 0x0008
#define BRIDGE_CLASS 0x0600

static void init_bridge(struct pci_bus *bus)
{
	static const struct pci_function_ops no_ops;
	struct pci_function *f = &bus->bridge;

	f->ops = &no_ops;
	f->bus = bus;
	snprintf(f->name, sizeof(f->name), "host-bridge");
	pci_set(f->config, PCI_REG_VENDOR, 2, BRIDGE_VENDOR);
	pci_set(f->config, PCI_REG_DEVICE, 2, BRIDGE_DEVICE);
	pci_set(f->config, PCI_REG_CLASS, 2, BRIDGE_CLASS);
	pci_set(f->wmask, PCI_REG_COMMAND, 2, PCI_CMD_WRITABLE);
	memcpy(f->initial, f->config, sizeof(f->initial));
	bus->slots[0].f[0] = f;
}

int pci_create(struct machine *m, struct pci_bus **out, struct gw_error *err)
{
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return error_set(err, -ENOMEM, "no memory for the PCI bus");
	bus->machine = m;
	init_bridge(bus);
	bus->ecam = (struct bus_range){
		.base = arch_pci.ecam.gpa,
		.size = arch_pci.ecam.size,
		.ops = &pci_ecam_ops,
		.opaque = bus,
		.name = "pci-ecam",
	};
	r = bus_add(&m->mmio, &bus->ecam, err);
	if (r < 0)
		goto fail;
	bus->participant.ops = &pci_participant_ops;
	snprintf(bus->participant.name, sizeof(bus->participant.name), "pci");
	r = participant_add(&m->participants, &bus->participant, err);
	if (r < 0)
		goto fail_ecam;
	r = pcie_ports_create(bus, m->config.pci.root_ports, err);
	if (r < 0)
		goto fail_ports;
	*out = bus;
	return 0;
fail_ports:
	free(bus->ports);
	participant_remove(&m->participants, &bus->participant);
fail_ecam:
	bus_remove(&m->mmio, &bus->ecam);
fail:
	free(bus);
	return r;
}

void pci_destroy(struct pci_bus *bus)
{
	if (!bus)
		return;
	/* Ports after what is behind them. */
	for (unsigned slot = PCI_PLACES - 1; slot; slot--)
		pci_unplug_slot(bus, slot);
	free(bus->ports);
	participant_remove(&bus->machine->participants, &bus->participant);
	bus_remove(&bus->machine->mmio, &bus->ecam);
	free(bus);
}

static bool is_empty(const struct pci_slot *s)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (s->f[i])
			return false;
	return true;
}

static bool there_is(const struct pci_bus *bus, unsigned slot)
{
	return slot < PCI_SLOTS || pcie_port_above(bus, slot);
}

/* Slots of bus 0 come and go where the platform can tell the guest of them. */
static bool may_fill(unsigned slot, bool hot)
{
	return !hot || slot > PCI_SLOTS || arch_pci.hotplug;
}

static int pick_any(const struct pci_bus *bus, const struct pci_function *f, bool hot,
                    unsigned *slot, struct gw_error *err)
{
	if (f->number)
		return error_set(err, -EINVAL, "%s: function %u needs a slot", f->name, f->number);
	for (unsigned i = 1; i < PCI_PLACES; i++) {
		if (there_is(bus, i) && is_empty(&bus->slots[i]) && may_fill(i, hot)) {
			*slot = i;
			return 0;
		}
	}
	if (hot && !arch_pci.hotplug)
		return error_set(err, -ENOSPC,
		                 "%s: no root port is free, and this machine's other PCI slots are "
		                 "filled before the guest starts (pci.root-ports: %u)",
		                 f->name, bus->port_count);
	return error_set(err, -ENOSPC, "%s: all PCI slots are taken", f->name);
}

/* A slot as messages name it. */
static const char *name_slot(unsigned slot, char text[32])
{
	const unsigned port = pci_place_port(slot);

	snprintf(text, 32, port ? "the slot of root port %u" : "PCI slot %u", port ? port : slot);
	return text;
}

static int pick_slot(const struct pci_bus *bus, const struct pci_function *f, bool hot,
                     unsigned *slot, struct gw_error *err)
{
	const struct pci_slot *s;
	char text[32];

	if (*slot == PCI_SLOT_ANY)
		return pick_any(bus, f, hot, slot, err);
	if (*slot > PCI_SLOTS && !there_is(bus, *slot))
		return error_set(err, -EINVAL, "%s: no root port %u (pci.root-ports: %u)", f->name,
		                 pci_place_port(*slot), bus->port_count);
	if (!there_is(bus, *slot) || f->number >= PCI_FUNCTIONS)
		return error_set(err, -EINVAL, "%s: no PCI slot %u, function %u", f->name, *slot,
		                 f->number);
	if (!may_fill(*slot, hot))
		return error_set(
		        err, -ENOTSUP,
		        "%s: slot %u of bus 0 is filled before the guest starts, not while "
		        "it runs; slots behind root ports are",
		        f->name, *slot);
	s = &bus->slots[*slot];
	if (s->f[f->number])
		return error_set(err, -EBUSY, "%s: %s is taken by %s", f->name,
		                 name_slot(*slot, text), s->f[f->number]->name);
	if (s->left || *slot == 0)
		return error_set(err, -EBUSY, "%s: %s is not to be had now", f->name,
		                 name_slot(*slot, text));
	/* The guest has looked already, and would not look again. */
	if (f->number && s->f[0] && bus->machine->started)
		return error_set(err, -EBUSY,
		                 "%s: function 0 of %s is there already; the functions above it "
		                 "come first",
		                 f->name, name_slot(*slot, text));
	return 0;
}

static void allow(uint8_t *mask, unsigned offset, unsigned size, uint32_t bits)
{
	pci_set(mask, offset, size, pci_get(mask, offset, size) | bits);
}

/* The registers of the header that every function has. */
static void add_header_masks(struct pci_function *f)
{
	allow(f->wmask, PCI_REG_COMMAND, 2, PCI_CMD_WRITABLE);
	allow(f->w1c, PCI_REG_STATUS, 2, PCI_STATUS_W1C);
	allow(f->wmask, PCI_REG_CACHE_LINE, 1, 0xff);
	allow(f->wmask, PCI_REG_IRQ_LINE, 1, 0xff);
	pci_set(f->config, PCI_REG_COMMAND, 2,
	        pci_get(f->config, PCI_REG_COMMAND, 2) & ~(uint32_t)(PCI_CMD_IO | PCI_CMD_MEMORY));
}

/* All functions of a slot say whether there are several (PCI 3.0, 6.2.1). */
static void mark_functions(struct pci_slot *s)
{
	unsigned count = 0;

	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		count += s->f[i] != NULL;
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++) {
		struct pci_function *f = s->f[i];

		if (!f)
			continue;
		f->config[PCI_REG_HEADER_TYPE] &= (uint8_t)~PCI_HEADER_MULTI;
		f->config[PCI_REG_HEADER_TYPE] |= count > 1 ? PCI_HEADER_MULTI : 0;
		f->initial[PCI_REG_HEADER_TYPE] = f->config[PCI_REG_HEADER_TYPE];
	}
}

int pci_plug(struct pci_bus *bus, struct pci_function *f, unsigned slot, bool hot,
             struct gw_error *err)
{
	struct pcie_port *port;
	int r = pick_slot(bus, f, hot, &slot, err);

	if (r < 0)
		return r;
	r = pci_bar_check(f, err);
	if (r < 0)
		return r;
	port = pcie_port_above(bus, slot);
	r = port ? pci_bar_leave_open(f) : pci_bar_place(bus, f, err);
	if (r < 0)
		return r;
	add_header_masks(f);
	if (port)
		pcie_port_fit(f);
	memcpy(f->initial, f->config, sizeof(f->initial));
	f->bus = bus;
	f->slot = (uint8_t)slot;
	f->ejecting = false;
	bus->slots[slot].f[f->number] = f;
	for (unsigned i = 0; i < PCI_REGIONS; i++)
		bus->slots[slot].refs[f->number][i] = (struct pci_bar_ref){ .f = f, .bar = i };
	mark_functions(&bus->slots[slot]);
	if (port && !f->number)
		pcie_port_filled(port, hot);
	else if (hot && !f->number)
		pm_pci_inserted(bus->machine->pm, slot);
	return 0;
}

void pci_unplug_now(struct pci_bus *bus, struct pci_function *f)
{
	struct pcie_port *port = pcie_port_above(bus, f->slot);
	struct pci_slot *s = &bus->slots[f->slot];

	pci_bar_unmap_all(bus, f);
	s->f[f->number] = NULL;
	if (is_empty(s))
		s->left = false;
	if (port && !s->f[0])
		pcie_port_emptied(port);
	mark_functions(s);
	f->bus = NULL;
	f->ejecting = false;
	/* What it stood in the way of can be mapped now. */
	pci_bar_update(bus, NULL);
	if (f->ops->ejected)
		f->ops->ejected(f);
}

void pci_unplug_slot(struct pci_bus *bus, unsigned slot)
{
	/* Function 0 last, without which the guest sees none. */
	for (unsigned i = 1; slot && i <= PCI_FUNCTIONS; i++) {
		struct pci_function *f = bus->slots[slot].f[PCI_FUNCTIONS - i];

		if (f)
			pci_unplug_now(bus, f);
	}
}

static bool is_leaving(const struct pci_slot *s)
{
	bool leaving = s->left;

	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		leaving |= s->f[i] && s->f[i]->ejecting;
	return leaving;
}

void pci_reset(struct pci_bus *bus)
{
	for (unsigned slot = 1; slot < PCI_PLACES; slot++)
		if (is_leaving(&bus->slots[slot]))
			pci_unplug_slot(bus, slot);
	for (struct pci_function *f = NULL; (f = pci_next(bus, f));)
		memcpy(f->config, f->initial, sizeof(f->config));
	pci_bar_update(bus, NULL);
	for (struct pci_function *f = NULL; (f = pci_next(bus, f));)
		if (f->ops->reset)
			f->ops->reset(f);
}

void pci_refresh(struct pci_function *f)
{
	pci_bar_update(f->bus, f);
}

unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body, unsigned len)
{
	const unsigned at = f->capabilities_end ? f->capabilities_end : PCI_FIRST_CAPABILITY;
	const unsigned link = f->capability_last ? f->capability_last + 1u : PCI_REG_CAPABILITIES;

	memcpy(f->config + at, body, len);
	f->config[at] = id;
	f->config[at + 1] = 0;
	f->config[link] = (uint8_t)at;
	f->capability_last = (uint8_t)at;
	f->capabilities_end = (uint8_t)ALIGN_UP(at + len, 4u);
	pci_set(f->config, PCI_REG_STATUS, 2,
	        pci_get(f->config, PCI_REG_STATUS, 2) | PCI_STATUS_CAPABILITIES);
	if (f->bus)
		memcpy(f->initial, f->config, sizeof(f->initial));
	return at;
}

struct pci_function *pci_slot(const struct pci_bus *bus, unsigned slot, unsigned function)
{
	return slot < PCI_PLACES && function < PCI_FUNCTIONS ? bus->slots[slot].f[function] : NULL;
}

struct pci_function *pci_visible(const struct pci_bus *bus, unsigned slot, unsigned function)
{
	const struct pcie_port *port = pcie_port_above(bus, slot);

	if (slot >= PCI_PLACES || bus->slots[slot].left || !bus->slots[slot].f[0] ||
	    (port && !pcie_port_is_live(port)))
		return NULL;
	return pci_slot(bus, slot, function);
}

struct pci_function *pci_next(const struct pci_bus *bus, const struct pci_function *f)
{
	unsigned from = f ? f->slot * PCI_FUNCTIONS + f->number + 1 : 0;

	for (unsigned i = from; i < PCI_PLACES * PCI_FUNCTIONS; i++)
		if (bus->slots[i / PCI_FUNCTIONS].f[i % PCI_FUNCTIONS])
			return bus->slots[i / PCI_FUNCTIONS].f[i % PCI_FUNCTIONS];
	return NULL;
}

uint32_t pci_present(const struct pci_bus *bus)
{
	uint32_t bits = 0;

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		bits |= (uint32_t)(pci_visible(bus, slot, 0) != NULL) << slot;
	return bits;
}

uint32_t pci_requester(const struct pci_function *f)
{
	const struct pcie_port *port = f->bus ? pcie_port_above(f->bus, f->slot) : NULL;

	return port ? pcie_port_secondary(port) << 8 | f->number
	            : (uint32_t)f->slot << 3 | f->number;
}

bool pci_has_master_bit(const struct pci_function *f)
{
	return pci_get(f->config, PCI_REG_COMMAND, 2) & PCI_CMD_MASTER;
}

/* A port that is no bus master passes on no requests, messages of interrupts included (PCI Express
 * Base 5.0, 7.5.1.1.3). */
bool pci_is_master(const struct pci_function *f)
{
	const struct pcie_port *port = f->bus ? pcie_port_above(f->bus, f->slot) : NULL;

	return pci_has_master_bit(f) && (!port || pci_has_master_bit(&port->function));
}

void pci_renumbered(struct pci_bus *bus, unsigned place)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[place].f[i])
			msi_irqfds_renumbered(bus->slots[place].f[i]);
}

uint32_t pci_intx_gsi(unsigned place, unsigned pin)
{
	const unsigned port = pci_place_port(place);
	const unsigned slot = port ? PCI_PORT_SLOT(port) : place;

	return arch_pci.intx_gsi + (slot + pin - 1) % arch_pci.intx_gsis;
}

struct participant *pci_participant(struct pci_bus *bus)
{
	return &bus->participant;
}
