/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the device tree share: a tree that is written from its
 * beginning to its end and remembers the first failure, so that a caller looks
 * once.
 */
#ifndef ARM64_FDT_INTERNAL_H
#define ARM64_FDT_INTERNAL_H

#include "vmm/arm64/fdt.h"

#include "base/util.h"
#include "vmm/numa.h"

/* Nodes that others point to. */
enum fdt_phandle { PHANDLE_GIC = 1, PHANDLE_ITS, PHANDLE_CLOCK, PHANDLE_GPIO, PHANDLE_CPU };

/* Cells of an interrupt (arm,gic-v3.yaml): kind, number, trigger. */
#define IRQ_SPI 0
#define IRQ_PPI 1
#define IRQ_EDGE 1
#define IRQ_LEVEL 4

struct fdt_tree {
	void *blob;
	int status; /* of libfdt; 0: all is well so far */
};

void fdt_node(struct fdt_tree *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fdt_end(struct fdt_tree *t);
void fdt_text(struct fdt_tree *t, const char *name, const char *text);
/* Strings one after the other, each with its NUL; the last one's is the literal's own. */
#define fdt_texts(t, name, literal) fdt_bytes(t, name, literal, sizeof(literal))
void fdt_bytes(struct fdt_tree *t, const char *name, const void *data, size_t len);
void fdt_flag(struct fdt_tree *t, const char *name);
void fdt_cells(struct fdt_tree *t, const char *name, const uint32_t *cells, size_t count);
#define fdt_cell(t, name, ...)                                                                     \
	fdt_cells(t, name, (const uint32_t[]){ __VA_ARGS__ },                                      \
	          ARRAY_SIZE(((const uint32_t[]){ __VA_ARGS__ })))
void fdt_u64(struct fdt_tree *t, const char *name, uint64_t value);
/* A range with two cells each for address and size, as all of our buses have. */
void fdt_reg(struct fdt_tree *t, uint64_t base, uint64_t size);

/* numa-node-id, if there are nodes (numa.txt, 3). */
void fdt_near(struct fdt_tree *t, const struct fdt_contents *c, unsigned node);

void fdt_add_cpus(struct fdt_tree *t, const struct fdt_contents *c);       /* fdt_cpus.c */
void fdt_add_interrupts(struct fdt_tree *t, const struct fdt_contents *c); /* fdt_devices.c */
void fdt_add_devices(struct fdt_tree *t, const struct fdt_contents *c);    /* fdt_devices.c */
void fdt_add_pci(struct fdt_tree *t, const struct fdt_contents *c);        /* fdt_pci.c */

#endif
