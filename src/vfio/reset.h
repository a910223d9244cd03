/* SPDX-License-Identifier: Apache-2.0 */
/* Resets of a passed-through device. */
#ifndef VFIO_RESET_H
#define VFIO_RESET_H

#include "vfio/vfio_pci.h"

/* Before the guest gets it. A device that has no reset of any kind is taken as it is, with a word
 * in the log. Without the device lock. */
int vfio_pci_reset_first(struct vfio_pci *d, struct gw_error *err);
/* struct pci_function_ops.reset, reset_alone */
void vfio_pci_reset_with_machine(struct pci_function *f);
void vfio_pci_reset_alone(struct pci_function *f);

/* All that is on the device's bus. Others of this machine may be among it if they are being reset
 * too; afterwards they have their interrupts and commands again. With the device lock. */
int vfio_bus_reset(struct vfio_pci *d, enum vfio_resets resets, struct gw_error *err);

#endif
