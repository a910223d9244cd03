/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection between a port of the guest's and a UNIX socket.
 *
 * To the guest goes what the socket has, as far as the guest told that it has
 * room (5.10.6.3); nothing is read before it can be handed over. From the
 * guest comes at most what we told that we have room for; a guest that sends
 * more loses the connection.
 *
 * A socket at its end is reported again and again by the loop, so it is
 * watched only while there is something to do about it.
 */
#include "vmm/virtio/vsock.h"

#include "base/error.h"

#include <poll.h>
#include <sys/socket.h>

#define TURN_PACKETS 8 /* then the next connection */
#define TICK 1000
#define IOV_ROOM 1024

/* ---- in the tables -------------------------------------------------------------------------- */

static struct vsock_conn **bucket(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	return &s->buckets[(guest_port * 31 + host_port) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c = *bucket(s, guest_port, host_port);

	while (c && (c->guest_port != guest_port || c->host_port != host_port))
		c = c->next_hash;
	return c;
}

void vsock_conn_enter(struct vsock_conn *c)
{
	struct vsock_conn **to = bucket(c->vsock, c->guest_port, c->host_port);

	c->next_hash = *to;
	*to = c;
}

struct vsock_conn *vsock_conn_new(struct vsock *s, int fd, enum vsock_state state)
{
	struct vsock_conn *c = s->conn_count < VSOCK_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return NULL;
	}
	c->vsock = s;
	c->fd = fd;
	c->state = state;
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->conn_count++;
	return c;
}

