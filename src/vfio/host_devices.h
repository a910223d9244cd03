/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's devices, and which of them can be passed through and moved:
 * from sysfs, and from VFIO where a device is bound to it and nobody uses it.
 */
#ifndef VFIO_HOST_DEVICES_H
#define VFIO_HOST_DEVICES_H

#include "base/error.h"
#include "vfio/sysfs.h"

/* JSON list (docs/devices.md), released with free(). */
int host_devices(const char *root, char **json, struct gw_error *err);

#endif
