/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairs: a NIC that cannot be moved, the primary, and a virtio-net of the same
 * address that stands in for it (config_device.failover).
 *
 * The primary is in the configuration, and in the machine only while the
 * guest can do with two NICs of one address: from when its driver of the
 * stand-in has said that it knows of such pairs, until a migration begins.
 * Then the guest is asked to let go of it, as for device_del, and it comes
 * back when the migration is over: here if that failed, otherwise at the
 * destination, where it is plugged in once the guest runs. After a reset the
 * next driver is asked anew.
 *
 * Those that are in the configuration without being in the machine are
 * "away". When one can come is looked at whenever that may have changed
 * (vm_failover_look), by the loop's thread.
 */
#include "vm.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/pci.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

bool vm_failover_is_away(struct gw_vm *vm, const struct config_device *config)
{
	return config->failover[0] && !machine_find_device(vm->machine, config->id);
}

static struct device *stand_in_of(struct gw_vm *vm, const struct config_device *config)
{
	return machine_find_device(vm->machine, config->failover);
}

bool vm_failover_may_come(struct gw_vm *vm, const struct config_device *config)
{
	struct device *d = stand_in_of(vm, config);

	return d && d->driver->stands_in && d->driver->stands_in(d);
}

/* ---- coming ---------------------------------------------------------------------------------- */

static void tell_missing(struct gw_vm *vm, const char *id, const char *why)
{
	cJSON *data = cJSON_CreateObject();
	char *text = NULL;

	log_error(&vm->log, "device %s cannot be plugged in, the guest goes on without it: %s", id,
	          why);
	if (cJSON_AddStringToObject(data, "device-id", id) &&
	    cJSON_AddStringToObject(data, "reason", why))
		text = cJSON_PrintUnformatted(data);
	if (text)
		vm_emit(vm, "PRIMARY_MISSING", text);
	cJSON_free(text);
	cJSON_Delete(data);
}

static bool slot_is_taken(struct machine *m, unsigned slot)
{
	bool taken;

	machine_lock(m);
	taken = pci_slot(m->pci, slot, 0);
	machine_unlock(m);
	return taken;
}

int vm_failover_plug(struct gw_vm *vm, struct config_device *config, struct gw_error *err)
{
	char data[64];
	int r;

	/* Another device may have come into its slot while it was away. */
	if (slot_is_taken(vm->machine, pci_place(config->slot, config->port)))
		config->slot = config->port = 0;
	r = vm_add_device(vm, config, true, err);
	if (r < 0)
		return r;
	snprintf(data, sizeof(data), "{\"device-id\":\"%s\"}", config->id);
	vm_emit(vm, "PLUG_PRIMARY", data);
	return 0;
}

static void plug_due(void *opaque)
{
	struct gw_vm *vm = opaque;
	struct gw_error err;

	pthread_mutex_lock(&vm->lock);
	for (unsigned i = 0; vm->machine && i < vm->machine->config.device_count; i++) {
		struct config_device *config = &vm->machine->config.devices[i];

		if (vm->quit || vm_check_may_change(vm, NULL) < 0)
			break;
		if (vm_failover_is_away(vm, config) && vm_failover_may_come(vm, config) &&
		    vm_failover_plug(vm, config, &err) < 0)
			tell_missing(vm, config->id, err.text);
	}
	pthread_mutex_unlock(&vm->lock);
}

void vm_failover_look(struct gw_vm *vm)
{
	loop_post(vm->loop, plug_due, vm);
}

/* ---- going ----------------------------------------------------------------------------------- */

/* Its slot's; it has one once it was plugged in. */
static uint64_t bit_of(const struct config_device *config)
{
	const unsigned place = pci_place(config->slot, config->port);

	return place < PCI_PLACES ? 1ull << place : 0;
}

bool vm_failover_left(struct gw_vm *vm, struct config_device *config)
{
	const uint64_t bit = bit_of(config);
	const bool stays = config->failover[0] && (vm->leaving & bit) && !(vm->deleting & bit);
	struct device *d = config->failover[0] ? stand_in_of(vm, config) : NULL;

	vm->leaving &= ~bit;
	vm->deleting &= ~bit;
	if (d && d->driver->take_over)
		d->driver->take_over(d);
	/* It may be late, and the migration that it left for be over. */
	if (stays)
		vm_failover_look(vm);
	return stays;
}

