/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that speaks migration v1, behind the calls of vfio/host.h: its
 * registers and its data section, trapped, mapped or both in parts. Written
 * from the protocol's text; it notes in which order and sizes it is accessed,
 * refuses what the protocol forbids, and fails where it is told to.
 */
#ifndef UNIT_V1_DEVICE_H
#define UNIT_V1_DEVICE_H

#include "vfio/mig_v1.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define V1_REGION 9
#define V1_SECTION 0x1000u
#define V1_SIZE 0x41000u
#define V1_DATA_MAX 0x60000u
#define V1_RESERVED 0xa5a5a5a8u

enum v1_where { V1_KEEPS, V1_GOES, V1_ELSEWHERE, V1_ERROR, V1_WHERES };

struct v1_device {
	struct vfio_dev dev;
	struct vfio_state *state;
	uint32_t value; /* device_state, with the reserved bits */

	/* What it has to save, chunk by chunk, and what it was given. */
	uint8_t data[V1_DATA_MAX];
	size_t len, at, chunk, open;
	uint8_t loaded[V1_DATA_MAX];
	size_t loaded_len;
	size_t sizes[64]; /* of the chunks that it took */
	unsigned size_count;
	uint64_t load_offset;
	bool settled;      /* RESUMING was cleared */
	uint64_t constant; /* pending_bytes in pre-copy, whatever there is */

	int memory; /* a memfd, for what of the section is mapped */
	uint8_t *section;
	uint64_t shortens; /* the file is cut to this before it is mapped; 0: not */

	/* How it fails: the n-th write of device_state from 1 on, `times` times. */
	unsigned writes, fail_write, times;
	int fail_errno;
	enum v1_where where;
	bool fail_reads, fail_pending, fail_reset, fail_all, refuses_stop;

	/* What was done to it. */
	unsigned resets, pending_reads, frozen_reads, data_accesses, largest;
	char names[32][16];
	unsigned name_count;
	enum vfio_trouble trouble;
};

enum v1_data { V1_TRAPPED, V1_MAPPED, V1_MIXED };

struct v1_device *v1_new(enum v1_data data);
void v1_free(struct v1_device *d);

#endif
