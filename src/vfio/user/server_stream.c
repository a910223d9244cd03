/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's state as bytes: frames of a header and a payload, little-endian.
 *
 *      magic      u32  "GWDS"
 *      kind, type u16  begin, record or end; the record's own type
 *      length     u32  of the payload
 *      version    u32  begin: of this format
 *      sequence   u64  frames before this one
 *      checksum   u64  XXH3 of header (up to here) and payload
 *
 * The first says what kind of device it is and which version its records have,
 * then come the records of its participant, and a last frame without payload:
 * whatever is cut off, changed, doubled or left out is noticed. A record gets
 * to the device when its checksum has been checked, not before.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <endian.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#define MAGIC 0x53445747u /* "GWDS" */
#define FORMAT 1u
#define HEADER_SIZE 32u
#define CHECKED_SIZE 24u /* of the header */
#define KIND_SIZE 32u
#define BEGIN_SIZE (KIND_SIZE + 8u)
/* What is made in advance; a participant that gives its state piece by piece stops there. */
#define AHEAD (1u << 20)

enum { FRAME_BEGIN = 1, FRAME_RECORD = 2, FRAME_END = 3 };

static uint64_t checksum_of(const uint8_t *header, size_t len)
{
	return XXH3_64bits_withSeed(header + HEADER_SIZE, len, XXH3_64bits(header, CHECKED_SIZE));
}

/* ---- saving ---------------------------------------------------------------------------------- */

static int put_frame(struct server_stream *t, uint16_t kind, uint16_t type, const void *head,
                     size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	const size_t at = t->buf.len;
	uint64_t checksum;

	bytes_put32(&t->buf, MAGIC);
	bytes_put16(&t->buf, kind);
	bytes_put16(&t->buf, type);
	bytes_put32(&t->buf, (uint32_t)(head_len + body_len));
	bytes_put32(&t->buf, FORMAT);
	bytes_put64(&t->buf, t->sequence++);
	bytes_put64(&t->buf, 0);
	bytes_put(&t->buf, head, head_len);
	bytes_put(&t->buf, body, body_len);
	if (t->buf.failed)
		return error_set(err, -ENOMEM, "out of memory");
	checksum = htole64(checksum_of(t->buf.data + at, head_len + body_len));
	memcpy(t->buf.data + at + CHECKED_SIZE, &checksum, sizeof(checksum));
	return 0;
}

static int on_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                     size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	(void)p;
	if (head_len + body_len > RECORD_MAX)
		return error_set(err, -EFBIG, "a record of %zu bytes", head_len + body_len);
	return put_frame(container_of(sink, struct server_stream, sink), FRAME_RECORD, type, head,
	                 head_len, body, body_len, err);
}

static bool pause_wanted(struct sink *sink)
{
	const struct server_stream *t = container_of(sink, struct server_stream, sink);

	return t->buf.len - t->at >= AHEAD;
}

static const struct sink_ops sink_ops = { .record = on_record, .pause_wanted = pause_wanted };

int stream_begin_save(struct server *s, bool final, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	struct server_stream *t = &s->stream;
	struct bytes begin = { 0 };
	char kind[KIND_SIZE] = { 0 };
	int r;

	*t = (struct server_stream){ .kind = STREAM_SAVING, .sink.ops = &sink_ops };
	t->final = final;
	t->drained = !ops->iterate;
	memcpy(kind, ops->kind, MIN(strlen(ops->kind), sizeof(kind) - 1));
	bytes_put(&begin, kind, sizeof(kind));
	bytes_put32(&begin, ops->version);
	bytes_put32(&begin, 0);
	r = begin.failed ? error_set(err, -ENOMEM, "out of memory")
	                 : put_frame(t, FRAME_BEGIN, 0, begin.data, begin.len, NULL, 0, err);
	bytes_free(&begin);
	if (r < 0)
		stream_end(s);
	return r;
}

