/* SPDX-License-Identifier: Apache-2.0 */
#include "watchdog.h"

static bool first_has_ended(void *opaque)
{
	return in(opaque, INTERRUPT, 4) == 1;
}

/* The second stage begins where the first one's end is noticed: it has all of its time still. */
static void await_second_stage(struct dog *w)
{
	cr_assert(vmachine_wait(w->vm, first_has_ended, w, patience_ms()));
	cr_assert_eq(w->vm->event_count, 0);
}

Test(i6300esb, two_stages_then_the_action)
{
	struct dog w;
	int64_t before;

	begin(&w, ACTION_RESET);
	cr_assert_eq(pci_get(w.d->function.config, 0, 4), 0x25ab8086);
	before = now_ms();
	start(&w, 100, 400, 0);
	cr_assert_eq(pci_config_read(&w.d->function, 0x68, 1), 2);
	await_second_stage(&w);
	cr_assert_geq(now_ms() - before, 95, "1 kHz");
	cr_assert_eq(in(&w, RELOAD, 2), 0);
	cr_assert(vmachine_wait(w.vm, has_event, w.vm, patience_ms()));
	cr_assert_geq(now_ms() - before, 485, "1 kHz");
	cr_assert_str_eq(vmachine_event(w.vm, "WATCHDOG"), "{\"action\":\"reset\"}");
	cr_assert_eq(w.vm->resets, 1);
	cr_assert_eq(in(&w, RELOAD, 2), 0x200);
	turn(&w, 600);
	cr_assert_eq(w.vm->resets, 1, "and once");
	/* The reset that follows leaves that one bit. */
	machine_lock(w.vm->m);
	pci_reset(w.vm->m->pci);
	machine_unlock(w.vm->m);
	pci_config_write(&w.d->function, 4, 2, 2);
	cr_assert_eq(in(&w, RELOAD, 2), 0x200);
	cr_assert_eq(in(&w, INTERRUPT, 4), 0);
	cr_assert_eq(pci_config_read(&w.d->function, 0x68, 1), 0);
	unlock(&w);
	out(&w, RELOAD, 2, 0x300);
	cr_assert_eq(in(&w, RELOAD, 2), 0);
	vmachine_free(w.vm);
}

/* Twelve reloads, longer in all than the first stage. False: the host was late with one, so that
 * the watchdog had a right to bark. */
static bool reloaded_in_time(struct dog *w)
{
	int64_t before = now_ms();

	reload(w);
	for (unsigned i = 0; i < 12; i++) {
		turn(w, 30);
		if (now_ms() - before >= 290)
			return false;
		cr_assert_eq(in(w, INTERRUPT, 4), 0, "reload %u", i);
		before = now_ms();
		reload(w);
	}
	return true;
}

Test(i6300esb, reloading_keeps_it_quiet)
{
	struct dog w;

	begin(&w, ACTION_RESET);
	start(&w, 300, 60000, 0);
	while (!reloaded_in_time(&w))
		out(&w, INTERRUPT, 4, 1);
	cr_assert_eq(w.vm->event_count, 0);
	/* Stopped it is quiet for good. */
	config(&w, 0x68, 1, 0);
	turn(&w, 700);
	cr_assert_eq(in(&w, INTERRUPT, 4), 0);
	cr_assert_eq(w.vm->event_count, 0);
	vmachine_free(w.vm);
}

Test(i6300esb, writes_need_unlocking)
{
	struct dog w;

	begin(&w, ACTION_POWEROFF);
	start(&w, 40, 40, 0);
	/* None of these is a reload. */
	for (unsigned i = 0; i < 6; i++) {
		turn(&w, 20);
		out(&w, RELOAD, 2, 0x100);
		out(&w, RELOAD, 2, 0x86);
		out(&w, RELOAD, 2, 0x100);
		out(&w, RELOAD, 2, 0x80);
		out(&w, TIMER1, 4, 0xfffff);
		out(&w, RELOAD, 2, 0x86);
		out(&w, RELOAD, 2, 0x100);
	}
	cr_assert(vmachine_wait(w.vm, has_event, w.vm, patience_ms()));
	cr_assert_eq(w.vm->poweroffs, 1);
	cr_assert_str_eq(vmachine_event(w.vm, "WATCHDOG"), "{\"action\":\"poweroff\"}");
	vmachine_free(w.vm);
}

