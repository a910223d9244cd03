/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device is quiet while its function is no bus master: no queue is looked at, no message
 * is sent; and what waited is done when it is one. */
#include "virtio_driver.h"

#include "vmm/pci_internal.h"
#include "vmm/virtio/devices.h"
#include "vmm/virtio/virtio_internal.h"

enum { COMMON = 0x0000, MSIX = 0x8000, PBA = 0xc000 };
/* With the pin off: interrupts show in the ISR alone. */
enum { MEMORY = 0x402, MASTER = 4, SERR = 0x100 };

struct options {
	char file[CONFIG_PATH_MAX];
	uint64_t max_bytes;
	uint32_t period;
};
static const struct options options = { .period = 1000 };

static struct device *add_rng(struct vmachine *vm)
{
	return vmachine_add(vm, &virtio_rng_driver, &options, sizeof(options));
}

static void begin(struct vdriver *d)
{
	struct vmachine *vm = vmachine_new(8 * MIB);

	vdriver_begin(d, vm, add_rng(vm), 0);
}

static void command(struct vdriver *d, uint32_t value)
{
	machine_lock(d->vm->m);
	pci_config_write(&d->v->function, PCI_REG_COMMAND, 2, value);
	machine_unlock(d->vm->m);
	vmachine_turn(d->vm);
}

static uint64_t rd(struct vdriver *d, unsigned offset, unsigned size)
{
	uint64_t value;

	machine_lock(d->vm->m);
	value = bus_read(&d->vm->m->mmio, d->v->function.bars[0].address + offset, size);
	machine_unlock(d->vm->m);
	return value;
}

static void wr(struct vdriver *d, unsigned offset, unsigned size, uint64_t value)
{
	machine_lock(d->vm->m);
	bus_write(&d->vm->m->mmio, d->v->function.bars[0].address + offset, size, value);
	machine_unlock(d->vm->m);
}

static unsigned count_used(struct vdriver *d)
{
	struct vused used;
	unsigned n = 0;

	while (vdriver_used(d, 0, &used))
		n++;
	return n;
}

Test(virtio_master, a_kick_waits_for_the_bit)
{
	struct vdriver d;

	begin(&d);
	command(&d, MEMORY);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 0);
	cr_assert_eq(vdriver_status(&d), 15, "the driver sees no difference");
	command(&d, MEMORY | MASTER);
	cr_assert_eq(count_used(&d), 1);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 1);
	vmachine_free(d.vm);
}

Test(virtio_master, a_driver_may_set_it_last)
{
	struct vdriver d;

	begin(&d);
	command(&d, MEMORY);
	wr(&d, COMMON + 0x14, 1, 11);
	wr(&d, COMMON + 0x14, 1, 15);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 0);
	vmachine_pause(d.vm);
	vmachine_run(d.vm);
	vmachine_turn(d.vm);
	cr_assert_eq(count_used(&d), 0, "running again is no leave either");
	command(&d, MEMORY | MASTER);
	cr_assert_eq(count_used(&d), 1);
	vmachine_free(d.vm);
}

/* ---- what does the work behind it, in the kernel say ---- */

static struct {
	unsigned starts, stops;
} seen;

static int count_start(struct virtio *v, struct gw_error *err)
{
	(void)v;
	(void)err;
	seen.starts++;
	return 0;
}

static void count_stop(struct virtio *v)
{
	cr_assert_not(v->active);
	seen.stops++;
}

Test(virtio_master, a_back_end_stops_and_starts_with_the_bit)
{
	const struct virtio_ops *own;
	struct virtio_ops counted;
	struct vdriver d;

	begin(&d);
	own = d.v->ops;
	counted = *own;
	counted.start = count_start;
	counted.stop = count_stop;
	d.v->ops = &counted;
	command(&d, MEMORY);
	cr_assert(seen.stops == 1 && !d.v->active);
	command(&d, MEMORY | SERR);
	cr_assert(seen.stops == 1 && seen.starts == 0, "other bits are none of its business");
	command(&d, MEMORY | MASTER);
	cr_assert(seen.starts == 1 && d.v->active);

	/* A reset while it is stopped, and a driver that begins anew. */
	command(&d, MEMORY);
	vdriver_reset(&d);
	command(&d, MEMORY | MASTER);
	cr_assert(seen.stops == 2 && seen.starts == 1, "nobody is ready");
	d.v->ops = own;
	vmachine_free(d.vm);
}

/* ---- interrupts ---- */

static void use_vectors(struct vdriver *d)
{
	wr(d, COMMON + 0x10, 2, 1);
	for (unsigned i = 0; i < 2; i++)
		wr(d, MSIX + i * 16 + 12, 4, 0); /* not masked */
	machine_lock(d->vm->m);
	pci_config_write(&d->v->function, d->v->msix_cap + 2, 2, 0x8000);
	machine_unlock(d->vm->m);
}

/* Its machine has nowhere to send a message to: that it lives tells that none was sent. */
Test(virtio_master, a_message_is_pending_and_comes_along)
{
	struct vmachine *there = vmachine_new(8 * MIB);
	struct gw_error err = { 0 };
	struct vdriver d, h;
	struct kept kept;

	begin(&d);
	command(&d, MEMORY);
	use_vectors(&d);
	machine_lock(d.vm->m);
	virtio_config_changed(d.v);
	machine_unlock(d.vm->m);
	cr_assert_eq(rd(&d, PBA, 4), 1 << 1, "pending bits");
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);

	vdriver_save(&d, &kept);
	cr_assert_eq(vdriver_load(&h, there, add_rng(there), &d, &kept, &err), 0, "%s", err.text);
	vmachine_run(there);
	vmachine_turn(there);
	cr_assert_not(h.v->active);
	machine_lock(there->m);
	cr_assert_eq(msix_pba_read(h.v->msix, 0, 4), 1 << 1, "pending bits");
	machine_unlock(there->m);
	cr_assert_eq(count_used(&h), 0);
	vmachine_free(there);
	vmachine_free(d.vm);
}

/* A pin is no message: PCI 3.0, 6.2.2. */
Test(virtio_master, the_pin_does_not_need_it)
{
	struct vdriver d;

	begin(&d);
	command(&d, MEMORY);
	machine_lock(d.vm->m);
	virtio_config_changed(d.v);
	machine_unlock(d.vm->m);
	cr_assert_eq(vdriver_isr(&d), 2);
	vmachine_free(d.vm);
}
