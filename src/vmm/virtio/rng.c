/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: random bytes for the guest, from the host's kernel or from a
 * device of the host, at most so many in a period.
 *
 * All is done on the machine's loop, so nothing here may wait: getrandom(2)
 * does not once the host is up, and a file is opened non-blocking and asked
 * again later.
 * Source: VIRTIO 1.2, 5.4.
 */
#include "vmm/virtio/devices.h"
#include "vmm/virtio/virtio.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define QUEUE_SIZE 64
/* More than that is not put into one buffer (5.4.6.1: the device may write less), nor given
 * before others on the loop get their turn. */
#define BUFFER_MAX (64 * KIB)
#define TURN_MAX (256 * KIB)
#define RETRY_MS 10 /* when the file has nothing */

struct rng_options {
	char file[CONFIG_PATH_MAX];
	uint64_t max_bytes; /* in a period; 0: no limit */
	uint32_t period;    /* ms */
};

struct rng {
	struct virtio v;
	struct rng_options options;
	int fd; /* -1: getrandom */
	/* Under the worker's lock: */
	uint64_t left;      /* of the present period */
	int64_t period_end; /* ms */
	struct loop_timer *timer;
	struct virtq_chain chain;
	bool warned;
};

static struct rng *of(struct virtio *v)
{
	return container_of(v, struct rng, v);
}

/* ---- where the bytes come from ------------------------------------------------------ */

/* 0: none for now. */
static size_t read_source(struct rng *r, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = r->fd < 0 ? getrandom(buf, len, GRND_NONBLOCK) : read(r->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && !r->warned) {
		log_warn(r->v.device.machine->log, "device %s: no random bytes: %s", r->v.device.id,
		         strerror(errno));
		r->warned = true;
	}
	return n > 0 ? (size_t)n : 0;
}

/* Fills the buffer from its beginning on, as far as bytes are to be had. */
static uint32_t fill(struct rng *r, uint64_t limit)
{
	const struct virtq_chain *c = &r->chain;
	size_t done = 0;

	for (unsigned i = c->out; i < c->out + c->in && done < limit; i++) {
		const size_t want = MIN(c->iov[i].iov_len, limit - done);
		size_t got = 0, n;

		do {
			n = read_source(r, (char *)c->iov[i].iov_base + got, want - got);
			got += n;
		} while (n && got < want);
		done += got;
		if (got < want)
			break;
	}
	return (uint32_t)done;
}

/* ---- the queue ---------------------------------------------------------------------- */

/* Bytes that may be given now. */
static uint64_t allowance(struct rng *r)
{
	const int64_t now = now_ms();

	if (!r->options.max_bytes)
		return UINT64_MAX;
	if (now >= r->period_end) {
		r->left = r->options.max_bytes;
		r->period_end = now + r->options.period;
	}
	return r->left;
}

/* One buffer: true if the next may follow. */
static bool serve(struct rng *r, struct virtio_queue *q, uint64_t *turn)
{
	uint32_t done = 0;

	if (r->chain.in_len) {
		const uint64_t may = allowance(r);

		if (may)
			done = fill(r, MIN(may, BUFFER_MAX));
		if (!done) {
			virtq_unpop(&q->ring, &r->chain);
			loop_timer_set(r->timer, may ? RETRY_MS : MAX(r->period_end - now_ms(), 1));
			return false;
		}
	}
	virtq_fill(&q->ring, &r->chain, done);
	if (r->options.max_bytes)
		r->left -= done;
	*turn += done;
	return true;
}

static void rng_kick(struct virtio *v, struct virtio_queue *q)
{
	struct rng *r = of(v);
	uint64_t turn = 0;
	bool go_on = true;
	int popped = 0;

	do {
		virtq_kicks_off(&q->ring);
		while (go_on && (popped = virtq_pop(&q->ring, &r->chain)) > 0) {
			go_on = serve(r, q, &turn);
			if (go_on && turn >= TURN_MAX) {
				loop_timer_set(r->timer, 0);
				go_on = false;
			}
		}
		virtio_publish(q);
	} while (go_on && !popped && virtq_kicks_on(&q->ring));
	if (popped < 0)
		virtio_break(v, q->ring.broken ? q->ring.broken : "out of memory");
}

