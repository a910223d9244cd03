/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/image.h"

#include "base/error.h"
#include "base/util.h"

#include <endian.h>
#include <string.h>

#define IMAGE_MAGIC_AT 56
#define IMAGE_FLAG_BIG_ENDIAN 1
/* Of kernels before 3.17, which do not say their size either. */
#define TEXT_OFFSET_UNSAID 0x80000

/* zboot: "MZ", "zimg", where the packed bytes are, and how they are packed. */
#define ZBOOT_MAGIC_AT 4
#define ZBOOT_OFFSET_AT 8
#define ZBOOT_SIZE_AT 12
#define ZBOOT_METHOD_AT 24
#define ZBOOT_METHOD_SIZE 32 /* up to the header's own mark of a PE file */

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t value;

	memcpy(&value, p, sizeof(value));
	return le64toh(value);
}

int image_parse(const uint8_t header[IMAGE_HEADER_SIZE], struct image_header *out,
                struct gw_error *err)
{
	if (memcmp(header + IMAGE_MAGIC_AT, "ARM\x64", 4))
		return error_set(err, -ENOEXEC, "no arm64 Image");
	if (get64(header + 24) & IMAGE_FLAG_BIG_ENDIAN)
		return error_set(err, -ENOEXEC, "an Image of a big-endian kernel");
	out->text_offset = get64(header + 8);
	out->size = get64(header + 16);
	if (!out->size)
		out->text_offset = TEXT_OFFSET_UNSAID;
	return 0;
}

/* ---- what it is packed in ---- */

static int zboot_packing(const uint8_t *header, uint64_t file_size, struct image_packing *out,
                         struct gw_error *err)
{
	char method[ZBOOT_METHOD_SIZE + 1] = "";

	memcpy(method, header + ZBOOT_METHOD_AT, ZBOOT_METHOD_SIZE);
	out->form = unpack_form_called(method);
	out->offset = get32(header + ZBOOT_OFFSET_AT);
	out->size = get32(header + ZBOOT_SIZE_AT);
	if (!out->form)
		return error_set(err, -ENOEXEC, "packed by \"%s\", which nobody here knows",
		                 method);
	if (out->offset > file_size || out->size > file_size - out->offset)
		return error_set(err, -ENOEXEC,
		                 "cut off: %llu packed bytes at %llu of a file of %llu",
		                 (unsigned long long)out->size, (unsigned long long)out->offset,
		                 (unsigned long long)file_size);
	return unpack_check(out->form, err);
}

int image_packing(const uint8_t header[IMAGE_HEADER_SIZE], uint64_t file_size,
                  struct image_packing *out, struct gw_error *err)
{
	*out = (struct image_packing){ .size = file_size };
	if (!memcmp(header, "MZ", 2) && !memcmp(header + ZBOOT_MAGIC_AT, "zimg", 4))
		return zboot_packing(header, file_size, out, err) < 0
		               ? error_context(err, "an EFI zboot kernel")
		               : 0;
	if (!memcmp(header,
	            "\x7f"
	            "ELF",
	            4))
		return error_set(err, -ENOEXEC, "an ELF file; an Image is what can be started");
	out->form = unpack_form_of(header);
	return out->form ? unpack_check(out->form, err) : 0;
}
