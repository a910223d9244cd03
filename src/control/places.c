/* SPDX-License-Identifier: Apache-2.0 */
#include "control/places.h"

/* One that is yet unknown makes no room for itself at the cost of those that are known. */
static bool may_be_dropped(const struct standing *s, bool reserved, enum peer_kind by,
                           int64_t now_ms)
{
	if (!s->idle)
		return false;
	if (reserved)
		return by != PEER_GROUP &&
		       (s->served || now_ms - s->came_ms >= PLACE_FIRST_COMMAND_MS);
	return by != PEER_REMOTE || s->shaking;
}

int place_choose(const struct standing all[PLACES], enum peer_kind kind, int64_t now_ms)
{
	int oldest = -1;

	for (int i = 0; i < PLACES; i++)
		if (!all[i].taken && (i != PLACE_RESERVED || kind != PEER_GROUP))
			return i;
	for (int i = 0; i < PLACES; i++)
		if (may_be_dropped(&all[i], i == PLACE_RESERVED, kind, now_ms) &&
		    (oldest < 0 || all[i].active_ms < all[oldest].active_ms))
			oldest = i;
	return oldest;
}
