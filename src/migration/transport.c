/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/transport.h"

#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define HOST_MAX 256

struct address {
	bool is_unix;
	struct sockaddr_un un;
	char host[HOST_MAX];
	char port[16];
	bool elsewhere; /* none of the name's addresses is on the loopback, and others are not
	                   allowed */
};

static int parse_tcp(const char *uri, const char *rest, struct address *out, struct gw_error *err)
{
	const char *colon = strrchr(rest, ':');
	size_t len = colon ? (size_t)(colon - rest) : 0;
	char *end;
	unsigned long port;

	if (!colon || !colon[1] || len >= HOST_MAX)
		return error_set(err, -EINVAL, "%s: not tcp:HOST:PORT", uri);
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > 65535 || colon[1] == '-' || colon[1] == '+')
		return error_set(err, -EINVAL, "%s: %s is no port", uri, colon + 1);
	if (len >= 2 && rest[0] == '[' && rest[len - 1] == ']') { /* an IPv6 address */
		rest++;
		len -= 2;
	}
	memcpy(out->host, rest, len);
	out->host[len] = 0;
	snprintf(out->port, sizeof(out->port), "%lu", port);
	return 0;
}

static int parse_uri(const char *uri, struct address *out, struct gw_error *err)
{
	memset(out, 0, sizeof(*out));
	if (!strncmp(uri, "tcp:", 4))
		return parse_tcp(uri, uri + 4, out, err);
	if (strncmp(uri, "unix:", 5) || !uri[5])
		return error_set(err, -EINVAL, "%s: neither tcp:HOST:PORT nor unix:PATH", uri);
	if (strlen(uri + 5) >= sizeof(out->un.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s: longer than a socket's path may be", uri);
	out->is_unix = true;
	out->un.sun_family = AF_UNIX;
	strcpy(out->un.sun_path, uri + 5);
	return 0;
}

int transport_check_uri(const char *uri, struct gw_error *err)
{
	struct address address;

	return parse_uri(uri, &address, err);
}

/* ---- waiting ------------------------------------------------------------------- */

/* Waits for `events` on fd: 0, -ECANCELED, -ETIMEDOUT; -EINTR: wake_fd is readable. */
static int wait_for(int fd, short events, int cancel_fd, int wake_fd, int64_t timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = fd, .events = events },
			{ .fd = cancel_fd, .events = POLLIN },
			{ .fd = wake_fd, .events = POLLIN },
		};
		int64_t left = timeout_ms < 0 ? -1 : MAX(end - now_ms(), 0);
		int n = poll(fds, 3, (int)MIN(left, 1 << 30));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (fds[1].revents)
			return -ECANCELED;
		if (fds[2].revents)
			return -EINTR;
		if (fds[0].revents)
			return 0;
		if (timeout_ms >= 0 && now_ms() >= end)
			return -ETIMEDOUT;
	}
}

/* ---- making a connection --------------------------------------------------------- */

/* tcp(7): a peer that is gone is noticed whether we send (user timeout) or listen (keep-alive). */
static void tune_tcp(int fd, uint64_t timeout_ms)
{
	const int seconds = (int)MAX(timeout_ms / 1000, 1ull);
	const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (int)timeout_ms },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 1 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 1 },
		{ IPPROTO_TCP, TCP_KEEPCNT, seconds },
	};

	/* These fail on a UNIX socket, which needs none of them. */
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static int finish_connect(int fd, const struct sockaddr *sa, socklen_t len, int cancel_fd,
                          uint64_t timeout_ms)
{
	int code = 0, r;
	socklen_t size = sizeof(code);

	if (connect(fd, sa, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	r = wait_for(fd, POLLOUT, cancel_fd, -1, (int64_t)timeout_ms);
	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
		return -errno;
	return -code;
}

static bool is_loopback(const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

	if (sa->sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/* Tries each address that the name has; `use` connects to or binds it. Without `plain` only those
 * of the loopback. */
static int try_addresses(struct address *address, bool passive, bool plain,
                         int (*use)(int fd, const struct sockaddr *sa, socklen_t len, void *opaque),
                         void *opaque)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = passive ? AI_PASSIVE : 0,
	};
	struct addrinfo *list = NULL;
	int r = getaddrinfo(address->host[0] ? address->host : NULL, address->port, &hints, &list);

	if (r)
		return r == EAI_SYSTEM ? -errno : -EADDRNOTAVAIL;
	r = -EADDRNOTAVAIL;
	address->elsewhere = !plain;
	for (struct addrinfo *a = list; a; a = a->ai_next) {
		int fd;

		if (!plain && !is_loopback(a->ai_addr))
			continue;
		address->elsewhere = false;
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0) {
			r = -errno;
			continue;
		}
		r = use(fd, a->ai_addr, a->ai_addrlen, opaque);
		if (r >= 0) {
			r = fd;
			break;
		}
		close(fd);
	}
	freeaddrinfo(list);
	return r;
}

struct connecting {
	int cancel_fd;
	uint64_t timeout_ms;
};

static int use_connect(int fd, const struct sockaddr *sa, socklen_t len, void *opaque)
{
	const struct connecting *c = opaque;

	return finish_connect(fd, sa, len, c->cancel_fd, c->timeout_ms);
}

static int use_bind(int fd, const struct sockaddr *sa, socklen_t len, void *opaque)
{
	const int one = 1;

	(void)opaque;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(fd, sa, len) < 0 ? -errno : 0;
}

/* Why `what` failed. */
static int explain(const char *uri, const struct address *address, int r, const char *what,
                   struct gw_error *err)
{
	if (!address->elsewhere)
		return error_set_sys(err, r, "%s: %s", uri, what);
	return error_set(
	        err, -EACCES,
	        "%s: not on this host's loopback: the connection would be neither encrypted nor "
	        "authenticated; where the network is trusted, the parameter \"plain-tcp\" "
	        "allows it",
	        uri);
}

int transport_connect(const char *uri, bool plain, int cancel_fd, uint64_t timeout_ms,
                      struct channel *out, struct gw_error *err)
{
	struct connecting c = { cancel_fd, timeout_ms };
	struct address address;
	int fd, r = parse_uri(uri, &address, err);

	if (r < 0)
		return r;
	if (address.is_unix) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = fd < 0 ? -errno
		           : use_connect(fd, (struct sockaddr *)&address.un, sizeof(address.un),
		                         &c);
		if (r < 0 && fd >= 0)
			close(fd);
	} else {
		r = fd = try_addresses(&address, false, plain, use_connect, &c);
	}
	if (r < 0)
		return explain(uri, &address, r, "connect", err);
	tune_tcp(fd, timeout_ms);
	*out = (struct channel){ .fd = fd, .cancel_fd = cancel_fd, .stall_ms = (int)timeout_ms };
	return 0;
}

