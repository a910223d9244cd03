/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration has done so far: counters that its thread writes and query-migrate reads. */
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

/* Guarded by the migration's lock. Bytes and pages; times in ms of the monotonic clock. */
struct stats {
	uint64_t bytes;        /* all that was sent */
	uint64_t normal_pages; /* sent with their data */
	uint64_t zero_pages;
	uint64_t device_bytes; /* of passthrough devices' records */
	uint64_t remaining;    /* at the last look */
	uint64_t total_ram;
	uint64_t rounds;           /* dirty syncs */
	uint64_t dirty_pages_rate; /* pages/s between the last two syncs */
	uint64_t bandwidth;        /* bytes/s, over the last pass that says something */
	uint64_t bytes_at_stop;    /* `bytes` when the guest was stopped */
	int64_t started, setup_done, stopped, ended;
	int64_t running; /* when the destination said so */
	int64_t expected_downtime;
};

#endif
