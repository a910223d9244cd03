/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel as backends reach it: a table, so that each of its calls can be
 * made to fail; and what both backends do in the same way.
 */
#ifndef VFIO_SYS_H
#define VFIO_SYS_H

#include "base/error.h"

struct machine;

struct vfio_sys {
	/* For reading and writing; a descriptor or a negative errno. */
	int (*open)(const char *path);
	/* As io_ioctl(). */
	int (*ioctl)(int fd, unsigned long request, void *arg);
};

extern const struct vfio_sys vfio_sys;

/* What the embedder has given under this name, or else what is at `path`; a descriptor of the
 * caller's, or a negative errno. *given (NULL is fine): it was given. */
int vfio_open_or_given(struct machine *m, const struct vfio_sys *sys, const char *name,
                       const char *path, bool *given);

/* KVM is told of a group, or of a device's descriptor (before that is bound to an iommufd), and
 * takes it back. Its VFIO device is made with the first, and stays: kernels before 6.5 let a VM
 * have it only once. */
int vfio_kvm_add(struct machine *m, const struct vfio_sys *sys, int fd, struct gw_error *err);
void vfio_kvm_remove(struct machine *m, const struct vfio_sys *sys, int fd);

#endif
