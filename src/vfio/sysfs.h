/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sysfs says of a device that is to be passed through: its folder, its
 * IOMMU group, who else is in that, and who drives each of them.
 */
#ifndef VFIO_SYSFS_H
#define VFIO_SYSFS_H

#include "base/error.h"

#include <limits.h>

struct sysfs_device {
	char path[PATH_MAX]; /* its folder, all links resolved */
	char name[64];       /* "0000:00:10.0", or an mdev's UUID */
	unsigned group;
};

/*
 * Finds a device by PCI address, or by a path to its folder, and checks that it and every other
 * device of its IOMMU group can be handed over. `root` is "/sys" (tests have their own).
 * Errors name what is missing and the command that mends it: -ENODEV no such device, -ENOTSUP no
 * IOMMU group, -EBUSY a driver of the host has it or another device of the group.
 */
int sysfs_find(const char *root, const char *host, struct sysfs_device *out, struct gw_error *err);

#endif
