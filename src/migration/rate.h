/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A limit of so many bytes a second, which may change at any time: what was
 * sent is owed until the time that it takes at the limit has passed. What
 * was not used up stays good for RATE_CREDIT_US, so that pauses of the sender
 * (a look at the dirty log, a pass that ends) do not make it slower than that.
 */
#ifndef MIGRATION_RATE_H
#define MIGRATION_RATE_H

#include <stdint.h>

#define RATE_CREDIT_US 100000

struct rate {
	double owed;     /* bytes; negative: credit */
	int64_t paid_us; /* up to then; a clock that does not go back */
};

static inline void rate_sent(struct rate *r, uint64_t bytes)
{
	r->owed += (double)bytes;
}

/* How long to wait before more is sent; 0: not at all. `limit` UINT64_MAX: there is none, and
 * nothing is owed. */
int64_t rate_wait_us(struct rate *r, uint64_t limit, int64_t now_us);

#endif
