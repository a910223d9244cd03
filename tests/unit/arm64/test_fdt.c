/* SPDX-License-Identifier: Apache-2.0 */
/* The device tree: what each binding requires is there, and dtc has nothing to say. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "bindings.h"
#include "vmm/ram_layout.h"
#include "vmm/arm64/fdt_internal.h"
#include "vmm/arm64/layout.h"
#include "vmm/numa.h"

#include <endian.h>
#include <libfdt.h>
#include <string.h>

#define CPUS_MAX 255

struct tree {
	void *blob;
	size_t len;
};

static struct fdt_contents contents(unsigned cpus, uint64_t *mpidr, struct arch_range *memory)
{
	struct fdt_contents c = {
		.model = "godwit",
		.cmdline = "console=ttyS0 quiet",
		.mpidr = mpidr,
		.cpus = cpus,
		.topology = { 1, 1, cpus, 1 },
		.memory = memory,
		.its = true,
	};

	for (unsigned i = 0; i < cpus; i++)
		mpidr[i] = 0x80000000 | (i & 15) | (uint64_t)(i >> 4) << 8;
	c.memory_count = ram_layout(512 * MIB, memory);
	return c;
}

/* Every tree that is made here has what the bindings require, and dtc has nothing to say of it. */
static struct tree make(const struct fdt_contents *c)
{
	struct gw_error err = { 0 };
	char said[512] = "";
	struct tree t;

	cr_assert_eq(fdt_make(c, &t.blob, &t.len, &err), 0, "%s", err.text);
	cr_assert_eq(fdt_check_full(t.blob, t.len), 0);
	cr_assert(bindings_hold(t.blob, said, sizeof(said)), "%s", said);
	cr_assert_eq(dtc_is_content(t.blob, t.len, said, sizeof(said)), 1, "dtc: %s", said);
	return t;
}

/* Memory for 300 GiB, of which the second's is in two pieces. */
static const struct numa two_nodes = {
	.nodes = 2,
	.cpu = { 0, 1, 1 },
	.memory = { 256 * MIB, 300 * GIB - 256 * MIB },
	.distances = true,
	.distance = { { 10, 25 }, { 25, 10 } },
	.pci = 1,
};

static struct tree make_simple(unsigned cpus)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(cpus, mpidr, memory);

	return make(&c);
}

/* ---- one that is not as it should be is seen ---- */

/* The whole of a tree, made small changes to by libfdt. */
static void check_refused_with(const struct numa *numa, int (*spoil)(void *tree), const char *why)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(2, mpidr, memory);
	char said[256] = "";
	struct tree t;
	size_t room;
	void *copy;

	c.numa = numa;
	t = make(&c);
	room = t.len + 4096;
	copy = malloc(room);
	cr_assert_eq(fdt_open_into(t.blob, copy, (int)room), 0);
	cr_assert(bindings_hold(copy, said, sizeof(said)), "%s", said);
	cr_assert_geq(spoil(copy), 0);
	cr_assert(!bindings_hold(copy, said, sizeof(said)), "not seen: %s", why);
	cr_assert_not_null(strstr(said, why), "%s", said);
	free(copy);
	free(t.blob);
}

static void check_refused(int (*spoil)(void *tree), const char *why)
{
	check_refused_with(NULL, spoil, why);
}

static int without_interrupts(void *t)
{
	return fdt_delprop(t, fdt_path_offset(t, "/rtc@9010000"), "interrupts");
}

static int without_gpios(void *t)
{
	return fdt_delprop(t, fdt_path_offset(t, "/gpio-keys/key-power"), "gpios");
}

static int without_psci(void *t)
{
	return fdt_del_node(t, fdt_path_offset(t, "/psci"));
}

static int with_a_stranger(void *t)
{
	return fdt_add_subnode(t, 0, "stranger");
}

static int with_a_cpu_twice(void *t)
{
	const int core = fdt_path_offset(t, "/cpus/cpu-map/socket0/cluster0/core0");

	return fdt_add_subnode(t, core, "thread0") < 0
	               ? -1
	               : fdt_setprop_u32(
	                         t,
	                         fdt_path_offset(t, "/cpus/cpu-map/socket0/cluster0/core0/thread0"),
	                         "cpu", PHANDLE_CPU);
}

static int with_a_core_of_no_cpu(void *t)
{
	return fdt_setprop_u32(t, fdt_path_offset(t, "/cpus/cpu-map/socket0/cluster0/core0"), "cpu",
	                       PHANDLE_GIC);
}

