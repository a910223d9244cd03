/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the source's side of a live migration share. */
#ifndef MIGRATION_OUTGOING_H
#define MIGRATION_OUTGOING_H

#include "migration/migration_internal.h"
#include "migration/rate.h"
#include "migration/reader.h"
#include "migration/writer.h"

struct outgoing {
	struct output output;
	struct input input;
	struct migration *mig;
	struct channel channel;
	struct writer writer;
	struct reader reader; /* the destination's words */
	struct sequence sequence;
	struct gw_migrate_params params;
	enum phase phase; /* the last begun: what has to be undone */
	int64_t slice_end;
	int64_t pass_started;
	struct rate rate;      /* max-bandwidth's */
	int64_t throttled_us;  /* waited for it, within the call under way */
	uint64_t sample_bytes; /* sent since bandwidth was last reckoned, */
	int64_t sample_us;     /* and the time that sending took */
	unsigned acks_due;     /* MARKs that the destination has not answered */
	int read_timeout_ms;
	bool guest_stopped, was_running, handed_over;
};

int outgoing_run_phase(struct outgoing *o, enum phase phase, struct gw_error *err);
/* Reads a word of the destination's; an ERROR is one. */
int outgoing_heed(struct outgoing *o, struct gw_error *err);

/* outgoing_precopy.c: after PREPARE, with the guest running. */

/* A dirty sync has found so many pages; `outgoing` is void for the writer's sake. */
void outgoing_begin_pass(void *outgoing, uint64_t pages);

/* The first look at what there is. */
int outgoing_look(struct outgoing *o, struct gw_error *err);
/* Takes the ACK in the reader's hand. */
int outgoing_take_ack(struct outgoing *o, struct gw_error *err);
/* Sends until what is left fits the downtime allowed. */
int outgoing_precopy(struct outgoing *o, struct gw_error *err);

#endif
