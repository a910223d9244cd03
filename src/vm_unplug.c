/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that leave: asked for, and, where the caller set a time limit, what
 * happens when the guest does not let go.
 */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/pci.h"

#include <stdio.h>
#include <string.h>

struct vm_unplug {
	char id[32];
	int64_t deadline_ms;
	bool force;
	struct vm_unplug *next;
};

/* Without the guest: what it still does with the device, and with others of its slot, reads as ones
 * and goes nowhere. */
static void take_away(struct gw_vm *vm, struct device *d)
{
	struct machine *m = vm->machine;

	log_warn(&vm->log, "device %s: the guest did not let go in time; it is taken away", d->id);
	machine_lock(m);
	pci_unplug_slot(m->pci, d->slot);
	machine_unlock(m);
}

/* The first that is due, taken off the list. */
static struct vm_unplug *take_due(struct gw_vm *vm, int64_t now)
{
	for (struct vm_unplug **at = &vm->unplugs; *at; at = &(*at)->next) {
		struct vm_unplug *u = *at;

		if (u->deadline_ms <= now) {
			*at = u->next;
			return u;
		}
	}
	return NULL;
}

static void set_timer(struct gw_vm *vm)
{
	int64_t first = INT64_MAX;

	for (const struct vm_unplug *u = vm->unplugs; u; u = u->next)
		first = MIN(first, u->deadline_ms);
	loop_timer_set(vm->unplug_timer,
	               first == INT64_MAX ? -1 : MAX(first - now_ms(), (int64_t)0));
}

static bool force_is_due(const struct gw_vm *vm, int64_t now)
{
	for (const struct vm_unplug *u = vm->unplugs; u; u = u->next)
		if (u->force && u->deadline_ms <= now)
			return true;
	return false;
}

/* Nothing is taken from a guest that is on its way; and another migration may begin at any time
 * while the lock is not held. Returns the time up to which that has been seen to. */
static int64_t lock_at_rest(struct gw_vm *vm)
{
	int64_t now;

	pthread_mutex_lock(&vm->lock);
	while (force_is_due(vm, now = now_ms()) && migration_active(vm->migration)) {
		pthread_mutex_unlock(&vm->lock);
		vm_end_migration(vm, "a device is taken from the guest");
		pthread_mutex_lock(&vm->lock);
	}
	return now;
}

static void on_deadline(void *opaque)
{
	struct gw_vm *vm = opaque;
	struct vm_unplug *u;
	const int64_t now = lock_at_rest(vm);

	while ((u = take_due(vm, now))) {
		struct device *d = vm->machine ? machine_find_device(vm->machine, u->id) : NULL;

		if (d && u->force && !vm_check_may_change(vm, NULL))
			take_away(vm, d);
		else if (d)
			vm_emit_device(vm, "DEVICE_UNPLUG_GUEST_ERROR", u->id);
		free(u);
	}
	set_timer(vm);
	pthread_mutex_unlock(&vm->lock);
}

static int note(struct gw_vm *vm, const char *id, unsigned timeout_ms, bool force,
                struct gw_error *err)
{
	struct vm_unplug *u = calloc(1, sizeof(*u));
	int r = 0;

	if (u && !vm->unplug_timer)
		r = loop_timer_create(vm->loop, on_deadline, vm, &vm->unplug_timer, err);
	if (!u || r < 0) {
		free(u);
		return r ? r : error_set(err, -ENOMEM, "out of memory");
	}
	snprintf(u->id, sizeof(u->id), "%s", id);
	u->deadline_ms = now_ms() + timeout_ms;
	u->force = force;
	u->next = vm->unplugs;
	vm->unplugs = u;
	set_timer(vm);
	return 0;
}

void vm_unplug_done(struct gw_vm *vm, const char *id)
{
	for (struct vm_unplug **at = &vm->unplugs; *at;) {
		struct vm_unplug *u = *at;

		if (strcmp(u->id, id)) {
			at = &u->next;
			continue;
		}
		*at = u->next;
		free(u);
	}
}

void vm_unplugs_free(struct gw_vm *vm)
{
	loop_timer_destroy(vm->unplug_timer);
	while (vm->unplugs) {
		struct vm_unplug *u = vm->unplugs;

		vm->unplugs = u->next;
		free(u);
	}
}

/* A device that stands in for another one stays as long as that. */
static int check_alone(struct gw_vm *vm, const char *id, struct gw_error *err)
{
	const struct config *config = &vm->machine->config;

	for (unsigned i = 0; i < config->device_count; i++)
		if (config->devices[i].failover[0] && !strcmp(config->devices[i].failover, id))
			return error_set(err, -EBUSY,
			                 "device %s stands in for %s, which goes first", id,
			                 config->devices[i].id);
	return 0;
}

/* With `lock` held. */
static int request(struct gw_vm *vm, const char *id, struct gw_error *err)
{
	const struct config_device *config;
	uint64_t bit = 0;
	struct device *d;
	int r = vm_check_has_device(vm, id, err);

	if (!r)
		r = vm_check_may_change(vm, err);
	if (!r)
		r = check_alone(vm, id, err);
	if (r < 0)
		return r;
	config = config_find_device(&vm->machine->config, id);
	if (config && vm_failover_is_away(vm, config)) {
		vm_forget_device(vm, id);
		return 0;
	}
	d = machine_find_device(vm->machine, id);
	if (!d)
		return error_set_class(err, -ENOENT, GW_ERROR_DEVICE_NOT_FOUND,
		                       "the machine has no device \"%s\"", id);
	if (config && config->failover[0])
		vm->deleting |= bit = 1ull << d->slot;
	r = d->driver->request_unplug(d, err);
	if (r < 0)
		vm->deleting &= ~bit;
	return r;
}

static struct device *next_wanted(struct gw_vm *vm)
{
	for (struct device *d = vm->machine ? vm->machine->devices : NULL; d; d = d->next)
		if (__atomic_exchange_n(&d->wanted_back, false, __ATOMIC_ACQ_REL))
			return d;
	return NULL;
}

static bool is_due_by_force(const struct gw_vm *vm, const char *id)
{
	for (const struct vm_unplug *u = vm->unplugs; u; u = u->next)
		if (u->force && !strcmp(u->id, id))
			return true;
	return false;
}

/* While the guest cannot be asked (a migration is under way, say), time runs all the same. */
static void ask_back(struct gw_vm *vm, const struct device *d)
{
	const unsigned ms = d->give_back_ms;
	struct gw_error err;
	char id[sizeof(d->id)];

	strcpy(id, d->id);
	if (request(vm, id, &err) < 0)
		log_warn(&vm->log, "device %s: the guest is not asked for it: %s", id, err.text);
	if (machine_find_device(vm->machine, id) && !is_due_by_force(vm, id) &&
	    note(vm, id, ms, true, &err) < 0)
		log_error(&vm->log, "device %s: %s", id, err.text);
}

void vm_give_back(void *opaque)
{
	struct gw_vm *vm = opaque;
	struct device *d;

	pthread_mutex_lock(&vm->lock);
	while ((d = next_wanted(vm)))
		ask_back(vm, d);
	pthread_mutex_unlock(&vm->lock);
}

int gw_vm_device_del(struct gw_vm *vm, const char *id, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = request(vm, id, err);
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "device_del") : 0;
}

int gw_vm_device_unplug(struct gw_vm *vm, const char *id, unsigned timeout_ms, bool force,
                        struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = request(vm, id, err);
	if (!r && machine_find_device(vm->machine, id))
		r = note(vm, id, timeout_ms, force, err);
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "device_del") : 0;
}
