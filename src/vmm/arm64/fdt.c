/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/fdt_internal.h"

#include "base/error.h"
#include "vmm/arm64/layout.h"

#include <endian.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TREE_SIZE (256 * KIB) /* 255 vCPUs take a third of that */

/* ---- writing ---- */

static void note(struct fdt_tree *t, int status)
{
	if (!t->status && status < 0)
		t->status = status;
}

void fdt_node(struct fdt_tree *t, const char *format, ...)
{
	char name[64];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	note(t, fdt_begin_node(t->blob, name));
}

void fdt_end(struct fdt_tree *t)
{
	note(t, fdt_end_node(t->blob));
}

void fdt_bytes(struct fdt_tree *t, const char *name, const void *data, size_t len)
{
	note(t, fdt_property(t->blob, name, data, (int)len));
}

void fdt_text(struct fdt_tree *t, const char *name, const char *text)
{
	fdt_bytes(t, name, text, strlen(text) + 1);
}

void fdt_flag(struct fdt_tree *t, const char *name)
{
	fdt_bytes(t, name, NULL, 0);
}

void fdt_cells(struct fdt_tree *t, const char *name, const uint32_t *cells, size_t count)
{
	void *to;
	int r = fdt_property_placeholder(t->blob, name, (int)(count * sizeof(*cells)), &to);

	note(t, r);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const uint32_t cell = htobe32(cells[i]);

		memcpy((char *)to + i * sizeof(cell), &cell, sizeof(cell));
	}
}

void fdt_u64(struct fdt_tree *t, const char *name, uint64_t value)
{
	fdt_cell(t, name, (uint32_t)(value >> 32), (uint32_t)value);
}

void fdt_reg(struct fdt_tree *t, uint64_t base, uint64_t size)
{
	fdt_cell(t, "reg", (uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(size >> 32),
	         (uint32_t)size);
}

void fdt_near(struct fdt_tree *t, const struct fdt_contents *c, unsigned node)
{
	if (c->numa)
		fdt_cell(t, "numa-node-id", node);
}

/* ---- the nodes that are about the guest as a whole ---- */

/* Devicetree Specification, 3.6, and Linux's additions (chosen.yaml of dt-schema). */
static void add_chosen(struct fdt_tree *t, const struct fdt_contents *c)
{
	char console[32];

	snprintf(console, sizeof(console), "/serial@%x", LAYOUT_SERIAL);
	fdt_node(t, "chosen");
	fdt_text(t, "bootargs", c->cmdline);
	fdt_text(t, "stdout-path", console);
	fdt_u64(t, "kaslr-seed", c->kaslr_seed);
	fdt_bytes(t, "rng-seed", c->rng_seed, sizeof(c->rng_seed));
	if (c->initrd_size) {
		fdt_u64(t, "linux,initrd-start", c->initrd);
		fdt_u64(t, "linux,initrd-end", c->initrd + c->initrd_size);
	}
	fdt_end(t);
}

/* Devicetree Specification, 3.4; a node for each piece that is near to other CPUs than the one
 * before it. */
static void add_memory(struct fdt_tree *t, const struct fdt_contents *c)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < c->memory_count; i++) {
		struct numa_part parts[CONFIG_NODES_MAX];
		const unsigned n = numa_cut(c->numa, before, c->memory[i].size, parts);

		for (unsigned p = 0; p < n; p++) {
			const uint64_t gpa = c->memory[i].gpa + parts[p].offset;

			fdt_node(t, "memory@%llx", (unsigned long long)gpa);
			fdt_text(t, "device_type", "memory");
			fdt_reg(t, gpa, parts[p].size);
			fdt_near(t, c, parts[p].node);
			fdt_end(t);
		}
		before += c->memory[i].size;
	}
}

/* numa.txt, 4: triples of node, node, distance in ascending order. */
static void add_distances(struct fdt_tree *t, const struct numa *numa)
{
	uint32_t cells[CONFIG_NODES_MAX * CONFIG_NODES_MAX * 3];
	size_t n = 0;

	for (unsigned from = 0; from < numa->nodes; from++) {
		for (unsigned to = 0; to < numa->nodes; to++) {
			cells[n++] = from;
			cells[n++] = to;
			cells[n++] = numa->distance[from][to];
		}
	}
	fdt_node(t, "distance-map");
	fdt_text(t, "compatible", "numa-distance-map-v1");
	fdt_cells(t, "distance-matrix", cells, n);
	fdt_end(t);
}

/* Devicetree Specification, 3.5. The guest maps these pages as their drivers ask, so it must not
 * have them in its map of RAM as well. */
static void add_reserved(struct fdt_tree *t)
{
	fdt_node(t, "reserved-memory");
	fdt_cell(t, "#address-cells", 2);
	fdt_cell(t, "#size-cells", 2);
	fdt_flag(t, "ranges");
	fdt_node(t, "platform@%llx", (unsigned long long)LAYOUT_RAM);
	fdt_reg(t, LAYOUT_RAM, LAYOUT_PLATFORM_SIZE);
	fdt_flag(t, "no-map");
	fdt_end(t);
	fdt_end(t);
}

static void add_all(struct fdt_tree *t, const struct fdt_contents *c)
{
	fdt_node(t, "%s", "");
	fdt_text(t, "compatible", "linux,dummy-virt");
	fdt_text(t, "model", c->model);
	fdt_cell(t, "#address-cells", 2);
	fdt_cell(t, "#size-cells", 2);
	fdt_cell(t, "interrupt-parent", PHANDLE_GIC);
	add_chosen(t, c);
	add_memory(t, c);
	add_reserved(t);
	if (c->numa && c->numa->distances)
		add_distances(t, c->numa);
	fdt_add_cpus(t, c);
	fdt_add_interrupts(t, c);
	fdt_add_devices(t, c);
	fdt_add_pci(t, c);
	fdt_end(t);
}

int fdt_make(const struct fdt_contents *c, void **out, size_t *len, struct gw_error *err)
{
	autofree void *blob = calloc(1, TREE_SIZE);
	struct fdt_tree t = { .blob = blob };

	if (!blob)
		return error_set(err, -ENOMEM, "device tree: out of memory");
	note(&t, fdt_create(blob, TREE_SIZE));
	note(&t, fdt_finish_reservemap(blob));
	add_all(&t, c);
	note(&t, fdt_finish(blob));
	if (t.status)
		return error_set(err, -EINVAL, "device tree: %s", fdt_strerror(t.status));
	*len = fdt_totalsize(blob);
	*out = take_ptr(&blob);
	return 0;
}
