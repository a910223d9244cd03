/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM behind the public handle: joins machine, passthrough and migration.
 *
 * Locks, in the order in which they are taken:
 *  - `lock` guards state and machine; every public call that touches them
 *    holds it, and so do migration's calls into the VM. It is not held while
 *    migration is called for anything that waits.
 *  - the machine's device lock (vmm/machine.h).
 *  - `event_lock` makes callbacks come one at a time. Nothing is taken under it.
 */
#ifndef VM_H
#define VM_H

#include "base/log.h"
#include "base/loop.h"
#include "godwit.h"
#include "migration/migration.h"
#include "vmm/machine.h"

#include <pthread.h>

struct vm_listener {
	void (*event)(void *opaque, const struct gw_event *event);
	void *opaque;
	struct vm_listener *next;
};

struct vm_map {
	struct gw_map *entries; /* own copies */
	size_t count;
};

struct gw_vm {
	struct gw_callbacks callbacks;
	struct log log;
	struct loop *loop;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* of state, quit */
	enum gw_state state;
	enum gw_state before_stop; /* what migration's resume_guest goes back to */
	bool quit;
	struct machine *machine;
	struct vm_map map; /* for what comes in */

	/* Set by vCPU threads, which cannot take `lock`; dealt with on the loop. */
	bool reset_wanted;
	bool poweroff_wanted;
	bool failed;
	uint32_t eject_wanted; /* PCI slots that the guest lets go of */

	struct migration *migration;

	pthread_mutex_t event_lock;
	struct vm_listener *listeners;
};

/* ---- vm_events.c ---- */
void vm_emit(struct gw_vm *vm, const char *name, const char *data);
void vm_log_sink(void *opaque, enum gw_log_level level, const char *text);

/* ---- vm_machine.c: with `lock` held ---- */
int vm_build(struct gw_vm *vm, const struct config *config, bool incoming, struct gw_error *err);
void vm_demolish(struct gw_vm *vm);
void vm_set_state(struct gw_vm *vm, enum gw_state state);
/* The slot that it got is put into the configuration. */
int vm_add_device(struct gw_vm *vm, struct config_device *config, bool hot, struct gw_error *err);
/* -ENODATA unless there is a machine that is not in transit. */
int vm_need_machine(struct gw_vm *vm, struct gw_error *err);

/* ---- vm_migration.c ---- */
extern const struct migration_host vm_migration_host;
/* Cancels, for this reason, what is under way, and waits until it is over. Without `lock`. */
void vm_end_migration(struct gw_vm *vm, const char *why);
void vm_map_free(struct vm_map *map);

#endif
