/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stream.h"

#include "base/error.h"
#include "base/io.h"
#include "base/tls.h"
#include "base/util.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RETRY_MS 50

static const char tls_prefix[] = "tls:";

struct stream {
	int fd;
	struct tls_identity *identity; /* both NULL: no TLS */
	struct tls_session *session;
};

/* ---- waiting --------------------------------------------------------------------------------- */

static int wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

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

/* After -EAGAIN of TLS, which may want to write where we read. */
static int wait_tls(struct stream *s, int64_t deadline_ms)
{
	return wait_for(s->fd, tls_wants_write(s->session) ? POLLOUT : POLLIN, deadline_ms);
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int connect_unix(const char *path, struct gw_error *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	autoclose int fd = -1;

	if (strlen(path) >= sizeof(sun.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: longer than a socket's path may be",
		                 path);
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0)
		return error_set_sys(err, -errno, "%s", path);
	return take_fd(&fd);
}

/* Cuts "HOST:PORT" or "[HOST]:PORT" in place. */
static int split(char *where, char **host, char **port, struct gw_error *err)
{
	char *colon = strrchr(where, ':');
	size_t len;

	if (!colon || colon == where || !colon[1])
		return error_set(err, -EINVAL, "tls:%s: not tls:HOST:PORT", where);
	*colon = 0;
	*host = where;
	*port = colon + 1;
	len = strlen(where);
	if (*where == '[' && where[len - 1] == ']') {
		where[len - 1] = 0;
		*host = where + 1;
	}
	return 0;
}

static int connect_to(const struct addrinfo *address)
{
	autoclose int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen) < 0)
		return -errno;
	return take_fd(&fd);
}

static int connect_tcp(const char *host, const char *port, struct gw_error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int r = getaddrinfo(host, port, &hints, &list);

	if (r)
		return error_set(err, -EINVAL, "tls:%s:%s: %s", host, port, gai_strerror(r));
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a && r < 0; a = a->ai_next)
		r = connect_to(a);
	freeaddrinfo(list);
	return r < 0 ? error_set_sys(err, r, "tls:%s:%s", host, port) : r;
}

static int shake_hands(struct stream *s, const char *host, int64_t deadline_ms,
                       struct gw_error *err)
{
	int r = tls_session_create(s->identity, s->fd, host, &s->session, err);

	if (r < 0)
		return r;
	while ((r = tls_handshake(s->session)) == -EAGAIN) {
		r = wait_tls(s, deadline_ms);
		if (r < 0)
			return error_set_sys(err, r, "TLS");
	}
	return r < 0 ? error_set(err, r, "TLS: %s", tls_reason(s->session)) : 0;
}

static int connect_tls(struct stream *s, const char *where, const char *dir, int64_t deadline_ms,
                       struct gw_error *err)
{
	autofree char *copy = strdup(where);
	char *host = NULL, *port = NULL;
	int r;

	if (!copy)
		return error_set(err, -ENOMEM, "out of memory");
	if (!dir)
		return error_set(err, -EINVAL, "tls:%s: needs --tls-dir", where);
	r = split(copy, &host, &port, err);
	if (!r && !s->identity)
		r = tls_identity_load(dir, TLS_CLIENT, &s->identity, err);
	if (r < 0)
		return r;
	s->fd = connect_tcp(host, port, err);
	if (s->fd < 0)
		return s->fd;
	io_set_nonblock(s->fd, 1);
	r = shake_hands(s, host, deadline_ms, err);
	return r < 0 ? error_context(err, "tls:%s", where) : 0;
}

static int connect_once(struct stream *s, const char *where, const char *tls_dir,
                        int64_t deadline_ms, struct gw_error *err)
{
	if (!strncmp(where, tls_prefix, sizeof(tls_prefix) - 1))
		return connect_tls(s, where + sizeof(tls_prefix) - 1, tls_dir, deadline_ms, err);
	s->fd = connect_unix(where, err);
	if (s->fd < 0)
		return s->fd;
	io_set_nonblock(s->fd, 1);
	return 0;
}

int stream_connect(const char *where, const char *tls_dir, int64_t deadline_ms, struct stream **out,
                   struct gw_error *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, "%s: out of memory", where);
	s->fd = -1;
	for (;;) {
		r = connect_once(s, where, tls_dir, deadline_ms, err);
		if ((r != -ENOENT && r != -ECONNREFUSED) || s->fd >= 0 ||
		    now_ms() + RETRY_MS > deadline_ms)
			break;
		usleep(RETRY_MS * 1000);
	}
	if (r < 0) {
		stream_close(s);
		return r;
	}
	*out = s;
	return 0;
}

void stream_close(struct stream *s)
{
	if (!s)
		return;
	tls_session_free(s->session);
	if (s->fd >= 0)
		close(s->fd);
	tls_identity_free(s->identity);
	free(s);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static ssize_t try_read(struct stream *s, void *buf, size_t len)
{
	ssize_t n;

	if (s->session)
		return tls_read(s->session, buf, len);
	n = recv(s->fd, buf, len, 0);
	return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
}

static ssize_t try_write(struct stream *s, const void *buf, size_t len)
{
	ssize_t n;

	if (s->session)
		return tls_write(s->session, buf, len);
	n = send(s->fd, buf, len, MSG_NOSIGNAL);
	return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
}

static int failed(struct stream *s, int code, const char *what, struct gw_error *err)
{
	if (code == -EPROTO && s->session)
		return error_set(err, code, "%s the control socket: TLS: %s", what,
		                 tls_reason(s->session));
	return error_set_sys(err, code, "%s the control socket", what);
}

ssize_t stream_read(struct stream *s, void *buf, size_t len, int64_t deadline_ms,
                    struct gw_error *err)
{
	for (;;) {
		ssize_t n = try_read(s, buf, len);
		int r;

		if (n >= 0)
			return n;
		if (n != -EAGAIN)
			return failed(s, (int)n, "reading from", err);
		r = s->session ? wait_tls(s, deadline_ms) : wait_for(s->fd, POLLIN, deadline_ms);
		if (r == -ETIMEDOUT)
			return error_set(err, r, "nothing came in time");
		if (r < 0)
			return failed(s, r, "waiting for", err);
	}
}

int stream_write(struct stream *s, const void *buf, size_t len, int64_t deadline_ms,
                 struct gw_error *err)
{
	const char *at = buf;

	while (len) {
		ssize_t n = try_write(s, at, len);
		int r;

		if (n > 0) {
			at += n;
			len -= (size_t)n;
			continue;
		}
		if (n != -EAGAIN)
			return failed(s, (int)n, "writing to", err);
		r = s->session ? wait_tls(s, deadline_ms) : wait_for(s->fd, POLLOUT, deadline_ms);
		if (r < 0)
			return failed(s, r, "waiting for", err);
	}
	return 0;
}

int stream_fd(const struct stream *s)
{
	return s->fd;
}
