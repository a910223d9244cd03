/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's state by protocol v1, the migration region (kernels 5.8 to 5.17,
 * and vendor drivers of that time; a vfio-user server may offer it as well):
 * registers at its head, behind them the data section, which may be trapped,
 * mapped, or both in parts.
 *
 * What read() gives is the device's chunks one after the other, each with its
 * length (u64, little-endian) before it, since the destination has to write
 * them as they were read: in the same order, in the same transactions.
 * Source: Linux uAPI <linux/vfio.h> of 5.8 to 5.17, struct
 * vfio_device_migration_info.
 */
#ifndef VFIO_MIG_V1_H
#define VFIO_MIG_V1_H

#include "vfio/state.h"

#include <stdbool.h>
#include <stdint.h>

/* device_state: RUNNING 1, SAVING 2, RESUMING 4. */
enum mig_v1_state {
	MIG_V1_STOP = 0,
	MIG_V1_RUNNING = 1,
	MIG_V1_STOP_COPY = 2,
	MIG_V1_PRE_COPY = 3,
	MIG_V1_RESUMING = 4,
	MIG_V1_ERROR = 6,
	MIG_V1_STATES = 8 /* 5 and 7 are none */
};

/* One access of a trapped section, at most; it begins at a multiple of this in its chunk. */
#define MIG_V1_PIECE 65536u

/* The chunk under way, saved or loaded: `size` bytes, `done` of them moved. */
struct mig_v1_chunk {
	bool open;
	uint64_t offset, size, done;
};

struct mig_v1 {
	struct vfio_state state;
	unsigned region;
	struct mig_v1_chunk chunk;
	/* A piece on its way, in a memfd: what is mapped is copied there by the kernel, since a
	 * server may take its pages away any time, which is an error then and no signal. */
	int stage_fd;
	uint8_t *stage;
	size_t stage_len, stage_at; /* saving: [at, len) has not been read yet */
	uint8_t head[8];            /* loading: of the length that comes */
	unsigned head_len;
	/* While a session is on, of the region's areas; MAP_FAILED: trapped. */
	void *maps[VFIO_AREAS_MAX];
};

const char *mig_v1_state_name(unsigned state);
/* May it be asked for? Any of the five from any other; which it takes is the device's affair. */
bool mig_v1_may(unsigned from, unsigned to);
/* *out stays NULL where the device has no such region. */
int mig_v1_create(struct vfio_dev *dev, struct vfio_state **out, struct gw_error *err);

/* ---- mig_v1_data.c: the data section ---- */
int mig_v1_data_init(struct mig_v1 *m, struct gw_error *err);
void mig_v1_data_fini(struct mig_v1 *m);
/* What is under way is forgotten: the state is another one. What can be mapped is, while there
 * are data to move. */
void mig_v1_data_restart(struct mig_v1 *m, bool moves_data);
int mig_v1_pending_bytes(struct mig_v1 *m, uint64_t *out, struct gw_error *err);
ssize_t mig_v1_read(struct mig_v1 *m, uint8_t *buf, size_t len, struct gw_error *err);
int mig_v1_write(struct mig_v1 *m, const uint8_t *buf, size_t len, struct gw_error *err);

#endif
