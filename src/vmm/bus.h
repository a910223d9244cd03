/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of trapped accesses: MMIO, and on x86 port I/O. Ranges do
 * not overlap. Handlers run on a vCPU's thread with the machine's device lock
 * held; unclaimed reads give all ones, unclaimed writes are dropped.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

struct bus_range;

struct bus_ops {
	/* size is 1, 2, 4 or 8; offset is into the range; the access lies wholly inside. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range {
	uint64_t base;
	uint64_t size;
	const struct bus_ops *ops;
	void *opaque;
	const char *name;
};

struct bus {
	struct bus_range **ranges; /* sorted by base */
	unsigned count, capacity;
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);
/* The range stays the caller's and must live until bus_remove. -EEXIST: overlap, the other
 * named. Callers hold the device lock (or nothing runs yet). */
int bus_add(struct bus *bus, struct bus_range *range, struct gw_error *err);
void bus_remove(struct bus *bus, struct bus_range *range);
/* The range that holds [addr, addr+size), or NULL. */
struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned size);
/* Callers hold the device lock. */
uint64_t bus_read(const struct bus *bus, uint64_t addr, unsigned size);
void bus_write(const struct bus *bus, uint64_t addr, unsigned size, uint64_t value);

#endif
