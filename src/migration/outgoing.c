/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side of a live migration.
 *
 * The hand-over: the destination says READY when all is loaded and checked;
 * the source says GO and from that moment, whether GO arrives or not, never
 * resumes by itself. Before it, whatever fails is undone and the guest goes on.
 */
#include "migration/migration_internal.h"
#include "migration/reader.h"
#include "migration/writer.h"

#include "base/error.h"
#include "base/util.h"

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
	uint64_t pass_bytes;
	uint64_t sample_bytes; /* sent since bandwidth was last reckoned, */
	int64_t sample_us;     /* and the time that sending took */
	int read_timeout_ms;
	bool guest_stopped, was_running, handed_over;
};

/* ---- the connection ------------------------------------------------------------------ */

static int out_write(struct output *output, struct iovec *iov, int count, struct gw_error *err)
{
	struct outgoing *o = container_of(output, struct outgoing, output);
	const int64_t began = now_us();
	int r;

	for (int i = 0; i < count; i++)
		o->sample_bytes += iov[i].iov_len;
	r = channel_write(&o->channel, iov, count, err);
	o->sample_us += now_us() - began;
	return r;
}

static int out_read(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct outgoing *o = container_of(input, struct outgoing, input);

	return channel_read(&o->channel, buf, len, o->read_timeout_ms, err);
}

static void on_frame(void *opaque, uint16_t type, const struct participant *p, uint64_t bytes,
                     uint64_t pages)
{
	struct outgoing *o = opaque;
	struct stats *s = &o->mig->stats;

	pthread_mutex_lock(&o->mig->lock);
	s->bytes += bytes;
	if (type == FRAME_PAGES)
		s->normal_pages += pages;
	else if (type == FRAME_ZERO)
		s->zero_pages += pages;
	else if (p && p->ops->class == PARTICIPANT_PASSTHROUGH)
		s->device_bytes += bytes;
	pthread_mutex_unlock(&o->mig->lock);
}

static bool on_pause_wanted(void *opaque)
{
	struct outgoing *o = opaque;

	return now_ms() >= o->slice_end;
}

/* Sleeps until the bytes of this pass are no more than max-bandwidth allows; not while the guest
 * is stopped. */
static int on_throttle(void *opaque, struct gw_error *err)
{
	struct outgoing *o = opaque;
	uint64_t limit = migration_params(o->mig).max_bandwidth;
	struct pollfd cancel = { .fd = o->channel.cancel_fd, .events = POLLIN };
	int64_t due;

	if (o->guest_stopped || limit == UINT64_MAX || !limit)
		return 0;
	due = o->pass_started +
	      (int64_t)((double)(o->writer.bytes - o->pass_bytes) * 1000.0 / (double)limit);
	while (now_ms() < due) {
		if (poll(&cancel, 1, (int)MIN(due - now_ms(), 1000)) > 0)
			return error_set(err, -ECANCELED, "cancelled");
	}
	return 0;
}

/* What the destination said of its own accord: an error. */
static int heed_destination(struct outgoing *o, struct gw_error *err)
{
	int r = reader_next(&o->reader, err);

	if (r < 0)
		return error_context(err, "destination");
	if (o->reader.h.type == FRAME_ERROR)
		return error_set(err, -EREMOTEIO, "destination: %.900s", (char *)o->reader.payload);
	return 0;
}

/* The connection failed: perhaps the destination has said why before it closed. */
static void ask_why(struct outgoing *o, struct gw_error *err)
{
	struct gw_error theirs;

	if ((err->code != -EPIPE && err->code != -ECONNRESET) || !o->reader.payload ||
	    !channel_readable(&o->channel))
		return;
	o->read_timeout_ms = 100;
	if (heed_destination(o, &theirs) == -EREMOTEIO)
		*err = theirs;
}

static int await_word(struct outgoing *o, enum frame_type type, uint64_t timeout_ms,
                      struct gw_error *err)
{
	int r;

	o->read_timeout_ms = (int)MIN(timeout_ms, 1ull << 30);
	r = heed_destination(o, err);
	if (!r && o->reader.h.type != type)
		r = error_set(err, -EPROTO, "destination: it says %s, not %s",
		              frame_type_name(o->reader.h.type), frame_type_name(type));
	return r < 0 ? error_context(err, "waiting for \"%s\"", frame_type_name(type)) : 0;
}

/* ---- setup ------------------------------------------------------------------------------ */

