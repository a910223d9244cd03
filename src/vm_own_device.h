/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of the embedder's own: their types (vm_device_types.c), one of them (vm_own_device.c),
 * and its state (vm_own_state.c). */
#ifndef VM_OWN_DEVICE_H
#define VM_OWN_DEVICE_H

#include "base/bytes.h"
#include "vm.h"
#include "vmm/msi_irqfds.h"
#include "vmm/msix.h"
#include "vmm/pci.h"

#define OWN_OPTIONS_MAX 2048

/* As the configuration's keys fill it. */
struct own_options {
	char text[OWN_OPTIONS_MAX];
};

/* A registered type: a copy, and what it is to the rest of the library. Never changed. */
struct own_type {
	struct device_driver driver;
	struct participant_ops participant;
	struct gw_device_type type;
	char name[sizeof(((struct config_device *)0)->type)];
	void *opaque;
};

struct gw_device {
	struct device device; /* first */
	struct pci_function function;
	struct participant participant;
	const struct own_type *type;
	void *opaque; /* what create() made */
	bool created;
	struct msix *msix; /* NULL: no vectors */
	struct msi_irqfds *irqfds;
	uint8_t msix_cap;
	bool quiet;   /* nobody is told when it goes */
	bool running; /* device lock: between run() and pause() */

	pthread_mutex_t lock; /* of what follows; nothing is taken under it */
	bool active; /* running, and a bus master: guest memory may be written, vectors signalled */
	int fds[GW_DEVICE_VECTORS]; /* the vectors' eventfds, -1 where there is none */
	uint32_t waiting;           /* vectors that were raised and not signalled */

	/* What has come; settle takes it. */
	struct bytes core, data;
	uint64_t data_len;
};

/* ---- vm_own_device.c ---- */
/* All but type, help and keys. */
extern const struct device_driver own_device_driver;
/* What a call of the embedder returned, which is not 0, as our error: "save: its text". */
int own_failed(struct gw_error *err, int code, struct gw_error *theirs, const char *what);

/* ---- vm_own_state.c ---- */
/* All but the kind. */
extern const struct participant_ops own_device_participant;
/* Frees what has come. */
void own_state_forget(struct gw_device *d);

#endif
