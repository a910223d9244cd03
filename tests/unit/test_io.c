/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct pipe_ends {
	int in, out;
};

static struct pipe_ends make_pipe(void)
{
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	return (struct pipe_ends){ .in = fds[1], .out = fds[0] };
}

/* Writes "abcdefgh" in three pieces, with pauses between. */
static void *drip(void *opaque)
{
	const int fd = *(int *)opaque;
	const char *const pieces[] = { "ab", "c", "defgh" };

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		usleep(5000);
		if (write(fd, pieces[i], strlen(pieces[i])) < 0)
			return NULL;
	}
	return NULL;
}

Test(io, short_reads_are_joined)
{
	struct pipe_ends p = make_pipe();
	char buf[9] = { 0 };
	pthread_t thread;

	pthread_create(&thread, NULL, drip, &p.in);
	cr_assert_eq(io_read_full(p.out, buf, 8), 0);
	cr_assert_str_eq(buf, "abcdefgh");
	pthread_join(thread, NULL);
	close(p.in);
	close(p.out);
}

Test(io, an_end_before_and_within_are_told_apart)
{
	struct pipe_ends p = make_pipe();
	char buf[8];

	cr_assert_eq(io_write_full(p.in, "abc", 3), 0);
	close(p.in);
	cr_assert_eq(io_read_full(p.out, buf, 8), -EPIPE);
	cr_assert_eq(io_read_full(p.out, buf, 8), -ENODATA);
	cr_assert_eq(io_read_full(p.out, buf, 0), 0);
	close(p.out);
}

struct sink {
	int fd;
	size_t len;
	unsigned char *data;
};

static void *swallow(void *opaque)
{
	struct sink *s = opaque;
	size_t done = 0;

	while (done < s->len) {
		ssize_t n = read(s->fd, s->data + done, MIN(s->len - done, (size_t)1000));

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return NULL;
}

Test(io, a_vector_larger_than_a_pipe_is_written_whole)
{
	static unsigned char from[300000], to[300000];
	struct pipe_ends p = make_pipe();
	struct sink sink = { .fd = p.out, .len = sizeof(to), .data = to };
	struct iovec iov[] = {
		{ from, 1 },
		{ from + 1, 0 },
		{ from + 1, 200000 },
		{ from + 200001, sizeof(from) - 200001 },
	};
	pthread_t thread;

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 31 >> 3);
	pthread_create(&thread, NULL, swallow, &sink);
	cr_assert_eq(io_writev_full(p.in, iov, ARRAY_SIZE(iov)), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(memcmp(from, to, sizeof(from)), 0);
	close(p.in);
	close(p.out);
}

Test(io, positions_are_kept_apart_from_the_file_s_own)
{
	autoclose int fd = memfd_create("io", MFD_CLOEXEC);
	char buf[4] = { 0 };

	cr_assert_eq(io_pwrite_full(fd, "xyz", 3, 100), 0);
	cr_assert_eq(io_pread_full(fd, buf, 3, 100), 0);
	cr_assert_str_eq(buf, "xyz");
	cr_assert_eq(lseek(fd, 0, SEEK_CUR), 0);
	cr_assert_eq(io_pread_full(fd, buf, 3, 101), -EPIPE);
	cr_assert_eq(io_pread_full(fd, buf, 3, 103), -ENODATA);
	cr_assert_eq(io_pread_full(fd, buf, 3, -1), -EINVAL);
	cr_assert_eq(io_pwrite_full(fd, buf, 3, -1), -EINVAL);
}

static void make_file(char *path, const char *text, size_t len)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	cr_assert_eq(io_write_full(fd, text, len), 0);
	close(fd);
}

Test(io, a_file_is_read_whole_up_to_a_limit)
{
	static char text[10000];
	char path[] = "/tmp/godwit-io-XXXXXX";
	struct gw_error err;
	char *out = NULL;
	size_t len;

	memset(text, 'k', sizeof(text));
	make_file(path, text, sizeof(text));
	cr_assert_eq(io_read_file(path, sizeof(text), &out, &len, &err), 0);
	cr_assert_eq(len, sizeof(text));
	cr_assert_eq(strlen(out), sizeof(text));
	free(out);
	cr_assert_eq(io_read_file(path, sizeof(text) - 1, &out, &len, &err), -EFBIG);
	cr_assert(strstr(err.text, path), "%s", err.text);
	unlink(path);
	cr_assert_eq(io_read_file(path, 10, &out, NULL, &err), -ENOENT);
	cr_assert(strstr(err.text, path), "%s", err.text);
}

Test(io, a_line_ends_at_its_newline_and_fits)
{
	char path[] = "/tmp/godwit-io-XXXXXX";
	struct gw_error err;
	char buf[16], small[4];

	make_file(path, "vfio-pci\nrest", 13);
	cr_assert_eq(io_read_line(path, buf, sizeof(buf), &err), 0);
	cr_assert_str_eq(buf, "vfio-pci");
	cr_assert_eq(io_read_line(path, small, sizeof(small), &err), 0);
	cr_assert_str_eq(small, "vfi");
	unlink(path);
}

Test(io, an_eventfd_counts_until_it_is_drained)
{
	autoclose int fd = io_eventfd();
	uint64_t count = 0;

	io_eventfd_signal(fd);
	io_eventfd_signal(fd);
	cr_assert_eq(read(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_assert_eq(count, 2);
	io_eventfd_drain(fd); /* nothing there: does not wait */
	io_eventfd_signal(fd);
	io_eventfd_drain(fd);
	cr_assert_eq(read(fd, &count, sizeof(count)), -1);
	cr_assert_eq(errno, EAGAIN);
}

Test(io, nonblocking_goes_on_and_off)
{
	struct pipe_ends p = make_pipe();

	cr_assert_eq(io_set_nonblock(p.out, 1), 0);
	cr_assert(fcntl(p.out, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(io_set_nonblock(p.out, 0), 0);
	cr_assert_not(fcntl(p.out, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(io_set_nonblock(-1, 1), -EBADF);
	close(p.in);
	close(p.out);
}

/* Whoever else has the descriptor can change how it waits. */
Test(io, draining_an_eventfd_never_waits)
{
	int fd = io_eventfd();

	cr_assert_eq(io_set_nonblock(fd, 0), 0);
	cr_assert_not(io_eventfd_drain(fd));
	io_eventfd_signal(fd);
	cr_assert(io_eventfd_drain(fd));
	cr_assert_not(io_eventfd_drain(fd));
	close(fd);
}
