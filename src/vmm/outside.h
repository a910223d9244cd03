/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine whose guest runs elsewhere: a bus, a lock and a loop for emulated
 * devices, without KVM, vCPUs, chips or RAM of its own. What a device does to
 * the guest goes to the owner's calls instead: guest memory is wherever the
 * owner has it, an MSI-X vector is an eventfd that the owner was given, an
 * INTx pin is a call.
 *
 * Devices that need more than that of the machine (RAM that can be plugged or
 * given back, a kernel that serves rings) do not work here.
 */
#ifndef VMM_OUTSIDE_H
#define VMM_OUTSIDE_H

#include "vmm/machine.h"

struct machine_outside {
	void *opaque;
	/* Where guest memory is in this process, for reading and writing; NULL: not all of it is.
	 * What it said stays true until the owner has paused the machine. Any thread. */
	void *(*hva)(void *opaque, uint64_t gpa, uint64_t len);
	/* Copies guest memory, also where it cannot be had by address. -EFAULT. Device lock. */
	int (*access)(void *opaque, uint64_t gpa, void *buf, size_t len, bool write);
	/* A device wrote to it by address. Any thread. */
	void (*dirty)(void *opaque, uint64_t gpa, uint64_t len);
	/* The eventfd of an MSI-X vector, which stays the owner's; -1: it has none. Device lock. */
	int (*vector_fd)(void *opaque, unsigned vector);
	/* Some device's INTx pin is high, or none's any more. Device lock. */
	void (*set_pin)(void *opaque, bool high);
};

/* `outside` must outlive the machine, which is destroyed by machine_destroy(). Devices that come
 * are told that they arrive: their state may follow. */
int machine_create_outside(const struct machine_outside *outside, struct loop *loop,
                           const struct log *log, const struct machine_notify *notify,
                           struct machine **out, struct gw_error *err);
/* As machine_reset(), while it is paused. */
void machine_reset_outside(struct machine *m);
/* Guest memory has changed: devices that waited for it go on. While it runs. */
void machine_rerun_outside(struct machine *m);

#endif
