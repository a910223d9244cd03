/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of virtio-vsock in user space: UNIX sockets. */
#include "vmm/virtio/vsock.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LINES_MAX 64 /* processes that have connected and not said what they want */
#define FIRST_PORT 0x40000000u

static int new_socket(void)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int vsock_connect(struct vsock *s, uint32_t port)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	autoclose int fd = new_socket();

	if (fd < 0)
		return fd;
	snprintf(to.sun_path, sizeof(to.sun_path), "%s_%u", s->options.socket, port);
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* ---- listening ---------------------------------------------------------------------------------
 */

/* A socket that nobody listens on any more is what a process left that died. */
static bool stale(const struct sockaddr_un *at)
{
	autoclose int fd = new_socket();

	return fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 &&
	       errno == ECONNREFUSED;
}

static int bind_socket(int fd, const struct sockaddr_un *at)
{
	return bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ? -errno : 0;
}

int vsock_listen(struct vsock *s, struct gw_error *err)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	autoclose int fd = new_socket();
	int r;

	if (fd < 0)
		return error_set_sys(err, fd, "socket: a UNIX socket");
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", s->options.socket);
	/* Linux gives the file the mode that the socket has when it is bound. */
	if (fchmod(fd, 0600) < 0)
		return error_set_sys(err, -errno, "socket: fchmod");
	r = bind_socket(fd, &at);
	if (r == -EADDRINUSE && stale(&at) && unlink(at.sun_path) == 0)
		r = bind_socket(fd, &at);
	if (!r && listen(fd, LINES_MAX) < 0)
		r = -errno;
	if (r < 0)
		return error_set_sys(err, r, "socket: %s", at.sun_path);
	s->listen_fd = take_fd(&fd);
	return 0;
}

void vsock_unlisten(struct vsock *s)
{
	if (s->listen_fd < 0)
		return;
	unlink(s->options.socket);
	close(s->listen_fd);
	s->listen_fd = -1;
}

static unsigned count_lines(const struct vsock *s)
{
	unsigned n = 0;

	for (const struct vsock_conn *c = s->conns; c; c = c->next)
		n += c->state == VSOCK_LINE;
	return n;
}

void vsock_on_listen(void *opaque, int listen_fd, uint32_t events)
{
	struct vsock *s = opaque;
	struct virtio_worker *w = &s->v.workers[0];
	struct vsock_conn *c;
	int fd;

	(void)events;
	pthread_mutex_lock(&w->lock);
	if (s->v.active) {
		fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0 && count_lines(s) >= LINES_MAX) {
			close(fd);
		} else if (fd >= 0 && (c = vsock_conn_new(s, fd, VSOCK_LINE)) != NULL) {
			vsock_conn_set_deadline(c, VSOCK_LINE_TIME);
			vsock_conn_update_watch(c);
		}
	}
	pthread_mutex_unlock(&w->lock);
}

/* ---- the first line
 * ------------------------------------------------------------------------------- */

/* "CONNECT" and a port. */
static bool parse_line(const char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	char *end;
	unsigned long long value;

	if (strncmp(line, word, strlen(word)) || line[strlen(word)] < '0' ||
	    line[strlen(word)] > '9')
		return false;
	value = strtoull(line + strlen(word), &end, 10);
	if (*end || value > UINT32_MAX)
		return false;
	*port = (uint32_t)value;
	return true;
}

static void ask_guest(struct vsock_conn *c)
{
	struct vsock *s = c->vsock;

	if (!parse_line(c->line, &c->guest_port)) {
		vsock_conn_free(c);
		return;
	}
	do {
		if (s->next_port < FIRST_PORT)
			s->next_port = FIRST_PORT;
		c->host_port = s->next_port++;
	} while (vsock_conn_find(s, c->guest_port, c->host_port));
	c->state = VSOCK_REQUESTED;
	vsock_conn_enter(c);
	vsock_conn_set_deadline(c, VSOCK_REQUEST_TIME);
	vsock_conn_owe(c, VSOCK_OP_REQUEST);
	vsock_conn_update_watch(c);
}

void vsock_read_line(struct vsock_conn *c)
{
	ssize_t n;

	/* Byte by byte: what follows the line is the guest's. */
	while ((n = recv(c->fd, &c->line[c->line_len], 1, MSG_DONTWAIT)) == 1) {
		if (c->line[c->line_len] == '\n') {
			c->line[c->line_len] = 0;
			ask_guest(c);
			return;
		}
		if (++c->line_len == VSOCK_LINE_MAX)
			break;
	}
	if (n == 0 || c->line_len == VSOCK_LINE_MAX || (n < 0 && errno != EAGAIN && errno != EINTR))
		vsock_conn_free(c);
}

bool vsock_say_ok(struct vsock_conn *c)
{
	char text[24];
	const int len = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	/* The first bytes that go there: a socket has room for them. */
	return send(c->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == len;
}
