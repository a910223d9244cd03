/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets, dies, cores and threads: the APIC id of each vCPU, which has a
 * field of bits for each level, and what CPUID says of it.
 * Sources: Intel SDM vol. 3A, 9.9 (topology enumeration), vol. 2A, CPUID (1, 4, 0BH, 1FH);
 * AMD APM vol. 3, E.3 and E.4 (1, 8000_0001, 8000_0008, 8000_001D, 8000_001E).
 */
#include "vmm/x86/cpu.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/config.h"
#include "vmm/topology.h"

enum { LEVEL_THREAD = 1, LEVEL_CORE = 2, LEVEL_DIE = 5 }; /* as leaf 1FH numbers them */

static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

int cpu_topology_make(const struct config *config, struct cpu_topology *out, struct gw_error *err)
{
	struct topology counts;
	struct cpu_topology t = { 0 };
	uint64_t last;
	int r = topology_make(config, &counts, err);

	if (r < 0)
		return r;
	t.sockets = counts.sockets;
	t.dies = counts.dies;
	t.cores = counts.cores;
	t.threads = counts.threads;
	t.thread_bits = bits_for(t.threads);
	t.core_bits = bits_for(t.cores);
	t.die_bits = bits_for(t.dies);
	last = cpu_topology_apic_id(&t, config->cpus - 1);
	if (last > CPU_APIC_ID_LAST)
		return error_set(err, -EINVAL,
		                 "cpu: %u sockets of %u dies of %u cores of %u threads need APIC "
		                 "ids up to %llu, and %u is the last; numbers that are powers of "
		                 "two leave no gaps",
		                 t.sockets, t.dies, t.cores, t.threads, (unsigned long long)last,
		                 CPU_APIC_ID_LAST);
	*out = t;
	return 0;
}

/* Where a vCPU is. `die` and `core` are counted within their socket and die. */
struct place {
	unsigned thread, core, die, socket;
	uint32_t id;
};

static struct place place_of(const struct cpu_topology *t, unsigned index)
{
	struct place p;

	p.thread = index % t->threads;
	index /= t->threads;
	p.core = index % t->cores;
	index /= t->cores;
	p.die = index % t->dies;
	p.socket = index / t->dies;
	p.id = p.socket;
	p.id = p.id << t->die_bits | p.die;
	p.id = p.id << t->core_bits | p.core;
	p.id = p.id << t->thread_bits | p.thread;
	return p;
}

uint32_t cpu_topology_apic_id(const struct cpu_topology *t, unsigned index)
{
	return place_of(t, index).id;
}

/* ---- CPUID ---- */

static unsigned die_shift(const struct cpu_topology *t)
{
	return t->thread_bits + t->core_bits;
}

static unsigned socket_shift(const struct cpu_topology *t)
{
	return die_shift(t) + t->die_bits;
}

static unsigned per_socket(const struct cpu_topology *t)
{
	return t->dies * t->cores * t->threads;
}

static void set_bit(uint32_t *reg, unsigned bit, bool on)
{
	*reg = on ? *reg | 1u << bit : *reg & ~(1u << bit);
}

/* Intel counts the ids that a package takes, AMD the threads that it has. */
static void set_leaf_1(const struct cpu_topology *t, const struct place *p,
                       struct kvm_cpuid_entry2 *e, bool amd)
{
	unsigned count = amd ? per_socket(t) : MIN(1u << socket_shift(t), 255u);

	e->ebx = (e->ebx & 0xffff) | count << 16 | p->id << 24;
	set_bit(&e->edx, 28, per_socket(t) > 1); /* HTT: the count is valid */
}

/* AMD: CmpLegacy says that leaf 1's count is of more than one core. */
static void set_leaf_x1(const struct cpu_topology *t, const struct place *p,
                        struct kvm_cpuid_entry2 *e, bool amd)
{
	(void)p;
	if (amd)
		set_bit(&e->ecx, 1, per_socket(t) > 1);
}

/* Intel's caches: a core's own, but for level 3, which a die shares. Bits 14 to 25: ids that
 * share it, less one; 26 to 31: ids of cores in a package, less one. */
static void set_leaf_4(const struct cpu_topology *t, const struct place *p,
                       struct kvm_cpuid_entry2 *e, bool amd)
{
	unsigned level = e->eax >> 5 & 7;
	unsigned shared = level >= 3 ? die_shift(t) : t->thread_bits;
	unsigned cores = 1u << (t->core_bits + t->die_bits);