static int without_msi_map(void *t)
{
	return fdt_delprop(t, fdt_path_offset(t, "/pcie@30000000"), "msi-map");
}

static int with_half_an_initrd(void *t)
{
	return fdt_setprop_u64(t, fdt_path_offset(t, "/chosen"), "linux,initrd-start", 1);
}

static int without_a_cpus_node(void *t)
{
	return fdt_delprop(t, fdt_path_offset(t, "/cpus/cpu@1"), "numa-node-id");
}

static int with_a_node_that_is_no_one(void *t)
{
	return fdt_setprop_u32(t, fdt_path_offset(t, "/memory@50000000"), "numa-node-id", 2);
}

static int with_distances_in_disorder(void *t)
{
	static const uint32_t cells[] = { 0, 0, 10, 1, 0, 25, 0, 1, 25, 1, 1, 10 };
	const int map = fdt_path_offset(t, "/distance-map");
	int r = fdt_setprop_u32(t, map, "distance-matrix", cells[0]);

	for (size_t i = 1; i < ARRAY_SIZE(cells) && !r; i++)
		r = fdt_appendprop_u32(t, map, "distance-matrix", cells[i]);
	return r;
}

static int with_a_distance_missing(void *t)
{
	return fdt_setprop_u64(t, fdt_path_offset(t, "/distance-map"), "distance-matrix", 0);
}

Test(fdt, what_a_binding_requires_is_missed)
{
	check_refused_with(&two_nodes, without_a_cpus_node, "/cpus/cpu@1: not in a node");
	check_refused_with(&two_nodes, with_a_node_that_is_no_one, "distances of 2 nodes");
	check_refused_with(&two_nodes, with_distances_in_disorder, "distances are not in order");
	check_refused_with(&two_nodes, with_a_distance_missing, "no triples");
	check_refused(without_interrupts, "/rtc@9010000: interrupts is missing");
	check_refused(without_gpios, "/gpio-keys/key-power: gpios|");
	check_refused(without_psci, "/psci is missing");
	check_refused(with_a_stranger, "/stranger: of no binding");
	check_refused(with_a_cpu_twice, "2 CPUs, and 3 in their map");
	check_refused(with_a_core_of_no_cpu, "core0: no CPU");
	check_refused(without_msi_map, "no msi-map");
	check_refused(with_half_an_initrd, "half an initrd");
}

/* An address in a name, and none in the node. */
Test(fdt, dtc_is_not_content_with_everything)
{
	struct tree t = make_simple(1);
	char said[256] = "";

	cr_assert_eq(fdt_nop_property(t.blob, fdt_path_offset(t.blob, "/rtc@9010000"), "reg"), 0);
	cr_assert_eq(dtc_is_content(t.blob, t.len, said, sizeof(said)), 0);
	cr_assert_not_null(strstr(said, "/rtc@9010000"), "%s", said);
	free(t.blob);
}

/* ---- machines of all kinds: make() checks each tree ---- */

Test(fdt, of_every_combination)
{
	static const unsigned cpus[] = { 1, 2, 8 };
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];

	for (unsigned i = 0; i < ARRAY_SIZE(cpus) * 16; i++) {
		struct fdt_contents c = contents(cpus[i / 16], mpidr, memory);
		struct tree t;

		c.gic_v2 = i & 1;
		c.its = !c.gic_v2 && i & 2; /* without one: a GICv3 whose ITS KVM lacks */
		c.pmu = i & 4;
		c.initrd = i & 8 ? LAYOUT_BOOT + 32 * MIB : 0;
		c.initrd_size = i & 8 ? 5 * MIB : 0;
		t = make(&c);
		cr_assert_eq(c.its,
		             fdt_node_offset_by_compatible(t.blob, -1, "arm,gic-v3-its") >= 0);
		cr_assert_eq(c.pmu,
		             fdt_node_offset_by_compatible(t.blob, -1, "arm,armv8-pmuv3") >= 0);
		free(t.blob);
	}
}

Test(fdt, of_as_many_cpus_as_there_may_be)
{
	static const struct topology topologies[] = {
		{ 1, 1, 255, 1 },
		{ 5, 1, 17, 3 },
		{ 255, 1, 1, 1 },
		{ 3, 5, 17, 1 },
	};
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];

	for (size_t i = 0; i < ARRAY_SIZE(topologies); i++) {
		struct fdt_contents c = contents(CPUS_MAX, mpidr, memory);
		struct tree t;

		c.topology = topologies[i];
		c.pmu = true;
		t = make(&c);
		free(t.blob);
	}
}

