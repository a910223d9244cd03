/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: a disk in a raw file or on a block device. blk.c has the device,
 * blk_request.c what the driver asks of it.
 * Source: VIRTIO 1.2, 5.2.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include "vmm/virtio/blk_aio.h"
#include "vmm/virtio/blk_file.h"
#include "vmm/virtio/virtio.h"

#define BLK_F_SEG_MAX (1ull << 2)
#define BLK_F_RO (1ull << 5)
#define BLK_F_BLK_SIZE (1ull << 6)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_TOPOLOGY (1ull << 10)
#define BLK_F_CONFIG_WCE (1ull << 11)
#define BLK_F_MQ (1ull << 12)
#define BLK_F_DISCARD (1ull << 13)
#define BLK_F_WRITE_ZEROES (1ull << 14)

/* 5.2.4: places in configuration space. */
#define BLK_CONFIG_CAPACITY 0
#define BLK_CONFIG_SEG_MAX 12
#define BLK_CONFIG_BLK_SIZE 20
#define BLK_CONFIG_TOPOLOGY 24 /* log2 of blocks in a physical one, 0, the same as a number, 0 */
#define BLK_CONFIG_WRITEBACK 32
#define BLK_CONFIG_NUM_QUEUES 34
#define BLK_CONFIG_DISCARD 36      /* max sectors, max segments, alignment in sectors */
#define BLK_CONFIG_WRITE_ZEROES 48 /* max sectors, max segments, may unmap */
#define BLK_CONFIG_SIZE 60

#define BLK_SERIAL_SIZE 20
#define BLK_DISCARD_SECTORS_MAX (1u << 22) /* 2 GiB a request */

struct blk;
struct blk_request;

struct blk_options {
	char file[CONFIG_PATH_MAX];
	char fd[64];
	char serial[BLK_SERIAL_SIZE + 1];
	uint32_t format; /* enum blk_format */
	bool read_only, direct;
	uint32_t logical, physical; /* sizes of blocks; physical 0: as logical */
	uint32_t queues, queue_size;
};

enum blk_format { BLK_FORMAT_AUTO, BLK_FORMAT_RAW };

struct blk_queue {
	struct blk *blk;
	struct virtio_queue *queue;
	struct blk_aio *aio;
	struct blk_request *free;
	struct blk_request *ready; /* waited, and can go on (blk_order.c) */
	unsigned in_flight;
	bool unflushed; /* something may not be on stable storage */
};

/* Counters for query-block; relaxed atomics. */
struct blk_stats {
	uint64_t reads, writes, flushes, bytes_read, bytes_written, failed;
};

/* Writes, in order of arrival, where the host's blocks are larger than sectors (blk_order.c). */
struct blk_order {
	pthread_mutex_t lock;
	struct blk_request *oldest, *newest;
	unsigned waiting;
};

struct blk {
	struct virtio virtio;
	struct blk_file file;
	char path[CONFIG_PATH_MAX];
	char serial[BLK_SERIAL_SIZE + 1];
	struct blk_queue *queues;
	struct blk_order order;
	bool lost;    /* the disk failed to take what was written */
	bool arrived; /* from elsewhere, and has not been started here */
	struct blk_stats stats;
};

/* With the worker's lock held. */
void blk_kick(struct virtio *v, struct virtio_queue *q);
extern const struct blk_aio_calls blk_request_calls;
void blk_requests_free(struct blk_queue *bq);

#endif
