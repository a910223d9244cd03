/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resets. A function that has no reset of its own (no FLR, and shares its bus)
 * is reset with all that is on the bus, which has to be this machine's.
 * Source: Linux uAPI, VFIO_DEVICE_RESET, VFIO_DEVICE_PCI_HOT_RESET.
 */
#include "vfio/reset.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

#define DEPENDENTS_MAX 256u

/* ---- what a bus reset takes along --------------------------------------------------------- */

/* *out is the caller's to free. */
static int read_info(struct vfio_pci *d, struct vfio_pci_hot_reset_info **out, struct gw_error *err)
{
	struct vfio_pci_hot_reset_info probe = { .argsz = sizeof(probe) }, *info;
	size_t size;
	int r = -ENOTTY;

	if (d->dev.ops->hot_reset_info)
		r = d->dev.ops->hot_reset_info(&d->dev, &probe);
	if (r == -ENODEV)
		return error_set(err, r, "%s: neither it nor its bus has a reset", d->dev.name);
	if (r < 0 && r != -ENOSPC)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", d->dev.name);
	if (probe.count > DEPENDENTS_MAX)
		return error_set(err, -E2BIG, "%s: a reset of %u devices", d->dev.name,
		                 probe.count);
	size = sizeof(*info) + probe.count * sizeof(info->devices[0]);
	info = calloc(1, size);
	if (!info)
		return error_set(err, -ENOMEM, "out of memory");
	info->argsz = (uint32_t)size;
	r = d->dev.ops->hot_reset_info(&d->dev, info);
	if (r >= 0 && info->count > probe.count)
		r = -EAGAIN;
	if (r < 0) {
		free(info);
		return error_set_sys(err, r, "%s: VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", d->dev.name);
	}
	*out = info;
	return 0;
}

static void address_of(const struct vfio_pci_dependent_device *dep, char name[16])
{
	snprintf(name, 16, "%04x:%02x:%02x.%x", dep->segment, dep->bus, dep->devfn >> 3,
	         dep->devfn & 7u);
}

/* The machine's device at this address of the host; `self` may not be in the list yet. */
static struct vfio_pci *find_ours(struct vfio_pci *self,
                                  const struct vfio_pci_dependent_device *dep)
{
	char name[16];

	address_of(dep, name);
	if (!strcmp(self->dev.name, name))
		return self;
	for (struct device *o = self->device.machine->devices; o; o = o->next) {
		struct vfio_pci *d = container_of(o, struct vfio_pci, device);

		if (o->driver == self->device.driver && !strcmp(d->dev.name, name))
			return d;
	}
	return NULL;
}

/* Leave for the reset is given by descriptors of groups; where the device came without one its
 * iommufd has it for all that are bound to that, and the kernel says by their ids which are not.
 * -1: nobody here can give it. */
static int leave_of(struct vfio_pci *d, const struct vfio_pci_hot_reset_info *info, uint32_t i)
{
	/* An id is where a group's number would be. */
	const uint32_t number = info->devices[i].group_id;

	if (info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID)
		return number == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED ? -1 : 0;
	return d->kind->group_fd ? d->kind->group_fd(d, number) : -1;
}

static int refuse(struct vfio_pci *d, const struct vfio_pci_dependent_device *dep,
                  const struct vfio_pci *other, struct gw_error *err)
{
	char name[16];

	address_of(dep, name);
	if (other)
		return error_set(err, -EPERM,
		                 "%s: a reset of its bus takes %s along, which the guest has by "
		                 "another backend (device %s)",
		                 d->dev.name, name, other->device.id);
	return error_set(err, -EPERM,
	                 "%s: a reset of its bus takes %s along, which is not this machine's",
	                 d->dev.name, name);
}

static void add_group(struct vfio_pci_hot_reset *reset, int fd)
{
	for (uint32_t i = 0; i < reset->count; i++)
		if (reset->group_fds[i] == fd)
			return;
	reset->group_fds[reset->count++] = fd;
}

static bool is_reset_with(const struct vfio_pci *d, const struct vfio_pci *other,
                          enum vfio_resets resets)
{
	return other == d || resets == VFIO_RESETS_ALL ||
	       (resets == VFIO_RESETS_SLOT && other->function.slot == d->function.slot);
}

/* All of them ours, and none in use but those that are reset anyway. Fills in whose leave is
 * needed: of groups, each once; of an iommufd, nothing. */
static int check_owners(struct vfio_pci *d, const struct vfio_pci_hot_reset_info *info,
                        enum vfio_resets resets, struct vfio_pci_hot_reset *reset,
                        struct gw_error *err)
{
	const bool by_id = info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID;

