/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X for any PCI function: the table and the pending bit array as the
 * guest sees them, and the capability's enable and function mask bits.
 *
 * The function routes three things here: accesses to the table and to the
 * pending bit array from its BAR handlers, and the capability's bytes from
 * config_written(). Out come calls of struct msi_vector_ops (msi_vectors.h),
 * or the irqfds of msi_irqfds.h. All with the device lock held.
 * Source: PCI Local Bus 3.0, 6.8.2 and 6.8.3; PCI Express Base 5.0, 6.1.4 and 7.7.2.
 */
#ifndef VMM_MSIX_H
#define VMM_MSIX_H

#include "vmm/msi_irqfds.h"
#include "vmm/msi_vectors.h"

#include <stddef.h>

struct msix;
struct pci_function;

#define MSIX_CAP_SIZE 12 /* of the capability in config space */
#define MSIX_ENTRY_SIZE 16
#define MSIX_VECTORS_MAX 2048

/* What the capability says; offsets are into the BAR, sizes in bytes. */
struct msix_layout {
	unsigned vectors;
	unsigned table_bar, pba_bar;
	uint64_t table_offset, table_size; /* 16 bytes a vector */
	uint64_t pba_offset, pba_size;     /* 8 bytes for each 64 vectors begun */
};

/* Decodes the capability's MSIX_CAP_SIZE bytes. -EINVAL: a BAR indicator that is none, or table
 * and pending bits overlap. Whether they lie inside the BARs is the caller's to check. */
int msix_parse(const uint8_t *cap, struct msix_layout *out, struct gw_error *err);
/* The bits of the capability that the guest may write, set in the MSIX_CAP_SIZE bytes at wmask:
 * enable and function mask. */
void msix_wmask(uint8_t *wmask);

/* All vectors are masked, MSI-X is disabled. */
int msix_create(unsigned vectors, const struct msi_vector_ops *ops, void *opaque, struct msix **out,
                struct gw_error *err);
/* Releases all vectors. NULL is fine. */
void msix_destroy(struct msix *x);

/* Accesses inside the table and the pending bit array, offset from their beginning. Aligned ones
 * of 4 and 8 bytes; others read as all ones, and are dropped as writes, as are writes to the
 * pending bits and everything behind the end. */
uint64_t msix_table_read(struct msix *x, uint64_t offset, unsigned size);
void msix_table_write(struct msix *x, uint64_t offset, unsigned size, uint64_t value);
uint64_t msix_pba_read(struct msix *x, uint64_t offset, unsigned size);

/* The capability's bytes as they are now: looks at enable and function mask. Call it from
 * config_written(), and after loading. */
void msix_update(struct msix *x, const uint8_t *cap);
/* The same for an emulated function, of which it looks at the bus master bit too: without that no
 * message leaves it (PCI 3.0, 6.2.2), and what is raised is pending, as it is for masked vectors.
 */
void msix_update_of(struct msix *x, const struct pci_function *f, unsigned cap);
bool msix_enabled(const struct msix *x);

/* The device raises a vector (owners without raised()); out of range or disabled: dropped. */
void msix_raise(struct msix *x, unsigned vector);

/* Power-on state: releases all, table and pending bits cleared. */
void msix_reset(struct msix *x);

/* Table and pending bits as bytes. The capability's bits are saved with config space: after
 * msix_load() MSI-X is disabled, until msix_update() is called with the loaded capability, which
 * then uses all unmasked vectors at once. */
size_t msix_state_size(const struct msix *x);
void msix_save(struct msix *x, uint8_t *state);
int msix_load(struct msix *x, const uint8_t *state, size_t len, struct gw_error *err);

#endif
