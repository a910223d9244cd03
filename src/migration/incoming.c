/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's side of a live migration. Nothing runs here before GO
 * has come; whatever fails until then, the connection's end included, throws
 * away all that was loaded. A destination that has given up closes the
 * connection, so that a late GO finds nobody.
 */
#include "migration/lanes.h"
#include "migration/migration_internal.h"
#include "migration/reader.h"
#include "migration/writer.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

struct incoming {
	struct input input;
	struct output output;
	struct migration *mig;
	struct channel channel;
	struct reader reader;
	struct writer writer; /* our words to the source */
	struct sequence sequence;
	struct lanes *lanes;
	unsigned *marks; /* for each row of the table: MARKs that its lane has come to (atomic) */
	int wake_fd;     /* a lane has come to a MARK, or has failed */
	enum phase phase;
	bool built, run;
	char degraded[DEGRADED_MAX]; /* devices that do not run here, a line each */
};

static int in_read(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct incoming *in = container_of(input, struct incoming, input);

	return channel_read(&in->channel, buf, len, -1, err);
}

static int in_write(struct output *output, struct iovec *iov, int count, struct gw_error *err)
{
	return channel_write(&container_of(output, struct incoming, output)->channel, iov, count,
	                     err);
}

static int say_bytes(struct incoming *in, enum frame_type type, const void *buf, size_t len,
                     struct gw_error *err)
{
	int r = writer_frame(&in->writer, type, 0, NULL, buf, len, NULL, 0, err);

	return r ? r : writer_flush(&in->writer, err);
}

static int say(struct incoming *in, enum frame_type type, struct gw_error *err)
{
	return say_bytes(in, type, NULL, 0, err);
}

/* ---- what the lanes tell: the reader's thread is woken, and speaks for them ------------------ */

static void on_marked(void *opaque, uint32_t row)
{
	struct incoming *in = opaque;

	__atomic_fetch_add(&in->marks[row], 1, __ATOMIC_RELEASE);
	io_eventfd_signal(in->wake_fd);
}

static void on_failed(void *opaque)
{
	struct incoming *in = opaque;

	io_eventfd_signal(in->wake_fd);
}

static int acknowledge(struct incoming *in, uint32_t row, struct gw_error *err)
{
	const uint32_t number = htole32(row);
	unsigned count = __atomic_exchange_n(&in->marks[row], 0, __ATOMIC_ACQUIRE);
	int r = 0;

	for (; count && !r; count--)
		r = say_bytes(in, FRAME_ACK, &number, sizeof(number), err);
	return r;
}

static int on_wake(void *opaque, struct gw_error *err)
{
	struct incoming *in = opaque;
	int r = in->lanes ? lanes_check(in->lanes, err) : 0;

	io_eventfd_drain(in->wake_fd);
	for (uint32_t i = 0; i < in->reader.table_count && !r; i++)
		r = acknowledge(in, i, err);
	return r;
}

static int make_lanes(struct incoming *in, struct gw_error *err)
{
	const struct lanes_watch watch = { .opaque = in, .marked = on_marked, .failed = on_failed };
	int r;

	in->marks = calloc(in->reader.table_count + 1, sizeof(in->marks[0]));
	if (!in->marks)
		return error_set(err, -ENOMEM, "stream: out of memory");
	r = in->wake_fd = io_eventfd();
	if (r < 0)
		return error_set_sys(err, r, "eventfd");
	in->channel.opaque = in;
	in->channel.wake_fd = in->wake_fd;
	in->channel.woken = on_wake;
	return lanes_create(&in->reader, &watch, &in->lanes, err);
}

/* From here on no thread but this one touches a participant. */
static void end_lanes(struct incoming *in)
{
	lanes_destroy(in->lanes);
	in->lanes = NULL;
}

/* ---- the phases ------------------------------------------------------------------------------ */

static int run_phase(struct incoming *in, enum phase phase, struct gw_error *err)
{
	in->phase = phase;
	return sequence_run(&in->sequence, phase, err);
}

/* Both say HELLO: the source then knows that somebody is there, however long the machine takes. */
static int greet(struct incoming *in, struct gw_error *err)
{
	const struct frame_hello hello = frame_hello();
	int r = reader_hello(&in->reader, err);

	if (!r && in->reader.version != STREAM_VERSION)
		r = error_set(err, -EPROTONOSUPPORT, "hello: stream version %u, not %u",
		              in->reader.version, STREAM_VERSION);
	return r ? r : say_bytes(in, FRAME_HELLO, &hello, sizeof(hello), err);
}

