/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that differ from what they say, or from what PCI has: a table with the reason of each. */
#ifndef VFIO_QUIRKS_H
#define VFIO_QUIRKS_H

#include "vfio/vfio_pci.h"

/* Puts msix_layout right. */
void vfio_quirk_msix(struct vfio_pci *d);

/* Pieces of BARs that show configuration space once more: trapped, and answered from what the
 * guest sees of it. */
void vfio_quirk_cut_mirrors(struct vfio_pci *d);
/* Is [offset, offset + size) of the BAR in one? *config: where in configuration space. */
bool vfio_quirk_in_mirror(const struct vfio_pci *d, unsigned bar, uint64_t offset, unsigned size,
                          unsigned *config);

#endif
