/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the configuration's list, and the driver that makes it. A
 * driver is one file and one line in the table of src/godwit.c.
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include "godwit.h"
#include "vmm/config.h"

#include <stdbool.h>

struct machine;
struct device;

struct device_driver {
	const char *type; /* the configuration's "type" */
	/* Makes the device and plugs it in (and registers its participant); whole or not at all.
	 * `hot`: the machine exists already and the guest is to be told. */
	int (*create)(struct machine *m, const struct config_device *config, bool hot,
	              struct device **out, struct gw_error *err);
	/* Asks the guest to let go of it; `machine.device_gone` follows. */
	int (*request_unplug)(struct device *d, struct gw_error *err);
	/* Takes it away and frees it, whatever the guest thinks. No callback. */
	void (*destroy)(struct device *d);
};

/* The driver's own struct begins with this. */
struct device {
	const struct device_driver *driver;
	struct machine *machine;
	char id[32];
	unsigned slot; /* the PCI slot that it got */
	struct device *next;
};

#endif
