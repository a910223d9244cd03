/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's CPUs have: SVE and its longest vectors, pointer
 * authentication, the performance monitor, as the configuration asks for and
 * KVM offers. What "auto" came to goes into the machine's configuration, which
 * travels with the guest: a host that lacks it says so before anything moves.
 * Sources: KVM API, 4.82 (KVM_ARM_VCPU_INIT), 4.119 (KVM_ARM_VCPU_FINALIZE);
 * Linux, Documentation/virt/kvm/devices/vcpu.rst, arm/pvtime.rst.
 */
#include "vmm/arm64/arm64.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arm64/layout.h"

#include <stdio.h>
#include <string.h>

#define BIT(n) (1u << (n))
#define PAUTH_BITS (BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) | BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC))

static const struct {
	unsigned feature;
	const char *name;
} feature_names[] = {
	{ KVM_ARM_VCPU_EL1_32BIT, "el1-32bit" },
	{ KVM_ARM_VCPU_PSCI_0_2, "psci" },
	{ KVM_ARM_VCPU_PMU_V3, "pmu" },
	{ KVM_ARM_VCPU_SVE, "sve" },
	{ KVM_ARM_VCPU_PTRAUTH_ADDRESS, "pauth" },
	{ KVM_ARM_VCPU_PTRAUTH_GENERIC, "pauth-generic" },
};

void vcpu_features_name(uint32_t features, char *out, size_t size)
{
	size_t at = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < 32; i++) {
		char number[16];
		const char *name = number;

		if (!(features >> i & 1) || at >= size)
			continue;
		snprintf(number, sizeof(number), "feature %u", i);
		for (size_t n = 0; n < ARRAY_SIZE(feature_names); n++)
			if (feature_names[n].feature == i)
				name = feature_names[n].name;
		at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", name);
	}
}

static bool has_cap(struct machine *m, int cap)
{
	return io_ioctl(m->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap) > 0;
}

static int refuse(const char *key, const char *value, const char *what, struct gw_error *err)
{
	return error_set(err, -ENOTSUP, "%s: \"%s\": this host's KVM offers no %s", key, value,
	                 what);
}

/* Which level of SVE is asked for: a vector length in bits. */
static const unsigned sve_bits[] = {
	[CONFIG_SVE_128] = 128,   [CONFIG_SVE_256] = 256,   [CONFIG_SVE_512] = 512,
	[CONFIG_SVE_1024] = 1024, [CONFIG_SVE_2048] = 2048,
};

static int choose_pauth(struct machine *m, struct gw_error *err)
{
	const bool offered =
	        has_cap(m, KVM_CAP_ARM_PTRAUTH_ADDRESS) && has_cap(m, KVM_CAP_ARM_PTRAUTH_GENERIC);
	uint32_t *wish = &m->config.cpu.pauth;

	if (*wish == CONFIG_CHOICE_ON && !offered)
		return refuse("cpu.pauth", "on", "pointer authentication", err);
	if (*wish == CONFIG_CHOICE_AUTO)
		*wish = offered ? CONFIG_CHOICE_ON : CONFIG_CHOICE_OFF;
	if (*wish == CONFIG_CHOICE_ON)
		m->arch->init.features[0] |= PAUTH_BITS;
	return 0;
}

static int choose_pmu(struct machine *m, struct gw_error *err)
{
	if (!m->config.cpu.pmu)
		return 0;
	if (!has_cap(m, KVM_CAP_ARM_PMU_V3))
		return refuse("cpu.pmu", "true", "performance monitor", err);
	m->arch->init.features[0] |= BIT(KVM_ARM_VCPU_PMU_V3);
	return 0;
}

/* How long vectors can be is seen from the first vCPU, which is not there yet (finalize()). */
static int choose_sve(struct machine *m, struct gw_error *err)
{
	uint32_t *wish = &m->config.cpu.sve;
	const bool offered = has_cap(m, KVM_CAP_ARM_SVE);

	if (*wish >= CONFIG_SVE_128 && !offered) {
		char bits[16];

		snprintf(bits, sizeof(bits), "%u", sve_bits[*wish]);
		return refuse("cpu.sve", bits, "Scalable Vector Extension", err);
	}
	if (*wish == CONFIG_SVE_AUTO && !offered)
		*wish = CONFIG_SVE_OFF;
	if (*wish != CONFIG_SVE_OFF)
		m->arch->init.features[0] |= BIT(KVM_ARM_VCPU_SVE);
	return 0;
}

