/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's state by protocol v2 (Linux 5.18 and later): states, arcs, the
 * data session.
 * Source: Linux uAPI <linux/vfio.h>, VFIO_DEVICE_FEATURE_MIGRATION and
 * VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.
 */
#ifndef VFIO_MIG_V2_H
#define VFIO_MIG_V2_H

#include "vfio/state.h"

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
	struct vfio_state state;
	uint64_t flags; /* VFIO_MIGRATION_*; 0: the device offers none */
	int session;    /* the data_fd of saving or resuming, or -1 */
	bool no_info;   /* it has no PRE_COPY info: then these two tell how far it is */
	bool drained;   /* there was no more once, in this session */
	uint64_t read;  /* bytes since pending() was called last */
};

const char *mig_state_name(enum mig_state state);

/* Asks the device what it offers. A device without migration is no error: flags are 0. */
int mig_v2_init(struct mig_v2 *m, struct vfio_dev *dev, struct gw_error *err);
/* Closes the session, if there is one. */
void mig_v2_fini(struct mig_v2 *m);
/* The same as an object of its own (vfio_state_create); NULL where flags would be 0. */
int mig_v2_create(struct vfio_dev *dev, struct vfio_state **out, struct gw_error *err);

/* May a device with these flags be asked to go from one state to the other? */
bool mig_v2_may(uint64_t flags, enum mig_state from, enum mig_state to);
/* The state that the kernel passes next on its way; `to` itself for a single step. MIG_ERROR if
 * there is no way. */
enum mig_state mig_v2_next(uint64_t flags, enum mig_state from, enum mig_state to);

/* The size of the STOP_COPY data, as far as the device can tell; 0 where it cannot. */
uint64_t mig_v2_stop_copy_size(struct mig_v2 *m);

#endif