/* More into the buffer. 0: nothing came of it; 1: perhaps there is more. */
static int produce(struct server *s, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	struct server_stream *t = &s->stream;
	int r;

	if (t->ended)
		return 0;
	if (!t->drained || !t->final) {
		if (!ops->iterate)
			return 0;
		r = ops->iterate(s->participant, &t->sink, err);
		t->drained = t->final && r == 0;
		return r || t->drained ? (r < 0 ? r : 1) : 0;
	}
	r = ops->save(s->participant, &t->sink, err);
	if (!r)
		r = put_frame(t, FRAME_END, 0, NULL, 0, NULL, 0, err);
	t->ended = !r;
	return r < 0 ? r : 1;
}

static size_t ready(const struct server_stream *t)
{
	return t->buf.len - t->at;
}

static void drop_taken(struct server_stream *t)
{
	if (!t->at)
		return;
	memmove(t->buf.data, t->buf.data + t->at, ready(t));
	t->buf.len -= t->at;
	t->at = 0;
}

/* Until `len` bytes are there, or no more come. */
static int fill(struct server *s, size_t len, struct gw_error *err)
{
	struct server_stream *t = &s->stream;
	int r = 1;

	drop_taken(t);
	while (ready(t) < len && r > 0)
		r = produce(s, err);
	return r < 0 ? r : 0;
}

/* A device that gives its state no faster than options.rate, from when it was asked: what it costs
 * us to make up the state is no time of the device's. */
static void wait_for_rate(struct server *s, int64_t asked_us, size_t len)
{
	struct server_stream *t = &s->stream;
	int64_t wait;

	if (!s->options.rate)
		return;
	t->allowed_us = MAX(t->allowed_us, asked_us) +
	                (int64_t)((double)len * 1e6 / (double)s->options.rate);
	wait = t->allowed_us - now_us();
	if (wait > 0)
		nanosleep(&(struct timespec){ wait / 1000000, wait % 1000000 * 1000 }, NULL);
}

static int not_given(struct server *s, int r, const struct gw_error *why)
{
	log_warn(s->options.log, "device %s: its state: %s", s->device->id, why->text);
	return r;
}

ssize_t stream_pull(struct server *s, void *buf, size_t len)
{
	struct server_stream *t = &s->stream;
	const int64_t asked_us = now_us();
	struct gw_error err;
	int r = ready(t) < len ? fill(s, len, &err) : 0;
	size_t n;

	if (r < 0)
		return not_given(s, r, &err);
	n = MIN(len, ready(t));
	if (n)
		memcpy(buf, t->buf.data + t->at, n);
	t->at += n;
	wait_for_rate(s, asked_us, n);
	return (ssize_t)n;
}

int64_t stream_pending(struct server *s)
{
	struct participant_pending left = { 0 };
	const struct participant_ops *ops = s->participant->ops;
	struct gw_error err;
	int r = ready(&s->stream) ? 0 : fill(s, 1, &err);

	if (!r && !s->stream.ended && ops->pending)
		r = ops->pending(s->participant, PENDING_ESTIMATE, &left, &err);
	if (r < 0)
		return not_given(s, r, &err);
	return (int64_t)(ready(&s->stream) + left.precopy + (s->stream.final ? left.stop : 0));
}

/* ---- loading --------------------------------------------------------------------------------- */

int stream_begin_load(struct server *s, struct gw_error *err)
{
	(void)err;
	s->stream = (struct server_stream){ .kind = STREAM_LOADING };
	return 0;
}

struct frame {
	uint16_t kind, type;
	uint32_t len, format;
	const uint8_t *payload;
};

