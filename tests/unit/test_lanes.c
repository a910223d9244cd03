/* SPDX-License-Identifier: Apache-2.0 */
/* From the reader to participants that are fast, slow, or fail. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "migration/lanes.h"
#include "migration/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DEVICES 4
#define RECORD (256 * KIB)
/* A record, and something for what belongs to it. */
#define FITS (LANE_BYTES / (RECORD + 1024))

struct world;
struct dev {
	struct participant p;
	struct world *w;
	uint32_t loaded; /* records; atomic */
	bool shut;       /* takes nothing; atomic */
	int fail_at;     /* this record; -1: none */
	pthread_t thread;
};

struct world {
	struct dev devs[DEVICES];
	struct dev cpu;
	struct participant_ops ops, cpu_ops;
	struct reader reader;
	struct lanes *lanes;
	struct table_row rows[DEVICES + 1];
	uint32_t sequence[DEVICES + 1];       /* atomic */
	unsigned marked[DEVICES + 1], failed; /* atomic */
	uint8_t payload[RECORD + 1];
};

static int load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
                struct gw_error *err)
{
	struct dev *d = container_of(p, struct dev, p);
	uint32_t number;

	(void)version, (void)type;
	cr_assert_eq(len, RECORD);
	while (__atomic_load_n(&d->shut, __ATOMIC_SEQ_CST))
		usleep(500);
	memcpy(&number, buf, sizeof(number));
	cr_assert_eq(number, d->loaded, "%s: out of order", p->name);
	if ((int)number == d->fail_at)
		return error_set(err, -EIO, "it broke");
	d->thread = pthread_self();
	__atomic_add_fetch(&d->loaded, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void on_marked(void *opaque, uint32_t row)
{
	struct world *w = opaque;

	__atomic_add_fetch(&w->marked[row], 1, __ATOMIC_SEQ_CST);
}

static void on_failed(void *opaque)
{
	struct world *w = opaque;

	__atomic_add_fetch(&w->failed, 1, __ATOMIC_SEQ_CST);
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct lanes_watch watch = { w, on_marked, on_failed };

	w->ops = (struct participant_ops){ .class = PARTICIPANT_PASSTHROUGH, .load = load };
	w->cpu_ops = w->ops;
	w->cpu_ops.class = PARTICIPANT_VCPU;
	for (unsigned i = 0; i <= DEVICES; i++) {
		struct dev *d = i < DEVICES ? &w->devs[i] : &w->cpu;

		d->w = w;
		d->fail_at = -1;
		d->p.ops = i < DEVICES ? &w->ops : &w->cpu_ops;
		snprintf(w->rows[i].name, sizeof(w->rows[i].name), "dev%u", i);
		strcpy(d->p.name, w->rows[i].name);
		w->rows[i].p = &d->p;
	}
	w->reader = (struct reader){ .table = w->rows,
		                     .table_count = DEVICES + 1,
		                     .payload = w->payload };
	cr_assert_eq(lanes_create(&w->reader, &watch, &w->lanes, NULL), 0);
	return w;
}

static void world_free(struct world *w)
{
	lanes_destroy(w->lanes);
	free(w);
}

static int feed(struct world *w, uint32_t row, struct gw_error *err)
{
	memcpy(w->payload, &w->sequence[row], sizeof(uint32_t));
	__atomic_add_fetch(&w->sequence[row], 1, __ATOMIC_SEQ_CST);
	w->reader.h =
	        (struct frame_header){ .type = FRAME_RECORD, .participant = row, .length = RECORD };
	return lanes_deliver(w->lanes, err);
}

static int feed_mark(struct world *w, uint32_t row, struct gw_error *err)
{
	w->reader.h = (struct frame_header){ .type = FRAME_MARK, .participant = row };
	return lanes_deliver(w->lanes, err);
}

static void shut(struct dev *d, bool shut)
{
	__atomic_store_n(&d->shut, shut, __ATOMIC_SEQ_CST);
}

Test(lanes, all_arrives_in_order)
{
	struct world *w = world_new();
	struct gw_error err;

	for (unsigned i = 0; i < 64; i++)
		for (uint32_t row = 0; row <= DEVICES; row++)
			cr_assert_eq(feed(w, row, &err), 0, "%s", err.text);
	cr_assert_eq(lanes_drain(w->lanes, &err), 0, "%s", err.text);
	for (unsigned i = 0; i < DEVICES; i++) {
		cr_assert_eq(w->devs[i].loaded, 64);
		cr_assert_neq(w->devs[i].thread, pthread_self());
		cr_assert(!i || w->devs[i].thread != w->devs[0].thread);
	}
	cr_assert_eq(w->cpu.loaded, 64);
	cr_assert_eq(w->cpu.thread, pthread_self(), "only devices have lanes");
	world_free(w);
}

/* One takes nothing: all others get everything meanwhile. */
Test(lanes, slow_device_stalls_nobody)
{
	struct world *w = world_new();
	struct gw_error err;

	shut(&w->devs[0], true);
	for (unsigned i = 0; i < FITS; i++)
		cr_assert_eq(feed(w, 0, &err), 0);
	for (unsigned i = 0; i < 64; i++)
		for (uint32_t row = 1; row <= DEVICES; row++)
			cr_assert_eq(feed(w, row, &err), 0);
	for (unsigned i = 1; i < DEVICES; i++)
		while (__atomic_load_n(&w->devs[i].loaded, __ATOMIC_SEQ_CST) < 64)
			usleep(500);
	cr_assert_eq(w->devs[0].loaded, 0);
	shut(&w->devs[0], false);
	cr_assert_eq(lanes_drain(w->lanes, &err), 0);
	cr_assert_eq(w->devs[0].loaded, FITS);
	world_free(w);
}

static void *feed_all(void *opaque)
{
	struct world *w = opaque;

	for (unsigned i = 0; i < 64; i++)
		feed(w, 0, NULL);
	return NULL;
}

/* 16 MiB for one that takes nothing: what waits is bounded, and the source with it. */
Test(lanes, memory_is_bounded)
{
	struct world *w = world_new();
	pthread_t feeder;
	struct gw_error err;
	uint32_t accepted;

	shut(&w->devs[0], true);
	pthread_create(&feeder, NULL, feed_all, w);
	while (__atomic_load_n(&w->sequence[0], __ATOMIC_SEQ_CST) < FITS)
		usleep(500);
	usleep(100000);
	/* One is being loaded, one waits outside. */
	accepted = __atomic_load_n(&w->sequence[0], __ATOMIC_SEQ_CST);
	cr_assert_leq(accepted * RECORD, LANE_BYTES + 2 * RECORD, "%u records", accepted);
	shut(&w->devs[0], false);
	pthread_join(feeder, NULL);
	cr_assert_eq(lanes_drain(w->lanes, &err), 0, "%s", err.text);
	cr_assert_eq(w->devs[0].loaded, 64);
	world_free(w);
}

Test(lanes, failure_ends_all_and_is_named)
{
	struct world *w = world_new();
	struct gw_error err = { 0 };

	w->devs[1].fail_at = 3;
	shut(&w->devs[0], true);
	for (unsigned i = 0; i < 4; i++)
		for (uint32_t row = 0; row < 2; row++)
			feed(w, row, &err);
	while (!__atomic_load_n(&w->failed, __ATOMIC_SEQ_CST))
		usleep(500);
	cr_assert_eq(lanes_check(w->lanes, &err), -EIO);
	cr_assert(strstr(err.text, "dev1: load: frame 0 (record): it broke"), "%s", err.text);
	/* Whoever comes next hears of it, by whatever lane or none. */
	cr_assert_eq(feed(w, 2, &err), -EIO);
	cr_assert_eq(feed(w, DEVICES, &err), -EIO);
	cr_assert_eq(w->cpu.loaded, 0);
	shut(&w->devs[0], false);
	cr_assert_eq(lanes_drain(w->lanes, &err), -EIO);
	cr_assert(strstr(err.text, "dev1: "), "%s", err.text);
	cr_assert_eq(w->failed, 1);
	world_free(w);
}

/* A full lane whose device fails lets go of whoever waits for room. */
Test(lanes, failure_wakes_who_waits_for_room)
{
	struct world *w = world_new();
	pthread_t feeder;

	w->devs[0].fail_at = 0;
	shut(&w->devs[0], true);
	pthread_create(&feeder, NULL, feed_all, w);
	while (__atomic_load_n(&w->sequence[0], __ATOMIC_SEQ_CST) < FITS)
		usleep(500);
	shut(&w->devs[0], false);
	pthread_join(feeder, NULL);
	cr_assert_eq(lanes_check(w->lanes, NULL), -EIO);
	world_free(w);
}

Test(lanes, what_waits_is_dropped_at_the_end)
{
	struct world *w = world_new();
	struct gw_error err;

	shut(&w->devs[0], true);
	for (unsigned i = 0; i < FITS; i++)
		feed(w, 0, &err);
	w->devs[0].fail_at = 0; /* the one under way, if there is one, is the last */
	shut(&w->devs[0], false);
	world_free(w);
}

/* The mark is behind the records that came before it. */
Test(lanes, mark_comes_when_all_before_it_is_loaded)
{
	struct world *w = world_new();
	struct gw_error err;

	shut(&w->devs[0], true);
	feed(w, 0, &err);
	feed_mark(w, 0, &err);
	feed(w, 0, &err);
	feed(w, 1, &err);
	feed_mark(w, 1, &err);
	while (!__atomic_load_n(&w->marked[1], __ATOMIC_SEQ_CST))
		usleep(500);
	cr_assert_eq(w->marked[0], 0);
	cr_assert_eq(w->devs[1].loaded, 1);
	/* One that has no lane has loaded what came before it. */
	cr_assert_eq(feed_mark(w, DEVICES, &err), 0);
	cr_assert_eq(w->marked[DEVICES], 1);
	shut(&w->devs[0], false);
	cr_assert_eq(lanes_drain(w->lanes, &err), 0);
	cr_assert_eq(w->marked[0], 1);
	cr_assert_eq(w->devs[0].loaded, 2);
	world_free(w);
}

Test(lanes, participant_beyond_the_table_is_refused)
{
	struct world *w = world_new();
	struct gw_error err;

	w->reader.h = (struct frame_header){ .type = FRAME_RECORD, .participant = DEVICES + 1 };
	cr_assert_eq(lanes_deliver(w->lanes, &err), -EPROTO);
	w->reader.h.participant = NO_PARTICIPANT;
	cr_assert_eq(lanes_deliver(w->lanes, &err), -EPROTO);
	world_free(w);
}

/* ---- the expected downtime ---------------------------------------------------------------------
 */

/* RAM alone, then devices that share the link; `rate` bytes/us that the second has shown. */
static uint64_t expected(uint64_t ram, uint64_t dev0, uint64_t dev1, uint64_t rate)
{
	struct progress_row rows[3] = {
		{ .class = PARTICIPANT_RAM, .remaining = ram },
		{ .class = PARTICIPANT_PASSTHROUGH, .remaining = dev0 },
		{ .class = PARTICIPANT_PASSTHROUGH, .remaining = dev1 },
	};
	const struct progress progress = { rows, 3 };

	rows[2].rated_us = 100000;
	rows[2].rated_bytes = rate * rows[2].rated_us;
	return progress_expected_us(&progress, 1000 * 1000000ull); /* 1000 bytes/us */
}

Test(lanes, expected_downtime_knows_what_is_shared)
{
	cr_assert_eq(expected(0, 0, 0, 0), 0);
	cr_assert_eq(expected(5000000, 0, 0, 0), 5000);
	/* Together they need the link for all of their bytes... */
	cr_assert_eq(expected(5000000, 2000000, 3000000, 0), 10000);
	cr_assert_eq(expected(5000000, 2000000, 3000000, 1000), 10000);
	/* ...and one that is slow itself as long as it takes, while the other hides behind it. */
	cr_assert_eq(expected(5000000, 2000000, 3000000, 100), 35000);
	/* What has shown too little has no rate. */
	cr_assert_eq(expected(0, 0, 3000000, 10), 3000);
}
