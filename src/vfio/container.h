/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The type1v2 container: one a machine, made with its first device and gone
 * with its last. All guest RAM is mapped for DMA in it; it tells which pages
 * the devices have pinned and written.
 * Source: Linux, Documentation/driver-api/vfio.rst; <linux/vfio.h>.
 */
#ifndef VFIO_CONTAINER_H
#define VFIO_CONTAINER_H

#include "vmm/machine.h"

#include <stdint.h>

struct vfio_container;
struct vfio_group;

/* Opens the group, with the container if it is the first. A group that is open already (another
 * device of it is here) is shared. */
int vfio_group_get(struct machine *m, unsigned number, struct vfio_group **out,
                   struct gw_error *err);
void vfio_group_put(struct vfio_group *group);
/* A device of the group, by its name in sysfs. */
int vfio_group_open_device(struct vfio_group *group, const char *name, int *fd,
                           struct gw_error *err);

/* Maps memory of another device for DMA between devices; and takes that back. */
int vfio_container_map(struct vfio_container *c, uint64_t iova, uint64_t size, void *hva,
                       struct gw_error *err);
void vfio_container_unmap(struct vfio_container *c, uint64_t iova, uint64_t size);
struct vfio_container *vfio_group_container(struct vfio_group *group);
/* Can it tell which pages were written? */
bool vfio_container_tracks_dirty(const struct vfio_container *c);

#endif
