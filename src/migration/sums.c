/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/sums.h"

#include "base/util.h"
#include "migration/snapshot.h"

#include <endian.h>
#include <string.h>

static const uint8_t zeros[64 * KIB];

uint64_t sum_of(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

static void begin_block(struct block_sums *b)
{
	XXH3_64bits_reset(&b->running);
	b->filled = 0;
}

static void put(struct block_sums *b, uint64_t sum)
{
	if (b->count == b->room) {
		const size_t room = b->room ? b->room * 2 : 1024;
		uint64_t *more = realloc(b->sums, room * sizeof(*more));

		if (!more) {
			b->failed = true;
			return;
		}
		b->sums = more;
		b->room = room;
	}
	b->sums[b->count++] = htole64(sum);
}

/* No more than is left of the block. */
static void add_piece(struct block_sums *b, const void *data, size_t len)
{
	XXH3_64bits_update(&b->running, data, len);
	b->filled += len;
	if (b->filled < SNAPSHOT_BLOCK)
		return;
	put(b, XXH3_64bits_digest(&b->running));
	begin_block(b);
}

void block_sums_init(struct block_sums *b)
{
	memset(b, 0, sizeof(*b));
	begin_block(b);
	for (size_t i = 0; i < SNAPSHOT_BLOCK; i += sizeof(zeros))
		XXH3_64bits_update(&b->running, zeros, sizeof(zeros));
	b->zero = XXH3_64bits_digest(&b->running);
	begin_block(b);
}

void block_sums_add(struct block_sums *b, const void *data, size_t len)
{
	const uint8_t *from = data;

	while (len) {
		const size_t n = MIN(len, SNAPSHOT_BLOCK - b->filled);

		add_piece(b, from, n);
		from += n;
		len -= n;
	}
}

void block_sums_add_zeros(struct block_sums *b, uint64_t len)
{
	while (len) {
		const uint64_t left = MIN(len, (uint64_t)(SNAPSHOT_BLOCK - b->filled));
		const uint64_t n = left == SNAPSHOT_BLOCK ? left : MIN(left, sizeof(zeros));

		if (n == SNAPSHOT_BLOCK)
			put(b, b->zero);
		else
			add_piece(b, zeros, n);
		len -= n;
	}
}

bool block_sums_end(struct block_sums *b)
{
	if (b->filled)
		put(b, XXH3_64bits_digest(&b->running));
	begin_block(b);
	return !b->failed;
}

void block_sums_fini(struct block_sums *b)
{
	free(b->sums);
	b->sums = NULL;
}
