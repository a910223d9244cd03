/* SPDX-License-Identifier: Apache-2.0 */
/* The device tree: what each binding requires is there, and dtc has nothing to say. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "vmm/arm64/fdt.h"
#include "vmm/arm64/layout.h"

#include <endian.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

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
	c.memory_count = arch_ram_layout(512 * MIB, memory);
	return c;
}

static struct tree make(const struct fdt_contents *c)
{
	struct gw_error err = { 0 };
	struct tree t;

	cr_assert_eq(fdt_make(c, &t.blob, &t.len, &err), 0, "%s", err.text);
	cr_assert_eq(fdt_check_full(t.blob, t.len), 0);
	return t;
}

static struct tree make_simple(unsigned cpus)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(cpus, mpidr, memory);

	return make(&c);
}

/* dtc's checks. Its warnings go to its standard error, which has to stay empty. */
static void check_by_dtc(const struct tree *t)
{
	FILE *file = tmpfile();
	char command[128], said[256] = "";
	FILE *dtc;

	if (system("dtc --version >/dev/null 2>&1"))
		cr_skip_test("there is no dtc");
	cr_assert_eq(fwrite(t->blob, 1, t->len, file), t->len);
	fflush(file);
	snprintf(command, sizeof(command), "dtc -I dtb -O dts -o /dev/null /proc/%d/fd/%d 2>&1",
	         getpid(), fileno(file));
	dtc = popen(command, "r");
	cr_assert_not_null(dtc);
	(void)!fread(said, 1, sizeof(said) - 1, dtc);
	cr_assert_eq(pclose(dtc), 0, "%s", said);
	cr_assert_str_empty(said, "%s", said);
	fclose(file);
}

/* ---- bindings ---- */

/* What the binding of each compatible requires (Linux, Documentation/devicetree/bindings). */
static const struct {
	const char *compatible;
	const char *required[9]; /* NULL ends */
} bindings[] = {
	{ "arm,gic-v3", { "interrupt-controller", "#interrupt-cells", "reg" } },
	{ "arm,gic-v3-its", { "msi-controller", "#msi-cells", "reg" } },
	{ "arm,armv8-timer", { "interrupts" } },
	{ "arm,psci-1.0", { "method" } },
	{ "arm,armv8", { "device_type", "reg", "enable-method" } },
	{ "ns16550a", { "reg", "interrupts", "clock-frequency" } },
	{ "arm,pl031", { "reg", "interrupts", "clocks", "clock-names" } },
	{ "arm,pl061",
	  { "reg", "interrupts", "interrupt-controller", "#interrupt-cells", "clocks",
	    "#gpio-cells", "gpio-controller" } },
	{ "fixed-clock", { "#clock-cells", "clock-frequency" } },
	{ "arm,armv8-pmuv3", { "interrupts" } },
	{ "microsoft,vmgenid", { "reg", "interrupts" } },
	{ "pci-host-ecam-generic",
	  { "reg", "ranges", "device_type", "#address-cells", "#size-cells", "bus-range",
	    "interrupt-map", "interrupt-map-mask" } },
};

/* Those that are known by their place. */
static const struct {
	const char *path, *required[4];
} places[] = {
	{ "/", { "compatible", "model", "#address-cells", "#size-cells" } },
	{ "/memory@40000000", { "device_type", "reg" } },
	{ "/reserved-memory", { "#address-cells", "#size-cells", "ranges" } },
	{ "/gpio-keys/key-power", { "linux,code", "gpios" } },
	{ "/cpus", { "#address-cells", "#size-cells" } },
};

Test(fdt, each_node_has_what_its_binding_requires)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(2, mpidr, memory);
	struct tree t;

	c.pmu = true;
	t = make(&c);

	for (size_t i = 0; i < ARRAY_SIZE(bindings); i++) {
		const int node = fdt_node_offset_by_compatible(t.blob, -1, bindings[i].compatible);

		cr_assert_geq(node, 0, "%s", bindings[i].compatible);
		for (size_t p = 0; bindings[i].required[p]; p++)
			cr_assert_not_null(fdt_getprop(t.blob, node, bindings[i].required[p], NULL),
			                   "%s: %s", bindings[i].compatible,
			                   bindings[i].required[p]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const int node = fdt_path_offset(t.blob, places[i].path);

		cr_assert_geq(node, 0, "%s", places[i].path);
		for (size_t p = 0; p < ARRAY_SIZE(places[i].required) && places[i].required[p]; p++)
			cr_assert_not_null(fdt_getprop(t.blob, node, places[i].required[p], NULL),
			                   "%s: %s", places[i].path, places[i].required[p]);
	}
	free(t.blob);
}

Test(fdt, dtc_is_content)
{
	struct tree t = make_simple(1);

	check_by_dtc(&t);
	free(t.blob);
}

Test(fdt, dtc_is_content_with_all_there_is)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(CPUS_MAX, mpidr, memory);
	struct tree t;

	c.topology = (struct topology){ 5, 1, 17, 3 };
	c.memory_count = arch_ram_layout(300 * GIB, memory);
	c.pmu = true;
	c.initrd = LAYOUT_BOOT + 32 * MIB;
	c.initrd_size = 5 * MIB;
	cr_assert_eq(c.memory_count, 2);
	t = make(&c);
	check_by_dtc(&t);
	free(t.blob);
}

Test(fdt, dtc_is_content_with_a_gicv2)
{
	uint64_t mpidr[CPUS_MAX];
	struct arch_range memory[ARCH_RAM_RANGES];
	struct fdt_contents c = contents(2, mpidr, memory);
	struct tree t;

	c.gic_v2 = true;
	c.its = false;
	t = make(&c);
	check_by_dtc(&t);
	cr_assert_lt(fdt_node_offset_by_compatible(t.blob, -1, "arm,gic-v3-its"), 0);
	cr_assert_null(
	        fdt_getprop(t.blob, fdt_path_offset(t.blob, "/pcie@30000000"), "msi-map", NULL));
	free(t.blob);
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

	cr_assert_eq(arch_ram_layout(64 * GIB, memory), 1);
	cr_assert_eq(memory[0].gpa, LAYOUT_RAM);
	cr_assert_eq(arch_ram_layout(1024 * GIB, memory), 2);
	cr_assert_eq(memory[0].gpa + memory[0].size, arch_pci.mmio64.gpa);
	cr_assert_eq(memory[1].gpa, arch_pci.mmio64.gpa + arch_pci.mmio64.size);
	cr_assert_eq(memory[0].size + memory[1].size, 1024 * GIB);
	/* The host's window for its own MSIs, which no device can be given. */
	cr_assert(arch_pci.mmio32.gpa >= 0x08100000 && arch_pci.ecam.gpa >= 0x08100000);
}
