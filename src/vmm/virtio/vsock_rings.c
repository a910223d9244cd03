/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets out of and into the guest's queues.
 *
 * What is for the guest waits where it comes from, never in copies: answers
 * without a connection in a short list, everything else with its connection.
 * While the list is full no more of the guest's packets are looked at; so a
 * guest that takes nothing can fill no memory (5.10.6.1.1 has the driver see
 * to that it does take).
 */
#include "vmm/virtio/vsock.h"

#include "base/error.h"
#include "base/io.h"

#include <endian.h>
#include <string.h>
#include <sys/uio.h>

#define ROUND_PACKETS 128
#define IOV_ROOM 1024 /* IOV_MAX */

static void swap_header(struct vsock_header *h)
{
	h->src_cid = le64toh(h->src_cid);
	h->dst_cid = le64toh(h->dst_cid);
	h->src_port = le32toh(h->src_port);
	h->dst_port = le32toh(h->dst_port);
	h->len = le32toh(h->len);
	h->type = le16toh(h->type);
	h->op = le16toh(h->op);
	h->flags = le32toh(h->flags);
	h->buf_alloc = le32toh(h->buf_alloc);
	h->fwd_cnt = le32toh(h->fwd_cnt);
}

static int fault(struct vsock *s, unsigned queue)
{
	const char *why = s->v.queues[queue].ring.broken;

	virtio_break(&s->v, why ? why : "out of memory");
	return -EPROTO;
}

/* ---- to the guest --------------------------------------------------------------------------- */

/* The next receive buffer, with room for a header: 1, 0 or -EPROTO. */
static int next_buffer(struct vsock *s)
{
	const int r = virtq_pop(&s->v.queues[VSOCK_RX].ring, &s->chain);

	if (r < 0)
		return fault(s, VSOCK_RX);
	if (r && s->chain.in_len < sizeof(struct vsock_header)) {
		virtio_break(&s->v, "a receive buffer is smaller than a header");
		return -EPROTO;
	}
	return r;
}

static void give_buffer(struct vsock *s, const struct vsock_header *h)
{
	struct vsock_header raw = *h;

	swap_header(&raw);
	virtq_chain_write(&s->chain, 0, &raw, sizeof(raw));
	virtq_fill(&s->v.queues[VSOCK_RX].ring, &s->chain, (uint32_t)(sizeof(raw) + h->len));
}

static struct vsock_header header_of(struct vsock_conn *c, enum vsock_op op, uint32_t flags)
{
	c->fwd_told = c->fwd;
	return (struct vsock_header){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = c->vsock->options.cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = VSOCK_BUFFER,
		.fwd_cnt = c->fwd,
	};
}

int vsock_send(struct vsock *s, struct vsock_conn *c, enum vsock_op op, uint32_t flags)
{
	struct vsock_header h;
	const int r = next_buffer(s);

	if (r <= 0)
		return r;
	h = header_of(c, op, flags);
	give_buffer(s, &h);
	return 1;
}

/* The buffer's pieces behind the header, up to `limit` bytes. */
static int gather(const struct virtq_chain *chain, struct iovec iov[IOV_ROOM], uint32_t limit)
{
	size_t skip = sizeof(struct vsock_header), left = limit;
	int n = 0;

	for (unsigned i = chain->out; i < chain->out + chain->in && left && n < IOV_ROOM; i++) {
		const struct iovec *piece = &chain->iov[i];
		size_t len;

		if (skip >= piece->iov_len) {
			skip -= piece->iov_len;
			continue;
		}
		len = MIN(piece->iov_len - skip, left);
		iov[n++] = (struct iovec){ (char *)piece->iov_base + skip, len };
		left -= len;
		skip = 0;
	}
	return n;
}

ssize_t vsock_send_data(struct vsock *s, struct vsock_conn *c, uint32_t limit)
{
	struct iovec iov[IOV_ROOM];
	struct vsock_header h;
	ssize_t n;
	int count, r = next_buffer(s);

	if (r <= 0)
		return r ? r : -ENOBUFS;
	count = gather(&s->chain, iov, MIN(limit, VSOCK_PACKET_MAX));
	if (!count) {
		virtio_break(&s->v, "a receive buffer has no room behind its header");
		return -EPROTO;
	}
	do {
		n = readv(c->fd, iov, count);
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		r = -errno;
		virtq_unpop(&s->v.queues[VSOCK_RX].ring, &s->chain);
		return n < 0 ? r : 0;
	}
	h = header_of(c, VSOCK_OP_RW, 0);
	h.len = (uint32_t)n;
	give_buffer(s, &h);
	return n;
}

/* Answers that have no connection: as vsock_send(). */
static int send_replies(struct vsock *s)
{
	while (s->reply_count) {
		const int r = next_buffer(s);

		if (r <= 0)
			return r;
		give_buffer(s, &s->replies[s->reply_first]);
		s->reply_first = (s->reply_first + 1) % VSOCK_REPLIES;
		s->reply_count--;
	}
	return 1;
}

/* 1: nothing is left, or others are to get their turn; 0: no buffers. */
static int serve_all(struct vsock *s, unsigned *packets)
{
	int r = send_replies(s);

	while (r > 0 && s->pending && (*packets)++ < ROUND_PACKETS) {
		struct vsock_conn *c = s->pending;

		s->pending = c->next_pending;
		if (!s->pending)
			s->pending_end = &s->pending;
		c->pending = false;
		r = vsock_conn_serve(c);
		if (r == -EPROTO)
			return r;
		if (r > 0 || r == -ENOBUFS)
			vsock_conn_pend(c);
		if (r == -ENOBUFS)
			return 0;
		r = send_replies(s);
	}
	return r;
}

