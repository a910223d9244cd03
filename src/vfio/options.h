/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a passed-through device, and their rows for the configuration's checks. */
#ifndef VFIO_OPTIONS_H
#define VFIO_OPTIONS_H

#include "vmm/config.h"

struct vfio_options {
	char host[CONFIG_PATH_MAX];
};

extern const struct config_key vfio_keys[];

/* device_driver.check_host: the device is there, and it and its IOMMU group can be handed over;
 * otherwise the error says what is to be done. */
int vfio_check_host(const void *options, struct gw_error *err);

#endif
