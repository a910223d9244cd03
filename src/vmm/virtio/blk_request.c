/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to a virtio-blk: taken apart, checked, carried out, answered.
 *
 * A buffer begins with a header of 16 bytes {type, reserved, sector}, then
 * data to write or room for data, and ends in a byte for the status, cut
 * into pieces however the driver likes.
 * Source: VIRTIO 1.2, 5.2.6.
 */
#include "vmm/virtio/blk_request.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

#define RANGE_SIZE 16u /* of discard and write zeroes: sector, number of sectors, flags */
#define RANGE_UNMAP 1u

#define PIECES_KEPT 128u

static struct blk *blk_of(struct blk_queue *bq)
{
	return bq->blk;
}

/* ---- requests as things -----------------------------------------------------------------------
 */

static struct blk_request *get_request(struct blk_queue *bq)
{
	struct blk_request *r = bq->free;

	if (r)
		bq->free = r->next;
	else
		r = calloc(1, sizeof(*r));
	if (r)
		r->bq = bq;
	return r;
}

/* Large ones give their room back: there may be as many as all queues have places. */
static void put_request(struct blk_request *r)
{
	if (r->chain.room > PIECES_KEPT)
		virtq_chain_free(&r->chain);
	if (r->iov_room > PIECES_KEPT) {
		free(r->iov);
		r->iov = NULL;
		r->iov_room = 0;
	}
	r->next = r->bq->free;
	r->bq->free = r;
}

void blk_requests_free(struct blk_queue *bq)
{
	while (bq->free) {
		struct blk_request *r = bq->free;

		bq->free = r->next;
		virtq_chain_free(&r->chain);
		free(r->iov);
		free(r);
	}
}

/* Ends it: the status is the last byte that the driver gave us to write. All that it gave counts as
 * written, since a failed transfer may have written any of it. */
static void answer(struct blk_request *r, uint8_t status)
{
	struct blk_queue *bq = r->bq;

	virtq_chain_write(&r->chain, r->chain.in_len - 1, &status, 1);
	virtq_fill(&bq->queue->ring, &r->chain, (uint32_t)r->chain.in_len);
	put_request(r);
}

/* ---- data
 * ---------------------------------------------------------------------------------------- */

static int grow_iov(struct blk_request *r, unsigned count)
{
	struct iovec *iov;

	if (count <= r->iov_room)
		return 0;
	iov = realloc(r->iov, count * sizeof(*iov));
	if (!iov)
		return -ENOMEM;
	r->iov = iov;
	r->iov_room = count;
	return 0;
}

/* The pieces of [skip, skip + len) of one part of the chain. */
static int cut_pieces(struct blk_request *r, const struct iovec *from, unsigned count, size_t skip,
                      size_t len)
{
	unsigned n = 0;

	if (grow_iov(r, count) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < count && len; i++) {
		const size_t here = from[i].iov_len;

		if (skip >= here) {
			skip -= here;
			continue;
		}
		r->iov[n].iov_base = (char *)from[i].iov_base + skip;
		r->iov[n].iov_len = MIN(here - skip, len);
		len -= r->iov[n++].iov_len;
		skip = 0;
	}
	r->op.iov = r->iov;
	r->op.iov_count = n;
	return 0;
}

/* ---- kinds of requests: each returns a status, or -1 when it has been submitted
 * ------------------- */

static bool in_range(const struct blk *b, uint64_t sector, uint64_t len)
{
	const uint64_t sectors = b->file.size / BLK_SECTOR;

	return sector <= sectors && len <= (sectors - sector) * BLK_SECTOR;
}

static int submit(struct blk_request *r, enum blk_aio_kind kind, uint64_t offset, uint64_t len)
{
	struct blk_queue *bq = r->bq;

	r->op.kind = kind;
	r->op.fd = blk_of(bq)->file.fd;
	r->op.offset = offset;
	r->op.len = len;
	r->op.second_way = r->op.stable = false;
	return -1;
}

/* What cannot be submitted as it is goes through a buffer. */
static int submit_bounced(struct blk_request *r)
{
	return blk_bounce_begin(r) < 0 ? S_IOERR : -1;
}

