/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device tree that tells the guest what its machine has. What differs
 * between machines is in struct fdt_contents; where things are is layout.h's.
 * Sources: Devicetree Specification 0.4; Linux, Documentation/devicetree/bindings (each node's
 * function names its own).
 */
#ifndef ARM64_FDT_H
#define ARM64_FDT_H

#include "godwit.h"
#include "vmm/arch.h"
#include "vmm/topology.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numa;

#define FDT_SEED_SIZE 64

struct fdt_contents {
	const char *model;
	const char *cmdline;
	const uint64_t *mpidr; /* of each vCPU */
	unsigned cpus;
	struct topology topology;
	const struct arch_range *memory; /* in the order in which the nodes share it */
	unsigned memory_count;
	const struct numa *numa;      /* NULL: nothing is said of nodes */
	uint64_t initrd, initrd_size; /* size 0: none */
	bool gic_v2, its, pmu;
	uint64_t kaslr_seed;
	uint8_t rng_seed[FDT_SEED_SIZE];
};

/* Released with free(). */
int fdt_make(const struct fdt_contents *c, void **out, size_t *len, struct gw_error *err);

#endif
