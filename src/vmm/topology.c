/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/topology.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/numa.h"

/* As few sockets as there can be without a die that has CPUs of two nodes. */
static unsigned least_sockets(const struct config *config, unsigned dies, unsigned threads)
{
	const unsigned unit = dies * threads;
	struct numa numa;
	unsigned cpu;

	if (!config->node_count)
		return 1;
	numa_make(config, &numa);
	for (unsigned sockets = 1; sockets * unit < config->cpus; sockets++) {
		const unsigned cores = config->cpus / (sockets * unit);

		if (sockets * unit * cores == config->cpus &&
		    numa_keeps_together(&numa, config->cpus, cores * threads, &cpu))
			return sockets;
	}
	return MAX(config->cpus / unit, 1u);
}

int topology_make(const struct config *config, struct topology *out, struct gw_error *err)
{
	const unsigned cpus = config->cpus;
	struct topology t = {
		.sockets = config->cpu.sockets,
		.dies = MAX(config->cpu.dies, 1u),
		.cores = config->cpu.cores,
		.threads = MAX(config->cpu.threads, 1u),
	};
	uint64_t rest = (uint64_t)t.dies * t.threads;

	if (!t.cores)
		t.sockets = t.sockets ? t.sockets : least_sockets(config, t.dies, t.threads);
	rest *= (uint64_t)MAX(t.cores, 1u) * MAX(t.sockets, 1u);
	if (!t.cores)
		t.cores = (unsigned)(cpus / rest);
	else if (!t.sockets)
		t.sockets = (unsigned)(cpus / rest);
	if ((uint64_t)t.sockets * t.dies * t.cores * t.threads != cpus || !cpus)
		return error_set(err, -EINVAL,
		                 "cpu: %u sockets of %u dies of %u cores of %u threads are not %u "
		                 "cpus",
		                 t.sockets, t.dies, t.cores, t.threads, cpus);
	*out = t;
	return 0;
}
