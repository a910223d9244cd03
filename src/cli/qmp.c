/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/qmp.h"

#include "base/error.h"
#include "base/util.h"
#include "cli/stream.h"

#include <string.h>

#define READ_CHUNK 65536
#define LINE_MAX_BYTES (64u * 1024 * 1024)

struct qmp {
	struct stream *stream;
	void (*event)(void *opaque, const cJSON *event);
	void *opaque;
	char *buf;
	size_t len, room;
};

/* ---- messages ------------------------------------------------------------------------ */

static int read_more(struct qmp *qmp, int64_t deadline_ms, struct gw_error *err)
{
	ssize_t n;

	if (qmp->room - qmp->len < READ_CHUNK) {
		size_t room = qmp->room * 2 + READ_CHUNK;
		char *more = room > LINE_MAX_BYTES ? NULL : realloc(qmp->buf, room);

		if (!more)
			return error_set(err, -ENOMEM, "what the other end sends is too long");
		qmp->buf = more;
		qmp->room = room;
	}
	n = stream_read(qmp->stream, qmp->buf + qmp->len, READ_CHUNK, deadline_ms, err);
	if (n == 0)
		return error_set(err, -ENODATA, "the other end has closed the connection");
	if (n < 0)
		return (int)n;
	qmp->len += (size_t)n;
	return 0;
}

/* One line as JSON. */
static int next_message(struct qmp *qmp, int64_t deadline_ms, cJSON **out, struct gw_error *err)
{
	const char *end;
	size_t len;

	while (!(end = qmp->len ? memchr(qmp->buf, '\n', qmp->len) : NULL)) {
		int r = read_more(qmp, deadline_ms, err);

		if (r < 0)
			return r;
	}
	len = (size_t)(end - qmp->buf) + 1;
	qmp->buf[len - 1] = 0;
	*out = cJSON_ParseWithOpts(qmp->buf, NULL, 1);
	qmp->len -= len;
	memmove(qmp->buf, qmp->buf + len, qmp->len);
	return *out ? 0 : error_set(err, -EPROTO, "the other end does not speak QMP");
}

/* ---- commands and events ------------------------------------------------------------- */

static int send_command(struct qmp *qmp, const char *name, const cJSON *args, int64_t deadline_ms,
                        struct gw_error *err)
{
	cJSON *root = cJSON_CreateObject();
	autofree char *text = NULL;
	autofree char *line = NULL;
	size_t len;
	int r;

	if (cJSON_AddStringToObject(root, "execute", name) &&
	    (!args || cJSON_AddItemReferenceToObject(root, "arguments", (cJSON *)(uintptr_t)args)))
		text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	/* In one piece: the command may be carried out, and the server gone, before the line's end
	 * has been sent. */
	len = strlen(text);
	line = malloc(len + 2);
	if (!line)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	memcpy(line, text, len);
	memcpy(line + len, "\r\n", 2);
	r = stream_write(qmp->stream, line, len + 2, deadline_ms, err);
	return r < 0 ? error_context(err, "%s", name) : 0;
}

/* A message that may be a reply: 1 if it is not. */
static int take_reply(cJSON *message, cJSON **ret, struct gw_error *err)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(message, "error");
	const char *text;

	*ret = cJSON_DetachItemFromObjectCaseSensitive(message, "return");
	if (*ret)
		return 0;
	if (!error)
		return 1;
	text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "desc"));
	return error_set(err, -EREMOTEIO, "%s", text ? text : "failed, and does not say why");
}

int qmp_command(struct qmp *qmp, const char *name, const cJSON *args, int64_t deadline_ms,
                cJSON **ret, struct gw_error *err)
{
	int r = send_command(qmp, name, args, deadline_ms, err);

	while (!r) {
		cJSON *message;

		r = next_message(qmp, deadline_ms, &message, err);
		if (r < 0)
			return error_context(err, "%s", name);
		r = take_reply(message, ret, err);
		if (r > 0 && qmp->event && cJSON_GetObjectItemCaseSensitive(message, "event"))
			qmp->event(qmp->opaque, message);
		cJSON_Delete(message);
		if (r <= 0)
			break;
		r = 0;
	}
	return r;
}

int qmp_event(struct qmp *qmp, int64_t deadline_ms, cJSON **event, struct gw_error *err)
{
	for (;;) {
		cJSON *message;
		int r = next_message(qmp, deadline_ms, &message, err);

		if (r < 0)
			return r;
		if (cJSON_GetObjectItemCaseSensitive(message, "event")) {
			*event = message;
			return 0;
		}
		cJSON_Delete(message);
	}
}

/* ---- life ------------------------------------------------------------------------------ */

static int greet(struct qmp *qmp, int64_t deadline_ms, struct gw_error *err)
{
	cJSON *message, *ret = NULL;
	bool is_greeting;
	int r = next_message(qmp, deadline_ms, &message, err);

	if (r < 0)
		return r;
	is_greeting = cJSON_GetObjectItemCaseSensitive(message, "QMP");
	cJSON_Delete(message);
	if (!is_greeting)
		return error_set(err, -EPROTO, "the other end does not speak QMP");
	r = qmp_command(qmp, "qmp_capabilities", NULL, deadline_ms, &ret, err);
	cJSON_Delete(ret);
	return r;
}

int qmp_connect(const char *where, const char *tls_dir, int64_t deadline_ms, struct qmp **out,
                struct gw_error *err)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	int r;

	if (!qmp)
		return error_set(err, -ENOMEM, "%s: out of memory", where);
	r = stream_connect(where, tls_dir, deadline_ms, &qmp->stream, err);
	if (!r && (r = greet(qmp, deadline_ms, err)) < 0)
		r = error_context(err, "%s", where);
	if (r < 0) {
		qmp_close(qmp);
		return r;
	}
	*out = qmp;
	return 0;
}

void qmp_close(struct qmp *qmp)
{
	if (!qmp)
		return;
	stream_close(qmp->stream);
	free(qmp->buf);
	free(qmp);
}

void qmp_on_event(struct qmp *qmp, void (*event)(void *opaque, const cJSON *event), void *opaque)
{
	qmp->event = event;
	qmp->opaque = opaque;
}

int qmp_fd(const struct qmp *qmp)
{
	return stream_fd(qmp->stream);
}
