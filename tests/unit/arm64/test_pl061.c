/* SPDX-License-Identifier: Apache-2.0 */
/* The GPIO chip, used as Linux's driver for keys uses it. */
#include <criterion/criterion.h>

#include "vmm/arm64/pl061.h"

#define PIN 3
#define BIT (1u << PIN)
#define DATA(mask) ((mask) << 2)
#define DIRECTION 0x400
#define LEVEL 0x404
#define BOTH 0x408
#define HIGH 0x40c
#define ENABLE 0x410
#define MASKED 0x418
#define CLEAR 0x41c

Test(pl061, both_edges_of_a_key_are_seen)
{
	struct pl061 g = { 0 };

	pl061_write(&g, BOTH, BIT);
	pl061_write(&g, CLEAR, 0xff);
	pl061_write(&g, ENABLE, BIT);
	cr_assert(!pl061_line(&g));
	pl061_set_pin(&g, PIN, true);
	cr_assert(pl061_line(&g));
	cr_assert_eq(pl061_read(&g, MASKED), BIT);
	cr_assert_eq(pl061_read(&g, DATA(BIT)), BIT);
	cr_assert_eq(pl061_read(&g, DATA(0xff & ~BIT)), 0, "other pins are masked away");
	pl061_write(&g, CLEAR, BIT);
	cr_assert(!pl061_line(&g));
	pl061_set_pin(&g, PIN, true);
	cr_assert(!pl061_line(&g), "it was high already");
	pl061_set_pin(&g, PIN, false);
	cr_assert(pl061_line(&g));
}

Test(pl061, one_edge_counts_and_the_other_does_not)
{
	struct pl061 g = { 0 };

	pl061_write(&g, HIGH, BIT);
	pl061_write(&g, ENABLE, BIT);
	pl061_set_pin(&g, PIN, true);
	cr_assert(pl061_line(&g));
	pl061_write(&g, CLEAR, BIT);
	pl061_set_pin(&g, PIN, false);
	cr_assert(!pl061_line(&g));
	pl061_write(&g, HIGH, 0);
	pl061_set_pin(&g, PIN, true);
	cr_assert(!pl061_line(&g));
	pl061_set_pin(&g, PIN, false);
	cr_assert(pl061_line(&g), "a falling one now");
}

Test(pl061, a_level_cannot_be_cleared)
{
	struct pl061 g = { 0 };

	pl061_write(&g, LEVEL, 0xff);
	pl061_write(&g, HIGH, BIT);
	pl061_write(&g, ENABLE, BIT);
	cr_assert(!pl061_line(&g));
	pl061_set_pin(&g, PIN, true);
	pl061_write(&g, CLEAR, 0xff);
	cr_assert(pl061_line(&g));
	pl061_set_pin(&g, PIN, false);
	cr_assert(!pl061_line(&g));
}

Test(pl061, outputs_read_as_written_and_inputs_do_not)
{
	struct pl061 g = { 0 };

	pl061_write(&g, DIRECTION, 0x0f);
	pl061_write(&g, DATA(0x55), 0xff);
	cr_assert_eq(pl061_read(&g, DATA(0xff)), 0x05, "only outputs, and only those addressed");
	pl061_set_pin(&g, 0, true);
	pl061_set_pin(&g, 7, true);
	cr_assert_eq(pl061_read(&g, DATA(0xff)), 0x85);
}

Test(pl061, reset_keeps_what_comes_from_outside)
{
	struct pl061 g = { 0 };

	pl061_write(&g, BOTH, BIT);
	pl061_write(&g, ENABLE, BIT);
	pl061_set_pin(&g, PIN, true);
	pl061_reset(&g);
	cr_assert(!pl061_line(&g));
	cr_assert_eq(pl061_read(&g, DATA(BIT)), BIT);
}

Test(pl061, it_says_what_it_is)
{
	static const uint8_t id[8] = { 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct pl061 g = { 0 };

	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(pl061_read(&g, 0xfe0 + i * 4), id[i]);
}
