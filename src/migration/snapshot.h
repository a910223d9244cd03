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
#include "base/util.h"

#include <stdbool.h>
#include <stdint.h>

#define SNAPSHOT_VERSION 1
#define SNAPSHOT_BLOCK (1u << 20)
#define SNAPSHOT_RANGES_MAX 64
/* More than any machine has: what a manifest claims bounds what verifying it costs. */
#define SNAPSHOT_MEMORY_MAX (16384 * GIB)

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

/* Opens `name` in the directory, which must be a file, and of the size that the manifest has. */
int snapshot_open(int dir_fd, const char *name, uint64_t size, struct gw_error *err);
/* Those of them that are open; -1: not. */
void snapshot_close_files(int dir_fd, int state_fd, int memory_fd);

/* Verify `state`: its frames follow each other up to END, and its sum; and each block of `memory`
 * by `memory.sums`. Holes are not read, so the cost goes by what is on the disk. -ECANCELED as soon
 * as `cancel_fd` is readable (-1: never). */
int snapshot_verify_state(int fd, const struct snapshot_manifest *m, int cancel_fd,
                          struct gw_error *err);
int snapshot_verify_memory(int dir_fd, int memory_fd, const struct snapshot_manifest *m,
                           int cancel_fd, struct gw_error *err);

#endif
