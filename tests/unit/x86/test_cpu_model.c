/* SPDX-License-Identifier: Apache-2.0 */
/* CPU models cut from a made-up host, and the check of a guest that arrives. */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/util.h"

#include <criterion/criterion.h>
#include <string.h>

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* A host with every feature of V3, and much else besides. */
static struct kvm_cpuid2 *host(bool amd)
{
	static const struct kvm_cpuid_entry2 rows[] = {
		{ .function = 0x1, .eax = 0x306c3, .ebx = 0x800, .ecx = ~0u, .edx = ~0u },
		{ .function = 0x6, .eax = 0x77 },
		{ .function = 0x7, .flags = INDEXED, .eax = 2, .ebx = ~0u, .ecx = ~0u, .edx = ~0u },
		{ .function = 0x7, .index = 1, .flags = INDEXED, .eax = 0x30 },
		{ .function = 0xa, .eax = 0x7300402, .edx = 0x603 },
		{ .function = 0xd, .flags = INDEXED, .eax = 0x2e7, .ebx = 2696, .ecx = 2696 },
		{ .function = 0xd, .index = 1, .flags = INDEXED, .eax = 0xf, .ebx = 2696 },
		{ .function = 0xd, .index = 2, .flags = INDEXED, .eax = 256, .ebx = 576 },
		{ .function = 0xd, .index = 5, .flags = INDEXED, .eax = 64, .ebx = 1088 },
		{ .function = 0x14, .flags = INDEXED, .eax = 1, .ebx = 0xf },
		{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
		{ .function = 0x40000001, .eax = 0x0103feff },
		{ .function = 0x80000001, .ecx = ~0u, .edx = ~0u },
		{ .function = 0x80000007, .edx = 0x100 },
		{ .function = 0x80000008, .eax = 0x392e, .ebx = ~0u },
	};
	struct kvm_cpuid2 *c = cpuid_alloc();
	struct kvm_cpuid_entry2 vendor = { .eax = 0x20 };

	cr_assert_not_null(c);
	memcpy(&vendor.ebx, amd ? "Auth" : "Genu", 4);
	memcpy(&vendor.edx, amd ? "enti" : "ineI", 4);
	memcpy(&vendor.ecx, amd ? "cAMD" : "ntel", 4);
	cpuid_add(c, &vendor);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cpuid_add(c, &rows[i]);
	return c;
}

static bool has(const struct kvm_cpuid2 *c, const char *name)
{
	for (size_t i = 0; i < cpu_feature_count; i++) {
		const struct cpu_feature *f = &cpu_features[i];

		if (!strcmp(f->name, name))
			return cpuid_value(c, f->leaf, f->subleaf, f->reg) >> f->bit & 1;
	}
	cr_assert_fail("no feature %s", name);
	return false;
}

static void take(struct kvm_cpuid2 *c, const char *name)
{
	for (size_t i = 0; i < cpu_feature_count; i++) {
		const struct cpu_feature *f = &cpu_features[i];

		if (!strcmp(f->name, name))
			*cpuid_reg(cpuid_find(c, f->leaf, f->subleaf), f->reg) &= ~(1u << f->bit);
	}
}

static struct kvm_cpuid2 *cut(const struct kvm_cpuid2 *from, uint32_t model)
{
	struct kvm_cpuid2 *out;
	struct gw_error err = { 0 };

