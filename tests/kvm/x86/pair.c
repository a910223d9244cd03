/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/pci.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

struct side *side_new(struct guest *g)
{
	const struct gw_migrate_params params = { .unplug_timeout_ms = (uint64_t)patience_ms() };
	struct side *s = calloc(1, sizeof(*s));
	int fds[2];

	s->g = g;
	pthread_mutex_init(&s->lock, NULL);
	cr_assert_eq(gw_vm_listen(g->vm, on_event, s, NULL), 0);
	cr_assert_eq(gw_vm_set_migrate_params(g->vm, &params, NULL), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	cr_assert_eq(gw_vm_give_fd(g->vm, "nic", fds[0], NULL), 0);
	close(fds[0]);
	s->nic = fds[1];
	return s;
}

void side_free(struct side *s)
{
	gw_vm_unlisten(s->g->vm, on_event, s);
	guest_free(s->g);
	close(s->nic);
	free(s);
}

bool pair_traced(struct side *s, const char *text)
{
	bool found;

	pthread_mutex_lock(&s->lock);
	found = strstr(s->trace, text);
	pthread_mutex_unlock(&s->lock);
	return found;
}

void pair_await(struct side *s, const char *text)
{
	wait_turning(pair_traced(s, text), usleep(1000), "no \"%s\" but \"%s\"", text, s->trace);
}

/* In this order, whatever is between them. */
void pair_order(struct side *s, const char *const *names)
{
	const char *at = s->trace;

	for (; *names; names++) {
		at = strstr(at, *names);
		cr_assert(at, "no %s at its place in \"%s\"", *names, s->trace);
	}
}

void pair_forget(struct side *s)
{
	pthread_mutex_lock(&s->lock);
	s->trace[0] = 0;
	pthread_mutex_unlock(&s->lock);
}

void pair_add(struct side *s, const char *json)
{
	struct gw_error err;

	cr_assert_eq(gw_vm_device_add(s->g->vm, json, &err), 0, "%s", err.text);
}

/* A guest that runs, with a pair that it has not been told of. */
struct side *pair_boot(void)
{
	struct side *s = side_new(guest_boot("dirtier", 1, 32));
	struct gw_migrate_params params = { .downtime_limit_ms = 2000 };

	cr_assert_eq(gw_vm_set_migrate_params(s->g->vm, &params, NULL), 0);
	pair_add(s, PAIR_NET);
	pair_add(s, PAIR_PRIMARY);
	cr_assert_eq(gw_vm_cont(s->g->vm, false, NULL), 0);
	return s;
}

/* ---- what the guest's drivers do ------------------------------------------------------------- */

/* With the locks that writing to it takes. */
static struct pci_function *lock_net(struct side *s)
{
	struct machine *m = s->g->vm->machine;
	struct virtio *v;

	pthread_mutex_lock(&s->g->vm->lock);
	v = container_of(machine_find_device(m, "net0"), struct virtio, device);
	machine_lock(m);
	return &v->function;
}

static void unlock_net(struct side *s)
{
	machine_unlock(s->g->vm->machine);
	pthread_mutex_unlock(&s->g->vm->lock);
}

static void write_common(struct side *s, unsigned offset, unsigned size, uint32_t value)
{
	struct pci_function *f = lock_net(s);

	f->ops->bar_write(f, 0, offset, size, value);
	unlock_net(s);
}

static void make_bus_master(struct side *s)
{
	/* The command register: memory space, bus master. */
	pci_config_write(lock_net(s), 4, 2, 0x6);
	unlock_net(s);
}

/* VIRTIO 1.2, 4.1.4.3 and 3.1.1. */
void pair_drive(struct side *s, uint64_t features)
{
	static const uint8_t steps[] = { VIRTIO_ACKNOWLEDGE, VIRTIO_DRIVER, VIRTIO_FEATURES_OK,
		                         VIRTIO_DRIVER_OK };
	uint8_t status = 0;

	features |= VIRTIO_F_VERSION_1 | NET_F_MAC;
	make_bus_master(s);
	write_common(s, 0x14, 1, 0);
	for (unsigned half = 0; half < 2; half++) {
		write_common(s, 0x08, 4, half);
		write_common(s, 0x0c, 4, (uint32_t)(features >> 32 * half));
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		write_common(s, 0x14, 1, status |= steps[i]);
}

uint32_t pair_read_pm(struct side *s, unsigned offset)
{
	struct machine *m = s->g->vm->machine;
	uint32_t value;

	machine_lock(m);
	value = (uint32_t)bus_read(&m->pio, PM_PORT + offset, 4);
	machine_unlock(m);
	return value;
}

/* Waits until the guest is asked for a slot; that bit. */
uint32_t pair_await_asked(struct side *s)
{
	uint32_t bits;

	wait_turning((bits = pair_read_pm(s, PM_PCI_DOWN)), usleep(1000),
	             "the guest was not asked");
	return bits;
}

void pair_eject(struct side *s, uint32_t bits)
{
	struct machine *m = s->g->vm->machine;

	machine_lock(m);
	bus_write(&m->pio, PM_PORT + PM_PCI_EJECT, 4, bits);
	machine_unlock(m);
}

bool pair_has(struct side *s, const char *id)
{
	bool is;

	pthread_mutex_lock(&s->g->vm->lock);
	is = machine_find_device(s->g->vm->machine, id);
	pthread_mutex_unlock(&s->g->vm->lock);
	return is;
}

/* The guest has both. */
struct side *pair_boot_both(void)
{
	struct side *s = pair_boot();

	pair_drive(s, NET_F_STANDBY);
	pair_await(s, " PLUG_PRIMARY:nic0 ");
	cr_assert(pair_has(s, "nic0"));
	pair_forget(s);
	return s;
}

struct side *pair_migrate(struct side *from, const char *path, const char *value)
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

void pair_says(struct side *s, const char *text)
{
	char *json;

	cr_assert_eq(gw_vm_query_migrate(s->g->vm, &json, NULL), 0);
	cr_assert(strstr(json, text), "no \"%s\" in %s", text, json);
	gw_free(json);
}
