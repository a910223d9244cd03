/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live protocol, both sides in one process, with harm done between them.
 * After each run the same is asked: did at most one side run the guest, at
 * every instant; did a migration that failed before GO cost nothing.
 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "live_pair.h"
#include "migration/migration_internal.h"
#include "migration/writer.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- success -------------------------------------------------------------------------------- */

Test(live, running_guest_moves)
{
	struct pair x;

	pair_init(&x, true);
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	cr_assert_str_eq(x.src->events, "setup active device completed ");
	cr_assert_str_eq(x.dst->events, "setup active device completed ");
	cr_assert(strstr(x.src->trace, "tty.finish"));
	pair_fini(&x);
}

Test(live, paused_guest_arrives_paused)
{
	struct pair x;

	pair_init(&x, false);
	pair_run(&x);
	cr_assert(x.dst->started, "%s / %s", x.src_error, x.dst_error);
	cr_assert_not(x.dst->runs);
	cr_assert_not(x.src->runs);
	cr_assert_eq(x.tally->most, 0);
	cr_assert(fake_vm_same(x.src, x.dst));
	pair_fini(&x);
}

static double number(const cJSON *root, const char *group, const char *name)
{
	const cJSON *in = group ? cJSON_GetObjectItemCaseSensitive(root, group) : root;
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(in, name);

	cr_assert(cJSON_IsNumber(item), "%s.%s is no number", group, name);
	return item->valuedouble;
}

Test(live, query_migrate_tells)
{
	struct pair x;
	char *json;
	cJSON *root;
	double normal;

	pair_init(&x, true);
	pair_run(&x);
	cr_assert_eq(migration_query(x.src->mig, &json, NULL), 0);
	root = cJSON_Parse(json);
	cr_assert_eq(number(root, "ram", "total"), FAKE_PAGES * 4096.0);
	normal = number(root, "ram", "normal");
	cr_assert_geq(normal, FAKE_PAGES / 2);
	cr_assert_eq(number(root, "ram", "normal-bytes"), normal * 4096);
	cr_assert_geq(number(root, "ram", "duplicate"), FAKE_PAGES / 3);
	cr_assert_eq(number(root, "ram", "page-size"), 4096);
	cr_assert_geq(number(root, "ram", "dirty-sync-count"), 1);
	cr_assert_eq(number(root, "ram", "transferred"), (double)x.wire.bytes[0]);
	cr_assert_eq(number(root, "ram", "precopy-bytes") + number(root, "ram", "downtime-bytes"),
	             number(root, "ram", "transferred"));
	cr_assert_geq(number(root, "vfio", "transferred"), 1 << 20);
	cr_assert_leq(number(root, "vfio", "transferred"), (1 << 20) + 50000);
	cr_assert_leq(number(root, NULL, "downtime"), number(root, NULL, "total-time"));
	cr_assert_leq(number(root, NULL, "setup-time"), number(root, NULL, "total-time"));
	cJSON_Delete(root);
	free(json);
	pair_fini(&x);
}

Test(live, moves_over_tcp)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	cr_assert_eq(migration_listen(x.dst->mig, "tcp:127.0.0.1:0", &err), 0, "%s", err.text);
	cr_assert_eq(getsockname(x.dst->mig->listen_fd, (struct sockaddr *)&sa, &len), 0);
	snprintf(x.uri, sizeof(x.uri), "tcp:127.0.0.1:%u", ntohs(sa.sin_port));
	cr_assert_eq(migration_start(x.src->mig, x.uri, &err), 0, "%s", err.text);
	migration_wait(x.src->mig);
	migration_wait(x.dst->mig);
	cr_assert(x.dst->runs, "%s / %s", fake_vm_error(x.src), fake_vm_error(x.dst));
	cr_assert(fake_vm_same(x.src, x.dst));
	cr_assert_leq(x.tally->most, 1);
	pair_fini(&x);
}

/* ---- a participant or the host fails ------------------------------------------------------------
 */

static void fail_at(bool at_source, enum fake_op op, const char *name, const char *want)
{
	struct pair x;
	struct fake_vm *vm;
	char place[128];

	pair_init(&x, true);
	vm = at_source ? x.src : x.dst;
	vm->fail_op = op;
	vm->fail_at = name;
	snprintf(x.label, sizeof(x.label), "%s: %s fails in %s",
	         at_source ? "source" : "destination", name, fake_op_name(op));
	pair_run(&x);
	pair_check(&x);
	cr_assert_not(x.src->handed_over, "%s", x.label);
	snprintf(place, sizeof(place), want, name);
	cr_assert(strstr(x.src_error, place), "%s: \"%s\" lacks \"%s\"", x.label, x.src_error,
	          place);
	cr_assert(strstr(x.src_error, "it broke"), "%s: %s", x.label, x.src_error);
	cr_assert_eq(strstr(x.src_error, "destination: ") != NULL, !at_source, "%s: %s", x.label,
	             x.src_error);
	cr_assert_str_eq(fake_vm_status(x.src), "failed", "%s", x.label);
	pair_fini(&x);
}

static const char *const names[] = { "boot", "ram",  "chip", "disk", "tty",
	                             "nic",  "cpu0", "cpu1", "clock" };

