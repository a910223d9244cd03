/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest sees as CPUID: what KVM can offer, cut down to the model,
 * less what cannot move between hosts, with each vCPU's place in the topology.
 * Sources: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E; KVM's cpuid.rst.
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

#define LEAF1_ECX_X2APIC (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)

/* ---- tables ---- */

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

uint32_t *cpuid_reg(struct kvm_cpuid_entry2 *e, enum cpuid_reg reg)
{
	uint32_t *regs[] = {
		[CPUID_EAX] = &e->eax,
		[CPUID_EBX] = &e->ebx,
		[CPUID_ECX] = &e->ecx,
		[CPUID_EDX] = &e->edx,
	};

	return regs[reg];
}

uint32_t cpuid_value(const struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index,
                     enum cpuid_reg reg)
{
	struct kvm_cpuid_entry2 *e =
	        cpuid_find((struct kvm_cpuid2 *)(uintptr_t)cpuid, function, index);

	return e ? *cpuid_reg(e, reg) : 0;
}

void cpuid_drop(struct kvm_cpuid2 *cpuid, bool (*drop)(const struct kvm_cpuid_entry2 *e))
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (!drop(&cpuid->entries[i]))
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

void cpuid_add(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid_entry2 *e)
{
	if (cpuid->nent < CPUID_ENTRIES_MAX)
		cpuid->entries[cpuid->nent++] = *e;
}

/* "AuthenticAMD", and "HygonGenuine", which is made like it. */
bool cpuid_is_amd(const struct kvm_cpuid2 *cpuid)
{
	uint32_t ebx = cpuid_value(cpuid, 0, 0, CPUID_EBX);

	return ebx == 0x68747541 || ebx == 0x6f677948;
}

struct kvm_cpuid2 *cpuid_alloc(void)
{
	return calloc(1, sizeof(struct kvm_cpuid2) +
	                         CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
}

void cpuid_copy(struct kvm_cpuid2 *to, const struct kvm_cpuid2 *from)
{
	memcpy(to, from, sizeof(*from) + from->nent * sizeof(from->entries[0]));
}

/* ---- what there is ---- */

/* KVM's list leaves out what depends on how the chips were made: it emulates the x2APIC on every
 * host, and the TSC-deadline timer is a capability (KVM API, 4.46). */
int cpuid_supported(int kvm_fd, struct kvm_cpuid2 **out, struct gw_error *err)
{
	struct kvm_cpuid2 *cpuid = cpuid_alloc();
	struct kvm_cpuid_entry2 *e;
	int r;

	if (!cpuid)
		return error_set(err, -ENOMEM, "CPUID: out of memory");
	cpuid->nent = CPUID_ENTRIES_MAX;
	r = io_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0) {
		free(cpuid);
		return error_set_sys(err, r, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
	}
	e = cpuid_find(cpuid, 0x1, 0);
	if (e) {
		e->ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_HYPERVISOR;
		if (io_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			e->ecx |= LEAF1_ECX_TSC_DEADLINE;
	}
	*out = cpuid;
	return 0;
}

/* Features that are taken away, and why. */
static const struct {
	uint32_t function;
	enum cpuid_reg reg;
	uint32_t mask;
} hidden[] = {
	{ 0x1, CPUID_ECX, 1u << 5 },         /* VMX: no nested guests */
	{ 0x1, CPUID_ECX, 1u << 15 },        /* PDCM: no performance counters */
	{ 0x80000001, CPUID_ECX, 1u << 2 },  /* SVM: no nested guests */
	{ 0x80000001, CPUID_ECX, 3u << 23 }, /* PerfCtrExtCore, PerfCtrExtNB */
	{ 0x80000007, CPUID_EDX, 1u << 8 },  /* invariant TSC: the rate may change with the host */
	{ 0xa, CPUID_EAX, ~0u },             /* performance counters */
	{ 0xa, CPUID_EBX, ~0u },
	{ 0xa, CPUID_EDX, ~0u },
	{ 0x80000022, CPUID_EAX, ~0u }, /* the same, AMD's */
	{ 0x80000022, CPUID_EBX, ~0u },
};

static void hide_features(struct kvm_cpuid2 *cpuid)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, hidden[i].function, 0);

		if (e)
			*cpuid_reg(e, hidden[i].reg) &= ~hidden[i].mask;
	}
}

int cpuid_for_guest(const struct kvm_cpuid2 *supported, uint32_t model, unsigned address_bits,
                    struct kvm_cpuid2 **out, struct gw_error *err)
{
	struct kvm_cpuid2 *cpuid = cpuid_alloc();
	int r;

	if (!cpuid)
		return error_set(err, -ENOMEM, "CPUID: out of memory");
	cpuid_copy(cpuid, supported);
	r = cpu_model_apply(cpuid, model, address_bits, err);
	if (r < 0) {
		free(cpuid);
		return r;
	}
	hide_features(cpuid);
	*out = cpuid;
	return 0;
}

void cpuid_for_vcpu(const struct kvm_cpuid2 *guest, const struct cpu_topology *topology,
                    unsigned index, struct kvm_cpuid2 *out)
{
	cpuid_copy(out, guest);
	cpu_topology_set(topology, index, out);
}
