/* SPDX-License-Identifier: Apache-2.0 */
/* An i6300ESB watchdog, and what a guest's driver does with it. */
#ifndef UNIT_WATCHDOG_H
#define UNIT_WATCHDOG_H

#include "virtio_driver.h"

#include "vmm/device_action.h"
#include "vmm/devices.h"
#include "vmm/pci_device.h"

enum { TIMER1 = 0, TIMER2 = 4, INTERRUPT = 8, RELOAD = 12 };

struct dog {
	struct vmachine *vm;
	struct pci_device *d;
};

static inline void begin(struct dog *w, uint32_t action)
{
	struct device *d;

	w->vm = vmachine_new(2 * MIB);
	d = vmachine_add(w->vm, &i6300esb_driver, &action, sizeof(action));
	cr_assert_not_null(d, "%s", w->vm->error);
	w->d = container_of(d, struct pci_device, device);
	pci_config_write(&w->d->function, 4, 2, 2);
	vmachine_run(w->vm);
}

static inline void out(struct dog *w, unsigned reg, unsigned size, uint64_t value)
{
	machine_lock(w->vm->m);
	bus_write(&w->vm->m->mmio, w->d->function.bars[0].address + reg, size, value);
	machine_unlock(w->vm->m);
}

static inline uint64_t in(struct dog *w, unsigned reg, unsigned size)
{
	uint64_t value;

	machine_lock(w->vm->m);
	value = bus_read(&w->vm->m->mmio, w->d->function.bars[0].address + reg, size);
	machine_unlock(w->vm->m);
	return value;
}

static inline void config(struct dog *w, unsigned reg, unsigned size, uint32_t value)
{
	machine_lock(w->vm->m);
	pci_config_write(&w->d->function, reg, size, value);
	machine_unlock(w->vm->m);
}

static inline void unlock(struct dog *w)
{
	out(w, RELOAD, 2, 0x80);
	out(w, RELOAD, 2, 0x86);
}

static inline void reload(struct dog *w)
{
	unlock(w);
	out(w, RELOAD, 2, 0x100);
}

/* As Linux's driver sets it up: config register, both timers, then enable. */
static inline void start(struct dog *w, uint32_t first, uint32_t second, uint32_t lock)
{
	config(w, 0x60, 2, 3);
	unlock(w);
	out(w, TIMER1, 4, first);
	unlock(w);
	out(w, TIMER2, 4, second);
	reload(w);
	config(w, 0x68, 1, 2 | lock);
}

/* All that is due after `ms` has been done, however late the host was with it. */
static inline void turn(struct dog *w, int ms)
{
	for (const int64_t end = now_ms() + ms; now_ms() < end;)
		loop_once(w->vm->m->loop, 2);
	vmachine_turn(w->vm);
}

static inline bool has_event(void *opaque)
{
	return vmachine_event(opaque, "WATCHDOG");
}

#endif
