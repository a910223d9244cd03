/* SPDX-License-Identifier: Apache-2.0 */
/* A device of the embedder's own, in a guest that knows nothing of it, with and without the bus
 * master bit. */
#include "harness.h"

#include "guest.h"
#include "vm_own_device.h"

#include <errno.h>
#include <string.h>

static int quiet_create(void *opaque, struct gw_device *handle, const char *options, void **device,
                        struct gw_error *err)
{
	(void)options;
	(void)err;
	*(struct gw_device **)opaque = handle;
	*device = opaque;
	return 0;
}

static void quiet_destroy(void *device)
{
	(void)device;
}

static void set_command(struct guest *g, struct gw_device *d, uint32_t value)
{
	machine_lock(g->vm->machine);
	pci_config_write(&d->function, 4, 2, value);
	machine_unlock(g->vm->machine);
}

Test(bus_master, a_device_without_it_writes_nothing_and_keeps_its_interrupts)
{
	const struct gw_device_type type = {
		.size = sizeof(struct gw_device_type),
		.name = "quiet",
		.state_version = 1,
		.vendor = 0x1234,
		.device = 0x6778,
		.class_code = 0xff0000,
		.bars = { { .size = 4096 } },
		.vectors = 1,
		.create = quiet_create,
		.destroy = quiet_destroy,
	};
	const uint64_t gpa = GUEST_RAM + (127ull << 20);
	struct guest *g = guest_new();
	struct gw_device *d = NULL;
	struct gw_error err;
	uint64_t word;

	cr_assert_eq(gw_vm_register_device_type(g->vm, &type, &d, &err), 0, "%s", err.text);
	cr_assert_eq(guest_configure(g, "dirtier", 1, 128,
	                             "\"devices\":[{\"type\":\"quiet\",\"id\":\"q0\"}]", &err),
	             0, "%s", err.text);
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	cr_assert_eq(gw_device_read_memory(d, gpa, &word, sizeof(word)), 0);
	gw_device_raise(d, 0);
	cr_assert_eq(d->waiting, 1);
	cr_assert_eq(gw_device_write_memory(d, gpa, &word, sizeof(word)), -EAGAIN);
	set_command(g, d, 4);
	cr_assert_eq(d->waiting, 0);
	cr_assert_eq(gw_device_write_memory(d, gpa, &word, sizeof(word)), 0);
	set_command(g, d, 0);
	cr_assert_eq(gw_device_write_memory(d, gpa, &word, sizeof(word)), -EAGAIN);
	guest_free(g);
}
