/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libgodwit: an embeddable KVM virtual machine monitor.
 *
 * One header, one handle. A `struct gw_vm` is a virtual machine, or the
 * place where one will arrive: it is made empty and then filled in one of
 * three ways, from a configuration (gw_vm_configure), from a snapshot
 * directory (gw_vm_restore), or from another host (gw_vm_incoming).
 *
 * Conventions, for every call unless it says otherwise:
 *  - Returns 0, or a negative errno value, and then fills `err` (which may
 *    be NULL) with a message that names the place and the cause.
 *  - May be called from any thread; calls on one VM exclude each other, two
 *    VMs share nothing.
 *  - Strings passed in are copied. Strings passed out as `char **` belong
 *    to the caller, who releases them with gw_free().
 *  - Sizes are in bytes and times in milliseconds where the name does not
 *    say otherwise.
 *  - The library never exits, never aborts, prints nothing.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_API __attribute__((visibility("default")))

#define GW_VERSION_MAJOR 0
#define GW_VERSION_MINOR 1
#define GW_VERSION_PATCH 0

/* ---- errors ------------------------------------------------------------ */

/* What kind of failure it was, as QMP's error classes tell them apart. */
enum gw_error_class {
	GW_ERROR_GENERIC,
	GW_ERROR_DEVICE_NOT_FOUND,
	GW_ERROR_DEVICE_NOT_ACTIVE,
	GW_ERROR_KVM_MISSING_CAP,
};

/*
 * An error as a value. `code` is the negative errno that the call returned.
 * `text` is one line, outermost context first: "restore snap: device net0:
 * load: frame 17: checksum mismatch".
 */
struct gw_error {
	int code;
	enum gw_error_class cls;
	char text[1016];
};

/* Releases a string that a call passed out. NULL is fine. */
GW_API void gw_free(char *string);

/* "0.1.0": the version of the library that is running. Never released. */
GW_API const char *gw_version(void);

/* ---- life of a VM ------------------------------------------------------ */

struct gw_vm;

enum gw_log_level { GW_LOG_ERROR, GW_LOG_WARN, GW_LOG_INFO, GW_LOG_DEBUG };

/*
 * Something happened. `name` is QMP's name for it (STOP, RESUME, SHUTDOWN,
 * RESET, POWERDOWN, MIGRATION, MIGRATION_PASS, DEVICE_DELETED,
 * VFIO_MIGRATION, ...), `data` is a JSON object as text, "{}" where there is
 * nothing to add. Both are valid during the call only.
 */
struct gw_event {
	const char *name;
	const char *data;
	int64_t seconds; /* wall clock, since the epoch */
	int64_t microseconds;
};

/*
 * Callbacks run on threads of the library, one at a time for each VM. They
 * must not call back into the same VM and should return quickly: hand the
 * word on to a thread of your own. Any of them may be NULL.
 */
struct gw_callbacks {
	void *opaque;
	void (*event)(void *opaque, const struct gw_event *event);
	void (*log)(void *opaque, enum gw_log_level level, const char *text);
};

/*
 * Makes an empty VM: no memory, no devices, nothing running. State:
 * GW_STATE_EMPTY. `callbacks` may be NULL and is copied.
 * Errors: -ENOMEM, -EMFILE.
 */
GW_API int gw_vm_new(const struct gw_callbacks *callbacks, struct gw_vm **out,
                     struct gw_error *err);

/*
 * A further listener for events, called after the one given at creation and under the same
 * rules. gw_vm_unlisten returns once no call to it is under way; -ENOENT if there is none.
 */
GW_API int gw_vm_listen(struct gw_vm *vm, void (*event)(void *opaque, const struct gw_event *event),
                        void *opaque, struct gw_error *err);
GW_API int gw_vm_unlisten(struct gw_vm *vm,
                          void (*event)(void *opaque, const struct gw_event *event), void *opaque);

/*
 * Stops whatever runs and releases everything. A migration that is under way
 * is cancelled first, and waited for. NULL is fine. Must not be called from a
 * callback of the VM.
 */
GW_API void gw_vm_free(struct gw_vm *vm);

