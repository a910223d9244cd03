/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An iommufd and its I/O address space, which all devices of a machine share
 * that come as character devices. Where the IOMMU keeps dirty bits a device
 * gets a page table that has them.
 * Source: Linux, Documentation/userspace-api/iommufd.rst;
 * Documentation/driver-api/vfio.rst, "VFIO device cdev".
 */
#ifndef VFIO_IOMMUFD_H
#define VFIO_IOMMUFD_H

#include "vfio/space.h"
#include "vfio/sys.h"
#include "vfio/sysfs.h"

#define IOMMUFD_PATH "/dev/iommu"

/* A device that is bound and attached. */
struct vfio_cdev;

/* Opens the device's character device (an embedder gives it as "vfio-device:NAME", and the iommufd
 * as "iommufd"), and puts it into the machine's address space. *fd is the caller's, to be closed
 * before vfio_cdev_put(). */
int vfio_cdev_get(struct machine *m, const struct vfio_sys *sys, const struct sysfs_device *device,
                  struct vfio_cdev **out, int *fd, struct gw_error *err);
void vfio_cdev_put(struct vfio_cdev *cdev);

struct vfio_space *vfio_cdev_space(struct vfio_cdev *cdev);
/* The IOMMU keeps dirty bits for it. */
bool vfio_cdev_is_tracked(const struct vfio_cdev *cdev);

/* Binds a device for as long as its descriptor is open, to ask it something: whether the IOMMU
 * keeps dirty bits for it. No guest is needed. */
int vfio_cdev_ask(const struct vfio_sys *sys, int iommufd, int fd, bool *tracked);

#endif
