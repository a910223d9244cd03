/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the tap to the guest, read straight into its buffers.
 *
 * Buffers are popped ahead of the frames and held in a ring, so that a read
 * can offer as many of them as the largest frame may need; what a read leaves
 * over stays held. Behind them in the read stands a spare buffer. A frame that
 * reaches into it waits until the driver has added more buffers; if all that a
 * queue can have would not do, it is dropped.
 *
 * Source: VIRTIO 1.2, 5.1.6.3 (buffers), 5.1.6.4 (processing).
 */
#include "vmm/virtio/net.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <string.h>
#include <sys/uio.h>

#define ROUND_FRAMES 128
#define IOV_ROOM 1024 /* IOV_MAX */

enum rx_result { RX_FRAME, RX_NONE, RX_STARVED, RX_BROKEN, RX_CLOSED };

static struct virtq_chain *held(struct net_pair *p, unsigned i)
{
	return &p->held[(p->held_first + i) % NET_HELD];
}

static bool mergeable(const struct net_pair *p)
{
	return virtio_has(&p->net->v, NET_F_MRG_RXBUF);
}

/* ---- buffers ------------------------------------------------------------------------------- */

/* More buffers, up to `want` bytes in all: 1 if there are so many, 0 if there are not, or a
 * negative errno. Without mergeable buffers the first one is all that a frame gets. */
static int refill(struct net_pair *p, size_t want)
{
	struct virtq *ring = &p->rx->ring;

	while (p->held_room < want && p->held_count < NET_HELD) {
		struct virtq_chain *c = held(p, p->held_count);
		int r;

		if (p->held_count && !mergeable(p))
			return 1;
		r = virtq_pop(ring, c);
		if (r <= 0)
			return r;
		p->held_count++;
		p->held_room += c->in_len;
		/* 5.1.6.3.1: at least a header goes into each. */
		if (c->in_len < TAP_HEADER_SIZE) {
			virtio_break(&p->net->v, "a receive buffer is smaller than a header");
			return -EPROTO;
		}
	}
	return p->held_room >= want;
}

void net_rx_forget(struct net_pair *p)
{
	if (p->frame)
		net_count(&p->received.dropped, 1);
	p->frame = 0;
	while (p->held_count)
		virtq_unpop(&p->rx->ring, held(p, --p->held_count));
	p->held_first = 0;
	p->held_room = 0;
	p->starved = false;
}

/* Into the held buffers, `offset` bytes from the first one's beginning. */
static void write_held(struct net_pair *p, size_t offset, const void *data, size_t len)
{
	for (unsigned i = 0; i < p->held_count && len; i++) {
		const struct virtq_chain *c = held(p, i);
		size_t n;

		if (offset >= c->in_len) {
			offset -= c->in_len;
			continue;
		}
		n = virtq_chain_write(c, offset, data, len);
		data = (const char *)data + n;
		len -= n;
		offset = 0;
	}
}

/* ---- a frame --------------------------------------------------------------------------------- */

static void drop(struct net_pair *p)
{
	p->frame = 0;
	net_count(&p->received.dropped, 1);
}

/* Held buffers up to `want` bytes and then the spare one, as one list; the bytes of the former in
 * *room. */
static int gather(struct net_pair *p, struct iovec iov[IOV_ROOM], size_t want, size_t *room)
{
	int n = 0;

	*room = 0;
	for (unsigned i = 0; i < p->held_count && *room < want; i++) {
		const struct virtq_chain *c = held(p, i);

		if (n + (int)c->in >= IOV_ROOM)
			break;
		memcpy(&iov[n], c->iov + c->out, c->in * sizeof(*iov));
		n += (int)c->in;
		*room += c->in_len;
	}
	iov[n++] = (struct iovec){ .iov_base = p->spare, .iov_len = sizeof(p->spare) };
	return n;
}

static enum rx_result read_frame(struct net_pair *p)
{
	struct iovec iov[IOV_ROOM];
	size_t room, want = __atomic_load_n(&p->net->frame_room, __ATOMIC_RELAXED);
	ssize_t n;
	int count;

