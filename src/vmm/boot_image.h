/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel or an initrd as it was when the machine was made: whatever becomes of the file, a reset
 * loads the same bytes again, and a save and a move take them along.
 */
#ifndef VMM_BOOT_IMAGE_H
#define VMM_BOOT_IMAGE_H

#include "godwit.h"

#include <stdint.h>

struct boot_image {
	int fd; /* -1: none */
	uint64_t size;
};

/* Takes a file. One that cannot change (a sealed memfd, by /proc/self/fd/N or /dev/fd/N; a file
 * that fs-verity protects) is used as it is, so that many VMs share it in memory; any other one is
 * copied, to memory that is this image's alone. The caller closes `out` in any case. Errors name
 * the file: those of open() and read(), -EINVAL empty, -EAGAIN it became shorter meanwhile,
 * -ENOMEM. */
int boot_image_take(const char *path, struct boot_image *out, struct gw_error *err);

/* An empty one, for bytes that come from elsewhere, and the end of that. */
int boot_image_begin(const char *name, struct boot_image *out, struct gw_error *err);
void boot_image_seal(struct boot_image *image);

/* Puts what was packed by gzip in its own place; more than `limit` bytes are -ENOSPC. -EBADMSG:
 * damaged. */
int boot_image_gunzip(struct boot_image *image, uint64_t limit, struct gw_error *err);

void boot_image_close(struct boot_image *image);

#endif
