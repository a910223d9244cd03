/* SPDX-License-Identifier: Apache-2.0 */
/* What is behind a disk: a raw file or a block device, its size, limits and lock. */
#ifndef VMM_VIRTIO_BLK_FILE_H
#define VMM_VIRTIO_BLK_FILE_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

#define BLK_SECTOR 512u

struct blk_file {
	int fd;
	bool read_only, direct;
	bool is_device;
	bool can_discard, can_zero; /* fallocate() or its like works */
	uint64_t size;              /* bytes; whole sectors */
	uint32_t block_size;        /* logical: what direct I/O has to be aligned to */
};

/* Opens `path`, or takes `fd` over (>= 0; then `path` only names it in messages). */
int blk_file_open(const char *path, int fd, bool read_only, bool direct, struct blk_file *out,
                  struct gw_error *err);
void blk_file_close(struct blk_file *file);

/* Keeps others from writing what we use, or from using what we write: an open file description
 * lock, given back by blk_file_unlock() or the end of the descriptor. -EBUSY. Does nothing where
 * the file system has no locks. */
int blk_file_lock(const struct blk_file *file, struct gw_error *err);
void blk_file_unlock(const struct blk_file *file);

/* Grows a file to `size` bytes; a device is looked at again, and `size` must be what it has. */
int blk_file_resize(struct blk_file *file, uint64_t size, struct gw_error *err);

#endif
