/* SPDX-License-Identifier: Apache-2.0 */
#include "bindings.h"

#include "base/util.h"

#include <fnmatch.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUIRED_MAX 12

struct binding {
	const char *what; /* a compatible, or a path's pattern */
	const char *required[REQUIRED_MAX];
};

/* By the first word of "compatible". A "|" between two: one of them. */
static const struct binding compatibles[] = {
	{ "linux,dummy-virt", { "model", "#address-cells", "#size-cells", "interrupt-parent" } },
	{ "arm,gic-v3",
	  { "reg", "interrupt-controller", "#interrupt-cells", "#address-cells", "#size-cells",
	    "ranges", "phandle" } },
	{ "arm,gic-v3-its", { "reg", "msi-controller", "#msi-cells", "phandle" } },
	{ "arm,cortex-a15-gic",
	  { "reg", "interrupt-controller", "#interrupt-cells", "#address-cells", "#size-cells",
	    "ranges", "phandle" } },
	{ "arm,armv8-timer", { "interrupts|interrupts-extended" } },
	{ "arm,armv8-pmuv3", { "interrupts" } },
	{ "arm,psci-1.0", { "method" } },
	{ "arm,armv8", { "device_type", "reg", "enable-method", "phandle" } },
	{ "ns16550a", { "reg", "interrupts", "clock-frequency|clocks" } },
	{ "arm,pl031", { "reg", "interrupts", "clocks", "clock-names" } },
	{ "arm,pl061",
	  { "reg", "interrupts", "interrupt-controller", "#interrupt-cells", "clocks",
	    "clock-names", "#gpio-cells", "gpio-controller", "phandle" } },
	{ "fixed-clock", { "#clock-cells", "clock-frequency", "phandle" } },
	{ "gpio-keys", { NULL } },
	{ "microsoft,vmgenid", { "reg", "interrupts" } },
	{ "numa-distance-map-v1", { "distance-matrix" } },
	{ "pci-host-ecam-generic",
	  { "reg", "ranges", "device_type", "#address-cells", "#size-cells", "bus-range",
	    "interrupt-map", "interrupt-map-mask", "#interrupt-cells", "dma-coherent" } },
};

/* Those without a compatible, by their paths. "*" goes over slashes too. */
static const struct binding paths[] = {
	{ "/chosen", { "bootargs", "stdout-path", "kaslr-seed", "rng-seed" } },
	{ "/memory@*", { "device_type", "reg" } },
	{ "/reserved-memory", { "#address-cells", "#size-cells", "ranges" } },
	{ "/reserved-memory/*", { "reg", "no-map" } },
	{ "/cpus", { "#address-cells", "#size-cells" } },
	{ "/cpus/cpu-map", { NULL } },
	{ "/cpus/cpu-map/socket*/cluster*/core*/thread*", { "cpu" } },
	{ "/cpus/cpu-map/*", { NULL } },
	{ "/gpio-keys/*", { "linux,code", "gpios|interrupts|interrupts-extended" } },
};

/* Nodes that every machine has. */
static const char *const always[] = {
	"/chosen", "/memory@40000000", "/reserved-memory", "/cpus/cpu-map/socket0/cluster0/core0",
	"/psci",   "/timer",           "/gpio-keys",       "/serial@9000000",
};

static bool has(const void *tree, int node, const char *alternatives)
{
	char names[64], *save = NULL;

	snprintf(names, sizeof(names), "%s", alternatives);
	for (char *n = strtok_r(names, "|", &save); n; n = strtok_r(NULL, "|", &save))
		if (fdt_getprop(tree, node, n, NULL))
			return true;
	return false;
}

static const struct binding *binding_of(const void *tree, int node, const char *path)
{
	const char *compatible = fdt_getprop(tree, node, "compatible", NULL);

	for (size_t i = 0; compatible && i < ARRAY_SIZE(compatibles); i++)
		if (!strcmp(compatible, compatibles[i].what))
			return &compatibles[i];
	for (size_t i = 0; !compatible && i < ARRAY_SIZE(paths); i++)
		if (!fnmatch(paths[i].what, path, 0))
			return &paths[i];
	return NULL;
}

