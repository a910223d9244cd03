/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as files: the header of an Image, and how what it is packed in is told. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/image.h"

#include <endian.h>
#include <string.h>

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
		int r;
	} cases[] = {
		{ "\x1f\x8b\x08", 3, "gzip", 0 },    { "\x28\xb5\x2f\xfd", 4, "zstd", 0 },
		{ "\xfd\x37zXZ", 6, "xz", 0 },       { "\x5d\x00\x00\x80", 4, "lzma", 0 },
		{ "\x02\x21\x4c\x18", 4, "lz4", 0 }, { "\x04\x22\x4d\x18", 4, "lz4", 0 },
		{ "BZh9", 4, "bzip2", -ENOEXEC },    { "\x89LZO", 5, "lzo", -ENOEXEC },
	};
	struct gw_error err = { 0 };
	struct image_packing p;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t h[IMAGE_HEADER_SIZE] = { 0 };

		memcpy(h, cases[i].begin, cases[i].len);
		cr_assert_eq(image_packing(h, 1000, &p, &err), cases[i].r, "%s", cases[i].name);
		cr_assert_str_eq(p.form->name, cases[i].name);
		cr_assert(p.offset == 0 && p.size == 1000);
		if (!cases[i].r)
			continue;
		cr_assert_not_null(strstr(err.text, cases[i].name), "%s", err.text);
		cr_assert_not_null(strstr(err.text, "gzip, zstd, xz, lzma or lz4"), "%s", err.text);
	}
}

Test(image, an_elf_file_is_refused_as_such)
{
	uint8_t h[IMAGE_HEADER_SIZE] = "\x7f"
	                               "ELF";
	struct gw_error err = { 0 };
	struct image_packing p;

	cr_assert_eq(image_packing(h, 1000, &p, &err), -ENOEXEC);
	cr_assert_not_null(strstr(err.text, "ELF"), "%s", err.text);
}

static void make_zboot(uint8_t *h, uint32_t offset, uint32_t size, const char *method)
{
	memset(h, 0, IMAGE_HEADER_SIZE);
	memcpy(h, "MZ\0\0zimg", 8);
	put32(h + 8, offset);
	put32(h + 12, size);
	memcpy(h + 24, method, strlen(method));
}

Test(image, what_a_zboot_kernel_holds_is_found)
{
	static const struct {
		const char *method, *form;
		int r;
	} cases[] = {
		{ "gzip", "gzip", 0 }, { "zstd22", "zstd", 0 }, { "xzkern", "xz", 0 },
		{ "lzma", "lzma", 0 }, { "lz4", "lz4", 0 },     { "lzo", "lzo", -ENOEXEC },
	};
	uint8_t h[IMAGE_HEADER_SIZE];
	struct gw_error err = { 0 };
	struct image_packing p;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make_zboot(h, 0x1000, 0x300, cases[i].method);
		cr_assert_eq(image_packing(h, 0x1300, &p, &err), cases[i].r, "%s", err.text);
		cr_assert_str_eq(p.form->name, cases[i].form);
		cr_assert(p.offset == 0x1000 && p.size == 0x300);
		if (cases[i].r)
			cr_assert_not_null(strstr(err.text, "EFI zboot kernel: a kernel in lzo;"),
			                   "%s", err.text);
	}
}

Test(image, a_zboot_kernel_that_is_none_is_refused)
{
	uint8_t h[IMAGE_HEADER_SIZE];
	struct gw_error err = { 0 };
	struct image_packing p;

	make_zboot(h, 0x1000, 0x300, "gzip");
	cr_assert_eq(image_packing(h, 0x12ff, &p, &err), -ENOEXEC);
	cr_assert_not_null(strstr(err.text, "cut off: 768 packed bytes at 4096 of a file of 4863"),
	                   "%s", err.text);
	make_zboot(h, 0xfffffff0, 0x300, "gzip");
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), -ENOEXEC);
	make_zboot(h, 0x1000, 0x300, "zip");
	cr_assert_eq(image_packing(h, 0x1300, &p, &err), -ENOEXEC);
	cr_assert_not_null(strstr(err.text, "\"zip\""), "%s", err.text);
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
	cr_assert(!p.form && p.offset == 0 && p.size == 777);
}
