/* SPDX-License-Identifier: Apache-2.0 */
/* Live migration, as devices see it: initial data, a machine that takes long, a guest that arrives
 * paused. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "live_pair.h"
#include "migration/migration_internal.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

static void start(struct pair *x)
{
	struct gw_error err;

	pair_listen(x);
	wire_start(&x->wire);
	cr_assert_eq(migration_start(x->src->mig, pair_uri(x, x->wire.from), &err), 0, "%s",
	             err.text);
}

static void end(struct pair *x)
{
	migration_wait(x->src->mig);
	wire_stop(&x->wire);
	migration_wait(x->dst->mig);
	snprintf(x->src_error, sizeof(x->src_error), "%s", fake_vm_error(x->src));
	snprintf(x->dst_error, sizeof(x->dst_error), "%s", fake_vm_error(x->dst));
	pair_check(x);
}

static uint64_t passes(struct pair *x)
{
	uint64_t n;

	pthread_mutex_lock(&x->src->mig->lock);
	n = x->src->mig->stats.rounds;
	pthread_mutex_unlock(&x->src->mig->lock);
	return n;
}

/* So many passes more. */
static void await_passes(struct pair *x, unsigned more)
{
	const uint64_t until = passes(x) + more;

	wait_until(passes(x) >= until);
}

/* ---- initial data -------------------------------------------------------------------------- */

Test(live_devices, initial_data_are_acknowledged)
{
	struct pair x;

	pair_init(&x, true);
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	cr_assert_eq(x.wire.passed[TO_DESTINATION][FRAME_MARK], 1);
	cr_assert_eq(x.wire.passed[TO_SOURCE][FRAME_ACK], 1);
	pair_fini(&x);
}

static void hold_load(struct pair *x, bool hold)
{
	__atomic_store_n(&x->dst->hold_load, hold, __ATOMIC_RELEASE);
}

