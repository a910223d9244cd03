/* SPDX-License-Identifier: Apache-2.0 */
/* A translation that the ITS does not have in its cache. */
#include "slow_msi.h"

#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/memory.h"

#define GITS_CTLR 0x0000
#define GICR_PENDBASER 0x0078
#define LPI 8192

static void its_enable(const struct gic *gic, uint64_t on)
{
	cr_assert_eq(attr_set(gic->its_fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_CTLR, &on), 0);
}

/* KVM drops its cache when the ITS is turned off. */
void slow_msi_prepare(struct guest *g, struct gw_device *d)
{
	const struct gic *gic = g->vm->machine->arch->gic;

	(void)d;
	its_enable(gic, 0);
	its_enable(gic, 1);
}

/* Pending messages are in the guest's memory then. */
bool slow_msi_pending(struct guest *g)
{
	struct machine *m = g->vm->machine;
	const uint64_t cpu = (uint64_t)gic_cpu_attr(m->arch->gic, 0) << 32;
	uint32_t base = 0;
	uint8_t byte = 0;

	cr_assert_eq(attr_get(m->arch->gic->fd, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
	                      cpu | GICR_PENDBASER, &base),
	             0);
	cr_assert_eq(memory_read(m->memory, (base & ~0xffffu) + LPI / 8, &byte, 1), 0);
	return byte >> LPI % 8 & 1;
}
