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

#include <stddef.h>
#include <stdint.h>

struct machine;

/* RSDP at LAYOUT_RSDP and all else from LAYOUT_ACPI, into the guest's memory. */
int acpi_build(struct machine *m, struct gw_error *err);

/* The same as bytes, for vCPUs with these APIC ids: image[0] is what goes to LAYOUT_RSDP; *used of
 * them matter. -ENOSPC. */
int acpi_image(const uint32_t *apic_ids, unsigned cpus, uint8_t *image, size_t size, size_t *used,
               struct gw_error *err);

#endif
