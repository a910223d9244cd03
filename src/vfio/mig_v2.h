/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's migration state by protocol v2 (Linux 5.18 and later): states,
 * arcs, the data session, and what to do when a transition fails.
 * Source: Linux uAPI <linux/vfio.h>, VFIO_DEVICE_FEATURE_MIGRATION and
 * VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.
 */
#ifndef VFIO_MIG_V2_H
#define VFIO_MIG_V2_H

#include "base/error.h"
#include "vfio/device.h"

#include <stdbool.h>
#include <stdint.h>

enum mig_state {
	MIG_ERROR,
	MIG_STOP,
	MIG_RUNNING,
	MIG_STOP_COPY,
	MIG_RESUMING,
	MIG_RUNNING_P2P,
	MIG_PRE_COPY,
	MIG_PRE_COPY_P2P,
	MIG_STATES
};

struct mig_v2 {
	struct vfio_dev *dev; /* stays the owner's */
	uint64_t flags;       /* VFIO_MIGRATION_*; 0: the device offers none */
	enum mig_state state;
	int session; /* the data_fd of saving or resuming, or -1 */
	/* The owner's part. changed: the device is in `state` now. reset: VFIO_DEVICE_RESET and
	 * all that has to be pushed to the device again after it; the device is RUNNING then. */
	void *opaque;
	void (*changed)(void *opaque, enum mig_state state);
	int (*reset)(void *opaque, struct gw_error *err);
};

const char *mig_state_name(enum mig_state state);

/* Asks the device what it offers. A device without migration is no error: flags are 0. */
int mig_v2_init(struct mig_v2 *m, struct vfio_dev *dev, struct gw_error *err);
/* Closes the session, if there is one. */
void mig_v2_fini(struct mig_v2 *m);

static inline bool mig_v2_has(const struct mig_v2 *m, uint64_t flags)
{
	return (m->flags & flags) == flags;
}

/* May a device with these flags be asked to go from one state to the other? */
bool mig_v2_may(uint64_t flags, enum mig_state from, enum mig_state to);
/* The state that the kernel passes next on its way; `to` itself for a single step. MIG_ERROR if
 * there is no way. */
enum mig_state mig_v2_next(uint64_t flags, enum mig_state from, enum mig_state to);

/* Reads the state back. */
int mig_v2_refresh(struct mig_v2 *m, struct gw_error *err);

/*
 * Takes the device to `to`. What fails is answered in steps: the state is read back; from ERROR a
 * reset is tried; from anywhere else `recover` is asked for, and if that fails too, a reset.
 * The error is the first one, with what was done about it behind it. EAGAIN and EBUSY are tried
 * again for a moment.
 */
int mig_v2_set(struct mig_v2 *m, enum mig_state to, enum mig_state recover, struct gw_error *err);

/* In PRE_COPY[_P2P]: what is left of the initial data, and what has changed since. */
int mig_v2_precopy_info(struct mig_v2 *m, uint64_t *initial, uint64_t *dirty, struct gw_error *err);
/* The size of the STOP_COPY data, as far as the device can tell; 0 where it cannot. */
uint64_t mig_v2_stop_copy_size(struct mig_v2 *m);

/* Up to len bytes of the session. 0: no more now (PRE_COPY), or for good (STOP_COPY). */
ssize_t mig_v2_read(struct mig_v2 *m, void *buf, size_t len, struct gw_error *err);
/* All of buf into the session. */
int mig_v2_write(struct mig_v2 *m, const void *buf, size_t len, struct gw_error *err);

#endif
