/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes: short counts and EINTR are dealt with here. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

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
