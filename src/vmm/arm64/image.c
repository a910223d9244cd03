/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/image.h"

#include "base/error.h"
#include "base/util.h"

#include <endian.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>

#define IMAGE_MAGIC_AT 56
#define IMAGE_FLAG_BIG_ENDIAN 1
/* Of kernels before 3.17, which do not say their size either. */
#define TEXT_OFFSET_UNSAID 0x80000

/* zboot: "MZ", "zimg", where the packed bytes are, and how they are packed. */
#define ZBOOT_MAGIC_AT 4
#define ZBOOT_OFFSET_AT 8
#define ZBOOT_SIZE_AT 12
#define ZBOOT_METHOD_AT 24
#define ZBOOT_METHOD_SIZE 32

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

/* Forms that are known and not read, by their first bytes. */
static const struct {
	const char *magic;
	uint8_t len;
	const char *name;
} other_forms[] = {
	{ "\x28\xb5\x2f\xfd", 4, "zstd" },
	{ "\xfd"
	  "7zXZ",
	  5, "xz" },
	{ "BZh", 3, "bzip2" },
	{ "\x02\x21\x4c\x18", 4, "lz4" },
	{ "\x89LZO", 4, "lzo" },
	{ "\x5d\x00\x00", 3, "lzma" },
	{ "\x7f"
	  "ELF",
	  4, "ELF" },
};

static int zboot_packing(const uint8_t *header, uint64_t file_size, struct image_packing *out,
                         struct gw_error *err)
{
	char method[ZBOOT_METHOD_SIZE + 1] = "";

	memcpy(method, header + ZBOOT_METHOD_AT, ZBOOT_METHOD_SIZE);
	out->offset = get32(header + ZBOOT_OFFSET_AT);
	out->size = get32(header + ZBOOT_SIZE_AT);
	if (strcmp(method, "gzip"))
		return error_set(err, -ENOEXEC,
		                 "an EFI zboot kernel packed by \"%s\"; only gzip is read", method);
	if (out->offset > file_size || out->size > file_size - out->offset)
		return error_set(err, -ENOEXEC, "an EFI zboot kernel that is cut off");
	out->gzip = true;
	return 0;
}

int image_packing(const uint8_t header[IMAGE_HEADER_SIZE], uint64_t file_size,
                  struct image_packing *out, struct gw_error *err)
{
	*out = (struct image_packing){ .size = file_size };
	if (!memcmp(header, "\x1f\x8b", 2)) {
		out->gzip = true;
		return 0;
	}
	if (!memcmp(header, "MZ", 2) && !memcmp(header + ZBOOT_MAGIC_AT, "zimg", 4))
		return zboot_packing(header, file_size, out, err);
	for (size_t i = 0; i < ARRAY_SIZE(other_forms); i++)
		if (!memcmp(header, other_forms[i].magic, other_forms[i].len))
			return error_set(err, -ENOEXEC,
			                 "a kernel in %s; an Image, plain or in gzip, is read",
			                 other_forms[i].name);
	return 0;
}

/* 16: a gzip header is expected around the data (zlib.h, inflateInit2). */
int image_unpack(const void *in, size_t len, void *out, size_t room, size_t *used,
                 struct gw_error *err)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .next_out = out };
	int r;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return error_set(err, -ENOMEM, "unpacking: out of memory");
	do {
		z.avail_in = (uInt)MIN(len - z.total_in, (size_t)UINT_MAX);
		z.avail_out = (uInt)MIN(room - z.total_out, (size_t)UINT_MAX);
		r = inflate(&z, Z_NO_FLUSH);
	} while (r == Z_OK);
	*used = z.total_out;
	inflateEnd(&z);
	if (r == Z_STREAM_END)
		return 0;
	if (*used == room)
		return error_set(err, -ENOSPC, "unpacking: it needs more than %zu bytes", room);
	return error_set(err, -EBADMSG, "unpacking: the data are damaged or cut off");
}