Test(live, any_failure_at_the_source_costs_nothing)
{
	static const struct {
		enum fake_op op;
		const char *want;
	} ops[] = {
		{ OP_PREPARE, "%s: prepare" }, { OP_ITERATE, "%s: iterate" },
		{ OP_PENDING, "%s: pending" }, { OP_QUIESCE, "%s: quiesce" },
		{ OP_STOP, "%s: stop" },       { OP_SAVE, "%s: save" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		for (size_t n = 0; n < ARRAY_SIZE(names); n++)
			fail_at(true, ops[i].op, names[n], ops[i].want);
	fail_at(true, OP_STOP_GUEST, "host", "it broke");
}

Test(live, any_failure_at_the_destination_is_told_and_costs_nothing)
{
	fail_at(false, OP_BUILD, "host", "it broke");
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		const bool ram = !strcmp(names[n], "ram");

		fail_at(false, OP_BEGIN_LOAD, names[n], "%s: begin-load");
		fail_at(false, ram ? OP_LOAD_PAGES : OP_LOAD, names[n], "%s: load: frame ");
		fail_at(false, OP_SETTLE, names[n], "%s: settle");
	}
}

Test(live, failed_rollback_does_not_hide_the_first_error)
{
	struct pair x;

	pair_init(&x, true);
	x.src->fail_op = OP_SAVE;
	x.src->fail_at = "cpu0";
	x.src->fail_too = OP_ROLLBACK;
	pair_run(&x);
	cr_assert(x.src->runs);
	cr_assert_eq(strncmp(x.src_error, "cpu0: save: it broke; ", 22), 0, "%s", x.src_error);
	cr_assert(strstr(x.src_error, "tty: rollback: it broke"), "%s", x.src_error);
	pair_fini(&x);
}

/* After GO there is nobody else who could run it. */
Test(live, device_that_will_not_run_does_not_stop_the_guest)
{
	static const enum fake_op ops[] = { OP_ANSWER_DMA, OP_RUN };
	static const char *const phases[] = { "answer-dma", "run" };
	char want[100], *json;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct pair x;

		pair_init(&x, true);
		x.dst->fail_op = ops[i];
		x.dst->fail_at = "tty";
		pair_run(&x);
		cr_assert(x.dst->runs);
		cr_assert_eq(fake_part(x.dst, "clock")->state, RUNS,
		             "those behind it were left out");
		cr_assert_str_eq(fake_vm_status(x.src), "completed");
		cr_assert(strstr(x.dst->logged_text, "tty"), "%s", x.dst->logged_text);
		cr_assert_eq(x.tally->most, 1);
		/* An event there, and in the source's outcome. */
		snprintf(want, sizeof(want), "\"reason\":\"%s: it broke\"", phases[i]);
		cr_assert(strstr(x.dst->degraded, "{\"device\":\"tty\",\"state\":\"failed\""), "%s",
		          x.dst->degraded);
		cr_assert(strstr(x.dst->degraded, want), "%s", x.dst->degraded);
		snprintf(want, sizeof(want),
		         "\"degraded-devices\":[\"destination: tty: %s: it broke\"]", phases[i]);
		cr_assert_eq(migration_query(x.src->mig, &json, NULL), 0);
		cr_assert(strstr(json, want), "%s", json);
		free(json);
		cr_assert(strstr(x.src->logged_text, phases[i]), "%s", x.src->logged_text);
		pair_fini(&x);
	}
}

/* ---- the two do not fit
 * ---------------------------------------------------------------------------- */