static int build(struct incoming *in, struct gw_error *err)
{
	const struct migration_host *host = &in->mig->host;
	const char *config;
	int r = reader_config(&in->reader, &config, err);

	if (!r)
		r = host->build(host->opaque, config, &in->sequence.list, err);
	if (r < 0)
		return r;
	in->built = true;
	r = reader_table(&in->reader, err);
	if (!r)
		r = reader_match(&in->reader, in->sequence.list, err);
	if (!r)
		r = run_phase(in, PHASE_BEGIN_LOAD, err);
	if (!r)
		r = make_lanes(in, err);
	return r ? r : say(in, FRAME_ACCEPTED, err);
}

/* The guest is stopped by the time that this frame is sent: pages say so, and most participants
 * send nothing before. */
static bool is_of_stopped_guest(const struct frame_header *h, int class)
{
	if (h->type == FRAME_PAGES || h->type == FRAME_ZERO)
		return h->record & FRAME_PASS_STOPPED;
	return class == PARTICIPANT_CHIP || class == PARTICIPANT_VCPU || class == PARTICIPANT_CLOCK;
}

/* Memory that comes in blocks is known only when the source has told of it. */
static void note_ram_size(struct stats *s, uint64_t bytes)
{
	s->remaining += bytes > s->total_ram ? bytes - s->total_ram : 0;
	s->total_ram = bytes;
}

/* The frame in hand has been loaded, or waits in its lane. What a pass after the first has left is
 * not known here: `remaining` is what has not come at all. */
static void note_progress(struct incoming *in)
{
	const struct frame_header *h = &in->reader.h;
	const uint64_t pages = reader_pages(&in->reader);
	const int class = reader_class(&in->reader);
	struct stats *s = &in->mig->stats;
	const int64_t now = now_ms();

	pthread_mutex_lock(&in->mig->lock);
	if (!s->stopped && is_of_stopped_guest(h, class))
		stats_stopped(s, now);
	if (pages)
		s->rounds = MAX(s->rounds, h->record & FRAME_PASS_MAX);
	else if (class == PARTICIPANT_RAM)
		note_ram_size(s, participant_ram_size(in->sequence.list));
	if (s->rounds > 1 || h->type == FRAME_END)
		s->remaining = 0;
	stats_moved(s, in->reader.bytes - s->bytes, h->type == FRAME_PAGES ? pages : 0,
	            h->type == FRAME_ZERO ? pages : 0, now);
	pthread_mutex_unlock(&in->mig->lock);
}

/* The machine is there: its memory is what has to come. */
static void note_built(struct incoming *in)
{
	struct stats *s = &in->mig->stats;

	pthread_mutex_lock(&in->mig->lock);
	s->total_ram = participant_ram_size(in->sequence.list);
	s->setup_done = now_ms();
	stats_synced(s, s->total_ram / PAGE_SIZE);
	pthread_mutex_unlock(&in->mig->lock);
}

static void note_connected(struct incoming *in)
{
	pthread_mutex_lock(&in->mig->lock);
	in->mig->stats.started = now_ms();
	pthread_mutex_unlock(&in->mig->lock);
}

static int load(struct incoming *in, struct gw_error *err)
{
	int r;

	in->phase = PHASE_LOAD;
	for (;;) {
		r = reader_next(&in->reader, err);
		if (!r && in->reader.h.type != FRAME_END)
			r = lanes_deliver(in->lanes, err);
		if (r < 0)
			return r;
		note_progress(in);
		if (in->reader.h.type == FRAME_END)
			break;
	}
	r = reader_end(&in->reader, &in->run, err);
	if (!r)
		r = lanes_drain(in->lanes, err);
	end_lanes(in);
	return r ? r : run_phase(in, PHASE_SETTLE, err);
}

/* Between READY and GO nothing is under way but the source's decision: only the end of the
 * connection, or somebody here who cancels, ends the wait. */
static int await_go(struct incoming *in, struct gw_error *err)
{
	int r = say(in, FRAME_READY, err);

	if (!r)
		r = reader_expect(&in->reader, FRAME_GO, err);
	if (r < 0)
		return error_context(err, "waiting for \"go\"");
	/* Whoever cancels now comes too late: the source lets go of the guest. */
	migration_point_of_no_return(in->mig, NULL);
	in->channel.cancel_fd = -1;
	return in->mig->host.claim(in->mig->host.opaque, err);
}

/* ---- it runs ---------------------------------------------------------------------------------
 */

