/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file_writer.h"

#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Kept for what lost() says, which must not be lost as well. */
#define RESERVED 256u
/* Of waiting for a thread that has not stalled: a processor with much else to do. */
#define FLUSH_MS 5000

struct file_writer {
	pthread_mutex_t lock; /* guards all below but what the thread writes */
	pthread_cond_t changed;
	pthread_t thread;
	int fd;
	file_writer_lost lost;
	void *opaque;
	uint8_t *fill, *out; /* what comes; what is being written */
	size_t fill_len;
	uint64_t lost_pieces, lost_bytes;
	int64_t began; /* the write under way, by now_ms(); -1: none */
	bool failing;  /* the last write failed: the thread's */
	bool stop, ended, abandoned;
};

static void set_began(struct file_writer *w, int64_t began)
{
	pthread_mutex_lock(&w->lock);
	w->began = began;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Each write that takes some of it is progress. */
static int write_all(struct file_writer *w, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n;

		set_began(w, now_ms());
		n = write(w->fd, w->out + done, len - done);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = w->fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* With the lock held, which is given up while it reports. */
static void report(struct file_writer *w, int error)
{
	const bool first = error && !w->failing;
	uint64_t pieces = w->lost_pieces, bytes = w->lost_bytes;

	w->failing = error;
	if (w->abandoned || (!first && (error || !bytes)))
		return;
	if (error)
		pieces = bytes = 0;
	else
		w->lost_pieces = w->lost_bytes = 0;
	pthread_mutex_unlock(&w->lock);
	w->lost(w->opaque, error, pieces, bytes);
	pthread_mutex_lock(&w->lock);
}

/* With the lock held, which is given up meanwhile. */
static void write_filled(struct file_writer *w)
{
	const size_t len = w->fill_len;
	uint8_t *const out = w->fill;
	int r;

	w->fill = w->out;
	w->out = out;
	w->fill_len = 0;
	w->began = now_ms();
	pthread_mutex_unlock(&w->lock);
	r = write_all(w, len);
	pthread_mutex_lock(&w->lock);
	if (r < 0)
		w->lost_bytes += len;
	report(w, r);
	w->began = -1;
	pthread_cond_broadcast(&w->changed);
}

static void release(struct file_writer *w)
{
	close(w->fd);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w->fill);
	free(w->out);
	free(w);
}

static void *run(void *opaque)
{
	struct file_writer *w = opaque;
	bool abandoned;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->fill_len && !w->stop)
			pthread_cond_wait(&w->changed, &w->lock);
		if (!w->fill_len || w->abandoned)
			break;
		write_filled(w);
	}
	w->ended = true;
	abandoned = w->abandoned;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	if (abandoned)
		release(w);
	return NULL;
}

int file_writer_create(int fd, const char *name, file_writer_lost lost, void *opaque,
                       struct file_writer **out, struct gw_error *err)
{
	struct file_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w) {
		close(fd);
		return error_set(err, -ENOMEM, "out of memory");
	}
	w->fd = fd;
	w->lost = lost;
	w->opaque = opaque;
	w->began = -1;
	pthread_mutex_init(&w->lock, NULL);
	thread_cond_init(&w->changed);
	w->fill = malloc(FILE_WRITER_ROOM);
	w->out = malloc(FILE_WRITER_ROOM);
	r = w->fill && w->out ? thread_start(&w->thread, run, w, name) : -ENOMEM;
	if (r < 0) {
		release(w);
		return error_set_sys(err, r, "a thread that writes");
	}
	*out = w;
	return 0;
}

/* That is in lost(), which is called once for each buffer. */
static bool on_its_thread(const struct file_writer *w)
{
	return pthread_equal(pthread_self(), w->thread);
}

bool file_writer_put(struct file_writer *w, const void *buf, size_t len)
{
	bool fits;

	pthread_mutex_lock(&w->lock);
	fits = len + w->fill_len <= FILE_WRITER_ROOM - (on_its_thread(w) ? 0 : RESERVED);
	if (fits) {
		memcpy(w->fill + w->fill_len, buf, len);
		/* While it writes it looks again by itself. */
		if (!w->fill_len && w->began < 0)
			pthread_cond_broadcast(&w->changed);
		w->fill_len += len;
	} else {
		w->lost_pieces++;
		w->lost_bytes += len;
	}
	pthread_mutex_unlock(&w->lock);
	return fits;
}

/* Lock held. */
static bool stalled(const struct file_writer *w)
{
	return w->began >= 0 && now_ms() - w->began >= FILE_WRITER_STALL_MS;
}

static bool idle(const struct file_writer *w)
{
	return w->ended || (!w->fill_len && w->began < 0);
}

static void flush_locked(struct file_writer *w)
{
	const int64_t end = now_ms() + FLUSH_MS;

	while (!idle(w) && !stalled(w) && now_ms() < end)
		thread_cond_wait(&w->changed, &w->lock,
		                 w->began < 0 ? end : MIN(end, w->began + FILE_WRITER_STALL_MS));
}

void file_writer_flush(struct file_writer *w)
{
	pthread_mutex_lock(&w->lock);
	flush_locked(w);
	pthread_mutex_unlock(&w->lock);
}

void file_writer_destroy(struct file_writer *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	flush_locked(w);
	w->stop = true;
	pthread_cond_broadcast(&w->changed);
	while (!w->ended && !stalled(w))
		thread_cond_wait(&w->changed, &w->lock, now_ms() + FILE_WRITER_STALL_MS);
	if (!w->ended) {
		w->abandoned = true;
		pthread_detach(w->thread);
		pthread_mutex_unlock(&w->lock);
		return;
	}
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	release(w);
}