/* The destination is there, before the guest is asked for anything. */
static int connect_to_it(struct outgoing *o, struct gw_error *err)
{
	return transport_connect(o->mig->uri, o->mig->cancel_fd, o->params.network_timeout_ms,
	                         &o->channel, err);
}

static int greet(struct outgoing *o, struct gw_error *err)
{
	const struct writer_watch watch = {
		.opaque = o,
		.frame = on_frame,
		.throttle = on_throttle,
		.pause_wanted = on_pause_wanted,
	};
	autofree char *config = NULL;
	int r = writer_init(&o->writer, &o->output, o->sequence.list, &watch, err);

	if (!r)
		r = reader_init(&o->reader, &o->input, err);
	if (r < 0)
		return r;
	config = o->mig->host.config(o->mig->host.opaque);
	if (!config)
		return error_set(err, -ENOMEM, "configuration: out of memory");
	o->sequence.sink = &o->writer.sink;
	return writer_begin(&o->writer, config, err);
}

static int run_phase(struct outgoing *o, enum phase phase, struct gw_error *err)
{
	o->phase = phase;
	return sequence_run(&o->sequence, phase, err);
}

/* ---- the guest runs ------------------------------------------------------------------------ */

/* All that there is to send now, once through. */
static int send_pass(struct outgoing *o, struct gw_error *err)
{
	int r;

	o->pass_started = now_ms();
	o->pass_bytes = o->writer.bytes;
	do {
		o->slice_end = now_ms() + SLICE_MS;
		r = run_phase(o, PHASE_ITERATE, err);
		if (!r && channel_readable(&o->channel)) {
			o->read_timeout_ms = (int)o->params.network_timeout_ms;
			r = heed_destination(o, err);
			if (!r)
				r = error_set(err, -EPROTO, "destination: it says %s too early",
				              frame_type_name(o->reader.h.type));
		}
	} while (!r && o->sequence.paused);
	return r ? r : writer_flush(&o->writer, err);
}

/* Bytes that can be sent in the downtime allowed. */
static uint64_t downtime_budget(struct outgoing *o)
{
	struct stats *s = &o->mig->stats;
	uint64_t bandwidth;

	o->params = migration_params(o->mig);
	pthread_mutex_lock(&o->mig->lock);
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
	bandwidth = o->params.switchover_bandwidth ? o->params.switchover_bandwidth : s->bandwidth;
	pthread_mutex_unlock(&o->mig->lock);
	return (uint64_t)((double)bandwidth * (double)o->params.downtime_limit_ms / 1000.0);
}

