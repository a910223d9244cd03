/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the guest to the tap, written straight from its buffers. The
 * header is copied and checked first; that copy is what the tap sees.
 * Source: VIRTIO 1.2, 5.1.6.2.
 */
#include "vmm/virtio/net.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <string.h>
#include <sys/uio.h>

#define ROUND_FRAMES 256 /* then what comes in gets its turn */
#define BATCH_FRAMES 64  /* shown to the driver at once */
#define IOV_ROOM 1024    /* IOV_MAX */

#define GSO_ECN 0x80u

/* Kinds of segmentation, and what must have been negotiated for them. */
static const struct {
	uint8_t type;
	bool tcp;
	uint64_t feature;
} gso_types[] = {
	{ 1, true, NET_F_HOST_TSO4 },
	{ 4, true, NET_F_HOST_TSO6 },
	{ 5, false, NET_F_HOST_USO },
};

static bool gso_fits(const struct net_header *h, uint64_t features)
{
	const uint8_t type = h->gso_type & (uint8_t)~GSO_ECN;

	for (size_t i = 0; i < ARRAY_SIZE(gso_types); i++) {
		if (gso_types[i].type != type)
			continue;
		if (h->gso_type & GSO_ECN && !(gso_types[i].tcp && features & NET_F_HOST_ECN))
			return false;
		/* Segments are made with checksums, which the driver leaves open. */
		return features & gso_types[i].feature && h->gso_size &&
		       h->flags & NET_HDR_NEEDS_CSUM;
	}
	return false;
}

/* Is it what was negotiated, and inside a frame of `len` bytes? Clears what says nothing here. */
static bool check_header(struct net_header *h, size_t len, uint64_t features)
{
	const size_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);

	h->flags &= NET_HDR_NEEDS_CSUM;
	h->num_buffers = 0;
	if (h->flags && (!(features & NET_F_CSUM) || start + offset + 2 > len))
		return false;
	if (h->gso_type && !gso_fits(h, features))
		return false;
	if (!h->gso_type)
		h->gso_size = h->hdr_len = 0;
	return le16toh(h->hdr_len) <= len;
}

/* ---- a frame ----------------------------------------------------------------------------------
 */

/* Our header and what follows the driver's. 0: too many pieces. */
static int gather(const struct virtq_chain *c, struct net_header *h, struct iovec iov[IOV_ROOM])
{
	size_t skip = TAP_HEADER_SIZE;
	int n = 0;

	iov[n++] = (struct iovec){ .iov_base = h, .iov_len = sizeof(*h) };
	for (unsigned i = 0; i < c->out; i++) {
		if (skip >= c->iov[i].iov_len) {
			skip -= c->iov[i].iov_len;
			continue;
		}
		if (n == IOV_ROOM)
			return 0;
		iov[n].iov_base = (char *)c->iov[i].iov_base + skip;
		iov[n++].iov_len = c->iov[i].iov_len - skip;
		skip = 0;
	}
	return n;
}

/* False: the tap is full. A frame that it refuses is lost, as on a wire. */
static bool send_frame(struct net_pair *p)
{
	struct iovec iov[IOV_ROOM];
	struct net_header h;
	const size_t len = p->chain.out_len - TAP_HEADER_SIZE;
	ssize_t n = -1;
	int count;

	virtq_chain_read(&p->chain, 0, &h, sizeof(h));
	count = gather(&p->chain, &h, iov);
	if (count && net_link_up(p->net) && check_header(&h, len, p->net->v.features)) {
		do {
			n = writev(p->tap.fd, iov, count);
		} while (n < 0 && errno == EINTR);
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS) && !p->gone)
			return false;
	}
	if (n < 0) {
		net_count(&p->sent.dropped, 1);
	} else {
		net_count(&p->sent.frames, 1);
		net_count(&p->sent.bytes, len);
	}
	return true;
}

/* ---- the queue ---------------------------------------------------------------------------------
 */

/* One round: what virtq_pop() said last, or 1 if the round ended before the ring did. */
static int drain(struct net_pair *p)
{
	struct virtq *ring = &p->tx->ring;
	int r = 1;

	for (unsigned i = 0; i < ROUND_FRAMES; i++) {
		r = virtq_pop(ring, &p->chain);
		if (r <= 0)
			break;
		if (p->chain.out_len < TAP_HEADER_SIZE) {
			virtio_break(&p->net->v, "a frame is shorter than its header");
			return -EPROTO;
		}
		if (!send_frame(p)) {
			virtq_unpop(ring, &p->chain);
			p->tx_full = true;
			break;
		}
		virtq_fill(ring, &p->chain, 0);
		if (i % BATCH_FRAMES == BATCH_FRAMES - 1)
			virtio_publish(p->tx);
	}
	virtio_publish(p->tx);
	return r;
}

void net_tx(struct net_pair *p)
{
	struct virtq *ring = &p->tx->ring;
	int r;

	p->tx_full = false;
	do {
		virtq_kicks_off(ring);
		r = drain(p);
	} while (!r && virtq_kicks_on(ring));
	if (r < 0)
		virtio_break(&p->net->v, ring->broken ? ring->broken : "out of memory");
	else if (r > 0 && !p->tx_full)
		io_eventfd_signal(p->tx->kick_fd);
	net_update_watch(p);
}