void vm_failover_reset(struct gw_vm *vm)
{
	struct machine *m = vm->machine;

	for (unsigned i = 0; i < m->config.device_count; i++) {
		struct config_device *config = &m->config.devices[i];
		struct device *d = machine_find_device(m, config->id);

		/* One that is to be deleted goes in the reset itself. */
		if (d && config->failover[0] && !(vm->deleting >> d->slot & 1)) {
			vm->leaving &= ~(1ull << d->slot);
			d->driver->destroy(d);
		}
	}
}

/* ---- around a migration ---------------------------------------------------------------------- */

/* Those that leave and are still there: calls `each`, if given, until it fails; else their number.
 */
static int for_leavers(struct gw_vm *vm,
                       int (*each)(struct gw_vm *vm, struct device *d, struct gw_error *err),
                       struct gw_error *err)
{
	int n = 0;

	for (unsigned i = 0; i < vm->machine->config.device_count; i++) {
		const struct config_device *config = &vm->machine->config.devices[i];
		struct device *d =
		        config->failover[0] ? machine_find_device(vm->machine, config->id) : NULL;
		int r = d && each ? each(vm, d, err) : 0;

		if (r < 0)
			return r;
		n += d != NULL;
	}
	return n;
}

static int ask_one(struct gw_vm *vm, struct device *d, struct gw_error *err)
{
	const uint64_t bit = 1ull << d->slot;
	char data[64];
	int r;

	if (vm->state != GW_STATE_RUNNING)
		return error_set(
		        err, -EBUSY,
		        "device %s has to leave first, but the guest stands and cannot let "
		        "go of it",
		        d->id);
	/* One that the guest does not hold leaves at once. */
	snprintf(data, sizeof(data), "{\"device-id\":\"%s\"}", d->id);
	vm->leaving |= bit;
	r = d->driver->request_unplug(d, err);
	if (r < 0) {
		vm->leaving &= ~bit;
		return error_context(err, "device %s", d->id);
	}
	vm_emit(vm, "UNPLUG_PRIMARY", data);
	return 0;
}

/* Unless somebody wants it to leave for good. `leaving` stays: a guest that has heard of it already
 * may be about to eject. */
static int keep_one(struct gw_vm *vm, struct device *d, struct gw_error *err)
{
	(void)err;
	if (vm->deleting >> d->slot & 1)
		return 0;
	machine_lock(vm->machine);
	pci_keep(vm->machine->pci, d->slot);
	machine_unlock(vm->machine);
	return 0;
}

/* With `lock` held. */
static void stop_waiting(struct gw_vm *vm, bool keep)
{
	vm->letting_go = false;
	if (keep && vm->machine)
		for_leavers(vm, keep_one, NULL);
}

int vm_failover_ask(void *opaque, struct gw_error *err)
{
	struct gw_vm *vm = opaque;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r) {
		io_eventfd_drain(vm->left_fd);
		vm->letting_go = true;
		r = for_leavers(vm, ask_one, err);
		if (r <= 0)
			stop_waiting(vm, r < 0);
	}
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? r : r > 0;
}

static int name_one(struct gw_vm *vm, struct device *d, struct gw_error *err)
{
	(void)vm;
	error_append(err, "device %s is still there", d->id);
	return 0;
}

/* Until something has happened, or the time is over. */
static int wait_a_while(struct gw_vm *vm, int cancel_fd, int64_t left_ms, struct gw_error *err)
{
	struct pollfd fds[2] = {
		{ .fd = cancel_fd, .events = POLLIN },
		{ .fd = vm->left_fd, .events = POLLIN },
	};

	poll(fds, 2, (int)MIN(left_ms, (int64_t)3600000));
	if (fds[0].revents)
		return error_set(err, -ECANCELED, "cancelled");
	if (fds[1].revents)
		io_eventfd_drain(vm->left_fd);
	return 0;
}

int vm_failover_await(void *opaque, int cancel_fd, uint64_t timeout_ms, struct gw_error *err)
{
	struct gw_vm *vm = opaque;
	const int64_t end = now_ms() + (int64_t)timeout_ms;
	int r = 0;

	for (;;) {
		int64_t left = end - now_ms();
		bool all;

		pthread_mutex_lock(&vm->lock);
		vm_eject_now(vm);
		all = !for_leavers(vm, NULL, NULL);
		if (!all && !r && left <= 0) {
			r = error_set(err, -ETIMEDOUT, "the guest has not let go within %llu ms",
			              (unsigned long long)timeout_ms);
			for_leavers(vm, name_one, err);
		}
		if (all || r < 0)
			stop_waiting(vm, !all);
		pthread_mutex_unlock(&vm->lock);
		if (all || r < 0)
			return r;
		r = wait_a_while(vm, cancel_fd, left, err);
	}
}
