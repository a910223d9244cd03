/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables: compiled from src/vmm/x86/acpi/ at build time, completed
 * with what only the machine knows (addresses, vCPUs, checksums), put into
 * guest memory.
 * Source: ACPI 6.5, 5.2.
 */
#ifndef X86_ACPI_H
#define X86_ACPI_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct numa;

/* RSDP at LAYOUT_RSDP and all else from LAYOUT_ACPI, into the guest's memory. */
int acpi_build(struct machine *m, struct gw_error *err);

/* Memory, for the table that tells of memory which is there or may come. */
struct acpi_memory {
	uint64_t gpa, size;
	bool hotplug;
	unsigned node; /* with `hotplug`; else the nodes share it in their order */
};

/* What the tables depend on. */
struct acpi_contents {
	const uint32_t *apic_ids; /* of each vCPU */
	unsigned cpus;
	const struct acpi_memory *memory;
	unsigned memory_count;   /* 0: the guest finds RAM by the memory map alone */
	const struct numa *numa; /* NULL: everything is in node 0 */
};

/* The same as bytes: image[0] is what goes to LAYOUT_RSDP; *used of them matter. -ENOSPC. */
int acpi_image(const struct acpi_contents *c, uint8_t *image, size_t size, size_t *used,
               struct gw_error *err);

#endif