Test(live, table_is_checked_against_the_machine)
{
	static const struct {
		const char *label, *want;
	} rows[] = {
		{ "version", "chip (plain): version 2 there, and 1 here" },
		{ "kind", "chip: is other there and plain here" },
		{ "surplus", "fan (plain): this machine has no such thing" },
		{ "missing", "chip (plain): its state does not come" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fake_part *chip, fan;
		struct pair x;

		pair_init(&x, true);
		snprintf(x.label, sizeof(x.label), "%s", rows[i].label);
		chip = fake_part(x.src, "chip");
		fan = *chip;
		fan.p.ops = &fan.ops;
		strcpy(fan.p.name, "fan");
		if (i == 0)
			chip->ops.version = 2;
		else if (i == 1)
			chip->ops.kind = "other";
		else if (i == 2)
			participant_add(&x.src->list, &fan.p, NULL);
		else
			participant_remove(&x.src->list, &chip->p);
		pair_run(&x);
		pair_check(&x);
		cr_assert(strstr(x.src_error, rows[i].want), "%s", x.src_error);
		cr_assert_not(strstr(x.dst->trace, "begin-load"), "%s", x.dst->trace);
		pair_fini(&x);
	}
}

Test(live, blocked_guest_is_not_begun_with)
{
	struct gw_error err;
	struct pair x;
	char *json;

	pair_init(&x, true);
	x.src->blocker = "tty: has no migration";
	cr_assert_eq(migration_start(x.src->mig, "unix:/nowhere", &err), -ENOTSUP);
	cr_assert_str_eq(err.text, "tty: has no migration");
	cr_assert_eq(migration_query(x.src->mig, &json, NULL), 0);
	cr_assert(strstr(json, "\"blocked-reasons\":[\"tty: has no migration\"]"), "%s", json);
	free(json);
	cr_assert(x.src->runs);
	cr_assert_str_eq(x.src->events, "");
	pair_fini(&x);
}

/* ---- cancelling
 * ------------------------------------------------------------------------------------- */

static void cancel_at(bool at_source, enum fake_op op)
{
	struct pair x;
	struct fake_vm *vm;

	pair_init(&x, true);
	vm = at_source ? x.src : x.dst;
	vm->cancel_op = op;
	snprintf(x.label, sizeof(x.label), "%s cancels in %s", at_source ? "source" : "destination",
	         fake_op_name(op));
	pair_run(&x);
	pair_check(&x);
	cr_assert_not(x.src->handed_over, "%s", x.label);
	cr_assert_str_eq(fake_vm_status(vm), "cancelled", "%s: %s", x.label, fake_vm_error(vm));
	cr_assert(strstr(vm->events, "cancelling cancelled "), "%s: %s", x.label, vm->events);
	if (!at_source)
		cr_assert_str_eq(fake_vm_status(x.src), "failed", "%s", x.label);
	pair_fini(&x);
}

Test(live, cancel_in_each_phase)
{
	static const enum fake_op source[] = { OP_PREPARE, OP_ITERATE, OP_PENDING, OP_STOP_GUEST,
		                               OP_QUIESCE, OP_STOP,    OP_SAVE };
	static const enum fake_op destination[] = { OP_BUILD, OP_BEGIN_LOAD, OP_LOAD_PAGES, OP_LOAD,
		                                    OP_SETTLE };

	for (size_t i = 0; i < ARRAY_SIZE(source); i++)
		cancel_at(true, source[i]);
	for (size_t i = 0; i < ARRAY_SIZE(destination); i++)
		cancel_at(false, destination[i]);
}

Test(live, cancel_after_go_comes_too_late)
{
	for (int at_source = 0; at_source < 2; at_source++) {
		struct pair x;

		pair_init(&x, true);
		if (at_source)
			x.src->cancel_op = OP_HANDED_OVER;
		else
			x.dst->cancel_op = OP_ANSWER_DMA;
		pair_run(&x);
		pair_check(&x);
		cr_assert(x.dst->runs);
		cr_assert_str_eq(fake_vm_status(x.src), "completed");
		cr_assert_str_eq(x.src->events, "setup active device completed ");
		cr_assert_str_eq(x.dst->events, "setup active device completed ");
		pair_fini(&x);
	}
}

/* From another thread, while passes follow passes. */
static void cancel_from_outside(struct pair *x, const char *label)
{
	struct gw_error err;

	strcpy(x->label, label);
	pair_listen(x);
	wire_start(&x->wire);
	cr_assert_eq(migration_start(x->src->mig, pair_uri(x, x->wire.from), &err), 0);
	wait_until(__atomic_load_n(&x->wire.bytes[TO_DESTINATION], __ATOMIC_ACQUIRE) >= 100000);
	migration_cancel(x->src->mig, NULL);
	migration_wait(x->src->mig);
	wire_stop(&x->wire);
	migration_wait(x->dst->mig);
	snprintf(x->src_error, sizeof(x->src_error), "%s", fake_vm_error(x->src));
	pair_check(x);
	cr_assert_str_eq(fake_vm_status(x->src), "cancelled", "%s", x->src_error);
}

Test(live, cancel_what_never_converges)
{
	const struct gw_migrate_params params = { .downtime_limit_ms = 1,
		                                  .switchover_bandwidth = 1 << 20 };
	struct pair x;

	pair_init(&x, true);
	x.src->never_converges = true;
	migration_set_params(x.src->mig, &params, NULL);
	cancel_from_outside(&x, "never converges");
	cr_assert_not(strstr(x.src->trace, "stop-guest"));
	pair_fini(&x);
}

Test(live, cancel_what_waits_for_bandwidth)
{
	const struct gw_migrate_params params = { .max_bandwidth = 200000,
		                                  .downtime_limit_ms = 1,
		                                  .switchover_bandwidth = 1 << 20 };
	struct pair x;

	pair_init(&x, true);
	x.src->never_converges = true;
	migration_set_params(x.src->mig, &params, NULL);
	cancel_from_outside(&x, "waits for bandwidth");
	pair_fini(&x);
}

Test(live, begin_again_after_cancel)
{
	struct pair x;

	pair_init(&x, true);
	x.src->cancel_op = OP_QUIESCE;
	pair_run(&x);
	pair_check(&x);
	fake_vm_free(x.dst);
	x.dst = fake_vm_new(x.tally, true, false);
	x.wire.connected = false;
	memset(x.wire.passed, 0, sizeof(x.wire.passed));
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->runs, "%s", x.src_error);
	pair_fini(&x);
}

/* ---- harm on the way
 * ----------------------------------------------------------------------------------- */

