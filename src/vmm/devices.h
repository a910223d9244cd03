/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated PCI devices that are not virtio, each in a file of its own. */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

#include "vmm/device.h"

extern const struct device_driver pvpanic_driver;
extern const struct device_driver i6300esb_driver;

#endif
