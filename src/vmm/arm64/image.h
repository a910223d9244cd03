/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel as a file: an Image as it is, one in gzip, or one in an EFI
 * application that unpacks itself (zboot), whose gzip is taken out.
 * Sources: Linux, Documentation/arch/arm64/booting.rst, 4 (the header);
 * drivers/firmware/efi/libstub/zboot-header.S (zboot's fields); RFC 1952 (gzip).
 */
#ifndef ARM64_IMAGE_H
#define ARM64_IMAGE_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_HEADER_SIZE 64

/* What the header of an Image says. */
struct image_header {
	uint64_t text_offset; /* from an address that is a multiple of 2 MiB */
	uint64_t size;        /* that it needs, with what follows its bytes; 0: it does not say */
};

/* -ENOEXEC says what it is instead of an Image that can be started. */
int image_parse(const uint8_t header[IMAGE_HEADER_SIZE], struct image_header *out,
                struct gw_error *err);

/* How a file holds an Image. */
struct image_packing {
	bool gzip;
	uint64_t offset, size; /* of the packed bytes in the file */
};

/* From the file's first bytes. -ENOEXEC names a form that is not read. */
int image_packing(const uint8_t header[IMAGE_HEADER_SIZE], uint64_t file_size,
                  struct image_packing *out, struct gw_error *err);

/* Unpacks gzip in [in, in+len) to `out`; *used of `room` bytes are filled. -ENOSPC: they do not
 * suffice; -EBADMSG: it is damaged. */
int image_unpack(const void *in, size_t len, void *out, size_t room, size_t *used,
                 struct gw_error *err);

#endif
