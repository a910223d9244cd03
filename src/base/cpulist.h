/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of CPUs or NUMA nodes as the kernel writes them: "0-3,8", "5". */
#ifndef BASE_CPULIST_H
#define BASE_CPULIST_H

#include <stdbool.h>
#include <stdint.h>

#define CPULIST_MAX 4096

struct cpulist {
	uint64_t bits[CPULIST_MAX / 64];
};

/* False: not such a list, empty, backwards, or a number from CPULIST_MAX on. */
bool cpulist_parse(const char *text, struct cpulist *out);
bool cpulist_has(const struct cpulist *list, unsigned n);
/* The first of `list` that `of` has not; -1: all are in it. */
int cpulist_first_outside(const struct cpulist *list, const struct cpulist *of);

#endif
