/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who tells what a passed-through device writes to guest memory: the device
 * itself by its DMA log, or else the address space in which it does DMA (an
 * IOMMU with dirty bits, the pages that an mdev has pinned), or else nobody.
 * In the last case all that it can reach counts as dirty once it has stopped,
 * which the owner has to have allowed.
 * Source: <linux/vfio.h>, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, _STOP, _REPORT.
 */
#ifndef VFIO_DIRTY_H
#define VFIO_DIRTY_H

#include "vfio/device.h"
#include "vfio/space.h"

#include <pthread.h>

enum vfio_dirty_by { VFIO_DIRTY_BY_NOBODY, VFIO_DIRTY_BY_DEVICE, VFIO_DIRTY_BY_SPACE };

/* The rule: for a guest's devices, and for the host's that are only looked at. */
enum vfio_dirty_by vfio_dirty_by(bool device_logs, bool space_tracks);
/* NULL, or why a device may not be moved while its guest runs. */
const char *vfio_dirty_blocker(enum vfio_dirty_by by, bool none_ok);

/* Does the device log its DMA? */
bool vfio_dirty_device_logs(struct vfio_dev *dev);

/* A device's part in the tracking of dirty pages. */
struct vfio_dirty {
	struct dirty_source source;
	struct vfio_dev *dev;
	struct vfio_space *space;
	bool none_ok; /* nobody has to tell: "dirty-tracking": "none-ok" */
	bool logs;    /* the device can */
	bool added;   /* `source`, to memory */

	pthread_mutex_t lock; /* guards what follows, and the device's log */
	bool logging;
	bool lost;          /* the log did not come back after a reset */
	uint64_t page_size; /* of the log: what the device has chosen */
};

/* `dev` and `space` stay the owner's. Tracking that is on already begins for the device as well. */
int vfio_dirty_init(struct vfio_dirty *d, struct vfio_dev *dev, struct vfio_space *space,
                    bool none_ok, struct gw_error *err);
void vfio_dirty_fini(struct vfio_dirty *d);

static inline enum vfio_dirty_by vfio_dirty_who(const struct vfio_dirty *d)
{
	return vfio_dirty_by(d->logs, d->space->tracks_dirty || d->dev->iommu_tracks);
}

/* Around a reset of the device, which may end its log: what that knows is taken before, and it is
 * started anew if it has ended. Any thread. */
void vfio_dirty_before_reset(struct vfio_dirty *d);
void vfio_dirty_after_reset(struct vfio_dirty *d);

/* Marks the pages, of `page_size` bytes each from gpa on, whose bits are set. */
void vfio_dirty_mark(struct memory *mem, uint64_t gpa, uint64_t page_size, const uint64_t *bits,
                     uint64_t pages);

#endif