/*
 * Fills an empty VM from a configuration in JSON (docs/config.md). `name` is
 * what error messages call it, a file name for instance. The machine is
 * complete afterwards and paused at its first instruction: GW_STATE_PRELAUNCH.
 * Errors: -EINVAL (the message names every faulty key), -EBUSY (not empty),
 * and whatever the host refuses, with file and ioctl named.
 */
GW_API int gw_vm_configure(struct gw_vm *vm, const char *json, const char *name,
                           struct gw_error *err);

enum gw_state {
	GW_STATE_EMPTY,          /* nothing in it yet */
	GW_STATE_PRELAUNCH,      /* complete, never ran */
	GW_STATE_RUNNING,        /* vCPUs run */
	GW_STATE_PAUSED,         /* stopped by gw_vm_stop, or loaded in that state */
	GW_STATE_INMIGRATE,      /* waits for, or takes in, an incoming stream */
	GW_STATE_FINISH_MIGRATE, /* vCPUs stopped for the switchover */
	GW_STATE_POSTMIGRATE,    /* handed over: another host has the guest */
	GW_STATE_SAVE_VM,        /* vCPUs stopped while it is saved */
	GW_STATE_SHUTDOWN,       /* the guest powered itself off */
	GW_STATE_INTERNAL_ERROR, /* KVM gave up on a vCPU; the log says why */
};

GW_API enum gw_state gw_vm_state(struct gw_vm *vm);

/* QMP's word for a state: "running", "paused", "inmigrate", ... */
GW_API const char *gw_state_name(enum gw_state state);

/*
 * Runs the vCPUs: from PRELAUNCH or PAUSED. Does nothing if they run.
 * From POSTMIGRATE it is refused with -EPERM, since the guest may be running
 * elsewhere: `force` overrides that, and only that; whoever sets it has made
 * sure that the other host does not run the guest.
 */
GW_API int gw_vm_cont(struct gw_vm *vm, bool force, struct gw_error *err);

/* Stops the vCPUs; returns when all have stopped. PAUSED afterwards. -EBUSY while it is being
 * saved or handed over. */
GW_API int gw_vm_stop(struct gw_vm *vm, struct gw_error *err);

/* Presses the power button. The guest decides what to do about it. */
GW_API int gw_vm_powerdown(struct gw_vm *vm, struct gw_error *err);

/* Resets the machine and boots it again, as its reset button would. */
GW_API int gw_vm_reset(struct gw_vm *vm, struct gw_error *err);

/*
 * Ends the VM as QMP's quit does: vCPUs stop for good, gw_vm_wait returns. A migration under
 * way is cancelled.
 */
GW_API void gw_vm_quit(struct gw_vm *vm);

/*
 * Waits until the VM was told to quit, the guest has powered off, or a vCPU has
 * failed; at most `timeout_ms`
 * (-1: no limit). Errors: -ETIMEDOUT.
 */
GW_API int gw_vm_wait(struct gw_vm *vm, int timeout_ms, struct gw_error *err);

/* ---- what is in it ----------------------------------------------------- */

/* The configuration that the machine has now, as JSON. -ENODATA if empty. */
GW_API int gw_vm_query_config(struct gw_vm *vm, char **json, struct gw_error *err);

/* The vCPUs: JSON list of {"cpu-index", "thread-id"}. */
GW_API int gw_vm_query_cpus(struct gw_vm *vm, char **json, struct gw_error *err);

/* The PCI functions: JSON in the form of QMP's query-pci. */
GW_API int gw_vm_query_pci(struct gw_vm *vm, char **json, struct gw_error *err);

/*
 * Plugs a device in while the machine exists. `json` is one entry of the
 * configuration's `devices`. In a running guest the slot's insertion is
 * signalled by ACPI. Errors: -EINVAL (key named), -EEXIST (id taken),
 * -ENOSPC (no slot), -EBUSY (migration under way), and the host's.
 */
GW_API int gw_vm_device_add(struct gw_vm *vm, const char *json, struct gw_error *err);

/*
 * Asks the guest to let a device go. Returns once asked; DEVICE_DELETED
 * follows when the guest has ejected it and it has been handed back to the
 * host. A machine that never ran lets go at once.
 * Errors: -ENOENT (class DEVICE_NOT_FOUND), -EBUSY (migration under way).
 */
GW_API int gw_vm_device_del(struct gw_vm *vm, const char *id, struct gw_error *err);

/* ---- saving and moving ------------------------------------------------- */