static void forget_pending(struct vsock_conn *c)
{
	struct vsock *s = c->vsock;
	struct vsock_conn **pp = &s->pending;

	while (*pp != c)
		pp = &(*pp)->next_pending;
	*pp = c->next_pending;
	if (!*pp)
		s->pending_end = pp;
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct vsock *s = c->vsock;
	struct vsock_conn **pp = bucket(s, c->guest_port, c->host_port);

	while (*pp && *pp != c)
		pp = &(*pp)->next_hash;
	if (*pp)
		*pp = c->next_hash;
	if (c->pending)
		forget_pending(c);
	*(c->prev ? &c->prev->next : &s->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->conn_count--;
	loop_unwatch(c->watch);
	close(c->fd);
	free(c->buffer);
	free(c);
}

void vsock_conn_free_all(struct vsock *s)
{
	while (s->conns)
		vsock_conn_free(s->conns);
}

void vsock_conn_abort(struct vsock_conn *c)
{
	if (c->state != VSOCK_LINE)
		vsock_reply_rst(c->vsock, c->guest_port, c->host_port);
	vsock_conn_free(c);
}

void vsock_conn_pend(struct vsock_conn *c)
{
	struct vsock *s = c->vsock;

	if (c->pending)
		return;
	c->pending = true;
	c->next_pending = NULL;
	*s->pending_end = c;
	s->pending_end = &c->next_pending;
}

void vsock_conn_owe(struct vsock_conn *c, enum vsock_op op)
{
	c->owed |= 1u << op;
	vsock_conn_pend(c);
}

/* ---- time ------------------------------------------------------------------------------------ */

void vsock_conn_set_deadline(struct vsock_conn *c, int ms)
{
	struct vsock *s = c->vsock;

	c->deadline = now_ms() + ms;
	if (!s->ticking)
		loop_timer_set(s->timer, TICK);
	s->ticking = true;
}

void vsock_on_timer(void *opaque)
{
	struct vsock *s = opaque;
	struct virtio_worker *w = &s->v.workers[0];
	const int64_t now = now_ms();

	pthread_mutex_lock(&w->lock);
	/* Started, and not yet active: time goes on. */
	s->ticking = !s->v.active;
	for (struct vsock_conn *c = s->v.active ? s->conns : NULL, *next; c; c = next) {
		next = c->next;
		if (c->deadline && c->deadline <= now)
			vsock_conn_abort(c);
		else
			s->ticking |= c->deadline != 0;
	}
	if (s->ticking)
		loop_timer_set(s->timer, TICK);
	if (s->v.active)
		vsock_rx(s);
	pthread_mutex_unlock(&w->lock);
}

/* ---- to the guest ------------------------------------------------------------------------------
 */

/* The guest's room; a guest that tells nonsense has none. */
static uint32_t credit(const struct vsock_conn *c)
{
	const uint32_t under_way = c->sent - c->peer_fwd;

	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

/* The process does not write any more, and perhaps does not read either. */
static void at_end(struct vsock_conn *c, bool gone)
{
	struct pollfd p = { .fd = c->fd };

	c->readable = false;
	c->host_eof = true;
	if (gone || (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR)))
		c->host_gone = true;
	vsock_conn_owe(c, VSOCK_OP_SHUTDOWN);
}

static int send_owed(struct vsock_conn *c, enum vsock_op op, uint32_t flags)
{
	int r;

	if (!(c->owed & 1u << op))
		return 1;
	r = vsock_send(c->vsock, c, op, flags);
	if (r > 0)
		c->owed &= ~(1u << op);
	return r ? r : -ENOBUFS;
}

/* 1: the socket may have more; 0: not now. */
static int serve_data(struct vsock_conn *c)
{
	for (unsigned i = 0; i < TURN_PACKETS && c->readable; i++) {
		const uint32_t limit = credit(c);
		ssize_t n;

		if (!limit && c->credit_asked)
			return 0;
		if (!limit) {
			c->credit_asked = true;
			c->owed |= 1u << VSOCK_OP_CREDIT_REQUEST;
			n = send_owed(c, VSOCK_OP_CREDIT_REQUEST, 0);
			return n < 0 ? (int)n : 0;
		}
		n = vsock_send_data(c->vsock, c, limit);
		if (n == -ENOBUFS || n == -EPROTO)
			return (int)n;
		if (n > 0)
			c->sent += (uint32_t)n;
		else if (n == -EAGAIN)
			c->readable = false;
		else
			at_end(c, n < 0);
	}
	return c->readable;
}

static int send_shutdown(struct vsock_conn *c)
{
	const uint32_t flags =
	        (c->host_eof ? VSOCK_NO_SEND : 0) | (c->host_gone ? VSOCK_NO_RECEIVE : 0);
	int r = send_owed(c, VSOCK_OP_SHUTDOWN, flags);

	if (r > 0 && flags == VSOCK_NO_BOTH && c->state == VSOCK_OPEN) {
		c->state = VSOCK_CLOSING;
		vsock_conn_set_deadline(c, VSOCK_CLOSE_TIME);
	}
	return r;
}

int vsock_conn_serve(struct vsock_conn *c)
{
	static const enum vsock_op first[] = { VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE,
		                               VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST };
	int more = 0, r = 1;

	for (size_t i = 0; i < ARRAY_SIZE(first) && r > 0; i++)
		r = send_owed(c, first[i], 0);
	if (r > 0 && c->state == VSOCK_OPEN)
		r = more = serve_data(c);
	if (r >= 0)
		r = send_shutdown(c);
	if (r == -EPROTO)
		return r;
	vsock_conn_update_watch(c);
	return r < 0 ? r : more;
}

/* ---- from the guest ----------------------------------------------------------------------------
 */

/* The guest is told in time, before it has to stop. */
static void consumed(struct vsock_conn *c, uint32_t n)
{
	c->fwd += n;
	if (c->fwd - c->fwd_told >= VSOCK_BUFFER / 2)
		vsock_conn_owe(c, VSOCK_OP_CREDIT_UPDATE);
}

/* Bytes that the socket took; 0 if it is full or gone. */
static uint32_t write_socket(struct vsock_conn *c, struct iovec *iov, unsigned count)
{
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t n;

	do {
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
		/* It may still have something to be read; the rest is for nobody. */
		c->host_gone = true;
		c->len = 0;
		vsock_conn_owe(c, VSOCK_OP_SHUTDOWN);
	}
	return n > 0 ? (uint32_t)n : 0;
}

/* What both sides have ended. False: the connection is gone. */
static bool progress_shutdown(struct vsock_conn *c)
{
	if (c->shut_got & VSOCK_NO_SEND && !c->len && !c->write_shut) {
		shutdown(c->fd, SHUT_WR);
		c->write_shut = true;
	}
	if (c->shut_got != VSOCK_NO_BOTH)
		return true;
	if (!c->len) {
		vsock_conn_abort(c);
		return false;
	}
	if (!c->deadline)
		vsock_conn_set_deadline(c, VSOCK_CLOSE_TIME);
	return true;
}

static bool flush(struct vsock_conn *c)
{
	while (c->len) {
		const uint32_t straight = MIN(c->len, VSOCK_BUFFER - c->first);
		struct iovec iov[2] = { { c->buffer + c->first, straight },
			                { c->buffer, c->len - straight } };
		const uint32_t n = write_socket(c, iov, 2);

		if (!n)
			break;
		c->first = (c->first + n) % VSOCK_BUFFER;
		c->len -= n;
		consumed(c, n);
	}
	return progress_shutdown(c);
}

/* Straight to the socket, as far as it takes them. */
static uint32_t write_chain(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t len)
{
	struct iovec iov[IOV_ROOM];
	size_t skip = sizeof(struct vsock_header), left = len;
	unsigned n = 0;

	for (unsigned i = 0; i < chain->out && left && n < IOV_ROOM; i++) {
		size_t part;

		if (skip >= chain->iov[i].iov_len) {
			skip -= chain->iov[i].iov_len;
			continue;
		}
		part = MIN(chain->iov[i].iov_len - skip, left);
		iov[n++] = (struct iovec){ (char *)chain->iov[i].iov_base + skip, part };
		left -= part;
		skip = 0;
	}
	return write_socket(c, iov, n);
}

/* False: no memory. */
static bool keep(struct vsock_conn *c, const struct virtq_chain *chain, uint32_t from, uint32_t len)
{
	const uint32_t at = (c->first + c->len) % VSOCK_BUFFER;
	const uint32_t straight = MIN(len, VSOCK_BUFFER - at);

	if (!c->buffer)
		c->buffer = malloc(VSOCK_BUFFER);
	if (!c->buffer)
		return false;
	from += sizeof(struct vsock_header);
	virtq_chain_read(chain, from, c->buffer + at, straight);
	virtq_chain_read(chain, from + straight, c->buffer, len - straight);
	c->len += len;
	return true;
}

static bool take_data(struct vsock_conn *c, const struct vsock_header *h,
                      const struct virtq_chain *chain)
{
	uint32_t written = 0;

	if (c->state == VSOCK_REQUESTED || c->shut_got & VSOCK_NO_SEND ||
	    h->len > VSOCK_BUFFER - c->len) {
		vsock_conn_abort(c);
		return false;
	}
	/* Sent before it heard that nobody reads. */
	if (c->state == VSOCK_CLOSING || c->host_gone || !h->len)
		return true;
	if (!c->len)
		written = write_chain(c, chain, h->len);
	if (c->host_gone)
		return true;
	if (written < h->len && !keep(c, chain, written, h->len - written)) {
		vsock_conn_abort(c);
		return false;
	}
	consumed(c, written);
	return true;
}

static bool take_response(struct vsock_conn *c)
{
	if (c->state != VSOCK_REQUESTED || !vsock_say_ok(c)) {
		vsock_conn_abort(c);
		return false;
	}
	c->state = VSOCK_OPEN;
	c->deadline = 0;
	return true;
}

static bool take_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if (c->state == VSOCK_REQUESTED) {
		vsock_conn_abort(c);
		return false;
	}
	c->shut_got |= flags & VSOCK_NO_BOTH;
	if (c->shut_got & VSOCK_NO_RECEIVE)
		c->readable = false;
	return progress_shutdown(c);
}

