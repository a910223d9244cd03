/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/numa.h"

#include "base/cpulist.h"
#include "base/util.h"

#include <string.h>

void numa_make(const struct config *config, struct numa *out)
{
	memset(out, 0, sizeof(*out));
	out->nodes = config->node_count;
	out->pci = config->pci.node;
	for (unsigned i = 0; i < config->node_count; i++) {
		const struct config_node *node = &config->numa[i];
		struct cpulist cpus;

		out->memory[i] = node->memory;
		if (node->cpus[0] && cpulist_parse(node->cpus, &cpus))
			for (unsigned c = 0; c < ARRAY_SIZE(out->cpu); c++)
				if (cpulist_has(&cpus, c))
					out->cpu[c] = (uint8_t)i;
		out->distances |= node->distances.count != 0;
		for (unsigned to = 0; to < node->distances.count; to++)
			out->distance[i][to] = (uint8_t)node->distances.item[to];
	}
}

unsigned numa_cut(const struct numa *numa, uint64_t before, uint64_t size,
                  struct numa_part out[CONFIG_NODES_MAX])
{
	const uint64_t end = before + size;
	uint64_t from = 0; /* where the node's memory begins, among all RAM */
	unsigned n = 0;

	if (!numa || !numa->nodes) {
		out[0] = (struct numa_part){ 0, size, 0 };
		return 1;
	}
	for (unsigned i = 0; i < numa->nodes; i++) {
		const uint64_t to = from + numa->memory[i];
		const uint64_t begin = MAX(from, before), stop = MIN(to, end);

		if (begin < stop)
			out[n++] = (struct numa_part){ begin - before, stop - begin, i };
		from = to;
	}
	return n;
}

bool numa_keeps_together(const struct numa *numa, unsigned cpus, unsigned len, unsigned *first)
{
	for (unsigned i = 0; i < cpus; i++) {
		if (numa->cpu[i] == numa->cpu[i - i % len])
			continue;
		*first = i;
		return false;
	}
	return true;
}
