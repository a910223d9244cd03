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
	uint64_t size; /* bytes: whole sectors, and a multiple of `align` */
	/* What the host takes as it is. Places and lengths in the file are multiples of `align`; so
	 * are the lengths of pieces of memory, and their addresses are multiples of `memory_align`.
	 * 1 where I/O goes through the page cache. */
	uint32_t align, memory_align;
	uint32_t range_align; /* of what is discarded or zeroed */
	/* The same for two descriptors of the same disk. */
	uint64_t device, inode;
};

/* Opens `path`, or takes `fd` over (>= 0; then `path` only names it in messages). */
int blk_file_open(const char *path, int fd, bool read_only, bool direct, struct blk_file *out,
                  struct gw_error *err);
void blk_file_close(struct blk_file *file);
bool blk_file_same(const struct blk_file *a, const struct blk_file *b);
/* -EINVAL for the image of a format that is not raw, or a compressed one: what it is, and how it is
 * made raw. `path` names it. Source: the formats' specifications, a row each in blk_format.c. */
int blk_file_check_raw(const struct blk_file *file, const char *path, struct gw_error *err);

/* Keeps others from writing what we use, or from using what we write: an open file description
 * lock, given back by blk_file_unlock() or the end of the descriptor. -EBUSY. Does nothing where
 * the file system has no locks. */
int blk_file_lock(const struct blk_file *file, struct gw_error *err);
void blk_file_unlock(const struct blk_file *file);

/* Grows a file to `size` bytes; a device is looked at again, and `size` must be what it has. */
int blk_file_resize(struct blk_file *file, uint64_t size, struct gw_error *err);

#endif