/* A frame of each kind that passes, and where it stands among its like. */
static const struct {
	int direction;
	unsigned type, nth;
} places[] = {
	{ TO_DESTINATION, FRAME_HELLO, 0 },  { TO_DESTINATION, FRAME_CONFIG, 0 },
	{ TO_DESTINATION, FRAME_TABLE, 0 },  { TO_DESTINATION, FRAME_RECORD, 0 },
	{ TO_DESTINATION, FRAME_RECORD, 3 }, { TO_DESTINATION, FRAME_RECORD, 9 },
	{ TO_DESTINATION, FRAME_PAGES, 0 },  { TO_DESTINATION, FRAME_PAGES, 40 },
	{ TO_DESTINATION, FRAME_ZERO, 0 },   { TO_DESTINATION, FRAME_ZERO, 30 },
	{ TO_DESTINATION, FRAME_END, 0 },    { TO_DESTINATION, FRAME_GO, 0 },
	{ TO_DESTINATION, FRAME_MARK, 0 },   { TO_SOURCE, FRAME_HELLO, 0 },
	{ TO_SOURCE, FRAME_ACCEPTED, 0 },    { TO_SOURCE, FRAME_ACK, 0 },
	{ TO_SOURCE, FRAME_READY, 0 },       { TO_SOURCE, FRAME_RUNNING, 0 },
};

static void run_with_harm(struct pair *x, enum harm harm, size_t place)
{
	x->wire.harm = harm;
	x->wire.direction = places[place].direction;
	x->wire.type = places[place].type;
	x->wire.nth = places[place].nth;
	snprintf(x->label, sizeof(x->label), "harm %d to %s %u", harm,
	         frame_type_name(places[place].type), places[place].nth);
	pair_run(x);
	cr_assert(x->wire.done, "%s: no such frame passed", x->label);
	pair_check(x);
}

Test(live, flipped_bit_is_caught_and_named)
{
	static const unsigned bits[] = { 0, 37, 61, 100, 130, 197, 222, 255 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const unsigned type = places[i].type;
		const bool empty = type == FRAME_GO || type == FRAME_READY ||
		                   type == FRAME_RUNNING || type == FRAME_ACCEPTED ||
		                   type == FRAME_MARK;

		for (size_t b = 0; b < ARRAY_SIZE(bits); b++) {
			const bool header = b % 2 || empty;
			struct pair x;
			const char *seen;

			pair_init(&x, true);
			x.wire.bit = bits[b];
			run_with_harm(&x, header ? HARM_FLIP_HEADER : HARM_FLIP_PAYLOAD, i);
			seen = places[i].direction == TO_SOURCE ? x.src_error : x.dst_error;
			cr_assert(strstr(seen, "checksum mismatch"), "%s: %s", x.label, seen);
			cr_assert(strstr(seen, "frame "), "%s: %s", x.label, seen);
			if (!header)
				cr_assert(strstr(seen, frame_type_name(type)), "%s: %s", x.label,
				          seen);
			if (type == FRAME_PAGES && !header)
				cr_assert(strstr(seen, "ram: frame"), "%s: %s", x.label, seen);
			/* The source's user learns it too. */
			cr_assert(strstr(x.src_error, "checksum mismatch"), "%s: %s", x.label,
			          x.src_error);
			pair_fini(&x);
		}
	}
}

Test(live, flipped_bit_in_an_error_is_an_error)
{
	struct pair x;

	pair_init(&x, true);
	x.dst->fail_op = OP_SETTLE;
	x.wire.harm = HARM_FLIP_PAYLOAD;
	x.wire.direction = TO_SOURCE;
	x.wire.type = FRAME_ERROR;
	x.wire.bit = 80;
	pair_run(&x);
	pair_check(&x);
	cr_assert(strstr(x.src_error, "(error): payload damaged"), "%s", x.src_error);
	pair_fini(&x);
}

Test(live, connection_lost_before_and_after_each_frame)
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		for (enum harm harm = HARM_CUT_BEFORE; harm <= HARM_CUT_AFTER; harm++) {
			struct pair x;

			pair_init(&x, true);
			run_with_harm(&x, harm, i);
			pair_fini(&x);
		}
	}
}

Test(live, connection_lost_at_any_byte)
{
	uint64_t total, random = 1;
	struct pair x;

	pair_init(&x, true);
	pair_run(&x);
	total = x.wire.bytes[TO_DESTINATION];
	pair_fini(&x);
	for (unsigned i = 0; i < 60; i++) {
		random = random * 6364136223846793005ull + 1442695040888963407ull;
		pair_init(&x, true);
		x.wire.harm = HARM_CUT_AT;
		x.wire.direction = TO_DESTINATION;
		/* Half of them near the end, where END and GO are. */
		x.wire.offset = i % 2 ? (random >> 20) % total : total - 120 + i * 2;
		snprintf(x.label, sizeof(x.label), "cut at %llu of about %llu",
		         (unsigned long long)x.wire.offset, (unsigned long long)total);
		pair_run(&x);
		pair_check(&x);
		pair_fini(&x);
	}
	for (uint64_t offset = 0; offset < 2 * FRAME_HEADER_SIZE; offset += 3) {
		pair_init(&x, true);
		x.wire.harm = HARM_CUT_AT;
		x.wire.direction = TO_SOURCE;
		x.wire.offset = offset;
		snprintf(x.label, sizeof(x.label), "back: cut at %llu", (unsigned long long)offset);
		pair_run(&x);
		pair_check(&x);
		pair_fini(&x);
	}
}

