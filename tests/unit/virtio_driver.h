/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtio device, for unit tests: a machine without KVM that has RAM, a PCI
 * bus and a loop which the test turns itself, and split rings in that RAM.
 *
 *      struct vmachine *vm = vmachine_new(8 * MIB);
 *      struct vdriver d;
 *
 *      vdriver_begin(&d, vm, vmachine_add(vm, &virtio_rng_driver, &options, sizeof(options)), 0);
 *      vdriver_add(&d, 0, (struct vbuf[]){ { gpa, 64, true } }, 1);
 *      vdriver_kick(&d, 0);
 *      vdriver_used(&d, 0, &used)
 *      vmachine_free(vm);
 */
#ifndef UNIT_VIRTIO_DRIVER_H
#define UNIT_VIRTIO_DRIVER_H

#include "platform.h"

#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"

#define VDRIVER_QUEUES 20

struct vmachine {
	struct platform *p;
	struct machine *m;
	uint64_t next;        /* RAM from here on is free */
	pthread_mutex_t lock; /* events, fd, quit_hooks */
	struct {
		char name[40];
		char data[200];
	} events[32];
	unsigned event_count;
	unsigned resets, poweroffs, pauses;
	char gone[32]; /* id of the device that went last */
	char error[sizeof(((struct gw_error *)0)->text)];
	int fd; /* what machine_fd() duplicates, under any name; -1: none */
	struct machine_quit_hook *quit_hooks;
};

/* RAM of `size` bytes from address 0 on, a multiple of 2 MiB. */
struct vmachine *vmachine_new(uint64_t size);
/* Devices first. */
void vmachine_free(struct vmachine *vm);
/* A device by its driver; not hot; NULL where it is refused, with the text in vm->error. */
struct device *vmachine_add(struct vmachine *vm, const struct device_driver *driver,
                            const void *options, size_t len);
/* Lets the guest run, or stops it: calls the devices' run() and pause(). */
void vmachine_run(struct vmachine *vm);
void vmachine_pause(struct vmachine *vm);
/* Some rounds of the loop, without waiting. */
void vmachine_turn(struct vmachine *vm);
/* Rounds until *what, for at most `ms`; true if it came. */
bool vmachine_wait(struct vmachine *vm, bool (*what)(void *opaque), void *opaque, int ms);
/* Dirty tracking on, every page clean; and whether a page is dirty. */
void vmachine_track(struct vmachine *vm);
bool vmachine_dirty(struct vmachine *vm, uint64_t gpa);
/* Fresh RAM, zeroed; and where an address is in this process. */
uint64_t vmachine_alloc(struct vmachine *vm, uint64_t len, uint64_t align);
void *vmachine_at(struct vmachine *vm, uint64_t gpa);
/* The newest event of that name, as its data; NULL: there was none. */
const char *vmachine_event(struct vmachine *vm, const char *name);
/* As if there had been none. */
void vmachine_forget_events(struct vmachine *vm);
/* What machine_fd() duplicates from now on, in a machine with threads of its own. */
void vmachine_give(struct vmachine *vm, int fd);

/* The owner is told to quit. */
void vmachine_quit(struct vmachine *vm);

struct vring {
	uint16_t size;
	uint64_t desc, avail, used;
	uint16_t next_desc, avail_idx, used_seen;
};

struct vdriver {
	struct vmachine *vm;
	struct virtio *v;
	unsigned queues;
	struct vring rings[VDRIVER_QUEUES];
};

struct vbuf {
	uint64_t gpa;
	uint32_t len;
	bool in; /* the device writes */
};

struct vused {
	uint32_t id, len;
};

/* Initialises the device as 3.1.1 says, with these features of its own (as far as it offers them)
 * and VERSION_1, all queues enabled, up to DRIVER_OK. The guest runs afterwards. */
void vdriver_begin(struct vdriver *d, struct vmachine *vm, struct device *device,
                   uint64_t features);
/* Writes 0 to the status. */
void vdriver_reset(struct vdriver *d);
uint8_t vdriver_status(struct vdriver *d);
/* The features that it offers, as the guest reads them. */
uint64_t vdriver_offered(struct vdriver *d);
/* Device configuration space, by the BAR. */
uint64_t vdriver_config(struct vdriver *d, unsigned offset, unsigned size);
void vdriver_config_write(struct vdriver *d, unsigned offset, unsigned size, uint64_t value);
/* A chain of `count` pieces, made available; its id. */
uint16_t vdriver_add(struct vdriver *d, unsigned queue, const struct vbuf *bufs, unsigned count);
/* A piece of text to be read, or room of `len` bytes to be written. Their address. */
uint64_t vdriver_add_out(struct vdriver *d, unsigned queue, const void *data, uint32_t len);
uint64_t vdriver_add_in(struct vdriver *d, unsigned queue, uint32_t len);
/* Kicks, and turns the loop. */
void vdriver_kick(struct vdriver *d, unsigned queue);
/* The next buffer that the device has used. */
bool vdriver_used(struct vdriver *d, unsigned queue, struct vused *used);
/* The ISR, which reading clears. */
uint8_t vdriver_isr(struct vdriver *d);

/* Saves the device, stopped, and loads that into another, of another machine: 0 or the refusal. */
void vdriver_save(struct vdriver *d, struct kept *kept);
int vdriver_load(struct vdriver *d, struct vmachine *vm, struct device *device,
                 const struct vdriver *from, const struct kept *kept, struct gw_error *err);

#endif
