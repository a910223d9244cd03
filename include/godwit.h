/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libgodwit: an embeddable KVM virtual machine monitor.
 *
 * One header, one handle. A `struct gw_vm` is a virtual machine, or the place where one will
 * arrive: it is made empty and then filled in one of three ways, from a configuration
 * (gw_vm_configure), from a snapshot directory (gw_vm_restore), or from another host
 * (gw_vm_incoming).
 *
 * Conventions, for every call unless it says otherwise:
 *  - Returns 0, or a negative errno value, and then fills `err` (which may be NULL) with a message
 *    that names the place and the cause.
 *  - May be called from any thread; calls on one VM exclude each other, two VMs share nothing.
 *  - Strings passed in are copied. Strings passed out as `char **` belong to the caller, who
 *    releases them with gw_free().
 *  - Sizes are in bytes and times in milliseconds where the name does not say otherwise.
 *  - Any call may fail with -ENOMEM, and one that needs a machine with -ENODATA while the VM is
 *    empty.
 *  - A struct that begins with `size`: set that to its sizeof and leave what you don't use zero,
 *    so that members may be added.
 *  - What releases something takes NULL, too.
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

/* An error as a value. `code` is the negative errno that the call returned. `text` is one line,
 * outermost context first: "restore snap: device net0: load: frame 17: checksum mismatch". */
struct gw_error {
	int code;
	enum gw_error_class cls;
	char text[1016];
};

/* Releases a string that a call passed out. */
GW_API void gw_free(char *string);

/* "0.1.0": the version of the library that is running. Never released. */
GW_API const char *gw_version(void);

/* ---- life of a VM ------------------------------------------------------ */

struct gw_vm;

enum gw_log_level { GW_LOG_ERROR, GW_LOG_WARN, GW_LOG_INFO, GW_LOG_DEBUG };

/* Something happened. `name` is QMP's name for it (STOP, RESUME, SHUTDOWN, RESET, POWERDOWN,
 * MIGRATION, MIGRATION_PASS, DEVICE_DELETED, VFIO_MIGRATION, ...), `data` is a JSON object as
 * text, "{}" where there is nothing to add. Both are valid during the call only. */
struct gw_event {
	const char *name;
	const char *data;
	int64_t seconds; /* wall clock, since the epoch */
	int64_t microseconds;
};

/* Callbacks run on threads of the library, one at a time for each VM. They must not call back
 * into the same VM. The guest may wait for them: hand the word on to a thread of your own. With an
 * external loop some come from within gw_vm_dispatch, and any may come from within another call.
 * Any of them may be NULL. */
struct gw_callbacks {
	void *opaque;
	void (*event)(void *opaque, const struct gw_event *event);
	void (*log)(void *opaque, enum gw_log_level level, const char *text);
};

/* Makes an empty VM: no memory, no devices, nothing running. State: GW_STATE_EMPTY. `callbacks`
 * may be NULL and is copied. Errors: -EMFILE. */
GW_API int gw_vm_new(const struct gw_callbacks *callbacks, struct gw_vm **out,
                     struct gw_error *err);

/* As gw_vm_new, with more to choose. */
struct gw_options {
	size_t size;
	const struct gw_callbacks *callbacks;
	/* No thread for the VM's own work (serial, timers, resets): the caller's event loop
	 * watches gw_vm_fd() and calls gw_vm_dispatch(). vCPUs and busy devices keep threads of
	 * their own. */
	bool external_loop;
};
GW_API int gw_vm_new_with(const struct gw_options *options, struct gw_vm **out,
                          struct gw_error *err);

/* With external_loop: a descriptor that is readable (POLLIN) when gw_vm_dispatch() has something
 * to do, and when the VM's state has changed; -1 otherwise. It belongs to the VM. */
GW_API int gw_vm_fd(struct gw_vm *vm);

