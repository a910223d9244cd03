/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram_layout.h"

#include "base/util.h"

#define ROOM_ALIGN (4 * GIB)

unsigned ram_layout(uint64_t ram_size, struct arch_range out[ARCH_RAM_RANGES])
{
	unsigned n = 0;

	while (ram_size) {
		const struct arch_range *place = &arch_platform.ram[n];

		out[n] = (struct arch_range){ place->gpa, MIN(ram_size, place->size) };
		ram_size -= out[n++].size;
	}
	return n;
}

uint64_t ram_end(uint64_t ram_size)
{
	struct arch_range ranges[ARCH_RAM_RANGES];
	const unsigned n = ram_layout(ram_size, ranges);

	return n ? ranges[n - 1].gpa + ranges[n - 1].size : 0;
}

unsigned ram_rooms(uint64_t ram_size, unsigned bits, struct arch_range out[ARCH_RAM_RANGES])
{
	const uint64_t first = ALIGN_UP(ram_end(ram_size), ROOM_ALIGN);
	unsigned n = 0;

	for (unsigned i = 0; i < ARCH_RAM_RANGES; i++) {
		const struct arch_range *place = &arch_platform.ram[i];
		const uint64_t begin = ALIGN_UP(MAX(place->gpa, first), ROOM_ALIGN);
		const uint64_t end = MIN(place->gpa + place->size, 1ull << bits);

		if (begin < end)
			out[n++] = (struct arch_range){ begin, end - begin };
	}
	return n;
}