	cr_assert_eq(cpuid_for_guest(from, model, 0, &out, &err), 0, "%s", err.text);
	return out;
}

/* The psABI's own words, with Linux's names where they differ: SSE3 is pni, LZCNT abm. */
static const char *const v2[] = { "cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3" };
static const char *const v3[] = { "avx", "avx2", "bmi1",  "bmi2", "f16c",
	                          "fma", "abm",  "movbe", "xsave" };
static const char *const never[] = { "avx512f",  "vmx",         "aes",
	                             "la57",     "rtm",         "pku",
	                             "amx_tile", "nonstop_tsc", "kvm_migration_control",
	                             "pcid" };

Test(cpu_model, named_models_have_their_level_and_no_more)
{
	struct kvm_cpuid2 *h = host(false), *two = cut(h, CONFIG_CPU_V2), *three;

	three = cut(h, CONFIG_CPU_V3);
	for (size_t i = 0; i < ARRAY_SIZE(v2); i++)
		cr_assert(has(two, v2[i]) && has(three, v2[i]), "%s", v2[i]);
	for (size_t i = 0; i < ARRAY_SIZE(v3); i++)
		cr_assert(!has(two, v3[i]) && has(three, v3[i]), "%s", v3[i]);
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		cr_assert(!has(two, never[i]) && !has(three, never[i]), "%s", never[i]);
	cr_assert(has(two, "lm") && has(two, "nx") && has(two, "syscall") && has(two, "x2apic") &&
	          has(two, "kvm_clocksource") && has(two, "arat"));
	free(h);
	free(two);
	free(three);
}

Test(cpu_model, host_is_all_but_what_cannot_move)
{
	struct kvm_cpuid2 *h = host(false), *c = cut(h, CONFIG_CPU_HOST);

	cr_assert(has(c, "avx512f") && has(c, "aes") && has(c, "la57"));
	cr_assert(!has(c, "vmx") && !has(c, "svm") && !has(c, "nonstop_tsc") && !has(c, "pdcm"));
	cr_assert_eq(cpuid_value(c, 0xa, 0, CPUID_EAX), 0, "no performance counters");
	cr_assert_eq(cpuid_value(c, 0x80000008, 0, CPUID_EAX), 0x392e);
	free(h);
	free(c);
}

Test(cpu_model, xsave_and_widths_fit_the_model)
{
	struct kvm_cpuid2 *h = host(false), *two = cut(h, CONFIG_CPU_V2),
	                  *three = cut(h, CONFIG_CPU_V3);

	cr_assert_null(cpuid_find(two, 0xd, 0));
	cr_assert_eq(cpuid_value(three, 0xd, 0, CPUID_EAX), 7, "x87, SSE, AVX");
	cr_assert_eq(cpuid_value(three, 0xd, 0, CPUID_EBX), 832);
	cr_assert_eq(cpuid_value(three, 0xd, 0, CPUID_ECX), 832);
	cr_assert_eq(cpuid_value(three, 0xd, 1, CPUID_EAX), 0);
	cr_assert_eq(cpuid_value(three, 0xd, 2, CPUID_EBX), 576);
	cr_assert_null(cpuid_find(three, 0xd, 5));
	cr_assert_null(cpuid_find(three, 0x14, 0), "a leaf of no model");
	cr_assert_null(cpuid_find(three, 0x7, 1));
	cr_assert_eq(cpuid_value(three, 0x7, 0, CPUID_EAX), 0);
	cr_assert_eq(cpuid_value(two, 0x80000008, 0, CPUID_EAX), 0x3027, "48 and 39 bits");
	free(h);
	free(two);
	free(three);
}

/* Two hosts that have V3 in common show a guest the same CPU but for its number. */
Test(cpu_model, unlike_hosts_give_the_same)
{
	struct kvm_cpuid2 *h = host(false), *other = host(false), *a, *b;

	cpuid_find(other, 0x7, 0)->ecx = 0;
	cpuid_find(other, 0x7, 0)->edx = 0;
	cpuid_find(other, 0x80000008, 0)->eax = 0x3027;
	take(other, "aes");
	take(other, "kvm_migration_control");
	a = cut(h, CONFIG_CPU_V3);
	b = cut(other, CONFIG_CPU_V3);
	cr_assert_eq(a->nent, b->nent);
	cr_assert_arr_eq(a->entries, b->entries, a->nent * sizeof(a->entries[0]));
	free(h);
	free(other);
	free(a);
	free(b);
}

Test(cpu_model, amd_repeats_leaf_1)
{
	struct kvm_cpuid2 *h = host(true), *c = cut(h, CONFIG_CPU_V2);
	uint32_t edx = cpuid_value(c, 0x80000001, 0, CPUID_EDX);

	cr_assert_eq(edx & 0x0183f3ff, cpuid_value(c, 0x1, 0, CPUID_EDX) & 0x0183f3ff);
	cr_assert(edx & 1 && edx & 1u << 23, "fpu, mmx");
	cr_assert(!has(c, "3dnow") && has(c, "topoext"));
	free(h);
	free(c);
}

Test(cpu_model, a_host_that_lacks_a_feature_is_told_which)
{
	struct kvm_cpuid2 *h = host(false), *out = NULL;
	struct gw_error err = { 0 };

	take(h, "bmi2");
	take(h, "movbe");
	cr_assert_eq(cpuid_for_guest(h, CONFIG_CPU_V3, 0, &out, &err), -ENOTSUP);
	cr_assert_str_eq(err.text, "cpu.model: x86-64-v3 needs movbe, bmi2, which this host's KVM "
	                           "does not offer");
	cr_assert_eq(cpuid_for_guest(h, CONFIG_CPU_V2, 0, &out, &err), 0, "%s", err.text);
	free(out);
	/* A guest with more RAM has more of them, where the host has. */
	cr_assert_eq(cpuid_for_guest(h, CONFIG_CPU_V2, 41, &out, &err), 0, "%s", err.text);
	cr_assert_eq(cpu_phys_bits(out), 41);
	free(out);
	cr_assert_eq(cpuid_for_guest(h, CONFIG_CPU_V2, 60, &out, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "60 bits"), "%s", err.text);
	cpuid_find(h, 0x80000008, 0)->eax = 0x3024;
	cr_assert_eq(cpuid_for_guest(h, CONFIG_CPU_V2, 0, &out, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "39 bits"), "%s", err.text);
	free(h);
}

Test(cpu_model, a_guest_with_more_is_refused_by_name)
{
	struct kvm_cpuid2 *full = host(false), *h = host(false), *guest = cut(h, CONFIG_CPU_HOST);
	struct gw_error err = { 0 };

	cr_assert_eq(cpu_model_check(guest, h, &err), 0, "%s", err.text);
	take(h, "avx512f");
	take(h, "kvm_steal_time");
	take(h, "xsaves");
	cpuid_find(h, 0x7, 0)->ebx &= ~(1u << 22);
	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP);
	cr_assert_str_eq(err.text, "the guest uses avx512f, CPUID 0x7.0 EBX bit 22, xsaves, "
	                           "kvm_steal_time, which this host's KVM does not offer");
	free(guest);
	guest = cut(full, CONFIG_CPU_V3);
	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP, "steal time is the platform's");
	take(guest, "kvm_steal_time");
	cr_assert_eq(cpu_model_check(guest, h, &err), 0, "%s", err.text);
	free(full);
	free(h);
	free(guest);
}