	if (refill(p, want) < 0)
		return RX_BROKEN;
	if (!p->held_count)
		return RX_STARVED;
	count = gather(p, iov, want, &room);
	do {
		n = readv(p->tap.fd, iov, count);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS ? RX_NONE : RX_CLOSED;
	if (!n)
		return RX_CLOSED;
	p->frame = (size_t)n;
	p->frame_placed = MIN((size_t)n, room);
	/* The link may have gone down since it was looked at: what was sent after that is lost. */
	if (p->frame <= TAP_HEADER_SIZE || !net_link_up(p->net))
		drop(p);
	return RX_FRAME;
}

/* Gives the held buffers that the frame is in to the driver. */
static void give(struct net_pair *p)
{
	size_t left = p->frame;
	uint16_t buffers = 0;
	const uint8_t none = 0;

	for (size_t done = 0; done < p->frame; buffers++)
		done += held(p, buffers)->in_len;
	/* 5.1.6.4.1: the number of buffers, 1 if they are not merged; no flags and no segments that
	 * were not negotiated. */
	buffers = htole16(buffers);
	write_held(p, offsetof(struct net_header, num_buffers), &buffers, sizeof(buffers));
	if (!virtio_has(&p->net->v, NET_F_GUEST_CSUM))
		write_held(p, offsetof(struct net_header, flags), &none, sizeof(none));
	while (left) {
		struct virtq_chain *c = held(p, 0);
		const size_t n = MIN(left, c->in_len);

		virtq_fill(&p->rx->ring, c, (uint32_t)n);
		p->held_first = (p->held_first + 1) % NET_HELD;
		p->held_count--;
		p->held_room -= c->in_len;
		left -= n;
	}
	net_count(&p->received.frames, 1);
	net_count(&p->received.bytes, p->frame - TAP_HEADER_SIZE);
	p->frame = 0;
}

static enum rx_result one_frame(struct net_pair *p)
{
	enum rx_result result;
	int r;

	if (!p->frame) {
		result = read_frame(p);
		if (result != RX_FRAME || !p->frame)
			return result;
	}
	r = p->held_room >= p->frame ? 1 : refill(p, p->frame);
	if (r < 0)
		return RX_BROKEN;
	if (p->held_room < p->frame) {
		/* A queue can have no more than its size. */
		if (mergeable(p) && p->held_count < p->rx->ring.size)
			return RX_STARVED;
		drop(p);
		return RX_FRAME;
	}
	write_held(p, p->frame_placed, p->spare, p->frame - p->frame_placed);
	give(p);
	return RX_FRAME;
}

/* A link that is down: nothing that came meanwhile is to reach the guest later. */
static enum rx_result discard_frame(struct net_pair *p)
{
	const ssize_t n = read(p->tap.fd, p->spare, sizeof(p->spare));

	if (p->frame)
		drop(p);
	if (n > 0)
		net_count(&p->received.dropped, 1);
	if (n > 0 || (n < 0 && errno == EINTR))
		return RX_FRAME;
	return n < 0 && errno == EAGAIN ? RX_NONE : RX_CLOSED;
}

/* ---- the queue ---------------------------------------------------------------------------------
 */

static void end_round(struct net_pair *p, enum rx_result result)
{
	struct virtio *v = &p->net->v;

	if (result == RX_BROKEN)
		virtio_break(v, p->rx->ring.broken ? p->rx->ring.broken : "out of memory");
	if (result == RX_CLOSED)
		net_lose_tap(p);
	net_update_watch(p);
}

void net_rx(struct net_pair *p)
{
	enum rx_result result = RX_FRAME;
	unsigned frames = 0;

	virtq_kicks_off(&p->rx->ring);
	while (result == RX_FRAME && frames++ < ROUND_FRAMES) {
		result = net_link_up(p->net) ? one_frame(p) : discard_frame(p);
		if (result == RX_STARVED) {
			/* The driver is told what there is before it is waited for. */
			virtio_publish(p->rx);
			if (virtq_kicks_on(&p->rx->ring)) {
				virtq_kicks_off(&p->rx->ring);
				result = RX_FRAME;
			}
		}
	}
	virtio_publish(p->rx);
	p->starved = result == RX_STARVED;
	end_round(p, result);
}
