/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/bus.h"
#include "vmm/participant.h"

#include <string.h>

static uint64_t last_offset, last_value;
static unsigned last_size;

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned size)
{
	last_offset = offset;
	last_size = size;
	return *(uint64_t *)opaque;
}

static void probe_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque;
	last_offset = offset;
	last_size = size;
	last_value = value;
}

static const struct bus_ops probe_ops = { .read = probe_read, .write = probe_write };

static uint64_t answer = 0x1122334455667788;

static struct bus_range range(uint64_t base, uint64_t size, const char *name)
{
	return (struct bus_range){
		.base = base, .size = size, .ops = &probe_ops, .opaque = &answer, .name = name
	};
}

Test(bus, reads_and_writes_reach_their_range)
{
	struct bus bus;
	struct bus_range a = range(0x1000, 0x10, "a");

	bus_init(&bus);
	cr_assert_eq(bus_add(&bus, &a, NULL), 0);
	cr_assert_eq(bus_read(&bus, 0x100c, 4), 0x55667788);
	cr_assert_eq(last_offset, 0xc);
	cr_assert_eq(last_size, 4);
	bus_write(&bus, 0x1001, 1, 0xabcd);
	cr_assert_eq(last_offset, 1);
	cr_assert_eq(last_value, 0xcd);
	cr_assert_eq(bus_read(&bus, 0x1008, 8), answer);
	bus_fini(&bus);
}

Test(bus, what_nobody_claims_reads_as_ones)
{
	struct bus bus;
	struct bus_range a = range(0x1000, 0x10, "a");

	bus_init(&bus);
	cr_assert_eq(bus_add(&bus, &a, NULL), 0);
	last_offset = 99;
	cr_assert_eq(bus_read(&bus, 0xfff, 1), 0xff);
	cr_assert_eq(bus_read(&bus, 0xffe, 4), 0xffffffff);  /* begins before */
	cr_assert_eq(bus_read(&bus, 0x100e, 4), 0xffffffff); /* ends behind */
	cr_assert_eq(bus_read(&bus, 0x1010, 2), 0xffff);
	bus_write(&bus, 0x100d, 4, 1);
	cr_assert_eq(last_offset, 99, "no handler was called");
	bus_fini(&bus);
}

Test(bus, overlaps_are_refused_by_name)
{
	static const struct {
		uint64_t base, size;
		int result;
	} cases[] = {
		{ 0x1000, 0x10, -EEXIST }, { 0xff8, 0x10, -EEXIST }, { 0x100f, 1, -EEXIST },
		{ 0x0, 0x10000, -EEXIST }, { 0xff0, 0x10, 0 },       { 0x1010, 0x10, 0 },
		{ 0x1004, 4, -EEXIST },    { 0x2000, 0, -EINVAL },   { UINT64_MAX, 2, -EINVAL },
		{ UINT64_MAX, 1, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bus bus;
		struct bus_range a = range(0x1000, 0x10, "first");
		struct bus_range b = range(cases[i].base, cases[i].size, "second");
		struct gw_error err = { 0 };

		bus_init(&bus);
		cr_assert_eq(bus_add(&bus, &a, NULL), 0);
		cr_assert_eq(bus_add(&bus, &b, &err), cases[i].result, "case %zu", i);
		if (cases[i].result == -EEXIST)
			cr_assert(strstr(err.text, "first") && strstr(err.text, "second"), "%s",
			          err.text);
		bus_fini(&bus);
	}
}

Test(bus, many_ranges_stay_sorted_and_can_leave)
{
	enum { N = 200 };
	struct bus bus;
	static struct bus_range ranges[N];

	bus_init(&bus);
	for (unsigned i = 0; i < N; i++) {
		ranges[i] = range((i * 37 % N) * 0x100, 0x80, "r");
		cr_assert_eq(bus_add(&bus, &ranges[i], NULL), 0);
	}
	for (unsigned i = 0; i < N; i++)
		cr_assert_eq(bus_find(&bus, ranges[i].base + 0x7f, 1), &ranges[i]);
	for (unsigned i = 0; i < N; i += 2)
		bus_remove(&bus, &ranges[i]);
	for (unsigned i = 0; i < N; i++)
		cr_assert_eq(bus_find(&bus, ranges[i].base, 1), i % 2 ? &ranges[i] : NULL);
	bus_fini(&bus);
}

Test(participant, list_keeps_order_and_names_unique)
{
	struct participant_list list = { 0 };
	struct participant a = { .name = "ram" }, b = { .name = "vcpu0" }, c = { .name = "ram" };
	struct gw_error err = { 0 };

	cr_assert_eq(participant_add(&list, &a, &err), 0);
	cr_assert_eq(participant_add(&list, &b, &err), 0);
	cr_assert_eq(participant_add(&list, &c, &err), -EEXIST);
	cr_assert(strstr(err.text, "ram"));
	cr_assert_eq(list.first, &a);
	cr_assert_eq(a.next, &b);
	cr_assert_eq(participant_find(&list, "vcpu0"), &b);
	participant_remove(&list, &a);
	cr_assert_eq(list.first, &b);
	cr_assert_null(participant_find(&list, "ram"));
	cr_assert_eq(participant_add(&list, &c, &err), 0);
	cr_assert_eq(b.next, &c);
}
