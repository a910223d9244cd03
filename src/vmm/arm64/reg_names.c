/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of registers, for messages. Those in the table are the ones by which
 * CPUs differ, so the ones that a message is about; all others are named by
 * their kind and number.
 * Sources: Arm Architecture Reference Manual (DDI 0487), D19.2 (registers by encoding);
 * KVM API, 4.68 (ids).
 */
#include "vmm/arm64/arm64.h"

#include "base/util.h"

#include <asm/kvm.h>
#include <stdio.h>

#define SYS(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
#define SYS_MASK 0xffffu

static const struct {
	uint16_t code;
	const char *name;
} sys_names[] = {
	{ SYS(3, 0, 0, 0, 0), "MIDR_EL1" },
	{ SYS(3, 0, 0, 0, 5), "MPIDR_EL1" },
	{ SYS(3, 0, 0, 0, 6), "REVIDR_EL1" },
	{ SYS(3, 1, 0, 0, 0), "CCSIDR_EL1" },
	{ SYS(3, 1, 0, 0, 1), "CLIDR_EL1" },
	{ SYS(3, 1, 0, 0, 7), "AIDR_EL1" },
	{ SYS(3, 2, 0, 0, 0), "CSSELR_EL1" },
	{ SYS(3, 3, 0, 0, 1), "CTR_EL0" },
	{ SYS(3, 3, 0, 0, 7), "DCZID_EL0" },
	{ SYS(3, 3, 14, 0, 0), "CNTFRQ_EL0" },
	/* 32-bit features */
	{ SYS(3, 0, 0, 1, 0), "ID_PFR0_EL1" },
	{ SYS(3, 0, 0, 1, 1), "ID_PFR1_EL1" },
	{ SYS(3, 0, 0, 1, 2), "ID_DFR0_EL1" },
	{ SYS(3, 0, 0, 1, 3), "ID_AFR0_EL1" },
	{ SYS(3, 0, 0, 1, 4), "ID_MMFR0_EL1" },
	{ SYS(3, 0, 0, 1, 5), "ID_MMFR1_EL1" },
	{ SYS(3, 0, 0, 1, 6), "ID_MMFR2_EL1" },
	{ SYS(3, 0, 0, 1, 7), "ID_MMFR3_EL1" },
	{ SYS(3, 0, 0, 2, 0), "ID_ISAR0_EL1" },
	{ SYS(3, 0, 0, 2, 1), "ID_ISAR1_EL1" },
	{ SYS(3, 0, 0, 2, 2), "ID_ISAR2_EL1" },
	{ SYS(3, 0, 0, 2, 3), "ID_ISAR3_EL1" },
	{ SYS(3, 0, 0, 2, 4), "ID_ISAR4_EL1" },
	{ SYS(3, 0, 0, 2, 5), "ID_ISAR5_EL1" },
	{ SYS(3, 0, 0, 2, 6), "ID_MMFR4_EL1" },
	{ SYS(3, 0, 0, 2, 7), "ID_ISAR6_EL1" },
	{ SYS(3, 0, 0, 3, 0), "MVFR0_EL1" },
	{ SYS(3, 0, 0, 3, 1), "MVFR1_EL1" },
	{ SYS(3, 0, 0, 3, 2), "MVFR2_EL1" },
	{ SYS(3, 0, 0, 3, 4), "ID_PFR2_EL1" },
	{ SYS(3, 0, 0, 3, 5), "ID_DFR1_EL1" },
	{ SYS(3, 0, 0, 3, 6), "ID_MMFR5_EL1" },
	/* 64-bit features */
	{ SYS(3, 0, 0, 4, 0), "ID_AA64PFR0_EL1" },
	{ SYS(3, 0, 0, 4, 1), "ID_AA64PFR1_EL1" },
	{ SYS(3, 0, 0, 4, 2), "ID_AA64PFR2_EL1" },
	{ SYS(3, 0, 0, 4, 4), "ID_AA64ZFR0_EL1" },
	{ SYS(3, 0, 0, 4, 5), "ID_AA64SMFR0_EL1" },
	{ SYS(3, 0, 0, 4, 7), "ID_AA64FPFR0_EL1" },
	{ SYS(3, 0, 0, 5, 0), "ID_AA64DFR0_EL1" },
	{ SYS(3, 0, 0, 5, 1), "ID_AA64DFR1_EL1" },
	{ SYS(3, 0, 0, 5, 4), "ID_AA64AFR0_EL1" },
	{ SYS(3, 0, 0, 5, 5), "ID_AA64AFR1_EL1" },
	{ SYS(3, 0, 0, 6, 0), "ID_AA64ISAR0_EL1" },
	{ SYS(3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1" },
	{ SYS(3, 0, 0, 6, 2), "ID_AA64ISAR2_EL1" },
	{ SYS(3, 0, 0, 6, 3), "ID_AA64ISAR3_EL1" },
	{ SYS(3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1" },
	{ SYS(3, 0, 0, 7, 1), "ID_AA64MMFR1_EL1" },
	{ SYS(3, 0, 0, 7, 2), "ID_AA64MMFR2_EL1" },
	{ SYS(3, 0, 0, 7, 3), "ID_AA64MMFR3_EL1" },
	{ SYS(3, 0, 0, 7, 4), "ID_AA64MMFR4_EL1" },
	/* state that a guest's CPU can only have with a feature */
	{ SYS(3, 0, 1, 0, 0), "SCTLR_EL1" },
	{ SYS(3, 0, 1, 0, 1), "ACTLR_EL1" },
	{ SYS(3, 0, 1, 0, 2), "CPACR_EL1" },
	{ SYS(3, 0, 1, 2, 0), "ZCR_EL1" },
	{ SYS(3, 0, 2, 0, 0), "TTBR0_EL1" },
	{ SYS(3, 0, 2, 0, 1), "TTBR1_EL1" },
	{ SYS(3, 0, 2, 0, 2), "TCR_EL1" },
	{ SYS(3, 0, 2, 0, 3), "TCR2_EL1" },
	{ SYS(3, 3, 9, 12, 0), "PMCR_EL0" },
	{ SYS(3, 3, 9, 13, 0), "PMCCNTR_EL0" },
	/* The two are swapped in KVM's interface (asm/kvm.h). */
	{ SYS(3, 3, 14, 0, 2), "CNTV_CVAL_EL0" },
	{ SYS(3, 3, 14, 3, 2), "CNTVCT_EL0" },
	{ SYS(3, 3, 14, 3, 1), "CNTV_CTL_EL0" },
	{ SYS(3, 3, 14, 2, 1), "CNTP_CTL_EL0" },
	{ SYS(3, 3, 14, 2, 2), "CNTP_CVAL_EL0" },
	{ SYS(3, 3, 14, 0, 1), "CNTPCT_EL0" },
};

static void name_sys(uint64_t id, char out[REG_NAME_MAX])
{
	const unsigned code = id & SYS_MASK;

	for (size_t i = 0; i < ARRAY_SIZE(sys_names); i++) {
		if (sys_names[i].code != code)
			continue;
		snprintf(out, REG_NAME_MAX, "%s", sys_names[i].name);
		return;
	}
	/* The manual's own form for a register without a name. */
	snprintf(out, REG_NAME_MAX, "S%u_%u_C%u_C%u_%u", code >> 14, code >> 11 & 7, code >> 7 & 15,
	         code >> 3 & 15, code & 7);
}

/* The place in struct kvm_regs, in words of 32 bits. */
static void name_core(uint64_t id, char out[REG_NAME_MAX])
{
	static const struct {
		unsigned at;
		const char *name;
	} names[] = {
		{ KVM_REG_ARM_CORE_REG(regs.sp), "sp_el0" },
		{ KVM_REG_ARM_CORE_REG(regs.pc), "pc" },
		{ KVM_REG_ARM_CORE_REG(regs.pstate), "pstate" },
		{ KVM_REG_ARM_CORE_REG(sp_el1), "sp_el1" },
		{ KVM_REG_ARM_CORE_REG(elr_el1), "elr_el1" },
		{ KVM_REG_ARM_CORE_REG(fp_regs.fpsr), "fpsr" },
		{ KVM_REG_ARM_CORE_REG(fp_regs.fpcr), "fpcr" },
	};
	const unsigned at = id & 0xffff, spsr = KVM_REG_ARM_CORE_REG(spsr);
	const unsigned vectors = KVM_REG_ARM_CORE_REG(fp_regs.vregs);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (names[i].at != at)
			continue;
		snprintf(out, REG_NAME_MAX, "%s", names[i].name);
		return;
	}
	if (at < KVM_REG_ARM_CORE_REG(regs.sp))
		snprintf(out, REG_NAME_MAX, "x%u", at / 2);
	else if (at >= spsr && at < vectors)
		snprintf(out, REG_NAME_MAX, "spsr[%u]", (at - spsr) / 2);
	else
		snprintf(out, REG_NAME_MAX, "v%u", (at - vectors) / 4);
}

static void name_sve(uint64_t id, char out[REG_NAME_MAX])
{
	const unsigned at = id & 0xffff;

	if (id == KVM_REG_ARM64_SVE_VLS)
		snprintf(out, REG_NAME_MAX, "SVE vector lengths");
	else if (at >= KVM_REG_ARM64_SVE_FFR_BASE)
		snprintf(out, REG_NAME_MAX, "ffr");
	else if (at >= KVM_REG_ARM64_SVE_PREG_BASE)
		snprintf(out, REG_NAME_MAX, "p%u", (at - KVM_REG_ARM64_SVE_PREG_BASE) >> 5);
	else
		snprintf(out, REG_NAME_MAX, "z%u", at >> 5);
}

static void name_firmware(uint64_t id, char out[REG_NAME_MAX])
{
	static const char *const names[] = {
		"the PSCI version",
		"SMCCC_ARCH_WORKAROUND_1",
		"SMCCC_ARCH_WORKAROUND_2",
		"SMCCC_ARCH_WORKAROUND_3",
	};
	const unsigned n = id & 0xffff;

	if (n < ARRAY_SIZE(names))
		snprintf(out, REG_NAME_MAX, "%s", names[n]);
	else
		snprintf(out, REG_NAME_MAX, "firmware register %u", n);
}

void reg_name(uint64_t id, char out[REG_NAME_MAX])
{
	switch (id & KVM_REG_ARM_COPROC_MASK) {
	case KVM_REG_ARM64_SYSREG:
		name_sys(id, out);
		break;
	case KVM_REG_ARM_CORE:
		name_core(id, out);
		break;
	case KVM_REG_ARM64_SVE:
		name_sve(id, out);
		break;
	case KVM_REG_ARM_FW:
		name_firmware(id, out);
		break;
	case KVM_REG_ARM_FW_FEAT_BMAP:
		snprintf(out, REG_NAME_MAX, "firmware features %u", (unsigned)(id & 0xffff));
		break;
	case KVM_REG_ARM_DEMUX:
		snprintf(out, REG_NAME_MAX, "cache %u", (unsigned)(id & 0xff));
		break;
	default:
		snprintf(out, REG_NAME_MAX, "register 0x%llx", (unsigned long long)id);
	}
}
