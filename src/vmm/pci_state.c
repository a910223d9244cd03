/* SPDX-License-Identifier: Apache-2.0 */
/* The bus as a participant, and the state of a function for the participant that owns it. */
#include "vmm/pci_internal.h"

#include "base/util.h"
#include "vmm/machine.h"

#include <string.h>

/* ---- the bus: which slot holds what, and what is on its way out ---- */

enum { RECORD_SLOTS = 1, RECORD_BRIDGE, RECORD_FUNCTIONS, RECORD_PORT };

#define NAME_SIZE sizeof(((struct pci_function *)0)->name)

struct slot_record {
	uint8_t present;
	uint8_t ejecting;
	char name[NAME_SIZE];
};
_Static_assert(sizeof(struct slot_record) == 34, "written as it lies in memory");

/* A function above 0, or behind a port. */
struct function_record {
	uint8_t slot, number;
	struct slot_record it;
};
_Static_assert(sizeof(struct function_record) == 36, "written as it lies in memory");
#define FUNCTIONS_MAX (PCI_PLACES * PCI_FUNCTIONS)

/* A root port, counted from 1. */
#define PORT_RECORD_SIZE (1 + PCIE_PORT_STATE_SIZE)

static struct pci_bus *bus_of(struct participant *p)
{
	return container_of(p, struct pci_bus, participant);
}

static const struct pci_function *left_behind(const struct pci_bus *bus)
{
	for (const struct pci_function *f = NULL; (f = pci_next(bus, f));)
		if (bus->slots[f->slot].left)
			return f;
	return NULL;
}

static void fill_slot(struct slot_record *record, const struct pci_function *f)
{
	record->present = 1;
	record->ejecting = f->ejecting;
	memcpy(record->name, f->name, NAME_SIZE);
}

static int collect(const struct pci_bus *bus, struct slot_record records[PCI_SLOTS],
                   struct gw_error *err)
{
	const struct pci_function *left = left_behind(bus);

	if (left)
		return error_set(err, -EBUSY, "the guest has ejected %s from slot %u meanwhile",
		                 left->name, left->slot);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		const struct pci_function *f = bus->slots[slot].f[0];

		if (f)
			fill_slot(&records[slot], f);
	}
	return 0;
}

static bool has_own_record(unsigned slot, unsigned number)
{
	return number || slot > PCI_SLOTS;
}

/* In order; returns how many. */
static unsigned collect_functions(const struct pci_bus *bus, struct function_record *records)
{
	unsigned n = 0;

	for (const struct pci_function *f = NULL; (f = pci_next(bus, f));) {
		if (!has_own_record(f->slot, f->number))
			continue;
		records[n] = (struct function_record){ .slot = f->slot, .number = f->number };
		fill_slot(&records[n++].it, f);
	}
	return n;
}

static int save_ports(struct pci_bus *bus, struct sink *sink, struct gw_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < bus->port_count && !r; i++) {
		uint8_t record[PORT_RECORD_SIZE] = { (uint8_t)(i + 1) };

		machine_lock(bus->machine);
		pcie_port_save(&bus->ports[i], record + 1);
		machine_unlock(bus->machine);
		r = sink_record(sink, &bus->participant, RECORD_PORT, record, sizeof(record), err);
	}
	return r;
}

static int bus_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct pci_bus *bus = bus_of(p);
	struct slot_record records[PCI_SLOTS] = { 0 };
	struct function_record functions[FUNCTIONS_MAX];
	uint8_t bridge[PCI_FUNCTION_STATE_SIZE];
	unsigned count;
	int r;

	machine_lock(bus->machine);
	r = collect(bus, records, err);
	count = collect_functions(bus, functions);
	pci_function_save(&bus->bridge, bridge);
	machine_unlock(bus->machine);
	if (r < 0)
		return r;
	r = sink_record(sink, p, RECORD_SLOTS, records, sizeof(records), err);
	if (!r && count)
		r = sink_record(sink, p, RECORD_FUNCTIONS, functions, count * sizeof(functions[0]),
		                err);
	if (!r)
		r = sink_record(sink, p, RECORD_BRIDGE, bridge, sizeof(bridge), err);
	return r < 0 ? r : save_ports(bus, sink, err);
}

