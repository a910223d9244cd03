/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairs of devices, one of which stands in for the other while the machine is moved. The guest
 * knows of no device; what its drivers would do is done here, by the registers that they would use.
 */
#include "harness.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/pci.h"
#include "vmm/pm.h"
#include "vmm/virtio/net.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(failover, .timeout = 120);

#define LIMIT_MS 30000

/* A VM with its events, those of migration with their status. */
struct side {
	struct guest *g;
	int nic; /* the other end of the virtio-net */
	pthread_mutex_t lock;
	char trace[4096];
};

static void on_event(void *opaque, const struct gw_event *event)
{
	struct side *s = opaque;
	cJSON *data = cJSON_Parse(event->data);
	const cJSON *word = cJSON_GetObjectItem(data, "status");

	if (!word)
		word = cJSON_GetObjectItem(data, "device-id");
	pthread_mutex_lock(&s->lock);
	snprintf(s->trace + strlen(s->trace), sizeof(s->trace) - strlen(s->trace), " %s%s%s ",
	         event->name, word ? ":" : "", word ? word->valuestring : "");
	pthread_mutex_unlock(&s->lock);
	cJSON_Delete(data);
}

static struct side *side_new(struct guest *g)
{
	struct side *s = calloc(1, sizeof(*s));
	int fds[2];

