/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the configuration's list, and the driver that makes it. A
 * driver is one file and one line in the table of src/vm_machine.c.
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include "godwit.h"
#include "vmm/config.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

struct machine;
struct device;

struct device_driver {
	const char *type; /* the configuration's "type" */
	const char *help; /* one line for the documentation */
	/* Beside id, type and slot; offsets into a struct that fits CONFIG_OPTIONS_SIZE. */
	const struct config_key *keys;
	/* Is what the options name there on this host, and do they fit each other? The error
	 * begins with the key's name ("host: no such PCI device ..."). May be NULL. */
	int (*check_host)(const void *options, struct gw_error *err);
	/* Guest memory has to be such as another process can map (config's backing.shared). */
	bool shares_memory;

	/* Makes the device and plugs it in (and registers its participant); whole or not at all.
	 * `hot`: the machine exists already and the guest is to be told. */
	int (*create)(struct machine *m, const struct config_device *config, bool hot,
	              struct device **out, struct gw_error *err);
	/* Asks the guest to let go of it; `machine.device_gone` follows. */
	int (*request_unplug)(struct device *d, struct gw_error *err);
	/* Takes it away and frees it, whatever the guest thinks. No callback. */
	void (*destroy)(struct device *d);

	/* The guest is about to run, has stopped: between the two calls the device may act of its
	 * own accord, read and write guest memory; outside it does neither. vCPUs are paused in
	 * both; the device lock is not held. May be NULL. */
	void (*run)(struct device *d);
	void (*pause)(struct device *d);

	/* Takes what only one machine may use, such as the lock of a disk, before the guest is this
	 * machine's; gives it back once the guest is another's. Either may come again. May be NULL,
	 * both. */
	int (*claim)(struct device *d, struct gw_error *err);
	void (*unclaim)(struct device *d);

	/* The Ethernet address that the guest will find in it; false: not known before. May be
	 * NULL.
	 */
	bool (*address)(const void *options, uint8_t mac[6]);

	/* Devices that can stand in for another one of the guest (config_device.failover). May be
	 * NULL, all three. By its options it can. */
	bool (*may_stand_in)(const void *options);
	/* The guest's driver is ready, and knows that there may be another. */
	bool (*stands_in)(struct device *d);
	/* The other has left: the host's side is to know by what way the guest is reached now.
	 * With the device lock held. */
	void (*take_over)(struct device *d);

	/* machine_defer() was called, for this device or another: does what needs the device lock,
	 * which is held. May be NULL. */
	void (*deferred)(struct device *d);

	/* What can be said of it, added to `info` (an object); false: out of memory. NULL. */
	bool (*describe)(struct device *d, cJSON *info);
	/* A request to this device at run time ("resize", "balloon", ...): -EOPNOTSUPP if it knows
	 * no such command. *ret NULL before. With the machine's owner's lock. May be NULL. */
	int (*command)(struct device *d, const char *name, const cJSON *args, cJSON **ret,
	               struct gw_error *err);
};

/* The driver's own struct begins with this. */
struct device {
	const struct device_driver *driver;
	struct machine *machine;
	char id[32];
	unsigned slot;         /* the PCI slot that it got */
	bool claimed;          /* machine_claim(): what only one machine may use is this one's */
	bool wanted_back;      /* by the host: machine_notify.give_back() (atomic) */
	unsigned give_back_ms; /* how long the guest has to let go of it then */
	struct device *next;
};

#endif