/*
 * With external_loop: does what is due, and waits at most `timeout_ms` for something (0: does not
 * wait, -1: no limit). Always from the same thread, not from a callback; that thread may make
 * every other call between two of these, but gw_vm_wait. A guest that resets or powers off while
 * it is migrated has that migration cancelled and waited for in here. Errors: -EINVAL (no
 * external_loop).
 */
GW_API int gw_vm_dispatch(struct gw_vm *vm, int timeout_ms, struct gw_error *err);

/*
 * Gives the VM a descriptor under a name, to be used by a configuration or command that names it
 * (`fd` of a virtio-net), and instead of opening it: "kvm" for /dev/kvm, "vfio" for
 * /dev/vfio/vfio, "vfio-group:N" for /dev/vfio/N, "iommufd" for /dev/iommu, "vfio-device:NAME" for
 * the character device of what sysfs calls NAME, "memory" for guest RAM (a memfd or file, mapped
 * shared, grown to the size needed). It is duplicated; the caller's stays the caller's. A name
 * that was in use gets the new one. Errors: -EINVAL (name, descriptor), -EMFILE.
 */
GW_API int gw_vm_give_fd(struct gw_vm *vm, const char *name, int fd, struct gw_error *err);

/* Takes the name back and closes the VM's copy; what uses it already has another one. Errors:
 * -ENOENT. */
GW_API int gw_vm_drop_fd(struct gw_vm *vm, const char *name, struct gw_error *err);

/* A further listener for events, called after the one given at creation and under the same
 * rules. gw_vm_unlisten returns once no call to it is under way, so not from a callback; -ENOENT
 * if there is none. */
GW_API int gw_vm_listen(struct gw_vm *vm, void (*event)(void *opaque, const struct gw_event *event),
                        void *opaque, struct gw_error *err);
GW_API int gw_vm_unlisten(struct gw_vm *vm,
                          void (*event)(void *opaque, const struct gw_event *event), void *opaque);

/* Stops whatever runs, as gw_vm_quit does, and releases everything. A migration that is under way
 * is cancelled first, and waited for. Must not be called from a callback of the VM. */
GW_API void gw_vm_free(struct gw_vm *vm);

/*
 * Fills an empty VM from a configuration in JSON (docs/config.md). `name` is what error messages
 * call it, a file name for instance. The machine is complete afterwards and paused at its first
 * instruction: GW_STATE_PRELAUNCH. Errors: -EINVAL (the message names every faulty key), -EBUSY
 * (not empty), and whatever the host refuses, with file and ioctl named.
 */
GW_API int gw_vm_configure(struct gw_vm *vm, const char *json, const char *name,
                           struct gw_error *err);

/* A configuration as a struct: what most machines have, and all else as JSON. What is NULL, 0 or
 * false keeps its default. No key may be given twice. */
