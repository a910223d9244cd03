/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the reader to the participants. Where the table of phases lets a class
 * load side by side, its participants have lanes: a queue and a thread each.
 * A device that takes its data slowly then keeps nobody waiting until its
 * queue is full. All others are loaded at once, on the reader's thread.
 *
 * What comes in here has been verified. Records of one participant are
 * loaded in their order; nothing is said of the order between two lanes.
 */
#ifndef MIGRATION_LANES_H
#define MIGRATION_LANES_H

#include "migration/reader.h"

/* What may wait in one lane, overhead included; one record always may. */
#define LANE_BYTES (4u << 20)
/* More devices than that share lanes. */
#define LANES_MAX 16

struct lanes;

/* Called on a lane's thread, or within lanes_deliver. */
struct lanes_watch {
	void *opaque;
	/* All that came for this row of the table before its MARK has been loaded. */
	void (*marked)(void *opaque, uint32_t row);
	/* A lane has failed: lanes_check() says how. */
	void (*failed)(void *opaque);
};

/* For a reader whose table has been matched, and which outlives it. `watch` may be NULL. */
int lanes_create(struct reader *reader, const struct lanes_watch *watch, struct lanes **out,
                 struct gw_error *err);
/* What waits is dropped; a call under way ends. NULL is fine. */
void lanes_destroy(struct lanes *lanes);

/* Takes the frame in the reader's hand. Waits while its lane is full. Fails with the first
 * failure of any lane. */
int lanes_deliver(struct lanes *lanes, struct gw_error *err);
/* Waits until everything has been loaded. */
int lanes_drain(struct lanes *lanes, struct gw_error *err);
/* The first failure of any lane, or 0. */
int lanes_check(struct lanes *lanes, struct gw_error *err);

#endif
