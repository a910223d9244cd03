/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets a place where there is none left, and who has to go. */
#include <criterion/criterion.h>

#include "control/places.h"

static struct standing all[PLACES];

/* All places are taken by idle clients, the first the oldest; the reserved one is not served yet.
 */
static void fill(void)
{
	for (int i = 0; i < PLACES; i++)
		all[i] = (struct standing){
			.taken = true, .idle = true, .served = true, .came_ms = i, .active_ms = i
		};
	all[PLACE_RESERVED].served = false;
}

TestSuite(control_places, .init = fill);

static void make_busy(int from, int to)
{
	for (int i = from; i < to; i++)
		all[i].idle = false;
}

Test(control_places, free_ones_come_first_and_the_reserved_one_last)
{
	all[7].taken = all[PLACE_RESERVED].taken = false;
	for (int kind = PEER_OWNER; kind <= PEER_REMOTE; kind++)
		cr_assert_eq(place_choose(all, (enum peer_kind)kind, 100), 7);
	all[7].taken = true;
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), PLACE_RESERVED);
	cr_assert_eq(place_choose(all, PEER_REMOTE, 100), PLACE_RESERVED);
	cr_assert_eq(place_choose(all, PEER_GROUP, 100), 0, "the reserved place is not its");
}

Test(control_places, the_idle_one_that_was_silent_for_longest_goes)
{
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), 0);
	all[0].active_ms = 50;
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), 1);
	all[1].idle = false;
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), 2);
	cr_assert_eq(place_choose(all, PEER_GROUP, 100), 2);
}

Test(control_places, where_all_are_busy_the_reserved_one_serves_one_after_the_other)
{
	make_busy(0, PLACES_COMMON);
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), -1, "its first command is still to come");
	all[PLACE_RESERVED].served = true;
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), PLACE_RESERVED);
	cr_assert_eq(place_choose(all, PEER_REMOTE, 100), PLACE_RESERVED);
	cr_assert_eq(place_choose(all, PEER_GROUP, 100), -1);
	all[PLACE_RESERVED].idle = false;
	cr_assert_eq(place_choose(all, PEER_OWNER, 100), -1);
}

Test(control_places, the_reserved_one_is_not_kept_for_one_that_gives_no_command)
{
	make_busy(0, PLACES_COMMON);
	cr_assert_eq(place_choose(all, PEER_OWNER, PLACE_FIRST_COMMAND_MS), -1);
	cr_assert_eq(place_choose(all, PEER_OWNER, PLACE_FIRST_COMMAND_MS + PLACE_RESERVED),
	             PLACE_RESERVED);
}

Test(control_places, one_that_is_not_known_yet_displaces_only_its_like)
{
	cr_assert_eq(place_choose(all, PEER_REMOTE, 100), -1);
	all[9].shaking = true;
	cr_assert_eq(place_choose(all, PEER_REMOTE, 100), 9);
}
