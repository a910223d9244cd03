/* SPDX-License-Identifier: Apache-2.0 */
/* Packed kernels: each form as its own library packs it, whole, cut off, damaged and too large. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/unpack.h"

#include <endian.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* More than one of the blocks that lz4's legacy frames have. */
#define DATA_SIZE (9 * MIB)
#define PACKED_ROOM (12 * MIB)

static uint8_t *data, *packed, *out;

static void set_up(void)
{
	uint32_t x = 1;

	data = malloc(DATA_SIZE);
	packed = malloc(PACKED_ROOM);
	out = malloc(DATA_SIZE + 1);
	cr_assert(data && packed && out);
	/* Each byte of a slow generator is there sixteen times: packing finds something to do. */
	for (size_t i = 0; i < DATA_SIZE; i++) {
		if (i % 16 == 0)
			x = x * 1664525 + 1013904223;
		data[i] = (uint8_t)(x >> 24);
	}
}

static void tear_down(void)
{
	free(data);
	free(packed);
	free(out);
}

/* ---- packing ---- */

static size_t pack_gzip(size_t len)
{
	z_stream z = { .next_in = data, .next_out = packed };

	z.avail_in = (uInt)len;
	z.avail_out = (uInt)PACKED_ROOM;
	cr_assert_eq(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
	cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_zstd(size_t len)
{
	const size_t n = ZSTD_compress(packed, PACKED_ROOM, data, len, 1);

	cr_assert(!ZSTD_isError(n));
	return n;
}

/* With the checksum that the kernel's build asks for. */
static size_t pack_xz(size_t len)
{
	size_t n = 0;

	cr_assert_eq(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, data, len, packed, &n,
	                                     PACKED_ROOM),
	             LZMA_OK);
	return n;
}

static size_t pack_lzma_alone(size_t len, uint32_t dictionary)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_options_lzma options;

	lzma_lzma_preset(&options, 0);
	options.dict_size = dictionary;
	cr_assert_eq(lzma_alone_encoder(&s, &options), LZMA_OK);
	s.next_in = data;
	s.avail_in = len;
	s.next_out = packed;
	s.avail_out = PACKED_ROOM;
	cr_assert_eq(lzma_code(&s, LZMA_FINISH), LZMA_STREAM_END);
	lzma_end(&s);
	return s.total_out;
}

static size_t pack_lzma(size_t len)
{
	return pack_lzma_alone(len, 1 << 18);
}

static size_t put32(size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(packed + at, &value, sizeof(value));
	return at + sizeof(value);
}

static size_t pack_lz4_legacy(size_t len)
{
	size_t n = put32(0, 0x184c2102);

	for (size_t at = 0; at < len; at += 8 * MIB) {
		const int size = (int)MIN(len - at, 8 * MIB);
		const int r = LZ4_compress_default((char *)data + at, (char *)packed + n + 4, size,
		                                   (int)(PACKED_ROOM - n - 4));

		cr_assert_gt(r, 0);
		n = put32(n, (uint32_t)r) + (size_t)r;
	}
	return n;
}

static size_t pack_lz4(size_t len)
{
	LZ4F_preferences_t p = { .frameInfo = { .contentChecksumFlag =
		                                        LZ4F_contentChecksumEnabled } };
	const size_t n = LZ4F_compressFrame(packed, PACKED_ROOM, data, len, &p);

	cr_assert(!LZ4F_isError(n));
	return n;
}

static const struct packer {
	const char *name;
	size_t (*pack)(size_t len);
	bool checked; /* the form has a checksum of what was packed */
} packers[] = {
	{ "gzip", pack_gzip, true },  { "zstd", pack_zstd, false },      { "xz", pack_xz, true },
	{ "lzma", pack_lzma, false }, { "lz4", pack_lz4_legacy, false }, { "lz4", pack_lz4, true },
};

/* ---- unpacking ---- */

static int unpack_to(size_t len, size_t room, size_t *used, struct gw_error *err)
{
	const struct unpack_form *form = unpack_form_of(packed);

	cr_assert_not_null(form);
	return unpack(form, packed, len, out, room, used, err);
}

#define each_packer(p) (const struct packer *p = packers; p < packers + ARRAY_SIZE(packers); p++)

Test(unpack, all_forms_come_out_as_they_went_in, .init = set_up, .fini = tear_down)
{
	for
		each_packer(p)
		{
			const size_t len = p->pack(DATA_SIZE);
			struct gw_error err = { 0 };
			size_t used;

			cr_assert_str_eq(unpack_form_of(packed)->name, p->name);
			cr_assert_lt(len, DATA_SIZE, "%s packs", p->name);
			memset(out, 0, DATA_SIZE);
			cr_assert_eq(unpack_to(len, DATA_SIZE + 1, &used, &err), 0, "%s", err.text);
			cr_assert_eq(used, DATA_SIZE, "%s: %zu", p->name, used);
			cr_assert(!memcmp(out, data, DATA_SIZE), "%s", p->name);
		}
}

Test(unpack, no_more_is_written_than_there_is_room_for, .init = set_up, .fini = tear_down)
{
	static const size_t rooms[] = { DATA_SIZE - 1, 5 * MIB, 100 };

	for
		each_packer(p)
		{
			const size_t len = p->pack(DATA_SIZE);

			for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
				struct gw_error err = { 0 };
				size_t used;

				out[rooms[i]] = 0xa5;
				cr_assert_eq(unpack_to(len, rooms[i], &used, &err), -ENOSPC,
				             "%s, %zu: %s", p->name, rooms[i], err.text);
				cr_assert_eq(out[rooms[i]], 0xa5, "%s writes beyond its room",
				             p->name);
				cr_assert_leq(used, rooms[i]);
				cr_assert_not_null(strstr(err.text, p->name), "%s", err.text);
			}
		}
}