/*
 * Host resources that differ at the place of arrival. Each entry overrides
 * one key of the configuration that arrives: path "devices.tty0.host", value
 * "/sys/bus/mdev/devices/...". A path that names nothing is an error.
 */
struct gw_map {
	const char *path;
	const char *value;
};

/*
 * Saves the VM to a new directory `dir` (docs/snapshot.md), atomically: it
 * appears whole or not at all. vCPUs are stopped meanwhile and afterwards go
 * on as before. Errors: -EEXIST, -ENOTSUP (a device cannot be saved; named),
 * -ENOSPC, -EBUSY, and I/O errors; the guest goes on in every case.
 */
GW_API int gw_vm_save(struct gw_vm *vm, const char *dir, struct gw_error *err);

/*
 * Fills an empty VM from a snapshot directory. Everything is checked before
 * anything is loaded. The VM is PAUSED afterwards, or RUNNING if it ran when
 * it was saved and `run` is set. On error it is empty again.
 */
GW_API int gw_vm_restore(struct gw_vm *vm, const char *dir, const struct gw_map *map,
                         size_t map_count, bool run, struct gw_error *err);

/*
 * Makes an empty VM wait for a migration. `uri` is tcp:HOST:PORT (port 0
 * picks one), unix:PATH, or NULL to wait for a later call that has one.
 * Returns once it listens; the rest is told by events and
 * gw_vm_query_migrate. A stream that fails leaves the VM empty, in
 * INMIGRATE, and listening no more; it may be called again.
 */
GW_API int gw_vm_incoming(struct gw_vm *vm, const char *uri, const struct gw_map *map,
                          size_t map_count, struct gw_error *err);

/*
 * Starts to move the VM to `uri`, tcp:HOST:PORT or unix:PATH. Returns once
 * begun; progress is told by events and gw_vm_query_migrate.
 * Errors: -EBUSY (one is under way), -ENOTSUP (a device blocks it; named),
 * -EINVAL (URI).
 */
GW_API int gw_vm_migrate(struct gw_vm *vm, const char *uri, struct gw_error *err);

/*
 * Asks a migration under way to stop; fine if there is none, and without
 * effect once the guest has been handed over. Returns at once.
 */
GW_API int gw_vm_migrate_cancel(struct gw_vm *vm, struct gw_error *err);

/* The present or last migration, JSON in the form of QMP's query-migrate. */
GW_API int gw_vm_query_migrate(struct gw_vm *vm, char **json, struct gw_error *err);

/* Parameters of migrations to come and under way. 0 leaves one as it is. */
struct gw_migrate_params {
	uint64_t downtime_limit_ms;     /* default 300 */
	uint64_t max_bandwidth;         /* bytes/s; default UINT64_MAX: none */
	uint64_t switchover_bandwidth;  /* bytes/s to reckon with; default: measured */
	uint64_t switchover_timeout_ms; /* longest wait for "ready"; default 10000 */
	uint64_t network_timeout_ms;    /* silence after which a peer is dead; default 5000 */
};

GW_API int gw_vm_set_migrate_params(struct gw_vm *vm, const struct gw_migrate_params *params,
                                    struct gw_error *err);
GW_API void gw_vm_get_migrate_params(struct gw_vm *vm, struct gw_migrate_params *params);

/* ---- control socket ---------------------------------------------------- */

struct gw_control;

/*
 * Serves the VM over QMP on a UNIX socket at `path` (docs/control.md), on a thread of its own.
 * Mode 0600. A stale socket is replaced, one on which somebody listens is not: -EADDRINUSE.
 * The VM must outlive it.
 */
GW_API int gw_control_new(struct gw_vm *vm, const char *path, struct gw_control **out,
                          struct gw_error *err);

/* Closes the socket and its clients, and removes the path. Replies already made are sent. */
GW_API void gw_control_free(struct gw_control *control);

/* ---- looking into what was saved --------------------------------------- */

/*
 * Describes a snapshot directory, or a file that holds a stream, as JSON, and
 * checks every checksum in it. Needs no VM. If something is wrong the JSON
 * still holds all that could be read, and the error says what is wrong.
 */
GW_API int gw_inspect(const char *path, char **json, struct gw_error *err);

#ifdef __cplusplus
}
#endif

#endif
