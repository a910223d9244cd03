/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/writer.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <string.h>

#define BUFFER_SIZE (64 * KIB)
#define PAGES_PER_FRAME 64

static uint32_t number_of(const struct writer *w, const struct participant *p)
{
	uint32_t n = 0;

	for (const struct participant *q = w->participants ? w->participants->first : NULL; q;
	     q = q->next, n++)
		if (q == p)
			return n;
	return NO_PARTICIPANT;
}

int writer_flush(struct writer *w, struct gw_error *err)
{
	struct iovec iov = { w->buffer, w->buffered };

	w->buffered = 0;
	return iov.iov_len ? w->output->write(w->output, &iov, 1, err) : 0;
}

static int put(struct writer *w, const uint8_t *header, const void *head, size_t head_len,
               const void *body, size_t body_len, struct gw_error *err)
{
	struct iovec iov[4] = {
		{ w->buffer, w->buffered },
		{ (void *)(uintptr_t)header, FRAME_HEADER_SIZE },
		{ (void *)(uintptr_t)head, head_len },
		{ (void *)(uintptr_t)body, body_len },
	};

	if (w->buffered + FRAME_HEADER_SIZE + head_len + body_len > BUFFER_SIZE) {
		w->buffered = 0;
		return w->output->write(w->output, iov, 4, err);
	}
	for (int i = 1; i < 4; i++) {
		if (iov[i].iov_len)
			memcpy(w->buffer + w->buffered, iov[i].iov_base, iov[i].iov_len);
		w->buffered += iov[i].iov_len;
	}
	return 0;
}

int writer_frame(struct writer *w, enum frame_type type, uint16_t record,
                 const struct participant *p, const void *head, size_t head_len, const void *body,
                 size_t body_len, struct gw_error *err)
{
	struct frame_header h = {
		.type = (uint16_t)type,
		.record = record,
		.participant = p ? number_of(w, p) : NO_PARTICIPANT,
		.sequence = w->sequence,
		.length = (uint32_t)(head_len + body_len),
	};
	uint8_t header[FRAME_HEADER_SIZE];
	uint64_t pages = 0;
	int r;

	if (head_len + body_len > FRAME_PAYLOAD_MAX)
		return error_set(err, -EMSGSIZE, "frame %u (%s): %zu bytes", w->sequence,
		                 frame_type_name(type), head_len + body_len);
	h.sum = frame_sum(head, head_len, body, body_len);
	frame_encode(&h, header);
	r = put(w, header, head, head_len, body, body_len, err);
	if (r < 0)
		return r;
	w->sequence++;
	w->bytes += FRAME_HEADER_SIZE + h.length;
	if (type == FRAME_PAGES)
		pages = body_len / PAGE_SIZE;
	else if (type == FRAME_ZERO)
		pages = le64toh(((const uint64_t *)head)[1]);
	if (w->watch.frame)
		w->watch.frame(w->watch.opaque, h.type, p, FRAME_HEADER_SIZE + h.length, pages);
	return 0;
}

/* ---- as a sink --------------------------------------------------------------------- */

static struct writer *writer_of(struct sink *sink)
{
	return container_of(sink, struct writer, sink);
}

static int throttle(struct writer *w, struct gw_error *err)
{
	return w->watch.throttle ? w->watch.throttle(w->watch.opaque, err) : 0;
}

static int sink_put_record(struct sink *sink, struct participant *p, uint16_t type,
                           const void *head, size_t head_len, const void *body, size_t body_len,
                           struct gw_error *err)
{
	struct writer *w = writer_of(sink);
	int r;

	if (head_len + body_len > RECORD_MAX)
		return error_set(err, -EMSGSIZE, "record of %zu bytes, more than %u",
		                 head_len + body_len, RECORD_MAX);
	r = throttle(w, err);
	if (r < 0)
		return r;
	return writer_frame(w, FRAME_RECORD, type, p, head, head_len, body, body_len, err);
}

bool page_is_zero(const void *page)
{
	const uint64_t *word = page;

	for (size_t i = 0; i < PAGE_SIZE / 8; i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] |
		    word[i + 6] | word[i + 7])
			return false;
	return true;
}

static int put_zero(struct writer *w, struct participant *p, uint64_t gpa, size_t count,
                    struct gw_error *err)
{
	uint64_t head[2] = { htole64(gpa), htole64(count) };

	return count ? writer_frame(w, FRAME_ZERO, w->pass, p, head, sizeof(head), NULL, 0, err)
	             : 0;
}

/* `count` pages that lie in w->pages. */
static int put_pages(struct writer *w, struct participant *p, uint64_t gpa, size_t count,
                     struct gw_error *err)
{
	uint64_t head = htole64(gpa);
	int r;

	if (!count)
		return 0;
	r = throttle(w, err);
	if (r < 0)
		return r;
	return writer_frame(w, FRAME_PAGES, w->pass, p, &head, sizeof(head), w->pages,
	                    count * PAGE_SIZE, err);
}

