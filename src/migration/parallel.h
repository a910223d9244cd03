/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call for each of several participants, all of them at once. The threads
 * are there before the guest stops: to start one takes longer than many a
 * call does.
 */
#ifndef MIGRATION_PARALLEL_H
#define MIGRATION_PARALLEL_H

#include "vmm/participant.h"

/* At most so many at once; a machine with more devices takes turns. */
#define PARALLEL_MAX 16

/* Threads that wait for calls to make. */
struct crew;

/* For `count` calls at once, of which the caller's own thread makes one too. NULL: there is but
 * one, or no thread can be had. */
struct crew *crew_create(size_t count);
/* Not while calls are made. NULL is fine. */
void crew_destroy(struct crew *crew);

struct parallel_call {
	struct participant *p;
	int result;
	struct gw_error err;
};

/* Calls `call` for each of `count`; returns when all have. What no thread of the crew has begun yet
 * the caller's own begins: so short calls wait for nobody to wake up, and without a crew (NULL) all
 * are made one after the other. */
void parallel_run(struct crew *crew, struct parallel_call *calls, size_t count,
                  void (*call)(void *opaque, struct parallel_call *c), void *opaque);

#endif