struct gw_config {
	size_t size;
	const char *name;
	uint64_t memory; /* bytes */
	unsigned cpus;
	bool serial_stdio;
	const char *kernel, *initrd, *cmdline;
	const char *serial_socket, *serial_log;
	const char *const *devices; /* each is an entry of `devices`, as JSON */
	size_t device_count;
	const char *more; /* further keys: an object, as JSON */
};
/* As gw_vm_configure. */
GW_API int gw_vm_configure_with(struct gw_vm *vm, const struct gw_config *config,
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

/* The state now; another thread, or the guest, may change it at any time. */
GW_API enum gw_state gw_vm_state(struct gw_vm *vm);

/* QMP's word for a state: "running", "paused", "inmigrate", ... Never released. */
GW_API const char *gw_state_name(enum gw_state state);

/* Runs the vCPUs: from PRELAUNCH or PAUSED. Does nothing if they run. From POSTMIGRATE it is
 * refused with -EPERM, since the guest may be running elsewhere: `force` overrides that, and
 * only that. It is safe only once the destination's process has ended without having run the
 * guest; that it does not run the guest at the moment is not enough. When the destination has said
 * that it runs the guest, it is refused with `force` too. Where a guest has yet to arrive
 * (INMIGRATE) it will run when it has, whatever it did before. Errors, further: -EBUSY (another
 * state, named), -ESHUTDOWN (told to quit). */
GW_API int gw_vm_cont(struct gw_vm *vm, bool force, struct gw_error *err);

/* Stops the vCPUs; returns when all have stopped. PAUSED afterwards; does nothing if they stand.
 * Where a guest has yet to arrive (INMIGRATE) it will not run when it has, until gw_vm_cont(); of
 * the two calls the last one counts. Errors: -EBUSY (it is being saved or handed over), -ENODATA
 * (empty). */
GW_API int gw_vm_stop(struct gw_vm *vm, struct gw_error *err);

/* Presses the power button. The guest decides what to do about it. Errors: -EBUSY (it has yet to
 * arrive), -EINVAL (the guest stands). */
GW_API int gw_vm_powerdown(struct gw_vm *vm, struct gw_error *err);

/* Resets the machine and boots it again, as its reset button would; from any state in which the
 * machine is here. It runs again if it ran, and is PAUSED otherwise. Errors: -EBUSY (a migration
 * is under way, or the guest was handed over), and those of reading the boot images, after which
 * the state is INTERNAL_ERROR. */
GW_API int gw_vm_reset(struct gw_vm *vm, struct gw_error *err);

/* Ends the VM as QMP's quit does: vCPUs stop for good, gw_vm_wait returns. A migration under way
 * is cancelled. The first time it emits SHUTDOWN, also where the VM is empty. */
GW_API void gw_vm_quit(struct gw_vm *vm);

/* Waits until the VM was told to quit, the guest has powered off, or a vCPU has failed; at most
 * `timeout_ms` (-1: no limit). Errors: -ETIMEDOUT; -EDEADLK on the thread that calls
 * gw_vm_dispatch, without which none of these would be noticed: look at gw_vm_state there. */
GW_API int gw_vm_wait(struct gw_vm *vm, int timeout_ms, struct gw_error *err);

/* ---- what is in it ----------------------------------------------------- */

/* The configuration that the machine has now, as JSON. */
GW_API int gw_vm_query_config(struct gw_vm *vm, char **json, struct gw_error *err);

/* The vCPUs: JSON list of {"cpu-index", "thread-id", "props"}, where props has
 * "socket-id", "die-id", "core-id", "thread-id", and "node-id" if there are NUMA nodes. */
GW_API int gw_vm_query_cpus(struct gw_vm *vm, char **json, struct gw_error *err);

/* The PCI functions: JSON in the form of QMP's query-pci. */
GW_API int gw_vm_query_pci(struct gw_vm *vm, char **json, struct gw_error *err);

/* The devices of the configuration's list: JSON list of {"id", "type", "slot"} and what each
 * says of itself ("info"). */
GW_API int gw_vm_query_devices(struct gw_vm *vm, char **json, struct gw_error *err);

/* Guest memory: {"base-memory", "plugged-memory"} in bytes. */
GW_API int gw_vm_query_memory(struct gw_vm *vm, char **json, struct gw_error *err);

/*
 * Asks a device something of its own, as "resize" {"size": BYTES} of a virtio-blk; docs/config.md
 * lists each type's commands. `args` is a JSON object or NULL. `ret` gets JSON, "{}" where there
 * is nothing to say; it may be NULL. Errors: -ENOENT (class DEVICE_NOT_FOUND), -EOPNOTSUPP (no
 * such command), -EINVAL (arguments, named), and the device's.
 */
GW_API int gw_vm_device_command(struct gw_vm *vm, const char *id, const char *command,
                                const char *args, char **ret, struct gw_error *err);

/* Sends a non-maskable interrupt to every vCPU. Errors: -EBUSY (it has yet to arrive), and
 * KVM's. */
GW_API int gw_vm_inject_nmi(struct gw_vm *vm, struct gw_error *err);

/* Writes guest memory and the vCPUs' registers to `fd` as an ELF core file, which gdb and crash
 * read. `fd` stays the caller's. vCPUs are stopped meanwhile. Blocks until all is written, and
 * other calls on the VM with it; a pipe or socket that nobody reads from for 10 s is given up.
 * Errors: -EBUSY (migrating), -ETIMEDOUT (nobody reads), -EPIPE (without a SIGPIPE), and more. */
GW_API int gw_vm_dump_memory(struct gw_vm *vm, int fd, struct gw_error *err);

/* Writes the flattened device tree by which an arm64 machine is described to its guest, as it would
 * get it now. Errors: -EBUSY (it has yet to arrive, or has arrived with an initrd and was not reset
 * since), -ENOTSUP (an x86-64 machine has ACPI tables instead), and those of writing. */
GW_API int gw_vm_dump_device_tree(struct gw_vm *vm, int fd, struct gw_error *err);

/* Plugs a device in while the machine exists. `json` is one entry of the configuration's
 * `devices`. A running guest is told by ACPI, or behind a root port by PCI Express hotplug.
 * Errors: -ENOTSUP (arm64, a slot of bus 0, once the guest has run), -EINVAL (key named), -EEXIST
 * (id taken), -ENOSPC (no slot), -EBUSY (migration under way), and the host's. */
GW_API int gw_vm_device_add(struct gw_vm *vm, const char *json, struct gw_error *err);

/* Asks the guest to let a device go. Returns once asked; DEVICE_DELETED follows when the guest
 * has ejected it and it has been handed back to the host. A machine that never ran lets go at
 * once. Errors: -ENOENT and -ENODATA (class DEVICE_NOT_FOUND), -EBUSY (migration under way). */
GW_API int gw_vm_device_del(struct gw_vm *vm, const char *id, struct gw_error *err);

/* As gw_vm_device_del, with an end to the waiting. When the guest has not let go after
 * `timeout_ms`, it loses the device if `force` is set, as if somebody had torn it out, and
 * DEVICE_DELETED follows; otherwise it keeps it, which DEVICE_UNPLUG_GUEST_ERROR tells. */
GW_API int gw_vm_device_unplug(struct gw_vm *vm, const char *id, unsigned timeout_ms, bool force,
                               struct gw_error *err);

/* ---- devices of the caller's own ------------------------------------------ */

/*
 * A program can give its VMs devices of its own: a type is registered with a VM, and from then on
 * a configuration may hold devices of that type, `{"type": NAME, "id": ..., "options": {...}}`.
 * Each is a PCI function with up to three memory BARs and MSI-X. It is plugged, unplugged, saved
 * and moved as the library's own devices are. docs/embedding.md has it step by step.
 */

/* One device of such a type, as the library knows it: what the gw_device_ calls take. Valid from
 * create() until destroy() has returned. */
struct gw_device;
/* Where a device's state goes. Valid during save() only. */
struct gw_state_out;

#define GW_DEVICE_BARS 3
#define GW_DEVICE_BAR_MAX (64u << 20)
#define GW_DEVICE_VECTORS 32
#define GW_DEVICE_STATE_MAX (64u << 20)

/* A memory BAR; every access to it comes to read() or write(). */
struct gw_device_bar {
	uint64_t size; /* bytes, a power of two from 16 to GW_DEVICE_BAR_MAX; 0: no such BAR */
	bool prefetch; /* reading has no effect */
};

/*
 * All calls but create() for the devices of one VM exclude each other, on whatever thread they
 * come; nothing but the gw_device_ and gw_state_ calls may be called in them, and they should not
 * take long: vCPUs may be waiting. Those that return int return 0 or a negative errno, and may put
 * a line into err->text, which is never NULL and empty at first. Any of them but create and
 * destroy may be NULL.
 */
struct gw_device_type {
	size_t size;
	const char *name; /* "type" in the configuration: 1 to 15 of a-z, 0-9 and "-" */
	/* What save() writes: to be raised when its format changes. From 1. */
	uint32_t state_version;

	/* What the guest finds it by (PCI 3.0, 6.2.1). */
	uint16_t vendor, device; /* vendor is not 0xffff */
	uint16_t subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: base class, sub-class, interface */
	uint8_t revision;
	struct gw_device_bar bars[GW_DEVICE_BARS]; /* BAR 0 to 2; the MSI-X table is in BAR 4 */
	unsigned vectors; /* of MSI-X, at most GW_DEVICE_VECTORS; 0: it has no interrupts */

	/* Makes one. `opaque` is what was registered; `options` is a JSON object as text, "{}"
	 * where the configuration has none, valid during the call only; *device is what all other
	 * calls get. On the thread of whoever adds it. The guest sees nothing yet. */
	int (*create)(void *opaque, struct gw_device *handle, const char *options, void **device,
	              struct gw_error *err);
	/* It has been unplugged, or the VM ends: threads that use the handle must have ended when
	 * this returns. */
	void (*destroy)(void *device);

	/* Back to power-on state, which is also how create() leaves it: the machine is reset, and
	 * may have been before it ran for the first time. The guest stands. */
	void (*reset)(void *device);
	/* The guest's accesses to a BAR: 1, 2, 4 or 8 bytes, wholly inside it. */
	uint64_t (*read)(void *device, unsigned bar, uint64_t offset, unsigned size);
	void (*write)(void *device, unsigned bar, uint64_t offset, unsigned size, uint64_t value);

	/* The guest is about to run; it stands, and the device is about to. Between the two the
	 * device may act of its own accord; when pause() returns it has stopped doing so. */
	void (*run)(void *device);
	void (*pause)(void *device);

	/* Writes its whole state with gw_state_write(), registers and what is under way, but not
	 * what is in guest memory, nor MSI-X and configuration space, which the library saves.
	 * After pause(); the guest may go on after it. Without save there is no state. */
	int (*save)(void *device, struct gw_state_out *out, struct gw_error *err);
	/* Takes over what save() wrote, where it arrives: `version` is the state_version there, and
	 * never newer than the one here. After create(), before run(). The bytes have passed
	 * their checksum, but whoever made them may have meant harm: check each. Needed with save.
	 */
	int (*load)(void *device, uint32_t version, const void *data, size_t len,
	            struct gw_error *err);

	/* gw_vm_device_command(): `args` is a JSON object as text. *ret, if set, is JSON as text
	 * from malloc(), which the library frees. -EOPNOTSUPP: there is no such command. */
	int (*command)(void *device, const char *name, const char *args, char **ret,
	               struct gw_error *err);
	/* The device's "info" in gw_vm_query_devices(): a JSON object as text from malloc(), which
	 * the library frees; NULL: nothing to say. */
	char *(*describe)(void *device);
};

/* Lets an empty VM have devices of this type. `type` is copied; `opaque` must outlive the VM.
 * Register before gw_vm_configure, gw_vm_restore or gw_vm_incoming; where a guest with such a
 * device arrives the type has to be registered, too. Errors: -EINVAL (what is wrong with the
 * type), -EEXIST (the name is taken), -EBUSY (the VM is not empty). */
GW_API int gw_vm_register_device_type(struct gw_vm *vm, const struct gw_device_type *type,
                                      void *opaque, struct gw_error *err);

/* The calls below are for any thread, at any time in the handle's life, also from the device's
 * own calls; none of them waits for the guest. */

/* Its id in the configuration. Lives as long as the handle. */
GW_API const char *gw_device_id(const struct gw_device *device);

/* Raises an MSI-X vector. While the guest stands, or has not made the device a bus master, it is
 * kept, and moved with it. Nothing happens without such a vector, or with MSI-X disabled. */
GW_API void gw_device_raise(struct gw_device *device, unsigned vector);

/* Copies guest memory, `len` bytes at the guest-physical address `gpa`. A write is noticed by a
 * migration under way; it can be made while the guest runs, and within pause(). Errors: -EFAULT
 * (not all is RAM; nothing was copied), -EAGAIN (a write while the guest stands, or as above). */
GW_API int gw_device_read_memory(struct gw_device *device, uint64_t gpa, void *buf, size_t len);
GW_API int gw_device_write_memory(struct gw_device *device, uint64_t gpa, const void *buf,
                                  size_t len);

/* Adds to the state that save() writes, GW_DEVICE_STATE_MAX bytes in all. Errors: -EFBIG. A
 * save() that ignores them fails nevertheless. */
GW_API int gw_state_write(struct gw_state_out *out, const void *data, size_t len);

/* ---- saving and moving ------------------------------------------------- */

/*
 * Host resources that differ at the place of arrival. Each entry overrides one key of the
 * configuration that arrives: path "devices.tty0.host", value "/sys/bus/mdev/devices/...". A path
 * that names nothing is an error. "devices.vf0" with the value "none" leaves out a device that
 * another one stands in for (`failover`).
 */
struct gw_map {
	const char *path;
	const char *value;
};

/*
 * Saves the VM to a new directory `dir` (docs/snapshot.md), atomically: it appears whole or not at
 * all. vCPUs are stopped until all of the guest is in the files, and then go on as before. What is
 * on its disks is not saved. Errors: -EEXIST, -ENOTSUP (a device cannot be saved; named), -ENOSPC,
 * -EBUSY, and I/O errors; the guest goes on in every case. If nothing but the sync of the directory
 * above fails, `dir` is there and whole, and the error says so. */
GW_API int gw_vm_save(struct gw_vm *vm, const char *dir, struct gw_error *err);

/* As gw_vm_save, with more to choose. */
struct gw_save_options {
	size_t size;
	/* NICs that another one stands in for (`failover` in the configuration) are unplugged
	 * before, as for a migration, and plugged in again afterwards; otherwise they stand in the
	 * way. The guest has unplug_timeout_ms to let go of them. */
	bool unplug_primaries;
};
GW_API int gw_vm_save_with(struct gw_vm *vm, const char *dir, const struct gw_save_options *options,
                           struct gw_error *err);

/* Fills an empty VM from a snapshot directory. Everything is checked before anything is loaded.
 * The VM is PAUSED afterwards, or RUNNING if it ran when it was saved and `run` is set. On error
 * it is empty again. Blocks until done. Errors: -EBUSY (not empty), -EINVAL (a path of the map),
 * and what is wrong with the snapshot or missing on this host, named. */
GW_API int gw_vm_restore(struct gw_vm *vm, const char *dir, const struct gw_map *map,
                         size_t map_count, bool run, struct gw_error *err);

/*
 * Makes an empty VM wait for a migration. `uri` is tcp:HOST:PORT (port 0 picks one), unix:PATH, or
 * NULL to wait for a later call that has one. Returns once it listens; the rest is told by events
 * and gw_vm_query_migrate. A stream that fails leaves the VM empty, in INMIGRATE, and listening no
 * more; it may be called again. Errors: -EBUSY (not empty, or waiting already), -EINVAL (URI),
 * -EADDRINUSE and whatever else listening gives.
 */
GW_API int gw_vm_incoming(struct gw_vm *vm, const char *uri, const struct gw_map *map,
                          size_t map_count, struct gw_error *err);

/* Starts to move the VM to `uri`, tcp:HOST:PORT or unix:PATH. Returns once begun; progress is
 * told by events and gw_vm_query_migrate. NICs that another one stands in for (`failover`) are
 * unplugged first, and plugged in again when the migration fails. Errors: -EBUSY (one is under
 * way), -ENOTSUP (a device blocks it; named), -EINVAL (URI). */
GW_API int gw_vm_migrate(struct gw_vm *vm, const char *uri, struct gw_error *err);

/* Asks a migration under way to stop; fine if there is none, and without effect once the guest
 * has been handed over. Returns at once. */
GW_API int gw_vm_migrate_cancel(struct gw_vm *vm, struct gw_error *err);

/* The present or last migration, JSON in the form of QMP's query-migrate; also of an empty VM. */
GW_API int gw_vm_query_migrate(struct gw_vm *vm, char **json, struct gw_error *err);

enum gw_switch { GW_SWITCH_KEEP, GW_SWITCH_ON, GW_SWITCH_OFF };

/* Parameters of migrations to come and under way. 0 leaves one as it is. */
struct gw_migrate_params {
	uint64_t downtime_limit_ms;     /* default 300 */
	uint64_t max_bandwidth;         /* bytes/s; default UINT64_MAX: none */
	uint64_t switchover_bandwidth;  /* bytes/s to reckon with; default: measured */
	uint64_t switchover_timeout_ms; /* longest wait for "ready"; default 10000 */
	uint64_t network_timeout_ms;    /* silence after which a peer is dead; default 5000 */
	uint64_t unplug_timeout_ms;     /* for the guest to let go of a device; default 30000 */
	/* Devices' initial data are loaded there before the guest stops here; default on. */
	enum gw_switch switchover_ack;
	/* tcp: to and from other hosts, neither encrypted nor authenticated; default off, and then
	 * -EACCES. To be set before gw_vm_incoming() as well. */
	enum gw_switch plain_tcp;
};

/* Errors: -EINVAL (the one that is out of range, named; none has been set). */
GW_API int gw_vm_set_migrate_params(struct gw_vm *vm, const struct gw_migrate_params *params,
                                    struct gw_error *err);
/* All of them, as they are in force. */
GW_API void gw_vm_get_migrate_params(struct gw_vm *vm, struct gw_migrate_params *params);

/* ---- control socket ---------------------------------------------------- */

struct gw_control;

/*
 * Serves the VM over QMP on a UNIX socket at `path` (docs/control.md), on a thread of its own.
 * Mode 0600. A stale socket is replaced, one on which somebody listens is not: -EADDRINUSE. The VM
 * must outlive it.
 */
GW_API int gw_control_new(struct gw_vm *vm, const char *path, struct gw_control **out,
                          struct gw_error *err);

/* What to serve it on; exactly one of `path`, `listen_fd` >= 0 and `tcp`. */
struct gw_control_options {
	size_t size;
	const char *path;  /* a UNIX socket, made here */
	const char *group; /* with path: this group may use it as well (mode 0660); NULL: nobody */
	int listen_fd;     /* a socket that listens already; taken over. -1: none */
	const char *tcp;   /* HOST:PORT; with TLS only, so tls_dir is needed */
	/* Directory of ca-cert.pem, server-cert.pem, server-key.pem; clients need a certificate
	 * of that CA. */
	const char *tls_dir;
};

/* As gw_control_new, with more to choose. Errors, further: -ENOENT (group), -EINVAL. */
GW_API int gw_control_new_with(struct gw_vm *vm, const struct gw_control_options *options,
                               struct gw_control **out, struct gw_error *err);

/* Closes the socket and its clients, and removes the path. Replies already made are sent. Before
 * gw_vm_free. */
GW_API void gw_control_free(struct gw_control *control);

/* ---- what a configuration may hold --------------------------------------- */

/* The configuration's JSON Schema (draft 2020-12). */
GW_API int gw_config_schema(char **json, struct gw_error *err);

/* Every key with its type, range, default and meaning, for people; as Markdown or as text. */
GW_API int gw_config_help(bool markdown, char **text, struct gw_error *err);

/* Checks a configuration as gw_vm_configure would, without making anything. With `host` also
 * whether the files and devices that it names are there. Types of device that a program has
 * registered with its VMs are unknown here. Errors: -EINVAL (every fault named). */
GW_API int gw_config_check(const char *json, const char *name, bool host, struct gw_error *err);

/*
 * The host's PCI devices and mediated devices as JSON list: address, name, driver, IOMMU group and
 * its members, reset methods, NUMA node, migration features, and why a device can't be passed
 * through or moved, with the command that would mend it (docs/devices.md). Needs no VM and no
 * privilege, though it says more with it. Errors: those of reading sysfs.
 */
GW_API int gw_host_devices(char **json, struct gw_error *err);

/* ---- a device in a process of its own -------------------------------------- */

/*
 * One of the library's emulated devices, served to another VMM (or another godwit) over a UNIX
 * socket by the vfio-user protocol: docs/device-server.md. There is no VM behind it, and no KVM is
 * needed.
 */
struct gw_device_server;

enum gw_server_migration { GW_SERVER_V2, GW_SERVER_V1, GW_SERVER_NO_MIGRATION };
/* With GW_SERVER_V1: how the client reaches the data section of the migration region. */
enum gw_server_v1_data { GW_SERVER_TRAPPED, GW_SERVER_MAPPED, GW_SERVER_MIXED };

struct gw_device_server_options {
	size_t size;
	const char *path; /* of the socket, made here with mode 0600 as gw_control_new() does it */
	int listen_fd; /* instead of path: a UNIX stream socket, listening; taken over. -1: none */
	enum gw_server_migration migration;
	enum gw_server_v1_data v1_data;
	/* As with gw_vm_new_with(): by gw_device_server_fd() and gw_device_server_dispatch(). */
	bool external_loop;
	void *opaque;
	void (*log)(void *opaque, enum gw_log_level level, const char *text); /* or NULL */
};

/*
 * Makes a device and serves it. `json` is an entry of a configuration's `devices`: `id`, `type`
 * (virtio-net, virtio-blk, virtio-rng, or ballast, which is for tests) and the type's keys.
 *
 * A client that cuts its memory short makes an access here raise SIGBUS, which kills a process
 * that does not handle it: serve clients that you don't trust from a process of their own, as
 * `godwit device-server` does. Errors: -EINVAL (key named), -EADDRINUSE, and the host's.
 */
GW_API int gw_device_server_new(const char *json, const struct gw_device_server_options *options,
                                struct gw_device_server **out, struct gw_error *err);

/* With external_loop, as gw_vm_fd() and gw_vm_dispatch(). */
GW_API int gw_device_server_fd(struct gw_device_server *server);
GW_API int gw_device_server_dispatch(struct gw_device_server *server, int timeout_ms,
                                     struct gw_error *err);

/* Makes gw_device_server_wait() return. Any thread. */
GW_API void gw_device_server_stop(struct gw_device_server *server);

/* Waits until it was told to stop (0), or serves no more since it was made to fail (-ESHUTDOWN);
 * at most `timeout_ms` (-1: no limit). Errors, further: -ETIMEDOUT, -EINVAL (external_loop). */
GW_API int gw_device_server_wait(struct gw_device_server *server, int timeout_ms,
                                 struct gw_error *err);

/* Lets go of the client and the socket, and destroys the device. */
GW_API void gw_device_server_free(struct gw_device_server *server);

/* ---- looking into what was saved --------------------------------------- */

/* Describes a snapshot directory, or a file that holds a stream, as JSON, and checks every
 * checksum in it. Needs no VM. If something is wrong the JSON still holds all that could be
 * read, and the error says what is wrong. */
GW_API int gw_inspect(const char *path, char **json, struct gw_error *err);

#ifdef __cplusplus
}
#endif

#endif
