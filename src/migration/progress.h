/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each participant has done and has left, in the outgoing migration that
 * is under way or was the last: for query-migrate, and for the decision when
 * to switch over. Guarded by the migration's lock.
 */
#ifndef MIGRATION_PROGRESS_H
#define MIGRATION_PROGRESS_H

#include "migration/sequence.h"

struct progress_row {
	const struct participant *p; /* to be compared, not to be followed: it may be gone */
	char name[40];
	enum participant_class class;
	uint64_t bytes;       /* sent, in frames */
	uint64_t remaining;   /* at the last look, */
	uint64_t precopy;     /* and how much of it iterate() can send */
	uint64_t us[PHASES];  /* spent in each phase, over all its calls */
	uint64_t rated_bytes; /* sent in iterate(), */
	uint64_t rated_us;    /* and the time of the calls that sent something */
	bool not_yet;         /* it has initial data left, at the last look */
	bool unmarked;        /* it had, and no MARK has ended them so far */
	unsigned acks_due;    /* MARKs that the destination has not answered */
};

/* One row for each participant, in the order of the TABLE. */
struct progress {
	struct progress_row *rows;
	size_t count;
};

int progress_init(struct progress *progress, const struct participant_list *list,
                  struct gw_error *err);
void progress_fini(struct progress *progress);

void progress_sent(struct progress *progress, const struct participant *p, uint64_t bytes);
void progress_called(struct progress *progress, const struct participant *p, enum phase phase,
                     uint64_t us);
void progress_pending(struct progress *progress, const struct participant *p,
                      const struct participant_pending *pending);

/* Pages of RAM that were dirty at the last look. */
uint64_t progress_dirty_pages(const struct progress *progress);

/* How long it takes to send what remains, over a connection of `bandwidth` bytes/s. Those who save
 * side by side share it, and the slowest of them, at the rate that it has shown, sets the time
 * that the rest cannot go below. */
uint64_t progress_expected_us(const struct progress *progress, uint64_t bandwidth);

#endif
