/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's side of a live migration. Nothing runs here before GO
 * has come; whatever fails until then, the connection's end included, throws
 * away all that was loaded. A destination that has given up closes the
 * connection, so that a late GO finds nobody.
 */
#include "migration/migration_internal.h"
#include "migration/reader.h"
#include "migration/writer.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

struct incoming {
	struct input input;
	struct output output;
	struct migration *mig;
	struct channel channel;
	struct reader reader;
	struct writer writer; /* our words to the source */
	struct sequence sequence;
	enum phase phase;
	bool built, run;
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

static int say(struct incoming *in, enum frame_type type, const char *text, struct gw_error *err)
{
	int r = writer_frame(&in->writer, type, 0, NULL, text, text ? strlen(text) : 0, NULL, 0,
	                     err);

	return r ? r : writer_flush(&in->writer, err);
}

static int run_phase(struct incoming *in, enum phase phase, struct gw_error *err)
{
	in->phase = phase;
	return sequence_run(&in->sequence, phase, err);
}

static int build(struct incoming *in, struct gw_error *err)
{
	const struct migration_host *host = &in->mig->host;
	const char *config;
	int r = reader_begin(&in->reader, &config, err);

	if (!r)
		r = host->build(host->opaque, config, &in->sequence.list, err);
	if (r < 0)
		return r;
	in->built = true;
	r = reader_table(&in->reader, err);
	if (!r)
		r = reader_match(&in->reader, in->sequence.list, err);
	return r ? r : run_phase(in, PHASE_BEGIN_LOAD, err);
}

static void note_progress(struct incoming *in)
{
	pthread_mutex_lock(&in->mig->lock);
	in->mig->stats.bytes = in->reader.bytes;
	pthread_mutex_unlock(&in->mig->lock);
}

static int load(struct incoming *in, struct gw_error *err)
{
	int r;

	in->phase = PHASE_LOAD;
	for (;;) {
		r = reader_next(&in->reader, err);
		if (r < 0)
			return r;
		note_progress(in);
		if (in->reader.h.type == FRAME_END)
			break;
		r = reader_deliver(&in->reader, err);
		if (r < 0)
			return r;
	}
	r = reader_end(&in->reader, &in->run, err);
	return r ? r : run_phase(in, PHASE_SETTLE, err);
}

/* Between READY and GO nothing is under way but the source's decision: only the end of the
 * connection, or somebody here who cancels, ends the wait. */
static int await_go(struct incoming *in, struct gw_error *err)
{
	int r = say(in, FRAME_READY, NULL, err);

	if (!r)
		r = reader_expect(&in->reader, FRAME_GO, err);
	if (r < 0)
		return error_context(err, "waiting for \"go\"");
	/* Whoever cancels now comes too late: the source lets go of the guest. */
	migration_point_of_no_return(in->mig, NULL);
	in->channel.cancel_fd = -1;
	return 0;
}

/* From here on this side has the guest. A device that will not run is an error that the guest
 * has to live with: there is no other side any more that could run it. */
static void run_guest(struct incoming *in)
{
	const struct migration_host *host = &in->mig->host;
	struct gw_error err = { 0 };

	sequence_run_all(&in->sequence, PHASE_ANSWER_DMA, &err);
	sequence_run_all(&in->sequence, PHASE_RUN, &err);
	host->start(host->opaque, in->run);
	if (say(in, FRAME_RUNNING, NULL, &err) < 0)
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
	migration_set_status(mig, MIGRATION_ACTIVE);
	r = build(in, err);
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
		say(in, FRAME_ERROR, err->text, NULL);
	}
	channel_close(&in->channel);
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
	channel_close(&in.channel);
	writer_fini(&in.writer);
	reader_fini(&in.reader);
	migration_finish(mig, r < 0 ? &err : NULL);
	return NULL;
}
