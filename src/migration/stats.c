/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/stats.h"

#include "base/util.h"

/* How long the latest rates are measured for; and the time after which a measurement under way
 * says more than the last complete one. */
#define WINDOW_MS 100
#define STALE_MS 1000

static struct stats_rates rates_of(uint64_t bytes, uint64_t pages, int64_t ms)
{
	const uint64_t time = (uint64_t)MAX(ms, 1);

	return (struct stats_rates){
		.mbps = (double)bytes * 8.0 / 1000.0 / (double)time,
		.pages_per_second = pages * 1000 / time,
	};
}

static uint64_t pages_of(const struct stats *s)
{
	return s->normal_pages + s->zero_pages;
}

void stats_synced(struct stats *s, uint64_t pages)
{
	s->rounds++;
	s->remaining = pages * PAGE_SIZE;
}

void stats_moved(struct stats *s, uint64_t bytes, uint64_t normal_pages, uint64_t zero_pages,
                 int64_t now)
{
	s->bytes += bytes;
	s->normal_pages += normal_pages;
	s->zero_pages += zero_pages;
	s->remaining -= MIN(s->remaining, (normal_pages + zero_pages) * PAGE_SIZE);
	if (s->window_began && now - s->window_began < WINDOW_MS)
		return;
	if (s->window_began)
		s->latest = rates_of(s->bytes - s->window_bytes, pages_of(s) - s->window_pages,
		                     now - s->window_began);
	s->has_latest = s->window_began;
	s->window_began = now;
	s->window_bytes = s->bytes;
	s->window_pages = pages_of(s);
}

void stats_stopped(struct stats *s, int64_t now)
{
	s->stopped = now;
	s->bytes_at_stop = s->bytes;
}

struct stats_rates stats_rates(const struct stats *s, int64_t now)
{
	const int64_t since = s->setup_done ? s->setup_done : s->started;

	if (s->ended || !s->has_latest)
		return rates_of(s->bytes, pages_of(s), (s->ended ? s->ended : now) - since);
	if (now - s->window_began < STALE_MS)
		return s->latest;
	return rates_of(s->bytes - s->window_bytes, pages_of(s) - s->window_pages,
	                now - s->window_began);
}
