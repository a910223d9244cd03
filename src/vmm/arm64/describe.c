/* SPDX-License-Identifier: Apache-2.0 */
/* The device tree of this machine, from what it is. */
#include "vmm/arm64/arm64.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/fdt.h"
#include "vmm/arm64/gic.h"
#include "vmm/memory.h"
#include "vmm/numa.h"

#include <sys/random.h>

/* Memory that may come and go is its own device's to tell of. */
static unsigned collect_memory(const struct machine *m, struct arch_range *out)
{
	unsigned n = 0;

	for (size_t i = 0; i < memory_region_count(m->memory); i++) {
		const struct ram_region *r = memory_region(m->memory, i);

		if (r->gpa != MEMORY_GONE && !r->block)
			out[n++] = (struct arch_range){ r->gpa, r->size };
	}
	return n;
}

static int choose_seeds(struct fdt_contents *c, struct gw_error *err)
{
	if (getrandom(&c->kaslr_seed, sizeof(c->kaslr_seed), 0) != (ssize_t)sizeof(c->kaslr_seed) ||
	    getrandom(c->rng_seed, sizeof(c->rng_seed), 0) != (ssize_t)sizeof(c->rng_seed))
		return error_set_sys(err, -errno, "device tree: getrandom");
	return 0;
}

int arm64_describe(struct machine *m, uint64_t initrd, uint64_t initrd_size, void **out,
                   size_t *len, struct gw_error *err)
{
	autofree uint64_t *mpidr = calloc(m->vcpu_count + 1, sizeof(*mpidr));
	struct arch_range memory[MEMORY_REGIONS_MAX];
	struct fdt_contents c = {
		.model = "godwit",
		.cmdline = m->config.boot.cmdline,
		.mpidr = mpidr,
		.cpus = m->vcpu_count,
		.topology = m->arch->topology,
		.memory = memory,
		.initrd = initrd,
		.initrd_size = initrd_size,
		.gic_v2 = gic_version(m->arch->gic) == GIC_V2,
		.its = gic_has_its(m->arch->gic),
		.pmu = m->arch->init.features[0] >> KVM_ARM_VCPU_PMU_V3 & 1,
	};
	struct numa numa;
	int r;

	if (!mpidr)
		return error_set(err, -ENOMEM, "device tree: out of memory");
	for (unsigned i = 0; i < m->vcpu_count; i++)
		mpidr[i] = m->vcpus[i]->arch->mpidr;
	c.memory_count = collect_memory(m, memory);
	numa_make(&m->config, &numa);
	c.numa = numa.nodes ? &numa : NULL;
	r = choose_seeds(&c, err);
	return r ? r : fdt_make(&c, out, len, err);
}
