/* SPDX-License-Identifier: Apache-2.0 */
/* One call for each of several participants, all of them at once. */
#ifndef MIGRATION_PARALLEL_H
#define MIGRATION_PARALLEL_H

#include "vmm/participant.h"

/* At most so many threads, the caller's included; a machine with more devices takes turns. */
#define PARALLEL_MAX 16

struct parallel_call {
	struct participant *p;
	int result;
	struct gw_error err;
};

/* Calls `call` for `count` (up to PARALLEL_MAX) of them, a thread each, the last on the caller's
 * own; returns when all have. Where no thread can be had the caller's takes that call, too. */
void parallel_run(struct parallel_call *calls, size_t count,
                  void (*call)(void *opaque, struct parallel_call *c), void *opaque);

#endif
