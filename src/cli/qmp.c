/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/qmp.h"

#include "base/error.h"
#include "base/util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define READ_CHUNK 65536
#define LINE_MAX_BYTES (64u * 1024 * 1024)
#define RETRY_MS 50

struct qmp {
	int fd;
	char *buf;
	size_t len, room;
};

/* ---- the connection ------------------------------------------------------------------ */

static int connect_once(const struct sockaddr_un *sun, int *out)
{
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0)
		return -errno;
	*out = take_fd(&fd);
	return 0;
}

static int connect_by(const char *path, int64_t deadline_ms, int *fd, struct gw_error *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(sun.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: longer than a socket's path may be",
		                 path);
	strcpy(sun.sun_path, path);
	for (;;) {
		int r = connect_once(&sun, fd);

		if (!r)
			return 0;
		if ((r != -ENOENT && r != -ECONNREFUSED) || now_ms() + RETRY_MS > deadline_ms)
			return error_set_sys(err, r, "%s", path);
		usleep(RETRY_MS * 1000);
	}
}

static int send_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Waits until something can be read. */
static int wait_readable(int fd, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	for (;;) {
		const int64_t left = deadline_ms < 0 ? -1 : MAX(deadline_ms - now_ms(), 0);
		int n = poll(&pfd, 1, (int)MIN(left, 1 << 30));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && deadline_ms >= 0 && now_ms() >= deadline_ms)
			return -ETIMEDOUT;
	}
}

static int read_more(struct qmp *qmp, int64_t deadline_ms)
{
	int r = wait_readable(qmp->fd, deadline_ms);
	ssize_t n;

	if (r < 0)
		return r;
	if (qmp->room - qmp->len < READ_CHUNK) {
		size_t room = qmp->room * 2 + READ_CHUNK;
		char *more = room > LINE_MAX_BYTES ? NULL : realloc(qmp->buf, room);

		if (!more)
			return -ENOMEM;
		qmp->buf = more;
		qmp->room = room;
	}
	n = recv(qmp->fd, qmp->buf + qmp->len, READ_CHUNK, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	qmp->len += (size_t)n;
	return n ? 0 : -ENODATA;
}

/* One line as JSON. */
static int next_message(struct qmp *qmp, int64_t deadline_ms, cJSON **out, struct gw_error *err)
{
	const char *end;
	size_t len;

	while (!(end = qmp->len ? memchr(qmp->buf, '\n', qmp->len) : NULL)) {
		int r = read_more(qmp, deadline_ms);

		if (r == -ENODATA)
			return error_set(err, r, "the other end has closed the connection");
		if (r == -ETIMEDOUT)
			return error_set(err, r, "nothing came in time");
		if (r < 0)
			return error_set_sys(err, r, "reading from the control socket");
	}
	len = (size_t)(end - qmp->buf) + 1;
	qmp->buf[len - 1] = 0;
	*out = cJSON_ParseWithOpts(qmp->buf, NULL, 1);
	qmp->len -= len;
	memmove(qmp->buf, qmp->buf + len, qmp->len);
	return *out ? 0 : error_set(err, -EPROTO, "the other end does not speak QMP");
}

/* ---- commands and events ------------------------------------------------------------- */

static int send_command(struct qmp *qmp, const char *name, const cJSON *args, struct gw_error *err)
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
	r = send_all(qmp->fd, line, len + 2);
	return r < 0 ? error_set_sys(err, r, "%s: writing to the control socket", name) : 0;
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
	int r = send_command(qmp, name, args, err);

	while (!r) {
		cJSON *message;

		r = next_message(qmp, deadline_ms, &message, err);
		if (r < 0)
			return error_context(err, "%s", name);
		r = take_reply(message, ret, err);
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

int qmp_connect(const char *path, int64_t deadline_ms, struct qmp **out, struct gw_error *err)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	int r;

	if (!qmp)
		return error_set(err, -ENOMEM, "%s: out of memory", path);
	qmp->fd = -1;
	r = connect_by(path, deadline_ms, &qmp->fd, err);
	if (!r && (r = greet(qmp, deadline_ms, err)) < 0)
		r = error_context(err, "%s", path);
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
	if (qmp->fd >= 0)
		close(qmp->fd);
	free(qmp->buf);
	free(qmp);
}
