/* SPDX-License-Identifier: Apache-2.0 */
/* A file that is written by a thread of its own, and the log file of a serial port by way of it: a
 * pipe that is not read stands for a disk that has stalled. */
#include "patience.h"

#include <criterion/criterion.h>

#include "base/file_writer.h"
#include "base/loop.h"
#include "vmm/serial_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct told {
	int error; /* atomic, all of them */
	uint64_t pieces, bytes;
};

static void on_lost(void *opaque, int error, uint64_t pieces, uint64_t bytes)
{
	struct told *t = opaque;

	if (error)
		__atomic_store_n(&t->error, error, __ATOMIC_RELEASE);
	__atomic_add_fetch(&t->pieces, pieces, __ATOMIC_RELEASE);
	__atomic_add_fetch(&t->bytes, bytes, __ATOMIC_RELEASE);
}

/* Reads what there is, to its end or until the pipe is empty. */
static size_t drain(int fd)
{
	static char buf[65536];
	size_t all = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		all += (size_t)n;
	return all;
}

static struct file_writer *new_writer(int fd, struct told *t)
{
	struct file_writer *w;
	struct gw_error err = { 0 };

	cr_assert_eq(file_writer_create(fd, "test", on_lost, t, &w, &err), 0, "%s", err.text);
	return w;
}

Test(file_writer, nothing_is_lost_at_a_clean_end)
{
	struct told t = { 0 };
	struct file_writer *w;
	char line[16];
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	w = new_writer(fds[1], &t);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "line %04u\n", i);
		cr_assert(file_writer_put(w, line, 10));
	}
	file_writer_flush(w);
	cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(drain(fds[0]), 10000, "it is there when it has been flushed");
	cr_assert(file_writer_put(w, "the last\n", 9));
	file_writer_destroy(w);
	cr_assert_eq(drain(fds[0]), 9);
	cr_assert_eq(t.bytes, 0);
	close(fds[0]);
}

Test(file_writer, what_does_not_fit_is_counted)
{
	static const char piece[1000] = { 'x' };
	uint64_t put = 0, lost = 0, read_ = 0;
	struct told t = { 0 };
	struct file_writer *w;
	int64_t began;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	w = new_writer(fds[1], &t);
	for (unsigned i = 0; i < 400; i++)
		*(file_writer_put(w, piece, sizeof(piece)) ? &put : &lost) += 1;
	cr_assert_gt(lost, 0);
	file_writer_flush(w);
	began = now_ms();
	file_writer_flush(w);
	cr_assert_lt(now_ms() - began, FILE_WRITER_STALL_MS, "it is known to have stalled");
	/* It may have been said in parts. */
	wait_turning(__atomic_load_n(&t.bytes, __ATOMIC_ACQUIRE) + read_ == 400 * sizeof(piece),
	             read_ += drain(fds[0]), "%lu bytes read, %lu said to be lost", read_, t.bytes);
	file_writer_destroy(w);
	cr_assert_eq(t.pieces, lost);
	cr_assert_eq(t.bytes, 1000 * lost);
	cr_assert_eq(read_, 1000 * put);
	close(fds[0]);
}

Test(file_writer, an_end_does_not_wait_for_what_has_stalled)
{
	static const char piece[60000] = { 'x' };
	struct told t = { 0 };
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(fds[1], F_SETPIPE_SZ, 4096), 4096);
	{
		struct file_writer *w = new_writer(fds[1], &t);

		cr_assert(file_writer_put(w, piece, sizeof(piece)));
		file_writer_destroy(w);
	}
	/* Its thread ends when the pipe has no reader, and closes it. */
	close(fds[0]);
}

Test(file_writer, a_full_disk_is_said_once)
{
	struct told t = { 0 };
	struct file_writer *w = new_writer(open("/dev/full", O_WRONLY | O_CLOEXEC), &t);

	for (unsigned i = 0; i < 3; i++) {
		cr_assert(file_writer_put(w, "x", 1));
		file_writer_flush(w);
	}
	cr_assert_eq(t.error, -ENOSPC);
	cr_assert_eq(t.pieces + t.bytes, 0);
	file_writer_destroy(w);
}

/* ---- the log file of a serial port ---- */

struct port {
	char path[64];
	int fd; /* the reader's end */
	pthread_mutex_t lock;
	struct loop *loop;
	struct serial_ends *ends;
	struct log log;
	pthread_mutex_t text_lock;
	char text[2048];
};

static void keep_text(void *opaque, enum gw_log_level level, const char *text)
{
	struct port *p = opaque;

	(void)level;
	pthread_mutex_lock(&p->text_lock);
	strncat(p->text, text, sizeof(p->text) - strlen(p->text) - 2);
	strcat(p->text, "\n");
	pthread_mutex_unlock(&p->text_lock);
}

static bool said(struct port *p, const char *what)
{
	bool yes;

	pthread_mutex_lock(&p->text_lock);
	yes = strstr(p->text, what);
	pthread_mutex_unlock(&p->text_lock);
	return yes;
}

/* All that the log says of it. */
static size_t said_lost(struct port *p)
{
	static const char before[] = "serial0: log file: ";
	size_t all = 0;

	pthread_mutex_lock(&p->text_lock);
	for (const char *at = p->text; (at = strstr(at, before)); at++)
		all += strtoul(at + strlen(before), NULL, 10);
	pthread_mutex_unlock(&p->text_lock);
	return all;
}

static void no_input(void *opaque)
{
	(void)opaque;
}

Test(file_writer, a_stalled_log_file_holds_up_nobody_who_writes_to_a_serial_port)
{
	static const struct serial_ends_ops ops = { .input = no_input };
	static const uint8_t text[1024] = { 'x' };
	struct port p = { .lock = PTHREAD_MUTEX_INITIALIZER,
		          .text_lock = PTHREAD_MUTEX_INITIALIZER,
		          .log = { .opaque = &p, .write = keep_text } };
	struct serial_ends_config config = {
		.name = "serial0", .keys = "serial.", .socket = "", .log = p.path, .fd = -1
	};
	struct gw_error err = { 0 };
	size_t got = 0;

	snprintf(p.path, sizeof(p.path), "/tmp/gw-log-%d", (int)getpid());
	cr_assert_eq(mkfifo(p.path, 0600), 0);
	p.fd = open(p.path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	cr_assert_eq(loop_create(&p.loop, &err), 0, "%s", err.text);
	cr_assert_eq(serial_ends_create(p.loop, &p.log, &p.lock, &config, &ops, &p, &p.ends, &err),
	             0, "%s", err.text);
	for (unsigned i = 0; i < 400; i++) {
		pthread_mutex_lock(&p.lock);
		cr_assert_eq(serial_ends_write(p.ends, text, sizeof(text)), sizeof(text));
		pthread_mutex_unlock(&p.lock);
		loop_once(p.loop, 0);
	}
	serial_ends_flush_log(p.ends);
	cr_assert(said(&p, "serial0: log file does not keep up, output is lost"), "%s", p.text);
	wait_turning(said_lost(&p) + got == 400 * sizeof(text), got += drain(p.fd),
	             "%zu bytes read, %zu said to be lost", got, said_lost(&p));
	cr_assert_gt(said_lost(&p), 0);
	serial_ends_destroy(p.ends);
	loop_destroy(p.loop);
	close(p.fd);
	unlink(p.path);
}
