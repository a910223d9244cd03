/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serial_ends.h"

#include "base/error.h"
#include "base/file_writer.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define OUTPUT_MAX (64 * KIB)
/* A blocking descriptor that poll() calls writable takes this much without blocking: a terminal
 * has at least that much room then, a pipe a page. */
#define STDOUT_CHUNK 256u

enum { END_CLIENT, END_STDOUT, END_FD, ENDS };

struct end {
	int fd; /* -1: nobody there */
	struct loop_watch *watch;
	size_t len;
	bool lost;  /* something; said once until it takes output again */
	bool ended; /* sends no more input */
	bool is_socket;
	uint8_t *buf;
};

struct serial_ends {
	struct loop *loop;
	const struct log *log;
	pthread_mutex_t *lock; /* the owner's: guards all */
	const char *name;
	const struct serial_ends_ops *ops;
	void *opaque;
	char path[CONFIG_PATH_MAX]; /* of the socket */
	int wake;
	struct loop_watch *wake_watch;
	int listener;
	struct loop_watch *listener_watch;
	int stdin_fd; /* -1: not used, or ended */
	struct loop_watch *stdin_watch;
	struct end ends[ENDS];
	struct file_writer *file; /* the log file; NULL: none */
	bool file_lost;           /* it had no room; said once until it has some again */
	uint8_t input[SERIAL_INPUT_MAX];
	size_t input_at, input_len;
	bool held, closing;
	bool lossless, blocked; /* something was not taken */
	bool open;              /* as the owner has been told */
	bool woken;             /* the loop has been told already */
};

static const char *const end_names[ENDS] = {
	[END_CLIENT] = "socket client",
	[END_STDOUT] = "stdout",
	[END_FD] = "descriptor",
};

static void wake(struct serial_ends *e)
{
	if (e->woken)
		return;
	e->woken = true;
	io_eventfd_signal(e->wake);
}

/* ---- output ------------------------------------------------------------------------- */

static ssize_t write_some(const struct serial_ends *e, unsigned which, const uint8_t *buf,
                          size_t len)
{
	const int fd = e->ends[which].fd;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct thread_pipe pipe;
	ssize_t n;
	int code;

	if (e->ends[which].is_socket)
		return send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	/* With an external loop the thread is the embedder's. */
	thread_pipe_begin(&pipe);
	n = write(fd, buf, MIN(len, STDOUT_CHUNK));
	code = errno;
	thread_pipe_end(&pipe);
	errno = code;
	return n;
}

static void flush(struct serial_ends *e, unsigned which)
{
	struct end *end = &e->ends[which];
	size_t done = 0;

	while (done < end->len) {
		ssize_t n = write_some(e, which, end->buf + done, end->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* A client that has gone, which is noticed elsewhere. */
			if (which != END_CLIENT && !end->lost)
				log_warn(e->log, "%s: %s: %s, output is lost", e->name,
				         end_names[which], strerror(errno));
			end->lost = true;
			end->len = 0;
			return;
		}
		done += (size_t)n;
	}
	if (!done)
		return;
	end->lost = false;
	memmove(end->buf, end->buf + done, end->len - done);
	end->len -= done;
}

static void put(struct serial_ends *e, unsigned which, const uint8_t *buf, size_t len)
{
	struct end *end = &e->ends[which];
	const size_t n = MIN(len, OUTPUT_MAX - end->len);

	if (end->fd < 0)
		return;
	memcpy(end->buf + end->len, buf, n);
	end->len += n;
	if (n == len)
		return;
	if (!end->lost)
		log_warn(e->log, "%s: %s does not keep up, output is lost", e->name,
		         end_names[which]);
	end->lost = true;
}

/* On the file's own thread. */
static void on_file_lost(void *opaque, int error, uint64_t pieces, uint64_t bytes)
{
	struct serial_ends *e = opaque;

	(void)pieces;
	if (error)
		log_warn(e->log, "%s: log file: %s, output is lost", e->name, strerror(-error));
	else
		log_warn(e->log, "%s: log file: %llu bytes of output were lost", e->name,
		         (unsigned long long)bytes);
}

static void put_file(struct serial_ends *e, const uint8_t *buf, size_t len)
{
	while (e->file && len) {
		const size_t n = MIN(len, 4 * KIB);
		const bool fits = file_writer_put(e->file, buf, n);

		if (!fits && !e->file_lost)
			log_warn(e->log, "%s: log file does not keep up, output is lost", e->name);
		e->file_lost = !fits;
		buf += n;
		len -= n;
	}
}

/* What every end has room for. */
static size_t room(const struct serial_ends *e)
{
	size_t least = SIZE_MAX;

	for (unsigned i = 0; i < ENDS; i++)
		if (e->lossless && e->ends[i].fd >= 0)
			least = MIN(least, OUTPUT_MAX - e->ends[i].len);
	return least;
}

size_t serial_ends_write(struct serial_ends *e, const uint8_t *buf, size_t len)
{
	const size_t n = MIN(len, room(e));

	for (unsigned i = 0; i < ENDS; i++)
		put(e, i, buf, n);
	put_file(e, buf, n);
	if (n < len)
		e->blocked = true;
	wake(e);
	return n;
}

