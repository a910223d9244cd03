/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/progress.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>

/* Less than this says nothing of how fast a participant is. */
#define RATE_SAMPLE (1 * MIB)

int progress_init(struct progress *progress, const struct participant_list *list,
                  struct gw_error *err)
{
	size_t count = 0;

	for (const struct participant *p = list->first; p; p = p->next)
		count++;
	*progress = (struct progress){ .rows = calloc(count + 1, sizeof(struct progress_row)) };
	if (!progress->rows)
		return error_set(err, -ENOMEM, "migration: out of memory");
	for (const struct participant *p = list->first; p; p = p->next) {
		struct progress_row *row = &progress->rows[progress->count++];

		row->p = p;
		row->class = p->ops->class;
		snprintf(row->name, sizeof(row->name), "%s", p->name);
	}
	return 0;
}

void progress_fini(struct progress *progress)
{
	free(progress->rows);
	*progress = (struct progress){ 0 };
}

static struct progress_row *row_of(struct progress *progress, const struct participant *p)
{
	for (size_t i = 0; i < progress->count; i++)
		if (progress->rows[i].p == p)
			return &progress->rows[i];
	return NULL;
}

void progress_sent(struct progress *progress, const struct participant *p, uint64_t bytes)
{
	struct progress_row *row = row_of(progress, p);

	if (row)
		row->bytes += bytes;
}

void progress_called(struct progress *progress, const struct participant *p, enum phase phase,
                     uint64_t us)
{
	struct progress_row *row = row_of(progress, p);

	if (!row)
		return;
	row->us[phase] += us;
	if (phase == PHASE_ITERATE && row->bytes > row->rated_bytes) {
		row->rated_bytes = row->bytes;
		row->rated_us += us;
	}
}

void progress_pending(struct progress *progress, const struct participant *p,
                      const struct participant_pending *pending)
{
	struct progress_row *row = row_of(progress, p);

	if (!row)
		return;
	row->remaining = pending->precopy + pending->stop;
	row->precopy = pending->precopy;
	row->not_yet = pending->not_yet;
	row->unmarked |= pending->not_yet;
}

uint64_t progress_dirty_pages(const struct progress *progress)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < progress->count; i++)
		if (progress->rows[i].class == PARTICIPANT_RAM)
			pages += progress->rows[i].precopy / PAGE_SIZE;
	return pages;
}

static double us_at(uint64_t bytes, double bytes_per_us)
{
	return (double)bytes / bytes_per_us;
}

static double own_us(const struct progress_row *row)
{
	if (row->rated_bytes < RATE_SAMPLE)
		return 0;
	return us_at(row->remaining, (double)row->rated_bytes / (double)MAX(row->rated_us, 1ull));
}

uint64_t progress_expected_us(const struct progress *progress, uint64_t bandwidth)
{
	const double link = (double)MAX(bandwidth, 1ull) / 1e6;
	uint64_t alone = 0, together = 0;
	double slowest = 0, us;

	for (size_t i = 0; i < progress->count; i++) {
		const struct progress_row *row = &progress->rows[i];

		if (!sequence_side_by_side(PHASE_SAVE, row->class)) {
			alone += row->remaining;
			continue;
		}
		together += row->remaining;
		slowest = MAX(slowest, own_us(row));
	}
	us = us_at(alone, link) + MAX(us_at(together, link), slowest);
	return us < 1e15 ? (uint64_t)us : (uint64_t)1e15;
}