/* Received is not loaded: the guest goes on until the device there has taken its data. */
Test(live_devices, guest_is_not_stopped_before_initial_data_are_loaded)
{
	struct pair x;

	pair_init(&x, true);
	hold_load(&x, true);
	start(&x);
	await_passes(&x, 30);
	cr_assert_not(fake_vm_did(x.src, "stop-guest"));
	cr_assert_eq(__atomic_load_n(&x.wire.passed[TO_SOURCE][FRAME_ACK], __ATOMIC_ACQUIRE), 0);
	hold_load(&x, false);
	end(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	cr_assert_eq(x.wire.passed[TO_SOURCE][FRAME_ACK], 1);
	pair_fini(&x);
}

Test(live_devices, destination_that_never_acknowledges_keeps_it_going_until_cancelled)
{
	struct pair x;

	pair_init(&x, true);
	x.wire.harm = HARM_HOLD;
	x.wire.direction = TO_SOURCE;
	x.wire.type = FRAME_ACK;
	start(&x);
	await_passes(&x, 30);
	cr_assert_not(fake_vm_did(x.src, "stop-guest"));
	cr_assert(x.src->runs);
	migration_cancel(x.src->mig, NULL);
	end(&x);
	cr_assert_str_eq(fake_vm_status(x.src), "cancelled", "%s", x.src_error);
	pair_fini(&x);
}

Test(live_devices, without_acknowledgement_nobody_waits)
{
	const struct gw_migrate_params params = { .switchover_ack = GW_SWITCH_OFF };
	struct pair x;

	pair_init(&x, true);
	migration_set_params(x.src->mig, &params, NULL);
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	cr_assert_eq(x.wire.passed[TO_DESTINATION][FRAME_MARK], 0);
	pair_fini(&x);
}

/* The acknowledgement for which nobody waits any more comes all the same. */
Test(live_devices, waiting_for_it_can_be_given_up)
{
	const struct gw_migrate_params params = { .switchover_ack = GW_SWITCH_OFF };
	struct pair x;

	pair_init(&x, true);
	hold_load(&x, true);
	start(&x);
	await_passes(&x, 10);
	migration_set_params(x.src->mig, &params, NULL);
	wait_until(__atomic_load_n(&x.wire.passed[TO_DESTINATION][FRAME_END], __ATOMIC_ACQUIRE));
	hold_load(&x, false);
	end(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	cr_assert_eq(x.wire.passed[TO_SOURCE][FRAME_ACK], 1);
	pair_fini(&x);
}

/* The source has nothing to send and waits; the word of it comes all the same. */
Test(live_devices, failure_behind_the_reader_is_told_at_once)
{
	struct pair x;

	pair_init(&x, true);
	hold_load(&x, true);
	start(&x);
	await_passes(&x, 30);
	fake_vm_fail(x.dst, OP_LOAD, "tty");
	hold_load(&x, false);
	end(&x);
	cr_assert_not(x.src->handed_over);
	cr_assert_not(strstr(x.src->trace, "stop-guest"));
	cr_assert(strstr(x.src_error, "tty: load: frame "), "%s", x.src_error);
	pair_fini(&x);
}

/* ---- a machine that takes long --------------------------------------------------------------- */

Test(live_devices, slow_building_is_waited_for)
{
	const unsigned patience = (unsigned)patience_ms();
	const struct gw_migrate_params params = { .network_timeout_ms = patience / 30,
		                                  .switchover_timeout_ms = patience };
	struct pair x;

	pair_init(&x, true);
	migration_set_params(x.src->mig, &params, NULL);
	x.dst->build_ms = patience / 12;
	pair_run(&x);
	pair_check(&x);
	cr_assert(x.dst->runs, "%s / %s", x.src_error, x.dst_error);
	pair_fini(&x);
}

/* Nothing is tracked, and no device is in another state, as long as it is not sure to begin. */
Test(live_devices, building_forever_ends_by_cancel)
{
	struct pair x;

	pair_init(&x, true);
	x.wire.harm = HARM_HOLD;
	x.wire.direction = TO_SOURCE;
	x.wire.type = FRAME_ACCEPTED;
	start(&x);
	wait_until(__atomic_load_n(&x.wire.done, __ATOMIC_ACQUIRE));
	usleep(100000);
	cr_assert_str_eq(x.src->trace, "");
	migration_cancel(x.src->mig, NULL);
	end(&x);
	cr_assert_str_eq(fake_vm_status(x.src), "cancelled", "%s", x.src_error);
	pair_fini(&x);
}

/* ---- a guest that arrives paused --------------------------------------------------------------
 */

static void arrive_paused(struct pair *x)
{
	pair_init(x, false);
	pair_run(x);
	cr_assert(x->dst->started, "%s / %s", x->src_error, x->dst_error);
	cr_assert_not(x->dst->runs);
}

static void cont(struct fake_vm *vm)
{
	struct gw_error err;

	cr_assert_eq(migration_wake(vm->mig, &vm->list, &err), 0, "%s", err.text);
}

/* The device's state takes effect, but nothing moves before the guest does. */
Test(live_devices, paused_guest_has_devices_that_sleep_D5)
{
	struct pair x;
	const char *answers, *runs;

	arrive_paused(&x);
	cr_assert(fake_vm_asleep(x.dst), "%s", x.dst->trace);
	cr_assert_not(strstr(x.dst->trace, "tty.answer-dma"));
	x.dst->trace[0] = 0;
	cont(x.dst);
	cr_assert(fake_vm_all(x.dst, RUNS));
	/* Two passes, and nothing else is started a second time. */
	answers = strstr(x.dst->trace, "nic.answer-dma");
	runs = strstr(x.dst->trace, "tty.run");
	cr_assert(answers && runs && answers < runs, "%s", x.dst->trace);
	cr_assert_not(strstr(x.dst->trace, "cpu0"), "%s", x.dst->trace);
	x.dst->trace[0] = 0;
	cont(x.dst);
	cr_assert_str_eq(x.dst->trace, "", "woken twice");
	pair_fini(&x);
}

Test(live_devices, running_guest_has_nothing_to_wake_D5)
{
	struct pair x;

	pair_init(&x, true);
	pair_run(&x);
	cr_assert(fake_vm_all(x.dst, RUNS));
	x.dst->trace[0] = 0;
	cont(x.dst);
	cr_assert_str_eq(x.dst->trace, "");
	pair_fini(&x);
}

Test(live_devices, device_that_will_not_wake_keeps_nobody_asleep_D5)
{
	struct pair x;

	arrive_paused(&x);
	x.dst->fail_op = OP_RUN;
	x.dst->fail_at = "tty";
	cont(x.dst);
	cr_assert_eq(fake_part(x.dst, "nic")->state, RUNS);
	cr_assert(strstr(x.dst->logged_text, "tty: run: it broke"), "%s", x.dst->logged_text);
	cr_assert(strstr(x.dst->degraded, "\"device\":\"tty\""), "%s", x.dst->degraded);
	pair_fini(&x);
}

/* On to a third host, from the second on which it never ran. */
static void move_on(struct pair *x, struct pair *on, enum fake_op fail)
{
	arrive_paused(x);
	pair_init(on, false);
	fake_vm_free(on->src);
	on->src = x->dst;
	on->src->trace[0] = 0;
	on->src->fail_op = fail;
	on->src->fail_at = "nic";
	pair_run(on);
	on->src->fail_op = OP_NONE;
	/* Never: quiesce means that it ran, and rollback that it runs again. */
	cr_assert_not(strstr(on->src->trace, "tty.quiesce"), "%s", on->src->trace);
	cr_assert_not(strstr(on->src->trace, "tty.iterate"), "%s", on->src->trace);
	cr_assert_not(strstr(on->src->trace, "tty.rollback"), "%s", on->src->trace);
	cr_assert(strstr(on->src->trace, "tty.finish"), "%s", on->src->trace);
	cr_assert_eq(fake_part(on->src, "tty")->state, FINISHED);
}

static void moved_on(struct pair *x, struct pair *on)
{
	on->src = fake_vm_new(on->tally, false, false);
	pair_fini(on);
	pair_fini(x);
}

Test(live_devices, sleeping_devices_move_on_asleep_D5)
{
	struct pair x, on;

	move_on(&x, &on, OP_NONE);
	cr_assert(on.dst->started, "%s / %s", on.src_error, on.dst_error);
	cr_assert(fake_vm_same(x.src, on.dst));
	cr_assert(fake_vm_asleep(on.dst), "%s", on.dst->trace);
	cont(on.dst);
	cr_assert(fake_vm_all(on.dst, RUNS));
	moved_on(&x, &on);
}

Test(live_devices, sleeping_devices_stay_asleep_where_moving_on_fails_D5)
{
	static const enum fake_op ops[] = { OP_PREPARE, OP_STOP, OP_SAVE };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct pair x, on;

		move_on(&x, &on, ops[i]);
		cr_assert_not(on.dst->started);
		cr_assert(strstr(on.src_error, "nic: "), "%s", on.src_error);
		cont(on.src);
		cr_assert_eq(fake_part(on.src, "tty")->state, RUNS);
		cr_assert_eq(fake_part(on.src, "nic")->state, RUNS);
		moved_on(&x, &on);
	}
}

Test(live_devices, nothing_wakes_in_the_middle_of_moving_on_D5)
{
	struct gw_error err;
	struct pair x, on;

	arrive_paused(&x);
	pair_init(&on, false);
	fake_vm_free(on.src);
	on.src = x.dst;
	on.wire.harm = HARM_HOLD;
	on.wire.direction = TO_SOURCE;
	on.wire.type = FRAME_ACCEPTED;
	start(&on);
	cr_assert_eq(migration_wake(on.src->mig, &on.src->list, &err), -EBUSY);
	migration_cancel(on.src->mig, NULL);
	migration_wait(on.src->mig);
	wire_stop(&on.wire);
	migration_wait(on.dst->mig);
	cont(on.src);
	cr_assert_eq(fake_part(on.src, "tty")->state, RUNS);
	moved_on(&x, &on);
}

/* ---- what query-migrate says --------------------------------------------------------------- */

Test(live_devices, each_device_is_described)
{
	static const char *const numbers[] = { "transferred",  "remaining", "prepare-time",
		                               "iterate-time", "stop-time", "quiesce-time",
		                               "save-time" };
	struct pair x;
	char *json;
	cJSON *root, *devices, *device;
	double transferred = 0;

	pair_init(&x, true);
	pair_run(&x);
	cr_assert_eq(migration_query(x.src->mig, &json, NULL), 0);
	root = cJSON_Parse(json);
	devices = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "vfio"),
	                                           "devices");
	cr_assert_eq(cJSON_GetArraySize(devices), 2, "%s", json);
	cJSON_ArrayForEach(device, devices)
	{
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
			cr_assert(cJSON_IsNumber(
			                  cJSON_GetObjectItemCaseSensitive(device, numbers[i])),
			          "%s: %s", numbers[i], json);
		transferred += cJSON_GetObjectItem(device, "transferred")->valuedouble;
	}
	device = cJSON_GetArrayItem(devices, 0);
	cr_assert_str_eq(cJSON_GetObjectItem(device, "id")->valuestring, "tty");
	cr_assert_gt(cJSON_GetObjectItem(device, "transferred")->valuedouble, 1 << 20);
	cr_assert_eq(
	        cJSON_GetObjectItem(cJSON_GetObjectItem(root, "vfio"), "transferred")->valuedouble,
	        transferred);
	cJSON_Delete(root);
	free(json);
	/* Of one that comes in there is nothing more to say. */
	cr_assert_eq(migration_query(x.dst->mig, &json, NULL), 0);
	cr_assert_not(strstr(json, "vfio"), "%s", json);
	free(json);
	pair_fini(&x);
}
