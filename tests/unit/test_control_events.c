/* SPDX-License-Identifier: Apache-2.0 */
/* Events on their way: which are held back, and for how long. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "control/event_queue.h"
#include "control/events.h"

#include <stdio.h>
#include <string.h>

static bool push(struct event_queue *queue, const char *name, const char *data, int64_t now)
{
	const struct gw_event event = { name, data, 1, 2 };

	return event_queue_push(queue, &event, now);
}

/* The names and data of what is due, one after the other. */
static void expect_due(struct event_queue *queue, int64_t now, const char *wanted, int64_t wait)
{
	int64_t wait_ms;
	struct event_line *line = event_queue_take(queue, now, &wait_ms);
	char got[1024] = "";

	for (; line; line = event_line_free(line)) {
		const char *event = strstr(line->text, "\"event\"");

		cr_assert(event);
		strncat(got, event + 8, strlen(event) - 11);
		strcat(got, " ");
	}
	cr_assert_str_eq(got, wanted);
	cr_assert_eq(wait_ms, wait, "%ld, not %ld", (long)wait_ms, (long)wait);
}

Test(control_events, most_are_sent_at_once_and_in_order)
{
	struct event_queue queue;

	event_queue_init(&queue);
	cr_assert(push(&queue, "STOP", "{}", 0));
	cr_assert(push(&queue, "RESUME", "{}", 0));
	cr_assert(push(&queue, "UNHEARD_OF", "{\"a\":1}", 0));
	cr_assert(push(&queue, "STOP", "{}", 0));
	expect_due(&queue, 0, "\"STOP\" \"RESUME\" \"UNHEARD_OF\",\"data\":{\"a\":1} \"STOP\" ",
	           -1);
	expect_due(&queue, 0, "", -1);
	event_queue_destroy(&queue);
}

Test(control_events, what_a_guest_may_flood_is_sent_once_a_second_and_the_last_counts)
{
	struct event_queue queue;

	event_queue_init(&queue);
	cr_assert(push(&queue, "BALLOON_CHANGE", "{\"actual\":1}", 1000));
	expect_due(&queue, 1000, "\"BALLOON_CHANGE\",\"data\":{\"actual\":1} ", -1);
	cr_assert(push(&queue, "BALLOON_CHANGE", "{\"actual\":2}", 1100), "the timer is to be set");
	for (int i = 0; i < 10000; i++)
		cr_assert_not(push(&queue, "BALLOON_CHANGE", "{\"actual\":3}", 1200));
	cr_assert_not(push(&queue, "BALLOON_CHANGE", "{\"actual\":4}", 1300));
	cr_assert(push(&queue, "WATCHDOG", "{\"action\":7}", 1300), "another name");
	expect_due(&queue, 1400, "\"WATCHDOG\",\"data\":{\"action\":7} ", 600);
	expect_due(&queue, 2000, "\"BALLOON_CHANGE\",\"data\":{\"actual\":4} ", -1);
	/* And again a second from then. */
	cr_assert(push(&queue, "BALLOON_CHANGE", "{\"actual\":5}", 2500));
	expect_due(&queue, 2999, "", 1);
	expect_due(&queue, 3000, "\"BALLOON_CHANGE\",\"data\":{\"actual\":5} ", -1);
	cr_assert(push(&queue, "BALLOON_CHANGE", "{\"actual\":6}", 9000));
	expect_due(&queue, 9000, "\"BALLOON_CHANGE\",\"data\":{\"actual\":6} ", -1);
	event_queue_destroy(&queue);
}

Test(control_events, each_device_has_a_second_of_its_own)
{
	struct event_queue queue;

	event_queue_init(&queue);
	cr_assert(push(&queue, "VSERPORT_CHANGE", "{\"id\":\"a\",\"open\":true}", 0));
	cr_assert(push(&queue, "VSERPORT_CHANGE", "{\"id\":\"b\",\"open\":true}", 0));
	cr_assert(push(&queue, "VSERPORT_CHANGE", "{\"id\":\"a\",\"open\":false}", 10));
	expect_due(&queue, 10,
	           "\"VSERPORT_CHANGE\",\"data\":{\"id\":\"a\",\"open\":true} "
	           "\"VSERPORT_CHANGE\",\"data\":{\"id\":\"b\",\"open\":true} ",
	           990);
	expect_due(&queue, 1000, "\"VSERPORT_CHANGE\",\"data\":{\"id\":\"a\",\"open\":false} ", -1);
	event_queue_destroy(&queue);
}

/* Old names make room for new ones, and what is held back is never lost. */
Test(control_events, names_without_number_are_no_leak)
{
	struct event_queue queue;
	char data[64];

	event_queue_init(&queue);
	for (int i = 0; i < 10 * EVENT_LIMITS; i++) {
		snprintf(data, sizeof(data), "{\"id\":\"d%d\"}", i);
		cr_assert(push(&queue, "VSERPORT_CHANGE", data, i * 2000));
		cr_assert(push(&queue, "VSERPORT_CHANGE", data, i * 2000), "%d", i);
	}
	for (int round = 0; round < 2; round++) {
		int64_t wait_ms;

		for (struct event_line *l = event_queue_take(&queue, INT32_MAX, &wait_ms); l;)
			l = event_line_free(l);
		cr_assert_eq(wait_ms, -1);
	}
	event_queue_destroy(&queue);
}

Test(control_events, every_row_is_whole)
{
	for (const struct event_kind *e = control_events; e->name; e++) {
		cr_assert(e->help && *e->help, "%s", e->name);
		cr_assert_eq(event_find(e->name), e, "%s is there twice", e->name);
	}
	cr_assert_null(event_find("stop"));
}
