/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "migration/rate.h"

#include <stdlib.h>

#define SECOND 1000000ll

Test(rate, what_was_sent_is_waited_for)
{
	struct rate r = { 0 };

	/* Its credit, of a tenth of a second, is used up first. */
	cr_assert_eq(rate_wait_us(&r, 1000, SECOND), 0);
	rate_sent(&r, 1100);
	cr_assert_leq(labs(rate_wait_us(&r, 1000, SECOND) - SECOND), 2);
	cr_assert_leq(labs(rate_wait_us(&r, 1000, SECOND + SECOND / 4) - SECOND * 3 / 4), 2);
	cr_assert_eq(rate_wait_us(&r, 1000, 2 * SECOND + 2), 0);
}

/* However often somebody looks, and in whatever pieces it goes. */
Test(rate, never_more_than_the_limit_over_any_time)
{
	struct rate r = { 0 };
	const uint64_t limit = 1 << 20, piece = 64 << 10;
	int64_t now = 5 * SECOND;
	uint64_t sent = 0;

	rate_wait_us(&r, limit, now);
	for (int i = 0; i < 4000; i++) {
		int64_t wait = rate_wait_us(&r, limit, now);
		double allowed = (double)(now - 5 * SECOND + RATE_CREDIT_US) / 1e6 * (double)limit;

		cr_assert_leq((double)sent, allowed + (double)piece, "%d", i);
		if (wait) {
			now += wait > 700 ? 700 : wait;
			continue;
		}
		/* And not much less: all that was allowed has gone out. */
		cr_assert_geq((double)sent + 2.0 * (double)piece, allowed, "%d", i);
		rate_sent(&r, piece);
		sent += piece;
	}
	cr_assert_gt(sent, 20 * piece);
}

Test(rate, long_idleness_is_not_made_up_for)
{
	struct rate r = { 0 };

	rate_wait_us(&r, 1000, SECOND);
	cr_assert_eq(rate_wait_us(&r, 1000, 3600 * SECOND), 0);
	rate_sent(&r, 1000);
	cr_assert_leq(labs(rate_wait_us(&r, 1000, 3600 * SECOND) - SECOND * 9 / 10), 2);
}

Test(rate, another_limit_holds_at_once)
{
	struct rate r = { 0 };

	rate_wait_us(&r, 1000, SECOND);
	rate_sent(&r, 1000100);
	cr_assert_leq(labs(rate_wait_us(&r, 1000, SECOND) - 1000 * SECOND), 2);
	cr_assert_leq(labs(rate_wait_us(&r, 1000000, SECOND) - SECOND), 2);
	cr_assert_eq(rate_wait_us(&r, UINT64_MAX, SECOND), 0);
	/* And nothing is left of it. */
	cr_assert_eq(rate_wait_us(&r, 1000, SECOND), 0);
}

Test(rate, none_at_all_is_no_limit_to_divide_by)
{
	struct rate r = { 0 };

	rate_wait_us(&r, 0, SECOND);
	rate_sent(&r, UINT64_MAX);
	cr_assert_gt(rate_wait_us(&r, 0, SECOND), 0);
}