/* ---- one side is killed
 * ----------------------------------------------------------------------------------- */

static void await_byte(int fd)
{
	char c;

	cr_assert_eq(read(fd, &c, 1), 1);
}

Test(live, destination_killed_at_each_message)
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		for (enum harm harm = HARM_KILL_BEFORE; harm <= HARM_KILL_AFTER; harm++) {
			struct pair x;
			struct gw_error err;
			int ready[2];
			pid_t child;

			pair_init(&x, true);
			snprintf(x.label, sizeof(x.label), "destination killed: harm %d to %s %u",
			         harm, frame_type_name(places[i].type), places[i].nth);
			cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
			child = fork();
			if (!child) {
				pair_listen(&x);
				if (write(ready[1], "", 1) == 1)
					migration_wait(x.dst->mig);
				pause();
				_exit(0);
			}
			await_byte(ready[0]);
			x.wire.victim = child;
			x.wire.harm = harm;
			x.wire.direction = places[i].direction;
			x.wire.type = places[i].type;
			x.wire.nth = places[i].nth;
			wire_start(&x.wire);
			migration_start(x.src->mig, pair_uri(&x, x.wire.from), &err);
			migration_wait(x.src->mig);
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
			wire_stop(&x.wire);
			snprintf(x.src_error, sizeof(x.src_error), "%s", fake_vm_error(x.src));
			cr_assert(x.wire.done, "%s", x.label);
			cr_assert_leq(x.tally->most, 1, "%s", x.label);
			if (!x.src->handed_over) {
				pair_source_goes_on(&x, true);
			} else {
				cr_assert_not(x.src->runs, "%s", x.label);
				cr_assert(x.wire.passed[TO_SOURCE][FRAME_READY], "%s", x.label);
			}
			close(ready[0]);
			close(ready[1]);
			pair_fini(&x);
		}
	}
}

Test(live, source_killed_at_each_message)
{
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		for (enum harm harm = HARM_KILL_BEFORE; harm <= HARM_KILL_AFTER; harm++) {
			struct pair x;
			int start[2];
			pid_t child;

			pair_init(&x, true);
			snprintf(x.label, sizeof(x.label), "source killed: harm %d to %s %u", harm,
			         frame_type_name(places[i].type), places[i].nth);
			cr_assert_eq(pipe2(start, O_CLOEXEC), 0);
			child = fork();
			if (!child) {
				char c;

				if (read(start[0], &c, 1) == 1 &&
				    !migration_start(x.src->mig, pair_uri(&x, x.wire.from), NULL))
					migration_wait(x.src->mig);
				pause();
				_exit(0);
			}
			x.wire.victim = child;
			x.wire.harm = harm;
			x.wire.direction = places[i].direction;
			x.wire.type = places[i].type;
			x.wire.nth = places[i].nth;
			pair_listen(&x);
			wire_start(&x.wire);
			cr_assert_eq(write(start[1], "", 1), 1);
			waitpid(child, NULL, 0);
			wire_stop(&x.wire);
			migration_wait(x.dst->mig);
			cr_assert_leq(x.tally->most, 1, "%s", x.label);
			cr_assert_eq(x.dst->started, x.wire.passed[TO_DESTINATION][FRAME_GO] == 1,
			             "%s", x.label);
			if (!x.dst->started)
				pair_destination_is_gone(&x);
			close(start[0]);
			close(start[1]);
			pair_fini(&x);
		}
	}
}

/* ---- silence
 * ---------------------------------------------------------------------------------------------- */

/* The wire stands but lets nothing more through. */
static void hold(unsigned type, int direction, const char *want)
{
	const bool before = type == FRAME_HELLO;
	const uint64_t never = (uint64_t)patience_ms(), over = never / 40;
	const struct gw_migrate_params params = { .network_timeout_ms = before ? over : never,
		                                  .switchover_timeout_ms = before ? never : over };
	struct pair x;

	pair_init(&x, true);
	migration_set_params(x.src->mig, &params, NULL);
	x.wire.harm = HARM_HOLD;
	x.wire.type = type;
	x.wire.direction = direction;
	snprintf(x.label, sizeof(x.label), "silent from %s on", frame_type_name(type));
	pair_run(&x);
	pair_check(&x);
	cr_assert(strstr(x.src_error, want), "%s: %s", x.label, x.src_error);
	pair_fini(&x);
}

Test(live, silent_destination_is_given_up)
{
	hold(FRAME_HELLO, TO_SOURCE, "waiting for \"hello\"");
	hold(FRAME_END, TO_DESTINATION, "waiting for \"ready\"");
	hold(FRAME_READY, TO_SOURCE, "waiting for \"ready\"");
	hold(FRAME_GO, TO_DESTINATION, "waiting for \"running\"");
	hold(FRAME_RUNNING, TO_SOURCE, "waiting for \"running\"");
}

static int raw_listener(struct pair *x)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, x->wire.to);
	cr_assert_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

struct liar {
	struct output output;
	int fd;
};

static int liar_write(struct output *out, struct iovec *iov, int count, struct gw_error *err)
{
	(void)err;
	return io_writev_full(container_of(out, struct liar, output)->fd, iov, count);
}

