/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel as a file: an Image as it is, one that is packed (unpack.h), or one
 * in an EFI application that unpacks itself (zboot), out of which it is taken.
 * Sources: Linux, Documentation/arch/arm64/booting.rst, 4 (the header);
 * drivers/firmware/efi/libstub/zboot-header.S (zboot's fields).
 */
#ifndef ARM64_IMAGE_H
#define ARM64_IMAGE_H

#include "godwit.h"
#include "vmm/arm64/unpack.h"

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
	const struct unpack_form *form; /* NULL: as it is */
	uint64_t offset, size;          /* of the packed bytes in the file */
};

/* From the file's first bytes. -ENOEXEC names a form that is not read. */
int image_packing(const uint8_t header[IMAGE_HEADER_SIZE], uint64_t file_size,
                  struct image_packing *out, struct gw_error *err);

#endif
