/* SPDX-License-Identifier: Apache-2.0 */
/* The connection is gone before GO: the socket takes no byte of it. */
#include "live_pair.h"

#include <criterion/criterion.h>

#include <string.h>

static void cut_the_wire(void *opaque)
{
	wire_cut(opaque);
}

Test(live_go, a_source_of_whose_go_no_byte_was_taken_has_its_guest_again)
{
	struct pair x;

	pair_init(&x, true);
	x.src->at_hand_over = cut_the_wire;
	x.src->hand_over_opaque = &x.wire;
	pair_run(&x);
	cr_assert(strstr(x.src->trace, "handed-over"), "%s", x.src->trace);
	cr_assert_not(x.src->handed_over);
	cr_assert(x.src->runs);
	cr_assert_not(x.dst->started);
	cr_assert_str_eq(fake_vm_status(x.src), "failed");
	cr_assert_not(strstr(x.src_error, "handed over"), "%s", x.src_error);
	pair_check(&x);
	pair_fini(&x);
}
