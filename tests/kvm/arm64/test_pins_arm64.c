/* SPDX-License-Identifier: Apache-2.0 */
/* A pin that an emulated device and an irqfd hold: KVM has one level for both. */
#include "harness.h"

#include "base/io.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/arm64/layout.h"
#include "vmm/irq.h"

#include <unistd.h>

#define GSI LAYOUT_INTX_GSI

static struct gw_error err;

/* A GICv2 tells of lines that are high as pending. */
static bool is_high(struct guest *g)
{
	const struct gic *gic = g->vm->machine->arch->gic;
	const bool v3 = gic_version(gic) == GIC_V3;
	uint32_t bits = 0;

	cr_assert_eq(attr_get(gic->fd,
	                      v3 ? KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO : KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
	                      v3 ? 32 : 0x204, &bits),
	             0);
	return bits >> GSI & 1;
}

/* A pin is level-triggered once the guest has said so, which only a GICv2's pending bit tells. */
static struct guest *made(void)
{
	struct guest *g = guest_made("mixer", 1, 32, "");
	const uint32_t level = 0;

	cr_assert_eq(attr_set(g->vm->machine->arch->gic->fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
	                      0xc00 + (32 + GSI) / 16 * 4, &level),
	             0);
	return g;
}

Test(pins_arm64, a_shared_one_is_high_while_anybody_holds_it)
{
	struct guest *g = made();
	struct irqs *irqs = g->vm->machine->irqs;

	cr_assert_eq(irq_share_line(irqs, GSI, true), 0);
	cr_assert_eq(irq_share_line(irqs, GSI, true), 0);
	cr_assert_eq(irq_share_line(irqs, GSI, false), 0);
	cr_assert(is_high(g));
	cr_assert_eq(irq_share_line(irqs, GSI, false), 0);
	cr_assert_not(is_high(g));
	guest_free(g);
}

/* What an emulated device lets go of may be held by the irqfd's: the guest's end of interrupt
 * tells. When the last irqfd goes it is as the others have it. */
Test(pins_arm64, with_an_irqfd_nobody_takes_it_from_the_other)
{
	int fd = io_eventfd(), resample_fd = io_eventfd();
	struct guest *g = made();
	struct irqs *irqs = g->vm->machine->irqs;

	for (int held = 0; held < 2; held++) {
		cr_assert_eq(irq_attach_fd(irqs, GSI, fd, resample_fd, &err), 0, "%s", err.text);
		io_eventfd_signal(fd);
		cr_assert(is_high(g));
		cr_assert_eq(irq_share_line(irqs, GSI, true), 0);
		cr_assert_eq(irq_share_line(irqs, GSI, false), 0);
		cr_assert(is_high(g), "the irqfd's device holds it");
		if (held)
			cr_assert_eq(irq_share_line(irqs, GSI, true), 0);
		irq_detach_fd(irqs, GSI, fd);
		cr_assert_eq(is_high(g), held);
	}
	cr_assert_eq(irq_share_line(irqs, GSI, false), 0);
	cr_assert_not(is_high(g));
	guest_free(g);
	close(fd);
	close(resample_fd);
}

/* A controller's state of the moment between KVM's lowering it and our raising it again. */
Test(pins_arm64, what_is_held_is_high_before_the_guest_runs)
{
	int fd = io_eventfd(), resample_fd = io_eventfd();
	struct guest *g = made();
	struct irqs *irqs = g->vm->machine->irqs;

	cr_assert_eq(irq_attach_fd(irqs, GSI, fd, resample_fd, &err), 0, "%s", err.text);
	cr_assert_eq(irq_share_line(irqs, GSI, true), 0);
	cr_assert_eq(irq_set_line(irqs, GSI, 0), 0);
	cr_assert_not(is_high(g));
	irqs_settle(irqs);
	cr_assert(is_high(g));

	/* What nobody can have raised is low, what an irqfd may have is KVM's to lower. */
	cr_assert_eq(irq_share_line(irqs, GSI, false), 0);
	irqs_settle(irqs);
	cr_assert(is_high(g));
	irq_detach_fd(irqs, GSI, fd);
	cr_assert_eq(irq_set_line(irqs, GSI, 1), 0);
	irqs_settle(irqs);
	cr_assert_not(is_high(g));
	guest_free(g);
	close(fd);
	close(resample_fd);
}