	for (uint32_t i = 0; i < info->count; i++) {
		struct vfio_pci *other = find_ours(d, &info->devices[i]);
		int fd = leave_of(d, info, i);

		if (fd < 0)
			return refuse(d, &info->devices[i], other, err);
		if (other && !is_reset_with(d, other, resets))
			return error_set(
			        err, -EBUSY,
			        "%s: a reset of its bus takes %s along, which the guest has "
			        "(device %s)",
			        d->dev.name, other->dev.name, other->device.id);
		if (!by_id)
			add_group(reset, fd);
	}
	/* What it says of all of them together. */
	if (by_id && !(info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED))
		return error_set(err, -EPERM,
		                 "%s: a reset of its bus takes devices along that are not this "
		                 "machine's",
		                 d->dev.name);
	return 0;
}

/* `call` for the DMA log of each that has one. */
static void each_log(struct vfio_pci *d, const struct vfio_pci_hot_reset_info *info,
                     void (*call)(struct vfio_dirty *log))
{
	for (uint32_t i = 0; i < info->count; i++) {
		struct vfio_pci *ours = find_ours(d, &info->devices[i]);

		if (ours && ours->dev.dirty)
			call(ours->dev.dirty);
	}
}

/* The others have lost what the guest had set as well. */
static void restore_others(struct vfio_pci *d, const struct vfio_pci_hot_reset_info *info)
{
	for (uint32_t i = 0; i < info->count; i++) {
		struct vfio_pci *other = find_ours(d, &info->devices[i]);

		if (!other || other == d)
			continue;
		vfio_participant_was_reset(other);
		vfio_config_push_command(other);
		vfio_intr_rearm(other);
	}
}

int vfio_bus_reset(struct vfio_pci *d, enum vfio_resets resets, struct gw_error *err)
{
	autofree struct vfio_pci_hot_reset_info *info = NULL;
	autofree struct vfio_pci_hot_reset *reset = NULL;
	size_t size;
	int r = read_info(d, &info, err);

	if (r < 0)
		return r;
	size = sizeof(*reset) + info->count * sizeof(reset->group_fds[0]);
	reset = calloc(1, size);
	if (!reset)
		return error_set(err, -ENOMEM, "out of memory");
	r = check_owners(d, info, resets, reset, err);
	if (r < 0)
		return r;
	reset->argsz = (uint32_t)(sizeof(*reset) + reset->count * sizeof(reset->group_fds[0]));
	each_log(d, info, vfio_dirty_before_reset);
	r = d->dev.ops->hot_reset(&d->dev, reset);
	each_log(d, info, vfio_dirty_after_reset);
	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_PCI_HOT_RESET", d->dev.name);
	restore_others(d, info);
	return 0;
}

/* ---- who resets when ------------------------------------------------------------------------ */

int vfio_pci_reset_first(struct vfio_pci *d, struct gw_error *err)
{
	struct machine *m = d->device.machine;
	int r;

	/* What the last user left must not reach this guest. */
	if (d->dev.can_reset)
		return vfio_dev_reset(&d->dev, err);
	machine_lock(m);
	r = vfio_bus_reset(d, m->started ? VFIO_RESETS_IT : VFIO_RESETS_ALL, err);
	machine_unlock(m);
	if (r < 0)
		log_warn(m->log, "device %s: it cannot be reset and starts as it was left: %s",
		         d->device.id, err->text);
	return 0;
}

void vfio_pci_reset_any(struct vfio_pci *d, enum vfio_resets resets)
{
	struct gw_error err;
	int r = d->dev.can_reset ? vfio_dev_reset(&d->dev, &err) : vfio_bus_reset(d, resets, &err);

	if (r < 0 && !d->reset_failure_told)
		log_warn(d->device.machine->log, "device %s: %s", d->device.id, err.text);
	d->reset_failure_told = r < 0;
}

int vfio_pci_reset_keeping(void *opaque, struct gw_error *err)
{
	struct vfio_pci *d = opaque;
	int r = vfio_dev_reset(&d->dev, err);

	if (r < 0)
		return r;
	machine_lock(d->device.machine);
	vfio_config_push_command(d);
	vfio_intr_rearm(d);
	machine_unlock(d->device.machine);
	return 0;
}

/* Configuration space is as it was at first already. */
static void begin_anew(struct vfio_pci *d, enum vfio_resets resets)
{
	vfio_intr_reset(d);
	vfio_pci_reset_any(d, resets);
	vfio_participant_was_reset(d);
	vfio_config_push_command(d);
	vfio_intx_update(d);
}

void vfio_pci_reset_with_machine(struct pci_function *f)
{
	begin_anew(vfio_pci_of(f), VFIO_RESETS_ALL);
}

void vfio_pci_reset_alone(struct pci_function *f)
{
	begin_anew(vfio_pci_of(f), VFIO_RESETS_SLOT);
}

/* All registers but those that identify it go back to what they were (PCI Express Base 5.0,
 * 6.6.2); the guest's driver has kept what it needs. */
void vfio_pci_flr(struct vfio_pci *d)
{
	struct pci_function *f = &d->function;

	vfio_intr_reset(d);
	memcpy(f->config, f->initial, sizeof(f->config));
	if (f->bus)
		pci_refresh(f);
	vfio_pci_reset_any(d, VFIO_RESETS_IT);
	vfio_participant_was_reset(d);
	vfio_config_push_command(d);
	vfio_intx_update(d);
}
