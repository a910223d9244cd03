/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that speaks migration v2, behind the calls of vfio/host.h. It has a
 * table of ways of its own, written from the kernel's documentation, and can
 * be made to fail each request at each hop: with an errno, and left in the old
 * state, in one between, or in the error state.
 */
#ifndef UNIT_V2_DEVICE_H
#define UNIT_V2_DEVICE_H

#include "vfio/mig_v2.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define V2_STOP_COPY VFIO_MIGRATION_STOP_COPY
#define V2_P2P VFIO_MIGRATION_P2P
#define V2_PRE_COPY VFIO_MIGRATION_PRE_COPY
#define V2_ALL (V2_STOP_COPY | V2_P2P | V2_PRE_COPY)

/* Where a request that fails leaves it: after so many hops (0: where it was), or */
#define V2_FAIL_ERROR 99u
/* The longest way. */
#define V2_HOPS 4

struct v2_device {
	struct vfio_dev dev;
	struct vfio_state *state; /* NULL: flags are 0 */
	uint64_t flags;
	enum mig_state in;
	int open_fds, next_fd;
	unsigned resets, requests;
	/* The request (from 1 on, counted anew by v2_go) that fails, and how. */
	unsigned fail_request, fail_times, fail_hop;
	int fail_errno;
	bool fail_all; /* until a reset */
	bool fail_get, fail_reset, lose_fd;
	const char *seen[64];
	unsigned seen_count;
	enum vfio_trouble trouble;
	/* Data: what there is to read, in pieces of `chunk`, and what was written. */
	const char *data;
	size_t data_len, data_at, chunk;
	char written[4096];
	size_t written_len;
	int write_errno;
	/* PRE_COPY info. */
	int info_errno;
	uint64_t initial, dirty;
	unsigned infos, opt_ins;
};

/* The states passed from one to the other, 0 ends; NULL: there is no way. */
const enum mig_state *v2_way(uint64_t flags, enum mig_state from, enum mig_state to,
                             enum mig_state path[V2_HOPS + 1]);
void v2_start(struct v2_device *d, uint64_t flags);
/* Into a state, without a failure. */
void v2_go(struct v2_device *d, enum mig_state state);
void v2_end(struct v2_device *d);
/* As a guest's reset does it: without a word to whoever drives it. */
void v2_reset_by_guest(struct v2_device *d);

#endif