static uint32_t cell_of(const void *tree, int node, const char *name, int i)
{
	int len = 0;
	const fdt32_t *cells = fdt_getprop(tree, node, name, &len);

	return cells && i * 4 + 4 <= len ? fdt32_to_cpu(cells[i]) : ~0u;
}

/* ---- what dtc leaves out, or knows by the name of a node alone ---- */

/* Two properties of /chosen come together. */
static const char *chosen_wrong(const void *tree, int node)
{
	return !has(tree, node, "linux,initrd-start") == !has(tree, node, "linux,initrd-end")
	               ? NULL
	               : "half an initrd";
}

/* A core without threads of its own says which CPU it is; and that has to be one. */
static const char *core_wrong(const void *tree, int node)
{
	const bool leaf = fdt_first_subnode(tree, node) < 0;
	int cpu;

	if (!leaf)
		return NULL;
	cpu = fdt_node_offset_by_phandle(tree, cell_of(tree, node, "cpu", 0));
	return cpu >= 0 && !fdt_node_check_compatible(tree, cpu, "arm,armv8") ? NULL : "no CPU";
}

/* Where MSIs go is an MSI controller; without one nothing is said of them. */
static const char *pci_wrong(const void *tree, int node)
{
	const int its = fdt_node_offset_by_compatible(tree, -1, "arm,gic-v3-its");

	if (its < 0)
		return has(tree, node, "msi-map|msi-parent") ? "msi-map without an ITS" : NULL;
	return cell_of(tree, node, "msi-map", 1) == fdt_get_phandle(tree, its) ? NULL
	                                                                       : "no msi-map";
}

/* Of how many nodes so many bytes of triples are. */
static int distances_of(int len)
{
	int nodes = 0;

	while (nodes * nodes * 12 < len)
		nodes++;
	return nodes;
}

/* numa.txt: triples in ascending order, that go both ways, 10 for a node itself and else more. */
static const char *distances_wrong(const void *tree, int node)
{
	int len = 0, nodes;

	fdt_getprop(tree, node, "distance-matrix", &len);
	nodes = distances_of(len);
	if (nodes * nodes * 12 != len)
		return "no triples for all pairs of nodes";
	for (int i = 0; i < nodes * nodes; i++) {
		const int from = i / nodes, to = i % nodes;
		const uint32_t d = cell_of(tree, node, "distance-matrix", i * 3 + 2);
		const uint32_t back =
		        cell_of(tree, node, "distance-matrix", (to * nodes + from) * 3 + 2);

		if (cell_of(tree, node, "distance-matrix", i * 3) != (uint32_t)from ||
		    cell_of(tree, node, "distance-matrix", i * 3 + 1) != (uint32_t)to)
			return "distances are not in order";
		if (from == to ? d != 10 : d <= 10 || d != back)
			return "distances that there cannot be";
	}
	return NULL;
}

static const struct {
	const char *pattern;
	const char *(*wrong)(const void *tree, int node);
} rules[] = {
	{ "/chosen", chosen_wrong },
	{ "/cpus/cpu-map/socket*/cluster*/core*", core_wrong },
	{ "/pcie@*", pci_wrong },
	{ "/distance-map", distances_wrong },
};

static bool node_holds(const void *tree, int node, char *text, size_t size)
{
	const struct binding *b;
	const char *wrong = NULL;
	char path[256];

	if (fdt_get_path(tree, node, path, sizeof(path)) < 0)
		return snprintf(text, size, "a node without a path"), false;
	b = binding_of(tree, node, path);
	if (!b)
		return snprintf(text, size, "%s: of no binding that is known", path), false;
	for (size_t i = 0; i < REQUIRED_MAX && b->required[i]; i++)
		if (!has(tree, node, b->required[i]))
			return snprintf(text, size, "%s: %s is missing", path, b->required[i]),
			       false;
	for (size_t i = 0; i < ARRAY_SIZE(rules) && !wrong; i++)
		if (!fnmatch(rules[i].pattern, path, 0))
			wrong = rules[i].wrong(tree, node);
	if (wrong)
		snprintf(text, size, "%s: %s", path, wrong);
	return !wrong;
}

