/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NUMA nodes as the guest is told of them: whose CPUs and memory are near each
 * other. RAM is dealt out to the nodes in their order; where it is in pieces,
 * around the architecture's holes, a node may have several.
 */
#ifndef VMM_NUMA_H
#define VMM_NUMA_H

#include "vmm/config.h"

struct numa {
	unsigned nodes; /* 0: the guest is told of none, and everything is in node 0 */
	uint8_t cpu[CONFIG_CPUS_MAX];      /* each vCPU's node */
	uint64_t memory[CONFIG_NODES_MAX]; /* each node's, in bytes */
	bool distances;
	uint8_t distance[CONFIG_NODES_MAX][CONFIG_NODES_MAX]; /* [from][to] */
	unsigned pci;                                         /* the root bus's node */
};

/* From a configuration that has been checked. */
void numa_make(const struct config *config, struct numa *out);

/* A part of a piece of RAM. */
struct numa_part {
	uint64_t offset, size; /* in the piece */
	unsigned node;
};

/* Cuts a piece of RAM, with `before` bytes of RAM in the pieces before it, between the nodes.
 * Returns the number of parts; one in node 0 if `numa` is NULL or has no nodes. */
unsigned numa_cut(const struct numa *numa, uint64_t before, uint64_t size,
                  struct numa_part out[CONFIG_NODES_MAX]);

/* Every `len` vCPUs in a row, from vCPU 0 on, are of one node; *first is where that fails. */
bool numa_keeps_together(const struct numa *numa, unsigned cpus, unsigned len, unsigned *first);

#endif
