/* SPDX-License-Identifier: Apache-2.0 */
#include "watchdog.h"

Test(i6300esb, a_non_maskable_interrupt)
{
	struct platform *kvm = platform_new_kvm();
	struct kvm_vcpu_events events;
	struct dog w;

	begin(&w, ACTION_NMI);
	w.vm->m->irqs = kvm->m.irqs;
	cr_assert_eq(ioctl(kvm->vcpu_fd, KVM_GET_VCPU_EVENTS, &events), 0);
	cr_assert_eq(events.nmi.pending, 0);
	start(&w, 10, 10, 0);
	cr_assert(vmachine_wait(w.vm, has_event, w.vm, patience_ms()));
	cr_assert_str_eq(vmachine_event(w.vm, "WATCHDOG"), "{\"action\":\"inject-nmi\"}");
	cr_assert_eq(ioctl(kvm->vcpu_fd, KVM_GET_VCPU_EVENTS, &events), 0);
	cr_assert_neq(events.nmi.pending, 0);
	w.vm->m->irqs = NULL;
	vmachine_free(w.vm);
	platform_free(kvm);
}
