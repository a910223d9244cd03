/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's machine: made, taken apart, and what it says of itself.
 *
 * What a vCPU's thread reports (the guest resets, powers off, lets a device
 * go) is noted in a flag and dealt with on the loop's thread, which can stop
 * the vCPUs. A migration under way ends first: the machine is about to change
 * under it. stop_guest() looks at the same flags, so that nothing reported
 * gets lost between here and another host.
 */
#include "vm.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vfio/user/user.h"
#include "vfio/vfio.h"
#include "vmm/pci.h"
#include "vmm/devices.h"
#include "vmm/virtio/devices.h"

#include <stdio.h>
#include <string.h>

/* One line a driver. */
static const struct device_driver *const drivers[] = {
	&virtio_blk_driver, &virtio_net_driver,     &virtio_vsock_driver,  &virtio_console_driver,
	&virtio_rng_driver, &virtio_balloon_driver, &virtio_mem_driver,    &pvpanic_driver,
	&i6300esb_driver,   &vfio_pci_driver,       &vfio_user_pci_driver,
};
const struct device_drivers vm_drivers = { drivers, ARRAY_SIZE(drivers) };

void vm_set_state(struct gw_vm *vm, enum gw_state state)
{
	__atomic_store_n(&vm->state, state, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&vm->changed);
	if (vm->external_loop)
		loop_wake(vm->loop);
}

int vm_need_machine(struct gw_vm *vm, struct gw_error *err)
{
	if (!vm->machine || vm->state == GW_STATE_EMPTY)
		return error_set(err, -ENODATA, "the VM is empty");
	if (vm->state == GW_STATE_INMIGRATE)
		return error_set(err, -EBUSY, "the VM waits for its state to arrive");
	return 0;
}

/* ---- what the guest wants -------------------------------------------------------- */

static void do_reset(struct gw_vm *vm)
{
	struct gw_error err;

	machine_pause(vm->machine);
	vm_failover_reset(vm);
	if (machine_reset(vm->machine, &err) < 0) {
		error_context(&err, "reset");
		log_error(&vm->log, "%s", err.text);
		vm_set_state(vm, GW_STATE_INTERNAL_ERROR);
		return;
	}
	machine_run(vm->machine);
	vm_emit(vm, "RESET", "{\"guest\":true,\"reason\":\"guest-reset\"}");
}

static void do_power_off(struct gw_vm *vm)
{
	machine_pause(vm->machine);
	vm_set_state(vm, GW_STATE_SHUTDOWN);
	vm_emit(vm, "SHUTDOWN", "{\"guest\":true,\"reason\":\"guest-shutdown\"}");
}

static void do_pause(struct gw_vm *vm)
{
	machine_pause(vm->machine);
	vm_set_state(vm, GW_STATE_PAUSED);
	vm_emit(vm, "STOP", "{}");
}

static void do_fail(struct gw_vm *vm)
{
	machine_pause(vm->machine);
	vm_set_state(vm, GW_STATE_INTERNAL_ERROR);
	vm_emit(vm, "STOP", "{}");
}

bool vm_guest_wants(const struct gw_vm *vm)
{
	return __atomic_load_n(&vm->reset_wanted, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vm->poweroff_wanted, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vm->pause_wanted, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vm->failed, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vm->eject_wanted, __ATOMIC_ACQUIRE);
}

void vm_eject_now(struct gw_vm *vm)
{
	const uint64_t slots = __atomic_exchange_n(&vm->eject_wanted, 0, __ATOMIC_ACQ_REL);
	struct machine *m = vm->machine;

	if (!slots || !m)
		return;
	machine_lock(m);
	for (unsigned slot = 0; slot < PCI_PLACES; slot++)
		if (slots >> slot & 1)
			pci_unplug_slot(m->pci, slot);
	machine_unlock(m);
}

static void deal_with_guest(void *opaque)
{
	struct gw_vm *vm = opaque;
	bool guest_runs;

	pthread_mutex_lock(&vm->lock);
	if (vm->letting_go)
		vm_eject_now(vm);
	/* Another may begin between the end of one and the lock. */
	while (vm_guest_wants(vm) && migration_active(vm->migration)) {
		pthread_mutex_unlock(&vm->lock);
		vm_end_migration(vm, "the guest was reset, powered off or let a device go");
		pthread_mutex_lock(&vm->lock);
	}
	guest_runs = vm->machine && vm->state == GW_STATE_RUNNING;
	vm_eject_now(vm);
	if (__atomic_exchange_n(&vm->failed, false, __ATOMIC_ACQ_REL) && guest_runs)
		do_fail(vm);
	else if (__atomic_exchange_n(&vm->poweroff_wanted, false, __ATOMIC_ACQ_REL) && guest_runs)
		do_power_off(vm);
	else if (__atomic_exchange_n(&vm->reset_wanted, false, __ATOMIC_ACQ_REL) && guest_runs)
		do_reset(vm);
	else if (__atomic_exchange_n(&vm->pause_wanted, false, __ATOMIC_ACQ_REL) && guest_runs)
		do_pause(vm);
	pthread_mutex_unlock(&vm->lock);
}

