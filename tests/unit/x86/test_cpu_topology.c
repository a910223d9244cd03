/* SPDX-License-Identifier: Apache-2.0 */
/* The topology: what is worked out, APIC ids, and CPUID as a guest reads it. */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/util.h"

#include <criterion/criterion.h>
#include <string.h>

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

static int make(unsigned cpus, unsigned sockets, unsigned dies, unsigned cores, unsigned threads,
                struct cpu_topology *t, struct gw_error *err)
{
	autofree struct config *config = calloc(1, sizeof(*config));

	cr_assert_not_null(config);
	config->cpus = cpus;
	config->cpu.sockets = sockets;
	config->cpu.dies = dies;
	config->cpu.cores = cores;
	config->cpu.threads = threads;
	return cpu_topology_make(config, t, err);
}

static struct cpu_topology made(unsigned cpus, unsigned sockets, unsigned dies, unsigned cores,
                                unsigned threads)
{
	struct gw_error err = { 0 };
	struct cpu_topology t;

	cr_assert_eq(make(cpus, sockets, dies, cores, threads, &t, &err), 0, "%s", err.text);
	return t;
}

static struct kvm_cpuid2 *table(const char *vendor)
{
	static const struct kvm_cpuid_entry2 rows[] = {
		{ .function = 0x1, .ebx = 0x800 },
		{ .function = 0x4, .flags = INDEXED, .eax = 0x121 },
		{ .function = 0x4, .index = 1, .flags = INDEXED, .eax = 0x163 },
		{ .function = 0x4, .index = 2, .flags = INDEXED },
		{ .function = 0xb, .flags = INDEXED, .edx = 77 },
		{ .function = 0xb, .index = 1, .flags = INDEXED, .edx = 77 },
		{ .function = 0x80000001 },
		{ .function = 0x80000008, .eax = 0x3030 },
		{ .function = 0x8000001d, .flags = INDEXED, .eax = 0x121 },
		{ .function = 0x8000001d, .index = 1, .flags = INDEXED, .eax = 0x163 },
		{ .function = 0x8000001e },
	};
	struct kvm_cpuid_entry2 first = { .eax = 0x10 };
	struct kvm_cpuid2 *c = cpuid_alloc();

	memcpy(&first.ebx, vendor, 4);
	cpuid_add(c, &first);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cpuid_add(c, &rows[i]);
	return c;
}

Test(cpu_topology, works_out_what_is_left_open)
{
	struct cpu_topology t = made(6, 0, 0, 0, 0);

	cr_assert(t.sockets == 1 && t.dies == 1 && t.cores == 6 && t.threads == 1);
	t = made(12, 2, 0, 0, 2);
	cr_assert(t.sockets == 2 && t.cores == 3);
	t = made(12, 0, 0, 2, 2);
	cr_assert(t.sockets == 3 && t.cores == 2);
	t = made(16, 2, 2, 2, 2);
	cr_assert_eq(t.dies, 2);
}

Test(cpu_topology, refuses_what_does_not_fit)
{
	struct gw_error err = { 0 };
	struct cpu_topology t;

	cr_assert_eq(make(5, 2, 0, 0, 0, &t, &err), -EINVAL);
	cr_assert(strstr(err.text, "are not 5 cpus"), "%s", err.text);
	cr_assert_eq(make(4, 2, 2, 2, 2, &t, &err), -EINVAL);
	cr_assert_eq(make(2, 0, 0, 0, 4, &t, &err), -EINVAL);
	cr_assert_eq(make(255, 255, 255, 255, 255, &t, &err), -EINVAL);
	cr_assert_eq(make(0, 0, 0, 0, 0, &t, &err), -EINVAL);
}

