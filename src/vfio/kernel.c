/* SPDX-License-Identifier: Apache-2.0 */
/* A device by its descriptor: each call is one ioctl, read, write or mmap. */
#include "vfio/device.h"

#include "base/io.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int device_info(struct vfio_dev *d, struct vfio_device_info *info)
{
	return io_ioctl(d->fd, VFIO_DEVICE_GET_INFO, info);
}

static int region_info(struct vfio_dev *d, struct vfio_region_info *info)
{
	return io_ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, info);
}

static int region_read(struct vfio_dev *d, unsigned region, uint64_t offset, void *buf, size_t len)
{
	return io_pread_full(d->fd, buf, len, (off_t)(d->regions[region].offset + offset));
}

static int region_write(struct vfio_dev *d, unsigned region, uint64_t offset, const void *buf,
                        size_t len)
{
	return io_pwrite_full(d->fd, buf, len, (off_t)(d->regions[region].offset + offset));
}

static void *region_map(struct vfio_dev *d, unsigned region, const struct vfio_area *area)
{
	const struct vfio_region *r = &d->regions[region];
	int prot = (r->readable ? PROT_READ : 0) | (r->writable ? PROT_WRITE : 0);

	return mmap(NULL, area->size, prot, MAP_SHARED, d->fd, (off_t)(r->offset + area->offset));
}

static int irq_info(struct vfio_dev *d, struct vfio_irq_info *info)
{
	return io_ioctl(d->fd, VFIO_DEVICE_GET_IRQ_INFO, info);
}

static int set_irqs(struct vfio_dev *d, struct vfio_irq_set *set)
{
	return io_ioctl(d->fd, VFIO_DEVICE_SET_IRQS, set);
}

static int reset(struct vfio_dev *d)
{
	return io_ioctl(d->fd, VFIO_DEVICE_RESET, NULL);
}

static int hot_reset_info(struct vfio_dev *d, struct vfio_pci_hot_reset_info *info)
{
	return io_ioctl(d->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
}

static int hot_reset(struct vfio_dev *d, struct vfio_pci_hot_reset *hot)
{
	return io_ioctl(d->fd, VFIO_DEVICE_PCI_HOT_RESET, hot);
}

static int feature(struct vfio_dev *d, struct vfio_device_feature *request)
{
	return io_ioctl(d->fd, VFIO_DEVICE_FEATURE, request);
}

static int precopy_info(struct vfio_dev *d, int session, struct vfio_precopy_info *info)
{
	(void)d;
	return io_ioctl(session, VFIO_MIG_GET_PRECOPY_INFO, info);
}

static ssize_t session_read(struct vfio_dev *d, int session, void *buf, size_t len)
{
	ssize_t n;

	(void)d;
	do
		n = read(session, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t session_write(struct vfio_dev *d, int session, const void *buf, size_t len)
{
	ssize_t n;

	(void)d;
	do
		n = write(session, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void session_close(struct vfio_dev *d, int session)
{
	(void)d;
	close(session);
}

static void close_device(struct vfio_dev *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

const struct vfio_host_ops vfio_kernel_ops = {
	.backend = "kernel",
	.device_info = device_info,
	.region_info = region_info,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.irq_info = irq_info,
	.set_irqs = set_irqs,
	.reset = reset,
	.hot_reset_info = hot_reset_info,
	.hot_reset = hot_reset,
	.feature = feature,
	.precopy_info = precopy_info,
	.session_read = session_read,
	.session_write = session_write,
	.session_close = session_close,
	.close = close_device,
};
