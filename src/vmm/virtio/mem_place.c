/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/mem_place.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"
#include "vmm/ram_layout.h"

#include <stdio.h>

/* The lowest place that is free from the room's begin on. */
static uint64_t find_place_in(const struct memory *mem, const struct arch_range *room,
                              uint64_t size)
{
	uint64_t gpa = ALIGN_UP(room->gpa, MEM_PLACE_ALIGN);

	for (size_t i = 0; i < memory_region_count(mem);) {
		const struct ram_region *r = memory_region(mem, i++);

		if (r->gpa == MEMORY_GONE || gpa >= r->gpa + r->size || r->gpa >= gpa + size)
			continue;
		gpa = ALIGN_UP(r->gpa + r->size, MEM_PLACE_ALIGN);
		i = 0;
	}
	return gpa;
}

struct rooms {
	struct arch_range list[ARCH_RAM_RANGES];
	unsigned count;
};

static bool fits(const struct arch_range *room, uint64_t gpa, uint64_t size)
{
	return gpa >= room->gpa && size <= room->size && gpa - room->gpa <= room->size - size;
}

static bool fits_anywhere(const struct rooms *rooms, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < rooms->count; i++)
		if (fits(&rooms->list[i], gpa, size))
			return true;
	return false;
}

static int refuse(const struct rooms *rooms, uint64_t gpa, uint64_t size, struct gw_error *err)
{
	char list[ARCH_RAM_RANGES * 48] = "nowhere";
	size_t len = 0;

	for (unsigned i = 0; i < rooms->count; i++)
		len += (size_t)snprintf(
		        list + len, sizeof(list) - len, "%sfrom 0x%llx to 0x%llx", i ? " and " : "",
		        (unsigned long long)rooms->list[i].gpa,
		        (unsigned long long)(rooms->list[i].gpa + rooms->list[i].size));
	return error_set(err, -ENOSPC, "size: %llu bytes at 0x%llx, and memory can be added %s",
	                 (unsigned long long)size, (unsigned long long)gpa, list);
}

/* The guest reaches what its CPU has addresses for; what is known of no guest is what all have. */
static void find_rooms(const struct machine *m, struct rooms *out)
{
	out->count = ram_rooms(memory_size(m->memory), m->address_bits ? m->address_bits : 38,
	                       out->list);
}

uint64_t mem_place_find(const struct machine *m, uint64_t size)
{
	struct rooms rooms;
	uint64_t gpa = 0;

	find_rooms(m, &rooms);
	for (unsigned i = 0; i < rooms.count; i++) {
		gpa = find_place_in(m->memory, &rooms.list[i], size);
		if (fits(&rooms.list[i], gpa, size))
			break;
	}
	return gpa;
}

int mem_place_check(const struct machine *m, uint64_t gpa, uint64_t size, struct gw_error *err)
{
	struct rooms rooms;

	if (gpa % MEM_PLACE_ALIGN)
		return error_set(err, -EINVAL, "address: not a multiple of 4G");
	find_rooms(m, &rooms);
	return fits_anywhere(&rooms, gpa, size) ? 0 : refuse(&rooms, gpa, size, err);
}
