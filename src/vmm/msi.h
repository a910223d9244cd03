/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain MSI for any PCI function: 1 to 32 vectors, 32- or 64-bit addresses,
 * with or without per-vector masking. All registers live in the capability,
 * so all that comes in is the capability's bytes after each change.
 *
 * Out come calls of struct msi_vector_ops (msi_vectors.h), or the irqfds of
 * msi_irqfds.h. All with the device lock held.
 * Source: PCI Local Bus 3.0, 6.8.1 and 6.8.3; PCI Express Base 5.0, 6.1.4 and 7.7.1.
 */
#ifndef VMM_MSI_H
#define VMM_MSI_H

#include "vmm/msi_irqfds.h"
#include "vmm/msi_vectors.h"

#include <stddef.h>

struct msi;

#define MSI_VECTORS_MAX 32
#define MSI_CAP_SIZE_MAX 24

/* What message control, at cap + 2, says; offsets are from the capability's beginning. */
struct msi_layout {
	unsigned vectors; /* that the device can have: 1, 2, 4 ... 32 */
	bool is_64, maskable;
	unsigned data_offset;
	unsigned mask_offset;    /* 0: not maskable */
	unsigned pending_offset; /* 0: not maskable */
	unsigned size;           /* of the capability: 10, 14, 20 or 24 */
};

/* Decodes it; -EINVAL for a reserved number of vectors. */
int msi_parse(const uint8_t *cap, struct msi_layout *out, struct gw_error *err);
/* The bits of the capability that the guest may write, set in the bytes at wmask: enable, number
 * of vectors, address, data, mask bits. */
void msi_wmask(const struct msi_layout *layout, uint8_t *wmask);

/* MSI is disabled. */
int msi_create(const struct msi_layout *layout, const struct msi_vector_ops *ops, void *opaque,
               struct msi **out, struct gw_error *err);
/* Releases all vectors. NULL is fine. */
void msi_destroy(struct msi *msi);

/* The capability's bytes as they are now. Call it from config_written(), and after loading. */
void msi_update(struct msi *msi, const uint8_t *cap);
bool msi_enabled(const struct msi *msi);

/* The pending bits as they are now, for config_read() of layout.pending_offset. */
uint32_t msi_pending(struct msi *msi);
/* The device raises a vector (owners without raised()). A vector that the guest did not grant
 * is dropped. */
void msi_raise(struct msi *msi, unsigned vector);

/* Power-on state: releases all. */
void msi_reset(struct msi *msi);

/* The pending bits; all else is saved with config space. After msi_load() MSI is disabled, until
 * msi_update() is called with the loaded capability. */
#define MSI_STATE_SIZE 4
void msi_save(struct msi *msi, uint8_t state[MSI_STATE_SIZE]);
void msi_load(struct msi *msi, const uint8_t state[MSI_STATE_SIZE]);

#endif