static void note_pending(struct outgoing *o, const struct participant_pending *pending,
                         int64_t since)
{
	struct stats *s = &o->mig->stats;
	uint64_t left = pending->precopy + pending->stop;
	int64_t ms = MAX(now_ms() - since, 1);
	char data[48];

	pthread_mutex_lock(&o->mig->lock);
	s->remaining = left;
	if (s->bandwidth)
		s->expected_downtime = (int64_t)(left * 1000 / s->bandwidth);
	s->rounds++;
	s->dirty_pages_rate = pending->precopy / PAGE_SIZE * 1000 / (uint64_t)ms;
	snprintf(data, sizeof(data), "{\"pass\":%llu}", (unsigned long long)s->rounds);
	pthread_mutex_unlock(&o->mig->lock);
	o->mig->host.event(o->mig->host.opaque, "MIGRATION_PASS", data);
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

/* Passes until what is left, device state included, fits the downtime allowed. */
static int precopy(struct outgoing *o, struct gw_error *err)
{
	int64_t synced_at = now_ms();

	for (;;) {
		struct participant_pending pending;
		uint64_t budget;
		int r = send_pass(o, err);

		/* RAM has sent all that the last sync found, so only an exact look tells more. */
		if (!r)
			r = sequence_pending(&o->sequence, PENDING_EXACT, &pending, err);
		if (r < 0)
			return r;
		budget = downtime_budget(o);
		note_pending(o, &pending, synced_at);
		synced_at = now_ms();
		if (!pending.not_yet && pending.precopy + pending.stop <= budget)
			return 0;
		r = pace(o, err);
		if (r < 0)
			return r;
	}
}

/* ---- the guest is stopped -------------------------------------------------------------------- */

static int stop_guest(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r;

	migration_set_status(mig, MIGRATION_DEVICE);
	pthread_mutex_lock(&mig->lock);
	mig->stats.stopped = now_ms();
	mig->stats.bytes_at_stop = mig->stats.bytes;
	pthread_mutex_unlock(&mig->lock);
	r = mig->host.stop_guest(mig->host.opaque, GW_STATE_FINISH_MIGRATE, &o->was_running, err);
	o->guest_stopped = r == 0;
	return r;
}

static int hand_over(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r = await_word(o, FRAME_READY, o->params.switchover_timeout_ms, err);

	if (r < 0)
		return r;
	/* The last moment to change one's mind. */
	r = migration_point_of_no_return(mig, err);
	if (r < 0)
		return r;
	o->handed_over = true;
	mig->host.handed_over(mig->host.opaque);
	o->channel.cancel_fd = -1;
	r = writer_frame(&o->writer, FRAME_GO, 0, NULL, NULL, 0, NULL, 0, err);
	if (!r)
		r = writer_flush(&o->writer, err);
	if (!r)
		r = await_word(o, FRAME_RUNNING, o->params.switchover_timeout_ms, err);
	if (r < 0)
		error_append(err,
		             "the guest was handed over and may be running at %s; it stays "
		             "stopped here, for cont with force by whoever knows that it is not",
		             mig->uri);
	pthread_mutex_lock(&mig->lock);
	mig->stats.running = now_ms();
	pthread_mutex_unlock(&mig->lock);
	return r;
}

static int switch_over(struct outgoing *o, struct gw_error *err)
{
	int r = stop_guest(o, err);

	if (!r)
		r = run_phase(o, PHASE_QUIESCE, err);
	if (!r)
		r = run_phase(o, PHASE_STOP, err);
	if (!r)
		r = run_phase(o, PHASE_SAVE, err);
	if (!r)
		r = writer_end(&o->writer, o->was_running, err);
	return r ? r : hand_over(o, err);
}

/* Right after prepare all of RAM counts as dirty. */
static void note_total(struct outgoing *o)
{
	for (struct participant *p = o->sequence.list->first; p; p = p->next) {
		struct participant_pending pending;

		if (p->ops->class != PARTICIPANT_RAM || !p->ops->pending ||
		    p->ops->pending(p, PENDING_ESTIMATE, &pending, NULL) < 0)
			continue;
		pthread_mutex_lock(&o->mig->lock);
		o->mig->stats.total_ram += pending.precopy;
		pthread_mutex_unlock(&o->mig->lock);
	}
}

/* ---- all of it ----------------------------------------------------------------------------------
 */

static int transfer(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r = connect_to_it(o, err);

	if (!r)
		r = migration_let_leave(mig, true, err);
	if (!r)
		r = greet(o, err);
	if (!r)
		r = run_phase(o, PHASE_PREPARE, err);
	if (r < 0)
		return r;
	note_total(o);
	pthread_mutex_lock(&mig->lock);
	mig->stats.setup_done = now_ms();
	pthread_mutex_unlock(&mig->lock);
	migration_set_status(mig, MIGRATION_ACTIVE);
	r = precopy(o, err);
	return r ? r : switch_over(o, err);
}

/* Undoes everything; the destination notices by the end of the connection. */
static void go_back(struct outgoing *o, struct gw_error *err)
{
	ask_why(o, err);
	channel_close(&o->channel);
	sequence_undo(&o->sequence, o->phase, err);
	if (o->guest_stopped)
		o->mig->host.resume_guest(o->mig->host.opaque);
}

void *outgoing_thread(void *opaque)
{
	struct migration *mig = opaque;
	struct outgoing o = {
		.output.write = out_write,
		.input.read = out_read,
		.mig = mig,
		.channel.fd = -1,
		.params = migration_params(mig),
		.sequence = {
			.log = mig->host.log,
			.list = mig->host.participants(mig->host.opaque),
			.live = true,
		},
		.phase = PHASE_PREPARE,
	};
	struct gw_error err = { 0 };
	int r = o.sequence.list ? transfer(&o, &err) : error_set(&err, -ENODATA, "the VM is empty");

	if (r < 0 && !o.handed_over)
		go_back(&o, &err);
	else
		sequence_run(&o.sequence, PHASE_FINISH, NULL);
	if (r < 0 && !o.handed_over)
		migration_explain_cancel(mig, &err);
	channel_close(&o.channel);
	writer_fini(&o.writer);
	reader_fini(&o.reader);
	migration_finish(mig, r < 0 ? &err : NULL);
	return NULL;
}