/* The frame at the front: 1; 0 if it is not all there yet. */
static int next_frame(struct server_stream *t, struct frame *f, struct gw_error *err)
{
	const uint8_t *header = t->buf.data + t->at;
	struct bytes_reader in = { .data = header, .len = HEADER_SIZE };
	uint64_t sequence, checksum;
	uint32_t magic;

	if (ready(t) < HEADER_SIZE)
		return 0;
	magic = bytes_take32(&in);
	f->kind = bytes_take16(&in);
	f->type = bytes_take16(&in);
	f->len = bytes_take32(&in);
	f->format = bytes_take32(&in);
	sequence = bytes_take64(&in);
	checksum = bytes_take64(&in);
	if (magic != MAGIC || f->len > RECORD_MAX)
		return error_set(err, -EINVAL, "frame %llu: this is none",
		                 (unsigned long long)t->sequence);
	if (ready(t) - HEADER_SIZE < f->len)
		return 0;
	f->payload = header + HEADER_SIZE;
	if (checksum != checksum_of(header, f->len))
		return error_set(err, -EBADMSG, "frame %llu: checksum mismatch",
		                 (unsigned long long)t->sequence);
	if (sequence != t->sequence)
		return error_set(err, -EBADMSG, "frame %llu: it says that it is %llu",
		                 (unsigned long long)t->sequence, (unsigned long long)sequence);
	t->sequence++;
	t->at += HEADER_SIZE + f->len;
	return 1;
}

static int take_begin(struct server *s, const struct frame *f, struct gw_error *err)
{
	const struct participant_ops *ops = s->participant->ops;
	struct bytes_reader in = { .data = f->payload, .len = f->len };
	char kind[KIND_SIZE];

	bytes_take(&in, kind, sizeof(kind));
	kind[KIND_SIZE - 1] = '\0';
	s->stream.version = bytes_take32(&in);
	if (f->format != FORMAT || f->len != BEGIN_SIZE)
		return error_set(err, -EINVAL, "format %u, %u here", f->format, FORMAT);
	if (strcmp(kind, ops->kind))
		return error_set(err, -EINVAL, "it is a %.31s's, here is a %s", kind, ops->kind);
	if (!s->stream.version || s->stream.version > ops->version)
		return error_set(err, -EINVAL, "version %u of its records, up to %u here",
		                 s->stream.version, ops->version);
	s->stream.begun = true;
	return 0;
}

static int take_frame(struct server *s, const struct frame *f, struct gw_error *err)
{
	struct server_stream *t = &s->stream;

	if (t->ended)
		return error_set(err, -EINVAL, "there is something behind its end");
	if (!t->begun)
		return f->kind == FRAME_BEGIN ? take_begin(s, f, err)
		                              : error_set(err, -EINVAL, "it has no beginning");
	if (f->kind == FRAME_RECORD)
		return s->participant->ops->load(s->participant, t->version, f->type, f->payload,
		                                 f->len, err);
	if (f->kind != FRAME_END || f->len)
		return error_set(err, -EINVAL, "a frame of kind %u", f->kind);
	t->ended = true;
	return 0;
}

static int take_bytes(struct server *s, const void *buf, size_t len, struct gw_error *err)
{
	struct server_stream *t = &s->stream;
	struct frame f = { 0 };
	int r;

	if (t->broken)
		return error_set(err, -EINVAL, "it was refused before");
	bytes_put(&t->buf, buf, len);
	r = t->buf.failed ? error_set(err, -ENOMEM, "out of memory") : 1;
	while (r > 0) {
		r = next_frame(t, &f, err);
		if (r > 0) {
			r = take_frame(s, &f, err);
			r = r < 0 ? r : 1;
		}
	}
	t->broken = r < 0;
	drop_taken(t);
	/* Bytes that are no whole frame yet, behind the end. */
	if (!r && t->ended && t->buf.len) {
		t->broken = true;
		r = error_set(err, -EINVAL, "there is something behind its end");
	}
	return r;
}

int stream_push(struct server *s, const void *buf, size_t len)
{
	struct gw_error err;
	int r = take_bytes(s, buf, len, &err);

	if (r < 0)
		log_warn(s->options.log, "device %s: what comes is no state of it: %s",
		         s->device->id, err.text);
	return r;
}

void stream_end(struct server *s)
{
	bytes_free(&s->stream.buf);
	s->stream = (struct server_stream){ .kind = STREAM_NONE };
}