/* Every CPU is at one place of the map. */
static bool map_holds(const void *tree, char *text, size_t size)
{
	unsigned cpus = 0, leaves = 0;

	for (int n = fdt_next_node(tree, -1, NULL); n >= 0; n = fdt_next_node(tree, n, NULL)) {
		const char *compatible = fdt_getprop(tree, n, "compatible", NULL);

		cpus += compatible && !strcmp(compatible, "arm,armv8");
		leaves += fdt_getprop(tree, n, "cpu", NULL) != NULL;
	}
	if (cpus == leaves && cpus)
		return true;
	snprintf(text, size, "/cpus: %u CPUs, and %u in their map", cpus, leaves);
	return false;
}

static bool can_be_near(const void *tree, int node)
{
	const char *type = fdt_getprop(tree, node, "device_type", NULL);

	return type && (!strcmp(type, "cpu") || !strcmp(type, "memory") || !strcmp(type, "pci"));
}

/* With the node of one, there are those of all; and they are within the distances. */
static bool nodes_hold(const void *tree, char *text, size_t size)
{
	const int map = fdt_path_offset(tree, "/distance-map");
	bool any = map >= 0;
	int len = 0;

	for (int n = fdt_next_node(tree, -1, NULL); n >= 0; n = fdt_next_node(tree, n, NULL))
		any |= has(tree, n, "numa-node-id");
	if (map >= 0)
		fdt_getprop(tree, map, "distance-matrix", &len);
	for (int n = fdt_next_node(tree, -1, NULL); any && n >= 0;
	     n = fdt_next_node(tree, n, NULL)) {
		const int id = (int)cell_of(tree, n, "numa-node-id", 0);
		char path[256] = "";

		fdt_get_path(tree, n, path, sizeof(path));
		if (can_be_near(tree, n) != has(tree, n, "numa-node-id"))
			return snprintf(text, size, "%s: not in a node, or wrongly so", path),
			       false;
		if (map >= 0 && has(tree, n, "numa-node-id") && (id + 1) * (id + 1) * 12 > len)
			return snprintf(text, size, "%s: node %d, and distances of %d nodes", path,
			                id, distances_of(len)),
			       false;
	}
	return true;
}

bool bindings_hold(const void *tree, char *text, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (fdt_path_offset(tree, always[i]) < 0)
			return snprintf(text, size, "%s is missing", always[i]), false;
	for (int n = fdt_next_node(tree, -1, NULL); n >= 0; n = fdt_next_node(tree, n, NULL))
		if (!node_holds(tree, n, text, size))
			return false;
	return map_holds(tree, text, size) && nodes_hold(tree, text, size);
}

/* ---- dtc ---- */

/* Its warnings go to its standard error, which has to stay empty. */
int dtc_is_content(const void *tree, size_t len, char *text, size_t size)
{
	FILE *file = tmpfile(), *dtc;
	char command[128];
	size_t said;
	int status;

	if (!file || fwrite(tree, 1, len, file) != len || fflush(file))
		return snprintf(text, size, "no file to give to dtc"), 0;
	snprintf(command, sizeof(command), "dtc -I dtb -O dts -o /dev/null /proc/%d/fd/%d 2>&1",
	         getpid(), fileno(file));
	dtc = popen(command, "r");
	said = dtc ? fread(text, 1, size - 1, dtc) : 0;
	text[said] = 0;
	status = dtc ? pclose(dtc) : -1;
	fclose(file);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -1;
	return status == 0 && !said;
}
