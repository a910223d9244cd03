/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of devices: when the one comes, and when it leaves for the other. */
#include "pair.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- when it comes --------------------------------------------------------------------------- */

Test(failover, the_primary_is_hidden_until_the_driver_knows_of_pairs)
{
	struct side *s = pair_boot();
	char *json;

	cr_assert_not(pair_has(s, "nic0"));
	pair_drive(s, 0);
	usleep(100000);
	cr_assert_not(pair_has(s, "nic0"), "the driver knows nothing of it");
	cr_assert_eq(gw_vm_query_devices(s->g->vm, &json, NULL), 0);
	cr_assert(strstr(json, "{\"id\":\"nic0\",\"type\":\"virtio-rng\",\"info\":{\"plugged\":"
	                       "false}}"),
	          "%s", json);
	gw_free(json);

	pair_drive(s, NET_F_STANDBY);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	cr_assert(pair_has(s, "nic0"));
	pair_order(s, (const char *[]){ "FAILOVER_NEGOTIATED:net0 ", " PLUG_PRIMARY:nic0 ", NULL });
	cr_assert_neq(pair_read_pm(s, PM_PCI_UP), 0, "the guest is told");
	side_free(s);
}

Test(failover, a_primary_added_later_comes_at_once_if_it_may)
{
	struct side *s = pair_boot_both();
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(s->g->vm,
	                              "{\"id\":\"x\",\"type\":\"virtio-rng\","
	                              "\"failover\":\"net0\"}",
	                              &err),
	             -EINVAL);
	cr_assert(strstr(err.text, "net0 stands in for nic0 already"), "%s", err.text);
	cr_assert_eq(gw_vm_device_del(s->g->vm, "net0", &err), -EBUSY);
	cr_assert(strstr(err.text, "stands in for nic0"), "%s", err.text);

	cr_assert_eq(gw_vm_device_del(s->g->vm, "nic0", &err), 0, "%s", err.text);
	pair_eject(s, pair_await_asked(s));
	pair_await(s, "DEVICE_DELETED ");
	usleep(100000);
	cr_assert_not(pair_has(s, "nic0"), "it was not away, but deleted");
	pair_add(s, PAIR_PRIMARY);
	cr_assert(pair_has(s, "nic0"));
	side_free(s);
}

Test(failover, one_that_is_away_is_deleted_without_the_guest)
{
	struct side *s = pair_boot();
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(s->g->vm, PAIR_PRIMARY, &err), -EINVAL, "twice");
	cr_assert_eq(gw_vm_device_del(s->g->vm, "nic0", &err), 0, "%s", err.text);
	pair_await(s, "DEVICE_DELETED ");
	pair_drive(s, NET_F_STANDBY);
	pair_await(s, "FAILOVER_NEGOTIATED:net0 ");
	usleep(100000);
	cr_assert_not(pair_has(s, "nic0"));
	cr_assert_eq(gw_vm_device_del(s->g->vm, "nic0", &err), -ENOENT);
	side_free(s);
}

Test(failover, after_a_reset_the_next_driver_is_asked)
{
	struct side *s = pair_boot_both();
	struct gw_error err;

	cr_assert_eq(gw_vm_reset(s->g->vm, &err), 0, "%s", err.text);
	cr_assert_not(pair_has(s, "nic0"));
	pair_drive(s, 0);
	usleep(100000);
	cr_assert_not(pair_has(s, "nic0"));
	pair_drive(s, NET_F_STANDBY);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	cr_assert_not(pair_traced(s, "DEVICE_DELETED"));
	side_free(s);
}

