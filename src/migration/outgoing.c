/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side of a live migration.
 *
 * The hand-over: the destination says READY when all is loaded and checked;
 * the source says GO and from that moment, whether GO arrives or not, never
 * resumes by itself. Before it, whatever fails is undone and the guest goes on.
 */
#include "migration/outgoing.h"

#include "base/error.h"
#include "base/util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

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
	stats_moved(s, bytes, type == FRAME_PAGES ? pages : 0, type == FRAME_ZERO ? pages : 0,
	            now_ms());
	rate_sent(&o->rate, bytes);
	if (p && p->ops->class == PARTICIPANT_PASSTHROUGH)
		s->device_bytes += bytes;
	if (p)
		progress_sent(&o->mig->progress, p, bytes);
	pthread_mutex_unlock(&o->mig->lock);
}

/* The limit's time is not the participant's: that would be taken for a slow one. */
static void on_called(void *opaque, const struct participant *p, enum phase phase, int64_t us)
{
	struct outgoing *o = opaque;

	pthread_mutex_lock(&o->mig->lock);
	progress_called(&o->mig->progress, p, phase, (uint64_t)MAX(us - o->throttled_us, 0));
	o->throttled_us = 0;
	pthread_mutex_unlock(&o->mig->lock);
}

static void on_pending(void *opaque, const struct participant *p,
                       const struct participant_pending *pending)
{
	struct outgoing *o = opaque;

	pthread_mutex_lock(&o->mig->lock);
	progress_pending(&o->mig->progress, p, pending);
	pthread_mutex_unlock(&o->mig->lock);
}

static bool on_pause_wanted(void *opaque)
{
	struct outgoing *o = opaque;

	return now_ms() >= o->slice_end;
}

/* Waits until no more has been sent than max-bandwidth allows, of whatever kind; not while the
 * guest is stopped. The limit may change meanwhile. */
static int on_throttle(void *opaque, struct gw_error *err)
{
	struct outgoing *o = opaque;
	const int64_t began = now_us();
	int64_t us;
	int r = 0;

	if (o->guest_stopped)
		return 0;
	while (!r &&
	       (us = rate_wait_us(&o->rate, migration_params(o->mig).max_bandwidth, now_us()))) {
		struct pollfd cancel = { .fd = o->channel.cancel_fd, .events = POLLIN };

		if (poll(&cancel, 1, (int)MIN(us / 1000 + 1, 100)) > 0)
			r = error_set(err, -ECANCELED, "cancelled");
	}
	o->throttled_us += now_us() - began;
	return r;
}

int outgoing_heed(struct outgoing *o, struct gw_error *err)
{
	int r = reader_next(&o->reader, err);

	if (r < 0)
		return error_context(err, "destination");
	if (o->reader.h.type == FRAME_ERROR)
		return error_set(err, -EREMOTEIO, "destination: %.900s", (char *)o->reader.payload);
	return 0;
}

/* The connection failed: perhaps the destination has said why before it closed, behind acks that
 * nobody has read. */
static void ask_why(struct outgoing *o, struct gw_error *err)
{
	struct gw_error theirs;
	int r = 0;

	if ((err->code != -EPIPE && err->code != -ECONNRESET) || !o->reader.payload)
		return;
	o->read_timeout_ms = 100;
	for (unsigned left = o->acks_due + 1; left && !r && channel_readable(&o->channel); left--)
		r = outgoing_heed(o, &theirs);
	if (r == -EREMOTEIO)
		*err = theirs;
}

/* Waits for a word of the destination's; timeout_ms -1: while the connection stands. */
static int await_word(struct outgoing *o, enum frame_type type, int64_t timeout_ms,
                      struct gw_error *err)
{
	int r;

	o->read_timeout_ms = (int)MIN(timeout_ms, 1ll << 30);
	/* The user may have ceased to wait for an ack that then comes. */
	do {
		r = outgoing_heed(o, err);
	} while (!r && o->reader.h.type == FRAME_ACK && !(r = outgoing_take_ack(o, err)));
	if (!r && o->reader.h.type != type)
		r = error_set(err, -EPROTO, "destination: it says %s, not %s",
		              frame_type_name(o->reader.h.type), frame_type_name(type));
	return r < 0 ? error_context(err, "waiting for \"%s\"", frame_type_name(type)) : 0;
}

/* ---- setup ------------------------------------------------------------------------------ */

/* The destination is there, before the guest is asked for anything. */
static int connect_to_it(struct outgoing *o, struct gw_error *err)
{
	return transport_connect(o->mig->uri, o->params.plain_tcp == GW_SWITCH_ON,
	                         o->mig->cancel_fd, o->params.network_timeout_ms, &o->channel, err);
}

