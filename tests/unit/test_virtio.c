/* SPDX-License-Identifier: Apache-2.0 */
/* What all virtio devices have in common, by way of the simplest of them. */
#include "virtio_driver.h"

#include "vmm/pci_internal.h"
#include "vmm/virtio/devices.h"

#include <stdio.h>

enum { COMMON = 0x0000, ISR = 0x1000, NOTIFY = 0x3000, MSIX = 0x8000 };

struct options {
	char file[CONFIG_PATH_MAX];
	uint64_t max_bytes;
	uint32_t period;
};
static const struct options options = { .period = 1000 };

static struct device *add_rng(struct vmachine *vm)
{
	struct device *d = vmachine_add(vm, &virtio_rng_driver, &options, sizeof(options));

	cr_assert_not_null(d, "%s", vm->error);
	return d;
}

static void begin(struct vdriver *d)
{
	struct vmachine *vm = vmachine_new(8 * MIB);

	vdriver_begin(d, vm, add_rng(vm), 0);
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

/* ---- capabilities (4.1.4) ------------------------------------------------------------------ */

Test(virtio, capabilities_say_where_things_are)
{
	static const struct {
		uint8_t type;
		uint32_t offset;
	} expected[] = { { 1, COMMON }, { 3, ISR }, { 2, NOTIFY }, { 5, 0 } };
	struct vdriver d;
	unsigned found = 0, msix = 0;
	const uint8_t *c;

	begin(&d);
	c = d.v->function.config;
	cr_assert(pci_get(c, PCI_REG_STATUS, 2) & PCI_STATUS_CAPABILITIES);
	for (unsigned at = c[PCI_REG_CAPABILITIES], n = 0; at; at = c[at + 1]) {
		cr_assert_lt(n++, 16, "the list is a loop");
		cr_assert_eq(at % 4, 0);
		msix += c[at] == 0x11;
		if (c[at] != 9)
			continue;
		cr_assert_lt(found, ARRAY_SIZE(expected));
		cr_assert_eq(c[at + 3], expected[found].type);
		cr_assert_eq(c[at + 4], 0, "BAR");
		cr_assert_eq(pci_get(c, at + 8, 4), expected[found].offset);
		cr_assert_geq(c[at + 2], 16);
		if (c[at + 3] == 2)
			cr_assert_eq(pci_get(c, at + 16, 4), 4, "multiplier");
		found++;
	}
	cr_assert_eq(found, ARRAY_SIZE(expected));
	cr_assert_eq(msix, 1);
	vmachine_free(d.vm);
}

static uint32_t window(struct vdriver *d, uint32_t offset, uint32_t length, bool write,
                       uint32_t value)
{
	struct pci_function *f = &d->v->function;
	const unsigned cap = d->v->window_cap;

	pci_config_write(f, cap + 4, 1, 0);
	pci_config_write(f, cap + 8, 4, offset);
	pci_config_write(f, cap + 12, 4, length);
	if (write) {
		pci_config_write(f, cap + 16, length, value);
		return 0;
	}
	return pci_config_read(f, cap + 16, length);
}

Test(virtio, the_bar_is_seen_through_configuration_space)
{
	struct vdriver d;

	begin(&d);
	machine_lock(d.vm->m);
	cr_assert_eq(window(&d, COMMON + 0x14, 1, false, 0), 15, "status");
	window(&d, COMMON + 0x16, 2, true, 5);
	cr_assert_eq(window(&d, COMMON + 0x16, 2, false, 0), 5, "queue select");
	/* Not aligned, outside, of no width: nothing happens. */
	window(&d, COMMON + 0x15, 2, true, 9);
	window(&d, 0x10000, 4, true, 9);
	window(&d, UINT32_MAX, 1, true, 9);
	cr_assert_eq(window(&d, COMMON + 0x16, 2, false, 0), 5);
	machine_unlock(d.vm->m);
	vmachine_free(d.vm);
}

/* ---- negotiation (3.1) ------------------------------------------------------------------------
 */

static void offer(struct vdriver *d, uint64_t features)
{
	wr(d, COMMON + 0x08, 4, 0);
	wr(d, COMMON + 0x0c, 4, (uint32_t)features);
	wr(d, COMMON + 0x08, 4, 1);
	wr(d, COMMON + 0x0c, 4, features >> 32);
}

Test(virtio, takes_only_features_that_it_offers)
{
	static const struct {
		uint64_t features;
		bool taken;
	} rows[] = {
		{ VIRTIO_F_VERSION_1, true },
		{ VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED, true },
		{ 0, false },
		{ VIRTIO_F_EVENT_IDX, false },
		{ VIRTIO_F_VERSION_1 | 1ull << 50, false },
		{ VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM, false },
		{ VIRTIO_F_VERSION_1 | 1, false },
	};
	struct vdriver d;

	begin(&d);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		vdriver_reset(&d);
		wr(&d, COMMON + 0x14, 1, 3);
		offer(&d, rows[i].features);
		wr(&d, COMMON + 0x14, 1, 3 | 8);
		cr_assert_eq(vdriver_status(&d), rows[i].taken ? 11 : 3, "row %zu", i);
		/* No driver is ready without. */
		wr(&d, COMMON + 0x14, 1, rows[i].taken ? 15 : 7);
		cr_assert_eq(vdriver_status(&d) & 4, rows[i].taken ? 4 : 0, "row %zu", i);
		/* And once they are taken, they stay. */
		offer(&d, 0);
		cr_assert_eq(d.v->features, rows[i].taken ? rows[i].features : 0);
	}
	/* Words beyond 64 bits read as none. */
	wr(&d, COMMON + 0x00, 4, 2);
	cr_assert_eq(rd(&d, COMMON + 0x04, 4), 0);
	vmachine_free(d.vm);
}

