/* SPDX-License-Identifier: Apache-2.0 */
/* An interrupt controller and a vCPU of a KVM VM for tests of single devices. */
#ifndef UNIT_CHIPS_H
#define UNIT_CHIPS_H

#include <criterion/criterion.h>

#include "base/util.h"
#include "vmm/arm64/layout.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>

/* A GICv3 (KVM's documentation of arm-vgic-v3), and one vCPU, whose descriptor it returns. Skips
 * the test where the host has no GICv3. */
static inline int chips_create(int vm_fd)
{
	static const uint64_t gicd = LAYOUT_GICD;
	/* One region: base, first vCPU's index, flags and count. */
	static const uint64_t gicr = 1ull << 52 | LAYOUT_GICR;
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	struct kvm_device_attr places[] = {
		{ .group = KVM_DEV_ARM_VGIC_GRP_ADDR,
		  .attr = KVM_VGIC_V3_ADDR_TYPE_DIST,
		  .addr = (uintptr_t)&gicd },
		{ .group = KVM_DEV_ARM_VGIC_GRP_ADDR,
		  .attr = KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
		  .addr = (uintptr_t)&gicr },
		{ .group = KVM_DEV_ARM_VGIC_GRP_CTRL, .attr = KVM_DEV_ARM_VGIC_CTRL_INIT },
	};
	struct kvm_vcpu_init init = { 0 };
	int vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);

	cr_assert_geq(vcpu_fd, 0);
	cr_assert_eq(ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init), 0);
	cr_assert_eq(ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init), 0);
	if (ioctl(vm_fd, KVM_CREATE_DEVICE, &create))
		cr_skip_test("the host has no GICv3");
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		cr_assert_eq(ioctl(create.fd, KVM_SET_DEVICE_ATTR, &places[i]), 0, "%u", i);
	close((int)create.fd); /* the VM keeps it */
	return vcpu_fd;
}

#endif
