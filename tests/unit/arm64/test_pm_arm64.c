/* SPDX-License-Identifier: Apache-2.0 */
/* The power button, as a driver for keys at a GPIO sees it, and the generation id's interrupt. */
#include "platform.h"

#include "base/log.h"
#include "base/loop.h"
#include "vmm/arm64/layout.h"
#include "vmm/arm64/pm.h"
#include "vmm/outside.h"
#include "vmm/pm.h"

#define BIT (1u << PM_POWER_PIN)
#define DATA (BIT << 2)
#define BOTH 0x408
#define ENABLE 0x410
#define CLEAR 0x41c

struct rig {
	struct loop *loop;
	struct log log;
	struct machine_notify notify;
	struct machine_outside outside;
	struct machine *m;
	bool high;
	unsigned rises, falls;
};

static void set_pin(void *opaque, bool high)
{
	struct rig *g = opaque;

	g->rises += high && !g->high;
	g->falls += !high && g->high;
	g->high = high;
}

static uint32_t get(struct rig *g, unsigned offset)
{
	uint32_t value;

	machine_lock(g->m);
	value = (uint32_t)bus_read(&g->m->mmio, LAYOUT_GPIO + offset, 4);
	machine_unlock(g->m);
	return value;
}

static void set(struct rig *g, unsigned offset, uint32_t value)
{
	machine_lock(g->m);
	bus_write(&g->m->mmio, LAYOUT_GPIO + offset, 4, value);
	machine_unlock(g->m);
}

/* With a driver that listens to both edges. */
static struct rig *rig_new(void)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct gw_error err;

	g->outside = (struct machine_outside){ .opaque = g, .set_pin = set_pin };
	cr_assert_eq(loop_create(&g->loop, &err), 0);
	cr_assert_eq(machine_create_outside(&g->outside, g->loop, &g->log, &g->notify, &g->m, &err),
	             0, "%s", err.text);
	cr_assert_eq(pm_create(g->m, &g->m->pm, &err), 0, "%s", err.text);
	machine_run(g->m);
	set(g, BOTH, BIT);
	set(g, ENABLE, BIT);
	return g;
}

static void rig_free(struct rig *g)
{
	machine_pause(g->m);
	pm_destroy(g->m->pm);
	machine_destroy(g->m);
	loop_destroy(g->loop);
	free(g);
}

static void press(struct rig *g)
{
	machine_lock(g->m);
	pm_power_button(g->m->pm);
	machine_unlock(g->m);
}

static bool await_key_up(struct rig *g, int ms)
{
	const int64_t end = now_ms() + ms;

	while (get(g, DATA) && now_ms() < end)
		loop_once(g->loop, 10);
	return !get(g, DATA);
}

Test(pm_arm64, the_key_goes_down_and_up)
{
	struct rig *g = rig_new();

	cr_assert(!g->high);
	press(g);
	cr_assert(g->high);
	cr_assert_eq(get(g, DATA), BIT);
	set(g, CLEAR, BIT);
	cr_assert(!g->high);
	cr_assert(await_key_up(g, patience_ms()));
	cr_assert(g->high, "that is an edge too");
	set(g, CLEAR, BIT);
	press(g);
	cr_assert(g->high, "it can be pressed again");
	rig_free(g);
}

Test(pm_arm64, it_stays_down_while_the_guest_stands_still)
{
	struct rig *g = rig_new();

	machine_pause(g->m);
	press(g);
	cr_assert(!await_key_up(g, 1000));
	machine_run(g->m);
	cr_assert(await_key_up(g, patience_ms()));
	rig_free(g);
}

Test(pm_arm64, reset_lets_go_of_it)
{
	struct rig *g = rig_new();

	press(g);
	machine_lock(g->m);
	pm_reset(g->m->pm);
	machine_unlock(g->m);
	cr_assert(!g->high);
	cr_assert_eq(get(g, DATA), 0);
	cr_assert_eq(get(g, ENABLE), 0);
	rig_free(g);
}

Test(pm_arm64, moves_while_the_key_is_down)
{
	struct rig *from = rig_new(), *to = rig_new();
	struct participant *there = participant_find(&to->m->participants, "pm");
	struct gw_error err;
	struct kept k;

	set(to, ENABLE, 0);
	press(from);
	kept_save(&k, participant_find(&from->m->participants, "pm"));
	cr_assert_eq(kept_load(&k, there, &err), 0, "%s", err.text);
	cr_assert(!to->high, "not before the interrupt controller has its state");
	cr_assert_eq(there->ops->settle(there, &err), 0);
	cr_assert(to->high);
	cr_assert_eq(get(to, ENABLE), BIT);
	set(to, CLEAR, BIT);
	cr_assert(await_key_up(to, patience_ms()), "it is let go where the guest is");
	cr_assert(to->high);
	rig_free(from);
	rig_free(to);
}

Test(pm_arm64, states_that_do_not_fit)
{
	struct rig *g = rig_new();
	struct participant *p = participant_find(&g->m->participants, "pm");
	struct gw_error err;
	struct kept k;

	kept_save(&k, p);
	k.records[0].len--;
	cr_assert_eq(kept_load(&k, p, &err), -EINVAL);
	k.records[0].len += 2;
	cr_assert_eq(kept_load(&k, p, &err), -EINVAL);
	k.records[0].len--;
	k.records[0].type++;
	cr_assert_eq(kept_load(&k, p, &err), -EINVAL);
	rig_free(g);
}

Test(pm_arm64, a_new_generation_is_an_edge)
{
	struct rig *g = rig_new();

	machine_lock(g->m);
	pm_generation_changed(g->m->pm);
	machine_unlock(g->m);
	cr_assert_eq(g->rises, 1);
	cr_assert_eq(g->falls, 1);
	rig_free(g);
}

/* Whatever the guest does to whichever byte, in accesses of any size. */
Test(pm_arm64, every_access_is_answered)
{
	struct rig *g = rig_new();

	machine_lock(g->m);
	for (unsigned offset = 0; offset < LAYOUT_DEVICE_SIZE; offset++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			bus_write(&g->m->mmio, LAYOUT_GPIO + offset, size, UINT64_MAX);
			bus_read(&g->m->mmio, LAYOUT_GPIO + offset, size);
		}
	}
	machine_unlock(g->m);
	cr_assert_eq(get(g, ENABLE), 0xff);
	cr_assert_eq(get(g, 0xfe0), 0x61, "what it is stays");
	rig_free(g);
}