/* False: the connection is gone. */
static bool take_packet(struct vsock_conn *c, const struct vsock_header *h,
                        const struct virtq_chain *chain)
{
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		return take_response(c);
	case VSOCK_OP_RST:
		vsock_conn_free(c);
		return false;
	case VSOCK_OP_SHUTDOWN:
		return take_shutdown(c, h->flags);
	case VSOCK_OP_RW:
		return take_data(c, h, chain);
	case VSOCK_OP_CREDIT_UPDATE:
		return true;
	case VSOCK_OP_CREDIT_REQUEST:
		vsock_conn_owe(c, VSOCK_OP_CREDIT_UPDATE);
		return true;
	default:
		vsock_conn_abort(c);
		return false;
	}
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_header *h,
                       const struct virtq_chain *chain)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (!take_packet(c, h, chain))
		return;
	if (credit(c)) {
		c->credit_asked = false;
		if (c->readable)
			vsock_conn_pend(c);
	}
	vsock_conn_update_watch(c);
}

/* ---- the socket ---------------------------------------------------------------------------------
 */

static void on_open_socket(struct vsock_conn *c, uint32_t events)
{
	const bool hung_up = events & (EPOLLHUP | EPOLLERR);

	if (c->len && events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && !flush(c))
		return;
	if (hung_up && (c->host_eof || c->shut_got & VSOCK_NO_RECEIVE)) {
		at_end(c, true);
	} else if (events & EPOLLIN || hung_up) {
		c->readable = true;
		vsock_conn_pend(c);
	}
	vsock_conn_update_watch(c);
}

static void on_socket(void *opaque, int fd, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct vsock *s = c->vsock;
	struct virtio_worker *w = &s->v.workers[0];

	(void)fd;
	pthread_mutex_lock(&w->lock);
	if (s->v.active) {
		if (c->state == VSOCK_LINE)
			vsock_read_line(c);
		else if (c->state == VSOCK_OPEN)
			on_open_socket(c, events);
		else if (events & (EPOLLHUP | EPOLLERR))
			vsock_conn_abort(c);
		vsock_rx(s);
	}
	pthread_mutex_unlock(&w->lock);
}

/* Whether it is watched at all, and for what. */
static bool wanted(const struct vsock_conn *c, uint32_t *events)
{
	*events = 0;
	if (c->state == VSOCK_LINE)
		*events = EPOLLIN;
	if (c->state != VSOCK_OPEN)
		return c->state != VSOCK_CLOSING;
	if (!c->readable && !c->host_eof && !(c->shut_got & VSOCK_NO_RECEIVE))
		*events |= EPOLLIN;
	if (c->len)
		*events |= EPOLLOUT;
	/* Without either, its end is still worth hearing of, but not while it has more to read. */
	return *events || (!c->readable && !c->host_gone);
}

void vsock_conn_update_watch(struct vsock_conn *c)
{
	struct loop *loop = c->vsock->v.workers[0].loop;
	struct gw_error err;
	uint32_t events;

	if (!wanted(c, &events)) {
		loop_unwatch(c->watch);
		c->watch = NULL;
		return;
	}
	if (c->watch && events != c->events)
		loop_watch_events(c->watch, events);
	if (!c->watch && loop_watch(loop, c->fd, events, on_socket, c, &c->watch, &err) < 0)
		vsock_conn_set_deadline(c, 0);
	c->events = events;
}