static int do_transfer(struct blk_request *r, uint64_t sector)
{
	struct blk *b = blk_of(r->bq);
	const struct virtq_chain *c = &r->chain;
	const bool write = r->type == BLK_T_OUT;
	const size_t len = write ? c->out_len - BLK_HEADER_SIZE : c->in_len - 1;
	const bool writethrough = virtio_has(&b->virtio, BLK_F_CONFIG_WCE) &&
	                          !virtio_config_get(&b->virtio, BLK_CONFIG_WRITEBACK, 1);

	if (write && b->file.read_only)
		return S_IOERR;
	if (!len || len % BLK_SECTOR || !in_range(b, sector, len))
		return S_IOERR;
	submit(r, write ? BLK_AIO_WRITE : BLK_AIO_READ, sector * BLK_SECTOR, len);
	/* 5.2.6.2: a driver that took neither FLUSH nor CONFIG_WCE cannot flush. */
	r->op.stable = write && (writethrough || !virtio_has(&b->virtio, BLK_F_FLUSH));
	if ((write ? cut_pieces(r, c->iov, c->out, BLK_HEADER_SIZE, len)
	           : cut_pieces(r, c->iov + c->out, c->in, 0, len)) < 0)
		return S_IOERR;
	return blk_bounce_is_needed(r) ? submit_bounced(r) : -1;
}

static int do_flush(struct blk_request *r, uint64_t sector)
{
	(void)sector;
	r->bq->unflushed = false;
	return submit(r, BLK_AIO_FLUSH, 0, 0);
}

static int do_get_id(struct blk_request *r, uint64_t sector)
{
	char id[BLK_SERIAL_SIZE] = { 0 };
	struct blk *b = blk_of(r->bq);

	(void)sector;
	memcpy(id, b->serial, strnlen(b->serial, sizeof(id)));
	virtq_chain_write(&r->chain, 0, id, MIN(sizeof(id), r->chain.in_len - 1));
	return S_OK;
}

/* Discarding is advice: no more than what the host can, which are whole blocks. */
static int discard(struct blk_request *r, uint64_t begin, uint64_t len)
{
	const uint32_t align = blk_of(r->bq)->file.range_align;
	const uint64_t first = DIV_ROUND_UP(begin, align) * align;
	const uint64_t end = (begin + len) / align * align;

	return first < end ? submit(r, BLK_AIO_DISCARD, first, end - first) : S_OK;
}

/* One range a request, as the configuration says. */
static int do_range(struct blk_request *r, uint64_t sector)
{
	struct blk *b = blk_of(r->bq);
	const bool zero = r->type == BLK_T_WRITE_ZEROES;
	struct {
		uint64_t sector;
		uint32_t count, flags;
	} range;
	uint64_t begin, len;
	bool unmap;

	(void)sector;
	if (r->chain.out_len != BLK_HEADER_SIZE + RANGE_SIZE)
		return S_IOERR;
	virtq_chain_read(&r->chain, BLK_HEADER_SIZE, &range, sizeof(range));
	unmap = le32toh(range.flags) & RANGE_UNMAP;
	if (le32toh(range.flags) & ~(zero ? RANGE_UNMAP : 0u))
		return S_UNSUPP;
	len = (uint64_t)le32toh(range.count) * BLK_SECTOR;
	if (b->file.read_only || !len || le32toh(range.count) > BLK_DISCARD_SECTORS_MAX ||
	    !in_range(b, le64toh(range.sector), len))
		return S_IOERR;
	begin = le64toh(range.sector) * BLK_SECTOR;
	if (!zero)
		return discard(r, begin, len);
	submit(r, unmap ? BLK_AIO_ZERO_UNMAP : BLK_AIO_ZERO, begin, len);
	return (begin | len) % b->file.range_align ? submit_bounced(r) : -1;
}

static const struct request_kind {
	uint32_t type;
	uint64_t feature; /* that must have been negotiated; 0: none */
	int (*run)(struct blk_request *r, uint64_t sector);
} kinds[] = {
	{ BLK_T_IN, 0, do_transfer },
	{ BLK_T_OUT, 0, do_transfer },
	{ BLK_T_FLUSH, BLK_F_FLUSH, do_flush },
	{ BLK_T_GET_ID, 0, do_get_id },
	{ BLK_T_DISCARD, BLK_F_DISCARD, do_range },
	{ BLK_T_WRITE_ZEROES, BLK_F_WRITE_ZEROES, do_range },
};

static int run(struct blk_request *r)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;

	virtq_chain_read(&r->chain, 0, &header, sizeof(header));
	r->type = le32toh(header.type);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].type != r->type)
			continue;
		if (kinds[i].feature && !virtio_has(&blk_of(r->bq)->virtio, kinds[i].feature))
			return S_UNSUPP;
		return kinds[i].run(r, le64toh(header.sector));
	}
	return S_UNSUPP;
}

/* ---- ends
 * ---------------------------------------------------------------------------------------- */

static void count(struct blk *b, const struct blk_request *r, uint64_t bytes)
{
	struct blk_stats *s = &b->stats;

	if (r->op.result)
		__atomic_fetch_add(&s->failed, 1, __ATOMIC_RELAXED);
	else if (r->type == BLK_T_IN) {
		__atomic_fetch_add(&s->reads, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&s->bytes_read, bytes, __ATOMIC_RELAXED);
	} else if (r->type == BLK_T_OUT) {
		__atomic_fetch_add(&s->writes, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&s->bytes_written, bytes, __ATOMIC_RELAXED);
	} else if (r->type == BLK_T_FLUSH) {
		__atomic_fetch_add(&s->flushes, 1, __ATOMIC_RELAXED);
	}
}

