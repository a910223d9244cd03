/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source, while the guest runs: passes over what is dirty, and the
 * decision when to switch over. Three things have to be true at once: no
 * participant has initial data left; the destination has loaded (not only
 * received) the initial data of all that had some, and acknowledged it; and
 * what is left can be sent in the downtime allowed.
 */
#include "migration/outgoing.h"

#include "base/error.h"
#include "base/util.h"

#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* Less than this says nothing about the bandwidth: it may all be in the socket's buffer. Until
 * that much was sent a slow link is assumed. */
#define BANDWIDTH_SAMPLE (1 * MIB)
#define BANDWIDTH_GUESS (10 * MIB)
/* The shortest time from one dirty sync to the next. */
#define PASS_MS 10
/* How long iterate() may go on before the others get their turn. */
#define SLICE_MS 100

/* ---- initial data and their acknowledgement ------------------------------------------------ */

int outgoing_take_ack(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	uint32_t number;
	bool due;

	if (o->reader.h.length != sizeof(number))
		return error_set(err, -EPROTO, "destination: ack of %u bytes", o->reader.h.length);
	memcpy(&number, o->reader.payload, sizeof(number));
	number = le32toh(number);
	pthread_mutex_lock(&mig->lock);
	due = number < mig->progress.count && mig->progress.rows[number].acks_due;
	if (due)
		mig->progress.rows[number].acks_due--;
	pthread_mutex_unlock(&mig->lock);
	if (!due)
		return error_set(err, -EPROTO,
		                 "destination: it acknowledges what was not sent (participant %u)",
		                 number);
	o->acks_due--;
	return 0;
}

/* All that the destination has said so far: nothing but acks, while the guest runs. */
static int heed_acks(struct outgoing *o, struct gw_error *err)
{
	int r = 0;

	o->read_timeout_ms = (int)o->params.network_timeout_ms;
	while (!r && channel_readable(&o->channel)) {
		r = outgoing_heed(o, err);
		if (!r && o->reader.h.type == FRAME_ACK)
			r = outgoing_take_ack(o, err);
		else if (!r)
			r = error_set(err, -EPROTO, "destination: it says %s too early",
			              frame_type_name(o->reader.h.type));
	}
	return r;
}

/* Is a MARK due for this row? Then it counts as sent. */
static bool take_mark(struct outgoing *o, const struct participant *p)
{
	struct progress *progress = &o->mig->progress;
	bool due = false;

	pthread_mutex_lock(&o->mig->lock);
	for (size_t i = 0; i < progress->count; i++) {
		struct progress_row *row = &progress->rows[i];

		if (row->p != p || !row->unmarked || row->not_yet)
			continue;
		due = true;
		row->unmarked = false;
		row->acks_due++;
	}
	pthread_mutex_unlock(&o->mig->lock);
	return due;
}

/* A device may have initial data a second time: then there is a second MARK. */
static int mark_initial_data(struct outgoing *o, struct gw_error *err)
{
	int r = 0;

	if (o->params.switchover_ack == GW_SWITCH_OFF)
		return 0;
	for (struct participant *p = o->sequence.list->first; p && !r; p = p->next) {
		if (!take_mark(o, p))
			continue;
		o->acks_due++;
		r = writer_frame(&o->writer, FRAME_MARK, 0, p, NULL, 0, NULL, 0, err);
	}
	return r ? r : writer_flush(&o->writer, err);
}

static bool initial_data_acknowledged(const struct outgoing *o)
{
	return !o->acks_due || o->params.switchover_ack == GW_SWITCH_OFF;
}

/* ---- one pass ------------------------------------------------------------------------------- */

/* All that there is to send now, once through. */
static int send_pass(struct outgoing *o, struct gw_error *err)
{
	int r;

	o->pass_started = now_ms();
	do {
		o->slice_end = now_ms() + SLICE_MS;
		r = outgoing_run_phase(o, PHASE_ITERATE, err);
		if (!r)
			r = heed_acks(o, err);
	} while (!r && o->sequence.paused);
	return r ? r : writer_flush(&o->writer, err);
}