static int raw_connection(struct pair *x)
{
	struct gw_error err;
	int fd = raw_listener(x), conn;

	cr_assert_eq(migration_start(x->src->mig, pair_uri(x, x->wire.to), &err), 0);
	conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(fd);
	return conn;
}

/* The words of a destination up to where the source begins. */
static void accept_all(struct writer *w)
{
	const struct frame_hello hello = frame_hello();

	writer_frame(w, FRAME_HELLO, 0, NULL, &hello, sizeof(hello), NULL, 0, NULL);
	writer_frame(w, FRAME_ACCEPTED, 0, NULL, NULL, 0, NULL, 0, NULL);
	writer_flush(w, NULL);
}

Test(live, destination_that_says_nothing_is_given_up)
{
	const struct gw_migrate_params params = { .network_timeout_ms = 100 };
	struct pair x;
	int conn;

	pair_init(&x, true);
	migration_set_params(x.src->mig, &params, NULL);
	conn = raw_connection(&x);
	migration_wait(x.src->mig);
	snprintf(x.src_error, sizeof(x.src_error), "%s", fake_vm_error(x.src));
	pair_source_goes_on(&x, true);
	cr_assert(strstr(x.src_error, "said nothing for 100 ms"), "%s", x.src_error);
	cr_assert_str_eq(x.src->trace, "");
	close(conn);
	pair_fini(&x);
}

Test(live, destination_that_takes_nothing_is_given_up)
{
	const struct gw_migrate_params params = { .network_timeout_ms =
		                                          (uint64_t)patience_ms() / 20 };
	char words[40];
	struct liar liar = { .output.write = liar_write };
	struct writer w;
	struct pair x;

	pair_init(&x, true);
	migration_set_params(x.src->mig, &params, NULL);
	liar.fd = raw_connection(&x);
	cr_assert_eq(writer_init(&w, &liar.output, NULL, NULL, NULL), 0);
	accept_all(&w);
	migration_wait(x.src->mig);
	snprintf(x.src_error, sizeof(x.src_error), "%s", fake_vm_error(x.src));
	pair_source_goes_on(&x, true);
	snprintf(words, sizeof(words), "taken nothing for %d ms", patience_ms() / 20);
	cr_assert(strstr(x.src_error, words), "%s", x.src_error);
	writer_fini(&w);
	close(liar.fd);
	pair_fini(&x);
}

Test(live, nobody_listens)
{
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	cr_assert_eq(migration_start(x.src->mig, pair_uri(&x, x.wire.to), &err), 0);
	migration_wait(x.src->mig);
	snprintf(x.src_error, sizeof(x.src_error), "%s", fake_vm_error(x.src));
	pair_source_goes_on(&x, true);
	cr_assert_str_eq(x.src->trace, "");
	cr_assert_str_eq(fake_vm_status(x.src), "failed");
	pair_fini(&x);
}

/* ---- a destination or a source that lies
 * ------------------------------------------------------------------- */

/* Speaks as the destination would, but out of turn: `before` it has accepted, or later. */
static void lie(bool before, enum frame_type type, const void *payload, size_t len,
                uint32_t sequence, const char *want)
{
	struct liar liar = { .output.write = liar_write };
	struct writer w;
	uint8_t drain[65536];
	struct pair x;

	pair_init(&x, true);
	x.src->never_converges = true;
	x.src->dirty_per_sync = FAKE_PAGES;
	migration_set_params(
	        x.src->mig,
	        &(struct gw_migrate_params){ .downtime_limit_ms = 1, .switchover_bandwidth = 1 },
	        NULL);
	liar.fd = raw_connection(&x);
	cr_assert_eq(writer_init(&w, &liar.output, NULL, NULL, NULL), 0);
	if (!before)
		accept_all(&w);
	w.sequence += sequence;
	writer_frame(&w, type, 0, NULL, payload, len, NULL, 0, NULL);
	writer_flush(&w, NULL);
	while (read(liar.fd, drain, sizeof(drain)) > 0)
		;
	migration_wait(x.src->mig);
	snprintf(x.src_error, sizeof(x.src_error), "%s", fake_vm_error(x.src));
	pair_source_goes_on(&x, true);
	cr_assert_not(x.src->handed_over);
	cr_assert(strstr(x.src_error, want), "%s", x.src_error);
	writer_fini(&w);
	close(liar.fd);
	pair_fini(&x);
}

Test(live, word_out_of_turn_ends_it)
{
	struct frame_hello old = frame_hello();
	const uint32_t nobody = htole32(0xffffffff), first = 0;

	old.version = htole32(STREAM_VERSION_OLDEST);
	lie(true, FRAME_READY, NULL, 0, 0, "it says ready, not hello");
	lie(true, FRAME_ACCEPTED, NULL, 0, 0, "it says accepted, not hello");
	lie(true, FRAME_ACK, &first, 4, 0, "acknowledges what was not sent");
	lie(true, FRAME_HELLO, &old, sizeof(old), 0, "stream version 1, not 2");
	lie(true, FRAME_HELLO, &old, 3, 0, "hello: 3 bytes");
	lie(false, FRAME_READY, NULL, 0, 0, "too early");
	lie(false, FRAME_RUNNING, NULL, 0, 0, "too early");
	lie(false, FRAME_ACCEPTED, NULL, 0, 0, "too early");
	lie(false, FRAME_PAGES, NULL, 0, 0, "too early");
	lie(false, FRAME_READY, NULL, 0, 1, "its number is 3");
	lie(false, FRAME_ACK, &first, 4, 0, "acknowledges what was not sent (participant 0)");
	lie(false, FRAME_ACK, &nobody, 4, 0, "acknowledges what was not sent");
	lie(false, FRAME_ACK, &first, 3, 0, "ack of 3 bytes");
}

