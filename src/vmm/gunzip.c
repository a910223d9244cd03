/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gunzip.h"

#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>

/* 16: a gzip header is expected around the data (zlib.h, inflateInit2). */
int gunzip(const void *in, size_t len, size_t *taken, void *out, size_t room, size_t *used)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .next_out = out };
	int r;

	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	do {
		z.avail_in = (uInt)MIN(len - z.total_in, (size_t)UINT_MAX);
		z.avail_out = (uInt)MIN(room - z.total_out, (size_t)UINT_MAX);
		r = inflate(&z, Z_NO_FLUSH);
	} while (r == Z_OK);
	*taken = z.total_in;
	*used = z.total_out;
	inflateEnd(&z);
	switch (r) {
	case Z_STREAM_END:
		return 0;
	case Z_MEM_ERROR:
		return -ENOMEM;
	default:
		return r == Z_BUF_ERROR && *used == room ? -ENOSPC : -EBADMSG;
	}
}
