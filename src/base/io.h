/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes: short counts and EINTR are dealt with here. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Kinds of files, as a mask. */
enum io_kind {
	IO_FILE = 1,
	IO_DIRECTORY = 2,
	IO_BLOCK_DEVICE = 4,
	IO_CHARACTER_DEVICE = 8,
	IO_FIFO = 16,
	IO_SOCKET = 32,
	IO_SYMLINK = 64,
};

/* Opens a file whose kind is one of `kinds`. Anything else in its place is refused at once, without
 * being opened or waited for, with an error that names `path` and the kind found (-EINVAL).
 * `dir_fd` and `flags` as openat(2) has them: without O_NOFOLLOW a link is followed. The
 * descriptor, which is a blocking one, or a negative errno. */
int io_open(int dir_fd, const char *path, int flags, unsigned kinds, struct gw_error *err);

/* Exactly len bytes, or a negative errno; -ENODATA at end of file (nothing read at all),
 * -EPIPE when it ends in the middle. */
int io_read_full(int fd, void *buf, size_t len);
int io_pread_full(int fd, void *buf, size_t len, off_t offset);
int io_write_full(int fd, const void *buf, size_t len);
int io_pwrite_full(int fd, const void *buf, size_t len, off_t offset);
/* Writes all of iov; changes iov while it does so. */
int io_writev_full(int fd, struct iovec *iov, int count);

/* A whole (small) file as a NUL-terminated string, released with free(). At most `limit` bytes,
 * else -EFBIG. The error names the path. */
int io_read_file(const char *path, size_t limit, char **out, size_t *len, struct gw_error *err);
/* The same of an open file, from its position on; `name` is for the error. */
int io_read_all(int fd, const char *name, size_t limit, char **out, size_t *len,
                struct gw_error *err);

/* One line of a sysfs-like file into buf, the newline taken off. */
int io_read_line(const char *path, char *buf, size_t size, struct gw_error *err);

/* ioctl that is repeated on EINTR; returns its result, or a negative errno. */
int io_ioctl(int fd, unsigned long request, void *arg);

/* An eventfd (non-blocking, cloexec); a wake-up of it; a drain of it (or of a timerfd), true if it
 * was signalled. The drain never waits, even if another process that has the eventfd has made it
 * blocking. */
int io_eventfd(void);
void io_eventfd_signal(int fd);
bool io_eventfd_drain(int fd);

int io_set_nonblock(int fd, int on);

#endif
