/* SPDX-License-Identifier: Apache-2.0 */
/* Where RAM is, for machines of every size, on the architecture that this is built for. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "vmm/ram_layout.h"

#define TIB (1024 * GIB)

/* Two of them are at no address both. */
static bool apart(struct arch_range a, struct arch_range b)
{
	return a.gpa + a.size <= b.gpa || b.gpa + b.size <= a.gpa;
}

static bool is_ram(const struct arch_range *ranges, unsigned n, struct arch_range what)
{
	for (unsigned i = 0; i < n; i++)
		if (!apart(ranges[i], what))
			return true;
	return false;
}

static void check_size(uint64_t size)
{
	const struct arch_range fixed[] = { arch_pci.ecam, arch_pci.mmio32, arch_pci.mmio64 };
	struct arch_range ranges[ARCH_RAM_RANGES], rooms[ARCH_RAM_RANGES];
	const unsigned n = ram_layout(size, ranges), free = ram_rooms(size, 46, rooms);
	uint64_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		cr_assert(i == 0 || ranges[i].gpa >= ranges[i - 1].gpa + ranges[i - 1].size);
		cr_assert(ranges[i].size && ranges[i].gpa % (2 * MIB) == 0);
		total += ranges[i].size;
	}
	cr_assert_eq(total, size, "%llu", (unsigned long long)size);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		cr_assert_not(is_ram(ranges, n, fixed[i]), "%llu MiB and %zu",
		              (unsigned long long)(size / MIB), i);
	cr_assert_gt(free, 0);
	for (unsigned r = 0; r < free; r++) {
		cr_assert_not(is_ram(ranges, n, rooms[r]));
		cr_assert(rooms[r].gpa % (4 * GIB) == 0 && rooms[r].gpa >= ram_end(size));
		for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
			cr_assert(apart(rooms[r], fixed[i]));
	}
}

/* Each border, and what is just below and above it. */
Test(ram_layout, ram_is_where_nothing_else_is)
{
	check_size(2 * MIB);
	for (unsigned i = 0; i < ARCH_RAM_RANGES && arch_platform.ram[i].size; i++) {
		uint64_t border = 0;

		for (unsigned j = 0; j <= i; j++)
			border += arch_platform.ram[j].size;
		if (border >= 4 * TIB)
			break;
		check_size(border - 2 * MIB);
		check_size(border);
		check_size(border + 2 * MIB);
	}
	for (uint64_t size = 256 * GIB; size <= 4 * TIB; size += 128 * GIB)
		check_size(size);
}

/* A guest reaches no more than its CPU has addresses for. */
Test(ram_layout, what_may_be_added_is_within_the_guests_addresses)
{
	struct arch_range rooms[ARCH_RAM_RANGES];
	unsigned n = ram_rooms(2 * GIB, 38, rooms);

	cr_assert_eq(n, 1);
	cr_assert_eq(rooms[0].gpa + rooms[0].size, 256 * GIB);
	n = ram_rooms(2 * GIB, 40, rooms);
	cr_assert_gt(n, 1);
	cr_assert_leq(rooms[n - 1].gpa + rooms[n - 1].size, TIB);
	cr_assert_eq(ram_rooms(600 * GIB, 39, rooms), 0);
}
