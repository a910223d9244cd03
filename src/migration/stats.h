/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration has done so far, on either side: counters that its thread writes and
 * query-migrate reads. They count as QEMU's do: a pass begins with a dirty sync, which sets what
 * remains of RAM, and each page that is sent or has come takes it down.
 */
#ifndef MIGRATION_STATS_H
#define MIGRATION_STATS_H

#include <stdbool.h>
#include <stdint.h>

enum migration_status {
	MIGRATION_NONE,
	MIGRATION_SETUP,
	MIGRATION_WAIT_UNPLUG, /* what does not come along has yet to leave */
	MIGRATION_ACTIVE,
	MIGRATION_DEVICE, /* the guest is stopped for the switchover */
	MIGRATION_COMPLETED,
	MIGRATION_FAILED,
	MIGRATION_CANCELLING,
	MIGRATION_CANCELLED,
};
const char *migration_status_name(enum migration_status status);

struct stats_rates {
	double mbps; /* 10^6 bits/s */
	uint64_t pages_per_second;
};

/* Guarded by the migration's lock. Bytes and pages; times in ms of the monotonic clock. */
struct stats {
	uint64_t bytes;        /* all that was sent, or has come */
	uint64_t normal_pages; /* with their data */
	uint64_t zero_pages;
	uint64_t device_bytes;     /* of passthrough devices' records */
	uint64_t remaining;        /* of RAM */
	uint64_t total_ram;        /* 0: not known yet */
	uint64_t rounds;           /* dirty syncs */
	uint64_t dirty_pages_rate; /* pages/s between the last two syncs */
	uint64_t bandwidth;        /* bytes/s, over the last pass that says something */
	uint64_t bytes_at_stop;    /* `bytes` when the guest was stopped */
	int64_t started, setup_done, stopped, ended;
	int64_t running; /* when the destination said so */
	int64_t expected_downtime;

	struct stats_rates latest; /* of the last complete window */
	bool has_latest;
	int64_t window_began; /* 0: none has */
	uint64_t window_bytes, window_pages;
};

/* A dirty sync has found so many pages of RAM, which come next: a pass begins. */
void stats_synced(struct stats *s, uint64_t pages);
void stats_moved(struct stats *s, uint64_t bytes, uint64_t normal_pages, uint64_t zero_pages,
                 int64_t now);
/* The guest was stopped for the switchover. */
void stats_stopped(struct stats *s, int64_t now);
/* How fast it is: lately, or over all of it once it has ended. */
struct stats_rates stats_rates(const struct stats *s, int64_t now);

#endif
