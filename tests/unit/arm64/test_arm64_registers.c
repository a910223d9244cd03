/* SPDX-License-Identifier: Apache-2.0 */
/* Names of registers, and the tables of the interrupt controller's. */
#include <criterion/criterion.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/arm64/layout.h"

#include <string.h>

Test(reg_names, registers_have_the_names_of_the_manual)
{
	static const struct {
		uint64_t id;
		const char *name;
	} cases[] = {
		{ ARM64_SYS_REG(3, 0, 0, 0, 0), "MIDR_EL1" },
		{ ARM64_SYS_REG(3, 0, 0, 4, 0), "ID_AA64PFR0_EL1" },
		{ ARM64_SYS_REG(3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1" },
		{ ARM64_SYS_REG(3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1" },
		{ ARM64_SYS_REG(3, 0, 5, 1, 1), "S3_0_C5_C1_1" },
		{ KVM_REG_ARM_TIMER_CNT, "CNTVCT_EL0" },
		{ KVM_REG_ARM_TIMER_CVAL, "CNTV_CVAL_EL0" },
		{ KVM_REG_ARM_PSCI_VERSION, "the PSCI version" },
		{ KVM_REG_ARM64_SVE_ZREG(7, 0), "z7" },
		{ KVM_REG_ARM64_SVE_PREG(15, 0), "p15" },
		{ KVM_REG_ARM64_SVE_FFR(0), "ffr" },
		{ KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		          KVM_REG_ARM_CORE_REG(regs.regs[19]),
		  "x19" },
		{ KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		          KVM_REG_ARM_CORE_REG(regs.pc),
		  "pc" },
		{ KVM_REG_ARM64 | KVM_REG_SIZE_U128 | KVM_REG_ARM_CORE |
		          KVM_REG_ARM_CORE_REG(fp_regs.vregs[31]),
		  "v31" },
	};
	char name[REG_NAME_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		reg_name(cases[i].id, name);
		cr_assert_str_eq(name, cases[i].name);
	}
}

Test(reg_names, an_id_tells_its_size)
{
	cr_assert_eq(reg_size(ARM64_SYS_REG(3, 0, 0, 0, 0)), 8);
	cr_assert_eq(reg_size(KVM_REG_ARM64 | KVM_REG_SIZE_U128), 16);
	cr_assert_eq(reg_size(KVM_REG_ARM64_SVE_ZREG(0, 0)), 256);
}

Test(reg_names, features_are_named)
{
	char names[64];

	vcpu_features_name(1u << KVM_ARM_VCPU_SVE | 1u << KVM_ARM_VCPU_PMU_V3 | 1u << 31, names,
	                   sizeof(names));
	cr_assert_str_eq(names, "pmu, sve, feature 31");
	vcpu_features_name(0, names, sizeof(names));
	cr_assert_str_empty(names);
	vcpu_features_name(~0u, names, sizeof(names));
	cr_assert_lt(strlen(names), sizeof(names), "cut off where room ends");
}

/* ---- the interrupt controller's ---- */

static const struct gic_word *find(const struct gic_word *words, unsigned count, uint8_t group,
                                   uint32_t attr, unsigned *at)
{
	for (unsigned i = 0; i < count; i++) {
		if (words[i].group != group || words[i].attr != attr)
			continue;
		if (at)
			*at = i;
		return &words[i];
	}
	return NULL;
}

Test(gic_words, shared_ones_begin_with_the_first_spi)
{
	struct gic_word w[GIC_WORDS_MAX];
	const unsigned n = gic_words(GIC_V3, false, LAYOUT_INTIDS, w);
	const uint8_t dist = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
	const struct gic_word *enable = find(w, n, dist, 0x104, NULL);

	cr_assert_lt(n, GIC_WORDS_MAX, "nothing was cut off");
	cr_assert_eq(w[0].attr, 8, "GICD_IIDR comes first");
	cr_assert_null(find(w, n, dist, 0x100, NULL));
	cr_assert_not_null(enable);
	cr_assert_eq(enable->clear, 0x184);
	cr_assert_not_null(find(w, n, dist, 0x6100, NULL), "GICD_IROUTER32");
	cr_assert_not_null(find(w, n, dist, 0x61fc, NULL), "GICD_IROUTER63, upper half");
	cr_assert_null(find(w, n, dist, 0x6200, NULL));
	cr_assert_not_null(find(w, n, dist, 0x43c, NULL), "priorities of 60 to 63");
	cr_assert_not_null(find(w, n, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, 32, NULL));
}

Test(gic_words, tables_of_a_cpu_come_before_their_use)
{
	struct gic_word w[GIC_WORDS_MAX];
	const unsigned n = gic_words(GIC_V3, true, LAYOUT_INTIDS, w);
	const uint8_t redist = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
	unsigned pend, control, pending, level, trigger;

	cr_assert_not_null(find(w, n, redist, 0x7c, &pend));
	cr_assert_not_null(find(w, n, redist, 0, &control));
	cr_assert(w[control].zero_first && control > pend);
	cr_assert_not_null(find(w, n, redist, 0x10200, &pending));
	cr_assert_not_null(find(w, n, redist, 0x10c04, &trigger));
	cr_assert_not_null(find(w, n, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, 0, &level));
	cr_assert(trigger < pending && pending < level);
}

Test(gic_words, go_to_bytes_and_back)
{
	struct gic_word w[GIC_WORDS_MAX];
	const unsigned n = gic_words(GIC_V3, true, LAYOUT_INTIDS, w);
	struct gic_values values = { 0 }, back;
	struct gw_error err = { 0 };
	struct bytes b = { 0 };

	for (unsigned i = 0; i < n; i++) {
		values.value[i] = 0x100000000ull * i + i;
		values.has[i] = !w[i].optional;
	}
	gic_words_put(w, n, &values, &b);
	cr_assert_eq(gic_words_take(w, n, b.data, b.len, &back, &err), 0, "%s", err.text);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq(back.has[i], values.has[i]);
		if (back.has[i])
			cr_assert_eq(back.value[i], values.value[i]);
	}
	cr_assert_eq(gic_words_take(w, n, b.data, b.len - 16, &back, &err), -EINVAL, "one less");
	cr_assert_not_null(strstr(err.text, "did not come"), "%s", err.text);
	cr_assert_eq(gic_words_take(w, n, b.data, b.len - 1, &back, &err), -EINVAL, "cut off");
	memcpy(b.data, b.data + 16, 16);
	cr_assert_eq(gic_words_take(w, n, b.data, b.len, &back, &err), -EINVAL, "one twice");
	b.data[4] ^= 1;
	cr_assert_eq(gic_words_take(w, n, b.data, b.len, &back, &err), -EINVAL, "an unknown one");
	bytes_free(&b);
}

Test(gic_words, a_gicv2_has_them_banked)
{
	struct gic_word w[GIC_WORDS_MAX];
	unsigned n = gic_words(GIC_V2, true, LAYOUT_INTIDS, w);
	const uint8_t dist = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
	const struct gic_word *sgi = find(w, n, dist, 0xf20, NULL);

	cr_assert_not_null(sgi);
	cr_assert_eq(sgi->clear, 0xf10);
	cr_assert_not_null(find(w, n, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, 0xd0, NULL));
	n = gic_words(GIC_V2, false, LAYOUT_INTIDS, w);
	cr_assert_not_null(find(w, n, dist, 0x820, NULL), "targets of the first SPIs");
	cr_assert_null(find(w, n, dist, 0x6100, NULL));
}