static int greet(struct outgoing *o, struct gw_error *err)
{
	const struct writer_watch watch = {
		.opaque = o,
		.frame = on_frame,
		.throttle = on_throttle,
		.pause_wanted = on_pause_wanted,
		.last_pass = outgoing_begin_pass,
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

/*
 * The destination's HELLO tells that somebody is there who speaks this. Making a machine may take
 * it long (memory pinned for devices, for one) and costs nothing here, where the guest runs and
 * nothing is tracked yet: so for ACCEPTED there is no limit. A host that dies meanwhile is noticed
 * by the connection, and the user can cancel.
 */
static int await_acceptance(struct outgoing *o, struct gw_error *err)
{
	uint32_t version = 0;
	int r = await_word(o, FRAME_HELLO, (int64_t)o->params.network_timeout_ms, err);

	if (r < 0)
		return r;
	r = frame_check_hello(o->reader.payload, o->reader.h.length, &version, err);
	if (!r && version != STREAM_VERSION)
		r = error_set(err, -EPROTONOSUPPORT, "hello: stream version %u, not %u", version,
		              STREAM_VERSION);
	if (r < 0)
		return error_context(err, "destination");
	return await_word(o, FRAME_ACCEPTED, -1, err);
}

int outgoing_run_phase(struct outgoing *o, enum phase phase, struct gw_error *err)
{
	o->phase = phase;
	return sequence_run(&o->sequence, phase, err);
}

/* ---- the guest is stopped -------------------------------------------------------------------- */

static int stop_guest(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r;

	migration_set_status(mig, MIGRATION_DEVICE);
	pthread_mutex_lock(&mig->lock);
	stats_stopped(&mig->stats, now_ms());
	pthread_mutex_unlock(&mig->lock);
	r = mig->host.stop_guest(mig->host.opaque, GW_STATE_FINISH_MIGRATE, &o->was_running, err);
	o->guest_stopped = r == 0;
	return r;
}

/*
 * GO, a write of its own, and RUNNING. As long as the socket has taken no byte of GO the
 * destination cannot run the guest; and when it answers with ERROR it never will, since it sends
 * none once it has taken GO. Then the guest is still this side's. In all other cases this side
 * cannot know.
 */
static int say_go(struct outgoing *o, struct gw_error *err)
{
	const uint64_t taken = o->channel.taken;
	int r = writer_frame(&o->writer, FRAME_GO, 0, NULL, NULL, 0, NULL, 0, err);

	if (!r)
		r = writer_flush(&o->writer, err);
	if (r < 0 && o->channel.taken == taken) {
		o->handed_over = false;
		return r;
	}
	if (r < 0)
		ask_why(o, err);
	else
		r = await_word(o, FRAME_RUNNING, (int64_t)o->params.switchover_timeout_ms, err);
	o->handed_over = r == 0 || err->code != -EREMOTEIO;
	return r;
}

/* RUNNING is in hand: the lines of it are devices that do not run there. */
static void note_running(struct outgoing *o)
{
	struct migration *mig = o->mig;
	char *text = (char *)o->reader.payload, *rest = NULL;

	pthread_mutex_lock(&mig->lock);
	mig->stats.running = now_ms();
	mig->gone = true;
	snprintf(mig->degraded_there, sizeof(mig->degraded_there), "%s", text);
	pthread_mutex_unlock(&mig->lock);
	for (char *why = strtok_r(text, "\n", &rest); why; why = strtok_r(NULL, "\n", &rest))
		log_warn(mig->host.log, "migration: the guest runs at %s, but not all of it: %s",
		         mig->uri, why);
}

static int hand_over(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r = await_word(o, FRAME_READY, (int64_t)o->params.switchover_timeout_ms, err);

	if (r < 0)
		return r;
	/* The last moment to change one's mind. */
	r = migration_point_of_no_return(mig, err);
	if (r < 0)
		return r;
	mig->host.handed_over(mig->host.opaque);
	o->channel.cancel_fd = -1;
	r = say_go(o, err);
	if (r < 0) {
		if (o->handed_over)
			error_append(err,
			             "the guest was handed over and may be running at %s; it stays "
			             "stopped here until \"cont force=true\", which is safe only "
			             "once the destination's process has ended without having "
			             "run the guest",
			             mig->uri);
		return r;
	}
	note_running(o);
	return 0;
}

static int switch_over(struct outgoing *o, struct gw_error *err)
{
	int r = stop_guest(o, err);

	if (!r)
		r = outgoing_run_phase(o, PHASE_QUIESCE, err);
	if (!r)
		r = outgoing_run_phase(o, PHASE_STOP, err);
	if (!r)
		r = outgoing_run_phase(o, PHASE_SAVE, err);
	if (!r)
		r = writer_end(&o->writer, o->was_running, err);
	return r ? r : hand_over(o, err);
}

/* ---- all of it ----------------------------------------------------------------------------------
 */

/* The last migration's progress was to be seen up to now. */
static int begin_progress(struct outgoing *o, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&o->mig->lock);
	r = progress_init(&o->mig->progress, o->sequence.list, err);
	pthread_mutex_unlock(&o->mig->lock);
	return r;
}

static int transfer(struct outgoing *o, struct gw_error *err)
{
	struct migration *mig = o->mig;
	int r = connect_to_it(o, err);

	if (!r)
		r = migration_let_leave(mig, true, err);
	if (!r)
		r = begin_progress(o, err);
	if (!r)
		r = greet(o, err);
	if (!r)
		r = await_acceptance(o, err);
	if (!r)
		r = outgoing_run_phase(o, PHASE_PREPARE, err);
	if (!r)
		r = outgoing_look(o, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&mig->lock);
	mig->stats.setup_done = now_ms();
	pthread_mutex_unlock(&mig->lock);
	migration_set_status(mig, MIGRATION_ACTIVE);
	r = outgoing_precopy(o, err);
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
			.asleep = mig->asleep,
			.watch = { .opaque = &o, .called = on_called, .pending = on_pending },
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
	sequence_end(&o.sequence);
	channel_close(&o.channel);
	writer_fini(&o.writer);
	reader_fini(&o.reader);
	migration_finish(mig, r < 0 ? &err : NULL);
	return NULL;
}
