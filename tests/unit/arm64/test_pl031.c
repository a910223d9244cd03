/* SPDX-License-Identifier: Apache-2.0 */
/* The clock with a battery, used as Linux's driver uses it. */
#include "platform.h"

#include "base/log.h"
#include "base/loop.h"
#include "vmm/arm64/layout.h"
#include "vmm/arm64/pl031.h"
#include "vmm/outside.h"

#include <time.h>

#define DATA 0x00
#define MATCH 0x04
#define LOAD 0x08
#define CONTROL 0x0c
#define MASK 0x10
#define RAW 0x14
#define MASKED 0x18
#define CLEAR 0x1c

struct rig {
	struct loop *loop;
	struct log log;
	struct machine_notify notify;
	struct machine_outside outside;
	struct machine *m;
	struct pl031 *rtc;
	bool high;
};

static void set_pin(void *opaque, bool high)
{
	((struct rig *)opaque)->high = high;
}

static struct rig *rig_new(void)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct gw_error err;

	g->outside = (struct machine_outside){ .opaque = g, .set_pin = set_pin };
	cr_assert_eq(loop_create(&g->loop, &err), 0);
	cr_assert_eq(machine_create_outside(&g->outside, g->loop, &g->log, &g->notify, &g->m, &err),
	             0, "%s", err.text);
	cr_assert_eq(pl031_create(g->m, &g->rtc, &err), 0, "%s", err.text);
	machine_run(g->m);
	return g;
}

static void rig_free(struct rig *g)
{
	machine_pause(g->m);
	pl031_destroy(g->rtc);
	machine_destroy(g->m);
	loop_destroy(g->loop);
	free(g);
}

static uint32_t get(struct rig *g, unsigned offset)
{
	uint32_t value;

	machine_lock(g->m);
	value = (uint32_t)bus_read(&g->m->mmio, LAYOUT_RTC + offset, 4);
	machine_unlock(g->m);
	return value;
}

static void set(struct rig *g, unsigned offset, uint32_t value)
{
	machine_lock(g->m);
	bus_write(&g->m->mmio, LAYOUT_RTC + offset, 4, value);
	machine_unlock(g->m);
}

/* Until it is high, for at most so long. */
static bool await_high(struct rig *g, int ms)
{
	const int64_t end = now_ms() + ms;

	while (!g->high && now_ms() < end)
		loop_once(g->loop, 10);
	return g->high;
}

static bool is_about(uint32_t value, uint32_t expected)
{
	return value - expected <= (uint32_t)patience_ms() / 1000;
}

Test(pl031, it_has_the_hosts_time_until_it_is_set)
{
	struct rig *g = rig_new();

	cr_assert(is_about(get(g, DATA), (uint32_t)time(NULL)), "%u", get(g, DATA));
	cr_assert_eq(get(g, CONTROL), 1, "it runs");
	set(g, LOAD, 1000);
	cr_assert(is_about(get(g, DATA), 1000), "%u", get(g, DATA));
	cr_assert_eq(get(g, LOAD), 1000);
	pl031_reset(g->rtc);
	cr_assert(is_about(get(g, DATA), 1000), "it has a battery");
	rig_free(g);
}

Test(pl031, an_alarm_raises_the_line_until_it_is_cleared)
{
	struct rig *g = rig_new();

	set(g, MASK, 1);
	set(g, MATCH, get(g, DATA) + 2);
	cr_assert(!g->high);
	cr_assert(await_high(g, patience_ms()));
	cr_assert_geq(get(g, DATA), get(g, MATCH), "not before its time");
	cr_assert_eq(get(g, RAW), 1);
	cr_assert_eq(get(g, MASKED), 1);
	set(g, CLEAR, 0);
	cr_assert(g->high);
	set(g, CLEAR, 1);
	cr_assert(!g->high);
	cr_assert_eq(get(g, RAW), 0);
	rig_free(g);
}

