/* SPDX-License-Identifier: Apache-2.0 */
/* What arrives at the interrupt chips of a platform with KVM. */
#ifndef UNIT_PINS_H
#define UNIT_PINS_H

#include "platform.h"

/* The level of an I/O APIC pin, as KVM has it. */
static inline int platform_pin(struct platform *p, unsigned pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	cr_assert_eq(ioctl(p->m.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip.chip.ioapic.irr >> pin & 1;
}

/* Is an interrupt vector requested at the local APIC? Waits up to `ms` for it. */
static inline int platform_requested(struct platform *p, unsigned vector, int ms)
{
	for (int64_t end = now_ms() + ms;;) {
		struct kvm_lapic_state lapic;

		cr_assert_eq(ioctl(p->vcpu_fd, KVM_GET_LAPIC, &lapic), 0);
		if (lapic.regs[0x200 + vector / 32 * 0x10 + vector % 32 / 8] >> vector % 8 & 1)
			return 1;
		if (now_ms() >= end)
			return 0;
		usleep(1000);
	}
}

/* The vCPU's interrupts are forgotten. */
static inline void platform_forget(struct platform *p)
{
	struct kvm_lapic_state lapic;

	cr_assert_eq(ioctl(p->vcpu_fd, KVM_GET_LAPIC, &lapic), 0);
	for (unsigned i = 0; i < 8; i++)
		memset(lapic.regs + 0x200 + i * 0x10, 0, 4);
	cr_assert_eq(ioctl(p->vcpu_fd, KVM_SET_LAPIC, &lapic), 0);
}

#endif
