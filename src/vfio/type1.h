/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups and the type1v2 container that they share, which is an address space.
 * It tells which pages the devices have pinned and written.
 * Source: Linux, Documentation/driver-api/vfio.rst; <linux/vfio.h>.
 */
#ifndef VFIO_TYPE1_H
#define VFIO_TYPE1_H

#include "vfio/space.h"
#include "vfio/sysfs.h"

struct vfio_group;

/* Opens the device's group, with the container if it is the first. A group that is open already
 * (another device of it is here) is shared. */
int vfio_group_get(struct machine *m, const struct sysfs_device *device, struct vfio_group **out,
                   struct gw_error *err);
void vfio_group_put(struct vfio_group *group);
/* A device of the group, by its name in sysfs. */
int vfio_group_open_device(struct vfio_group *group, const char *name, int *fd,
                           struct gw_error *err);

/* Its descriptor, if this machine has it open; -1. */
int vfio_group_fd(const struct machine *m, unsigned number);

struct vfio_space *vfio_group_space(struct vfio_group *group);

#endif
