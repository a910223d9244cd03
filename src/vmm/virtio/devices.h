/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices, each in a file of its own. */
#ifndef VMM_VIRTIO_DEVICES_H
#define VMM_VIRTIO_DEVICES_H

#include "vmm/device.h"

extern const struct device_driver virtio_blk_driver;
extern const struct device_driver virtio_rng_driver;
extern const struct device_driver virtio_console_driver;
extern const struct device_driver virtio_balloon_driver;
extern const struct device_driver virtio_mem_driver;
extern const struct device_driver virtio_net_driver;
extern const struct device_driver virtio_vsock_driver;

#endif
