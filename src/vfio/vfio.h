/* SPDX-License-Identifier: Apache-2.0 */
/* Passthrough of PCI devices by VFIO: the driver of devices of type "vfio-pci". */
#ifndef VFIO_VFIO_H
#define VFIO_VFIO_H

#include "vmm/device.h"

extern const struct device_driver vfio_pci_driver;

#endif
