/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk_aio.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>

#define RING_ENTRIES 256

struct blk_aio {
	struct loop *loop;
	struct blk_aio_calls calls;
	void *opaque;
	bool has_ring;
	struct io_uring ring;
	int event_fd;
	struct loop_watch *watch;
	struct blk_aio_op *waiting,
	        **waiting_end; /* for room in the ring, or for blk_aio_flush() */
};

/* ---- an operation's way ---------------------------------------------------------------------- */

/* Discarding may be done or not. Zeroing keeps the space where the file system can, and gives it
 * up where it can't (tmpfs), or the other way round. Both read as zeros afterwards. */
static int fallocate_mode(const struct blk_aio_op *op)
{
	if (op->kind == (op->second_way ? BLK_AIO_ZERO_UNMAP : BLK_AIO_ZERO))
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

/* Passes over what has been read or written. */
static void advance(struct blk_aio_op *op, uint64_t done)
{
	op->offset += done;
	op->len -= done;
	while (done) {
		const size_t n = MIN(op->iov->iov_len, done);

		op->iov->iov_base = (char *)op->iov->iov_base + n;
		op->iov->iov_len -= n;
		done -= n;
		if (!op->iov->iov_len && op->iov_count > 1) {
			op->iov++;
			op->iov_count--;
		}
	}
}

/* True: it has ended, with op->result set; false: it goes on, and is to be submitted again. */
static bool ended(struct blk_aio_op *op, int result)
{
	const bool transfer = op->kind == BLK_AIO_READ || op->kind == BLK_AIO_WRITE;

	if (result == -EINTR || result == -EAGAIN)
		return false;
	if (result == -EOPNOTSUPP && op->kind >= BLK_AIO_ZERO && !op->second_way) {
		op->second_way = true;
		return false;
	}
	op->result = MIN(result, 0);
	if (result < 0 || !transfer)
		return true;
	if (!result && op->len) {
		/* The file is shorter than it was when it was opened. */
		op->result = -EIO;
		return true;
	}
	advance(op, (uint64_t)result);
	return !op->len;
}

/* ---- at once ----------------------------------------------------------------------------------
 */

static int perform(const struct blk_aio_op *op)
{
	ssize_t n = 0;

	switch (op->kind) {
	case BLK_AIO_READ:
		n = preadv(op->fd, op->iov, (int)MIN(op->iov_count, 1024u), (off_t)op->offset);
		break;
	case BLK_AIO_WRITE:
		n = pwritev2(op->fd, op->iov, (int)MIN(op->iov_count, 1024u), (off_t)op->offset,
		             op->stable ? RWF_DSYNC : 0);
		break;
	case BLK_AIO_FLUSH:
		n = fdatasync(op->fd);
		break;
	case BLK_AIO_DISCARD:
	case BLK_AIO_ZERO:
	case BLK_AIO_ZERO_UNMAP:
		n = fallocate(op->fd, fallocate_mode(op), (off_t)op->offset, (off_t)op->len);
		break;
	}
	return n < 0 ? -errno : (int)n;
}

static void perform_all(struct blk_aio *aio)
{
	while (aio->waiting) {
		struct blk_aio_op *op = aio->waiting;

		aio->waiting = op->next;
		if (!aio->waiting)
			aio->waiting_end = &aio->waiting;
		while (!ended(op, perform(op)))
			;
		aio->calls.done(aio->opaque, op);
	}
}

/* ---- by io_uring -------------------------------------------------------------------------------
 */

static void prepare(struct io_uring_sqe *sqe, struct blk_aio_op *op)
{
	switch (op->kind) {
	case BLK_AIO_READ:
		io_uring_prep_readv(sqe, op->fd, op->iov, MIN(op->iov_count, 1024u), op->offset);
		break;
	case BLK_AIO_WRITE:
		io_uring_prep_writev2(sqe, op->fd, op->iov, MIN(op->iov_count, 1024u), op->offset,
		                      op->stable ? RWF_DSYNC : 0);
		break;
	case BLK_AIO_FLUSH:
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
		break;
	case BLK_AIO_DISCARD:
	case BLK_AIO_ZERO:
	case BLK_AIO_ZERO_UNMAP:
		io_uring_prep_fallocate(sqe, op->fd, fallocate_mode(op), (off_t)op->offset,
		                        (off_t)op->len);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

static void submit_waiting(struct blk_aio *aio)
{
	while (aio->waiting) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&aio->ring);

		if (!sqe)
			break;
		prepare(sqe, aio->waiting);
		aio->waiting = aio->waiting->next;
	}
	if (!aio->waiting)
		aio->waiting_end = &aio->waiting;
	/* What the kernel does not take now (EAGAIN, EBUSY) stays in the ring: the loop comes round
	 * again. */
	if (io_uring_sq_ready(&aio->ring) && io_uring_submit(&aio->ring) < 0)
		io_eventfd_signal(aio->event_fd);
}

static void reap(struct blk_aio *aio)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&aio->ring, &cqe)) {
		struct blk_aio_op *op = io_uring_cqe_get_data(cqe);
		const int result = cqe->res;

		io_uring_cqe_seen(&aio->ring, cqe);
		if (ended(op, result))
			aio->calls.done(aio->opaque, op);
		else
			blk_aio_submit(aio, op);
	}
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct blk_aio *aio = opaque;

	(void)events;
	io_eventfd_drain(fd);
	aio->calls.before(aio->opaque);
	if (aio->has_ring)
		reap(aio);
	blk_aio_flush(aio);
	aio->calls.after(aio->opaque);
}

