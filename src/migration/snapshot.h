/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot: a directory with
 *     manifest.json  what it is: sizes and checksums of the rest, memory ranges
 *     state          frames as in a stream, without pages (docs/stream.md)
 *     memory         guest RAM, page-aligned ranges; pages of zeros are holes
 *     memory.sums    XXH3-64 of each block of `memory`, little-endian
 * See docs/snapshot.md.
 */
#ifndef MIGRATION_SNAPSHOT_H
#define MIGRATION_SNAPSHOT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define SNAPSHOT_VERSION 1
#define SNAPSHOT_BLOCK (1u << 20)
#define SNAPSHOT_RANGES_MAX 64

struct snapshot_range {
	char participant[40];
	uint64_t gpa, size, offset; /* offset in `memory` */
};

struct snapshot_manifest {
	uint32_t version, machine;
	uint64_t state_size, state_sum;
	uint64_t memory_size;
	uint64_t sums_size, sums_sum;
	struct snapshot_range ranges[SNAPSHOT_RANGES_MAX];
	unsigned range_count;
};

/* As JSON text, released with free(); NULL: out of memory. */
char *manifest_print(const struct snapshot_manifest *m, const char *config);
/* Reads and checks manifest.json in the directory. */
int manifest_read(int dir_fd, struct snapshot_manifest *m, struct gw_error *err);

/* Opens `name` in the directory; its size must be that of the manifest. */
int snapshot_open(int dir_fd, const char *name, uint64_t size, struct gw_error *err);
/* Those of them that are open; -1: not. */
void snapshot_close_files(int dir_fd, int state_fd, int memory_fd);
/* XXH3-64 of a whole file. */
int snapshot_sum_file(int fd, const char *name, uint64_t *sum, struct gw_error *err);
/* Checks `state` and each block of `memory`, by `memory.sums`. Holes are not read. */
int snapshot_verify_state(int fd, const struct snapshot_manifest *m, struct gw_error *err);
int snapshot_verify_memory(int dir_fd, int memory_fd, const struct snapshot_manifest *m,
                           struct gw_error *err);
/* The sum of a block of zeros, which holes are. */
uint64_t snapshot_sum_block(const void *block, uint64_t len);

#endif
