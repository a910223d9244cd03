/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/io.h"

#include "base/io.h"

#include <errno.h>
#include <unistd.h>

static int kernel_ioctl(struct vfio_io *io, int fd, unsigned long request, void *arg)
{
	(void)io;
	return io_ioctl(fd, request, arg);
}

static ssize_t kernel_read(struct vfio_io *io, int fd, void *buf, size_t len)
{
	ssize_t n;

	(void)io;
	do
		n = read(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t kernel_write(struct vfio_io *io, int fd, const void *buf, size_t len)
{
	ssize_t n;

	(void)io;
	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void kernel_close(struct vfio_io *io, int fd)
{
	(void)io;
	close(fd);
}

static const struct vfio_io_ops kernel_ops = {
	.ioctl = kernel_ioctl,
	.read = kernel_read,
	.write = kernel_write,
	.close = kernel_close,
};

struct vfio_io vfio_kernel_io = { .ops = &kernel_ops };