Test(pl031, an_alarm_that_is_masked_waits)
{
	struct rig *g = rig_new();

	set(g, MATCH, get(g, DATA) + 1);
	wait_turning(get(g, RAW), loop_once(g->loop, 10), "no alarm");
	cr_assert_eq(get(g, RAW), 1);
	cr_assert_eq(get(g, MASKED), 0);
	cr_assert(!g->high);
	set(g, MASK, 1);
	cr_assert(g->high);
	rig_free(g);
}

/* The counter's other half: what has been is never met again, what wraps around lies ahead. */
Test(pl031, the_past_raises_nothing_and_the_counter_wraps_around)
{
	struct rig *g = rig_new();

	set(g, MASK, 1);
	set(g, MATCH, get(g, DATA) - 1);
	cr_assert(!await_high(g, 1500));
	set(g, LOAD, 0xfffffffe);
	set(g, MATCH, 1);
	cr_assert(await_high(g, patience_ms()));
	cr_assert(is_about(get(g, DATA), 1), "%u", get(g, DATA));
	rig_free(g);
}

Test(pl031, a_guest_that_stands_still_is_told_when_it_goes_on)
{
	struct rig *g = rig_new();

	set(g, MASK, 1);
	set(g, MATCH, get(g, DATA) + 1);
	machine_pause(g->m);
	cr_assert(!await_high(g, 2500));
	machine_run(g->m);
	cr_assert(await_high(g, patience_ms()));
	rig_free(g);
}

Test(pl031, it_is_moved_with_its_time_and_its_alarm)
{
	struct rig *from = rig_new(), *ahead = rig_new(), *raised = rig_new();
	struct gw_error err;
	struct kept k;

	set(from, LOAD, 5000);
	set(from, MASK, 1);
	set(from, MATCH, get(from, DATA) + 2);
	kept_save(&k, participant_find(&from->m->participants, "rtc"));
	for (int i = 0; i < 2; i++) {
		struct rig *to = i ? raised : ahead;
		struct participant *p = participant_find(&to->m->participants, "rtc");

		cr_assert_eq(kept_load(&k, p, &err), 0, "%s", err.text);
		cr_assert_eq(p->ops->settle(p, &err), 0);
		cr_assert(is_about(get(to, DATA), 5000), "%u", get(to, DATA));
		cr_assert_eq(to->high, i);
		cr_assert(await_high(to, 20000));
		cr_assert(await_high(from, 20000));
		kept_save(&k, participant_find(&from->m->participants, "rtc"));
	}
	k.records[0].len--;
	cr_assert_eq(kept_load(&k, participant_find(&ahead->m->participants, "rtc"), &err),
	             -EINVAL);
	rig_free(from);
	rig_free(ahead);
	rig_free(raised);
}

Test(pl031, it_says_what_it_is)
{
	static const uint8_t id[] = { 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct rig *g = rig_new();

	for (unsigned i = 0; i < ARRAY_SIZE(id); i++)
		cr_assert_eq(get(g, 0xfe0 + i * 4), id[i]);
	rig_free(g);
}

/* Whatever the guest does to whichever byte, in accesses of any size. */
Test(pl031, every_access_is_answered)
{
	struct rig *g = rig_new();

	machine_lock(g->m);
	for (unsigned offset = 0; offset < LAYOUT_DEVICE_SIZE; offset++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			bus_write(&g->m->mmio, LAYOUT_RTC + offset, size, UINT64_MAX);
			bus_read(&g->m->mmio, LAYOUT_RTC + offset, size);
		}
	}
	machine_unlock(g->m);
	cr_assert_eq(get(g, MASK), 1);
	cr_assert_eq(get(g, LOAD), 0xffffffff);
	cr_assert(is_about(get(g, DATA), 0xffffffff), "%u", get(g, DATA));
	cr_assert_eq(get(g, CONTROL), 1);
	cr_assert_eq(get(g, 0xfe0), 0x31, "what it is stays");
	rig_free(g);
}
