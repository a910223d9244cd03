/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM behind the public handle: joins machine, passthrough and migration.
 *
 * Locks, in the order in which they are taken:
 *  - `lock` guards state and machine; every public call that touches them
 *    holds it, and so do migration's calls into the VM. It is not held while
 *    migration is called for anything that waits.
 *  - the machine's device lock (vmm/machine.h).
 *  - `fd_lock` guards the descriptors given by name.
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

struct vm_fd {
	char name[64];
	int fd;
	struct vm_fd *next;
};

/* What a guest does that has yet to arrive: what it did, or what was asked for meanwhile. */
enum vm_arrival { ARRIVE_AS_IT_WAS, ARRIVE_RUNNING, ARRIVE_STOPPED };

struct gw_vm {
	struct gw_callbacks callbacks;
	struct log log;
	struct loop *loop;
	bool external_loop;   /* the caller runs it */
	pthread_t dispatcher; /* on this thread, once it has (atomic; 0: not yet) */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* of state, quit */
	enum gw_state state;
	enum gw_state before_stop; /* what migration's resume_guest goes back to */
	bool quit;
	struct machine *machine;
	struct vm_map map; /* for what comes in */
	bool restoring;    /* what comes in is a snapshot */
	enum vm_arrival arrival;

	/* Set by vCPU threads, which cannot take `lock`; dealt with on the loop. */
	bool reset_wanted;
	bool poweroff_wanted;
	bool pause_wanted;
	bool failed;
	uint64_t eject_wanted;     /* PCI slots that the guest lets go of */
	struct vm_unplug *unplugs; /* asked for with a time limit */
	/* Slots of primaries (vm_failover.c) that the guest was asked to let go of: for a
	 * migration, for good. */
	uint64_t leaving, deleting;
	bool letting_go; /* a migration waits for those; the guest may let go of any device */
	int left_fd;     /* eventfd: the guest has let go of something */
	struct loop_timer *unplug_timer;

	struct migration *migration;

	pthread_mutex_t event_lock;
	struct vm_listener *listeners;

	pthread_mutex_t quit_lock; /* of the next two; nothing of the VM's is taken under it */
	bool quitting;             /* told to quit; `quit` follows */
	struct machine_quit_hook *quit_hooks;

	pthread_mutex_t fd_lock; /* of `fds`; nothing is taken under it */
	struct vm_fd *fds;

	struct vm_types *types; /* the newest set of vm_device_types.c; NULL: none registered */
};

/* Whose machine it is. */
static inline struct gw_vm *vm_of(const struct machine *m)
{
	return m->notify.opaque;
}

/* ---- vm_events.c ---- */
void vm_emit(struct gw_vm *vm, const char *name, const char *data);
/* An event whose data are a device, by its id and QMP's path of it. */
void vm_emit_device(struct gw_vm *vm, const char *name, const char *id);
void vm_log_sink(void *opaque, enum gw_log_level level, const char *text);

/* ---- vm_quit.c ---- */
void vm_on_quit(void *opaque, struct machine_quit_hook *hook, bool on);
/* Without `lock`, which is held by somebody who waits for what a hook cuts short. */
void vm_call_quit_hooks(struct gw_vm *vm);

/* ---- vm_machine.c: with `lock` held ---- */
/* Every type of device that the library has. */
extern const struct device_drivers vm_drivers;
int vm_build(struct gw_vm *vm, const struct config *config, bool incoming, struct gw_error *err);
void vm_demolish(struct gw_vm *vm);
void vm_set_state(struct gw_vm *vm, enum gw_state state);
/* The slot that it got is put into the configuration. */
int vm_add_device(struct gw_vm *vm, struct config_device *config, bool hot, struct gw_error *err);
/* A device is no longer part of the machine's configuration, which is told. */
void vm_forget_device(struct gw_vm *vm, const char *id);
/* What the guest has let go of is unplugged now. */
void vm_eject_now(struct gw_vm *vm);
/* It is about to reset, power off or let a device go. Without `lock`, too. */
bool vm_guest_wants(const struct gw_vm *vm);
/* -ENODATA unless there is a machine that is not in transit. */
int vm_need_machine(struct gw_vm *vm, struct gw_error *err);

/* ---- vm_devices.c: with `lock` held ---- */
/* Class DEVICE_NOT_FOUND: -ENOENT, -ENODATA while the VM is empty. */
int vm_check_has_device(struct gw_vm *vm, const char *id, struct gw_error *err);
/* -EBUSY while it is saved, moved or in transit. */
int vm_check_may_change(struct gw_vm *vm, struct gw_error *err);

/* ---- vm_unplug.c ---- */
/* Devices that the host wants back (struct device, wanted_back) are asked for. On the loop. */
void vm_give_back(void *vm);
/* The device has gone, with `lock` held: nobody waits for it any more. */
void vm_unplug_done(struct gw_vm *vm, const char *id);
void vm_unplugs_free(struct gw_vm *vm);

/* ---- vm_failover.c: with `lock` held, but for vm_failover_look() and the host's calls ---- */
/* It is in the configuration, and not in the machine. */
bool vm_failover_is_away(struct gw_vm *vm, const struct config_device *config);
/* The guest can deal with it now. */
bool vm_failover_may_come(struct gw_vm *vm, const struct config_device *config);
int vm_failover_plug(struct gw_vm *vm, struct config_device *config, struct gw_error *err);
/* Those that are away come soon, if they may by then. Any lock. */
void vm_failover_look(struct gw_vm *vm);
/* A device has gone: true if it stays in the configuration. Also with the device lock. */
bool vm_failover_left(struct gw_vm *vm, struct config_device *config);
/* The machine is about to be reset: its next driver has agreed to nothing yet. */
void vm_failover_reset(struct gw_vm *vm);
/* struct migration_host. */
int vm_failover_ask(void *vm, struct gw_error *err);
int vm_failover_await(void *vm, int cancel_fd, uint64_t timeout_ms, struct gw_error *err);

/* ---- vm_fds.c ---- */
/* machine_notify.fd, with the VM as opaque. */
int vm_take_fd(void *opaque, const char *name);
void vm_fds_free(struct gw_vm *vm);

/* ---- vm_device_types.c ---- */
/* The library's types and those registered with the VM. Without `lock`, too. */
const struct device_drivers *vm_drivers_of(const struct gw_vm *vm);
void vm_types_free(struct gw_vm *vm);

/* ---- vm_migration.c ---- */
extern const struct migration_host vm_migration_host;
/* Cancels, for this reason, what is under way, and waits until it is over. Without `lock`. */
void vm_end_migration(struct gw_vm *vm, const char *why);
void vm_map_free(struct vm_map *map);

#endif
