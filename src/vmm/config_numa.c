/* SPDX-License-Identifier: Apache-2.0 */
/* Do the NUMA nodes make up the machine: each CPU once, all of its memory, distances both ways? */
#include "vmm/config_internal.h"

#include "base/cpulist.h"
#include "base/util.h"
#include "vmm/numa.h"
#include "vmm/topology.h"

#define LOCAL 10 /* ACPI 6.5, 5.2.17; Linux's binding of numa-distance-map-v1 */

static void check_cpus(const struct config *config, struct config_faults *faults)
{
	struct cpulist taken = { 0 };
	unsigned missing = 0;

	for (unsigned i = 0; i < config->node_count; i++) {
		struct cpulist cpus;

		if (!config->numa[i].cpus[0] || !cpulist_parse(config->numa[i].cpus, &cpus))
			continue;
		for (unsigned c = 0; c < CPULIST_MAX; c++) {
			if (!cpulist_has(&cpus, c))
				continue;
			if (c >= config->cpus) {
				config_fault(faults,
				             "numa[%u].cpus: there is no CPU %u (cpus is %u)", i, c,
				             config->cpus);
				break;
			}
			if (cpulist_has(&taken, c))
				config_fault(faults,
				             "numa[%u].cpus: CPU %u is another node's already", i,
				             c);
			taken.bits[c / 64] |= 1ull << c % 64;
		}
	}
	while (missing < config->cpus && cpulist_has(&taken, missing))
		missing++;
	if (missing < config->cpus)
		config_fault(faults, "numa: no node has CPU %u", missing);
}

static void check_sizes(const struct config *config, struct config_faults *faults)
{
	const uint64_t unit = config->backing.pages == CONFIG_PAGES_1G ? GIB : 2 * MIB;
	uint64_t sum = 0;

	for (unsigned i = 0; i < config->node_count; i++) {
		const struct config_node *node = &config->numa[i];

		sum += node->memory;
		if (node->memory % unit)
			config_fault(faults, "numa[%u].memory: %llu is not a multiple of %s", i,
			             (unsigned long long)node->memory, unit == GIB ? "1G" : "2M");
		if (!node->memory && !node->cpus[0])
			config_fault(faults, "numa[%u]: has neither cpus nor memory", i);
	}
	if (config->memory && sum != config->memory)
		config_fault(faults,
		             "numa: the nodes have %llu bytes of memory, and memory is %llu",
		             (unsigned long long)sum, (unsigned long long)config->memory);
}

static void check_distance(const struct config *config, unsigned i, unsigned to,
                           struct config_faults *faults)
{
	const uint32_t there = config->numa[i].distances.item[to];
	const uint32_t back = config->numa[to].distances.item[i];

	if (i == to && there != LOCAL)
		config_fault(faults, "numa[%u].distances[%u]: %u, and to itself it is %u", i, to,
		             there, LOCAL);
	else if (i != to && there == LOCAL)
		config_fault(faults, "numa[%u].distances[%u]: %u, which is a node's to itself", i,
		             to, there);
	else if (i > to && there != back)
		config_fault(faults, "numa[%u].distances[%u]: %u, and the other way it is %u", i,
		             to, there, back);
}

static void check_distances(const struct config *config, struct config_faults *faults)
{
	const unsigned before = faults->count;
	bool any = false;

	for (unsigned i = 0; i < config->node_count; i++)
		any |= config->numa[i].distances.count != 0;
	for (unsigned i = 0; any && i < config->node_count; i++)
		if (config->numa[i].distances.count != config->node_count)
			config_fault(faults, "numa[%u].distances: %u numbers for %u nodes", i,
			             config->numa[i].distances.count, config->node_count);
	for (unsigned i = 0; any && i < config->node_count && faults->count == before; i++)
		for (unsigned to = 0; to < config->node_count; to++)
			check_distance(config, i, to, faults);
}

/* What shares a cache is near the same memory: guests rely on it. */
static void check_dies(const struct config *config, struct config_faults *faults)
{
	struct gw_error said_already;
	struct topology t;
	struct numa numa;
	unsigned cpu;

	numa_make(config, &numa);
	if (topology_make(config, &t, &said_already) < 0 ||
	    numa_keeps_together(&numa, config->cpus, t.cores * t.threads, &cpu))
		return;
	config_fault(faults,
	             "numa[%u].cpus: CPU %u is of the same die as CPU %u of numa[%u]; with more "
	             "cpu.sockets or cpu.dies it would not be",
	             numa.cpu[cpu], cpu, cpu - cpu % (t.cores * t.threads),
	             numa.cpu[cpu - cpu % (t.cores * t.threads)]);
}

void config_check_numa(const struct config *config, struct config_faults *faults)
{
	const unsigned before = faults->count;

	if (config->pci.node && config->pci.node >= config->node_count)
		config_fault(faults, "pci.node: %u, and there are %u (numa)", config->pci.node,
		             config->node_count);
	if (!config->node_count || faults->faulty_nodes)
		return;
	check_cpus(config, faults);
	check_sizes(config, faults);
	check_distances(config, faults);
	if (faults->count == before)
		check_dies(config, faults);
}