/* A line more; what does not fit is left out. */
static void note_degraded(struct incoming *in, const char *why)
{
	const size_t len = strlen(in->degraded);

	snprintf(in->degraded + len, sizeof(in->degraded) - len, "%s%s", len ? "\n" : "", why);
}

static void on_degraded(void *opaque, const struct participant *p, enum phase phase,
                        const struct gw_error *err)
{
	struct incoming *in = opaque;
	char why[sizeof(err->text) + sizeof(p->name) + 32];

	migration_tell_degraded(in->mig, p, phase, err);
	snprintf(why, sizeof(why), "%s: %s: %s", p->name, phase_name(phase), err->text);
	if (!p->ops->trouble)
		note_degraded(in, why);
}

/* Those that tell of themselves, who may have been brought back by a reset. */
static void look_for_trouble(struct incoming *in)
{
	char why[640];

	for (struct participant *p = in->sequence.list->first; p; p = p->next)
		if (p->ops->trouble && p->ops->trouble(p, why, sizeof(why)))
			note_degraded(in, why);
}

/* From here on this side has the guest. A device that will not run is an error that the guest
 * has to live with: there is no other side any more that could run it. Where the guest stays
 * paused, passthrough devices sleep until it runs. RUNNING carries what the source's user has to
 * know of them. */
static void run_guest(struct incoming *in)
{
	const struct migration_host *host = &in->mig->host;
	struct gw_error err = { 0 };

	if (host->shall_run)
		in->run = host->shall_run(host->opaque, in->run);
	in->sequence.asleep = !in->run;
	in->sequence.watch = (struct sequence_watch){ .opaque = in, .failed = on_degraded };
	sequence_run_all(&in->sequence, PHASE_ANSWER_DMA, NULL);
	sequence_run_all(&in->sequence, PHASE_RUN, NULL);
	look_for_trouble(in);
	migration_arrives(in->mig, in->run);
	host->start(host->opaque, in->run);
	if (say_bytes(in, FRAME_RUNNING, in->degraded, strlen(in->degraded), &err) < 0)
		log_warn(host->log,
		         "incoming: the guest runs here, but the source was not told: %s",
		         err.text);
}

static int receive(struct incoming *in, struct gw_error *err)
{
	struct migration *mig = in->mig;
	struct gw_migrate_params params = migration_params(mig);
	int r = transport_accept(mig->listen_fd, mig->cancel_fd, params.network_timeout_ms,
	                         &in->channel, err);

	/* One source: another one is refused at once, and does not wait with its guest stopped. */
	migration_stop_listening(mig);
	if (!r)
		r = writer_init(&in->writer, &in->output, NULL, NULL, err);
	if (!r)
		r = reader_init(&in->reader, &in->input, err);
	if (r < 0)
		return r;
	note_connected(in);
	migration_set_status(mig, MIGRATION_ACTIVE);
	r = greet(in, err);
	if (!r)
		r = build(in, err);
	if (!r)
		note_built(in);
	if (!r)
		r = load(in, err);
	if (!r)
		r = await_go(in, err);
	if (r < 0)
		return r;
	migration_set_status(mig, MIGRATION_DEVICE);
	run_guest(in);
	return 0;
}

static void give_up(struct incoming *in, struct gw_error *err)
{
	const struct migration_host *host = &in->mig->host;

	if (in->channel.fd >= 0 && in->writer.buffer) {
		in->channel.cancel_fd = -1;
		in->channel.stall_ms = 100;
		say_bytes(in, FRAME_ERROR, err->text, strlen(err->text), NULL);
	}
	channel_close(&in->channel);
	end_lanes(in);
	if (!in->built)
		return;
	sequence_undo(&in->sequence, in->phase, err);
	host->abandon(host->opaque);
}

void *incoming_thread(void *opaque)
{
	struct migration *mig = opaque;
	struct incoming in = {
		.input.read = in_read,
		.output.write = in_write,
		.mig = mig,
		.channel.fd = -1,
		.wake_fd = -1,
		.sequence.log = mig->host.log,
		.phase = PHASE_BEGIN_LOAD,
	};
	struct gw_error err = { 0 };
	int r = receive(&in, &err);

	if (r < 0) {
		migration_explain_cancel(mig, &err);
		error_context(&err, "incoming");
		give_up(&in, &err);
	}
	sequence_end(&in.sequence);
	channel_close(&in.channel);
	if (in.wake_fd >= 0)
		close(in.wake_fd);
	free(in.marks);
	writer_fini(&in.writer);
	reader_fini(&in.reader);
	migration_finish(mig, r < 0 ? &err : NULL);
	return NULL;
}
