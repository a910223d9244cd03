/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "fake_vm.h"
#include "migration/sequence.h"

#include <stdio.h>
#include <string.h>

static int drop_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                       size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	(void)sink, (void)p, (void)type, (void)head, (void)head_len, (void)body, (void)body_len;
	(void)err;
	return 0;
}

static int drop_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                      size_t count, struct gw_error *err)
{
	(void)sink, (void)p, (void)gpa, (void)hva, (void)count, (void)err;
	return 0;
}

static bool want_pause;

static bool pause_wanted(struct sink *sink)
{
	(void)sink;
	return want_pause;
}

static const struct sink_ops drop_ops = { .record = drop_record,
	                                  .pages = drop_pages,
	                                  .pause_wanted = pause_wanted };
static struct sink drop = { &drop_ops };
static struct tally tally;

/* What each phase is to look like: in this order, one call after the other; but those in brackets
 * side by side. */
static const struct row {
	enum phase phase;
	enum fake_op op;
	const char *order;
	enum fake_op undone_by;
} rows[] = {
	{ PHASE_PREPARE, OP_PREPARE, "ram boot chip disk tty nic cpu0 cpu1 clock", OP_ROLLBACK },
	{ PHASE_ITERATE, OP_ITERATE, "boot ram chip disk tty nic cpu0 cpu1 clock", OP_ROLLBACK },
	{ PHASE_QUIESCE, OP_QUIESCE, "[tty nic] disk chip cpu0 cpu1 clock ram boot", OP_ROLLBACK },
	{ PHASE_STOP, OP_STOP, "[tty nic] disk chip cpu0 cpu1 clock ram boot", OP_ROLLBACK },
	{ PHASE_SAVE, OP_SAVE, "boot ram chip disk [tty nic] cpu0 cpu1 clock", OP_ROLLBACK },
	{ PHASE_BEGIN_LOAD, OP_BEGIN_LOAD, "boot ram chip disk tty nic cpu0 cpu1 clock",
	  OP_DISCARD },
	{ PHASE_SETTLE, OP_SETTLE, "boot ram chip disk [tty nic] cpu0 cpu1 clock", OP_DISCARD },
	{ PHASE_ANSWER_DMA, OP_ANSWER_DMA, "boot ram chip disk [tty nic] cpu0 cpu1 clock",
	  OP_DISCARD },
	{ PHASE_RUN, OP_RUN, "boot ram chip disk [tty nic] cpu0 cpu1 clock", OP_DISCARD },
};
static const char *const undo_order = "clock cpu0 cpu1 chip disk [tty nic] ram boot";
static const char *const finish_order = "[tty nic] disk chip cpu0 cpu1 clock ram boot";

/* "a.op b.op ", up to and with `last` (NULL: all). */
static void expect(char *to, size_t size, const char *order, enum fake_op op, const char *last)
{
	char copy[128], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", order);
	for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		size_t len = strlen(to);

		snprintf(to + len, size - len, "%s.%s ", name, fake_op_name(op));
		if (last && !strcmp(name, last))
			break;
	}
}

#define VARIANTS 6

/* The orders that `order` allows, if `last` fails (NULL: none does): the two in brackets come in
 * either order, and neither keeps the other from being called. */
static size_t variants(const char *order, enum fake_op op, const char *last,
                       char out[VARIANTS][4096])
{
	static const char *const pairs[] = { "tty nic", "nic tty" };
	const char *open = strchr(order, '['), *close = strchr(order, ']');
	const bool inside = last && (!strcmp(last, "tty") || !strcmp(last, "nic"));
	size_t count = 0;

	memset(out, 0, VARIANTS * sizeof(out[0]));
	if (!open) {
		expect(out[0], sizeof(out[0]), order, op, last);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		char plain[128];

		snprintf(plain, sizeof(plain), "%.*s%s%s", (int)(open - order), order, pairs[i],
		         close + 1);
		expect(out[count], sizeof(out[0]), plain, op, last);
		count++;
		if (inside)
			expect(out[count++], sizeof(out[0]), plain, op, pairs[i] + 4);
	}
	return count;
}

/* The trace begins with one of the orders allowed; what comes behind it. NULL: it does not. */
static const char *behind_phase(const char *trace, const struct row *row, const char *last)
{
	static char allowed[VARIANTS][4096];
	size_t count = variants(row->order, row->op, last, allowed), longest = 0;
	bool found = false;

	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(allowed[i]);

		if (!strncmp(trace, allowed[i], len) && len >= longest) {
			longest = len;
			found = true;
		}
	}
	return found ? trace + longest : NULL;
}

/* The trace is one of the orders allowed, and nothing else. */
static bool is_phase(const char *trace, const char *order, enum fake_op op)
{
	const struct row row = { .op = op, .order = order };
	const char *rest = behind_phase(trace, &row, NULL);

	return rest && !*rest;
}

