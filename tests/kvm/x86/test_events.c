/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for a vCPU when it is saved waits for it after the restore. */
#include "harness.h"

#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

static int vcpu_fd(struct guest *g)
{
	return g->vm->machine->vcpus[0]->fd;
}

static void saved_and_restored(const struct kvm_vcpu_events *waiting)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	struct kvm_vcpu_events is;

	guest_run_us(g, 1000);
	cr_assert_eq(ioctl(vcpu_fd(g), KVM_SET_VCPU_EVENTS, waiting), 0);
	guest_save(g);
	h = guest_restored(g, false);
	cr_assert_eq(ioctl(vcpu_fd(h), KVM_GET_VCPU_EVENTS, &is), 0);
	cr_assert_eq(memcmp(&is.exception, &waiting->exception, sizeof(is.exception)), 0);
	cr_assert_eq(is.exception_has_payload, waiting->exception_has_payload);
	cr_assert_eq(is.exception_payload, waiting->exception_payload);
	cr_assert_eq(is.triple_fault.pending, waiting->triple_fault.pending);
	guest_compare(g, h);
	guest_free(h);
	guest_free(g);
}

/* Its address is not in CR2 before it is delivered. */
Test(events, a_page_fault)
{
	const struct kvm_vcpu_events waiting = {
		.exception = { .pending = 1, .nr = 14, .has_error_code = 1, .error_code = 6 },
		.exception_has_payload = 1,
		.exception_payload = 0x123456789000,
		.flags = KVM_VCPUEVENT_VALID_PAYLOAD,
	};

	saved_and_restored(&waiting);
}

Test(events, a_triple_fault)
{
	const struct kvm_vcpu_events waiting = {
		.triple_fault.pending = 1,
		.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
	};

	saved_and_restored(&waiting);
}
