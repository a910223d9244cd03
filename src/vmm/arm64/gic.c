/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/gic.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/layout.h"

#include <stdio.h>

enum gic_version gic_version(const struct gic *gic)
{
	return gic->version;
}

bool gic_has_its(const struct gic *gic)
{
	return gic->its_fd >= 0;
}

/* A GICv3 is named by the CPU's affinities, a GICv2 by its number. */
uint32_t gic_cpu_attr(const struct gic *gic, unsigned cpu)
{
	const uint64_t mpidr = gic->machine->vcpus[cpu]->arch->mpidr;

	if (gic->version == GIC_V2)
		return cpu;
	return (uint32_t)(mpidr >> 8 & 0xff000000) | (uint32_t)(mpidr & 0xffffff);
}

/* ---- making ---- */

static int create_device(struct machine *m, uint32_t type)
{
	struct kvm_create_device device = { .type = type };
	int r = io_ioctl(m->vm_fd, KVM_CREATE_DEVICE, &device);

	return r < 0 ? r : (int)device.fd;
}

/* A host with a GICv2 says ENODEV to a GICv3. */
static int open_device(struct gic *gic, struct gw_error *err)
{
	int r = create_device(gic->machine, KVM_DEV_TYPE_ARM_VGIC_V3);

	gic->version = GIC_V3;
	if (r == -ENODEV) {
		gic->version = GIC_V2;
		r = create_device(gic->machine, KVM_DEV_TYPE_ARM_VGIC_V2);
	}
	if (r < 0)
		return error_set_sys(err, r, "interrupt controller: KVM_CREATE_DEVICE");
	gic->fd = r;
	return 0;
}

static int place(struct gic *gic, uint64_t type, uint64_t gpa, struct gw_error *err)
{
	int r = attr_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &gpa);

	return r < 0 ? error_set_sys(err, r, "interrupt controller: its address 0x%llx",
	                             (unsigned long long)gpa)
	             : 0;
}

static int place_all(struct gic *gic, struct gw_error *err)
{
	static const struct {
		uint64_t type, gpa;
	} places[2][2] = {
		{ { KVM_VGIC_V2_ADDR_TYPE_DIST, LAYOUT_GICD },
		  { KVM_VGIC_V2_ADDR_TYPE_CPU, LAYOUT_GICC } },
		{ { KVM_VGIC_V3_ADDR_TYPE_DIST, LAYOUT_GICD },
		  { KVM_VGIC_V3_ADDR_TYPE_REDIST, LAYOUT_GICR } },
	};
	const uint32_t intids = LAYOUT_INTIDS;
	int r = 0;

	for (unsigned i = 0; i < 2 && !r; i++)
		r = place(gic, places[gic->version == GIC_V3][i].type,
		          places[gic->version == GIC_V3][i].gpa, err);
	if (r < 0)
		return r;
	r = attr_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &intids);
	return r < 0 ? error_set_sys(err, r, "interrupt controller: %u interrupts", intids) : 0;
}

int gic_create(struct machine *m, struct gic **out, struct gw_error *err)
{
	struct gic *gic = calloc(1, sizeof(*gic));
	int r;

	if (!gic)
		return error_set(err, -ENOMEM, "interrupt controller: out of memory");
	gic->machine = m;
	gic->fd = gic->its_fd = -1;
	gic->participant.ops = &gic_participant_ops;
	snprintf(gic->participant.name, sizeof(gic->participant.name), "gic");
	r = open_device(gic, err);
	if (!r)
		r = place_all(gic, err);
	if (!r && gic->version == GIC_V3)
		r = its_create(m, &gic->its_fd, err);
	if (!r)
		r = participant_add(&m->participants, &gic->participant, err);
	if (r < 0) {
		gic_destroy(gic);
		return r;
	}
	*out = gic;
	return 0;
}

void gic_destroy(struct gic *gic)
{
	if (!gic)
		return;
	gic_loaded_free(gic->loaded);
	if (gic->its_fd >= 0)
		close(gic->its_fd);
	if (gic->fd >= 0)
		close(gic->fd);
	free(gic);
}

/* ---- power-on ---- */

int gic_begin(struct gic *gic, struct gw_error *err)
{
	int r = attr_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);

	if (r < 0)
		return error_set_sys(err, r, "interrupt controller: KVM_DEV_ARM_VGIC_CTRL_INIT");
	if (gic->its_fd >= 0)
		r = its_begin(gic->its_fd, err);
	if (r < 0)
		return r;
	gic->shared_count = gic_words(gic->version, false, LAYOUT_INTIDS, gic->shared);
	gic->own_count = gic_words(gic->version, true, LAYOUT_INTIDS, gic->own);
	r = gic_words_get(gic->fd, gic_cpu_attr(gic, 0), gic->shared, gic->shared_count,
	                  &gic->shared_power_on, err);
	if (!r)
		r = gic_words_get(gic->fd, gic_cpu_attr(gic, 0), gic->own, gic->own_count,
		                  &gic->own_power_on, err);
	return r < 0 ? error_context(err, "interrupt controller") : 0;
}

int gic_reset(struct gic *gic, struct gw_error *err)
{
	int r = 0;

	/* The ITS first: it must not look up what the redistributors no longer know. */
	if (gic->its_fd >= 0)
		r = its_reset(gic->its_fd, err);
	for (unsigned i = 0; i < gic->machine->vcpu_count && !r; i++)
		r = gic_words_reset(gic->fd, gic_cpu_attr(gic, i), gic->own, gic->own_count,
		                    &gic->own_power_on, err);
	if (!r)
		r = gic_words_reset(gic->fd, gic_cpu_attr(gic, 0), gic->shared, gic->shared_count,
		                    &gic->shared_power_on, err);
	return r < 0 ? error_context(err, "interrupt controller") : 0;
}