/* All that follows a failure; where devices may have stopped, all answer DMA before one runs. */
static bool is_undone(const char *trace, const struct row *row)
{
	const struct row again = { .op = OP_ANSWER_AGAIN, .order = undo_order };
	const bool stood = row->op == OP_QUIESCE || row->op == OP_STOP || row->op == OP_SAVE;
	const char *rest = stood ? behind_phase(trace, &again, NULL) : trace;

	return rest && is_phase(rest, undo_order, row->undone_by);
}

static struct fake_vm *machine(void)
{
	struct fake_vm *vm = fake_vm_new(&tally, false, false);

	/* The device's own checks are for the tests with data. */
	fake_part(vm, "tty")->ended = true;
	fake_part(vm, "tty")->received = 7;
	return vm;
}

static void stop_all(struct fake_vm *vm)
{
	for (size_t i = 0; i < FAKE_PARTS; i++)
		vm->parts[i].state = STOPPED;
}

Test(sequence, each_phase_keeps_its_order)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fake_vm *vm = machine();
		struct sequence s = { .list = &vm->list, .sink = &drop, .live = true };
		struct gw_error err;

		stop_all(vm);
		cr_assert_eq(sequence_run(&s, rows[i].phase, &err), 0, "%s", err.text);
		cr_assert(is_phase(vm->trace, rows[i].order, rows[i].op), "%s", vm->trace);
		sequence_end(&s);
		fake_vm_free(vm);
	}
}

/* For each phase and each participant: those before it were called, none behind it, and then all
 * are taken back. */
Test(sequence, one_failure_takes_all_back)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t n = 0; n < FAKE_PARTS; n++) {
			struct fake_vm *vm = machine();
			struct sequence s = { .list = &vm->list, .sink = &drop, .live = true };
			struct gw_error err = { 0 };
			char text[128];
			const char *rest;

			stop_all(vm);
			vm->fail_op = rows[i].op;
			vm->fail_at = vm->parts[n].p.name;
			cr_assert_eq(sequence_run(&s, rows[i].phase, &err), -EIO);
			snprintf(text, sizeof(text), "%s: %s: it broke", vm->fail_at,
			         phase_name(rows[i].phase));
			cr_assert_str_eq(err.text, text);
			sequence_undo(&s, rows[i].phase, &err);
			cr_assert_str_eq(err.text, text, "undoing left its mark");
			rest = behind_phase(vm->trace, &rows[i], vm->fail_at);
			cr_assert(rest && is_undone(rest, &rows[i]), "%s", vm->trace);
			/* A second time there is nothing left to undo. */
			sequence_undo(&s, rows[i].phase, &err);
			cr_assert(is_undone(rest, &rows[i]), "%s", vm->trace);
			sequence_end(&s);
			fake_vm_free(vm);
		}
	}
}

Test(sequence, what_goes_wrong_in_undoing_comes_behind_the_first_error)
{
	for (size_t n = 0; n < FAKE_PARTS; n++) {
		struct fake_vm *vm = machine();
		struct sequence s = { .log = &vm->log, .list = &vm->list, .sink = &drop };
		struct gw_error err = { 0 };
		char text[128];

		vm->fail_op = OP_STOP;
		vm->fail_at = vm->parts[n].p.name;
		vm->fail_too = OP_ROLLBACK;
		cr_assert_eq(sequence_run(&s, PHASE_STOP, &err), -EIO);
		vm->trace[0] = 0;
		sequence_undo(&s, PHASE_STOP, &err);
		snprintf(text, sizeof(text), "%s: stop: it broke; clock: rollback: it broke; ",
		         vm->fail_at);
		cr_assert_eq(strncmp(err.text, text, strlen(text)), 0, "%s", err.text);
		cr_assert_eq(err.code, -EIO);
		cr_assert(strstr(err.text, "boot: rollback: it broke"), "%s", err.text);
		cr_assert(strstr(vm->logged_text, "tty: rollback: it broke"));
		/* Each was asked all the same. */
		cr_assert(is_undone(vm->trace, &rows[3]), "%s", vm->trace);
		sequence_end(&s);
		fake_vm_free(vm);
	}
}

Test(sequence, nothing_begun_is_nothing_to_undo)
{
	struct fake_vm *vm = machine();
	struct sequence s = { .list = &vm->list };

	sequence_undo(&s, PHASE_PREPARE, NULL);
	cr_assert_str_eq(vm->trace, "");
	sequence_end(&s);
	fake_vm_free(vm);
}

Test(sequence, finish_is_not_undone)
{
	struct fake_vm *vm = machine();
	struct sequence s = { .list = &vm->list, .goes_on = true };

	cr_assert_eq(sequence_run(&s, PHASE_FINISH, NULL), 0);
	sequence_undo(&s, PHASE_FINISH, NULL);
	cr_assert(is_phase(vm->trace, finish_order, OP_FINISH), "%s", vm->trace);
	cr_assert(fake_vm_all(vm, AT_REST));
	sequence_end(&s);
	fake_vm_free(vm);
}

