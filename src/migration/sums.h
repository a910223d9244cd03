/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums of a snapshot: XXH3-64 of what is written, taken as it is
 * handed to the disk, and never read back from there.
 */
#ifndef MIGRATION_SUMS_H
#define MIGRATION_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The sum of a block that is at hand. */
uint64_t sum_of(const void *data, size_t len);

/* The sums of the blocks of a file that grows at its end. */
struct block_sums {
	uint64_t *sums; /* of the whole blocks, little-endian; block_sums_end() adds the last */
	size_t count, room;
	size_t filled; /* of the block that `running` is of */
	uint64_t zero; /* the sum of a block of zeros, which are summed once */
	bool failed;   /* out of memory */
	XXH3_state_t running;
};

void block_sums_init(struct block_sums *b);
void block_sums_add(struct block_sums *b, const void *data, size_t len);
void block_sums_add_zeros(struct block_sums *b, uint64_t len);
/* The last block, which may be shorter. False: out of memory, here or before. */
bool block_sums_end(struct block_sums *b);
void block_sums_fini(struct block_sums *b);

#endif