int vcpu_features_choose(struct machine *m, struct gw_error *err)
{
	struct arch *arch = m->arch;
	int r = io_ioctl(m->vm_fd, KVM_ARM_PREFERRED_TARGET, &arch->init);

	if (r < 0)
		return error_set_sys(err, r, "KVM_ARM_PREFERRED_TARGET");
	if (m->config.cpu.model != CONFIG_CPU_HOST)
		return error_set(err, -ENOTSUP,
		                 "cpu.model: that is a model of another architecture; on arm64 "
		                 "there is \"host\"");
	arch->init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2);
	arch->steal_time = has_cap(m, KVM_CAP_STEAL_TIME);
	r = choose_pauth(m, err);
	if (!r)
		r = choose_pmu(m, err);
	return r ? r : choose_sve(m, err);
}

int vcpu_features_init(struct vcpu *v, struct gw_error *err)
{
	struct kvm_vcpu_init init = v->machine->arch->init;
	int r;

	if (v->index)
		init.features[0] |= BIT(KVM_ARM_VCPU_POWER_OFF);
	r = io_ioctl(v->fd, KVM_ARM_VCPU_INIT, &init);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_ARM_VCPU_INIT", v->index) : 0;
}

/* ---- vector lengths: a bit for each multiple of 128 bits ---- */

#define VQ_BITS 128u

static bool has_length(const uint64_t *lengths, unsigned quads)
{
	return lengths[(quads - 1) / 64] >> ((quads - 1) % 64) & 1;
}

static unsigned longest(const uint64_t *lengths)
{
	for (unsigned quads = KVM_ARM64_SVE_VQ_MAX; quads; quads--)
		if (has_length(lengths, quads))
			return quads;
	return 0;
}

/* The largest of our steps that is not longer than that. */
static uint32_t step_for(unsigned bits)
{
	uint32_t step = CONFIG_SVE_128;

	for (uint32_t i = CONFIG_SVE_128; i < ARRAY_SIZE(sve_bits); i++)
		if (sve_bits[i] <= bits)
			step = i;
	return step;
}

static int choose_lengths(struct vcpu *v, uint64_t *lengths, struct gw_error *err)
{
	uint32_t *wish = &v->machine->config.cpu.sve;
	const unsigned most = longest(lengths) * VQ_BITS;

	if (*wish == CONFIG_SVE_AUTO)
		*wish = step_for(most);
	if (!has_length(lengths, sve_bits[*wish] / VQ_BITS))
		return error_set(err, -ENOTSUP,
		                 "cpu.sve: vectors of %u bits; this host's KVM has none of that "
		                 "length, the longest are of %u bits",
		                 sve_bits[*wish], most);
	for (unsigned quads = sve_bits[*wish] / VQ_BITS + 1; quads <= KVM_ARM64_SVE_VQ_MAX; quads++)
		lengths[(quads - 1) / 64] &= ~(1ull << ((quads - 1) % 64));
	return 0;
}

/* Vector lengths can be set until then, and registers be looked at only afterwards. */
int vcpu_features_finalize(struct vcpu *v, struct gw_error *err)
{
	uint64_t lengths[KVM_ARM64_SVE_VLS_WORDS] = { 0 };
	int feature = KVM_ARM_VCPU_SVE, r;

	if (!(v->machine->arch->init.features[0] & BIT(KVM_ARM_VCPU_SVE)))
		return 0;
	r = reg_get(v, KVM_REG_ARM64_SVE_VLS, lengths);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: vector lengths", v->index);
	r = choose_lengths(v, lengths, err);
	if (r < 0)
		return r;
	r = reg_set(v, KVM_REG_ARM64_SVE_VLS, lengths);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: setting vector lengths", v->index);
	r = io_ioctl(v->fd, KVM_ARM_VCPU_FINALIZE, &feature);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_ARM_VCPU_FINALIZE", v->index) : 0;
}

/* ---- what needs the interrupt controller or memory ---- */

static int begin_pmu(struct vcpu *v, struct gw_error *err)
{
	const int intid = 16 + LAYOUT_PPI_PMU;
	int r = attr_set(v->fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &intid);

	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_ARM_VCPU_PMU_V3_IRQ", v->index);
	r = attr_set(v->fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, NULL);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_ARM_VCPU_PMU_V3_INIT", v->index) : 0;
}

/* KVM puts the time that the vCPU was kept from running there; the guest asks it where. */
static int begin_steal_time(struct vcpu *v, struct gw_error *err)
{
	const uint64_t gpa = LAYOUT_STEAL_TIME + (uint64_t)v->index * LAYOUT_STEAL_TIME_EACH;
	int r = attr_set(v->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &gpa);

	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_ARM_VCPU_PVTIME_IPA", v->index) : 0;
}

int vcpu_features_complete(struct vcpu *v, struct gw_error *err)
{
	const struct arch *arch = v->machine->arch;
	int r = 0;

	if (arch->init.features[0] & BIT(KVM_ARM_VCPU_PMU_V3))
		r = begin_pmu(v, err);
	if (!r && arch->steal_time)
		r = begin_steal_time(v, err);
	return r;
}