Test(sequence, run_all_goes_on_past_failures)
{
	struct fake_vm *vm = machine();
	struct sequence s = { .log = &vm->log, .list = &vm->list };
	struct gw_error err = { 0 };

	vm->fail_op = OP_RUN;
	vm->fail_at = "tty";
	sequence_run_all(&s, PHASE_RUN, &err);
	cr_assert(is_phase(vm->trace, rows[8].order, OP_RUN), "%s", vm->trace);
	cr_assert_eq(fake_part(vm, "clock")->state, RUNS);
	cr_assert(strstr(vm->logged_text, "tty: run: it broke"), "%s", vm->logged_text);
	sequence_end(&s);
	fake_vm_free(vm);
}

Test(sequence, a_pause_lets_the_others_wait)
{
	struct fake_vm *vm = machine();
	struct sequence s = { .list = &vm->list, .sink = &drop, .live = true };

	cr_assert_eq(sequence_run(&s, PHASE_PREPARE, NULL), 0);
	vm->trace[0] = 0;
	want_pause = true;
	cr_assert_eq(sequence_run(&s, PHASE_ITERATE, NULL), 0);
	cr_assert(s.paused);
	cr_assert_str_eq(vm->trace, "boot.iterate ram.iterate ");
	want_pause = false;
	cr_assert_eq(sequence_run(&s, PHASE_ITERATE, NULL), 0);
	cr_assert_not(s.paused);
	sequence_end(&s);
	fake_vm_free(vm);
}

Test(sequence, pending_adds_up)
{
	struct fake_vm *vm = machine();
	struct sequence s = { .list = &vm->list, .sink = &drop, .live = true };
	struct participant_pending pending;
	struct gw_error err;

	cr_assert_eq(sequence_run(&s, PHASE_PREPARE, NULL), 0);
	cr_assert_eq(sequence_pending(&s, PENDING_ESTIMATE, &pending, &err), 0);
	cr_assert_eq(pending.precopy, FAKE_PAGES * PAGE_SIZE + 3000);
	cr_assert_eq(pending.stop, 3000 + 7 * 8);
	cr_assert(pending.not_yet);
	vm->fail_op = OP_PENDING;
	vm->fail_at = "nic";
	cr_assert_eq(sequence_pending(&s, PENDING_EXACT, &pending, &err), -EIO);
	cr_assert_str_eq(err.text, "nic: pending: it broke");
	sequence_end(&s);
	fake_vm_free(vm);
}

static void count_reason(void *opaque, const char *why)
{
	cr_assert_str_eq(why, "tty cannot");
	(*(int *)opaque)++;
}

Test(sequence, blockers_are_found)
{
	struct fake_vm *vm = machine();
	int count = 0;

	cr_assert_null(sequence_blocker(&vm->list, SEQUENCE_LIVE, NULL, NULL));
	vm->blocker = "tty cannot";
	cr_assert_str_eq(sequence_blocker(&vm->list, SEQUENCE_LIVE, NULL, NULL), "tty cannot");
	cr_assert_str_eq(sequence_blocker(&vm->list, SEQUENCE_LIVE, count_reason, &count),
	                 "tty cannot");
	cr_assert_eq(count, 1);
	fake_vm_free(vm);
}

Test(sequence, what_hinders_a_move_need_not_hinder_a_save)
{
	struct fake_vm *vm = machine();

	vm->live_blocker = "tty writes unseen";
	cr_assert_null(sequence_blocker(&vm->list, 0, NULL, NULL));
	cr_assert_str_eq(sequence_blocker(&vm->list, SEQUENCE_LIVE, NULL, NULL),
	                 "tty writes unseen");
	fake_vm_free(vm);
}

Test(sequence, one_that_leaves_blocks_only_who_keeps_it)
{
	struct fake_vm *vm = machine();

	vm->blocker = "tty cannot";
	strcpy(fake_part(vm, "tty")->p.leaves, "tty leaves");
	cr_assert_null(sequence_blocker(&vm->list, SEQUENCE_LIVE | SEQUENCE_MAY_LEAVE, NULL, NULL));
	cr_assert_str_eq(sequence_blocker(&vm->list, SEQUENCE_LIVE, NULL, NULL), "tty leaves");
	fake_vm_free(vm);
}

Test(sequence, what_a_participant_leaves_out_is_done)
{
	static const struct participant_ops none = { .kind = "none", .version = 1 };
	struct participant p = { .ops = &none, .name = "none" };
	struct participant_list list = { &p };
	struct sequence s = { .list = &list, .sink = &drop };

	for (enum phase phase = 0; phase < PHASES; phase++) {
		cr_assert_eq(sequence_run(&s, phase, NULL), 0, "%s", phase_name(phase));
		sequence_undo(&s, phase, NULL);
	}
}
