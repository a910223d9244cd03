/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's interface for arm64 where the headers of Debian 12 (Linux 6.1) lack it. */
#ifndef ARM64_UAPI_H
#define ARM64_UAPI_H

#include <linux/kvm.h>
#include <stdint.h>

/* Linux 6.4; KVM API, 4.139. */
#ifndef KVM_CAP_COUNTER_OFFSET
#define KVM_CAP_COUNTER_OFFSET 227
struct kvm_arm_counter_offset {
	uint64_t counter_offset;
	uint64_t reserved;
};
#define KVM_ARM_SET_COUNTER_OFFSET _IOW(KVMIO, 0xb5, struct kvm_arm_counter_offset)
#endif

#endif