static void on_timer(void *opaque)
{
	struct rng *r = opaque;
	struct virtio_queue *q = &r->v.queues[0];

	pthread_mutex_lock(&q->worker->lock);
	if (r->v.active && q->ring.enabled)
		rng_kick(&r->v, q);
	pthread_mutex_unlock(&q->worker->lock);
}

static void rng_stop(struct virtio *v)
{
	loop_timer_set(of(v)->timer, -1);
}

/* ---- made and gone ------------------------------------------------------------------ */

/* A regular file would end, and a directory gives nothing. */
static int open_source(const char *path, int *out, struct gw_error *err)
{
	autoclose int fd = -1;
	struct stat st;

	if (!path[0])
		return 0;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "file: %s", path);
	if (!S_ISCHR(st.st_mode) && !S_ISFIFO(st.st_mode))
		return error_set(err, -EINVAL, "file: %s is no character device and no pipe", path);
	*out = take_fd(&fd);
	return 0;
}

static int rng_check_host(const void *options, struct gw_error *err)
{
	const struct rng_options *o = options;
	autoclose int fd = -1;

	return open_source(o->file, &fd, err);
}

static void rng_release(struct virtio *v)
{
	struct rng *r = of(v);

	loop_timer_destroy(r->timer);
	virtq_chain_free(&r->chain);
	if (r->fd >= 0)
		close(r->fd);
}

static int rng_open(struct virtio *v, struct gw_error *err)
{
	struct rng *r = of(v);
	int ret = open_source(r->options.file, &r->fd, err);

	if (!ret)
		ret = loop_timer_create(v->workers[0].loop, on_timer, r, &r->timer, err);
	return ret;
}

static const struct virtio_ops rng_ops = {
	.id = 4,
	.class_code = 0x00ff00, /* nothing that PCI has a class for */
	.kick = rng_kick,
	.stop = rng_stop,
	.open = rng_open,
	.release = rng_release,
};

static const struct participant_ops rng_participant = VIRTIO_PARTICIPANT("virtio-rng");

static int rng_create(struct machine *m, const struct config_device *config, bool hot,
                      struct device **out, struct gw_error *err)
{
	const struct virtio_setup setup = {
		.ops = &rng_ops,
		.participant = &rng_participant,
		.driver = &virtio_rng_driver,
		.queues = 1,
		.queue_size = QUEUE_SIZE,
	};
	struct rng *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return error_set(err, -ENOMEM, "out of memory");
	r->fd = -1;
	r->options = *(const struct rng_options *)virtio_options(config);
	ret = virtio_plug(&r->v, m, config, hot, &setup, err);
	if (!ret)
		*out = &r->v.device;
	return ret;
}

static const struct config_key rng_keys[] = {
	CONFIG_ROW_TEXT(NULL, "file", CONFIG_OF_HOST, struct rng_options, file,
	                "character device or pipe of the host to read, as /dev/hwrng; "
	                "without it, the host's kernel is asked"),
	CONFIG_ROW_NUMBER(NULL, "max-bytes", CONFIG_SIZE, 0, struct rng_options, max_bytes, 0,
	                  1ull << 40, NULL, "bytes given in a period at most; 0: no limit"),
	CONFIG_ROW_NUMBER(NULL, "period", CONFIG_UINT, 0, struct rng_options, period, 1, 3600000,
	                  "1000", "length of that period in milliseconds"),
	CONFIG_ROW_END,
};

const struct device_driver virtio_rng_driver = {
	.type = "virtio-rng",
	.help = "random numbers from the host",
	.keys = rng_keys,
	.check_host = rng_check_host,
	.create = rng_create,
	VIRTIO_DRIVER_CALLS,
};
