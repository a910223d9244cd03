/* SPDX-License-Identifier: Apache-2.0 */
/* A broadcast: KVM's map of destinations has none for it. */
#include "slow_msi.h"

#include "base/io.h"
#include "vmm/vcpu.h"

#define EVERYONE 0xfeeff000
#define VECTOR 0x41
#define LAPIC_IRR 0x200

void slow_msi_prepare(struct guest *g, struct gw_device *d)
{
	machine_lock(g->vm->machine);
	msix_table_write(d->msix, 0, 4, EVERYONE);
	machine_unlock(g->vm->machine);
}

bool slow_msi_pending(struct guest *g)
{
	struct kvm_lapic_state lapic;

	cr_assert_eq(io_ioctl(g->vm->machine->vcpus[0]->fd, KVM_GET_LAPIC, &lapic), 0);
	return lapic.regs[LAPIC_IRR + VECTOR / 32 * 16 + VECTOR % 32 / 8] >> VECTOR % 8 & 1;
}
