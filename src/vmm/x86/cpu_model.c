/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named CPU models, and whether a guest's CPU can be had here.
 *
 * KVM takes any CPUID for a guest, also features that the host has not; the
 * guest then dies of an invalid opcode some time later. So it is compared with
 * what KVM supports before it is set.
 * Sources: x86-64 psABI, 3.1.1; Intel SDM vol. 1, 13.4 (XSAVE area), vol. 2A, CPUID;
 * KVM API, 4.46 (KVM_GET_SUPPORTED_CPUID).
 */
#include "vmm/x86/cpu.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/config.h"

#include <stdio.h>
#include <string.h>

/* x86-64-v3's XSAVE area: the legacy region (512) and header (64), then AVX's upper halves. */
#define XSAVE_V3_STATES 7u
#define XSAVE_V3_SIZE (512u + 64 + 256)

/* What each host with the level has: the address space of the machine (layout.h) ends there. */
#define MODEL_PHYS_BITS 39u
#define MODEL_LINEAR_BITS 48u

static const struct {
	const char *name;
	enum cpu_level level;
} models[] = {
	[CONFIG_CPU_HOST] = { "host", CPU_HOST_ONLY },
	[CONFIG_CPU_V2] = { "x86-64-v2", CPU_V2 },
	[CONFIG_CPU_V3] = { "x86-64-v3", CPU_V3 },
};

/* The leaves that a named model has; the rest read as zeros. */
static const uint32_t model_leaves[] = {
	0x0,        0x1,        0x2,        0x4,        0x6,        0x7,
	0xb,        0xd,        0x1f,       0x40000000, 0x40000001, 0x80000000,
	0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006,
	0x80000007, 0x80000008, 0x8000001d, 0x8000001e,
};

/* ---- lists of names ---- */

/* Room for what is left out: " and 123 more". */
#define NAMES_END 24

struct names {
	char text[760];
	size_t len;
	unsigned count, left_out;
};

static void names_add(struct names *n, const char *name)
{
	size_t need = strlen(name) + 2;

	n->count++;
	if (n->len + need + NAMES_END >= sizeof(n->text)) {
		n->left_out++;
		return;
	}
	n->len += (size_t)snprintf(n->text + n->len, sizeof(n->text) - n->len, "%s%s",
	                           n->len ? ", " : "", name);
}

static void names_add_bits(struct names *n, const struct cpu_feature_word *word, uint32_t bits)
{
	static const char *const regs[] = { "EAX", "EBX", "ECX", "EDX" };

	for (unsigned bit = 0; bit < 32; bit++) {
		const char *name = cpu_feature_name(word, bit);
		char number[48];

		if (!(bits >> bit & 1))
			continue;
		snprintf(number, sizeof(number), "CPUID 0x%x.%u %s bit %u", word->leaf,
		         word->subleaf, regs[word->reg], bit);
		names_add(n, name ? name : number);
	}
}

static const char *names_end(struct names *n)
{
	if (n->left_out)
		snprintf(n->text + n->len, sizeof(n->text) - n->len, " and %u more", n->left_out);
	return n->text;
}

/* ---- cutting down ---- */

static bool in_word(const struct cpu_feature *f, const struct cpu_feature_word *w)
{
	return f->leaf == w->leaf && f->subleaf == w->subleaf && f->reg == w->reg;
}

/* The bits of a register that a model has to have, and those that it may have. */
static uint32_t model_bits(const struct cpu_feature_word *word, enum cpu_level level,
                           uint32_t *allowed)
{
	uint32_t needed = 0, platform = 0;

	for (size_t i = 0; i < cpu_feature_count; i++) {
		const struct cpu_feature *f = &cpu_features[i];

		if (!in_word(f, word))
			continue;
		if (f->level == CPU_PLATFORM)
			platform |= 1u << f->bit;
		else if (f->level != CPU_HOST_ONLY && f->level <= level)
			needed |= 1u << f->bit;
	}
	*allowed = needed | platform;
	return needed;
}

/* AMD repeats bits of leaf 1 in EDX of 0x80000001 (APM vol. 3, E.4.2). */
#define AMD_COPIED_BITS 0x0183f3ffu

static void cut_words(struct kvm_cpuid2 *cpuid, enum cpu_level level, struct names *missing)
{
	uint32_t copied = cpuid_value(cpuid, 0x80000001, 0, CPUID_EDX) & AMD_COPIED_BITS;
	struct kvm_cpuid_entry2 *e;

	for (size_t i = 0; i < cpu_feature_word_count; i++) {
		const struct cpu_feature_word *word = &cpu_feature_words[i];
		uint32_t allowed, needed = model_bits(word, level, &allowed);

		needed &= ~word->own;
		needed &= ~cpuid_value(cpuid, word->leaf, word->subleaf, word->reg);
		names_add_bits(missing, word, needed);
		e = cpuid_find(cpuid, word->leaf, word->subleaf);
		if (e)
			*cpuid_reg(e, word->reg) &= allowed;
	}
	e = cpuid_find(cpuid, 0x80000001, 0);
	if (e && cpuid_is_amd(cpuid))
		e->edx |= copied & cpuid_value(cpuid, 0x1, 0, CPUID_EDX);
}

static bool not_in_model(const struct kvm_cpuid_entry2 *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(model_leaves); i++)
		if (e->function == model_leaves[i])
			return (e->function == 0x7 && e->index > 0) ||
			       (e->function == 0xd && e->index > 2);
	return true;
}

