/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 16u

void bus_init(struct bus *bus)
{
	*bus = (struct bus){ 0 };
}

void bus_fini(struct bus *bus)
{
	free(bus->ranges);
	*bus = (struct bus){ 0 };
}

/* Index of the first range that begins above addr. */
static unsigned first_above(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0, hi = bus->count;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (bus->ranges[mid]->base > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static uint64_t last_of(const struct bus_range *range)
{
	return range->base + (range->size - 1);
}

static int overlap(const struct bus_range *range, const struct bus_range *other,
                   struct gw_error *err)
{
	return error_set(err, -EEXIST, "%s at 0x%llx-0x%llx overlaps %s at 0x%llx-0x%llx",
	                 range->name, (unsigned long long)range->base,
	                 (unsigned long long)last_of(range), other->name,
	                 (unsigned long long)other->base, (unsigned long long)last_of(other));
}

static int make_room(struct bus *bus, struct gw_error *err)
{
	unsigned capacity = bus->capacity ? bus->capacity * 2 : FIRST_CAPACITY;
	struct bus_range **ranges;

	if (bus->count < bus->capacity)
		return 0;
	ranges = realloc(bus->ranges, capacity * sizeof(struct bus_range *));
	if (!ranges)
		return error_set(err, -ENOMEM, "no memory for %u bus ranges", capacity);
	bus->ranges = ranges;
	bus->capacity = capacity;
	return 0;
}

int bus_add(struct bus *bus, struct bus_range *range, struct gw_error *err)
{
	unsigned at = first_above(bus, range->base);
	int r;

	if (!range->size || range->size - 1 > UINT64_MAX - range->base)
		return error_set(err, -EINVAL, "%s: 0x%llx bytes at 0x%llx", range->name,
		                 (unsigned long long)range->size, (unsigned long long)range->base);
	if (at > 0 && last_of(bus->ranges[at - 1]) >= range->base)
		return overlap(range, bus->ranges[at - 1], err);
	if (at < bus->count && bus->ranges[at]->base <= last_of(range))
		return overlap(range, bus->ranges[at], err);
	r = make_room(bus, err);
	if (r < 0)
		return r;
	memmove(bus->ranges + at + 1, bus->ranges + at,
	        (bus->count - at) * sizeof(struct bus_range *));
	bus->ranges[at] = range;
	bus->count++;
	return 0;
}

void bus_remove(struct bus *bus, struct bus_range *range)
{
	for (unsigned i = 0; i < bus->count; i++) {
		if (bus->ranges[i] != range)
			continue;
		bus->count--;
		memmove(bus->ranges + i, bus->ranges + i + 1,
		        (bus->count - i) * sizeof(struct bus_range *));
		return;
	}
}

struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned size)
{
	unsigned at = first_above(bus, addr);
	struct bus_range *range = at ? bus->ranges[at - 1] : NULL;

	/* addr >= base here, so neither difference can wrap. */
	if (!range || addr - range->base >= range->size ||
	    size > range->size - (addr - range->base))
		return NULL;
	return range;
}

static uint64_t ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

uint64_t bus_read(const struct bus *bus, uint64_t addr, unsigned size)
{
	const struct bus_range *range = bus_find(bus, addr, size);

	if (!range || !range->ops->read)
		return ones(size);
	return range->ops->read(range->opaque, addr - range->base, size) & ones(size);
}

void bus_write(const struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
	const struct bus_range *range = bus_find(bus, addr, size);

	if (range && range->ops->write)
		range->ops->write(range->opaque, addr - range->base, size, value & ones(size));
}