Test(unpack, what_fills_its_room_is_no_error, .init = set_up, .fini = tear_down)
{
	for
		each_packer(p)
		{
			const size_t len = p->pack(DATA_SIZE);
			struct gw_error err = { 0 };
			size_t used;

			cr_assert_eq(unpack_to(len, DATA_SIZE, &used, &err), 0, "%s", err.text);
			cr_assert_eq(used, DATA_SIZE);
		}
}

/* A legacy frame that ends with a block is whole, so this cuts within one; and where it does is
 * said. */
Test(unpack, what_is_cut_off_is_told_from_what_is_too_large, .init = set_up, .fini = tear_down)
{
	for
		each_packer(p)
		{
			const size_t len = p->pack(MIB);
			const size_t cuts[] = { len - 1, len / 2, 7 };

			for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
				struct gw_error err = { 0 };
				char place[32];
				size_t used;

				cr_assert_eq(unpack_to(cuts[i], DATA_SIZE, &used, &err), -EBADMSG,
				             "%s, %zu of %zu: %s", p->name, cuts[i], len, err.text);
				snprintf(place, sizeof(place), " of %zu", cuts[i]);
				cr_assert_not_null(strstr(err.text, place), "%s", err.text);
			}
		}
}

Test(unpack, damage_is_seen_and_never_written_beyond_the_room, .init = set_up, .fini = tear_down)
{
	for
		each_packer(p)
		{
			const size_t len = p->pack(64 * KIB);
			unsigned seen = 0, tries = 0;

			out[DATA_SIZE] = 0xa5;
			for (size_t at = 0; at < len; at += len / 61 + 1, tries++) {
				struct gw_error err = { 0 };
				size_t used = 0;

				packed[at] ^= 0x11;
				if (unpack_form_of(packed))
					seen += unpack_to(len, DATA_SIZE, &used, &err) < 0 ||
					        used != 64 * KIB || memcmp(out, data, used);
				else
					seen++;
				packed[at] ^= 0x11;
				cr_assert_eq(out[DATA_SIZE], 0xa5, "%s", p->name);
			}
			/* Without a checksum it shows in what comes out. Headers have fields that
			 * no decoder minds. */
			cr_assert_geq(seen + (p->checked ? 3 : 6), tries, "%s: %u of %u", p->name,
			              seen, tries);
		}
}

Test(unpack, one_frame_after_the_other, .init = set_up, .fini = tear_down)
{
	static const struct packer *const some[] = { &packers[1], &packers[2], &packers[4],
		                                     &packers[5] };

	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		const size_t len = some[i]->pack(MIB);
		struct gw_error err = { 0 };
		size_t used;

		memcpy(packed + len, packed, len);
		cr_assert_eq(unpack_to(2 * len, DATA_SIZE, &used, &err), 0, "%s", err.text);
		cr_assert_eq(used, 2 * MIB, "%s: %zu", some[i]->name, used);
		cr_assert(!memcmp(out + MIB, data, MIB), "%s", some[i]->name);
	}
}

/* A few bytes that say they need gigabytes to be unpacked. */
Test(unpack, memory_that_only_the_file_asks_for_is_refused, .init = set_up, .fini = tear_down)
{
	/* RFC 8878, 3.1.1.1: no single segment; a window of 2^(10 + 21) bytes; an empty last block.
	 */
	static const uint8_t zstd[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00 };
	struct gw_error err = { 0 };
	size_t used, len = pack_lzma_alone(1000, 1 << 18);

	put32(1, 0xc0000000); /* the dictionary's size */
	cr_assert_eq(unpack_to(len, DATA_SIZE, &used, &err), -E2BIG, "%s", err.text);
	cr_assert_not_null(strstr(err.text, "lzma: unpacking takes more than 256 MiB"), "%s",
	                   err.text);
	memcpy(packed, zstd, sizeof(zstd));
	cr_assert_eq(unpack_to(sizeof(zstd), DATA_SIZE, &used, &err), -E2BIG, "%s", err.text);
}

/* As zboot's header may lie about what follows. */
Test(unpack, what_is_of_another_form_is_refused, .init = set_up, .fini = tear_down)
{
	struct gw_error err = { 0 };
	size_t used = 0, len = pack_gzip(1000);

	cr_assert_eq(unpack(unpack_form_called("xzkern"), packed, len, out, DATA_SIZE, &used, &err),
	             -EBADMSG);
	cr_assert_str_eq(err.text, "it does not begin as xz does");
	cr_assert_eq(unpack(unpack_form_called("gzip"), packed, 1, out, DATA_SIZE, &used, &err),
	             -EBADMSG);
	cr_assert_null(unpack_form_called(""));
}

/* The most that a size of a block can be said to be, and one that ends before its size. */
Test(unpack, lz4_blocks_that_lie, .init = set_up, .fini = tear_down)
{
	struct gw_error err = { 0 };
	size_t used;

	pack_lz4_legacy(MIB);
	put32(4, 0xffffffff);
	cr_assert_eq(unpack_to(PACKED_ROOM, DATA_SIZE, &used, &err), -EBADMSG);
	put32(4, 0);
	cr_assert_eq(unpack_to(8, DATA_SIZE, &used, &err), -EBADMSG);
	cr_assert_eq(unpack_to(6, DATA_SIZE, &used, &err), -EBADMSG);
}
