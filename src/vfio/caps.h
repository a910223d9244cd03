/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities of a passed-through function: one rule each, that says what the
 * guest is shown of it and why. What has no rule is hidden.
 */
#ifndef VFIO_CAPS_H
#define VFIO_CAPS_H

#include "vfio/vfio_pci.h"

struct vfio_cap_rule {
	uint16_t id;
	const char *name;
	/* Makes config[] and wmask[] at `at` what the guest is to see; returns the capability's
	 * length, at most `room`, or 0 if it is hidden after all. NULL: hidden. */
	unsigned (*show)(struct vfio_pci *d, unsigned at, unsigned room);
	const char *why;
};

/* caps.c: those of the first 256 bytes. `size`: bytes that the device has. */
void vfio_caps_virtualise(struct vfio_pci *d, size_t size);
/* ecaps.c: extended ones. */
void vfio_ecaps_virtualise(struct vfio_pci *d);

/* For both (caps.c): where capabilities begin, in the order of their list. */
struct vfio_cap_chain {
	uint16_t at[64];
	unsigned count, end; /* end: of the space they are in */
};
/* false: it leads back to one that was there, or there are too many. */
bool vfio_cap_chain_add(struct vfio_cap_chain *chain, unsigned at);
/* Up to the next capability, or the end. */
unsigned vfio_cap_room(const struct vfio_cap_chain *chain, unsigned at);
/* Does as its rule says, and keeps what was decided, for describe(). Returns how much is shown. */
unsigned vfio_cap_decide(struct vfio_pci *d, const struct vfio_cap_rule *rules, size_t count,
                         uint16_t id, bool extended, unsigned at, unsigned room);

/* The guest's accesses to these bytes go to the device. */
void vfio_config_pass(struct vfio_pci *d, unsigned offset, unsigned len);

#endif
