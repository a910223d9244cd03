/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of a vCPU: all that KVM lists, as (id, value) records, and
 * back. An id has the value's size in it, so a record needs no more.
 *
 * What is not set: the counters, which guest time sets (clock.c). A register
 * that KVM refuses to change is fine if it holds that value already: so are
 * invariant ID registers compared, and so is everything in them that this KVM
 * does not let us choose.
 * Source: KVM API, 4.68 (KVM_SET_ONE_REG), 4.80 (KVM_GET_REG_LIST);
 * Linux, Documentation/virt/kvm/arm/fw-pseudo-registers.rst.
 */
#include "vmm/arm64/arm64.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

unsigned reg_size(uint64_t id)
{
	return 1u << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

int reg_get(struct vcpu *v, uint64_t id, void *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)value };

	return io_ioctl(v->fd, KVM_GET_ONE_REG, &reg);
}

int reg_set(struct vcpu *v, uint64_t id, const void *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)value };

	return io_ioctl(v->fd, KVM_SET_ONE_REG, &reg);
}

/* Its length is asked for first: E2BIG, with the number filled in. */
static struct kvm_reg_list *list_registers(struct vcpu *v, struct gw_error *err)
{
	struct kvm_reg_list probe = { .n = 0 }, *list;
	int r = io_ioctl(v->fd, KVM_GET_REG_LIST, &probe);

	if (r < 0 && r != -E2BIG) {
		error_set_sys(err, r, "vcpu%u: KVM_GET_REG_LIST", v->index);
		return NULL;
	}
	list = calloc(1, sizeof(*list) + probe.n * sizeof(list->reg[0]));
	if (!list) {
		error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index);
		return NULL;
	}
	list->n = probe.n;
	r = io_ioctl(v->fd, KVM_GET_REG_LIST, list);
	if (r < 0) {
		error_set_sys(err, r, "vcpu%u: KVM_GET_REG_LIST", v->index);
		free(list);
		return NULL;
	}
	return list;
}

int vcpu_regs_get(struct vcpu *v, struct bytes *out, struct gw_error *err)
{
	autofree struct kvm_reg_list *list = list_registers(v, err);
	uint8_t value[REG_SIZE_MAX];
	char name[REG_NAME_MAX];

	if (!list)
		return err ? err->code : -EIO;
	for (uint64_t i = 0; i < list->n; i++) {
		const uint64_t id = list->reg[i];
		int r;

		reg_name(id, name);
		if (reg_size(id) > sizeof(value))
			return error_set(err, -EINVAL, "vcpu%u: %s has %u bytes", v->index, name,
			                 reg_size(id));
		r = reg_get(v, id, value);
		if (r < 0)
			return error_set_sys(err, r, "vcpu%u: reading %s", v->index, name);
		bytes_put64(out, id);
		bytes_put(out, value, reg_size(id));
	}
	return out->failed ? error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index) : 0;
}

/* ---- setting ---- */

static const uint64_t not_set[] = {
	KVM_REG_ARM_TIMER_CNT,
	KVM_REG_ARM_PTIMER_CNT,
};

/* Settled when the vCPU was made: its place, by which the interrupt controller and the device tree
 * name it and which KVM would let anybody change, and the lengths of SVE vectors, of which KVM can
 * only leave out the longest. */
static const uint64_t only_compared[] = {
	ARM64_SYS_REG(3, 0, 0, 0, 5), /* MPIDR_EL1 */
	KVM_REG_ARM64_SVE_VLS,
};

static bool is_among(const uint64_t *ids, size_t count, uint64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool is_zero(const uint8_t *value, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		if (value[i])
			return false;
	return true;
}

/* Numbers as people write them; the long ones are vectors, of which nothing is refused. */
static unsigned long long low_part(const uint8_t *value, unsigned size)
{
	uint64_t number = 0;

	memcpy(&number, value, MIN(size, (unsigned)sizeof(number)));
	return number;
}

/* Whether that matters is up to what is here. */
static int refused(struct vcpu *v, uint64_t id, const uint8_t *value, int why, struct gw_error *err)
{
	const unsigned size = reg_size(id);
	uint8_t now[REG_SIZE_MAX];
	char name[REG_NAME_MAX];

	reg_name(id, name);
	if (reg_get(v, id, now) < 0) {
		if (is_zero(value, size))
			return 0;
		return error_set(err, -ENOTSUP,
		                 "vcpu%u: the guest's %s is 0x%llx, and this host's KVM has no "
		                 "such register",
		                 v->index, name, low_part(value, size));
	}
	if (!memcmp(now, value, size))
		return 0;
	if (!why)
		return error_set(err, -ENOTSUP,
		                 "vcpu%u: %s: the guest's is 0x%llx, and here it is 0x%llx",
		                 v->index, name, low_part(value, size), low_part(now, size));
	return error_set(
	        err, -ENOTSUP,
	        "vcpu%u: %s: the guest's is 0x%llx, and this host's KVM refuses that (%s); "
	        "here it is 0x%llx",
	        v->index, name, low_part(value, size), strerror(-why), low_part(now, size));
}

static int set_one(struct vcpu *v, uint64_t id, const uint8_t *value, struct gw_error *err)
{
	int r;

	if (is_among(not_set, ARRAY_SIZE(not_set), id))
		return 0;
	if (is_among(only_compared, ARRAY_SIZE(only_compared), id))
		return refused(v, id, value, 0, err);
	r = reg_set(v, id, value);
	return r < 0 ? refused(v, id, value, r, err) : 0;
}

/* The firmware's features come first: other registers may depend on what is offered. */
static bool goes_first(uint64_t id)
{
	const uint64_t kind = id & KVM_REG_ARM_COPROC_MASK;

	return kind == KVM_REG_ARM_FW || kind == KVM_REG_ARM_FW_FEAT_BMAP;
}

static int set_pass(struct vcpu *v, const void *records, size_t len, bool first,
                    struct gw_error *err)
{
	struct bytes_reader in = { .data = records, .len = len };

	while (in.len) {
		const uint64_t id = bytes_take64(&in);
		const unsigned size = reg_size(id);
		const uint8_t *value = size > REG_SIZE_MAX ? NULL : bytes_take_view(&in, size);
		int r;

		if (in.failed || !value || (id & KVM_REG_ARCH_MASK) != KVM_REG_ARM64)
			return error_set(err, -EINVAL, "vcpu%u: %zu bytes are no registers",
			                 v->index, len);
		r = goes_first(id) == first ? set_one(v, id, value, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int vcpu_regs_set(struct vcpu *v, const void *records, size_t len, struct gw_error *err)
{
	int r = set_pass(v, records, len, true, err);

	return r ? r : set_pass(v, records, len, false, err);
}