void serial_ends_flush_log(struct serial_ends *e)
{
	if (e->file)
		file_writer_flush(e->file);
}

bool serial_ends_open(const struct serial_ends *e)
{
	return e->ends[END_CLIENT].fd >= 0 || e->ends[END_FD].fd >= 0 ||
	       e->ends[END_STDOUT].fd >= 0;
}

/* ---- input -------------------------------------------------------------------------- */

static bool wants_input(const struct serial_ends *e)
{
	return !e->held && e->input_at == e->input_len;
}

/* Reads what there is; false when the end has closed. */
static bool read_input(struct serial_ends *e, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (!wants_input(e) || poll(&p, 1, 0) <= 0)
		return true;
	do {
		n = read(fd, e->input, sizeof(e->input));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN;
	e->input_at = 0;
	e->input_len = (size_t)n;
	return n > 0;
}

size_t serial_ends_take(struct serial_ends *e, uint8_t *buf, size_t len)
{
	size_t n = MIN(len, e->input_len - e->input_at);

	memcpy(buf, e->input + e->input_at, n);
	e->input_at += n;
	if (n && wants_input(e))
		wake(e);
	return n;
}

size_t serial_ends_peek(const struct serial_ends *e, const uint8_t **input)
{
	*input = e->input + e->input_at;
	return e->input_len - e->input_at;
}

int serial_ends_refill(struct serial_ends *e, const uint8_t *input, size_t len,
                       struct gw_error *err)
{
	if (len > sizeof(e->input))
		return error_set(err, -EINVAL, "%zu bytes of input, at most %zu", len,
		                 sizeof(e->input));
	if (len)
		memcpy(e->input, input, len);
	e->input_at = 0;
	e->input_len = len;
	return 0;
}

void serial_ends_hold(struct serial_ends *e, bool hold)
{
	e->held = hold;
	wake(e);
}

/* ---- the loop's side ---------------------------------------------------------------- */

static void on_event(void *opaque, int fd, uint32_t events);

/* Watches fd for `events`; not at all if there are none, since epoll reports a hang-up even
 * then, without end. -EPERM: a regular file, which is always ready. */
static void watch(struct serial_ends *e, int fd, uint32_t events, struct loop_watch **w)
{
	struct gw_error err = { 0 };

	if (!events || fd < 0) {
		loop_unwatch(*w);
		*w = NULL;
	} else if (*w) {
		loop_watch_events(*w, events);
	} else if (loop_watch(e->loop, fd, events, on_event, e, w, &err) < 0) {
		log_debug(e->log, "%s: fd %d: %s", e->name, fd, err.text);
		*w = NULL;
	}
}

static void drop(struct serial_ends *e, struct end *end)
{
	watch(e, -1, 0, &end->watch);
	close(end->fd);
	end->fd = -1;
	end->len = 0;
	end->lost = end->ended = false;
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* One client at a time: the next is turned away, unless the present one has gone. */
static void accept_client(struct serial_ends *e)
{
	struct end *end = &e->ends[END_CLIENT];
	int fd = accept4(e->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (end->fd >= 0 && hung_up(end->fd))
		drop(e, end);
	if (end->fd >= 0)
		close(fd);
	else
		end->fd = fd;
	end->is_socket = true;
}

static void update_watches(struct serial_ends *e)
{
	uint32_t in = wants_input(e) ? EPOLLIN : 0;

	for (unsigned i = 0; i < ENDS; i++) {
		struct end *end = &e->ends[i];
		uint32_t out = end->len ? EPOLLOUT : 0;

		watch(e, end->fd, out | (i != END_STDOUT && !end->ended ? in : 0), &end->watch);
	}
	watch(e, e->stdin_fd, in, &e->stdin_watch);
}

static void service_input(struct serial_ends *e, struct end *end)
{
	if (end->fd >= 0 && !end->ended && !read_input(e, end->fd))
		end->ended = true;
	/* One that only closed its sending side still wants to read. */
	if (end->fd >= 0 && end->ended && hung_up(end->fd))
		drop(e, end);
}

static void tell_owner(struct serial_ends *e)
{
	const bool open = serial_ends_open(e);

	if (open != e->open && e->ops->opened)
		e->ops->opened(e->opaque, open);
	e->open = open;
	if (e->blocked && room(e)) {
		e->blocked = false;
		if (e->ops->room)
			e->ops->room(e->opaque);
	}
	if (e->input_at < e->input_len)
		e->ops->input(e->opaque);
}

static void service(struct serial_ends *e)
{
	e->woken = false;
	for (unsigned i = 0; i < ENDS; i++) {
		if (e->ends[i].fd >= 0)
			flush(e, i);
	}
	service_input(e, &e->ends[END_CLIENT]);
	service_input(e, &e->ends[END_FD]);
	if (e->stdin_fd >= 0 && !read_input(e, e->stdin_fd))
		e->stdin_fd = -1;
	if (e->listener >= 0)
		accept_client(e);
	tell_owner(e);
	update_watches(e);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	struct serial_ends *e = opaque;

	(void)events;
	if (fd == e->wake)
		io_eventfd_drain(fd);
	pthread_mutex_lock(e->lock);
	if (!e->closing)
		service(e);
	pthread_mutex_unlock(e->lock);
}

/* ---- making and unmaking ------------------------------------------------------------ */

/* A socket file that nobody listens on any more is in the way. */
static bool is_stale(const struct sockaddr_un *addr)
{
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	return fd >= 0 && stat(addr->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
	       errno == ECONNREFUSED;
}

static int listen_at(struct serial_ends *e, const char *keys, const char *path,
                     struct gw_error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autoclose int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return error_set(err, -ENAMETOOLONG, "%ssocket %s: longer than %zu", keys, path,
		                 sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_sys(err, -errno, "%ssocket %s: socket", keys, path);
	if (is_stale(&addr))
		unlink(path);
	/* Whoever reaches the console may be root in the guest: the owner only. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return error_set_sys(err, -errno, "%ssocket %s: bind", keys, path);
	memcpy(e->path, path, strlen(path) + 1);
	if (listen(fd, 4) < 0)
		return error_set_sys(err, -errno, "%ssocket %s: listen", keys, path);
	e->listener = take_fd(&fd);
	return loop_watch(e->loop, e->listener, EPOLLIN, on_event, e, &e->listener_watch, err);
}

static int open_log(struct serial_ends *e, const char *keys, const char *path, struct gw_error *err)
{
	/* A FIFO that nobody reads is refused, and not waited for. */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_set_sys(err, -errno, "%slog %s: open", keys, path);
	io_set_nonblock(fd, 0);
	return file_writer_create(fd, "log file", on_file_lost, e, &e->file, err);
}

static bool is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int open_ends(struct serial_ends *e, const struct serial_ends_config *config,
                     struct gw_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < ENDS; i++) {
		e->ends[i].buf = malloc(OUTPUT_MAX);
		if (!e->ends[i].buf)
			return error_set(err, -ENOMEM, "no memory for %s", e->name);
	}
	e->wake = io_eventfd();
	if (e->wake < 0)
		return error_set_sys(err, e->wake, "eventfd");
	r = loop_watch(e->loop, e->wake, EPOLLIN, on_event, e, &e->wake_watch, err);
	if (!r && config->log[0])
		r = open_log(e, config->keys, config->log, err);
	if (!r && config->socket[0])
		r = listen_at(e, config->keys, config->socket, err);
	if (!r && config->stdio) {
		e->ends[END_STDOUT].fd = STDOUT_FILENO;
		e->ends[END_STDOUT].is_socket = is_socket(STDOUT_FILENO);
		e->stdin_fd = STDIN_FILENO;
	}
	return r;
}

int serial_ends_create(struct loop *loop, const struct log *log, pthread_mutex_t *lock,
                       const struct serial_ends_config *config, const struct serial_ends_ops *ops,
                       void *opaque, struct serial_ends **out, struct gw_error *err)
{
	struct serial_ends *e = calloc(1, sizeof(*e));
	int r;

	if (!e) {
		if (config->fd >= 0)
			close(config->fd);
		return error_set(err, -ENOMEM, "no memory for %s", config->name);
	}
	e->loop = loop;
	e->log = log;
	e->lock = lock;
	e->name = config->name;
	e->lossless = config->lossless;
	e->ops = ops;
	e->opaque = opaque;
	e->wake = e->listener = e->stdin_fd = -1;
	for (unsigned i = 0; i < ENDS; i++)
		e->ends[i].fd = -1;
	e->ends[END_FD].fd = config->fd;
	e->ends[END_FD].is_socket = config->fd >= 0 && is_socket(config->fd);
	/* Handlers that are called already wait until all is there. */
	pthread_mutex_lock(lock);
	r = open_ends(e, config, err);
	if (!r) {
		*out = e;
		e->open = serial_ends_open(e);
		wake(e);
	}
	pthread_mutex_unlock(lock);
	if (r < 0)
		serial_ends_destroy(e);
	return r;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void serial_ends_destroy(struct serial_ends *e)
{
	if (!e)
		return;
	/* From here on a handler that begins touches no watch. */
	pthread_mutex_lock(e->lock);
	e->closing = true;
	for (unsigned i = 0; i < ENDS; i++) {
		if (e->ends[i].fd >= 0)
			flush(e, i);
	}
	pthread_mutex_unlock(e->lock);
	file_writer_destroy(e->file);
	loop_unwatch(e->wake_watch);
	loop_unwatch(e->listener_watch);
	loop_unwatch(e->stdin_watch);
	for (unsigned i = 0; i < ENDS; i++)
		loop_unwatch(e->ends[i].watch);
	if (e->path[0])
		unlink(e->path);
	close_fd(e->wake);
	close_fd(e->listener);
	close_fd(e->ends[END_CLIENT].fd);
	close_fd(e->ends[END_FD].fd);
	for (unsigned i = 0; i < ENDS; i++)
		free(e->ends[i].buf);
	free(e);
}
