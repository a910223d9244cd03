/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk_file.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static int device_size(int fd, uint64_t *size, struct gw_error *err)
{
	const int r = io_ioctl(fd, BLKGETSIZE64, size);

	return r < 0 ? error_set_sys(err, r, "BLKGETSIZE64") : 0;
}

/* A limit of the device's request queue, from sysfs; 0 where it is not told. For a partition the
 * queue is its parent's. */
static uint64_t queue_limit(dev_t dev, const char *name)
{
	static const char *const forms[] = { "/sys/dev/block/%u:%u/queue/%s",
		                             "/sys/dev/block/%u:%u/../queue/%s" };
	char path[128], line[32];

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(path, sizeof(path), forms[i], major(dev), minor(dev), name);
#pragma GCC diagnostic pop
		if (!io_read_line(path, line, sizeof(line), NULL))
			return strtoull(line, NULL, 10);
	}
	return 0;
}

static int look_at_device(struct blk_file *file, dev_t dev, struct gw_error *err)
{
	int block = 0;
	int r = device_size(file->fd, &file->size, err);

	if (r < 0)
		return r;
	r = io_ioctl(file->fd, BLKSSZGET, &block);
	if (r < 0 || block < (int)BLK_SECTOR)
		return error_set_sys(err, r < 0 ? r : -EINVAL, "BLKSSZGET");
	file->is_device = true;
	file->block_size = (uint32_t)block;
	file->can_discard = queue_limit(dev, "discard_max_bytes") > 0;
	file->can_zero = queue_limit(dev, "write_zeroes_max_bytes") > 0;
	return 0;
}

/* A hole behind the end changes nothing, and tells whether the file system makes holes. */
static void look_at_file(struct blk_file *file, const struct stat *st)
{
	file->size = (uint64_t)st->st_size;
	file->block_size = BLK_SECTOR;
	if (file->direct) {
		struct statx x;

		/* Linux 6.1; without it, the file system's block is a safe guess. */
		if (!statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) &&
		    (x.stx_mask & STATX_DIOALIGN) && x.stx_dio_offset_align)
			file->block_size = MAX(x.stx_dio_offset_align, BLK_SECTOR);
		else
			file->block_size = MIN((uint32_t)st->st_blksize, 4096u);
	}
	if (!file->read_only && !fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                                   st->st_size, BLK_SECTOR))
		file->can_discard = file->can_zero = true;
}

static int look_at(struct blk_file *file, struct gw_error *err)
{
	struct stat st;
	int r = 0;

	if (fstat(file->fd, &st) < 0)
		return error_set_sys(err, -errno, "fstat");
	if (S_ISBLK(st.st_mode))
		r = look_at_device(file, st.st_rdev, err);
	else if (S_ISREG(st.st_mode))
		look_at_file(file, &st);
	else
		r = error_set(err, -EINVAL, "neither a file nor a block device");
	if (!r && (!file->size || file->size % file->block_size))
		r = error_set(err, -EINVAL, "its size, %llu bytes, is no multiple of %u",
		              (unsigned long long)file->size, file->block_size);
	return r;
}

int blk_file_open(const char *path, int fd, bool read_only, bool direct, struct blk_file *out,
                  struct gw_error *err)
{
	int r;

	*out = (struct blk_file){ .fd = fd, .read_only = read_only, .direct = direct };
	if (fd < 0)
		out->fd = io_open(AT_FDCWD, path,
		                  (read_only ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0),
		                  IO_FILE | IO_BLOCK_DEVICE, err);
	if (out->fd < 0)
		return out->fd;
	r = look_at(out, err);
	if (r < 0) {
		blk_file_close(out);
		return error_context(err, "%s", path);
	}
	return 0;
}

void blk_file_close(struct blk_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

static int set_lock(const struct blk_file *file, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(file->fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int blk_file_lock(const struct blk_file *file, struct gw_error *err)
{
	const int r = set_lock(file, file->read_only ? F_RDLCK : F_WRLCK);

	if (r == -EAGAIN || r == -EACCES)
		return error_set(err, -EBUSY, "the disk is in use: another process has locked it");
	/* A file system without locks. */
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	return r < 0 ? error_set_sys(err, r, "lock") : 0;
}

void blk_file_unlock(const struct blk_file *file)
{
	set_lock(file, F_UNLCK);
}

int blk_file_resize(struct blk_file *file, uint64_t size, struct gw_error *err)
{
	uint64_t now = size;
	int r = 0;

	if (size % file->block_size || !size)
		return error_set(err, -EINVAL, "size: %llu is no multiple of %u",
		                 (unsigned long long)size, file->block_size);
	if (file->is_device)
		r = device_size(file->fd, &now, err);
	else if (size < file->size)
		return error_set(err, -EINVAL,
		                 "size: %llu is less than the disk has, %llu: data would be lost",
		                 (unsigned long long)size, (unsigned long long)file->size);
	else if (ftruncate(file->fd, (off_t)size) < 0)
		r = error_set_sys(err, -errno, "ftruncate to %llu bytes", (unsigned long long)size);
	if (!r && now != size)
		r = error_set(err, -EINVAL, "size: the block device has %llu bytes",
		              (unsigned long long)now);
	if (!r)
		file->size = size;
	return r;
}
