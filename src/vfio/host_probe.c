/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks a device for its migration features. It has to be opened for that, by
 * itself where the host has iommufd and else with its group, which only one
 * process can do at a time: a device that a guest has is not disturbed.
 * Opening resets the device, as every opening does.
 * Source: Linux, Documentation/driver-api/vfio.rst.
 */
#include "vfio/host_internal.h"

#include "base/io.h"
#include "base/util.h"
#include "vfio/dirty.h"
#include "vfio/iommufd.h"
#include "vfio/mig_v2.h"

#include <stdio.h>

/* A device of a group can be had once the group is in a container that has an IOMMU. */
static int join(int group, int container)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int r = io_ioctl(group, VFIO_GROUP_GET_STATUS, &status);

	if (r < 0)
		return r;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return -EPERM;
	r = io_ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
	return r < 0 ? r : io_ioctl(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
}

static int ask(int fd, struct vfio_features *out)
{
	struct vfio_dev dev = { .ops = &vfio_kernel_ops, .fd = fd };
	struct gw_error err;
	struct mig_v2 mig;
	int r = mig_v2_init(&mig, &dev, &err);

	if (r < 0)
		return r;
	out->flags = mig.flags;
	out->dma_logging = vfio_dirty_device_logs(&dev);
	out->data_size = mig.flags ? mig_v2_stop_copy_size(&mig) : 0;
	mig_v2_fini(&mig);
	return 0;
}

static int by_group(const struct host_device *d, struct vfio_features *out)
{
	autoclose int container = -1, group = -1, device = -1;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/dev/vfio/%d", d->group);
	container = vfio_sys.open("/dev/vfio/vfio");
	if (container < 0)
		return container;
	group = vfio_sys.open(path);
	if (group < 0)
		return group;
	r = join(group, container);
	if (r < 0)
		return r;
	device = io_ioctl(group, VFIO_GROUP_GET_DEVICE_FD, (void *)(uintptr_t)d->name);
	return device < 0 ? device : ask(device, out);
}

static int by_cdev(const struct host_device *d, int iommufd, struct vfio_features *out)
{
	autoclose int device = -1;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", d->cdev);
	device = vfio_sys.open(path);
	if (device < 0)
		return device;
	r = vfio_cdev_ask(&vfio_sys, iommufd, device, &out->iommu_tracks);
	return r < 0 ? r : ask(device, out);
}

int host_probe(const struct host_device *d, struct vfio_features *out)
{
	autoclose int iommufd = d->cdev[0] ? vfio_sys.open(IOMMUFD_PATH) : -1;

	*out = (struct vfio_features){ 0 };
	return iommufd >= 0 ? by_cdev(d, iommufd, out) : by_group(d, out);
}
