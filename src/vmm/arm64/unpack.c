/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/unpack.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/gunzip.h"

#include <endian.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/* What unpacking may take for itself: a kernel's own build makes dictionaries of 128 MiB. zstd's
 * own limit is a window of that size. */
#define MEMORY_MAX (256 * MIB)

static int unpack_gzip(struct unpack_job *j)
{
	return gunzip(j->in, j->len, &j->taken, j->out, j->room, &j->used);
}

/* Both .xz and .lzma, which its decoder tells apart. */
static int unpack_lzma(struct unpack_job *j)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret r = lzma_auto_decoder(&s, MEMORY_MAX, LZMA_CONCATENATED);

	s.next_in = j->in;
	s.avail_in = j->len;
	s.next_out = j->out;
	s.avail_out = j->room;
	while (r == LZMA_OK)
		r = lzma_code(&s, LZMA_FINISH);
	j->taken = s.total_in;
	j->used = s.total_out;
	lzma_end(&s);
	switch (r) {
	case LZMA_STREAM_END:
		return 0;
	case LZMA_MEM_ERROR:
		return -ENOMEM;
	case LZMA_MEMLIMIT_ERROR:
		return -E2BIG;
	default:
		return r == LZMA_BUF_ERROR && j->used == j->room ? -ENOSPC : -EBADMSG;
	}
}

static int zstd_status(const struct unpack_job *j, size_t left)
{
	switch (ZSTD_getErrorCode(left)) {
	case ZSTD_error_no_error:
		break;
	case ZSTD_error_memory_allocation:
		return -ENOMEM;
	case ZSTD_error_frameParameter_windowTooLarge:
		return -E2BIG;
	default:
		return -EBADMSG;
	}
	if (!left && j->taken == j->len)
		return 0;
	return j->used == j->room ? -ENOSPC : -EBADMSG;
}

/* One frame after the other, until nothing moves any more: at the end, where no room is left, or
 * where the data are cut off. */
static int unpack_zstd(struct unpack_job *j)
{
	ZSTD_inBuffer in = { .src = j->in, .size = j->len };
	ZSTD_outBuffer out = { .dst = j->out, .size = j->room };
	ZSTD_DStream *d = ZSTD_createDStream();
	size_t left = 1, before;

	if (!d)
		return -ENOMEM;
	do {
		before = in.pos + out.pos;
		left = ZSTD_decompressStream(d, &out, &in);
	} while (!ZSTD_isError(left) && in.pos + out.pos != before && (left || in.pos < in.size));
	ZSTD_freeDStream(d);
	j->taken = in.pos;
	j->used = out.pos;
	return zstd_status(j, left);
}

static int unpack_lz4(struct unpack_job *j)
{
	LZ4F_dctx *d;
	size_t left = 1, took, gave;

	if (LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION)))
		return -ENOMEM;
	do {
		took = j->len - j->taken;
		gave = j->room - j->used;
		left = LZ4F_decompress(d, j->out + j->used, &gave, j->in + j->taken, &took, NULL);
		j->taken += took;
		j->used += gave;
	} while (!LZ4F_isError(left) && (took || gave) && (left || j->taken < j->len));
	LZ4F_freeDecompressionContext(d);
	if (!left && j->taken == j->len)
		return 0;
	return !LZ4F_isError(left) && j->used == j->room ? -ENOSPC : -EBADMSG;
}

/* ---- lz4's legacy frame, which is what the kernel's build makes ---- */

#define LEGACY_MAGIC 0x184c2102u
#define LEGACY_BLOCK ((int)(8 * MIB)) /* unpacked, all blocks but the last */

/* Where less than a whole block fits, whether this one does is only known from what it comes to. */
static int legacy_last_block(struct unpack_job *j, int packed)
{
	autofree char *block = malloc(LEGACY_BLOCK);
	int r;

	if (!block)
		return -ENOMEM;
	r = LZ4_decompress_safe((const char *)j->in + j->taken, block, packed, LEGACY_BLOCK);
	if (r < 0)
		return -EBADMSG;
	if ((size_t)r > j->room - j->used)
		return -ENOSPC;
	memcpy(j->out + j->used, block, (size_t)r);
	return r;
}

