/* SPDX-License-Identifier: Apache-2.0 */
/* PCI devices that other processes serve: the driver of devices of type "vfio-user-pci". */
#ifndef VFIO_USER_USER_H
#define VFIO_USER_USER_H

#include "vfio/options.h"
#include "vmm/device.h"

struct vfio_user_options {
	struct vfio_options common;
	char socket[CONFIG_PATH_MAX];
	char fd[64];
	uint32_t timeout; /* ms */
};

extern const struct device_driver vfio_user_pci_driver;

#endif