/* What a source might send instead of the rest of a stream. */
enum falsehood {
	UNKNOWN_PARTICIPANT,
	EARLY_GO,
	WRONG_TOTALS,
	NOT_GO,
	PAGES_ODD,
	PAGES_OUTSIDE,
	ZERO_HUGE,
	RECORD_FOR_RAM,
	MARK_FOR_NOBODY,
	MARK_WITH_PAYLOAD,
	FALSEHOODS
};

static void tell(struct writer *w, struct fake_vm *src, enum falsehood what)
{
	static uint8_t buf[8 + 4097];
	struct participant *ram = &fake_part(src, "ram")->p;
	uint64_t outside[2] = { htole64(0x1000), htole64(1) };
	uint64_t huge[2] = { htole64(FAKE_BASE), htole64(1ull << 62) };
	struct frame_end end = { .frames = htole64(w->sequence), .bytes = htole64(w->bytes + 1) };

	switch (what) {
	case UNKNOWN_PARTICIPANT:
		writer_frame(w, FRAME_RECORD, 1, NULL, "x", 1, NULL, 0, NULL);
		break;
	case EARLY_GO:
		writer_frame(w, FRAME_GO, 0, NULL, NULL, 0, NULL, 0, NULL);
		break;
	case WRONG_TOTALS:
		writer_frame(w, FRAME_END, 0, NULL, &end, sizeof(end), NULL, 0, NULL);
		break;
	case NOT_GO:
		writer_end(w, true, NULL);
		break;
	case PAGES_ODD:
		writer_frame(w, FRAME_PAGES, 0, ram, buf, sizeof(buf), NULL, 0, NULL);
		break;
	case PAGES_OUTSIDE:
		memcpy(buf, outside, 8);
		writer_frame(w, FRAME_PAGES, 0, ram, buf, 8 + 4096, NULL, 0, NULL);
		break;
	case ZERO_HUGE:
		writer_frame(w, FRAME_ZERO, 0, ram, huge, sizeof(huge), NULL, 0, NULL);
		break;
	case MARK_FOR_NOBODY:
		writer_frame(w, FRAME_MARK, 0, NULL, NULL, 0, NULL, 0, NULL);
		break;
	case MARK_WITH_PAYLOAD:
		writer_frame(w, FRAME_MARK, 0, &fake_part(src, "tty")->p, "x", 1, NULL, 0, NULL);
		break;
	default:
		writer_frame(w, FRAME_RECORD, 1, ram, "x", 1, NULL, 0, NULL);
	}
	writer_flush(w, NULL);
}

Test(live, source_that_lies_is_refused_by_name)
{
	static const char *const want[FALSEHOODS] = {
		[UNKNOWN_PARTICIPANT] = "frame 3 (record): there is no participant",
		[EARLY_GO] = "frame 3 (go): there is no participant",
		[WRONG_TOTALS] = "frame 3 (end): counts",
		[NOT_GO] = "tty: settle",
		[PAGES_ODD] = "ram: load: frame 3 (pages)",
		[PAGES_OUTSIDE] = "ram: load: frame 3 (pages): no RAM there",
		[ZERO_HUGE] = "ram: load: frame 3 (zero): no RAM there",
		[RECORD_FOR_RAM] = "ram: load: frame 3 (record)",
		[MARK_FOR_NOBODY] = "frame 3 (mark): there is no participant",
		/* A lane finds out, while nothing more comes. */
		[MARK_WITH_PAYLOAD] = "frame 3 (mark): 1 bytes",
	};

	for (enum falsehood i = 0; i < FALSEHOODS; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		struct liar liar = { .output.write = liar_write };
		struct writer w;
		struct pair x;

		pair_init(&x, true);
		pair_listen(&x);
		liar.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		strcpy(un.sun_path, x.wire.to);
		cr_assert_eq(connect(liar.fd, (struct sockaddr *)&un, sizeof(un)), 0);
		cr_assert_eq(writer_init(&w, &liar.output, &x.src->list, NULL, NULL), 0);
		cr_assert_eq(writer_begin(&w, "{\"name\":\"fake\"}", NULL), 0);
		tell(&w, x.src, i);
		migration_wait(x.dst->mig);
		pair_destination_is_gone(&x);
		cr_assert(strstr(fake_vm_error(x.dst), want[i]), "%d: %s", i, fake_vm_error(x.dst));
		writer_fini(&w);
		close(liar.fd);
		pair_fini(&x);
	}
}

/* ---- the rest
 * ---------------------------------------------------------------------------------------------- */