void vsock_rx(struct vsock *s)
{
	struct virtio_queue *q = &s->v.queues[VSOCK_RX];
	unsigned packets = 0;
	int r;

	if (!q->ring.enabled)
		return;
	do {
		virtq_kicks_off(&q->ring);
		r = serve_all(s, &packets);
		virtio_publish(q);
		/* Nothing more to say, and no buffers to say it in, are both waited for. */
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		return;
	if (r > 0 && s->pending)
		io_eventfd_signal(q->kick_fd);
	if (s->tx_blocked && s->reply_count < VSOCK_REPLIES / 2) {
		s->tx_blocked = false;
		io_eventfd_signal(s->v.queues[VSOCK_TX].kick_fd);
	}
}

void vsock_reply_rst(struct vsock *s, uint32_t guest_port, uint32_t host_port)
{
	/* If it is lost, the guest hears it with the next packet that it sends. */
	if (s->reply_count == VSOCK_REPLIES)
		return;
	s->replies[(s->reply_first + s->reply_count++) % VSOCK_REPLIES] = (struct vsock_header){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = s->options.cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RST,
	};
}

/* ---- from the guest ---------------------------------------------------------------------------
 */

void vsock_refuse(struct vsock *s, const struct vsock_header *h)
{
	struct vsock_header *reply;

	if (h->op == VSOCK_OP_RST || s->reply_count == VSOCK_REPLIES)
		return;
	reply = &s->replies[(s->reply_first + s->reply_count++) % VSOCK_REPLIES];
	*reply = (struct vsock_header){
		.src_cid = h->dst_cid,
		.dst_cid = h->src_cid,
		.src_port = h->dst_port,
		.dst_port = h->src_port,
		.type = h->type,
		.op = VSOCK_OP_RST,
	};
}

static void request(struct vsock *s, const struct vsock_header *h)
{
	struct vsock_conn *c;
	int fd = vsock_connect(s, h->dst_port);

	c = fd < 0 ? NULL : vsock_conn_new(s, fd, VSOCK_OPEN);
	if (!c) {
		vsock_refuse(s, h);
		return;
	}
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	vsock_conn_enter(c);
	vsock_conn_owe(c, VSOCK_OP_RESPONSE);
	vsock_conn_update_watch(c);
}

/* 5.10.6.4.1: what nobody knows is answered with RST, what claims to be from elsewhere is dropped.
 */
static void packet(struct vsock *s, const struct virtq_chain *chain)
{
	struct vsock_header h;
	struct vsock_conn *c;

	if (virtq_chain_read(chain, 0, &h, sizeof(h)) != sizeof(h)) {
		s->dropped++;
		return;
	}
	swap_header(&h);
	if (h.src_cid != s->options.cid || h.len > chain->out_len - sizeof(h)) {
		s->dropped++;
		return;
	}
	c = h.dst_cid == VSOCK_CID_HOST && h.type == VSOCK_TYPE_STREAM
	            ? vsock_conn_find(s, h.src_port, h.dst_port)
	            : NULL;
	if (c)
		vsock_conn_packet(c, &h, chain);
	else if (h.op == VSOCK_OP_REQUEST && h.dst_cid == VSOCK_CID_HOST &&
	         h.type == VSOCK_TYPE_STREAM)
		request(s, &h);
	else
		vsock_refuse(s, &h);
}

void vsock_tx(struct vsock *s)
{
	struct virtio_queue *q = &s->v.queues[VSOCK_TX];
	unsigned packets = 0;
	int r;

	do {
		virtq_kicks_off(&q->ring);
		r = 1;
		while (s->reply_count < VSOCK_REPLIES && packets < ROUND_PACKETS &&
		       (r = virtq_pop(&q->ring, &s->tx_chain)) > 0) {
			packet(s, &s->tx_chain);
			virtq_fill(&q->ring, &s->tx_chain, 0);
			packets++;
		}
		virtio_publish(q);
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		fault(s, VSOCK_TX);
	else if (s->reply_count == VSOCK_REPLIES)
		s->tx_blocked = true;
	else if (r > 0)
		io_eventfd_signal(q->kick_fd);
	vsock_rx(s);
}

/* ---- events -------------------------------------------------------------------------------------
 */

/* 5.10.6.7: the guest's CID may have changed, and no connection is left. */
void vsock_event(struct vsock *s)
{
	struct virtio_queue *q = &s->v.queues[VSOCK_EVENT];
	const uint32_t transport_reset = htole32(0);
	struct virtq_chain chain = { 0 };
	int r = s->reset_owed ? virtq_pop(&q->ring, &chain) : 0;

	if (r < 0) {
		fault(s, VSOCK_EVENT);
	} else if (r) {
		const size_t n =
		        virtq_chain_write(&chain, 0, &transport_reset, sizeof(transport_reset));

		virtio_push(q, &chain, (uint32_t)n);
		s->reset_owed = false;
	} else if (s->reset_owed && virtq_kicks_on(&q->ring)) {
		io_eventfd_signal(q->kick_fd);
	}
	virtq_chain_free(&chain);
}
