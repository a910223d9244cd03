/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of virtio-balloon share. */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include "vmm/virtio/virtio.h"

/* Features (5.5.3). */
#define BALLOON_F_STATS_VQ (1ull << 1)
#define BALLOON_F_DEFLATE_ON_OOM (1ull << 2)
#define BALLOON_F_PAGE_POISON (1ull << 4)
#define BALLOON_F_PAGE_REPORTING (1ull << 5)

#define BALLOON_STATS 16 /* tags that have a name */

struct balloon {
	struct virtio v;
	uint64_t told; /* by the last event; device lock */
	/* Under the worker's lock: */
	bool poisoned; /* the guest relies on what it has filled free pages with */
	struct virtq_chain chain;
	uint64_t turn;     /* pages that may still be looked at before others get their turn */
	bool inhibited;    /* the log has said that nothing can be discarded */
	bool stats_seen;   /* the buffer that waits in the queue has been read */
	uint32_t interval; /* seconds between statistics; 0: none are asked for */
	uint64_t stats[BALLOON_STATS]; /* BALLOON_NO_STAT: not told */
	uint64_t stats_time;           /* seconds since 1970; 0: never */
	struct loop_timer *timer;      /* asks for statistics */
};
#define BALLOON_NO_STAT UINT64_MAX

static inline pthread_mutex_t *balloon_lock(struct balloon *b)
{
	return &b->v.workers[0].lock;
}

/* ---- balloon_stats.c; with that lock held, but for the commands --------------------- */

void balloon_stats_forget(struct balloon *b);
/* A buffer of statistics may have come. */
void balloon_stats_kick(struct balloon *b, struct virtio_queue *q);
/* Sets the timer, as far as there is something to ask for. */
void balloon_stats_schedule(struct balloon *b);
/* The timer's call. */
void balloon_stats_due(void *opaque);
void balloon_stats_save(const struct balloon *b, struct bytes *out);
int balloon_stats_load(struct balloon *b, struct bytes_reader *in, struct gw_error *err);
/* Commands "stats" and "set-polling-interval". */
int balloon_stats_command(struct balloon *b, cJSON **ret, struct gw_error *err);
int balloon_interval_command(struct balloon *b, const cJSON *args, struct gw_error *err);

#endif