Test(cpu_topology, ids_have_a_field_a_level)
{
	static const uint32_t ids[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
	struct cpu_topology t = made(12, 2, 1, 3, 2);

	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		cr_assert_eq(cpu_topology_apic_id(&t, i), ids[i], "vcpu%u", i);
	t = made(12, 1, 3, 2, 2);
	cr_assert_eq(cpu_topology_apic_id(&t, 11), 2 << 2 | 1 << 1 | 1);
}

Test(cpu_topology, up_to_255_vcpus_but_no_id_of_all)
{
	struct gw_error err = { 0 };
	struct cpu_topology t = made(255, 0, 0, 0, 0);

	for (unsigned i = 0; i < 255; i++)
		cr_assert_eq(cpu_topology_apic_id(&t, i), i);
	/* 5 threads take 3 bits: the last of 51 cores has the ids 400 to 404. */
	cr_assert_eq(make(255, 1, 1, 51, 5, &t, &err), -EINVAL);
	cr_assert(strstr(err.text, "APIC ids up to 404") && strstr(err.text, "254"), "%s",
	          err.text);
	t = made(254, 1, 1, 127, 2);
	cr_assert_eq(cpu_topology_apic_id(&t, 253), 253);
	t = made(240, 15, 1, 8, 2);
	cr_assert_eq(cpu_topology_apic_id(&t, 239), 239);
}

Test(cpu_topology, leaf_b_and_1f_of_intel)
{
	struct cpu_topology t = made(12, 2, 1, 3, 2);
	struct kvm_cpuid2 *c = table("Genu");

	cpu_topology_set(&t, 7, c); /* socket 1, core 0, thread 1: id 9 */
	cr_assert_eq(cpuid_value(c, 0xb, 0, CPUID_EAX), 1, "bits of the thread");
	cr_assert_eq(cpuid_value(c, 0xb, 0, CPUID_EBX), 2);
	cr_assert_eq(cpuid_value(c, 0xb, 0, CPUID_ECX), 1 << 8);
	cr_assert_eq(cpuid_value(c, 0xb, 1, CPUID_EAX), 3, "bits within the package");
	cr_assert_eq(cpuid_value(c, 0xb, 1, CPUID_EBX), 6);
	cr_assert_eq(cpuid_value(c, 0xb, 1, CPUID_ECX), 2 << 8 | 1);
	cr_assert_eq(cpuid_value(c, 0xb, 2, CPUID_ECX), 2, "the end");
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(cpuid_value(c, 0xb, i, CPUID_EDX), 9);
	cr_assert_null(cpuid_find(c, 0x1f, 0), "leaf 0 ends before it");
	free(c);

	t = made(16, 2, 2, 2, 2);
	c = table("Genu");
	cpu_topology_set(&t, 13, c);
	cr_assert_eq(cpuid_value(c, 0, 0, CPUID_EAX), 0x1f);
	cr_assert_eq(cpuid_value(c, 0x1f, 1, CPUID_EAX), 2, "bits within the die");
	cr_assert_eq(cpuid_value(c, 0x1f, 1, CPUID_EBX), 4);
	cr_assert_eq(cpuid_value(c, 0x1f, 2, CPUID_EAX), 3);
	cr_assert_eq(cpuid_value(c, 0x1f, 2, CPUID_EBX), 8);
	cr_assert_eq(cpuid_value(c, 0x1f, 2, CPUID_ECX), 5 << 8 | 2, "a die");
	cr_assert_eq(cpuid_value(c, 0x1f, 3, CPUID_ECX), 3, "the end");
	cr_assert_eq(cpuid_value(c, 0x1f, 3, CPUID_EDX), 13);
	free(c);
}

Test(cpu_topology, leaf_1_and_4_of_intel)
{
	struct cpu_topology t = made(12, 2, 1, 3, 2);
	struct kvm_cpuid2 *c = table("Genu");
	uint32_t first, third;

	cpu_topology_set(&t, 7, c);
	cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EBX), 9u << 24 | 8 << 16 | 0x800);
	cr_assert(cpuid_value(c, 1, 0, CPUID_EDX) >> 28 & 1, "HTT");
	first = cpuid_value(c, 4, 0, CPUID_EAX);
	third = cpuid_value(c, 4, 1, CPUID_EAX);
	cr_assert_eq(first >> 14 & 0xfff, 1, "a core's own, with two threads");
	cr_assert_eq(third >> 14 & 0xfff, 7, "the package's");
	cr_assert_eq(first >> 26, 3, "four ids of cores");
	cr_assert_eq(first & 0x3fff, 0x121);
	cr_assert_eq(cpuid_value(c, 4, 2, CPUID_EAX), 0, "the end of the list stays");
	cr_assert_eq(cpuid_value(c, 0x80000008, 0, CPUID_ECX), 0, "AMD's alone");
	free(c);
	t = made(1, 0, 0, 0, 0);
	c = table("Genu");
	cpu_topology_set(&t, 0, c);
	cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EDX) >> 28 & 1, 0, "no HTT");
	cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EBX) >> 16 & 0xff, 1);
	free(c);
	t = made(255, 0, 0, 0, 0);
	c = table("Genu");
	cpu_topology_set(&t, 254, c);
	cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EBX) >> 16, 254 << 8 | 255);
	free(c);
}

Test(cpu_topology, leaves_of_amd)
{
	struct cpu_topology t = made(24, 2, 2, 3, 2);
	struct kvm_cpuid2 *c = table("Auth");

	cpu_topology_set(&t, 23, c); /* socket 1, die 1, core 2, thread 1 */
	cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EBX) >> 16, (16 + 13) << 8 | 12,
	             "threads, exactly");
	cr_assert(cpuid_value(c, 0x80000001, 0, CPUID_ECX) & 2, "CmpLegacy");
	cr_assert_eq(cpuid_value(c, 0x80000008, 0, CPUID_ECX), 4 << 12 | 11);
	cr_assert_eq(cpuid_value(c, 0x8000001d, 0, CPUID_EAX), 1 << 14 | 0x121);
	cr_assert_eq(cpuid_value(c, 0x8000001d, 1, CPUID_EAX), 5 << 14 | 0x163, "a die's");
	cr_assert_eq(cpuid_value(c, 0x8000001e, 0, CPUID_EAX), 29);
	cr_assert_eq(cpuid_value(c, 0x8000001e, 0, CPUID_EBX), 1 << 8 | (4 + 2));
	cr_assert_eq(cpuid_value(c, 0x8000001e, 0, CPUID_ECX), 1 << 8 | 3, "node 3, two a package");
	cr_assert_null(cpuid_find(c, 0x1f, 0), "Intel's alone");
	cr_assert_eq(cpuid_value(c, 0xb, 1, CPUID_EAX), 4);
	free(c);
}
