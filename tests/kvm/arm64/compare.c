/* SPDX-License-Identifier: Apache-2.0 */
/* All that KVM lists of two machines' vCPUs, and all registers of their interrupt controllers. */
#include "harness.h"

#include "base/bytes.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/arm64/layout.h"

#include <string.h>

/* These count by themselves while a vCPU stands still. */
static bool is_time(uint64_t id)
{
	return id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

static void compare_registers(struct vcpu *a, struct vcpu *b)
{
	struct bytes all_a = { 0 }, all_b = { 0 };
	struct bytes_reader in_a, in_b;
	struct gw_error err;

	cr_assert_eq(vcpu_regs_get(a, &all_a, &err), 0, "%s", err.text);
	cr_assert_eq(vcpu_regs_get(b, &all_b, &err), 0, "%s", err.text);
	cr_assert_eq(all_a.len, all_b.len, "vcpu%u", a->index);
	in_a = (struct bytes_reader){ .data = all_a.data, .len = all_a.len };
	in_b = (struct bytes_reader){ .data = all_b.data, .len = all_b.len };
	while (in_a.len) {
		const uint64_t id = bytes_take64(&in_a);
		const void *va, *vb;
		char name[REG_NAME_MAX];

		reg_name(id, name);
		cr_assert_eq(bytes_take64(&in_b), id, "vcpu%u: %s is missing", a->index, name);
		va = bytes_take_view(&in_a, reg_size(id));
		vb = bytes_take_view(&in_b, reg_size(id));
		cr_assert(va && vb);
		cr_assert(is_time(id) || !memcmp(va, vb, reg_size(id)), "vcpu%u: %s differs",
		          a->index, name);
	}
	bytes_free(&all_a);
	bytes_free(&all_b);
}

static void compare_rest(struct vcpu *a, struct vcpu *b)
{
	struct kvm_vcpu_events ea = { 0 }, eb = { 0 };
	struct kvm_mp_state ma, mb;

	cr_assert_eq(io_ioctl(a->fd, KVM_GET_VCPU_EVENTS, &ea), 0);
	cr_assert_eq(io_ioctl(b->fd, KVM_GET_VCPU_EVENTS, &eb), 0);
	cr_assert_eq(memcmp(&ea, &eb, sizeof(ea)), 0, "vcpu%u: pending events", a->index);
	cr_assert_eq(io_ioctl(a->fd, KVM_GET_MP_STATE, &ma), 0);
	cr_assert_eq(io_ioctl(b->fd, KVM_GET_MP_STATE, &mb), 0);
	cr_assert_eq(ma.mp_state, mb.mp_state, "vcpu%u: running state", a->index);
}

/* A restore tells the guest of its new generation id. */
#define GENERATION_WORD (0x200 + (32 + LAYOUT_VMGENID_GSI) / 32 * 4)
static uint64_t mask_generation(const struct gic_word *w, uint64_t value)
{
	if (w->group != KVM_DEV_ARM_VGIC_GRP_DIST_REGS || w->attr != GENERATION_WORD)
		return value;
	return value & ~(1ull << (32 + LAYOUT_VMGENID_GSI) % 32);
}

static void compare_words(struct gic *a, struct gic *b, unsigned cpu, bool own)
{
	const struct gic_word *words = own ? a->own : a->shared;
	const unsigned count = own ? a->own_count : a->shared_count;
	struct gic_values va, vb;
	struct gw_error err;

	cr_assert_eq(gic_words_get(a->fd, gic_cpu_attr(a, cpu), words, count, &va, &err), 0, "%s",
	             err.text);
	cr_assert_eq(gic_words_get(b->fd, gic_cpu_attr(b, cpu), words, count, &vb, &err), 0, "%s",
	             err.text);
	for (unsigned i = 0; i < count; i++) {
		cr_assert_eq(va.has[i], vb.has[i], "%s", words[i].name);
		va.value[i] = mask_generation(&words[i], va.value[i]);
		vb.value[i] = mask_generation(&words[i], vb.value[i]);
		cr_assert_eq(va.value[i], vb.value[i], "cpu %u: %s (0x%x): 0x%llx and 0x%llx", cpu,
		             words[i].name, words[i].attr, (unsigned long long)va.value[i],
		             (unsigned long long)vb.value[i]);
	}
}

static void compare_its(struct gic *a, struct gic *b)
{
	struct its_values va, vb;
	struct gw_error err;

	cr_assert_eq(gic_has_its(a), gic_has_its(b));
	if (!gic_has_its(a))
		return;
	cr_assert_eq(its_get(a->its_fd, &va, &err), 0, "%s", err.text);
	cr_assert_eq(its_get(b->its_fd, &vb, &err), 0, "%s", err.text);
	for (unsigned i = 0; i < ITS_REGISTERS; i++)
		cr_assert_eq(va.value[i], vb.value[i], "ITS: register %u: 0x%llx and 0x%llx", i,
		             (unsigned long long)va.value[i], (unsigned long long)vb.value[i]);
}

void guest_compare_chips(struct machine *a, struct machine *b)
{
	struct gic *ga = a->arch->gic, *gb = b->arch->gic;

	cr_assert_eq(a->vcpu_count, b->vcpu_count);
	cr_assert_eq(gic_version(ga), gic_version(gb));
	compare_words(ga, gb, 0, false);
	compare_its(ga, gb);
	for (unsigned i = 0; i < a->vcpu_count; i++) {
		compare_registers(a->vcpus[i], b->vcpus[i]);
		compare_rest(a->vcpus[i], b->vcpus[i]);
		compare_words(ga, gb, i, true);
	}
}
