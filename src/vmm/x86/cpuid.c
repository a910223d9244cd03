/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest sees as CPUID: what KVM can offer, less what cannot move
 * between hosts, with each vCPU's place in the topology.
 * Sources: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E; KVM's cpuid.rst.
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

int cpuid_supported(struct machine *m, struct kvm_cpuid2 **out, struct gw_error *err)
{
	struct kvm_cpuid2 *cpuid =
	        calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	int r;

	if (!cpuid)
		return error_set(err, -ENOMEM, "CPUID: out of memory");
	cpuid->nent = CPUID_ENTRIES_MAX;
	r = io_ioctl(m->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0) {
		free(cpuid);
		return error_set_sys(err, r, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
	}
	*out = cpuid;
	return 0;
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

enum reg { EAX, EBX, ECX, EDX };

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg reg)
{
	uint32_t *regs[] = { [EAX] = &e->eax, [EBX] = &e->ebx, [ECX] = &e->ecx, [EDX] = &e->edx };

	return regs[reg];
}

/* Features that are taken away, and why. */
static const struct {
	uint32_t function;
	enum reg reg;
	uint32_t mask;
} hidden[] = {
	{ 0x1, ECX, 1u << 5 },         /* VMX: no nested guests */
	{ 0x1, ECX, 1u << 15 },        /* PDCM: no performance counters */
	{ 0x80000001, ECX, 1u << 2 },  /* SVM: no nested guests */
	{ 0x80000001, ECX, 3u << 23 }, /* PerfCtrExtCore, PerfCtrExtNB */
	{ 0x80000007, EDX, 1u << 8 },  /* invariant TSC: the rate may change with the host */
	{ 0xa, EAX, ~0u },             /* performance counters */
	{ 0xa, EBX, ~0u },
	{ 0xa, EDX, ~0u },
	{ 0x80000022, EAX, ~0u }, /* the same, AMD's */
	{ 0x80000022, EBX, ~0u },
};

static void hide_features(struct kvm_cpuid2 *cpuid)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, hidden[i].function, 0);

		if (e)
			*reg_of(e, hidden[i].reg) &= ~hidden[i].mask;
	}
}

/* Bits that an APIC id needs for this many vCPUs. */
static unsigned id_bits(unsigned vcpus)
{
	unsigned bits = 0;

	while ((1u << bits) < vcpus)
		bits++;
	return bits;
}

static void set_leaf_1(struct kvm_cpuid_entry2 *e, unsigned index, unsigned vcpus,
                       bool tsc_deadline)
{
	e->ebx = (e->ebx & 0x0000ffff) | (index << 24) | ((vcpus & 0xff) << 16);
	e->ecx |= 1u << 31; /* runs under a hypervisor */
	e->ecx |= 1u << 21; /* x2APIC: KVM emulates it on every host */
	if (tsc_deadline)
		e->ecx |= 1u << 24;
	if (vcpus > 1)
		e->edx |= 1u << 28; /* HTT: the count in EBX is valid */
	else
		e->edx &= ~(1u << 28);
}

/* Extended topology: one thread a core, all cores in one package. */
static void set_topology(struct kvm_cpuid_entry2 *e, unsigned index, unsigned vcpus)
{
	unsigned level = e->index;

	e->eax = level == 0 ? 0 : id_bits(vcpus);
	e->ebx = level == 0 ? 1 : vcpus;
	e->ecx = level | (level < 2 ? (level + 1) << 8 : 0); /* 1: threads, 2: cores */
	e->edx = index;
	if (level >= 2)
		e->eax = e->ebx = 0;
}

/* Intel's caches: private to a core but for level 3, which the package shares. */
static void set_cache_sharing(struct kvm_cpuid_entry2 *e, unsigned vcpus)
{
	unsigned level = (e->eax >> 5) & 7;

	if (!(e->eax & 0x1f))
		return;
	e->eax &= 0x3fff;
	e->eax |= ((1u << id_bits(vcpus)) - 1) << 26;
	if (level >= 3)
		e->eax |= (vcpus - 1) << 14;
}

static void set_vcpu(struct kvm_cpuid_entry2 *e, unsigned index, unsigned vcpus, bool tsc_deadline)
{
	switch (e->function) {
	case 0x1:
		set_leaf_1(e, index, vcpus, tsc_deadline);
		break;
	case 0x4:
		set_cache_sharing(e, vcpus);
		break;
	case 0xb:
	case 0x1f:
		set_topology(e, index, vcpus);
		break;
	case 0x80000008:
		e->ecx = (e->ecx & 0xffff0000) | (id_bits(vcpus) << 12) | (vcpus - 1);
		break;
	case 0x8000001d: /* AMD's caches; bits 14 to 25: how many share it, less one */
		e->eax &= 0x3fff;
		if (((e->eax >> 5) & 7) >= 3)
			e->eax |= (vcpus - 1) << 14;
		break;
	case 0x8000001e: /* extended APIC id; core id; one node */
		e->eax = index;
		e->ebx = index & 0xff;
		e->ecx = 0;
		break;
	}
}

void cpuid_for_vcpu(const struct kvm_cpuid2 *supported, unsigned index, unsigned vcpus,
                    bool tsc_deadline, struct kvm_cpuid2 *out)
{
	memcpy(out, supported,
	       sizeof(*supported) + supported->nent * sizeof(supported->entries[0]));
	hide_features(out);
	for (uint32_t i = 0; i < out->nent; i++)
		set_vcpu(&out->entries[i], index, vcpus, tsc_deadline);
}
