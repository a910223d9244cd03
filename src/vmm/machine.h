/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: KVM, memory, interrupts, buses, vCPUs and what is plugged in.
 *
 * Locks: `device_lock` guards all emulated device state; bus handlers run with
 * it held, and so do handlers on the loop that touch devices. vCPUs are never
 * paused with it held (one may be waiting for it).
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include "base/log.h"
#include "base/loop.h"
#include "vmm/bus.h"
#include "vmm/config.h"
#include "vmm/device.h"
#include "vmm/participant.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct memory;
struct irqs;
struct pci_bus;
struct vcpu;
struct serial;
struct pm;
struct boot;
struct arch;
struct vfio_space;
struct machine_outside;

/* What is to be done as soon as the owner is told to quit, before anything is taken apart: whoever
 * waits for something outside of the machine is not to wait for long any more. On any thread; it
 * must return at once, and takes no lock of the machine. */
struct machine_quit_hook {
	void (*call)(void *opaque);
	void *opaque;
	struct machine_quit_hook *next;
};

/* What the machine tells its owner. Called on any thread, with no lock of the machine held
 * but perhaps the device lock; must only take note and return. */
struct machine_notify {
	void *opaque;
	void (*reset_requested)(void *opaque, const char *why);
	void (*powered_off)(void *opaque);
	/* A device wants the guest stopped, as gw_vm_stop() does it. */
	void (*pause_requested)(void *opaque, const char *why);
	void (*vcpu_failed)(void *opaque, const struct gw_error *err);
	/* The guest lets go of what is in a PCI slot: the owner calls pci_unplug_slot() soon, from
	 * a thread that may wait. */
	void (*eject)(void *opaque, unsigned slot);
	/* A device that was ejected has been handed back; it is gone, `id` is what is left of it.
	 */
	void (*device_gone)(void *opaque, const char *id);
	/* device_driver.stands_in() has become true of a device; also each time that the guest
	 * goes on. */
	void (*stands_in)(void *opaque);
	/* The host wants devices back (those that are wanted_back): the guest is to be asked, and
	 * they are taken away when their time is over. */
	void (*give_back)(void *opaque);
	/* A device has something for the event stream (JSON object as text). */
	void (*event)(void *opaque, const char *name, const char *data);
	/* A duplicate of the descriptor that the owner was given under this name; -ENOENT. */
	int (*fd)(void *opaque, const char *name);
	/* Keeps a hook, and calls it at once if it is late; or lets go of it, and does not call it
	 * any more when this has returned. NULL: the owner never quits. */
	void (*on_quit)(void *opaque, struct machine_quit_hook *hook, bool on);
};

struct machine {
	const struct log *log;
	struct loop *loop;
	struct machine_notify notify;
	struct config config;
	/* The guest runs elsewhere, and there is no KVM (outside.h); NULL in all others. */
	const struct machine_outside *outside;

	int kvm_fd, vm_fd;
	pthread_mutex_t device_lock;
	struct memory *memory;
	struct irqs *irqs;
	struct bus mmio, pio;
	struct pci_bus *pci;
	struct serial *serial;
	struct pm *pm;
	struct boot *boot;
	struct arch *arch;
	int64_t vm_type;       /* arch_vm_type() */
	unsigned address_bits; /* of the guest's physical addresses; set by arch_create() */
	struct vcpu **vcpus;
	unsigned vcpu_count;
	struct device *devices;
	struct vfio_space *vfio; /* src/vfio: where its devices do DMA; NULL without any */
	/* guards that list and what these spaces show each other; taken with the device lock or
	 * without */
	pthread_mutex_t vfio_lock;
	int vfio_kvm_fd; /* src/vfio: KVM's VFIO device; -1: not made yet */
	struct participant_list participants;

	int deferred_fd; /* eventfd: see machine_defer() */
	struct loop_watch *deferred;

	bool running;  /* vCPUs have been let go (machine_run) and not stopped (machine_pause) */
	bool started;  /* the guest has run, here or where it came from */
	bool incoming; /* being made for a stream or a snapshot: state comes from there */
	bool restored; /* from a snapshot, which others may go on from as well */
};

/* Makes a machine from a configuration, without devices of the list (the caller adds them
 * by their drivers). With `incoming` no boot image is opened and nothing is put into memory. */
int machine_create(const struct config *config, struct loop *loop, const struct log *log,
                   const struct machine_notify *notify, bool incoming, struct machine **out,
                   struct gw_error *err);
/* Devices are destroyed first, by their drivers. vCPUs must be paused or never have run. */
void machine_destroy(struct machine *m);

/* Power-on state: boot images into memory, vCPUs at their first instruction, devices reset.
 * vCPUs are paused. */
int machine_reset(struct machine *m, struct gw_error *err);

/* All vCPUs stop (returns when they have), or run. Not with the device lock held, and by one
 * thread at a time. */
void machine_pause(struct machine *m);
void machine_run(struct machine *m);
bool machine_running(const struct machine *m);

/* All that only one machine may use (device_driver.claim); what one of them cannot take is the
 * error, which names it, and what was taken before it is given back. machine_unclaim() gives all of
 * it back. With the owner's lock. */
int machine_claim(struct machine *m, struct gw_error *err);
void machine_unclaim(struct machine *m);

/* Has every driver's deferred() called soon, on the loop, with the device lock. Any thread, any
 * lock. */
void machine_defer(struct machine *m);

/* A descriptor given to the owner under this name, which becomes the caller's; -ENOENT. */
int machine_fd(struct machine *m, const char *name);

/* machine_notify.on_quit(). */
void machine_on_quit(struct machine *m, struct machine_quit_hook *hook, bool on);

/* The power button. */
int machine_powerdown(struct machine *m, struct gw_error *err);

/* A device: by driver from its configuration; its removal. */
struct device *machine_find_device(struct machine *m, const char *id);
void machine_forget_device(struct machine *m, struct device *d);

static inline void machine_lock(struct machine *m)
{
	pthread_mutex_lock(&m->device_lock);
}

static inline void machine_unlock(struct machine *m)
{
	pthread_mutex_unlock(&m->device_lock);
}

#endif
