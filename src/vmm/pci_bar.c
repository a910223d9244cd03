/* SPDX-License-Identifier: Apache-2.0 */
/* Base address registers: where they are put at first, and what is decoded where. */
#include "vmm/pci_internal.h"

#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"

#include <stdio.h>
#include <string.h>

/* A 64-bit BAR of this size or more goes above 4 GiB even if it is not prefetchable, which a
 * root bus, without bridges above it, allows. */
#define LARGE_BAR (64 * MIB)
#define MEMORY_BAR_MIN 16u
#define IO_BAR_MIN 4u
#define IO_BAR_MAX 256u /* PCI 3.0, 6.2.5.1 */
#define ROM_MIN 2048u   /* 6.2.5.2: bits 11 to 31 are the address */
#define ROM_MAX (16 * MIB)

enum window { WINDOW_IO, WINDOW_32, WINDOW_64, WINDOWS };

static const struct {
	const char *name;
	const struct arch_range *range;
} windows[WINDOWS] = {
	[WINDOW_IO] = { "I/O", &arch_pci.io },
	[WINDOW_32] = { "32-bit", &arch_pci.mmio32 },
	[WINDOW_64] = { "64-bit", &arch_pci.mmio64 },
};

static unsigned reg_of(unsigned bar)
{
	return bar == PCI_ROM ? PCI_REG_ROM : PCI_REG_BAR + bar * 4;
}

static int check_rom(const struct pci_function *f, struct gw_error *err)
{
	const struct pci_bar *b = &f->bars[PCI_ROM];

	if (b->size && (b->is_io || b->is_64 || (b->size & (b->size - 1)) || b->size < ROM_MIN ||
	                b->size > ROM_MAX))
		return error_set(err, -EINVAL, "%s: expansion ROM of 0x%llx bytes", f->name,
		                 (unsigned long long)b->size);
	return 0;
}

int pci_bar_check(const struct pci_function *f, struct gw_error *err)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *b = &f->bars[i];
		uint64_t min = b->is_io ? IO_BAR_MIN : MEMORY_BAR_MIN;
		uint64_t max = b->is_io ? IO_BAR_MAX : b->is_64 ? 1ull << 63 : 1ull << 31;

		if (!b->size)
			continue;
		if ((b->size & (b->size - 1)) || b->size < min || b->size > max)
			return error_set(err, -EINVAL,
			                 "%s: BAR %u of 0x%llx bytes of %s: a power of two from "
			                 "0x%llx to 0x%llx is possible",
			                 f->name, i, (unsigned long long)b->size,
			                 b->is_io ? "I/O space" : "memory space",
			                 (unsigned long long)min, (unsigned long long)max);
		if (b->is_64 && (b->is_io || i + 1 == PCI_BARS || f->bars[i + 1].size))
			return error_set(err, -EINVAL, "%s: BAR %u cannot be a 64-bit one", f->name,
			                 i);
	}
	return check_rom(f, err);
}

static uint64_t decode(const uint8_t *config, const struct pci_bar *b, unsigned bar)
{
	uint64_t address = pci_get(config, reg_of(bar), 4);

	if (b->is_64)
		address |= (uint64_t)pci_get(config, reg_of(bar + 1), 4) << 32;
	return address & ~(b->size - 1);
}

/* The register, with its flags (PCI 3.0, 6.2.5.1). */
static void encode(struct pci_function *f, unsigned bar, uint64_t address)
{
	const struct pci_bar *b = &f->bars[bar];
	uint32_t flags = b->is_io ? PCI_BAR_IO : 0;

	if (b->is_64)
		flags |= PCI_BAR_64;
	if (b->prefetch && !b->is_io)
		flags |= PCI_BAR_PREFETCH;
	pci_set(f->config, reg_of(bar), 4, (uint32_t)address | flags);
	pci_set(f->wmask, reg_of(bar), 4,
	        (uint32_t) ~(b->size - 1) | (bar == PCI_ROM ? PCI_ROM_ENABLE : 0));
	if (!b->is_64)
		return;
	pci_set(f->config, reg_of(bar + 1), 4, (uint32_t)(address >> 32));
	pci_set(f->wmask, reg_of(bar + 1), 4, (uint32_t)(~(b->size - 1) >> 32));
}

static bool same_space(const struct pci_bar *a, const struct pci_bar *b)
{
	return a->is_io == b->is_io;
}

static bool intersects(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a <= b + (b_size - 1) && b <= a + (a_size - 1);
}

/* If [at, at + size) is another's, at home or where it is now: where that one ends. */
static uint64_t taken_until(const struct pci_bus *bus, const struct pci_bar *b, uint64_t at,
                            uint64_t size)
{
	for (const struct pci_function *f = NULL; (f = pci_next(bus, f));) {
		for (unsigned i = 0; i < PCI_REGIONS; i++) {
			const struct pci_bar *o = &f->bars[i];
			uint64_t home;

			if (!o->size || !same_space(o, b))
				continue;
			home = decode(f->initial, o, i);
			if (f->slot < PCI_SLOTS && intersects(at, size, home, o->size))
				return home + o->size;
			if (o->mapped && intersects(at, size, o->address, o->size))
				return o->address + o->size;
		}
	}
	return pcie_ports_until(bus, b->is_io, at, size);
}

