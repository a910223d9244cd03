/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a device in hand is reached: by a descriptor of the kernel's, or by the
 * socket of a server. One table of calls; whatever stands above it (the PCI
 * function, the state protocols, dirty tracking) does not know which it is.
 * What is asked and answered are the kernel's own structs, which the vfio-user
 * protocol carries as well.
 * Source: <linux/vfio.h>.
 */
#ifndef VFIO_HOST_H
#define VFIO_HOST_H

#include "vfio/uapi.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vfio_dev;
struct vfio_area;

/*
 * Each returns 0 or more where it worked, else a negative errno; the text of an error is the
 * caller's to make. Structs that begin with argsz hold argsz bytes; where the device has more to
 * tell than fits, argsz says afterwards how much. Any thread, but for close().
 */
struct vfio_host_ops {
	const char *backend; /* "kernel", "vfio-user" */
	int (*device_info)(struct vfio_dev *d, struct vfio_device_info *info);
	int (*region_info)(struct vfio_dev *d, struct vfio_region_info *info);
	/* Exactly len bytes; the range has been checked. */
	int (*region_read)(struct vfio_dev *d, unsigned region, uint64_t offset, void *buf,
	                   size_t len);
	int (*region_write)(struct vfio_dev *d, unsigned region, uint64_t offset, const void *buf,
	                    size_t len);
	/* A mappable area mapped into this process; MAP_FAILED and errno. */
	void *(*region_map)(struct vfio_dev *d, unsigned region, const struct vfio_area *area);
	int (*irq_info)(struct vfio_dev *d, struct vfio_irq_info *info);
	int (*set_irqs)(struct vfio_dev *d, struct vfio_irq_set *set);
	int (*reset)(struct vfio_dev *d);
	/* The devices that a hot reset takes along, and that reset. NULL: the backend has none. */
	int (*hot_reset_info)(struct vfio_dev *d, struct vfio_pci_hot_reset_info *info);
	int (*hot_reset)(struct vfio_dev *d, struct vfio_pci_hot_reset *reset);

	int (*feature)(struct vfio_dev *d, struct vfio_device_feature *request);
	/* The data session of migration v2: `session` is the data_fd that the transition gave.
	 * precopy_info: -ENOTTY where the backend has no such call. A read that returns less than
	 * asked for means nothing; only 0 does. */
	int (*precopy_info)(struct vfio_dev *d, int session, struct vfio_precopy_info *info);
	ssize_t (*session_read)(struct vfio_dev *d, int session, void *buf, size_t len);
	ssize_t (*session_write)(struct vfio_dev *d, int session, const void *buf, size_t len);
	void (*session_close)(struct vfio_dev *d, int session);

	/* Why the device cannot be reached now ("its server is gone"), else NULL. NULL: it can
	 * always be. Whatever needs an answer from the device fails meanwhile with -ENOTCONN. */
	const char *(*lost)(struct vfio_dev *d);
	void (*close)(struct vfio_dev *d);
};

/* A device by its descriptor, from a group or a character device. */
extern const struct vfio_host_ops vfio_kernel_ops;

#endif