/* What it needs of the host is not there any more when it could come. */
Test(failover, one_that_cannot_come_is_missed)
{
	struct side *s = side_new(guest_boot("dirtier", 1, 32));
	char path[128], json[256];

	snprintf(path, sizeof(path), "%s/random", s->g->dir);
	snprintf(json, sizeof(json),
	         "{\"id\":\"nic0\",\"type\":\"virtio-rng\",\"failover\":\"net0\",\"file\":\"%s\"}",
	         path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	pair_add(s, PAIR_NET);
	pair_add(s, json);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	unlink(path);
	pair_drive(s, NET_F_STANDBY);
	pair_await(s, "PRIMARY_MISSING:nic0 ");
	cr_assert_eq(gw_vm_state(s->g->vm), GW_STATE_RUNNING);
	cr_assert_not(pair_has(s, "nic0"));

	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(gw_vm_stop(s->g->vm, NULL), 0);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	side_free(s);
}

/* ---- moved ----------------------------------------------------------------------------------- */

Test(failover, it_leaves_moves_and_comes_back_there)
{
	struct side *s = pair_boot_both(), *to;

	for (int round = 0; round < 3; round++) {
		to = pair_migrate(s, NULL, NULL);
		pair_await(s, "MIGRATION:wait-unplug ");
		pair_says(s, "\"status\":\"wait-unplug\"");
		pair_eject(s, pair_await_asked(s));
		pair_await(s, "MIGRATION:completed ");
		pair_await(to, " PLUG_PRIMARY:nic0 ");
		cr_assert(pair_has(to, "nic0"));
		pair_order(s, (const char *[]){ "MIGRATION:setup ", "MIGRATION:wait-unplug ",
		                                "MIGRATION:active ", "MIGRATION:device ",
		                                "MIGRATION:completed ", NULL });
		cr_assert(pair_traced(s, "UNPLUG_PRIMARY:nic0 "));
		pair_order(to, (const char *[]){ "MIGRATION:active ", "FAILOVER_NEGOTIATED:net0 ",
		                                 " PLUG_PRIMARY:nic0 ", NULL });
		cr_assert_not(pair_traced(s, "DEVICE_DELETED"));
		cr_assert_not(pair_has(s, "nic0"));
		cr_assert_neq(pair_read_pm(to, PM_PCI_UP), 0);
		pair_await(to, "MIGRATION:completed ");
		pair_forget(to);
		side_free(s);
		s = to;
	}
	side_free(s);
}

Test(failover, a_destination_without_one_takes_the_guest)
{
	struct side *s = pair_boot_both(), *to = pair_migrate(s, "devices.nic0", "none");
	char *json;

	pair_eject(s, pair_await_asked(s));
	pair_await(s, "MIGRATION:completed ");
	pair_await(to, "MIGRATION:completed ");
	cr_assert_eq(gw_vm_query_config(to->g->vm, &json, NULL), 0);
	cr_assert_not(strstr(json, "nic0"), "%s", json);
	gw_free(json);
	pair_add(to, PAIR_PRIMARY);
	cr_assert(pair_has(to, "nic0"));
	side_free(s);
	side_free(to);
}

/* Everything as it was, and it can be moved still. */
static void expect_whole(struct side *s)
{
	struct side *to;

	cr_assert_eq(gw_vm_state(s->g->vm), GW_STATE_RUNNING);
	cr_assert(pair_has(s, "nic0"));
	cr_assert_not(pair_traced(s, "DEVICE_DELETED"));
	pair_forget(s);
	to = pair_migrate(s, NULL, NULL);
	pair_eject(s, pair_await_asked(s));
	pair_await(to, " PLUG_PRIMARY:nic0 ");
	side_free(to);
}

static void limit_unplug(struct side *s, unsigned ms)
{
	const struct gw_migrate_params params = { .unplug_timeout_ms = ms };

	cr_assert_eq(gw_vm_set_migrate_params(s->g->vm, &params, NULL), 0);
}

Test(failover, a_guest_that_keeps_it_stays)
{
	struct side *s = pair_boot_both(), *to;

	limit_unplug(s, 200);
	to = pair_migrate(s, NULL, NULL);
	pair_await(s, "MIGRATION:failed ");
	pair_says(s, "the guest has not let go within 200 ms; device nic0 is still there");
	cr_assert_not(pair_traced(s, "STOP"));
	cr_assert_eq(pair_read_pm(s, PM_PCI_DOWN), 0, "it is asked no longer");
	side_free(to);
	limit_unplug(s, (unsigned)patience_ms());
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_lets_go_too_late_gets_it_again)
{
	struct side *s = pair_boot_both(), *to;
	uint32_t bits;

	/* It has to be seen to be asked before that is over. */
	limit_unplug(s, (unsigned)patience_ms() / 30);
	to = pair_migrate(s, NULL, NULL);
	bits = pair_await_asked(s);
	pair_await(s, "MIGRATION:failed ");
	pair_eject(s, bits);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	side_free(to);
	limit_unplug(s, (unsigned)patience_ms());
	expect_whole(s);
	side_free(s);
}

Test(failover, cancelled_while_the_guest_has_it)
{
	struct side *s = pair_boot_both(), *to = pair_migrate(s, NULL, NULL);

	pair_await(s, "MIGRATION:wait-unplug ");
	cr_assert_eq(gw_vm_migrate_cancel(s->g->vm, NULL), 0);
	pair_await(s, "MIGRATION:cancelled ");
	cr_assert_not(pair_traced(s, " PLUG_PRIMARY:nic0 "), "it never left");
	side_free(to);
	expect_whole(s);
	side_free(s);
}

/* The destination refuses, which it does when the device has left already. */
Test(failover, it_comes_back_when_the_migration_fails_later)
{
	struct side *s = pair_boot_both(),
	            *to = pair_migrate(s, "devices.net0.tap", "no-such-name");

	pair_eject(s, pair_await_asked(s));
	pair_await(s, "MIGRATION:failed ");
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	pair_says(s, "destination");
	side_free(to);
	expect_whole(s);
	side_free(s);
}

Test(failover, nothing_is_asked_where_nobody_listens)
{
	struct side *s = pair_boot_both();

	cr_assert_eq(gw_vm_migrate(s->g->vm, "unix:/nonexistent/nobody", NULL), 0);
	pair_await(s, "MIGRATION:failed ");
	cr_assert_not(pair_traced(s, "PRIMARY"));
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_stands_cannot_let_go)
{
	struct side *s = pair_boot_both(), *to;

	cr_assert_eq(gw_vm_stop(s->g->vm, NULL), 0);
	to = pair_migrate(s, NULL, NULL);
	pair_await(s, "MIGRATION:failed ");
	pair_says(s, "device nic0 has to leave first, but the guest stands");
	cr_assert_eq(pair_read_pm(s, PM_PCI_DOWN), 0);
	side_free(to);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_resets_while_it_is_asked_stays)
{
	struct side *s = pair_boot_both(), *to = pair_migrate(s, NULL, NULL);
	struct machine *m = s->g->vm->machine;

	pair_await(s, "MIGRATION:wait-unplug ");
	m->notify.reset_requested(m->notify.opaque, "by the test");
	pair_await(s, "MIGRATION:failed ");
	pair_await(s, "RESET ");
	cr_assert_not(pair_has(s, "nic0"));
	side_free(to);
	pair_drive(s, NET_F_STANDBY);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	expect_whole(s);
	side_free(s);
}

/* Another device leaves by itself meanwhile: nothing has been sent yet. */
Test(failover, others_may_leave_while_it_is_waited_for)
{
	struct side *s = pair_boot_both(), *to;
	uint32_t slot;

	pair_add(s, "{\"id\":\"rng1\",\"type\":\"virtio-rng\"}");
	slot = machine_find_device(s->g->vm->machine, "rng1")->slot;
	to = pair_migrate(s, NULL, NULL);
	pair_await(s, "MIGRATION:wait-unplug ");
	pair_eject(s, 1u << slot);
	pair_await(s, "DEVICE_DELETED ");
	pair_eject(s, pair_await_asked(s));
	pair_await(s, "MIGRATION:completed ");
	pair_await(to, " PLUG_PRIMARY:nic0 ");
	side_free(s);
	side_free(to);
}

/* ---- saved ----------------------------------------------------------------------------------- */

struct saving {
	struct side *s;
	char dir[128];
	struct gw_error err;
	int r;
};

static void *save(void *opaque)
{
	struct saving *x = opaque;
	const struct gw_save_options options = { .size = sizeof(options),
		                                 .unplug_primaries = true };

	x->r = gw_vm_save_with(x->s->g->vm, x->dir, &options, &x->err);
	return NULL;
}

Test(failover, saved_without_it)
{
	struct side *s = pair_boot_both(), *to = side_new(guest_new());
	struct saving x = { .s = s };
	struct gw_map map = { "serial.log", NULL };
	char log[128];
	pthread_t thread;

	snprintf(x.dir, sizeof(x.dir), "%s/snap", s->g->dir);
	cr_assert_eq(gw_vm_save(s->g->vm, x.dir, &x.err), -ENOTSUP);
	cr_assert(strstr(x.err.text, "device nic0: net0 stands in for it"), "%s", x.err.text);
	cr_assert_eq(pthread_create(&thread, NULL, save, &x), 0);
	pair_eject(s, pair_await_asked(s));
	pthread_join(thread, NULL);
	cr_assert_eq(x.r, 0, "%s", x.err.text);
	pair_await(s, " PLUG_PRIMARY:nic0 ");

	snprintf(log, sizeof(log), "%s/out", to->g->dir);
	map.value = log;
	cr_assert_eq(gw_vm_restore(to->g->vm, x.dir, &map, 1, true, &x.err), 0, "%s", x.err.text);
	pair_await(to, " PLUG_PRIMARY:nic0 ");
	side_free(to);
	expect_whole(s);
	side_free(s);
}

static void *let_go(void *opaque)
{
	struct side *s = opaque;

	pair_eject(s, pair_await_asked(s));
	return NULL;
}

/* With the caller's own loop nobody but the waiting call itself is there to unplug it. */
Test(failover, saved_by_the_thread_that_runs_the_loop)
{
	const struct gw_options options = { .size = sizeof(options), .external_loop = true };
	struct guest *g = guest_boot("dirtier", 1, 32);
	struct saving x = { 0 };
	pthread_t thread;
	struct side *s;
	char *config;

	/* The same machine, in a VM without a thread. */
	cr_assert_eq(gw_vm_query_config(g->vm, &config, NULL), 0);
	gw_vm_free(g->vm);
	cr_assert_eq(gw_vm_new_with(&options, &g->vm, NULL), 0);
	cr_assert_eq(gw_vm_configure(g->vm, config, "again", &x.err), 0, "%s", x.err.text);
	gw_free(config);
	x.s = s = side_new(g);
	pair_add(s, PAIR_NET);
	pair_add(s, PAIR_PRIMARY);
	cr_assert_eq(gw_vm_cont(g->vm, false, NULL), 0);
	pair_drive(s, NET_F_STANDBY);
	while (!pair_traced(s, " PLUG_PRIMARY:nic0 "))
		cr_assert_eq(gw_vm_dispatch(g->vm, 1000, NULL), 0);
	pair_forget(s);

	snprintf(x.dir, sizeof(x.dir), "%s/snap", g->dir);
	cr_assert_eq(pthread_create(&thread, NULL, let_go, s), 0);
	save(&x);
	pthread_join(thread, NULL);
	cr_assert_eq(x.r, 0, "%s", x.err.text);
	cr_assert_not(pair_has(s, "nic0"));
	while (!pair_traced(s, " PLUG_PRIMARY:nic0 "))
		cr_assert_eq(gw_vm_dispatch(g->vm, 1000, NULL), 0);
	side_free(s);
}