Test(cpu_model, what_is_imposed_is_offered_too)
{
	struct kvm_cpuid2 *h = host(false), *guest = cut(h, CONFIG_CPU_HOST);
	struct gw_error err = { 0 };

	take(h, "avx512f");
	h->nent = 4; /* without leaf 7, subleaf 1, and all behind it */
	cpuid_find(h, 0x1, 0)->eax = 0x1234;
	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP);
	cpu_model_add(h, guest);
	cpuid_find(h, 0x80000008, 0)->eax = 0x392e;
	cr_assert_eq(cpu_model_check(guest, h, &err), 0, "%s", err.text);
	cr_assert_eq(cpuid_value(h, 0x1, 0, CPUID_EAX), 0x1234, "no more than features");
	free(h);
	free(guest);
}

/* What the guest's own settings or its topology turn on is not for the host to offer. */
Test(cpu_model, dynamic_bits_are_not_compared)
{
	struct kvm_cpuid2 *h = host(false), *guest = cut(h, CONFIG_CPU_HOST);
	struct gw_error err = { 0 };

	cpuid_find(h, 0x1, 0)->ecx &= ~(1u << 27);
	cpuid_find(h, 0x1, 0)->edx &= ~(1u << 28);
	cpuid_find(h, 0x7, 0)->ecx &= ~(1u << 4);
	cr_assert_eq(cpu_model_check(guest, h, &err), 0, "%s", err.text);
	free(h);
	free(guest);
}

Test(cpu_model, width_and_vendor_are_compared)
{
	struct kvm_cpuid2 *h = host(false), *amd = host(true), *guest = cut(h, CONFIG_CPU_HOST);
	struct gw_error err = { 0 };

	cr_assert_eq(cpu_model_check(guest, amd, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "GenuineIntel") && strstr(err.text, "AuthenticAMD"), "%s",
	          err.text);
	cpuid_find(h, 0x80000008, 0)->eax = 0x3027;
	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "physical addresses of 46 bits (here 39)"), "%s", err.text);
	free(h);
	free(amd);
	free(guest);
}

/* Against nothing at all the list is too long for an error; it says by how much. */
Test(cpu_model, a_long_list_is_cut_short)
{
	struct kvm_cpuid2 *h = host(false), *guest = cut(h, CONFIG_CPU_HOST);
	struct gw_error err = { 0 };

	h->nent = 1;
	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP);
	cr_assert(strstr(err.text, " more, which this host's KVM does not offer"), "%s", err.text);
	free(h);
	free(guest);
}

/* A table from a stream may hold any leaf in any order, or none. */
Test(cpu_model, an_empty_guest_is_refused_for_its_vendor)
{
	struct kvm_cpuid2 *h = host(false), *guest = cpuid_alloc();
	struct gw_error err = { 0 };

	cr_assert_eq(cpu_model_check(guest, h, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "????????????"), "%s", err.text);
	free(h);
	free(guest);
}

Test(cpu_model, no_feature_is_named_twice)
{
	for (size_t i = 0; i < cpu_feature_count; i++) {
		const struct cpu_feature *a = &cpu_features[i];

		cr_assert_lt(a->bit, 32);
		for (size_t n = 0; n < i; n++) {
			const struct cpu_feature *b = &cpu_features[n];

			cr_assert(a->leaf != b->leaf || a->subleaf != b->subleaf ||
			                  a->reg != b->reg || a->bit != b->bit,
			          "%s and %s", a->name, b->name);
		}
	}
}
