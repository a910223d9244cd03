/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small emulated PCI device of the configuration's list: what they all do
 * alike about plugging, unplugging and state. The device fills `function` and
 * the calls below; its struct begins with struct pci_device.
 */
#ifndef VMM_PCI_DEVICE_H
#define VMM_PCI_DEVICE_H

#include "base/bytes.h"
#include "vmm/device.h"
#include "vmm/pci.h"

struct pci_device;

/* All with the device lock held. */
struct pci_device_ops {
	/* State beyond configuration space, and back; it may be refused. */
	void (*save)(struct pci_device *d, struct bytes *out);
	int (*load)(struct pci_device *d, struct bytes_reader *in, struct gw_error *err);
	/* It is off the bus: gives back what it has, but not its struct. NULL. */
	void (*release)(struct pci_device *d);
};

struct pci_device {
	struct device device; /* first */
	struct pci_function function;
	struct participant participant;
	const struct pci_device_ops *ops;
	bool quiet; /* nobody is told when it goes */
};

/* `d` is zeroed but for what the device has filled in (function's ops->ejected excepted, which is
 * pci_device_ejected). On error it has been released and freed; afterwards destroy does. */
int pci_device_plug(struct pci_device *d, struct machine *m, const struct config_device *config,
                    bool hot, const struct device_driver *driver,
                    const struct participant_ops *participant, struct gw_error *err);

void pci_device_ejected(struct pci_function *f);
int pci_device_request_unplug(struct device *d, struct gw_error *err);
void pci_device_destroy(struct device *d);
#define PCI_DEVICE_DRIVER_CALLS                                                                    \
	.request_unplug = pci_device_request_unplug, .destroy = pci_device_destroy

int pci_device_save(struct participant *p, struct sink *sink, struct gw_error *err);
int pci_device_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err);
#define PCI_DEVICE_PARTICIPANT(name)                                                               \
	{                                                                                          \
		.kind = name, .version = 1, .class = PARTICIPANT_DEVICE, .save = pci_device_save,  \
		.load = pci_device_load                                                            \
	}

#endif
