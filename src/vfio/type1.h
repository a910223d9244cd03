/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and the type1v2 containers that they are in; a container is an
 * address space. It tells which pages devices have pinned and written.
 *
 * A machine has one container for all devices behind its IOMMU, another where
 * the kernel refuses a group the first one (other IOMMU), and one for those
 * that pin page by page (mdev): beside a device behind an IOMMU the kernel
 * would call all of memory dirty at any time.
 * Source: Linux, Documentation/driver-api/vfio.rst; <linux/vfio.h>.
 */
#ifndef VFIO_TYPE1_H
#define VFIO_TYPE1_H

#include "vfio/space.h"
#include "vfio/sys.h"
#include "vfio/sysfs.h"

struct vfio_group;

/* Opens the device's group, with a container if none takes it. A group that is open already
 * (another device of it is here) is shared. */
int vfio_group_get(struct machine *m, const struct vfio_sys *sys, const struct sysfs_device *device,
                   struct vfio_group **out, struct gw_error *err);
void vfio_group_put(struct vfio_group *group);
/* A device of the group, by its name in sysfs. */
int vfio_group_open_device(struct vfio_group *group, const char *name, int *fd,
                           struct gw_error *err);

/* Its descriptor, if this machine has it open; -1. */
int vfio_group_fd(const struct machine *m, unsigned number);

struct vfio_space *vfio_group_space(struct vfio_group *group);

#endif