static int create_ring(struct blk_aio *aio, struct gw_error *err)
{
	/* Without IORING_SETUP_COOP_TASKRUN each completion interrupts the worker (Linux 5.19). */
	int r = io_uring_queue_init(RING_ENTRIES, &aio->ring, IORING_SETUP_COOP_TASKRUN);

	if (r == -EINVAL)
		r = io_uring_queue_init(RING_ENTRIES, &aio->ring, 0);
	/* Absent, or closed to this process (kernel.io_uring_disabled, seccomp). */
	if (r == -ENOSYS || r == -EPERM || r == -EACCES)
		return 0;
	if (r < 0)
		return error_set_sys(err, r, "io_uring_setup");
	aio->has_ring = true;
	r = io_uring_register_eventfd(&aio->ring, aio->event_fd);
	return r < 0 ? error_set_sys(err, r, "io_uring_register") : 0;
}

/* ---- the calls
 * ------------------------------------------------------------------------------------ */

int blk_aio_create(struct loop *loop, const struct blk_aio_calls *calls, void *opaque,
                   struct blk_aio **out, struct gw_error *err)
{
	struct blk_aio *aio = calloc(1, sizeof(*aio));
	int r;

	if (!aio)
		return error_set(err, -ENOMEM, "out of memory");
	aio->loop = loop;
	aio->calls = *calls;
	aio->opaque = opaque;
	aio->waiting_end = &aio->waiting;
	aio->event_fd = io_eventfd();
	r = aio->event_fd < 0 ? error_set_sys(err, aio->event_fd, "eventfd")
	                      : create_ring(aio, err);
	if (!r)
		r = loop_watch(aio->loop, aio->event_fd, EPOLLIN, on_event, aio, &aio->watch, err);
	if (r < 0) {
		blk_aio_destroy(aio);
		return r;
	}
	*out = aio;
	return 0;
}

void blk_aio_destroy(struct blk_aio *aio)
{
	if (!aio)
		return;
	loop_unwatch(aio->watch);
	if (aio->has_ring)
		io_uring_queue_exit(&aio->ring);
	if (aio->event_fd >= 0)
		close(aio->event_fd);
	free(aio);
}

const char *blk_aio_name(const struct blk_aio *aio)
{
	return aio->has_ring ? "io_uring" : "sync";
}

void blk_aio_submit(struct blk_aio *aio, struct blk_aio_op *op)
{
	op->next = NULL;
	*aio->waiting_end = op;
	aio->waiting_end = &op->next;
}

void blk_aio_flush(struct blk_aio *aio)
{
	if (aio->has_ring)
		submit_waiting(aio);
	else
		perform_all(aio);
}

void blk_aio_wake(struct blk_aio *aio)
{
	io_eventfd_signal(aio->event_fd);
}