static void note(struct gw_vm *vm, bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
	loop_post(vm->loop, deal_with_guest, vm);
}

static void on_reset_requested(void *opaque, const char *why)
{
	struct gw_vm *vm = opaque;

	log_info(&vm->log, "the guest resets the machine: %s", why);
	note(vm, &vm->reset_wanted);
}

static void on_pause_requested(void *opaque, const char *why)
{
	struct gw_vm *vm = opaque;

	log_info(&vm->log, "the machine pauses: %s", why);
	note(vm, &vm->pause_wanted);
}

static void on_powered_off(void *opaque)
{
	struct gw_vm *vm = opaque;

	note(vm, &vm->poweroff_wanted);
}

static void on_vcpu_failed(void *opaque, const struct gw_error *err)
{
	struct gw_vm *vm = opaque;

	(void)err; /* the vCPU has logged it */
	note(vm, &vm->failed);
}

static void on_eject(void *opaque, unsigned slot)
{
	struct gw_vm *vm = opaque;

	__atomic_fetch_or(&vm->eject_wanted, 1ull << slot, __ATOMIC_ACQ_REL);
	loop_post(vm->loop, deal_with_guest, vm);
	io_eventfd_signal(vm->left_fd);
}

static void on_stands_in(void *opaque)
{
	vm_failover_look(opaque);
}

/* With `lock` and the device lock held: a device has been handed back to the host. */
static void on_device_gone(void *opaque, const char *id)
{
	struct gw_vm *vm = opaque;
	struct config_device *device = config_find_device(&vm->machine->config, id);

	if (!device || !vm_failover_left(vm, device))
		vm_forget_device(vm, id);
}

void vm_forget_device(struct gw_vm *vm, const char *id)
{
	struct config *config = &vm->machine->config;
	struct config_device *device = config_find_device(config, id);

	if (device) {
		const struct config_device *end = &config->devices[config->device_count];

		memmove(device, device + 1, (size_t)(end - device - 1) * sizeof(*device));
		config->device_count--;
	}
	vm_unplug_done(vm, id);
	vm_emit_device(vm, "DEVICE_DELETED", id);
}

static void on_give_back(void *opaque)
{
	struct gw_vm *vm = opaque;

	loop_post(vm->loop, vm_give_back, vm);
}

static void on_event(void *opaque, const char *name, const char *data)
{
	vm_emit(opaque, name, data);
}

/* ---- making and unmaking ----------------------------------------------------------- */

int vm_add_device(struct gw_vm *vm, struct config_device *config, bool hot, struct gw_error *err)
{
	const struct device_driver *driver = config_find_driver(vm_drivers_of(vm), config->type);
	struct participant *p;
	struct device *d;
	int r;

	if (!driver)
		return error_set(err, -EINVAL, "device %s: type: no device type \"%s\"", config->id,
		                 config->type);
	if (machine_find_device(vm->machine, config->id))
		return error_set(err, -EEXIST, "device %s: the id is taken", config->id);
	r = driver->create(vm->machine, config, hot, &d, err);
	if (r < 0)
		return error_context(err, "device %s", config->id);
	config->slot = pci_place_slot(d->slot);
	config->port = pci_place_port(d->slot);
	p = participant_find(&vm->machine->participants, config->id);
	if (p && config->failover[0])
		snprintf(p->leaves, sizeof(p->leaves),
		         "device %s: %s stands in for it, so that it has to leave first "
		         "(unplug-primaries)",
		         config->id, config->failover);
	machine_lock(vm->machine);
	d->next = vm->machine->devices;
	vm->machine->devices = d;
	machine_unlock(vm->machine);
	/* The guest may have seen it before it was in the list. */
	machine_defer(vm->machine);
	return 0;
}

int vm_build(struct gw_vm *vm, const struct config *config, bool incoming, struct gw_error *err)
{
	const struct machine_notify notify = {
		.opaque = vm,
		.reset_requested = on_reset_requested,
		.pause_requested = on_pause_requested,
		.powered_off = on_powered_off,
		.vcpu_failed = on_vcpu_failed,
		.eject = on_eject,
		.device_gone = on_device_gone,
		.stands_in = on_stands_in,
		.give_back = on_give_back,
		.event = on_event,
		.fd = vm_take_fd,
		.on_quit = vm_on_quit,
	};
	int r = machine_create(config, vm->loop, &vm->log, &notify, incoming, &vm->machine, err);

	for (unsigned i = 0; i < config->device_count && !r; i++)
		if (!config->devices[i].failover[0])
			r = vm_add_device(vm, &vm->machine->config.devices[i], false, err);
	if (r < 0)
		vm_demolish(vm);
	return r;
}

void vm_demolish(struct gw_vm *vm)
{
	if (!vm->machine)
		return;
	machine_pause(vm->machine);
	machine_destroy(vm->machine);
	vm->machine = NULL;
	vm->reset_wanted = vm->poweroff_wanted = vm->pause_wanted = vm->failed = false;
	vm->eject_wanted = vm->leaving = vm->deleting = 0;
}