/* Where little is left the passes would follow each other faster than they are of use. */
static int pace(struct outgoing *o, struct gw_error *err)
{
	struct pollfd fds[2] = {
		{ .fd = o->channel.cancel_fd, .events = POLLIN },
		{ .fd = o->channel.fd, .events = POLLIN },
	};
	int64_t left = o->pass_started + PASS_MS - now_ms();

	if (left > 0)
		poll(fds, 2, (int)left);
	return channel_check_cancel(&o->channel, err);
}

/* ---- the decision ------------------------------------------------------------------------------
 */

/* Bytes/s to reckon with. Lock held. */
static uint64_t bandwidth(struct outgoing *o)
{
	struct stats *s = &o->mig->stats;

	if (o->sample_bytes >= BANDWIDTH_SAMPLE) {
		s->bandwidth =
		        (uint64_t)((double)o->sample_bytes * 1e6 / (double)MAX(o->sample_us, 1));
		o->sample_bytes = 0;
		o->sample_us = 0;
	} else if (!s->bandwidth) {
		s->bandwidth = BANDWIDTH_GUESS;
	}
	/* What waits for the limit goes out while nobody measures. */
	s->bandwidth = MIN(s->bandwidth, MAX(o->params.max_bandwidth, 1ull));
	return o->params.switchover_bandwidth ? o->params.switchover_bandwidth : s->bandwidth;
}

void outgoing_begin_pass(void *outgoing, uint64_t pages)
{
	struct outgoing *o = outgoing;
	struct stats *s = &o->mig->stats;
	char data[48];

	pthread_mutex_lock(&o->mig->lock);
	stats_synced(s, pages);
	o->writer.pass =
	        (uint16_t)(MIN(s->rounds, FRAME_PASS_MAX) | (s->stopped ? FRAME_PASS_STOPPED : 0));
	snprintf(data, sizeof(data), "{\"pass\":%llu}", (unsigned long long)s->rounds);
	pthread_mutex_unlock(&o->mig->lock);
	o->mig->host.event(o->mig->host.opaque, "MIGRATION_PASS", data);
}

/* What the exact look has found becomes the expected downtime, in microseconds. */
static uint64_t note_pending(struct outgoing *o, int64_t since)
{
	struct stats *s = &o->mig->stats;
	int64_t ms = MAX(now_ms() - since, 1);
	uint64_t us, dirty;

	pthread_mutex_lock(&o->mig->lock);
	us = progress_expected_us(&o->mig->progress, bandwidth(o));
	dirty = progress_dirty_pages(&o->mig->progress);
	s->expected_downtime = (int64_t)(us / 1000);
	s->dirty_pages_rate = dirty * 1000 / (uint64_t)ms;
	pthread_mutex_unlock(&o->mig->lock);
	outgoing_begin_pass(o, dirty);
	return us;
}

/* Right after prepare all of RAM counts as dirty; and devices tell of their initial data before
 * the first pass takes them along. */
int outgoing_look(struct outgoing *o, struct gw_error *err)
{
	struct participant_pending pending;
	int r = sequence_pending(&o->sequence, PENDING_ESTIMATE, &pending, err);
	uint64_t dirty;

	if (r < 0)
		return r;
	pthread_mutex_lock(&o->mig->lock);
	dirty = progress_dirty_pages(&o->mig->progress);
	o->mig->stats.total_ram = participant_ram_size(o->sequence.list);
	o->mig->stats.expected_downtime = (int64_t)o->params.downtime_limit_ms;
	pthread_mutex_unlock(&o->mig->lock);
	outgoing_begin_pass(o, dirty);
	return 0;
}

int outgoing_precopy(struct outgoing *o, struct gw_error *err)
{
	int64_t synced_at = now_ms();

	for (;;) {
		struct participant_pending pending;
		uint64_t expected_us;
		int r = send_pass(o, err);

		/* RAM has sent all that the last sync found, so only an exact look tells more. */
		if (!r)
			r = sequence_pending(&o->sequence, PENDING_EXACT, &pending, err);
		if (r < 0)
			return r;
		o->params = migration_params(o->mig);
		expected_us = note_pending(o, synced_at);
		synced_at = now_ms();
		r = mark_initial_data(o, err);
		if (!r && !pending.not_yet && initial_data_acknowledged(o) &&
		    expected_us <= o->params.downtime_limit_ms * 1000)
			return 0;
		if (!r)
			r = pace(o, err);
		if (r < 0)
			return r;
	}
}