	(void)p;
	(void)amd;
	if (e->eax & 0x1f)
		e->eax = (e->eax & 0x3fff) | ((1u << shared) - 1) << 14 | MIN(cores - 1, 63u) << 26;
}

/* AMD: bits 12 to 15: bits of the id within a package; 0 to 7: threads in it, less one. */
static void set_leaf_x8(const struct cpu_topology *t, const struct place *p,
                        struct kvm_cpuid_entry2 *e, bool amd)
{
	(void)p;
	e->ecx = amd ? (e->ecx & 0xffff0000) | socket_shift(t) << 12 | (per_socket(t) - 1) : 0;
}

/* AMD's caches; bits 14 to 25: threads that share it, less one. */
static void set_leaf_x1d(const struct cpu_topology *t, const struct place *p,
                         struct kvm_cpuid_entry2 *e, bool amd)
{
	unsigned shared = (e->eax >> 5 & 7) >= 3 ? t->cores * t->threads : t->threads;

	(void)p;
	(void)amd;
	if (e->eax & 0x1f)
		e->eax = (e->eax & 0x3fff) | (shared - 1) << 14;
}

/* AMD: the id; core within the package and threads a core; node (a die) and nodes a package. */
static void set_leaf_x1e(const struct cpu_topology *t, const struct place *p,
                         struct kvm_cpuid_entry2 *e, bool amd)
{
	unsigned core = p->die << t->core_bits | p->core;

	if (!amd)
		return;
	e->eax = p->id;
	e->ebx = core | (t->threads - 1) << 8;
	e->ecx = (p->socket * t->dies + p->die) | MIN(t->dies - 1, 7u) << 8;
	e->edx = 0;
}

static const struct {
	uint32_t function;
	void (*set)(const struct cpu_topology *t, const struct place *p, struct kvm_cpuid_entry2 *e,
	            bool amd);
} leaves[] = {
	{ 0x1, set_leaf_1 },         { 0x4, set_leaf_4 },          { 0x80000001, set_leaf_x1 },
	{ 0x80000008, set_leaf_x8 }, { 0x8000001d, set_leaf_x1d }, { 0x8000001e, set_leaf_x1e },
};

static bool is_extended(const struct kvm_cpuid_entry2 *e)
{
	return e->function == 0xb || e->function == 0x1f;
}

/* One subleaf: the shift that leaves the id of the next level up, and how many there are. */
static void add_level(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index, unsigned type,
                      unsigned shift, unsigned count, uint32_t id)
{
	const struct kvm_cpuid_entry2 e = {
		.function = function,
		.index = index,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = shift,
		.ebx = count,
		.ecx = index | type << 8,
		.edx = id,
	};

	cpuid_add(cpuid, &e);
}

/* Leaf 0BH knows threads and cores, 1FH dies too; each ends with a level of type 0. */
static void add_extended(const struct cpu_topology *t, uint32_t id, struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x0, 0);
	uint32_t last = e ? e->eax : 0;

	if (last < 0xb)
		return;
	add_level(cpuid, 0xb, 0, LEVEL_THREAD, t->thread_bits, t->threads, id);
	add_level(cpuid, 0xb, 1, LEVEL_CORE, socket_shift(t), per_socket(t), id);
	add_level(cpuid, 0xb, 2, 0, 0, 0, id);
	if (cpuid_is_amd(cpuid) || (last < 0x1f && t->dies == 1))
		return;
	e->eax = MAX(last, 0x1fu);
	add_level(cpuid, 0x1f, 0, LEVEL_THREAD, t->thread_bits, t->threads, id);
	add_level(cpuid, 0x1f, 1, LEVEL_CORE, die_shift(t), t->cores * t->threads, id);
	if (t->dies > 1)
		add_level(cpuid, 0x1f, 2, LEVEL_DIE, socket_shift(t), per_socket(t), id);
	add_level(cpuid, 0x1f, t->dies > 1 ? 3 : 2, 0, 0, 0, id);
}

void cpu_topology_set(const struct cpu_topology *t, unsigned index, struct kvm_cpuid2 *cpuid)
{
	const struct place p = place_of(t, index);
	const bool amd = cpuid_is_amd(cpuid);

	for (uint32_t i = 0; i < cpuid->nent; i++)
		for (size_t n = 0; n < ARRAY_SIZE(leaves); n++)
			if (leaves[n].function == cpuid->entries[i].function)
				leaves[n].set(t, &p, &cpuid->entries[i], amd);
	cpuid_drop(cpuid, is_extended);
	add_extended(t, p.id, cpuid);
}