/* Up to the 64-bit window, and beyond it. */
Test(fdt, of_all_sizes_of_memory)
{
	static const uint64_t sizes[] = { 2 * MIB,   GIB,       255 * GIB, 255 * GIB + 2 * MIB,
		                          300 * GIB, 4096 * GIB };
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fdt_contents c = contents(2, mpidr, memory);
		struct tree t;

		c.memory_count = ram_layout(sizes[i], memory);
		cr_assert_eq(c.memory_count, sizes[i] > 255 * GIB ? 2 : 1);
		t = make(&c);
		free(t.blob);
	}
}

Test(fdt, of_as_many_nodes_as_there_may_be)
{
	struct numa numa = { .nodes = CONFIG_NODES_MAX };
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(CPUS_MAX, mpidr, memory);
	struct tree t;

	for (unsigned i = 0; i < CONFIG_NODES_MAX; i++) {
		numa.memory[i] = 300 * GIB / CONFIG_NODES_MAX / (2 * MIB) * 2 * MIB;
		for (unsigned to = 0; to < CONFIG_NODES_MAX; to++)
			numa.distance[i][to] = (uint8_t)(i == to ? 10 : 11 + i + to);
	}
	for (unsigned i = 0; i < CPUS_MAX; i++)
		numa.cpu[i] = (uint8_t)(i % CONFIG_NODES_MAX);
	c.memory_count = ram_layout(300 * GIB, memory);
	for (unsigned i = 0; i < 2; i++) {
		numa.distances = i;
		c.numa = &numa;
		t = make(&c);
		free(t.blob);
	}
}

/* ---- what it says ---- */

static uint32_t cell(const struct tree *t, const char *path, const char *name, unsigned i)
{
	int len;
	const uint32_t *cells = fdt_getprop(t->blob, fdt_path_offset(t->blob, path), name, &len);

	cr_assert_not_null(cells, "%s: %s", path, name);
	cr_assert_lt(i * 4, (unsigned)len);
	return be32toh(cells[i]);
}

Test(fdt, the_guest_finds_its_initrd_command_line_and_seeds)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(1, mpidr, memory);
	struct tree t;
	int chosen, len;

	c.initrd = 0x123400000;
	c.initrd_size = 0x5000;
	c.kaslr_seed = 0x1122334455667788;
	memset(c.rng_seed, 0x5a, sizeof(c.rng_seed));
	t = make(&c);
	chosen = fdt_path_offset(t.blob, "/chosen");
	cr_assert_str_eq(fdt_getprop(t.blob, chosen, "bootargs", NULL), "console=ttyS0 quiet");
	cr_assert_str_eq(fdt_getprop(t.blob, chosen, "stdout-path", NULL), "/serial@9000000");
	cr_assert_geq(fdt_path_offset(t.blob, "/serial@9000000"), 0);
	cr_assert_eq(cell(&t, "/chosen", "linux,initrd-start", 0), 1);
	cr_assert_eq(cell(&t, "/chosen", "linux,initrd-start", 1), 0x23400000);
	cr_assert_eq(cell(&t, "/chosen", "linux,initrd-end", 1), 0x23405000);
	cr_assert_eq(cell(&t, "/chosen", "kaslr-seed", 0), 0x11223344);
	cr_assert_not_null(fdt_getprop(t.blob, chosen, "rng-seed", &len));
	cr_assert_eq(len, FDT_SEED_SIZE);
	free(t.blob);
}

Test(fdt, without_an_initrd_nothing_is_said_of_one)
{
	struct tree t = make_simple(1);

	cr_assert_null(fdt_getprop(t.blob, fdt_path_offset(t.blob, "/chosen"), "linux,initrd-start",
	                           NULL));
	free(t.blob);
}

Test(fdt, cpus_are_named_by_their_affinity_and_mapped)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(20, mpidr, memory);
	struct tree t;
	int node;

	c.topology = (struct topology){ 2, 1, 5, 2 };
	t = make(&c);
	/* vCPU 17 is the second of the second sixteen; its socket is 1, core 3, thread 1. */
	node = fdt_path_offset(t.blob, "/cpus/cpu@101");
	cr_assert_geq(node, 0);
	cr_assert_eq(cell(&t, "/cpus/cpu@101", "reg", 1), 0x101, "without MPIDR's other bits");
	cr_assert_eq(cell(&t, "/cpus/cpu-map/socket1/cluster0/core3/thread1", "cpu", 0),
	             fdt_get_phandle(t.blob, node));
	cr_assert_lt(fdt_path_offset(t.blob, "/cpus/cpu-map/socket1/cluster0/core5"), 0);
	free(t.blob);
}

