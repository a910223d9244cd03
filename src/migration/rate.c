/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/rate.h"

#include "base/util.h"

int64_t rate_wait_us(struct rate *r, uint64_t limit, int64_t now)
{
	const double per_us = (double)MAX(limit, 1ull) / 1e6;
	const double paid = (double)(now - r->paid_us) * per_us;

	r->paid_us = now;
	if (limit == UINT64_MAX) {
		r->owed = 0;
		return 0;
	}
	r->owed = MAX(r->owed - paid, -per_us * RATE_CREDIT_US);
	return r->owed > 0 ? (int64_t)MIN(r->owed / per_us + 1, 1e15) : 0;
}