static int load_slot(struct pci_bus *bus, unsigned slot, unsigned number,
                     const struct slot_record *record, struct gw_error *err)
{
	struct pci_function *f = bus->slots[slot].f[number];
	char name[NAME_SIZE];

	memcpy(name, record->name, NAME_SIZE);
	name[NAME_SIZE - 1] = '\0';
	if (!record->present && f)
		return error_set(err, -EINVAL, "slot %u.%u: empty in the state, holds %s here",
		                 slot, number, f->name);
	if (record->present && !f)
		return error_set(err, -EINVAL, "slot %u.%u: %s in the state, empty here", slot,
		                 number, name);
	if (f && strcmp(f->name, name) != 0)
		return error_set(err, -EINVAL, "slot %u.%u: %s in the state, %s here", slot, number,
		                 name, f->name);
	if (f && pcie_is_port(f) && record->ejecting)
		return error_set(err, -EINVAL, "slot %u.%u: %s is to leave, which no root port can",
		                 slot, number, name);
	if (f)
		f->ejecting = record->ejecting != 0;
	return 0;
}

static int load_functions(struct pci_bus *bus, const uint8_t *buf, size_t len, struct gw_error *err)
{
	struct function_record record;

	if (len % sizeof(record) || len > FUNCTIONS_MAX * sizeof(record))
		return error_set(err, -EINVAL, "functions: %zu bytes", len);
	for (; len; buf += sizeof(record), len -= sizeof(record)) {
		int r;

		memcpy(&record, buf, sizeof(record));
		if (!record.slot || record.slot >= PCI_PLACES || record.number >= PCI_FUNCTIONS ||
		    !has_own_record(record.slot, record.number))
			return error_set(err, -EINVAL, "no slot %u.%u", record.slot, record.number);
		r = load_slot(bus, record.slot, record.number, &record.it, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_slots(struct pci_bus *bus, const void *buf, size_t len, struct gw_error *err)
{
	struct slot_record records[PCI_SLOTS];

	if (len != sizeof(records))
		return error_set(err, -EINVAL, "slots: %zu bytes, %zu expected", len,
		                 sizeof(records));
	memcpy(records, buf, sizeof(records));
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		int r = load_slot(bus, slot, 0, &records[slot], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int load_bridge(struct pci_bus *bus, const void *buf, size_t len, struct gw_error *err)
{
	if (len != PCI_FUNCTION_STATE_SIZE)
		return error_set(err, -EINVAL, "host bridge: %zu bytes, %u expected", len,
		                 PCI_FUNCTION_STATE_SIZE);
	return pci_function_load(&bus->bridge, buf, err);
}

static int load_port(struct pci_bus *bus, const uint8_t *buf, size_t len, struct gw_error *err)
{
	if (len != PORT_RECORD_SIZE)
		return error_set(err, -EINVAL, "root port: %zu bytes, %u expected", len,
		                 PORT_RECORD_SIZE);
	if (!buf[0] || buf[0] > bus->port_count)
		return error_set(err, -EINVAL, "no root port %u", buf[0]);
	return pcie_port_load(&bus->ports[buf[0] - 1], buf + 1, err);
}

static int bus_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct pci_bus *bus = bus_of(p);
	int r;

	(void)version;
	machine_lock(bus->machine);
	if (type == RECORD_SLOTS)
		r = load_slots(bus, buf, len, err);
	else if (type == RECORD_FUNCTIONS)
		r = load_functions(bus, buf, len, err);
	else if (type == RECORD_BRIDGE)
		r = load_bridge(bus, buf, len, err);
	else if (type == RECORD_PORT)
		r = load_port(bus, buf, len, err);
	else
		r = error_set(err, -EINVAL, "unknown record type %u", type);
	machine_unlock(bus->machine);
	return r;
}

const struct participant_ops pci_participant_ops = {
	.kind = "pci",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = bus_save,
	.load = bus_load,
};

/* ---- a function ---- */

void pci_function_save(const struct pci_function *f, uint8_t state[PCI_FUNCTION_STATE_SIZE])
{
	memcpy(state, f->config, PCI_CONFIG_SIZE);
}

/* What makes it the same device to the guest's driver. A bridge has other registers than a device
 * where that has its subsystem. */
static const struct {
	const char *name;
	uint16_t offset;
	uint8_t size;
	bool device_only;
} identity[] = {
	{ "vendor", PCI_REG_VENDOR, 2, false },
	{ "device", PCI_REG_DEVICE, 2, false },
	{ "revision", PCI_REG_REVISION, 1, false },
	{ "programming interface", PCI_REG_PROG_IF, 1, false },
	{ "class", PCI_REG_CLASS, 2, false },
	{ "header type", PCI_REG_HEADER_TYPE, 1, false },
	{ "subsystem vendor", PCI_REG_SUBSYSTEM_VENDOR, 2, true },
	{ "subsystem", PCI_REG_SUBSYSTEM, 2, true },
	{ "interrupt pin", PCI_REG_IRQ_PIN, 1, false },
};

static int compare(const struct pci_function *f, const uint8_t *state, const char *what,
                   unsigned offset, unsigned size, struct gw_error *err)
{
	uint32_t here = pci_get(f->initial, offset, size), there = pci_get(state, offset, size);

	if (here == there)
		return 0;
	return error_set(err, -EINVAL, "%s at 0x%03x: 0x%x in the state, 0x%x here", what, offset,
	                 there, here);
}

/* The lower bits of a BAR that the guest cannot write: kind and, by their number, the size. */
static int compare_bars(const struct pci_function *f, const uint8_t *state, struct gw_error *err)
{
	for (unsigned bar = 0; bar < PCI_REGIONS; bar++) {
		unsigned reg = bar == PCI_ROM ? PCI_REG_ROM : PCI_REG_BAR + bar * 4;
		uint32_t fixed = ~pci_get(f->wmask, reg, 4);
		uint32_t here = pci_get(f->initial, reg, 4), there = pci_get(state, reg, 4);

		if ((here & fixed) != (there & fixed))
			return error_set(err, -EINVAL,
			                 "BAR at 0x%02x: 0x%x in the state, 0x%x here", reg, there,
			                 here);
	}
	return 0;
}

/* Follows the lists of `initial`, which is our own, and compares each header on the way. Bounded
 * by the number of capabilities that there is room for. */
static int compare_capabilities(const struct pci_function *f, const uint8_t *state,
                                struct gw_error *err)
{
	unsigned at = f->initial[PCI_REG_CAPABILITIES] & ~3u;
	int r = compare(f, state, "capabilities", PCI_REG_CAPABILITIES, 1, err);

	if (!(pci_get(f->initial, PCI_REG_STATUS, 2) & PCI_STATUS_CAPABILITIES))
		at = 0;
	for (unsigned n = 0; !r && at >= 0x40 && n < (0x100 - 0x40) / 4; n++) {
		r = compare(f, state, "capability", at, 2, err);
		at = f->initial[at + 1] & ~3u;
	}
	at = PCI_REG_EXT_CAPABILITIES;
	for (unsigned n = 0; !r && at >= 0x100 && n < (PCI_CONFIG_SIZE - 0x100) / 4; n++) {
		r = compare(f, state, "extended capability", at, 4, err);
		at = pci_get(f->initial, at, 4) >> 20 & 0xffc;
	}
	return r;
}

int pci_function_load(struct pci_function *f, const uint8_t state[PCI_FUNCTION_STATE_SIZE],
                      struct gw_error *err)
{
	const bool is_device = !(f->initial[PCI_REG_HEADER_TYPE] & PCI_HEADER_KIND);
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(identity) && !r; i++)
		if (is_device || !identity[i].device_only)
			r = compare(f, state, identity[i].name, identity[i].offset,
			            identity[i].size, err);
	if (!r)
		r = compare_bars(f, state, err);
	if (!r)
		r = compare_capabilities(f, state, err);
	if (r < 0)
		return error_context(err, "configuration space of %s", f->name);
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t taken = f->wmask[i] | f->w1c[i];

		f->config[i] = (f->config[i] & (uint8_t)~taken) | (state[i] & taken);
	}
	if (f->bus)
		pci_bar_update(f->bus, f);
	return 0;
}
