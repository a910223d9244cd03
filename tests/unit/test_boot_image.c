/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and initrds are kept as they were, whatever becomes of their files. */
#include <criterion/criterion.h>

#include "base/io.h"
#include "base/util.h"
#include "fake_statx.h"
#include "vmm/boot_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

static const char *path_of(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "/tmp/godwit-image-%d-%s", getpid(), name);
	return path;
}

static int make(const char *path, const void *what, size_t len)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(io_write_full(fd, what, len), 0);
	return fd;
}

static void holds(const struct boot_image *image, const char *what)
{
	char now[64] = "";

	cr_assert_eq(image->size, strlen(what));
	cr_assert_eq(io_pread_full(image->fd, now, image->size, 0), 0);
	cr_assert_str_eq(now, what);
}

static ino_t inode(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

Test(boot_image, a_file_that_changes_or_shrinks_does_not_matter)
{
	const char *path = path_of("changes");
	const int fd = make(path, "as it was", 9);
	struct boot_image image;
	struct gw_error err;

	cr_assert_eq(boot_image_take(path, &image, &err), 0, "%s", err.text);
	cr_assert_eq(io_pwrite_full(fd, "AND IS", 6, 0), 0);
	holds(&image, "as it was");
	cr_assert_eq(ftruncate(fd, 0), 0);
	holds(&image, "as it was");
	cr_assert_lt(pwrite(image.fd, "x", 1, 0), 0, "it is sealed");
	boot_image_close(&image);
	cr_assert_eq(boot_image_take(path, &image, &err), -EINVAL);
	cr_assert(strstr(err.text, path) && strstr(err.text, "is empty"), "%s", err.text);
	boot_image_close(&image);
	unlink(path);
	close(fd);
}

Test(boot_image, what_cannot_change_is_shared)
{
	const int fd = memfd_create("kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const char *path = path_of("verity");
	const int file = make(path, "protected", 9);
	struct boot_image first, second;
	struct gw_error err;
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	cr_assert_eq(io_write_full(fd, "kernel", 6), 0);
	cr_assert_eq(boot_image_take(name, &first, &err), 0, "%s", err.text);
	cr_assert_neq(inode(first.fd), inode(fd), "it can be written");
	boot_image_close(&first);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
	cr_assert_eq(boot_image_take(name, &first, &err), 0, "%s", err.text);
	cr_assert_eq(boot_image_take(name, &second, &err), 0, "%s", err.text);
	cr_assert(inode(first.fd) == inode(fd) && inode(second.fd) == inode(fd));
	holds(&second, "kernel");
	boot_image_close(&first);
	boot_image_close(&second);
	fake_statx.by_verity = true;
	cr_assert_eq(boot_image_take(path, &first, &err), 0, "%s", err.text);
	cr_assert_eq(inode(first.fd), inode(file));
	boot_image_close(&first);
	unlink(path);
	close(file);
	close(fd);
}

static size_t pack(const char *what, size_t len, uint8_t *out, size_t room)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)what,
		       .avail_in = (uInt)len,
		       .next_out = out,
		       .avail_out = (uInt)room };

	cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

Test(boot_image, is_unpacked)
{
	static char zeros[100000];
	const char *path = path_of("packed");
	struct boot_image image;
	struct gw_error err;
	uint8_t packed[4096];
	size_t len = pack("unpacked", 8, packed, sizeof(packed));

	close(make(path, packed, len));
	cr_assert_eq(boot_image_take(path, &image, &err), 0, "%s", err.text);
	cr_assert_eq(boot_image_gunzip(&image, 8, &err), 0, "%s", err.text);
	holds(&image, "unpacked");
	boot_image_close(&image);
	/* Cut off, and more than there may be. */
	close(make(path, packed, len - 9));
	cr_assert_eq(boot_image_take(path, &image, &err), 0, "%s", err.text);
	cr_assert_eq(boot_image_gunzip(&image, 100, &err), -EBADMSG);
	cr_assert(strstr(err.text, "damaged or cut off"), "%s", err.text);
	boot_image_close(&image);
	len = pack(zeros, sizeof(zeros), packed, sizeof(packed));
	close(make(path, packed, len));
	cr_assert_eq(boot_image_take(path, &image, &err), 0, "%s", err.text);
	cr_assert_eq(boot_image_gunzip(&image, sizeof(zeros) - 1, &err), -ENOSPC);
	cr_assert(strstr(err.text, "more than 99999 bytes"), "%s", err.text);
	cr_assert_eq(image.size, len, "it is as it was");
	boot_image_close(&image);
	unlink(path);
}
