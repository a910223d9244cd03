/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_image.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/gunzip.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define CONTENT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Not even root can write to it. */
static bool is_fixed(int fd)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	struct statx x;

	if (seals >= 0 && (seals & CONTENT_SEALS) == CONTENT_SEALS)
		return true;
	return !statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) &&
	       (x.stx_attributes & STATX_ATTR_VERITY);
}

int boot_image_begin(const char *name, struct boot_image *out, struct gw_error *err)
{
	*out = (struct boot_image){ .fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) };
	if (out->fd >= 0)
		return 0;
	out->fd = -1;
	return error_set_sys(err, -errno, "memfd_create");
}

/* Where that is not possible, it is no less our own. */
void boot_image_seal(struct boot_image *image)
{
	fcntl(image->fd, F_ADD_SEALS, CONTENT_SEALS | F_SEAL_SEAL);
}

/* As many bytes, to be written. */
static int make_room(const struct boot_image *image, uint64_t size, void **out,
                     struct gw_error *err)
{
	if (ftruncate(image->fd, (off_t)size) < 0)
		return error_set_sys(err, -errno, "memory for it");
	*out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, image->fd, 0);
	return *out == MAP_FAILED ? error_set_sys(err, -errno, "memory for it") : 0;
}

/* 0 where the file has ended. Not every file system can be sent from (sendfile(2)). */
static ssize_t copy_some(int to, int from, uint64_t at, uint64_t len)
{
	off_t offset = (off_t)at;
	char buf[64 * KIB];
	ssize_t n = sendfile(to, from, &offset, len);

	if (n >= 0 || (errno != EINVAL && errno != ENOSYS))
		return n;
	n = pread(from, buf, MIN(len, sizeof(buf)), (off_t)at);
	return n > 0 && io_write_full(to, buf, (size_t)n) < 0 ? -1 : n;
}

/* By the kernel: what is written to pages that are mapped faults once for each of them. */
static int copy(int from, uint64_t size, struct boot_image *out, struct gw_error *err)
{
	int r = boot_image_begin("boot-image", out, err);

	while (!r && out->size < size) {
		const ssize_t n = copy_some(out->fd, from, out->size, size - out->size);

		if (n > 0)
			out->size += (uint64_t)n;
		else if (!n)
			r = error_set(err, -EAGAIN, "it became shorter while it was read");
		else if (errno != EINTR)
			r = error_set_sys(err, -errno, "copying it");
	}
	if (!r)
		boot_image_seal(out);
	return r;
}

int boot_image_take(const char *path, struct boot_image *out, struct gw_error *err)
{
	autoclose int fd = io_open(AT_FDCWD, path, O_RDONLY, IO_FILE, err);
	struct stat st;
	int r;

	*out = (struct boot_image){ .fd = -1 };
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "%s", path);
	if (!st.st_size)
		return error_set(err, -EINVAL, "%s is empty", path);
	if (is_fixed(fd)) {
		*out = (struct boot_image){ .fd = take_fd(&fd), .size = (uint64_t)st.st_size };
		return 0;
	}
	r = copy(fd, (uint64_t)st.st_size, out, err);
	return r < 0 ? error_context(err, "%s", path) : 0;
}

static int unpack(const struct boot_image *packed, struct boot_image *out, uint64_t limit,
                  struct gw_error *err)
{
	void *from = mmap(NULL, packed->size, PROT_READ, MAP_PRIVATE, packed->fd, 0), *to;
	size_t taken, used = 0;
	int r;

	if (from == MAP_FAILED)
		return error_set_sys(err, -errno, "reading it");
	r = make_room(out, limit, &to, err);
	if (!r) {
		r = gunzip(from, packed->size, &taken, to, limit, &used);
		munmap(to, limit);
		if (r == -ENOSPC)
			error_set(err, r, "gzip: it unpacks to more than %llu bytes",
			          (unsigned long long)limit);
		else if (r == -EBADMSG)
			error_set(err, r, "gzip: damaged or cut off, at byte %zu of %llu", taken,
			          (unsigned long long)packed->size);
		else if (r < 0 || ftruncate(out->fd, (off_t)used) < 0)
			r = error_set_sys(err, r < 0 ? r : -errno, "gzip");
	}
	munmap(from, packed->size);
	out->size = used;
	return r;
}

int boot_image_gunzip(struct boot_image *image, uint64_t limit, struct gw_error *err)
{
	struct boot_image whole;
	int r = boot_image_begin("boot-image", &whole, err);

	if (r < 0)
		return r;
	r = unpack(image, &whole, limit, err);
	if (r < 0) {
		boot_image_close(&whole);
		return r;
	}
	boot_image_seal(&whole);
	boot_image_close(image);
	*image = whole;
	return 0;
}

void boot_image_close(struct boot_image *image)
{
	if (image->fd >= 0)
		close(image->fd);
	image->fd = -1;
}
