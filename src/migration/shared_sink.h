/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink for several threads, before one that is for one: records of different
 * participants follow each other as they come, those of one in their order.
 * Nothing is kept here. Whoever has something to send waits for the others'
 * records to be gone, so there is never more in memory than what each
 * participant is about to send.
 */
#ifndef MIGRATION_SHARED_SINK_H
#define MIGRATION_SHARED_SINK_H

#include "vmm/participant.h"

#include <pthread.h>

struct shared_sink {
	struct sink sink;
	struct sink *to;
	pthread_mutex_t lock;
	const struct participant *culprit; /* whose failure stopped it; NULL: it works */
};

/* `to` may be NULL where nobody will send. */
void shared_sink_init(struct shared_sink *s, struct sink *to);
void shared_sink_fini(struct shared_sink *s);
/* p has failed: nothing passes any more (-ECANCELED). The first one counts. */
void shared_sink_stop(struct shared_sink *s, const struct participant *p);
/* Who has failed first, or NULL. */
const struct participant *shared_sink_culprit(struct shared_sink *s);

#endif