Test(fdt, nodes_have_their_cpus_memory_and_distances)
{
	static const uint32_t matrix[] = { 0, 0, 10, 0, 1, 25, 1, 0, 25, 1, 1, 10 };
	static const struct {
		const char *path;
		uint64_t size;
		uint32_t node;
	} pieces[] = {
		{ "/memory@40000000", 256 * MIB, 0 },
		{ "/memory@50000000", LAYOUT_MMIO64 - 0x50000000ull, 1 },
		{ "/memory@8000000000", 45 * GIB, 1 },
	};
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(3, mpidr, memory);
	struct tree t;

	c.numa = &two_nodes;
	c.memory_count = ram_layout(300 * GIB, memory);
	t = make(&c);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		const uint64_t size = (uint64_t)cell(&t, pieces[i].path, "reg", 2) << 32 |
		                      cell(&t, pieces[i].path, "reg", 3);

		cr_assert_eq(size, pieces[i].size, "%s", pieces[i].path);
		cr_assert_eq(cell(&t, pieces[i].path, "numa-node-id", 0), pieces[i].node);
	}
	cr_assert_eq(cell(&t, "/cpus/cpu@0", "numa-node-id", 0), 0);
	cr_assert_eq(cell(&t, "/cpus/cpu@2", "numa-node-id", 0), 1);
	cr_assert_eq(cell(&t, "/pcie@30000000", "numa-node-id", 0), 1);
	for (size_t i = 0; i < ARRAY_SIZE(matrix); i++)
		cr_assert_eq(cell(&t, "/distance-map", "distance-matrix", (unsigned)i), matrix[i]);
	free(t.blob);
}

Test(fdt, without_nodes_nothing_is_said_of_them)
{
	struct tree t = make_simple(2);

	cr_assert_lt(fdt_path_offset(t.blob, "/distance-map"), 0);
	for (int node = 0; node >= 0; node = fdt_next_node(t.blob, node, NULL))
		cr_assert_null(fdt_getprop(t.blob, node, "numa-node-id", NULL));
	free(t.blob);
}

Test(fdt, interrupt_pins_are_spread_as_the_bus_does_it)
{
	struct tree t = make_simple(1);

	for (unsigned slot = 0; slot < 8; slot++) {
		for (unsigned pin = 1; pin <= 4; pin++) {
			const unsigned at = (slot * 4 + pin - 1) * 10;

			cr_assert_eq(cell(&t, "/pcie@30000000", "interrupt-map", at), slot << 11);
			cr_assert_eq(cell(&t, "/pcie@30000000", "interrupt-map", at + 3), pin);
			cr_assert_eq(cell(&t, "/pcie@30000000", "interrupt-map", at + 8),
			             16 + (slot + pin - 1) % 8);
		}
	}
	free(t.blob);
}

Test(fdt, the_platforms_pages_are_reserved)
{
	struct tree t = make_simple(1);
	const char *path = "/reserved-memory/platform@40000000";

	cr_assert_eq(cell(&t, path, "reg", 1), LAYOUT_RAM);
	cr_assert_eq(cell(&t, path, "reg", 3), 0x5000);
	cr_assert_leq(LAYOUT_STEAL_TIME + CPUS_MAX * LAYOUT_STEAL_TIME_EACH, LAYOUT_VMGENID);
	cr_assert_not_null(fdt_getprop(t.blob, fdt_path_offset(t.blob, path), "no-map", NULL));
	free(t.blob);
}

Test(fdt, nothing_but_ram_is_where_ram_may_be)
{
	struct arch_range memory[ARCH_RAM_RANGES];

	cr_assert_eq(ram_layout(64 * GIB, memory), 1);
	cr_assert_eq(memory[0].gpa, LAYOUT_RAM);
	cr_assert_eq(ram_layout(1024 * GIB, memory), 2);
	cr_assert_eq(memory[0].gpa + memory[0].size, arch_pci.mmio64.gpa);
	cr_assert_eq(memory[1].gpa, arch_pci.mmio64.gpa + arch_pci.mmio64.size);
	cr_assert_eq(memory[0].size + memory[1].size, 1024 * GIB);
	/* The host's window for its own MSIs, which no device can be given. */
	cr_assert(arch_pci.mmio32.gpa >= 0x08100000 && arch_pci.ecam.gpa >= 0x08100000);
}
