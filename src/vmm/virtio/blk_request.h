/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request to a virtio-blk under way, and what may stand between it and the
 * host: a buffer, where the host cannot take it as it is (blk_bounce.c), and
 * another request to the same block of the host (blk_order.c).
 */
#ifndef VMM_VIRTIO_BLK_REQUEST_H
#define VMM_VIRTIO_BLK_REQUEST_H

#include "vmm/virtio/blk.h"

enum {
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};

#define BLK_HEADER_SIZE 16u

struct blk_request {
	struct blk_aio_op op; /* first */
	struct blk_queue *bq;
	struct virtq_chain chain;
	uint32_t type;
	struct iovec *iov; /* the data's pieces */
	unsigned iov_room;
	struct blk_request *next; /* free, or ready to go on */

	/* blk_bounce.c */
	void *bounce; /* instead of the pieces */
	struct iovec bounce_iov;
	uint64_t begin, len;    /* on the disk */
	uint64_t bounced, part; /* of len: is done; is under way */
	bool completing;        /* what is in the part's blocks beside it is read first */

	/* blk_order.c */
	struct blk_request *after, *before; /* in order of arrival */
	uint64_t first, end;                /* whole blocks of the host */
	bool ordered, exclusive, waits;
};

/* ---- through a buffer -------------------------------------------------------------------------
 * On the worker's thread, with its lock held. */

/* Is a transfer, whose pieces `op` has, one that the host cannot take as it is? */
bool blk_bounce_is_needed(const struct blk_request *r);
/* What `op` says of place and length, or for BLK_T_WRITE_ZEROES zeros there, in parts; `op` has the
 * first one then. -ENOMEM. */
int blk_bounce_begin(struct blk_request *r);
/* A part has ended. True: `op` has the next one, and is to be submitted; false: the request is
 * done, or has failed, and the buffer is given back. */
bool blk_bounce_next(struct blk_request *r);

/* ---- one after the other ----------------------------------------------------------------------
 * A write to a part of a host's block reads the block, changes it and writes it, which loses what
 * another one writes to it meanwhile. Such a write and any other one to the same block are done in
 * the order in which they came. No queue's thread waits for that. */

/* False: it waits for another one, and its queue is woken when it can go on. */
bool blk_order_enter(struct blk_request *r);
void blk_order_leave(struct blk_request *r);
/* Submits those of a queue that have waited and can go on. */
void blk_order_resume(struct blk_queue *bq);

#endif