/* A socket file on which nobody listens is left over from somebody who is gone. */
static void remove_stale(const struct sockaddr_un *un)
{
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (stat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 && errno == ECONNREFUSED)
		unlink(un->sun_path);
}

int transport_listen(const char *uri, bool plain, int *out, struct gw_error *err)
{
	struct address address;
	int fd, r = parse_uri(uri, &address, err);

	if (r < 0)
		return r;
	if (address.is_unix) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return error_set_sys(err, -errno, "%s: socket", uri);
		remove_stale(&address.un);
		r = use_bind(fd, (struct sockaddr *)&address.un, sizeof(address.un), NULL);
		if (r < 0)
			close(fd);
	} else {
		r = fd = try_addresses(&address, true, plain, use_bind, NULL);
	}
	if (r < 0)
		return explain(uri, &address, r, "bind", err);
	if (listen(fd, 1) < 0) {
		r = -errno;
		close(fd);
		return error_set_sys(err, r, "%s: listen", uri);
	}
	*out = fd;
	return 0;
}

int transport_accept(int listen_fd, int cancel_fd, uint64_t timeout_ms, struct channel *out,
                     struct gw_error *err)
{
	for (;;) {
		int r = wait_for(listen_fd, POLLIN, cancel_fd, -1, -1);
		int fd;

		if (r < 0)
			return error_set_sys(err, r, "waiting for a connection");
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			return error_set_sys(err, -errno, "accept");
		tune_tcp(fd, timeout_ms);
		*out = (struct channel){ .fd = fd,
			                 .cancel_fd = cancel_fd,
			                 .stall_ms = (int)timeout_ms };
		return 0;
	}
}

/* ---- using it ---------------------------------------------------------------------- */

int channel_write(struct channel *ch, struct iovec *iov, int count, struct gw_error *err)
{
	int r = channel_check_cancel(ch, err);

	if (r < 0)
		return r;
	while (count) {
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
		ssize_t n = sendmsg(ch->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return error_set_sys(err, -errno, "connection lost: send");
		ch->taken += (uint64_t)MAX(n, 0);
		for (; n > 0 && count && (size_t)n >= iov->iov_len; iov++, count--)
			n -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
		while (count && !iov->iov_len) {
			iov++;
			count--;
		}
		r = count ? wait_for(ch->fd, POLLOUT, ch->cancel_fd, -1, ch->stall_ms) : 0;
		if (r == -ETIMEDOUT)
			return error_set(err, r, "the peer has taken nothing for %d ms",
			                 ch->stall_ms);
		if (r < 0)
			return error_set_sys(err, r, "send");
	}
	return 0;
}

int channel_read(struct channel *ch, void *buf, size_t len, int timeout_ms, struct gw_error *err)
{
	const int64_t end = now_ms() + timeout_ms;
	size_t done = 0;

	while (done < len) {
		int r = wait_for(ch->fd, POLLIN, ch->cancel_fd, ch->woken ? ch->wake_fd : -1,
		                 timeout_ms < 0 ? -1 : MAX(end - now_ms(), 0));
		ssize_t n;

		if (r == -EINTR) {
			r = ch->woken(ch->opaque, err);
			if (r < 0)
				return r;
			continue;
		}
		if (r == -ETIMEDOUT)
			return error_set(err, r, "the peer has said %s for %d ms",
			                 done ? "no whole word" : "nothing", timeout_ms);
		if (r < 0)
			return error_set_sys(err, r, "receive");
		n = recv(ch->fd, (char *)buf + done, len - done, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return error_set_sys(err, -errno, "connection lost: receive");
		if (n == 0)
			return error_set(err, done ? -EPIPE : -ENODATA,
			                 "connection lost: the peer has closed it");
		done += (size_t)n;
	}
	return 0;
}

int channel_check_cancel(const struct channel *ch, struct gw_error *err)
{
	struct pollfd cancel = { .fd = ch->cancel_fd, .events = POLLIN };

	return poll(&cancel, 1, 0) > 0 ? error_set(err, -ECANCELED, "cancelled") : 0;
}

bool channel_readable(const struct channel *ch)
{
	struct pollfd fd = { .fd = ch->fd, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

void channel_close(struct channel *ch)
{
	if (ch->fd >= 0)
		close(ch->fd);
	ch->fd = -1;
}
