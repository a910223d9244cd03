/* SPDX-License-Identifier: Apache-2.0 */
/* Devices at run time, with a guest that does not know of any: what the VM does by itself. */
#include "harness.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void add(struct guest *g, const char *json)
{
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(g->vm, json, &err), 0, "%s", err.text);
}

static struct guest *running(void)
{
	struct guest *g = guest_boot("dirtier", 1, 128);
	struct gw_error err;

	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	add(g, "{\"id\":\"rng0\",\"type\":\"virtio-rng\"}");
	return g;
}

static bool has(struct guest *g, const char *id)
{
	char *json = NULL, quoted[64];
	bool found;

	cr_assert_eq(gw_vm_query_devices(g->vm, &json, NULL), 0);
	snprintf(quoted, sizeof(quoted), "\"%s\"", id);
	found = strstr(json, quoted);
	gw_free(json);
	cr_assert_eq(gw_vm_query_config(g->vm, &json, NULL), 0);
	cr_assert_eq(found, strstr(json, quoted) != NULL, "the configuration says else: %s", json);
	gw_free(json);
	return found;
}

Test(devices, a_guest_that_keeps_one_is_told_of)
{
	struct guest *g = running();
	struct gw_error err;

	cr_assert_eq(gw_vm_device_unplug(g->vm, "rng0", 100, false, &err), 0, "%s", err.text);
	guest_await_event(g, "DEVICE_UNPLUG_GUEST_ERROR ");
	cr_assert(has(g, "rng0"));
	guest_free(g);
}

Test(devices, one_is_taken_from_a_guest_that_keeps_it)
{
	struct guest *g = running();
	struct gw_error err;

	cr_assert_eq(gw_vm_device_unplug(g->vm, "rng0", 100, true, &err), 0, "%s", err.text);
	guest_await_event(g, "DEVICE_DELETED ");
	cr_assert_not(has(g, "rng0"));
	/* Id and slot are free; the time limit of the old one is not the new one's. */
	add(g, "{\"id\":\"rng0\",\"type\":\"virtio-rng\"}");
	usleep(300000);
	cr_assert(has(g, "rng0"));
	cr_assert_eq(gw_vm_device_unplug(g->vm, "none", 1, true, &err), -ENOENT);
	cr_assert_eq(err.cls, GW_ERROR_DEVICE_NOT_FOUND);
	guest_free(g);
}

/* Asks for the device back, then moves the guest, so slowly that the time limit comes first. */
static struct guest *leave_with_limit(struct guest *g, bool force)
{
	struct gw_migrate_params params = { .max_bandwidth = 256 << 10 };
	struct guest *to = guest_new();
	struct gw_map map[] = { { "serial.log", NULL } };
	struct gw_error err;
	char uri[128], log[128];

	snprintf(uri, sizeof(uri), "unix:%s/mig", to->dir);
	snprintf(log, sizeof(log), "%s/out", to->dir);
	map[0].value = log;
	guest_fill(g);
	cr_assert_eq(gw_vm_set_migrate_params(g->vm, &params, &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_incoming(to->vm, uri, map, 1, &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_device_unplug(g->vm, "rng0", (unsigned)patience_ms() / 30, force, &err),
	             0, "%s", err.text);
	cr_assert_eq(gw_vm_migrate(g->vm, uri, &err), 0, "%s", err.text);
	return to;
}

Test(devices, a_guest_that_keeps_one_moves_on)
{
	struct guest *g = running(), *to = leave_with_limit(g, false);
	struct gw_error err;

	guest_await_event(g, "DEVICE_UNPLUG_GUEST_ERROR ");
	/* How far it has come depends on how long the other side takes to make its machine. */
	cr_assert(guest_migration_is(g, "setup") || guest_migration_is(g, "active"));
	cr_assert_eq(gw_vm_migrate_cancel(g->vm, &err), 0);
	guest_free(g);
	guest_free(to);
}

Test(devices, a_guest_that_one_is_taken_from_stays)
{
	struct guest *g = running(), *to = leave_with_limit(g, true);

	guest_await_event(g, "DEVICE_DELETED ");
	cr_assert(guest_migration_is(g, "failed"));
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_RUNNING);
	cr_assert_not(has(g, "rng0"));
	guest_free(g);
	guest_free(to);
}

static void keep_data(void *to, const struct gw_event *event)
{
	if (!strcmp(event->name, "DEVICE_DELETED"))
		snprintf(to, 256, "%s", event->data);
}

/* The longest id that there is; the event has all of it. */
#define LONGEST "rng0123456789012345678901234567"

Test(devices, a_guest_that_never_ran_lets_go_at_once)
{
	struct guest *g = guest_boot("dirtier", 1, 128);
	char data[256] = "";
	struct gw_error err;

	cr_assert_eq(gw_vm_listen(g->vm, keep_data, data, &err), 0);
	add(g, "{\"id\":\"" LONGEST "\",\"type\":\"virtio-rng\"}");
	cr_assert_eq(gw_vm_device_del(g->vm, LONGEST, &err), 0, "%s", err.text);
	cr_assert_not(has(g, LONGEST));
	cr_assert_str_eq(data, "{\"device\":\"" LONGEST "\",\"path\":\"/machine/" LONGEST "\"}");
	guest_free(g);
}

Test(devices, are_asked_by_name)
{
	struct guest *g = running();
	struct gw_error err;
	char *ret = NULL;

	add(g, "{\"id\":\"b0\",\"type\":\"virtio-balloon\"}");
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "query-balloon", NULL, &ret, &err), 0, "%s",
	             err.text);
	cr_assert_str_eq(ret, "{\"actual\":134217728}");
	gw_free(ret);
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "sing", NULL, NULL, &err), -EOPNOTSUPP);
	cr_assert(strstr(err.text, "virtio-balloon has no command \"sing\""), "%s", err.text);
	cr_assert_eq(gw_vm_device_command(g->vm, "b1", "sing", NULL, NULL, &err), -ENOENT);
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "query-balloon", "[1]", NULL, &err),
	             -EINVAL);
	guest_free(g);
}

Test(devices, descriptors_are_given_by_name)
{
	struct guest *g = running();
	const char *disk = "{\"id\":\"d0\",\"type\":\"virtio-blk\",\"fd\":\"my disk\"}";
	struct gw_error err;
	int fd = memfd_create("disk", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, 1 << 20), 0);
	cr_assert_eq(gw_vm_device_add(g->vm, disk, &err), -ENOENT);
	cr_assert(strstr(err.text, "my disk"), "%s", err.text);
	cr_assert_eq(gw_vm_give_fd(g->vm, "my disk", fd, &err), 0, "%s", err.text);
	close(fd);
	add(g, disk);
	cr_assert(has(g, "d0"));
	cr_assert_eq(gw_vm_drop_fd(g->vm, "my disk", &err), 0);
	cr_assert_eq(gw_vm_drop_fd(g->vm, "my disk", &err), -ENOENT);
	cr_assert_eq(gw_vm_give_fd(g->vm, "", 0, &err), -EINVAL);
	cr_assert_eq(gw_vm_give_fd(g->vm, "x", 9999, &err), -EINVAL);
	guest_free(g);
}