Test(live, a_destination_that_refuses_go_leaves_the_guest_where_it_was)
{
	struct pair x;

	pair_init(&x, true);
	run_with_harm(&x, HARM_FLIP_HEADER, 11 /* GO */);
	cr_assert_not(x.src->handed_over);
	cr_assert(x.src->runs);
	cr_assert_not(x.dst->started);
	cr_assert(strstr(x.src_error, "destination: "), "%s", x.src_error);
	cr_assert_not(strstr(x.src_error, "handed over"), "%s", x.src_error);
	pair_fini(&x);
}

Test(live, guest_that_runs_elsewhere_is_never_taken_back)
{
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->started);
	cr_assert_eq(migration_take_back(x.src->mig, &err), -EPERM);
	cr_assert(strstr(err.text, "has said that it runs the guest"), "%s", err.text);
	cr_assert(fake_vm_all(x.src, FINISHED));
	pair_fini(&x);
}

Test(live, guest_of_unknown_whereabouts_can_be_taken_back)
{
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	run_with_harm(&x, HARM_CUT_BEFORE, 11 /* GO */);
	cr_assert(x.src->handed_over);
	cr_assert_not(x.dst->started);
	cr_assert_eq(migration_take_back(x.src->mig, &err), 0);
	cr_assert(fake_vm_all(x.src, AT_REST));
	/* What happened is still to be read. */
	cr_assert(strstr(fake_vm_error(x.src), "handed over"));
	pair_fini(&x);
}

/* Nothing that leaves the host does so in the clear unless it was asked for. */
Test(live, tcp_to_other_hosts_has_to_be_asked_for)
{
	static const char *const elsewhere[] = { "tcp:0.0.0.0:0", "tcp::0", "tcp:192.0.2.1:4444",
		                                 "tcp:[2001:db8::1]:4444" };
	const struct gw_migrate_params plain = { .plain_tcp = GW_SWITCH_ON };
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	for (size_t i = 0; i < ARRAY_SIZE(elsewhere); i++) {
		cr_assert_eq(migration_listen(x.dst->mig, elsewhere[i], &err), -EACCES, "%s",
		             elsewhere[i]);
		cr_assert(strstr(err.text, "\"plain-tcp\""), "%s", err.text);
	}
	cr_assert_eq(migration_start(x.src->mig, "tcp:192.0.2.1:4444", &err), 0, "%s", err.text);
	migration_wait(x.src->mig);
	cr_assert(strstr(fake_vm_error(x.src), "\"plain-tcp\""), "%s", fake_vm_error(x.src));
	cr_assert(x.src->runs);
	cr_assert_eq(migration_listen(x.dst->mig, "tcp:127.0.0.1:0", &err), 0, "%s", err.text);
	migration_cancel(x.dst->mig, NULL);
	migration_wait(x.dst->mig);
	migration_set_params(x.dst->mig, &plain, NULL);
	cr_assert_eq(migration_listen(x.dst->mig, "tcp:0.0.0.0:0", &err), 0, "%s", err.text);
	migration_cancel(x.dst->mig, NULL);
	migration_wait(x.dst->mig);
	pair_fini(&x);
}

Test(live, one_at_a_time)
{
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	pair_listen(&x);
	cr_assert_eq(migration_listen(x.dst->mig, "unix:/tmp/x", &err), -EBUSY);
	cr_assert_eq(migration_start(x.dst->mig, "unix:/tmp/x", &err), -EBUSY);
	cr_assert_eq(migration_take_back(x.dst->mig, &err), -EBUSY);
	cr_assert_eq(migration_load(x.dst->mig, x.dir, true, &err), -EBUSY);
	migration_cancel(x.dst->mig, NULL);
	migration_wait(x.dst->mig);
	cr_assert_str_eq(fake_vm_status(x.dst), "cancelled");
	cr_assert_eq(access(x.wire.to, F_OK), -1, "the socket's file is left behind");
	pair_fini(&x);
}

Test(live, uri_that_is_none)
{
	static const char *const uris[] = {
		"",         "tcp:",  "tcp:host", "tcp:host:", "tcp:host:99999", "tcp:host:1x",
		"tcp:h:-1", "unix:", "file:/x",  "exec:rm",   "tcp::+1",
	};
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
		cr_assert_eq(migration_start(x.src->mig, uris[i], &err), -EINVAL, "%s", uris[i]);
		cr_assert(strstr(err.text, uris[i]), "%s", err.text);
		cr_assert_not(migration_active(x.src->mig));
	}
	pair_fini(&x);
}

Test(live, parameters_are_kept_within_bounds)
{
	struct gw_migrate_params p = { .downtime_limit_ms = 2000001 };
	struct gw_error err;
	struct pair x;

	pair_init(&x, true);
	cr_assert_eq(migration_set_params(x.src->mig, &p, &err), -EINVAL);
	cr_assert(strstr(err.text, "downtime-limit"), "%s", err.text);
	p = (struct gw_migrate_params){ .downtime_limit_ms = 5 };
	cr_assert_eq(migration_set_params(x.src->mig, &p, &err), 0);
	migration_get_params(x.src->mig, &p);
	cr_assert_eq(p.downtime_limit_ms, 5);
	cr_assert_eq(p.max_bandwidth, UINT64_MAX);
	cr_assert_eq(p.network_timeout_ms, (uint64_t)patience_ms());
	pair_fini(&x);
}