/* Pages are copied: checksum and data must be of one instant, and a running guest may be
 * writing. What it writes after the copy, or after the look for zeros, is dirty again and comes
 * later. */
static int sink_put_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                          size_t count, struct gw_error *err)
{
	struct writer *w = writer_of(sink);
	const uint8_t *from = hva;
	size_t zeros = 0, copied = 0;
	int r = 0;

	if (!hva)
		return put_zero(w, p, gpa, count, err);
	for (size_t i = 0; i < count && !r; i++) {
		uint64_t at = gpa + i * PAGE_SIZE;
		uint8_t *copy = w->pages + copied * PAGE_SIZE;

		if (page_is_zero(from + i * PAGE_SIZE)) {
			r = put_pages(w, p, at - copied * PAGE_SIZE, copied, err);
			copied = 0;
			zeros++;
			continue;
		}
		r = put_zero(w, p, at - zeros * PAGE_SIZE, zeros, err);
		zeros = 0;
		memcpy(copy, from + i * PAGE_SIZE, PAGE_SIZE);
		copied++;
		if (copied == PAGES_PER_FRAME && !r) {
			r = put_pages(w, p, at - (copied - 1) * PAGE_SIZE, copied, err);
			copied = 0;
		}
	}
	if (!r)
		r = put_zero(w, p, gpa + (count - zeros) * PAGE_SIZE, zeros, err);
	if (!r)
		r = put_pages(w, p, gpa + (count - copied) * PAGE_SIZE, copied, err);
	return r;
}

static bool sink_pause_wanted(struct sink *sink)
{
	struct writer *w = writer_of(sink);

	return w->watch.pause_wanted && w->watch.pause_wanted(w->watch.opaque);
}

static void sink_last_pass(struct sink *sink, uint64_t pages)
{
	struct writer *w = writer_of(sink);

	if (w->watch.last_pass)
		w->watch.last_pass(w->watch.opaque, pages);
}

static const struct sink_ops writer_sink_ops = {
	.record = sink_put_record,
	.pages = sink_put_pages,
	.pause_wanted = sink_pause_wanted,
	.last_pass = sink_last_pass,
};

/* ---- beginning and end ----------------------------------------------------------------- */

int writer_init(struct writer *w, struct output *output, const struct participant_list *list,
                const struct writer_watch *watch, struct gw_error *err)
{
	*w = (struct writer){
		.sink.ops = &writer_sink_ops,
		.output = output,
		.participants = list,
		.buffer = malloc(BUFFER_SIZE),
		.pages = malloc(PAGES_PER_FRAME * PAGE_SIZE),
	};
	if (watch)
		w->watch = *watch;
	if (!w->buffer || !w->pages) {
		writer_fini(w);
		return error_set(err, -ENOMEM, "stream: out of memory");
	}
	return 0;
}

void writer_fini(struct writer *w)
{
	free(w->buffer);
	free(w->pages);
	w->buffer = w->pages = NULL;
}

char *table_print(const struct participant_list *list)
{
	cJSON *table = cJSON_CreateArray();
	char *text = NULL;
	bool ok = table;

	for (const struct participant *p = list->first; p && ok; p = p->next) {
		cJSON *row = cJSON_CreateObject();

		ok = row && cJSON_AddItemToArray(table, row) &&
		     cJSON_AddStringToObject(row, "name", p->name) &&
		     cJSON_AddStringToObject(row, "kind", p->ops->kind) &&
		     cJSON_AddNumberToObject(row, "version", p->ops->version);
	}
	if (ok)
		text = cJSON_PrintUnformatted(table);
	cJSON_Delete(table);
	return text;
}

int writer_begin(struct writer *w, const char *config, struct gw_error *err)
{
	const struct frame_hello hello = frame_hello();
	autofree char *table = table_print(w->participants);
	int r;

	if (!table)
		return error_set(err, -ENOMEM, "stream: out of memory");
	r = writer_frame(w, FRAME_HELLO, 0, NULL, &hello, sizeof(hello), NULL, 0, err);
	if (!r)
		r = writer_frame(w, FRAME_CONFIG, 0, NULL, config, strlen(config), NULL, 0, err);
	if (!r)
		r = writer_frame(w, FRAME_TABLE, 0, NULL, table, strlen(table), NULL, 0, err);
	return r ? r : writer_flush(w, err);
}

int writer_end(struct writer *w, bool run, struct gw_error *err)
{
	struct frame_end end = {
		.frames = htole64(w->sequence),
		.bytes = htole64(w->bytes),
		.run = htole32(run ? 1 : 0),
	};
	int r = writer_frame(w, FRAME_END, 0, NULL, &end, sizeof(end), NULL, 0, err);

	return r ? r : writer_flush(w, err);
}
