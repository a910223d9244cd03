/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as files: the header of an Image, and what it may be packed in. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/image.h"

#include <endian.h>
#include <string.h>
#include <zlib.h>

static void put64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void make_header(uint8_t *h, uint64_t text_offset, uint64_t size, uint64_t flags)
{
	memset(h, 0, IMAGE_HEADER_SIZE);
	put64(h + 8, text_offset);
	put64(h + 16, size);
	put64(h + 24, flags);
	memcpy(h + 56, "ARM\x64", 4);
}

Test(image, a_header_says_where_it_goes)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct image_header image;
	struct gw_error err = { 0 };

	make_header(h, 0x1000, 0x2340000, 0xa);
	cr_assert_eq(image_parse(h, &image, &err), 0, "%s", err.text);
	cr_assert_eq(image.text_offset, 0x1000);
	cr_assert_eq(image.size, 0x2340000);
}

Test(image, an_old_one_says_neither_size_nor_offset)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct image_header image;
	struct gw_error err = { 0 };

	make_header(h, 0x77, 0, 0);
	cr_assert_eq(image_parse(h, &image, &err), 0, "%s", err.text);
	cr_assert_eq(image.text_offset, 0x80000);
}

Test(image, what_is_none_is_refused)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct image_header image;
	struct gw_error err = { 0 };

	make_header(h, 0, 1, 1);
	cr_assert_eq(image_parse(h, &image, &err), -ENOEXEC);
	cr_assert_not_null(strstr(err.text, "big-endian"), "%s", err.text);
	make_header(h, 0, 1, 0);
	h[57] = 'X';
	cr_assert_eq(image_parse(h, &image, &err), -ENOEXEC);
}

Test(image, forms_are_told_apart)
{
	static const struct {
		const char *begin;
		unsigned len;
		const char *name;
	} cases[] = {
		{ "\x28\xb5\x2f\xfd", 4, "zstd" },
		{ "BZh9", 4, "bzip2" },
		{ "\xfd"
		  "7zXZ",
		  5, "xz" },
		{ "\x7f"
		  "ELF",
		  4, "ELF" },
	};
	struct gw_error err = { 0 };
	struct image_packing p;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t h[IMAGE_HEADER_SIZE] = { 0 };

		memcpy(h, cases[i].begin, cases[i].len);
		cr_assert_eq(image_packing(h, 1000, &p, &err), -ENOEXEC);
		cr_assert_not_null(strstr(err.text, cases[i].name), "%s", err.text);
	}
}

static void make_zboot(uint8_t *h, uint32_t offset, uint32_t size, const char *method)
{
	memset(h, 0, IMAGE_HEADER_SIZE);
	memcpy(h, "MZ\0\0zimg", 8);
	put32(h + 8, offset);
	put32(h + 12, size);
	memcpy(h + 24, method, strlen(method));
}

Test(image, the_gzip_of_a_zboot_kernel_is_found)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct gw_error err = { 0 };
	struct image_packing p;

	make_zboot(h, 0x1000, 0x300, "gzip");
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), 0, "%s", err.text);
	cr_assert(p.gzip && p.offset == 0x1000 && p.size == 0x300);
	cr_assert_eq(image_packing(h, 0x12ff, &p, &err), -ENOEXEC, "cut off");
	make_zboot(h, 0xfffffff0, 0x300, "gzip");
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), -ENOEXEC);
	make_zboot(h, 0x1000, 0x300, "zstd22");
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), -ENOEXEC);
	cr_assert_not_null(strstr(err.text, "zstd22"), "%s", err.text);
	memset(h + 24, 'z', 40);
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), -ENOEXEC, "a name without an end");
}

Test(image, a_plain_one_is_the_whole_file)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct gw_error err = { 0 };
	struct image_packing p;

	make_header(h, 0, 1, 0);
	memcpy(h, "MZ", 2); /* it is an EFI application too */
	cr_assert_eq(image_packing(h, 777, &p, &err), 0);
	cr_assert(!p.gzip && p.offset == 0 && p.size == 777);
}

/* As gzip makes it. */
static size_t pack(const void *data, size_t len, uint8_t *out, size_t room)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)data,
		       .avail_in = (uInt)len,
		       .next_out = out,
		       .avail_out = (uInt)room };

	cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

Test(image, gzip_is_unpacked_and_its_damage_seen)
{
	static uint8_t data[100000], packed[120000], out[100001];
	struct gw_error err = { 0 };
	size_t len, used;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 7);
	len = pack(data, sizeof(data), packed, sizeof(packed));
	cr_assert_eq(image_unpack(packed, len, out, sizeof(out), &used, &err), 0, "%s", err.text);
	cr_assert_eq(used, sizeof(data));
	cr_assert_arr_eq(out, data, sizeof(data));
	cr_assert_eq(image_unpack(packed, len, out, sizeof(data) - 1, &used, &err), -ENOSPC);
	cr_assert_eq(image_unpack(packed, len - 9, out, sizeof(out), &used, &err), -EBADMSG);
	packed[len / 2] ^= 0x10;
	cr_assert_lt(image_unpack(packed, len, out, sizeof(out), &used, &err), 0);
}
