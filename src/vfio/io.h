/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that reach a VFIO device, behind one table, so that a
 * stand-in device can answer them with every failure there is.
 */
#ifndef VFIO_IO_H
#define VFIO_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vfio_io;

/* Each returns what the call returns, or a negative errno. */
struct vfio_io_ops {
	int (*ioctl)(struct vfio_io *io, int fd, unsigned long request, void *arg);
	ssize_t (*read)(struct vfio_io *io, int fd, void *buf, size_t len);
	ssize_t (*write)(struct vfio_io *io, int fd, const void *buf, size_t len);
	void (*close)(struct vfio_io *io, int fd);
};

struct vfio_io {
	const struct vfio_io_ops *ops;
};

/* The kernel. */
extern struct vfio_io vfio_kernel_io;

#endif