static void report_failure(struct blk *b, const struct blk_request *r)
{
	struct machine *m = b->virtio.device.machine;
	const char *id = b->virtio.device.id;
	const char *what = r->type == BLK_T_IN ? "read" : "write";
	char data[256];

	/* All are counted (query-blockstats). */
	if (!log_limit_pass(&b->virtio.said))
		return;
	log_warn(m->log, "device %s: %s: %s at byte %llu: %s", id, b->path, what,
	         (unsigned long long)r->op.offset, strerror(-r->op.result));
	snprintf(data, sizeof(data),
	         "{\"device\":\"%s\",\"operation\":\"%s\",\"action\":\"report\",\"nospace\":%s,"
	         "\"reason\":\"%s\"}",
	         id, what, r->op.result == -ENOSPC ? "true" : "false", strerror(-r->op.result));
	if (m->notify.event)
		m->notify.event(m->notify.opaque, "BLOCK_IO_ERROR", data);
}

/* True: the operation is to be submitted again. */
static bool goes_on(struct blk_request *r)
{
	if (r->bounce)
		return blk_bounce_next(r);
	/* A host that cannot zero, but write. */
	return r->type == BLK_T_WRITE_ZEROES && r->op.result == -EOPNOTSUPP && !blk_bounce_begin(r);
}

static void done(void *opaque, struct blk_aio_op *op)
{
	struct blk_queue *bq = opaque;
	struct blk_request *r = container_of(op, struct blk_request, op);

	if (goes_on(r)) {
		blk_aio_submit(bq->aio, op);
		return;
	}
	bq->in_flight--;
	blk_order_leave(r);
	/* Discarding is advice. */
	if (r->type == BLK_T_DISCARD && op->result == -EOPNOTSUPP)
		op->result = 0;
	/* Said here and not when it was submitted: a flush that was under way beside it need not
	 * have had it. */
	if (r->type == BLK_T_FLUSH ? op->result < 0 : r->type != BLK_T_IN && !op->stable)
		bq->unflushed = true;
	count(blk_of(bq), r,
	      r->type == BLK_T_IN ? r->chain.in_len - 1 : r->chain.out_len - BLK_HEADER_SIZE);
	if (op->result)
		report_failure(blk_of(bq), r);
	answer(r, op->result ? S_IOERR : S_OK);
}

static void before(void *opaque)
{
	struct blk_queue *bq = opaque;

	pthread_mutex_lock(&bq->queue->worker->lock);
	blk_order_resume(bq);
}

static void after(void *opaque)
{
	struct blk_queue *bq = opaque;

	virtio_publish(bq->queue);
	if (!bq->in_flight)
		pthread_cond_broadcast(&bq->queue->worker->idle);
	pthread_mutex_unlock(&bq->queue->worker->lock);
}

const struct blk_aio_calls blk_request_calls = { .done = done, .before = before, .after = after };

/* 0, or why the device is broken. */
static const char *take_one(struct blk_queue *bq, struct blk_request *r)
{
	int status;

	if (r->chain.out_len < BLK_HEADER_SIZE)
		return "a request is shorter than its header";
	if (!r->chain.in_len)
		return "a request has no room for its status";
	status = run(r);
	if (status >= 0) {
		answer(r, (uint8_t)status);
		return NULL;
	}
	bq->in_flight++;
	if (blk_order_enter(r))
		blk_aio_submit(bq->aio, &r->op);
	return NULL;
}

void blk_kick(struct virtio *v, struct virtio_queue *q)
{
	struct blk *b = container_of(v, struct blk, virtio);
	struct blk_queue *bq = &b->queues[q->index];
	const char *broken = NULL;
	unsigned left = VIRTIO_TURN;
	int r = 0;

	do {
		virtq_kicks_off(&q->ring);
		while (!broken && left) {
			struct blk_request *request = get_request(bq);

			r = request ? virtq_pop(&q->ring, &request->chain) : -ENOMEM;
			if (r > 0) {
				broken = take_one(bq, request);
				left--;
			}
			if (request && (r <= 0 || broken))
				put_request(request);
			if (r <= 0)
				break;
		}
		blk_aio_flush(bq->aio);
		virtio_publish(q);
	} while (!r && !broken && virtq_kicks_on(&q->ring) && left);
	if (r >= 0 && !broken && !left)
		io_eventfd_signal(q->kick_fd);
	if (r < 0)
		broken = q->ring.broken ? q->ring.broken : "out of memory";
	if (broken)
		virtio_break(v, broken);
}
