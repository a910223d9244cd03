/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk_file.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>

static int device_size(int fd, uint64_t *size, struct gw_error *err)
{
	const int r = io_ioctl(fd, BLKGETSIZE64, size);

	return r < 0 ? error_set_sys(err, r, "BLKGETSIZE64") : 0;
}

static int look_at_device(struct blk_file *file, const struct stat *st, struct gw_error *err)
{
	int block = 0;
	int r = device_size(file->fd, &file->size, err);

	if (r < 0)
		return r;
	r = io_ioctl(file->fd, BLKSSZGET, &block);
	if (r < 0 || block < (int)BLK_SECTOR)
		return error_set_sys(err, r < 0 ? r : -EINVAL, "BLKSSZGET");
	file->is_device = true;
	file->range_align = (uint32_t)block;
	if (file->direct)
		file->align = file->memory_align = (uint32_t)block;
	file->device = st->st_rdev;
	return 0;
}

static void look_at_file(struct blk_file *file, const struct stat *st)
{
	struct statx x;

	file->size = (uint64_t)st->st_size;
	file->device = st->st_dev;
	file->inode = st->st_ino;
	if (!file->direct)
		return;
	/* Linux 6.1; without it, the file system's block is a safe guess. */
	if (!statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) &&
	    (x.stx_mask & STATX_DIOALIGN) && x.stx_dio_offset_align) {
		file->align = x.stx_dio_offset_align;
		file->memory_align = MAX(x.stx_dio_mem_align, 1u);
	} else {
		file->align = file->memory_align = MIN((uint32_t)st->st_blksize, 4096u);
	}
}

static int check_size(const struct blk_file *file, struct gw_error *err)
{
	if (!file->size || file->size % BLK_SECTOR)
		return error_set(err, -EINVAL, "its size, %llu bytes, is no multiple of %u",
		                 (unsigned long long)file->size, BLK_SECTOR);
	if (file->size % file->align)
		return error_set(
		        err, -EINVAL,
		        "its size, %llu bytes, is no multiple of %u, as direct I/O needs it "
		        "here: enlarge it, or leave out \"direct\"",
		        (unsigned long long)file->size, file->align);
	return 0;
}

static int look_at(struct blk_file *file, struct gw_error *err)
{
	struct stat st;
	int r = 0;

	if (fstat(file->fd, &st) < 0)
		return error_set_sys(err, -errno, "fstat");
	if (S_ISBLK(st.st_mode))
		r = look_at_device(file, &st, err);
	else if (S_ISREG(st.st_mode))
		look_at_file(file, &st);
	else
		r = error_set(err, -EINVAL, "neither a file nor a block device");
	return r < 0 ? r : check_size(file, err);
}

int blk_file_open(const char *path, int fd, bool read_only, bool direct, struct blk_file *out,
                  struct gw_error *err)
{
	int r;

	*out = (struct blk_file){
		.fd = fd,
		.read_only = read_only,
		.direct = direct,
		.align = 1,
		.memory_align = 1,
		.range_align = 1,
	};
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

bool blk_file_same(const struct blk_file *a, const struct blk_file *b)
{
	return a->is_device == b->is_device && a->device == b->device && a->inode == b->inode;
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
	const uint32_t unit = MAX(file->align, BLK_SECTOR);
	uint64_t now = size;
	int r = 0;

	if (size % unit || !size)
		return error_set(err, -EINVAL, "size: %llu is no multiple of %u",
		                 (unsigned long long)size, unit);
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
