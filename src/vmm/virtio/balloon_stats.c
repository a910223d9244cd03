/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon's statistics. The driver leaves a buffer with its numbers in the
 * queue; to get new ones the device returns it, and the driver sends another.
 * Here the buffer that waits stays in the ring, so nothing is ever in flight.
 * Source: VIRTIO 1.2, 5.5.6.3.
 */
#include "vmm/virtio/balloon.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>

#define QUEUE_STATS 2
#define INTERVAL_MAX 86400 /* seconds */
#define ENTRIES_MAX 64     /* that are looked at in one buffer */

struct entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

/* By tag; the names are those of QMP's guest-stats. */
static const char *const names[BALLOON_STATS] = {
	"stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
	"stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
	"stat-htlb-pgalloc", "stat-htlb-pgfail",  "stat-oom-kills",        "stat-alloc-stalls",
	"stat-async-scans",  "stat-direct-scans", "stat-async-reclaims",   "stat-direct-reclaims",
};

void balloon_stats_forget(struct balloon *b)
{
	b->stats_seen = false;
	b->stats_time = 0;
	for (unsigned i = 0; i < BALLOON_STATS; i++)
		b->stats[i] = BALLOON_NO_STAT;
}

static struct virtio_queue *stats_queue(struct balloon *b)
{
	struct virtio_queue *q = &b->v.queues[QUEUE_STATS];

	return b->v.active && virtio_has(&b->v, BALLOON_F_STATS_VQ) && q->ring.enabled ? q : NULL;
}

/* The buffer that waits; false: there is none, and the driver will kick. */
static bool next(struct balloon *b, struct virtio_queue *q)
{
	int r;

	do {
		r = virtq_pop(&q->ring, &b->chain);
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		virtio_break(&b->v, q->ring.broken ? q->ring.broken : "out of memory");
	return r > 0;
}

static void read_entries(struct balloon *b)
{
	for (unsigned i = 0; i < ENTRIES_MAX; i++) {
		struct entry e;

		if (virtq_chain_read(&b->chain, i * sizeof(e), &e, sizeof(e)) < sizeof(e))
			break;
		if (le16toh(e.tag) < BALLOON_STATS)
			b->stats[le16toh(e.tag)] = le64toh(e.value);
	}
	b->stats_time = (uint64_t)wall_us() / 1000000;
	b->stats_seen = true;
}

void balloon_stats_kick(struct balloon *b, struct virtio_queue *q)
{
	if (b->stats_seen || !next(b, q))
		return;
	read_entries(b);
	virtq_unpop(&q->ring, &b->chain);
}

/* Has the driver send new numbers. */
static void ask(struct balloon *b)
{
	struct virtio_queue *q = stats_queue(b);

	if (!q || !b->stats_seen || !next(b, q))
		return;
	b->stats_seen = false;
	virtio_push(q, &b->chain, 0);
	/* From now on a kick tells of the answer, unless that is here already. */
	balloon_stats_kick(b, q);
}

void balloon_stats_schedule(struct balloon *b)
{
	loop_timer_set(b->timer, b->interval ? (int64_t)b->interval * 1000 : -1);
}

void balloon_stats_due(void *opaque)
{
	struct balloon *b = opaque;

	pthread_mutex_lock(balloon_lock(b));
	if (b->v.active) {
		ask(b);
		balloon_stats_schedule(b);
	}
	pthread_mutex_unlock(balloon_lock(b));
}

/* ---- state -------------------------------------------------------------------------- */

void balloon_stats_save(const struct balloon *b, struct bytes *out)
{
	bytes_put8(out, b->stats_seen);
	bytes_put32(out, b->interval);
	bytes_put64(out, b->stats_time);
	for (unsigned i = 0; i < BALLOON_STATS; i++)
		bytes_put64(out, b->stats[i]);
}

int balloon_stats_load(struct balloon *b, struct bytes_reader *in, struct gw_error *err)
{
	const uint8_t seen = bytes_take8(in);
	const uint32_t interval = bytes_take32(in);

	if (seen > 1 || interval > INTERVAL_MAX)
		return error_set(err, -EINVAL, "statistics: flag %u, interval %u", seen, interval);
	b->stats_seen = seen;
	b->interval = interval;
	b->stats_time = bytes_take64(in);
	for (unsigned i = 0; i < BALLOON_STATS; i++)
		b->stats[i] = bytes_take64(in);
	return 0;
}

/* ---- commands ----------------------------------------------------------------------- */

int balloon_stats_command(struct balloon *b, cJSON **ret, struct gw_error *err)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *stats = cJSON_AddObjectToObject(root, "stats");
	bool ok = stats;

	pthread_mutex_lock(balloon_lock(b));
	for (unsigned i = 0; i < BALLOON_STATS && ok; i++)
		if (b->stats[i] != BALLOON_NO_STAT)
			ok = cJSON_AddNumberToObject(stats, names[i], (double)b->stats[i]);
	ok = ok && cJSON_AddNumberToObject(root, "last-update", (double)b->stats_time);
	/* Who polls by this command alone finds new numbers the next time. */
	if (!b->interval)
		ask(b);
	pthread_mutex_unlock(balloon_lock(b));
	if (!ok) {
		cJSON_Delete(root);
		return error_set(err, -ENOMEM, "out of memory");
	}
	*ret = root;
	return 0;
}

int balloon_interval_command(struct balloon *b, const cJSON *args, struct gw_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(args, "interval");

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
	    item->valuedouble > INTERVAL_MAX || item->valuedouble != (uint32_t)item->valuedouble)
		return error_set(err, -EINVAL, "interval: not a number of seconds from 0 to %d",
		                 INTERVAL_MAX);
	pthread_mutex_lock(balloon_lock(b));
	b->interval = (uint32_t)item->valuedouble;
	if (b->v.active)
		balloon_stats_schedule(b);
	pthread_mutex_unlock(balloon_lock(b));
	return 0;
}