/* The same among the BARs of `f` that are placed already. */
static uint64_t own_until(const struct pci_function *f, unsigned placed, const struct pci_bar *b,
                          uint64_t at, uint64_t size)
{
	for (unsigned i = 0; i < PCI_REGIONS; i++) {
		const struct pci_bar *o = &f->bars[i];

		if ((placed >> i & 1) && same_space(o, b) &&
		    intersects(at, size, o->address, o->size))
			return o->address + o->size;
	}
	return 0;
}

/* First fit, naturally aligned. Memory BARs get pages of their own, so that they can be mapped. */
static bool fit(const struct pci_bus *bus, const struct pci_function *f, unsigned placed,
                const struct pci_bar *b, enum window w, uint64_t *out)
{
	uint64_t align = b->is_io ? b->size : MAX(b->size, PAGE_SIZE);
	uint64_t end = windows[w].range->gpa + windows[w].range->size;
	uint64_t at = ALIGN_UP(windows[w].range->gpa, align);

	while (at < end && end - at >= align) {
		uint64_t until = taken_until(bus, b, at, align);

		if (!until)
			until = own_until(f, placed, b, at, align);
		if (!until) {
			*out = at;
			return true;
		}
		/* The guest's windows may end anywhere, also where aligning would wrap around. */
		if (until >= end)
			return false;
		at = ALIGN_UP(until, align);
	}
	return false;
}

static int place(const struct pci_bus *bus, struct pci_function *f, unsigned placed, unsigned bar,
                 struct gw_error *err)
{
	struct pci_bar *b = &f->bars[bar];
	enum window first = WINDOW_32;

	if (b->is_io)
		first = WINDOW_IO;
	else if (b->is_64 && (b->prefetch || b->size >= LARGE_BAR))
		first = WINDOW_64;
	if (fit(bus, f, placed, b, first, &b->address))
		return 0;
	if (b->is_64 &&
	    fit(bus, f, placed, b, first == WINDOW_64 ? WINDOW_32 : WINDOW_64, &b->address))
		return 0;
	return error_set(err, -ENOSPC,
	                 "%s: no room for BAR %u (0x%llx bytes) in the %s window of 0x%llx bytes",
	                 f->name, bar, (unsigned long long)b->size, windows[first].name,
	                 (unsigned long long)windows[first].range->size);
}

/* The largest BAR that has not been placed, or PCI_REGIONS. Large ones first leave no gaps. */
static unsigned next_bar(const struct pci_function *f, unsigned placed)
{
	unsigned best = PCI_REGIONS;

	for (unsigned i = 0; i < PCI_REGIONS; i++) {
		if (!f->bars[i].size || (placed >> i & 1))
			continue;
		if (best == PCI_REGIONS || f->bars[i].size > f->bars[best].size)
			best = i;
	}
	return best;
}

int pci_bar_place(struct pci_bus *bus, struct pci_function *f, struct gw_error *err)
{
	unsigned placed = 0, bar;

	while ((bar = next_bar(f, placed)) < PCI_REGIONS) {
		int r = place(bus, f, placed, bar, err);

		if (r < 0)
			return r;
		f->bars[bar].mapped = f->bars[bar].alone = false;
		encode(f, bar, f->bars[bar].address);
		placed |= 1u << bar;
	}
	return 0;
}

int pci_bar_leave_open(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_REGIONS; i++) {
		if (!f->bars[i].size)
			continue;
		f->bars[i].address = 0;
		f->bars[i].mapped = f->bars[i].alone = false;
		encode(f, i, 0);
	}
	return 0;
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_bar_ref *ref = opaque;

	return ref->f->ops->bar_read ? ref->f->ops->bar_read(ref->f, ref->bar, offset, size)
	                             : UINT64_MAX;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_bar_ref *ref = opaque;

	if (ref->f->ops->bar_write)
		ref->f->ops->bar_write(ref->f, ref->bar, offset, size, value);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

static struct bus *space_of(struct pci_bus *bus, const struct pci_bar *b)
{
	return b->is_io ? &bus->machine->pio : &bus->machine->mmio;
}

static void unmap(struct pci_bus *bus, struct pci_function *f, unsigned bar)
{
	struct pci_bar *b = &f->bars[bar];

	if (!b->mapped)
		return;
	bus_remove(space_of(bus, b), &b->range);
	b->mapped = b->alone = false;
	if (f->ops->bar_changed)
		f->ops->bar_changed(f, bar);
}

/* Outside of D0 a function answers nothing but configuration requests (PM 1.2, 5.4.1). */
static bool awake(const struct pci_function *f)
{
	return !f->pm_cap || !(pci_get(f->config, f->pm_cap + PCI_PM_CONTROL, 2) & PCI_PM_STATE);
}

/* What a port lets through, if there is one above. */
static bool in_reach(const struct pci_bus *bus, const struct pci_function *f,
                     const struct pci_bar *b)
{
	const struct pcie_port *port = pcie_port_above(bus, f->slot);

	return !port ||
	       (pcie_port_is_live(port) && pcie_port_forwards(port, b->is_io, b->address, b->size));
}