Test(virtio, a_driver_takes_no_negotiated_feature_back_but_by_a_reset)
{
	struct vdriver d;

	begin(&d);
	wr(&d, COMMON + 0x14, 1, 3);
	cr_assert_eq(vdriver_status(&d), 11);
	/* The rings are split, and stay so. */
	offer(&d, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
	wr(&d, COMMON + 0x14, 1, 15);
	cr_assert_not(virtio_has(d.v, VIRTIO_F_RING_PACKED));
	/* It is for the device to say that it needs a reset. */
	wr(&d, COMMON + 0x14, 1, 15 | VIRTIO_NEEDS_RESET);
	cr_assert_eq(vdriver_status(&d), 15);
	vmachine_free(d.vm);
}

Test(virtio, a_queue_is_fixed_while_it_is_enabled)
{
	struct vdriver d;
	uint64_t desc;

	begin(&d);
	wr(&d, COMMON + 0x16, 2, 0);
	desc = rd(&d, COMMON + 0x20, 8);
	wr(&d, COMMON + 0x20, 8, 0x1234000);
	wr(&d, COMMON + 0x18, 2, 3);
	cr_assert_eq(rd(&d, COMMON + 0x20, 8), desc);
	cr_assert_neq(rd(&d, COMMON + 0x18, 2), 3);
	/* A queue that is none. */
	wr(&d, COMMON + 0x16, 2, 7);
	cr_assert_eq(rd(&d, COMMON + 0x18, 2), 0);
	wr(&d, COMMON + 0x1c, 2, 1);
	cr_assert_eq(rd(&d, COMMON + 0x1c, 2), 0);
	vmachine_free(d.vm);
}

Test(virtio, a_queue_that_cannot_be_breaks_the_device)
{
	struct vdriver d;

	begin(&d);
	vdriver_reset(&d);
	wr(&d, COMMON + 0x14, 1, 3);
	offer(&d, VIRTIO_F_VERSION_1);
	wr(&d, COMMON + 0x14, 1, 11);
	wr(&d, COMMON + 0x16, 2, 0);
	wr(&d, COMMON + 0x20, 8, 1ull << 45);
	wr(&d, COMMON + 0x1c, 2, 1);
	cr_assert_eq(rd(&d, COMMON + 0x1c, 2), 0);
	vmachine_turn(d.vm);
	cr_assert(vdriver_status(&d) & VIRTIO_NEEDS_RESET);
	vdriver_reset(&d);
	vmachine_free(d.vm);
}

static unsigned count_used(struct vdriver *d)
{
	struct vused used;
	unsigned n = 0;

	while (vdriver_used(d, 0, &used))
		n++;
	return n;
}

Test(virtio, one_queue_is_reset_and_used_again)
{
	struct vdriver d;

	begin(&d);
	vdriver_reset(&d);
	vdriver_begin(&d, d.vm, &d.v->device, VIRTIO_F_RING_RESET);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 1);
	wr(&d, COMMON + 0x16, 2, 0);
	wr(&d, COMMON + 0x3a, 2, 1);
	cr_assert_eq(rd(&d, COMMON + 0x3a, 2), 0);
	cr_assert_eq(rd(&d, COMMON + 0x1c, 2), 0, "still enabled");
	cr_assert_eq(vdriver_status(&d), 15);
	/* Kicks of a queue that is off are of no use, and do no harm. */
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 0);
	/* On again, from the beginning. */
	wr(&d, COMMON + 0x20, 8, d.rings[0].desc);
	wr(&d, COMMON + 0x28, 8, d.rings[0].avail);
	wr(&d, COMMON + 0x30, 8, d.rings[0].used);
	memset(vmachine_at(d.vm, d.rings[0].avail), 0, 6);
	memset(vmachine_at(d.vm, d.rings[0].used), 0, 6);
	d.rings[0].avail_idx = d.rings[0].used_seen = 0;
	wr(&d, COMMON + 0x1c, 2, 1);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 1);
	vmachine_free(d.vm);
}

