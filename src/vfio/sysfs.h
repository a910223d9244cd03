/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sysfs says of a device that is to be passed through: its folder, its
 * IOMMU group, who else is in that, and who drives each of them.
 */
#ifndef VFIO_SYSFS_H
#define VFIO_SYSFS_H

#include "base/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Where it is mounted. */
#define SYSFS_ROOT "/sys"

struct sysfs_device {
	char path[PATH_MAX]; /* its folder, all links resolved */
	char name[64];       /* "0000:00:10.0", or an mdev's UUID */
	unsigned group;
	bool mdev;
	char cdev[32]; /* its character device in /dev/vfio/devices, "vfio0"; "": none */
};

/*
 * Finds a device by PCI address, or by a path to its folder, and checks that it and every other
 * device of its IOMMU group can be handed over. `root` is "/sys" (tests have their own).
 * Errors name what is missing and the command that mends it: -ENODEV no such device, -ENOTSUP no
 * IOMMU group, -EBUSY a driver of the host has it or another device of the group.
 */
int sysfs_find(const char *root, const char *host, struct sysfs_device *out, struct gw_error *err);

/* The last part of where the link dir/name points; "" if there is none. */
void sysfs_link(const char *dir, const char *name, char *out, size_t size);
/* Is the device, whose folder this is and whose driver ("": none), in VFIO's hands? Any driver that
 * has registered it there may have it: vfio-pci, or one that knows how to move this device. */
bool sysfs_is_vfio(const char *root, const char *path, const char *driver);
/* Does its driver leave it to user space, so that the others of the group can be handed over? */
bool sysfs_may_stay(const char *root, const char *path, const char *driver);
/* The name of its character device; "" if there is none. */
void sysfs_cdev(const char *path, char *out, size_t size);

#endif
