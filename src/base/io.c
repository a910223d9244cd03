/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* offset < 0: at the file's position. */
static int read_at(int fd, void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = offset < 0 ? read(fd, (char *)buf + done, len - done)
		                       : pread(fd, (char *)buf + done, len - done,
		                               offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return done ? -EPIPE : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

static int write_at(int fd, const void *buf, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = offset < 0 ? write(fd, (const char *)buf + done, len - done)
		                       : pwrite(fd, (const char *)buf + done, len - done,
		                                offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int io_read_full(int fd, void *buf, size_t len)
{
	return read_at(fd, buf, len, -1);
}

int io_pread_full(int fd, void *buf, size_t len, off_t offset)
{
	return offset < 0 ? -EINVAL : read_at(fd, buf, len, offset);
}

int io_write_full(int fd, const void *buf, size_t len)
{
	return write_at(fd, buf, len, -1);
}

int io_pwrite_full(int fd, const void *buf, size_t len, off_t offset)
{
	return offset < 0 ? -EINVAL : write_at(fd, buf, len, offset);
}

int io_writev_full(int fd, struct iovec *iov, int count)
{
	while (count) {
		ssize_t n = writev(fd, iov, MIN(count, IOV_MAX));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (; count && (size_t)n >= iov->iov_len; iov++, count--)
			n -= (ssize_t)iov->iov_len;
		if (count) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static const struct {
	mode_t type;
	unsigned kind;
	const char *name;
} kinds_of_file[] = {
	{ S_IFREG, IO_FILE, "a file" },
	{ S_IFDIR, IO_DIRECTORY, "a directory" },
	{ S_IFBLK, IO_BLOCK_DEVICE, "a block device" },
	{ S_IFCHR, IO_CHARACTER_DEVICE, "a character device" },
	{ S_IFIFO, IO_FIFO, "a FIFO" },
	{ S_IFSOCK, IO_SOCKET, "a socket" },
	{ S_IFLNK, IO_SYMLINK, "a symbolic link" },
};

static int check_kind(const char *path, mode_t mode, unsigned kinds, struct gw_error *err)
{
	const char *found = "something else", *name;
	char wanted[160] = "";

	for (size_t i = 0; i < ARRAY_SIZE(kinds_of_file); i++) {
		name = kinds_of_file[i].name;
		if ((mode & S_IFMT) == kinds_of_file[i].type) {
			if (kinds & kinds_of_file[i].kind)
				return 0;
			found = name;
		}
		if (kinds & kinds_of_file[i].kind)
			snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "%s%s",
			         wanted[0] ? " or " : "", name);
	}
	return error_set(err, -EINVAL, "%s is %s, not %s", path, found, wanted);
}

/* What stands there is looked at before it is opened, since opening a device can set it off, and
 * again afterwards, since it may have been replaced meanwhile. */
int io_open(int dir_fd, const char *path, int flags, unsigned kinds, struct gw_error *err)
{
	autoclose int fd = -1;
	struct stat st;
	int r;

	if (fstatat(dir_fd, path, &st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) < 0)
		return error_set_sys(err, -errno, "%s", path);
	r = check_kind(path, st.st_mode, kinds, err);
	if (r < 0)
		return r;
	fd = openat(dir_fd, path, flags | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "%s", path);
	r = check_kind(path, st.st_mode, kinds, err);
	if (!r && (r = io_set_nonblock(fd, 0)) < 0)
		error_set_sys(err, r, "%s", path);
	return r < 0 ? r : take_fd(&fd);
}

int io_read_file(const char *path, size_t limit, char **out, size_t *len, struct gw_error *err)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_set_sys(err, -errno, "%s", path)
	              : io_read_all(fd, path, limit, out, len, err);
}

int io_read_all(int fd, const char *name, size_t limit, char **out, size_t *len,
                struct gw_error *err)
{
	autofree char *buf = NULL;
	size_t size = 0, room = 0;

	for (;;) {
		ssize_t n;

		if (size == room) {
			char *more = realloc(buf, (room = room ? room * 2 : 4096) + 1);

			if (!more)
				return error_set(err, -ENOMEM, "%s: out of memory", name);
			buf = more;
		}
		n = read(fd, buf + size, room - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_sys(err, -errno, "%s", name);
		if (n == 0)
			break;
		size += (size_t)n;
		if (size > limit)
			return error_set(err, -EFBIG, "%s: larger than %zu bytes", name, limit);
	}
	buf[size] = 0;
	if (len)
		*len = size;
	*out = take_ptr(&buf);
	return 0;
}

int io_read_line(const char *path, char *buf, size_t size, struct gw_error *err)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return error_set_sys(err, -errno, "%s", path);
	do
		n = read(fd, buf, size - 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set_sys(err, -errno, "%s", path);
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return 0;
}

int io_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int io_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void io_eventfd_signal(int fd)
{
	const uint64_t one = 1;

	/* It can fail only when the counter is full, and then it is signalled already. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

bool io_eventfd_drain(int fd)
{
	uint64_t count;
	struct iovec iov = { &count, sizeof(count) };

	ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP) /* a timerfd, which nobody else has */
		n = read(fd, &count, sizeof(count));
	return n == (ssize_t)sizeof(count);
}

int io_set_nonblock(int fd, int on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}
