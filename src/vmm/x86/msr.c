/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSRs as a firmware leaves them. Sources: Intel SDM vol. 3A, 12.11 (MTRRs);
 * vol. 4 (IA32_MISC_ENABLE).
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/x86/layout.h"

#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1u
#define MSR_MTRR_PHYS_BASE0 0x200
#define MSR_MTRR_PHYS_MASK0 0x201
#define MSR_MTRR_FIX64K_00000 0x250
#define MSR_MTRR_FIX16K_80000 0x258
#define MSR_MTRR_FIX16K_A0000 0x259
#define MSR_MTRR_FIX4K_C0000 0x268
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLE (1u << 11)
#define MTRR_FIXED_ENABLE (1u << 10)
#define MTRR_WRITE_BACK 6u
#define MTRR_UNCACHEABLE 0u
#define MTRR_VALID (1u << 11)
#define FIXED_WRITE_BACK 0x0606060606060606ull

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

/* KVM answers with the number of MSRs that it took. */
static int one(struct vcpu *v, unsigned long request, struct one_msr *msr)
{
	int r = io_ioctl(v->fd, request, msr);

	return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

int msr_get(struct vcpu *v, uint32_t index, uint64_t *value)
{
	struct one_msr msr = { .head.nmsrs = 1, .entry.index = index };
	int r = one(v, KVM_GET_MSRS, &msr);

	*value = msr.entry.data;
	return r;
}

int msr_set(struct vcpu *v, uint32_t index, uint64_t value)
{
	struct one_msr msr = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return one(v, KVM_SET_MSRS, &msr);
}

int msr_set_firmware_state(struct vcpu *v, struct gw_error *err)
{
	uint64_t phys_mask = (1ull << v->machine->address_bits) - 1;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[16];
	} msrs = { .head.nmsrs = 0 };
	struct kvm_msr_entry *e = msrs.entries;
	int r;

	*e++ = (struct kvm_msr_entry){ .index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING };
	/* All is write-back, but the hole below 4 GiB. */
	*e++ = (struct kvm_msr_entry){ .index = MSR_MTRR_PHYS_BASE0,
		                       .data = LAYOUT_HOLE | MTRR_UNCACHEABLE };
	*e++ = (struct kvm_msr_entry){
		.index = MSR_MTRR_PHYS_MASK0,
		.data = (~(LAYOUT_4G - LAYOUT_HOLE - 1ull) & phys_mask) | MTRR_VALID,
	};
	*e++ = (struct kvm_msr_entry){ .index = MSR_MTRR_FIX64K_00000, .data = FIXED_WRITE_BACK };
	*e++ = (struct kvm_msr_entry){ .index = MSR_MTRR_FIX16K_80000, .data = FIXED_WRITE_BACK };
	*e++ = (struct kvm_msr_entry){ .index = MSR_MTRR_FIX16K_A0000, .data = 0 };
	for (uint32_t i = 0; i < 8; i++)
		*e++ = (struct kvm_msr_entry){ .index = MSR_MTRR_FIX4K_C0000 + i,
			                       .data = FIXED_WRITE_BACK };
	*e++ = (struct kvm_msr_entry){
		.index = MSR_MTRR_DEF_TYPE,
		.data = MTRR_ENABLE | MTRR_FIXED_ENABLE | MTRR_WRITE_BACK,
	};
	msrs.head.nmsrs = (uint32_t)(e - msrs.entries);

	r = io_ioctl(v->fd, KVM_SET_MSRS, &msrs);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_SET_MSRS", v->index);
	if ((uint32_t)r != msrs.head.nmsrs)
		return error_set(err, -EIO, "vcpu%u: KVM_SET_MSRS: KVM refuses MSR 0x%x", v->index,
		                 msrs.entries[r].index);
	return 0;
}
