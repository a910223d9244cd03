/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are two devices of one kind, so that the one can take the other's state?
 * The source says what its device is, by a list of numbered properties; the
 * destination compares them with its own before anything is loaded. What
 * this cannot know the device's driver may still refuse, when it takes the
 * state. A property that may be ignored has a name in a table.
 */
#ifndef VFIO_COMPAT_H
#define VFIO_COMPAT_H

#include "base/bytes.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct vfio_pci;

/* Names of properties with commas between them ("revision,subsystem") as a set for
 * vfio_pci.compat_ignored; "" is the empty one. */
int vfio_compat_parse(const char *names, uint32_t *out, struct gw_error *err);
/* The same as a check of a configuration's key. */
int vfio_compat_check(const char *names, struct gw_error *err);

void vfio_identity_write(const struct vfio_pci *d, struct bytes *out);
/* The error names the first property that differs, and how it can be ignored. */
int vfio_identity_check(const struct vfio_pci *d, const void *buf, size_t len,
                        struct gw_error *err);
/* What is ignored stays what the guest knows: it is taken from the configuration space that came
 * (PCI_FUNCTION_STATE_SIZE bytes). */
void vfio_compat_adopt(struct vfio_pci *d, const uint8_t *config);

#endif
