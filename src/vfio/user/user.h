/* SPDX-License-Identifier: Apache-2.0 */
/* PCI devices that other processes serve: the driver of devices of type "vfio-user-pci". */
#ifndef VFIO_USER_USER_H
#define VFIO_USER_USER_H

#include "vmm/device.h"

extern const struct device_driver vfio_user_pci_driver;

#endif
