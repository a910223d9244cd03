/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs whose work is done by the test's own poll() loop, on the thread that makes all other calls
 * too; and several VMs in one process.
 */
#include "external.h"

#include "base/util.h"
#include "guest.h"
#include "vmm/memory.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the loop ------------------------------------------------------------------------------ */

static void expect_config(struct gw_vm *vm, const char *text)
{
	struct gw_error err_;
	char *json;

	cr_assert(gw_vm_query_config(vm, &json, &err_) == 0, "%s", err_.text);
	cr_assert(strstr(json, text), "%s: %s", text, json);
	gw_free(json);
}

Test(embed, made_from_a_struct)
{
	static const char *const devices[] = { "{\"id\":\"r\",\"type\":\"virtio-rng\"}",
		                               "{\"id\":\"p\",\"type\":\"pvpanic\"}" };
	struct guest *g = guest_new();
	char kernel[200], out[80];
	const struct gw_config config = {
		.size = sizeof(config),
		.name = "made",
		.memory = 64 << 20,
		.cpus = 2,
		.kernel = kernel,
		.cmdline = "a=b",
		.serial_log = out,
		.devices = devices,
		.device_count = 2,
		.more = "{\"clock\":\"realtime\",\"boot\":{},"
		        "\"devices\":[{\"id\":\"b\",\"type\":\"virtio-balloon\"}]}",
	};
	struct gw_error err_;

	guest_image("mixer", kernel, sizeof(kernel));
	snprintf(out, sizeof(out), "%s/out", g->dir);
	cr_assert(gw_vm_configure_with(g->vm, &config, &err_) == 0, "%s", err_.text);
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_PRELAUNCH);
	expect_config(g->vm, "\"name\":\"made\"");
	expect_config(g->vm, "\"cpus\":2");
	expect_config(g->vm, "67108864");
	expect_config(g->vm, "\"cmdline\":\"a=b\"");
	expect_config(g->vm, "\"clock\":\"realtime\"");
	expect_config(g->vm, "virtio-balloon");
	expect_config(g->vm, "virtio-rng");
	expect_config(g->vm, "pvpanic");
	expect_config(g->vm, out);
	guest_free(g);
}

Test(embed, a_guest_lives_by_poll_alone)
{
	struct guest *g = external_boot("mixer", 32);
	struct gw_error err_;

	run(g);
	turn_until_state(g, NULL, GW_STATE_SHUTDOWN);
	cr_assert_eq(strlen(guest_output(g)), 19, "output \"%s\"", guest_output(g));
	cr_assert_eq(gw_vm_wait(g->vm, -1, &err_), -EDEADLK);
	guest_free(g);
}

Test(embed, nothing_is_done_behind_the_loops_back)
{
	struct guest *g = external_boot("fault", 32);
	struct pollfd p = { .fd = gw_vm_fd(g->vm), .events = POLLIN };

	run(g);
	/* The guest has asked for a reset: the descriptor says so, and no more than that. */
	turn_until_output(g, "S\n");
	usleep(50000);
	g->events[0] = 0;
	cr_assert_eq(poll(&p, 1, patience_ms()), 1);
	usleep(50000);
	cr_assert(!seen(g, "RESET"));
	turn_until_event(g, "RESET");
	guest_free(g);
}

