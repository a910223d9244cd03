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

/* For both: finds the rule, or one that says "hidden"; keeps what was decided, for describe(). */
const struct vfio_cap_rule *vfio_cap_rule(const struct vfio_cap_rule *rules, size_t count,
                                          uint16_t id);
void vfio_cap_note(struct vfio_pci *d, const struct vfio_cap_rule *rule, uint16_t id, unsigned at,
                   bool extended, bool shown);

/* The guest's accesses to these bytes go to the device. */
void vfio_config_pass(struct vfio_pci *d, unsigned offset, unsigned len);

#endif
