/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that are signalled in the moment before a stop, which KVM injects in a work item: all of
 * them are in the state that is read then. The guest (tests/guests/doorbell.S) waits for one
 * interrupt a ring, and ends in "E" when there is one more.
 */
#include "slow_msi.h"

#include "base/io.h"
#include "guest.h"
#include "vmm/memory.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* GODWIT_STOPS in the environment says how many. */
#define STOPS 1000

struct bell {
	struct gw_device *handle;
	uint64_t mailbox, count; /* atomic: rings */
};

static int bell_create(void *opaque, struct gw_device *handle, const char *options, void **device,
                       struct gw_error *err)
{
	struct bell *b = opaque;

	(void)options;
	(void)err;
	b->handle = handle;
	*device = b;
	return 0;
}

static void bell_destroy(void *device)
{
	(void)device;
}

static uint64_t bell_read(void *device, unsigned bar, uint64_t offset, unsigned size)
{
	struct bell *b = device;

	(void)bar;
	(void)size;
	return offset == 0 ? __atomic_load_n(&b->count, __ATOMIC_ACQUIRE) : UINT64_MAX;
}

/* All but the interrupt, which the test sends. */
static void bell_write(void *device, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct bell *b = device;
	const uint64_t count = b->count + 1;

	(void)bar;
	if (offset != 8 || size != 8)
		return;
	b->mailbox = value;
	cr_assert_eq(gw_device_write_memory(b->handle, value, &count, 8), 0);
	__atomic_store_n(&b->count, count, __ATOMIC_RELEASE);
}

static struct guest *boot(struct bell *b)
{
	const struct gw_device_type type = {
		.size = sizeof(struct gw_device_type),
		.name = "bell",
		.state_version = 1,
		.vendor = 0x1234,
		.device = 0x6777,
		.class_code = 0xff0000,
		.bars = { { .size = 4096 } },
		.vectors = 1,
		.create = bell_create,
		.destroy = bell_destroy,
		.read = bell_read,
		.write = bell_write,
	};
	struct guest *g = guest_new();
	struct gw_error err;

	cr_assert_eq(gw_vm_register_device_type(g->vm, &type, b, &err), 0, "%s", err.text);
	cr_assert_eq(guest_configure(g, "doorbell", 1, 64,
	                             "\"devices\":[{\"type\":\"bell\",\"id\":\"b0\",\"slot\":3}]",
	                             &err),
	             0, "%s", err.text);
	return g;
}

static void await_ring(struct guest *g, struct bell *b, uint64_t count)
{
	wait_turning(__atomic_load_n(&b->count, __ATOMIC_ACQUIRE) >= count, sched_yield(),
	             "after %lu rings an interrupt is lost: \"%s\"", count - 1, guest_output(g));
}

/* The kernel's worker of this processor runs when this thread waits for it, and not before. */
static void ahead_of_workers(bool on)
{
	const struct sched_param param = { .sched_priority = on ? 1 : 0 };

	cr_assert_eq(sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param), 0);
}

static void stay_here(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET((size_t)sched_getcpu(), &here);
	cr_assert_eq(sched_setaffinity(0, sizeof(here), &here), 0);
}

/* As many interrupts as there were rings, before it rang again. */
static bool has_taken(struct guest *g, const struct bell *b, uint64_t rings)
{
	uint64_t interrupts;

	cr_assert_eq(memory_read(g->vm->machine->memory, b->mailbox + SLOW_MSI_COUNT, &interrupts,
	                         sizeof(interrupts)),
	             0);
	return interrupts == rings;
}

/* Signals before the vCPUs are stopped, or when they are: then the device stops last. */
static void stop_and_look(struct guest *g, struct bell *b, bool running)
{
	struct participant *chip = participant_find(&g->vm->machine->participants, SLOW_MSI_CHIP);
	const int fd = msi_irqfds_fd(b->handle->irqfds, 0);
	const uint64_t rings = b->count;
	struct gw_error err;
	bool pending;

	if (running)
		io_eventfd_signal(fd);
	cr_assert_eq(gw_vm_stop(g->vm, &err), 0, "%s", err.text);
	ahead_of_workers(true);
	if (!running)
		io_eventfd_signal(fd);
	cr_assert_eq(chip->ops->stop(chip, &err), 0, "%s", err.text);
	pending = slow_msi_pending(g);
	ahead_of_workers(false);
	cr_assert(pending || (running && has_taken(g, b, rings)), "ring %lu: not in the state",
	          rings);
}

Test(stops, lose_no_message)
{
	const char *text = getenv("GODWIT_STOPS");
	const uint64_t stops = text ? strtoul(text, NULL, 10) : STOPS;
	struct bell b = { 0 };
	struct guest *g = boot(&b);
	struct gw_error err;

	stay_here();
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	await_ring(g, &b, 1);
	cr_assert_eq(gw_vm_stop(g->vm, &err), 0, "%s", err.text);
	for (uint64_t i = 1; i <= stops; i++) {
		slow_msi_prepare(g, b.handle);
		cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
		stop_and_look(g, &b, i % 2);
		cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
		await_ring(g, &b, i + 1);
		cr_assert_eq(gw_vm_stop(g->vm, &err), 0, "%s", err.text);
	}
	printf("%lu stops, every message in the state\n", (unsigned long)stops);
	guest_free(g);
}
