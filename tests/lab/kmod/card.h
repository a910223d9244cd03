/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The card itself: stopping it, reading its state, writing it, letting it run.
 *
 * Each call reaches the registers through a window of its own: memory decoding is switched on
 * where the guest has it off, and nobody resets the card meanwhile. A card that sleeps (D3) has
 * no registers to speak of: -EBUSY.
 */
#ifndef GODWIT_E1000E_CARD_H
#define GODWIT_E1000E_CARD_H

#include "registers.h"

#include <linux/vfio_pci_core.h>

struct card {
	struct vfio_pci_core_device *core;
	void __iomem *io;
	u16 command;          /* while a window is open: the guest's PCI_COMMAND */
	u32 held[HELD_COUNT]; /* while it stands still: what card_run gives back */
};

/* A state as it is handed out: little-endian, the values after the head. */
struct card_state {
	__le32 magic, version;
	__le32 length; /* in all */
	__le32 sum;    /* CRC-32 of all that follows */
	__le16 vendor, device, subsystem_vendor, subsystem;
	__le32 revision, values;
	__le32 value[];
};

size_t card_state_size(void);

/* Keeps it from starting DMA and from interrupting; what it has begun is complete on return. When
 * that fails it runs on. */
int card_stop(struct card *card);
/* Undoes card_stop, or starts what card_load has loaded. */
int card_run(struct card *card);

/* These want a card that stands still. */
int card_save(struct card *card, struct card_state *state);
/* -EIO: it has lost its state, and is not ready for another. */
int card_reset(struct card *card);
/* -EINVAL: the state is no good, and the card is untouched. -EIO: the card did not take it. */
int card_load(struct card *card, const struct card_state *state, size_t length);

#endif
