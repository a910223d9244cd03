/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt chips and a vCPU of a KVM VM for tests of single devices. */
#ifndef UNIT_CHIPS_H
#define UNIT_CHIPS_H

#include <criterion/criterion.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

/* Both chips, and one vCPU, whose descriptor it returns. Its local APIC is enabled by software
 * (SVR, bit 8), so that it accepts interrupts. */
static inline int chips_create(int vm_fd)
{
	struct kvm_lapic_state lapic;
	int vcpu_fd;

	cr_assert_eq(ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0), 0);
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	cr_assert_geq(vcpu_fd, 0);
	cr_assert_eq(ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic), 0);
	lapic.regs[0xf0] = (char)0xff;
	lapic.regs[0xf1] = 1;
	cr_assert_eq(ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic), 0);
	return vcpu_fd;
}

#endif
