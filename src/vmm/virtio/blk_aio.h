/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block I/O without waiting: an io_uring on a worker's loop. Where the kernel
 * refuses io_uring the same calls do the work at once instead.
 *
 * All on the worker's thread, but for creation and destruction. Short reads
 * and writes are gone on with here; an operation ends whole or with an error.
 */
#ifndef VMM_VIRTIO_BLK_AIO_H
#define VMM_VIRTIO_BLK_AIO_H

#include "base/loop.h"
#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct blk_aio;

enum blk_aio_kind {
	BLK_AIO_READ,
	BLK_AIO_WRITE,
	BLK_AIO_FLUSH,      /* data to stable storage */
	BLK_AIO_DISCARD,    /* the content of the range is of no use any more */
	BLK_AIO_ZERO,       /* reads as zeros, and stays allocated if it can */
	BLK_AIO_ZERO_UNMAP, /* reads as zeros, and is given up if it can */
};

/* Filled by the caller, who keeps it until `done`. */
struct blk_aio_op {
	enum blk_aio_kind kind;
	int fd;
	struct iovec *iov; /* changed on the way */
	unsigned iov_count;
	uint64_t offset, len; /* bytes */
	bool stable;          /* BLK_AIO_WRITE: on stable storage before it is done (RWF_DSYNC) */
	int result;           /* 0, or a negative errno */
	/* kept by blk_aio.c: */
	bool second_way;
	struct blk_aio_op *next;
};

typedef void (*blk_aio_done)(void *opaque, struct blk_aio_op *op);

/* `done` is called on the loop's thread, in blk_aio_flush() at the latest. `before` and `after` are
 * called around each batch of them that the loop finds. */
struct blk_aio_calls {
	blk_aio_done done;
	void (*before)(void *opaque);
	void (*after)(void *opaque);
};
int blk_aio_create(struct loop *loop, const struct blk_aio_calls *calls, void *opaque,
                   struct blk_aio **out, struct gw_error *err);
/* Nothing is in flight. NULL is fine. */
void blk_aio_destroy(struct blk_aio *aio);
/* "io_uring", or "sync". */
const char *blk_aio_name(const struct blk_aio *aio);

/* Takes the operation; it begins at blk_aio_flush() at the latest. */
void blk_aio_submit(struct blk_aio *aio, struct blk_aio_op *op);
void blk_aio_flush(struct blk_aio *aio);
/* Has the loop call `before` and `after` soon; what was submitted in them begins. From any thread.
 */
void blk_aio_wake(struct blk_aio *aio);

#endif