static bool decoded(const struct pci_bus *bus, const struct pci_function *f, unsigned bar)
{
	uint32_t command = pci_get(f->config, PCI_REG_COMMAND, 2);

	/* Where it is in a guest elsewhere is not ours to know; accesses come without an address.
	 */
	if (bus->machine->outside)
		return false;
	return f->bars[bar].size && !bus->slots[f->slot].left && bus->slots[f->slot].f[0] &&
	       awake(f) && (bar != PCI_ROM || (f->config[PCI_REG_ROM] & PCI_ROM_ENABLE)) &&
	       (command & (f->bars[bar].is_io ? PCI_CMD_IO : PCI_CMD_MEMORY)) &&
	       in_reach(bus, f, &f->bars[bar]);
}

/* Wholly in one of the windows that the host bridge forwards. */
static bool inside_window(const struct pci_bar *b)
{
	for (unsigned w = 0; w < WINDOWS; w++) {
		if ((w == WINDOW_IO) == b->is_io && b->address >= windows[w].range->gpa &&
		    b->size <= windows[w].range->size &&
		    b->address - windows[w].range->gpa <= windows[w].range->size - b->size)
			return true;
	}
	return false;
}

static void map(struct pci_bus *bus, struct pci_function *f, unsigned bar, bool tell)
{
	struct pci_bar *b = &f->bars[bar];
	struct gw_error err = { 0 };
	int r;

	b->range = (struct bus_range){
		.base = b->address,
		.size = b->size,
		.ops = &bar_ops,
		.opaque = &bus->slots[f->slot].refs[f->number][bar],
		.name = f->name,
	};
	r = inside_window(b) ? bus_add(space_of(bus, b), &b->range, &err)
	                     : error_set(&err, -ERANGE, "0x%llx is outside of the bridge's windows",
	                                 (unsigned long long)b->address);
	if (r < 0) {
		if (tell)
			log_debug(bus->machine->log, "%s: BAR %u is not mapped: %s", f->name, bar,
			          err.text);
		return;
	}
	b->mapped = true;
	b->alone = !b->is_io && b->size >= PAGE_SIZE;
	if (f->ops->bar_changed)
		f->ops->bar_changed(f, bar);
}

typedef void (*bar_fn)(struct pci_bus *bus, struct pci_function *f, unsigned bar,
                       const struct pci_function *cause);

static void for_each_bar(struct pci_bus *bus, bar_fn fn, const struct pci_function *cause)
{
	for (struct pci_function *f = NULL; (f = pci_next(bus, f));)
		for (unsigned i = 0; i < PCI_REGIONS; i++)
			if (f->bars[i].size)
				fn(bus, f, i, cause);
}

static void leave_old(struct pci_bus *bus, struct pci_function *f, unsigned bar,
                      const struct pci_function *cause)
{
	struct pci_bar *b = &f->bars[bar];
	uint64_t address = decode(f->config, b, bar);

	(void)cause;
	if (b->address != address || !decoded(bus, f, bar))
		unmap(bus, f, bar);
	b->address = address;
}

static void take_new(struct pci_bus *bus, struct pci_function *f, unsigned bar,
                     const struct pci_function *cause)
{
	if (!f->bars[bar].mapped && decoded(bus, f, bar))
		map(bus, f, bar, f == cause);
}

static bool page_is_shared(const struct pci_bus *bus, const struct pci_bar *b)
{
	uint64_t page = ALIGN_DOWN(b->address, PAGE_SIZE);

	for (const struct pci_function *f = NULL; (f = pci_next(bus, f));) {
		for (unsigned i = 0; i < PCI_REGIONS; i++) {
			const struct pci_bar *o = &f->bars[i];

			if (o != b && o->mapped && !o->is_io &&
			    intersects(page, PAGE_SIZE, o->address, o->size))
				return true;
		}
	}
	return false;
}

/* Larger ones are aligned to pages, so that no other can be in them. */
static void look_around(struct pci_bus *bus, struct pci_function *f, unsigned bar,
                        const struct pci_function *cause)
{
	struct pci_bar *b = &f->bars[bar];
	bool alone = b->mapped && !b->is_io && (b->size >= PAGE_SIZE || !page_is_shared(bus, b));

	(void)cause;
	if (b->alone == alone)
		return;
	b->alone = alone;
	if (f->ops->bar_changed && b->size < PAGE_SIZE)
		f->ops->bar_changed(f, bar);
}

/* All leave their old places before any takes a new one: what a BAR stood in the way of, even
 * another function's, is mapped as soon as it has moved. Then they look who else is near. */
void pci_bar_update(struct pci_bus *bus, const struct pci_function *cause)
{
	for_each_bar(bus, leave_old, cause);
	for_each_bar(bus, take_new, cause);
	for_each_bar(bus, look_around, cause);
}

void pci_bar_unmap_all(struct pci_bus *bus, struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_REGIONS; i++)
		unmap(bus, f, i);
}
