/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs, how they are arranged, and how they are started and stopped. */
#include "vmm/arm64/fdt_internal.h"

/* The affinity fields of MPIDR_EL1, which is how a CPU is named (arm/cpus.yaml). */
#define MPIDR_AFFINITY 0xff00ffffffull

/* arm/cpus.yaml: in two cells if any has a number in the topmost field. */
static void add_cpu(struct fdt_tree *t, const struct fdt_contents *c, unsigned i)
{
	const uint64_t reg = c->mpidr[i] & MPIDR_AFFINITY;

	fdt_node(t, "cpu@%llx", (unsigned long long)reg);
	fdt_text(t, "device_type", "cpu");
	fdt_text(t, "compatible", "arm,armv8");
	fdt_u64(t, "reg", reg);
	fdt_text(t, "enable-method", "psci");
	fdt_near(t, c, c->numa ? c->numa->cpu[i] : 0);
	fdt_cell(t, "phandle", PHANDLE_CPU + i);
	fdt_end(t);
}

static void add_core(struct fdt_tree *t, const struct fdt_contents *c, unsigned core,
                     unsigned first)
{
	fdt_node(t, "core%u", core);
	for (unsigned i = 0; i < c->topology.threads; i++) {
		if (c->topology.threads > 1)
			fdt_node(t, "thread%u", i);
		fdt_cell(t, "cpu", PHANDLE_CPU + first + i);
		if (c->topology.threads > 1)
			fdt_end(t);
	}
	fdt_end(t);
}

/* cpu/cpu-topology.txt: sockets of clusters of cores of threads. */
static void add_map(struct fdt_tree *t, const struct fdt_contents *c)
{
	const struct topology *p = &c->topology;
	unsigned cpu = 0;

	fdt_node(t, "cpu-map");
	for (unsigned socket = 0; socket < p->sockets; socket++) {
		fdt_node(t, "socket%u", socket);
		for (unsigned die = 0; die < p->dies; die++) {
			fdt_node(t, "cluster%u", die);
			for (unsigned core = 0; core < p->cores; core++, cpu += p->threads)
				add_core(t, c, core, cpu);
			fdt_end(t);
		}
		fdt_end(t);
	}
	fdt_end(t);
}

void fdt_add_cpus(struct fdt_tree *t, const struct fdt_contents *c)
{
	fdt_node(t, "cpus");
	fdt_cell(t, "#address-cells", 2);
	fdt_cell(t, "#size-cells", 0);
	for (unsigned i = 0; i < c->cpus; i++)
		add_cpu(t, c, i);
	add_map(t, c);
	fdt_end(t);

	/* arm/psci.yaml: from version 0.2 on the functions' numbers are standard. */
	fdt_node(t, "psci");
	fdt_texts(t, "compatible", "arm,psci-1.0\0arm,psci-0.2");
	fdt_text(t, "method", "hvc");
	fdt_end(t);
}