/* A driver that makes a buffer available for each that it gets back. */
static struct {
	struct vdriver *d;
	struct vbuf buf;
	unsigned count;
} feeder;

static void feed(struct virtio_queue *q, struct virtq_chain *chain)
{
	virtio_push(q, chain, 0);
	if (++feeder.count < 10 * VIRTIO_TURN)
		vdriver_add(feeder.d, 0, &feeder.buf, 1);
}

Test(virtio, a_queue_that_is_never_empty_does_not_keep_the_worker_for_ever)
{
	struct virtq_chain chain = { 0 };
	struct virtio_queue *q;
	struct vdriver d;
	uint64_t kicks;

	begin(&d);
	q = &d.v->queues[0];
	feeder.d = &d;
	feeder.buf = (struct vbuf){ vmachine_alloc(d.vm, 64, 16), 64, true };
	vmachine_turn(d.vm);
	vdriver_add(&d, 0, &feeder.buf, 1);
	pthread_mutex_lock(&q->worker->lock);
	virtio_drain(q, &chain, feed);
	pthread_mutex_unlock(&q->worker->lock);
	cr_assert_eq(feeder.count, VIRTIO_TURN);
	/* The rest comes with the next round. */
	cr_assert_eq(read(q->kick_fd, &kicks, sizeof(kicks)), sizeof(kicks));
	cr_assert_null(q->ring.broken);
	virtq_chain_free(&chain);
	vmachine_free(d.vm);
}

/* ---- the guest stands ---------------------------------------------------------------------------
 */

Test(virtio, does_nothing_while_the_guest_stands)
{
	struct vdriver d;

	begin(&d);
	vmachine_pause(d.vm);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(count_used(&d), 0);
	/* What came meanwhile is looked at without another kick. */
	vmachine_run(d.vm);
	cr_assert_eq(count_used(&d), 1);
	vmachine_free(d.vm);
}

Test(virtio, says_what_it_has_to_say_before_it_stands)
{
	struct vdriver d;

	begin(&d);
	vdriver_add_in(&d, 0, 64);
	wr(&d, NOTIFY, 2, 0);
	loop_once(d.vm->m->loop, 0); /* the kick; its interrupt waits for the device lock */
	vmachine_pause(d.vm);
	cr_assert_eq(count_used(&d), 1);
	cr_assert_eq(vdriver_isr(&d), 1);
	vmachine_free(d.vm);
}

/* ---- interrupts -------------------------------------------------------------------------------
 */

Test(virtio, the_isr_shows_in_the_status_and_goes_when_it_is_read)
{
	struct vdriver d;

	begin(&d);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert(pci_get(d.v->function.config, PCI_REG_STATUS, 2) & 8);
	cr_assert_eq(rd(&d, ISR, 1), 1);
	cr_assert_not(pci_get(d.v->function.config, PCI_REG_STATUS, 2) & 8);
	cr_assert_eq(rd(&d, ISR, 1), 0);
	vmachine_free(d.vm);
}

Test(virtio, vectors_that_are_none_read_as_none)
{
	struct vdriver d;

	begin(&d);
	wr(&d, COMMON + 0x10, 2, 1);
	cr_assert_eq(rd(&d, COMMON + 0x10, 2), 1);
	wr(&d, COMMON + 0x10, 2, 2);
	cr_assert_eq(rd(&d, COMMON + 0x10, 2), VIRTIO_NO_VECTOR);
	wr(&d, COMMON + 0x16, 2, 0);
	wr(&d, COMMON + 0x1a, 2, 400);
	cr_assert_eq(rd(&d, COMMON + 0x1a, 2), VIRTIO_NO_VECTOR);
	vmachine_free(d.vm);
}

Test(virtio, a_masked_vector_becomes_pending)
{
	struct vdriver d;
	struct pci_function *f;

	begin(&d);
	f = &d.v->function;
	wr(&d, COMMON + 0x16, 2, 0);
	wr(&d, COMMON + 0x1a, 2, 1);
	machine_lock(d.vm->m);
	pci_config_write(f, d.v->msix_cap + 2, 2, 0x8000);
	machine_unlock(d.vm->m);
	vdriver_add_in(&d, 0, 64);
	vdriver_kick(&d, 0);
	cr_assert_eq(rd(&d, 0xc000, 4), 1 << 1, "pending bits");
	cr_assert_eq(rd(&d, ISR, 1), 0, "MSI-X leaves the ISR alone");
	vmachine_free(d.vm);
}