static bool is_xsave(const struct kvm_cpuid_entry2 *e)
{
	return e->function == 0xd;
}

static void cut_xsave(struct kvm_cpuid2 *cpuid, enum cpu_level level)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0xd, 0);

	if (level < CPU_V3) {
		cpuid_drop(cpuid, is_xsave);
		return;
	}
	if (e) {
		e->eax = XSAVE_V3_STATES;
		e->ebx = e->ecx = XSAVE_V3_SIZE;
		e->edx = 0;
	}
	e = cpuid_find(cpuid, 0xd, 1);
	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

/* What is not a feature but would differ between hosts. */
static void cut_numbers(struct kvm_cpuid2 *cpuid, unsigned bits)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x0, 0);

	if (e)
		e->eax = MIN(e->eax, 0x1fu);
	e = cpuid_find(cpuid, 0x7, 0);
	if (e)
		e->eax = 0; /* the last subleaf */
	e = cpuid_find(cpuid, 0x80000000, 0);
	if (e)
		e->eax = MIN(e->eax, 0x8000001eu);
	e = cpuid_find(cpuid, 0x80000007, 0);
	if (e)
		e->eax = e->ebx = e->ecx = 0;
	e = cpuid_find(cpuid, 0x80000008, 0);
	if (e) {
		e->eax = bits | MODEL_LINEAR_BITS << 8;
		e->edx = 0;
	}
}

unsigned cpu_phys_bits(const struct kvm_cpuid2 *cpuid)
{
	uint32_t bits = cpuid_value(cpuid, 0x80000008, 0, CPUID_EAX) & 0xff;

	return bits ? bits : CPU_PHYS_BITS_MIN;
}

int cpu_model_apply(struct kvm_cpuid2 *cpuid, uint32_t model, unsigned address_bits,
                    struct gw_error *err)
{
	const unsigned bits = MAX(address_bits, MODEL_PHYS_BITS);
	struct names missing = { .len = 0 };
	enum cpu_level level;
	char width[64];

	if (model >= ARRAY_SIZE(models))
		return error_set(err, -EINVAL, "cpu.model: no model %u", model);
	level = models[model].level;
	if (level == CPU_HOST_ONLY)
		return 0;
	if (cpu_phys_bits(cpuid) < bits) {
		snprintf(width, sizeof(width), "physical addresses of %u bits", bits);
		names_add(&missing, width);
	}
	cut_words(cpuid, level, &missing);
	if (missing.count)
		return error_set(err, -ENOTSUP,
		                 "cpu.model: %s needs %s, which this host's KVM does not offer",
		                 models[model].name, names_end(&missing));
	cpuid_drop(cpuid, not_in_model);
	cut_xsave(cpuid, level);
	cut_numbers(cpuid, bits);
	return 0;
}

/* ---- comparing ---- */

void cpu_model_add(struct kvm_cpuid2 *supported, const struct kvm_cpuid2 *more)
{
	for (size_t i = 0; i < cpu_feature_word_count; i++) {
		const struct cpu_feature_word *word = &cpu_feature_words[i];
		uint32_t bits = cpuid_value(more, word->leaf, word->subleaf, word->reg);
		struct kvm_cpuid_entry2 *e = cpuid_find(supported, word->leaf, word->subleaf);

		if (bits && !e) {
			const struct kvm_cpuid_entry2 empty = {
				.function = word->leaf,
				.index = word->subleaf,
				.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			};

			cpuid_add(supported, &empty);
			e = cpuid_find(supported, word->leaf, word->subleaf);
		}
		if (e)
			*cpuid_reg(e, word->reg) |= bits;
	}
}

static void vendor_text(const struct kvm_cpuid2 *cpuid, char out[13])
{
	const uint32_t regs[] = {
		cpuid_value(cpuid, 0, 0, CPUID_EBX),
		cpuid_value(cpuid, 0, 0, CPUID_EDX),
		cpuid_value(cpuid, 0, 0, CPUID_ECX),
	};

	memcpy(out, regs, sizeof(regs));
	out[12] = 0;
	for (unsigned i = 0; i < 12; i++)
		if (out[i] < ' ' || out[i] > '~')
			out[i] = '?';
}

int cpu_model_check(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
                    struct gw_error *err)
{
	struct names missing = { .len = 0 };
	char there[13], here[13], width[64];

	vendor_text(guest, there);
	vendor_text(supported, here);
	if (memcmp(there, here, sizeof(there)) != 0)
		return error_set(err, -ENOTSUP,
		                 "the guest's CPU is %s's, and this host's is %s's: guests do not "
		                 "move between them",
		                 there, here);
	for (size_t i = 0; i < cpu_feature_word_count; i++) {
		const struct cpu_feature_word *word = &cpu_feature_words[i];
		uint32_t used = cpuid_value(guest, word->leaf, word->subleaf, word->reg);
		uint32_t offered = cpuid_value(supported, word->leaf, word->subleaf, word->reg);

		names_add_bits(&missing, word, used & ~offered & ~word->own);
	}
	if (cpu_phys_bits(guest) > cpu_phys_bits(supported)) {
		snprintf(width, sizeof(width), "physical addresses of %u bits (here %u)",
		         cpu_phys_bits(guest), cpu_phys_bits(supported));
		names_add(&missing, width);
	}
	if (!missing.count)
		return 0;
	return error_set(err, -ENOTSUP, "the guest uses %s, which this host's KVM does not offer",
	                 names_end(&missing));
}