/* Until what is to be unpacked ends, or another frame begins. */
static int unpack_lz4_legacy(struct unpack_job *j)
{
	while (j->taken < j->len) {
		uint32_t packed;
		int r;

		if (j->len - j->taken < sizeof(packed))
			return -EBADMSG;
		memcpy(&packed, j->in + j->taken, sizeof(packed));
		packed = le32toh(packed);
		j->taken += sizeof(packed);
		if (packed == LEGACY_MAGIC)
			continue;
		if (packed > j->len - j->taken ||
		    packed > (uint32_t)LZ4_compressBound(LEGACY_BLOCK))
			return -EBADMSG;
		if (j->room - j->used < (size_t)LEGACY_BLOCK)
			r = legacy_last_block(j, (int)packed);
		else
			r = LZ4_decompress_safe((const char *)j->in + j->taken,
			                        (char *)j->out + j->used, (int)packed,
			                        LEGACY_BLOCK);
		if (r < 0)
			return r == -ENOMEM || r == -ENOSPC ? r : -EBADMSG;
		j->taken += packed;
		j->used += (size_t)r;
	}
	return 0;
}

/* ---- the table ---- */

/* Of two with one name the first is the one that zboot means. */
static const struct unpack_form forms[] = {
	{ "gzip", NULL, GZIP_MAGIC, GZIP_MAGIC_LEN, unpack_gzip },
	{ "zstd", "zstd22", "\x28\xb5\x2f\xfd", 4, unpack_zstd },
	{ "xz", "xzkern", "\xfd\x37zXZ", 5, unpack_lzma },
	{ "lzma", NULL, "\x5d\x00\x00", 3, unpack_lzma },
	{ "lz4", NULL, "\x02\x21\x4c\x18", 4, unpack_lz4_legacy },
	{ "lz4", NULL, "\x04\x22\x4d\x18", 4, unpack_lz4 },
	{ "bzip2", NULL, "BZh", 3, NULL },
	{ "lzo", NULL, "\x89LZO", 4, NULL },
};

const struct unpack_form *unpack_form_of(const uint8_t begin[UNPACK_MAGIC_MAX])
{
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (!memcmp(begin, forms[i].magic, forms[i].magic_len))
			return &forms[i];
	return NULL;
}

const struct unpack_form *unpack_form_called(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (!strcmp(name, forms[i].name) ||
		    (forms[i].zboot && !strcmp(name, forms[i].zboot)))
			return &forms[i];
	return NULL;
}

int unpack_check(const struct unpack_form *form, struct gw_error *err)
{
	if (form->unpack)
		return 0;
	return error_set(err, -ENOEXEC,
	                 "a kernel in %s; an Image is read as it is or in gzip, zstd, xz, lzma or "
	                 "lz4",
	                 form->name);
}

int unpack(const struct unpack_form *form, const void *in, size_t len, void *out, size_t room,
           size_t *used, struct gw_error *err)
{
	struct unpack_job j = { .in = in, .len = len, .out = out, .room = room };
	int r;

	if (len < form->magic_len || memcmp(in, form->magic, form->magic_len))
		return error_set(err, -EBADMSG, "it does not begin as %s does", form->name);
	r = form->unpack(&j);
	*used = j.used;
	switch (r) {
	case 0:
		return 0;
	case -ENOSPC:
		return error_set(err, r, "%s: it unpacks to more than %zu bytes", form->name, room);
	case -E2BIG:
		return error_set(err, r, "%s: unpacking takes more than %llu MiB of memory",
		                 form->name, MEMORY_MAX / MIB);
	case -EBADMSG:
		return error_set(err, r, "%s: damaged or cut off, at byte %zu of %zu", form->name,
		                 j.taken, len);
	default:
		return error_set_sys(err, r, "%s", form->name);
	}
}