Test(i6300esb, locked_it_cannot_be_stopped)
{
	struct dog w;

	begin(&w, ACTION_PAUSE);
	start(&w, 30, 30, 1);
	config(&w, 0x68, 1, 0);
	cr_assert_eq(pci_config_read(&w.d->function, 0x68, 1), 3);
	cr_assert(vmachine_wait(w.vm, has_event, w.vm, patience_ms()));
	cr_assert_eq(w.vm->pauses, 1);
	vmachine_free(w.vm);
}

Test(i6300esb, the_fast_clock_and_no_output)
{
	struct dog w;
	int64_t before;

	begin(&w, ACTION_RESET);
	start(&w, 1, 1, 0);
	config(&w, 0x68, 1, 0);
	/* 200000 at 1 MHz; at 1 kHz it would be minutes. */
	config(&w, 0x60, 2, 3 | 4);
	unlock(&w);
	out(&w, TIMER1, 4, 200000);
	before = now_ms();
	config(&w, 0x68, 1, 2);
	cr_assert(vmachine_wait(w.vm, has_event, w.vm, patience_ms()));
	cr_assert_geq(now_ms() - before, 190);
	cr_assert_eq(w.vm->resets, 1);
	config(&w, 0x60, 2, 3 | 0x20);
	unlock(&w);
	out(&w, TIMER1, 4, 5);
	unlock(&w);
	out(&w, RELOAD, 2, 0x300);
	cr_assert(vmachine_wait(w.vm, first_has_ended, &w, patience_ms()));
	turn(&w, 60);
	out(&w, INTERRUPT, 4, 1);
	cr_assert_eq(in(&w, INTERRUPT, 4), 0);
	cr_assert_eq(w.vm->resets, 1, "the output is off");
	vmachine_free(w.vm);
}

Test(i6300esb, it_stands_still_with_the_guest_and_moves)
{
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };
	struct dog a, b;
	int64_t before, left;

	begin(&a, ACTION_RESET);
	begin(&b, ACTION_RESET);
	start(&a, 30, 600, 0);
	await_second_stage(&a);
	vmachine_pause(a.vm);
	turn(&a, 700);
	cr_assert_eq(a.vm->event_count, 0);
	vmachine_pause(b.vm);
	kept_save(kept, &a.d->participant);
	memcpy(&left, &kept->records[0].bytes[4096 + 11], sizeof(left));
	cr_assert_leq(left, 590 * 1000);
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), 0, "%s", err.text);
	turn(&b, 700);
	cr_assert_eq(b.vm->event_count, 0);
	cr_assert_eq(in(&b, INTERRUPT, 4), 1);
	before = now_ms();
	vmachine_run(b.vm);
	cr_assert(vmachine_wait(b.vm, has_event, b.vm, patience_ms()));
	cr_assert_geq(now_ms() - before, left / 1000 - 1, "what was left goes on");
	/* Faulty states: preload, stage, remaining time. */
	static const struct {
		unsigned offset;
		uint8_t value;
	} bad[] = { { 2, 0x10 }, { 6, 0x10 }, { 8, 3 }, { 9, 3 }, { 10, 4 }, { 18, 0x80 } };

	vmachine_pause(b.vm);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t *byte = &kept->records[0].bytes[4096 + bad[i].offset];
		const uint8_t was = *byte;

		*byte = bad[i].value;
		cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL, "fault %zu", i);
		*byte = was;
	}
	kept->records[0].len--;
	cr_assert_eq(kept_load(kept, &b.d->participant, &err), -EINVAL);
	free(kept);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}