Test(virtio, a_queue_without_a_vector_wakes_nobody)
{
	struct vdriver d;

	begin(&d);
	machine_lock(d.vm->m);
	pci_config_write(&d.v->function, d.v->msix_cap + 2, 2, 0x8000);
	machine_unlock(d.vm->m);
	vmachine_turn(d.vm);
	vdriver_add_in(&d, 0, 64);
	wr(&d, NOTIFY, 2, 0);
	loop_once(d.vm->m->loop, 0);
	cr_assert_eq(count_used(&d), 1);
	cr_assert_not(d.v->queues[0].irq_waiting);
	vmachine_free(d.vm);
}

/* ---- state
 * --------------------------------------------------------------------------------------- */

static int load_into(struct vmachine **there, struct vdriver *d, const struct kept *kept,
                     struct gw_error *err)
{
	struct vdriver h;

	*there = vmachine_new(8 * MIB);
	return vdriver_load(&h, *there, add_rng(*there), d, kept, err);
}

Test(virtio, state_that_was_cut_or_altered_is_refused)
{
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	struct vmachine *there;
	struct vdriver d;
	unsigned refused = 0;

	begin(&d);
	vdriver_save(&d, &kept);
	cr_assert_eq(load_into(&there, &d, &kept, &err), 0, "%s", err.text);
	vmachine_free(there);
	for (size_t cut = 0; cut < kept.records[0].len; cut += 61) {
		struct kept less = kept;

		less.records[0].len = cut;
		cr_assert_lt(load_into(&there, &d, &less, &err), 0, "%zu of %zu bytes", cut,
		             kept.records[0].len);
		vmachine_free(there);
	}
	/* Any byte may be wrong: it is refused or makes no difference, and nothing falls over. */
	for (size_t at = 0; at < kept.records[0].len; at += at < 200 ? 1 : 97) {
		struct kept wrong = kept;

		wrong.records[0].bytes[at] ^= 0xff;
		refused += load_into(&there, &d, &wrong, &err) < 0;
		vmachine_run(there);
		vmachine_free(there);
	}
	cr_assert_gt(refused, 50);
	vmachine_free(d.vm);
}

Test(virtio, a_status_that_no_driver_can_have_reached_is_refused)
{
	/* Places in the record: section length, identity, features, selects, vector, status. */
	enum { FEATURES_HIGH = 4 + 6 + 4, STATUS = 4 + 6 + 8 + 8 + 2 + 2 };
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	struct vmachine *there;
	struct vdriver d;

	begin(&d);
	vdriver_save(&d, &kept);
	cr_assert_eq(kept.records[0].bytes[STATUS], 15);
	kept.records[0].bytes[STATUS] = 7;
	cr_assert_eq(load_into(&there, &d, &kept, &err), -EINVAL);
	vmachine_free(there);
	kept.records[0].bytes[STATUS] = 15;
	cr_assert_eq(kept.records[0].bytes[FEATURES_HIGH], 1);
	kept.records[0].bytes[FEATURES_HIGH] = 0;
	cr_assert_eq(load_into(&there, &d, &kept, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "VIRTIO_F_VERSION_1"), "%s", err.text);
	vmachine_free(there);
	vmachine_free(d.vm);
}

Test(virtio, a_feature_that_is_not_here_is_named)
{
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	struct vmachine *there;
	struct vdriver d, h;
	struct device *device;

	begin(&d);
	vdriver_reset(&d);
	vdriver_begin(&d, d.vm, &d.v->device, VIRTIO_F_EVENT_IDX);
	vdriver_save(&d, &kept);
	there = vmachine_new(8 * MIB);
	device = add_rng(there);
	container_of(device, struct virtio, device)->offered &= ~VIRTIO_F_EVENT_IDX;
	cr_assert_eq(vdriver_load(&h, there, device, &d, &kept, &err), -ENOTSUP);
	cr_assert_not_null(strstr(err.text, "VIRTIO_F_EVENT_IDX"), "%s", err.text);
	vmachine_free(there);
	vmachine_free(d.vm);
}

Test(virtio, leaves_when_it_is_unplugged)
{
	struct vdriver d;

	begin(&d);
	machine_lock(d.vm->m);
	pci_unplug_now(d.vm->m->pci, &d.v->function);
	machine_unlock(d.vm->m);
	cr_assert_str_eq(d.vm->gone, "virtio-rng0");
	cr_assert_null(d.vm->m->devices);
	cr_assert_null(participant_find(&d.vm->m->participants, "virtio-rng0"));
	/* The slot is free again. */
	cr_assert_not_null(vmachine_add(d.vm, &virtio_rng_driver, &options, sizeof(options)));
	vmachine_free(d.vm);
}
