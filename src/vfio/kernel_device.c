/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices of type "vfio-pci": the host's kernel hands them over, by group and
 * container (type1.c) or by character device (iommufd.c).
 */
#include "vfio/iommufd.h"
#include "vfio/options.h"
#include "vfio/type1.h"
#include "vfio/vfio.h"
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/host_memory.h"
#include "vmm/memory.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* vfio_pci.backend */
struct kernel_device {
	struct sysfs_device sysfs;
	struct vfio_group *group; /* one of these two */
	struct vfio_cdev *cdev;
};

/* ---- by which backend ----------------------------------------------------------------------- */

static bool is_given(struct machine *m, const char *name)
{
	autoclose int fd = machine_fd(m, name);

	return fd >= 0;
}

static bool may_open(const char *path)
{
	return faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0;
}

/* What the embedder has given decides; else iommufd, where its files are there for us. */
static enum vfio_backend choose(struct machine *m, const struct sysfs_device *device)
{
	char name[sizeof(device->name) + 16], path[64];

	snprintf(name, sizeof(name), "vfio-group:%u", device->group);
	if (is_given(m, name))
		return VFIO_BACKEND_TYPE1;
	snprintf(name, sizeof(name), "vfio-device:%s", device->name);
	if (is_given(m, name))
		return VFIO_BACKEND_IOMMUFD;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", device->cdev);
	return device->cdev[0] && may_open(path) &&
	                       (is_given(m, "iommufd") || may_open(IOMMUFD_PATH))
	               ? VFIO_BACKEND_IOMMUFD
	               : VFIO_BACKEND_TYPE1;
}

/* A mediated device that logs nothing itself: only a type1 container tells which pages it has
 * pinned. */
static bool better_by_type1(struct vfio_pci *d, const struct sysfs_device *device)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%u", device->group);
	return device->mdev && !vfio_dirty_device_logs(&d->dev) && may_open(path);
}

/* ---- opening it ------------------------------------------------------------------------------ */

static int open_type1(struct vfio_pci *d, struct kernel_device *k, struct gw_error *err)
{
	int fd, r = vfio_group_get(d->device.machine, &vfio_sys, &k->sysfs, &k->group, err);

	if (r < 0)
		return r;
	d->space = vfio_group_space(k->group);
	r = vfio_group_open_device(k->group, k->sysfs.name, &fd, err);
	return r < 0 ? r : vfio_dev_init(&d->dev, fd, k->sysfs.name, err);
}

static int open_iommufd(struct vfio_pci *d, struct kernel_device *k, struct gw_error *err)
{
	int fd, r = vfio_cdev_get(d->device.machine, &vfio_sys, &k->sysfs, &k->cdev, &fd, err);

	if (r < 0)
		return r;
	d->space = vfio_cdev_space(k->cdev);
	r = vfio_dev_init(&d->dev, fd, k->sysfs.name, err);
	d->dev.iommu_tracks = vfio_cdev_is_tracked(k->cdev);
	return r;
}

static void let_go(struct vfio_pci *d, struct kernel_device *k)
{
	vfio_group_put(k->group);
	vfio_cdev_put(k->cdev);
	k->group = NULL;
	k->cdev = NULL;
	d->space = NULL;
}

static int open_by(struct vfio_pci *d, struct kernel_device *k, enum vfio_backend backend,
                   struct gw_error *err)
{
	int r;

	if (backend == VFIO_BACKEND_TYPE1)
		return open_type1(d, k, err);
	if (backend == VFIO_BACKEND_IOMMUFD)
		return open_iommufd(d, k, err);
	backend = choose(d->device.machine, &k->sysfs);
	r = open_by(d, k, backend, err);
	if (r < 0 || backend == VFIO_BACKEND_TYPE1 || !better_by_type1(d, &k->sysfs))
		return r;
	vfio_dev_fini(&d->dev);
	let_go(d, k);
	return open_type1(d, k, err);
}

/* VFIO itself gives a group's device out as often as it is asked. */
static int check_alone(const struct machine *m, const char *name, struct gw_error *err)
{
	for (struct device *d = m->devices; d; d = d->next) {
		const struct vfio_pci *other = container_of(d, struct vfio_pci, device);

		if (d->driver == &vfio_pci_driver && !strcmp(other->dev.name, name))
			return error_set(err, -EBUSY, "%s is device \"%s\" of this machine already",
			                 name, d->id);
	}
	return 0;
}

/* Of the host's devices that do DMA: all RAM is pinned for the first one. */
static bool is_pinned(const struct machine *m)
{
	for (struct device *d = m->devices; d; d = d->next) {
		const struct vfio_pci *pci = container_of(d, struct vfio_pci, device);
		const struct kernel_device *k = pci->backend;

		if (d->driver == &vfio_pci_driver && k && !k->sysfs.mdev)
			return true;
	}
	return false;
}

static int check_memory(const struct machine *m, const struct sysfs_device *device,
                        struct gw_error *err)
{
	int r;

	if (device->mdev || m->outside || is_pinned(m))
		return 0;
	r = host_memory_check("", memory_not_taken(m->memory), err);
	if (!r)
		r = host_memory_may_lock(memory_size(m->memory), err);
	return r < 0 ? error_context(err, "guest memory, which is pinned for %s", device->name) : 0;
}

static int open_device(struct vfio_pci *d, const void *opaque, struct gw_error *err)
{
	const struct vfio_kernel_options *options = opaque;
	struct kernel_device *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return error_set(err, -ENOMEM, "out of memory");
	d->backend = k;
	r = sysfs_find(SYSFS_ROOT, options->host, &k->sysfs, err);
	if (!r)
		r = check_alone(d->device.machine, k->sysfs.name, err);
	if (!r)
		r = check_memory(d->device.machine, &k->sysfs, err);
	if (r < 0)
		return error_context(err, "host");
	r = open_by(d, k, (enum vfio_backend)options->backend, err);
	if (!r)
		log_info(d->device.machine->log, "device %s: %s by %s", d->device.id, k->sysfs.name,
		         d->space->ops->backend);
	return r;
}

static void close_device(struct vfio_pci *d)
{
	struct kernel_device *k = d->backend;

	if (!k)
		return;
	let_go(d, k);
	d->backend = NULL;
	free(k);
}

/* ---- the driver ------------------------------------------------------------------------------ */

static int group_fd(struct vfio_pci *d, unsigned number)
{
	const struct kernel_device *k = d->backend;

	/* A character device's hot reset does not go by groups. */
	return k->group ? vfio_group_fd(d->device.machine, number) : -1;
}

static bool describe(struct vfio_pci *d, cJSON *info)
{
	return cJSON_AddStringToObject(info, "host", d->dev.name);
}

static const struct vfio_pci_kind kernel_kind = {
	.driver = &vfio_pci_driver,
	.holder = "the host",
	.open = open_device,
	.close = close_device,
	.describe = describe,
	.group_fd = group_fd,
};

static int create(struct machine *m, const struct config_device *config, bool hot,
                  struct device **out, struct gw_error *err)
{
	return vfio_pci_create(&kernel_kind, m, config, hot, out, err);
}

const struct device_driver vfio_pci_driver = {
	.type = "vfio-pci",
	.help = "a device of the host, passed through by VFIO",
	.keys = vfio_keys,
	.check_host = vfio_check_host,
	.address = vfio_address,
	.create = create,
	VFIO_PCI_DRIVER_CALLS,
};