	s->g = g;
	pthread_mutex_init(&s->lock, NULL);
	cr_assert_eq(gw_vm_listen(g->vm, on_event, s, NULL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	cr_assert_eq(gw_vm_give_fd(g->vm, "nic", fds[0], NULL), 0);
	close(fds[0]);
	s->nic = fds[1];
	return s;
}

static void side_free(struct side *s)
{
	gw_vm_unlisten(s->g->vm, on_event, s);
	guest_free(s->g);
	close(s->nic);
	free(s);
}

static bool traced(struct side *s, const char *text)
{
	bool found;

	pthread_mutex_lock(&s->lock);
	found = strstr(s->trace, text);
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void await_trace(struct side *s, const char *text)
{
	const int64_t end = now_ms() + LIMIT_MS;

	while (!traced(s, text)) {
		cr_assert(now_ms() < end, "no \"%s\" but \"%s\"", text, s->trace);
		usleep(1000);
	}
}

/* In this order, whatever is between them. */
static void expect_order(struct side *s, const char *const *names)
{
	const char *at = s->trace;

	for (; *names; names++) {
		at = strstr(at, *names);
		cr_assert(at, "no %s at its place in \"%s\"", *names, s->trace);
	}
}

static void forget_trace(struct side *s)
{
	pthread_mutex_lock(&s->lock);
	s->trace[0] = 0;
	pthread_mutex_unlock(&s->lock);
}

#define NET                                                                                        \
	"{\"id\":\"net0\",\"type\":\"virtio-net\",\"fd\":\"nic\",\"standby\":true,"                \
	"\"mac\":\"52:54:00:12:34:56\",\"vhost\":\"off\"}"
#define PRIMARY "{\"id\":\"nic0\",\"type\":\"virtio-rng\",\"failover\":\"net0\"}"

static void add(struct side *s, const char *json)
{
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(s->g->vm, json, &err), 0, "%s", err.text);
}

/* A guest that runs, with a pair that it has not been told of. */
static struct side *boot(void)
{
	struct side *s = side_new(guest_boot("dirtier", 1, 32));
	struct gw_migrate_params params = { .downtime_limit_ms = 2000 };

	cr_assert_eq(gw_vm_set_migrate_params(s->g->vm, &params, NULL), 0);
	add(s, NET);
	add(s, PRIMARY);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	return s;
}

/* ---- what the guest's drivers do ------------------------------------------------------------- */

static void write_common(struct side *s, unsigned offset, unsigned size, uint32_t value)
{
	struct machine *m = s->g->vm->machine;
	struct virtio *v;

	pthread_mutex_lock(&s->g->vm->lock);
	v = container_of(machine_find_device(m, "net0"), struct virtio, device);
	machine_lock(m);
	v->function.ops->bar_write(&v->function, 0, offset, size, value);
	machine_unlock(m);
	pthread_mutex_unlock(&s->g->vm->lock);
}

/* VIRTIO 1.2, 4.1.4.3 and 3.1.1. */
static void drive_net(struct side *s, uint64_t features)
{
	static const uint8_t steps[] = { VIRTIO_ACKNOWLEDGE, VIRTIO_DRIVER, VIRTIO_FEATURES_OK,
		                         VIRTIO_DRIVER_OK };
	uint8_t status = 0;

	features |= VIRTIO_F_VERSION_1 | NET_F_MAC;
	write_common(s, 0x14, 1, 0);
	for (unsigned half = 0; half < 2; half++) {
		write_common(s, 0x08, 4, half);
		write_common(s, 0x0c, 4, (uint32_t)(features >> 32 * half));
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		write_common(s, 0x14, 1, status |= steps[i]);
}

static uint32_t read_pm(struct side *s, unsigned offset)
{
	struct machine *m = s->g->vm->machine;
	uint32_t value;

	machine_lock(m);
	value = (uint32_t)bus_read(&m->pio, PM_PORT + offset, 4);
	machine_unlock(m);
	return value;
}

/* Waits until the guest is asked for a slot; that bit. */
static uint32_t await_asked(struct side *s)
{
	const int64_t end = now_ms() + LIMIT_MS;
	uint32_t bits;

	while (!(bits = read_pm(s, PM_PCI_DOWN))) {
		cr_assert(now_ms() < end, "the guest was not asked");
		usleep(1000);
	}
	return bits;
}

static void eject(struct side *s, uint32_t bits)
{
	struct machine *m = s->g->vm->machine;

	machine_lock(m);
	bus_write(&m->pio, PM_PORT + PM_PCI_EJECT, 4, bits);
	machine_unlock(m);
}

static bool is_plugged(struct side *s, const char *id)
{
	bool is;

	pthread_mutex_lock(&s->g->vm->lock);
	is = machine_find_device(s->g->vm->machine, id);
	pthread_mutex_unlock(&s->g->vm->lock);
	return is;
}

/* The guest has both. */
static struct side *boot_pair(void)
{
	struct side *s = boot();

	drive_net(s, NET_F_STANDBY);
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	cr_assert(is_plugged(s, "nic0"));
	forget_trace(s);
	return s;
}

static struct side *begin_migration(struct side *from, const char *path, const char *value)
{
	struct side *to = side_new(guest_new());
	struct gw_map map[] = { { "serial.log", NULL }, { path, value } };
	struct gw_error err;
	char uri[128], log[128];

	snprintf(uri, sizeof(uri), "unix:%s/mig", to->g->dir);
	snprintf(log, sizeof(log), "%s/out", to->g->dir);
	map[0].value = log;
	cr_assert_eq(gw_vm_incoming(to->g->vm, uri, map, path ? 2 : 1, &err), 0, "%s", err.text);
	cr_assert_eq(gw_vm_migrate(from->g->vm, uri, &err), 0, "%s", err.text);
	return to;
}

static void expect_error(struct side *s, const char *text)
{
	char *json;

	cr_assert_eq(gw_vm_query_migrate(s->g->vm, &json, NULL), 0);
	cr_assert(strstr(json, text), "no \"%s\" in %s", text, json);
	gw_free(json);
}

/* ---- when it comes --------------------------------------------------------------------------- */

Test(failover, the_primary_is_hidden_until_the_driver_knows_of_pairs)
{
	struct side *s = boot();
	char *json;

	cr_assert_not(is_plugged(s, "nic0"));
	drive_net(s, 0);
	usleep(100000);
	cr_assert_not(is_plugged(s, "nic0"), "the driver knows nothing of it");
	cr_assert_eq(gw_vm_query_devices(s->g->vm, &json, NULL), 0);
	cr_assert(strstr(json, "{\"id\":\"nic0\",\"type\":\"virtio-rng\",\"info\":{\"plugged\":"
	                       "false}}"),
	          "%s", json);
	gw_free(json);

	drive_net(s, NET_F_STANDBY);
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	cr_assert(is_plugged(s, "nic0"));
	expect_order(s,
	             (const char *[]){ "FAILOVER_NEGOTIATED:net0 ", " PLUG_PRIMARY:nic0 ", NULL });
	cr_assert_neq(read_pm(s, PM_PCI_UP), 0, "the guest is told");
	side_free(s);
}

Test(failover, a_primary_added_later_comes_at_once_if_it_may)
{
	struct side *s = boot_pair();
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
	eject(s, await_asked(s));
	await_trace(s, "DEVICE_DELETED ");
	usleep(100000);
	cr_assert_not(is_plugged(s, "nic0"), "it was not away, but deleted");
	add(s, PRIMARY);
	cr_assert(is_plugged(s, "nic0"));
	side_free(s);
}

Test(failover, one_that_is_away_is_deleted_without_the_guest)
{
	struct side *s = boot();
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(s->g->vm, PRIMARY, &err), -EINVAL, "twice");
	cr_assert_eq(gw_vm_device_del(s->g->vm, "nic0", &err), 0, "%s", err.text);
	await_trace(s, "DEVICE_DELETED ");
	drive_net(s, NET_F_STANDBY);
	await_trace(s, "FAILOVER_NEGOTIATED:net0 ");
	usleep(100000);
	cr_assert_not(is_plugged(s, "nic0"));
	cr_assert_eq(gw_vm_device_del(s->g->vm, "nic0", &err), -ENOENT);
	side_free(s);
}

Test(failover, after_a_reset_the_next_driver_is_asked)
{
	struct side *s = boot_pair();
	struct gw_error err;

	cr_assert_eq(gw_vm_reset(s->g->vm, &err), 0, "%s", err.text);
	cr_assert_not(is_plugged(s, "nic0"));
	drive_net(s, 0);
	usleep(100000);
	cr_assert_not(is_plugged(s, "nic0"));
	drive_net(s, NET_F_STANDBY);
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	cr_assert_not(traced(s, "DEVICE_DELETED"));
	side_free(s);
}

/* ---- moved ----------------------------------------------------------------------------------- */

Test(failover, it_leaves_moves_and_comes_back_there)
{
	struct side *s = boot_pair(), *to;

	for (int round = 0; round < 3; round++) {
		to = begin_migration(s, NULL, NULL);
		await_trace(s, "MIGRATION:wait-unplug ");
		expect_error(s, "\"status\":\"wait-unplug\"");
		eject(s, await_asked(s));
		await_trace(s, "MIGRATION:completed ");
		await_trace(to, " PLUG_PRIMARY:nic0 ");
		cr_assert(is_plugged(to, "nic0"));
		expect_order(s, (const char *[]){ "MIGRATION:setup ", "MIGRATION:wait-unplug ",
		                                  "MIGRATION:active ", "MIGRATION:device ",
		                                  "MIGRATION:completed ", NULL });
		cr_assert(traced(s, "UNPLUG_PRIMARY:nic0 "));
		expect_order(to, (const char *[]){ "MIGRATION:active ", "FAILOVER_NEGOTIATED:net0 ",
		                                   " PLUG_PRIMARY:nic0 ", NULL });
		cr_assert_not(traced(s, "DEVICE_DELETED"));
		cr_assert_not(is_plugged(s, "nic0"));
		cr_assert_neq(read_pm(to, PM_PCI_UP), 0);
		await_trace(to, "MIGRATION:completed ");
		forget_trace(to);
		side_free(s);
		s = to;
	}
	side_free(s);
}

Test(failover, a_destination_without_one_takes_the_guest)
{
	struct side *s = boot_pair(), *to = begin_migration(s, "devices.nic0", "none");
	char *json;

	eject(s, await_asked(s));
	await_trace(s, "MIGRATION:completed ");
	await_trace(to, "MIGRATION:completed ");
	cr_assert_eq(gw_vm_query_config(to->g->vm, &json, NULL), 0);
	cr_assert_not(strstr(json, "nic0"), "%s", json);
	gw_free(json);
	add(to, PRIMARY);
	cr_assert(is_plugged(to, "nic0"));
	side_free(s);
	side_free(to);
}

/* Everything as it was, and it can be moved still. */
static void expect_whole(struct side *s)
{
	struct side *to;

	cr_assert_eq(gw_vm_state(s->g->vm), GW_STATE_RUNNING);
	cr_assert(is_plugged(s, "nic0"));
	cr_assert_not(traced(s, "DEVICE_DELETED"));
	forget_trace(s);
	to = begin_migration(s, NULL, NULL);
	eject(s, await_asked(s));
	await_trace(to, " PLUG_PRIMARY:nic0 ");
	side_free(to);
}

static void limit_unplug(struct side *s, unsigned ms)
{
	const struct gw_migrate_params params = { .unplug_timeout_ms = ms };

	cr_assert_eq(gw_vm_set_migrate_params(s->g->vm, &params, NULL), 0);
}

Test(failover, a_guest_that_keeps_it_stays)
{
	struct side *s = boot_pair(), *to;

	limit_unplug(s, 200);
	to = begin_migration(s, NULL, NULL);
	await_trace(s, "MIGRATION:failed ");
	expect_error(s, "the guest has not let go within 200 ms; device nic0 is still there");
	cr_assert_not(traced(s, "STOP"));
	cr_assert_eq(read_pm(s, PM_PCI_DOWN), 0, "it is asked no longer");
	side_free(to);
	limit_unplug(s, LIMIT_MS);
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_lets_go_too_late_gets_it_again)
{
	struct side *s = boot_pair(), *to;
	uint32_t bits;

	limit_unplug(s, 200);
	to = begin_migration(s, NULL, NULL);
	bits = await_asked(s);
	await_trace(s, "MIGRATION:failed ");
	eject(s, bits);
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	side_free(to);
	limit_unplug(s, LIMIT_MS);
	expect_whole(s);
	side_free(s);
}

Test(failover, cancelled_while_the_guest_has_it)
{
	struct side *s = boot_pair(), *to = begin_migration(s, NULL, NULL);

	await_trace(s, "MIGRATION:wait-unplug ");
	cr_assert_eq(gw_vm_migrate_cancel(s->g->vm, NULL), 0);
	await_trace(s, "MIGRATION:cancelled ");
	cr_assert_not(traced(s, " PLUG_PRIMARY:nic0 "), "it never left");
	side_free(to);
	expect_whole(s);
	side_free(s);
}

/* The destination refuses, which it does when the device has left already. */
Test(failover, it_comes_back_when_the_migration_fails_later)
{
	struct side *s = boot_pair(), *to = begin_migration(s, "devices.net0.tap", "no-such-name");

	eject(s, await_asked(s));
	await_trace(s, "MIGRATION:failed ");
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	expect_error(s, "destination");
	side_free(to);
	expect_whole(s);
	side_free(s);
}

Test(failover, nothing_is_asked_where_nobody_listens)
{
	struct side *s = boot_pair();

	cr_assert_eq(gw_vm_migrate(s->g->vm, "unix:/nonexistent/nobody", NULL), 0);
	await_trace(s, "MIGRATION:failed ");
	cr_assert_not(traced(s, "PRIMARY"));
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_stands_cannot_let_go)
{
	struct side *s = boot_pair(), *to;

	cr_assert_eq(gw_vm_stop(s->g->vm, NULL), 0);
	to = begin_migration(s, NULL, NULL);
	await_trace(s, "MIGRATION:failed ");
	expect_error(s, "device nic0 has to leave first, but the guest stands");
	cr_assert_eq(read_pm(s, PM_PCI_DOWN), 0);
	side_free(to);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	expect_whole(s);
	side_free(s);
}

Test(failover, a_guest_that_resets_while_it_is_asked_stays)
{
	struct side *s = boot_pair(), *to = begin_migration(s, NULL, NULL);
	struct machine *m = s->g->vm->machine;

	await_trace(s, "MIGRATION:wait-unplug ");
	m->notify.reset_requested(m->notify.opaque, "by the test");
	await_trace(s, "MIGRATION:failed ");
	await_trace(s, "RESET ");
	cr_assert_not(is_plugged(s, "nic0"));
	side_free(to);
	drive_net(s, NET_F_STANDBY);
	await_trace(s, " PLUG_PRIMARY:nic0 ");
	expect_whole(s);
	side_free(s);
}

/* Another device leaves by itself meanwhile: nothing has been sent yet. */
Test(failover, others_may_leave_while_it_is_waited_for)
{
	struct side *s = boot_pair(), *to;
	uint32_t slot;

	add(s, "{\"id\":\"rng1\",\"type\":\"virtio-rng\"}");
	slot = machine_find_device(s->g->vm->machine, "rng1")->slot;
	to = begin_migration(s, NULL, NULL);
	await_trace(s, "MIGRATION:wait-unplug ");
	eject(s, 1u << slot);
	await_trace(s, "DEVICE_DELETED ");
	eject(s, await_asked(s));
	await_trace(s, "MIGRATION:completed ");
	await_trace(to, " PLUG_PRIMARY:nic0 ");
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
	struct side *s = boot_pair(), *to = side_new(guest_new());
	struct saving x = { .s = s };
	struct gw_map map = { "serial.log", NULL };
	char log[128];
	pthread_t thread;

	snprintf(x.dir, sizeof(x.dir), "%s/snap", s->g->dir);
	cr_assert_eq(gw_vm_save(s->g->vm, x.dir, &x.err), -ENOTSUP);
	cr_assert(strstr(x.err.text, "device nic0: net0 stands in for it"), "%s", x.err.text);
	cr_assert_eq(pthread_create(&thread, NULL, save, &x), 0);
	eject(s, await_asked(s));
	pthread_join(thread, NULL);
	cr_assert_eq(x.r, 0, "%s", x.err.text);
	await_trace(s, " PLUG_PRIMARY:nic0 ");

	snprintf(log, sizeof(log), "%s/out", to->g->dir);
	map.value = log;
	cr_assert_eq(gw_vm_restore(to->g->vm, x.dir, &map, 1, true, &x.err), 0, "%s", x.err.text);
	await_trace(to, " PLUG_PRIMARY:nic0 ");
	side_free(to);
	expect_whole(s);
	side_free(s);
}