Test(embed, every_call_can_be_made_on_the_loops_thread)
{
	struct guest *g = external_boot("dirtier", 128), *h = external();
	struct gw_map map = { "serial.log", NULL };
	struct gw_error err_;
	char dir[128], log[128], *json;

	run(g);
	turn_until_output(g, "S\n");
	cr_assert(gw_vm_stop(g->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_reset(g->vm, &err_) == 0, "%s", err_.text);
	run(g);
	cr_assert(gw_vm_reset(g->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_powerdown(g->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_query_pci(g->vm, &json, &err_) == 0, "%s", err_.text);
	gw_free(json);
	snprintf(dir, sizeof(dir), "%s/snap", g->dir);
	snprintf(log, sizeof(log), "%s/out", h->dir);
	map.value = log;
	cr_assert(gw_vm_save(g->vm, dir, &err_) == 0, "%s", err_.text);
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_RUNNING);
	cr_assert(gw_vm_restore(h->vm, dir, &map, 1, true, &err_) == 0, "%s", err_.text);
	cr_assert_eq(gw_vm_state(h->vm), GW_STATE_RUNNING);
	for (int i = 0; i < 5; i++)
		turn(g, h);
	gw_vm_quit(h->vm);
	cr_assert_eq(gw_vm_wait(g->vm, 1, &err_), -EDEADLK);
	guest_free(h);
	guest_free(g);
}

/* The guest's request is still on its way to the loop. */
Test(embed, freed_with_work_left)
{
	for (int i = 0; i < 5; i++) {
		struct guest *g = external_boot("fault", 32);
		struct pollfd p = { .fd = gw_vm_fd(g->vm), .events = POLLIN };

		run(g);
		if (i & 1)
			turn_until_output(g, "S\n");
		poll(&p, 1, patience_ms());
		if (i & 2)
			gw_vm_quit(g->vm);
		guest_free(g);
	}
}

/* The loop has had no turn since it ran. */
Test(embed, a_guest_that_was_stopped_has_its_output_in_the_log)
{
	struct guest *g = external_boot("dirtier", 128);
	const volatile uint64_t *counter =
	        memory_hva(g->vm->machine->memory, GUEST_RAM + 0x1ff0000, 8);
	struct gw_error err_;

	run(g);
	wait_turning(*counter, sched_yield(), "it does not run");
	cr_assert_eq(gw_vm_stop(g->vm, &err_), 0, "%s", err_.text);
	cr_assert_str_eq(guest_output(g), "S\n");
	guest_free(g);
}

/* ---- migration ------------------------------------------------------------------------------- */

static void begin_migration(struct guest *from, struct guest *to)
{
	struct gw_map map = { "serial.log", NULL };
	struct gw_error err_;
	char uri[128], log[128];

	snprintf(uri, sizeof(uri), "unix:%s/mig", to->dir);
	snprintf(log, sizeof(log), "%s/out", to->dir);
	map.value = log;
	cr_assert(gw_vm_incoming(to->vm, uri, &map, 1, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_migrate(from->vm, uri, &err_) == 0, "%s", err_.text);
}

static void set_params(struct guest *g, uint64_t downtime_ms, uint64_t bandwidth)
{
	const struct gw_migrate_params params = {
		.downtime_limit_ms = downtime_ms,
		.max_bandwidth = bandwidth,
	};
	struct gw_error err_;

	cr_assert(gw_vm_set_migrate_params(g->vm, &params, &err_) == 0, "%s", err_.text);
}

Test(embed, moved_between_two_vms_of_one_loop)
{
	struct guest *g = external_boot("dirtier", 128), *h = external();

	set_params(g, 2000, UINT64_MAX);
	run(g);
	turn_until_output(g, "S\n");
	begin_migration(g, h);
	turn_until_state(g, h, GW_STATE_POSTMIGRATE);
	turn_until_state(h, g, GW_STATE_RUNNING);
	guest_free(g);
	cr_assert(gw_vm_stop(h->vm, NULL) == 0);
	guest_free(h);
}

/* The loop's thread waits in gw_vm_dispatch() for the migration, which must not wait for it. */
Test(embed, a_guest_that_resets_ends_its_migration)
{
	struct guest *g = external_boot("fault", 128), *h = external();

	guest_fill(g);
	set_params(g, 300, 1 << 20);
	begin_migration(g, h);
	run(g);
	wait_turning(seen(g, "RESET"), turn(g, h), "no reset");
	wait_turning(guest_migration_is(g, "failed"), turn(g, h), "it goes on");
	guest_free(h);
	guest_free(g);
}

Test(embed, freed_while_it_migrates)
{
	struct guest *g = external_boot("dirtier", 128), *h = external();

	guest_fill(g);
	set_params(g, 1, 20 << 20);
	run(g);
	turn_until_output(g, "S\n");
	begin_migration(g, h);
	wait_turning(guest_migration_is(g, "active"), turn(g, h), "it does not begin");
	guest_free(g);
	for (int i = 0; i < 5; i++)
		turn(h, NULL);
	guest_free(h);
}

/* ---- several VMs -------------------------------------------------------------------------------
 */

Test(embed, one_is_destroyed_while_another_migrates)
{
	struct guest *from = guest_boot("dirtier", 1, 128), *to = guest_new();
	struct guest *other = guest_boot("dirtier", 1, 128);

	/* Too slow to end by itself. */
	guest_fill(from);
	set_params(from, 1, 20 << 20);
	run(from);
	run(other);
	guest_await(from, "S\n");
	guest_await(other, "S\n");
	begin_migration(from, to);
	wait_until(guest_migration_is(from, "active"));
	guest_free(other);
	cr_assert(guest_migration_is(from, "active"));
	set_params(from, 2000, UINT64_MAX);
	wait_until(guest_migration_is(from, "completed"));
	guest_free(from);
	cr_assert_eq(gw_vm_state(to->vm), GW_STATE_RUNNING);
	guest_free(to);
}

Test(embed, another_runs_on_while_a_migrating_one_is_destroyed)
{
	struct guest *from = guest_boot("dirtier", 1, 128), *to = guest_new();
	struct guest *other = guest_boot("mixer", 1, 32);

	guest_fill(from);
	set_params(from, 1, 20 << 20);
	run(from);
	run(other);
	guest_await(from, "S\n");
	begin_migration(from, to);
	wait_until(guest_migration_is(from, "active"));
	guest_free(from);
	guest_free(to);
	guest_await_end(other);
	cr_assert_eq(strlen(guest_output(other)), 19, "output \"%s\"", guest_output(other));
	guest_free(other);
}
