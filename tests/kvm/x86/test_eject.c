/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest lets go of, on an embedder's own loop. */
#include "external.h"

#include "vmm/pci.h"

static uint64_t quiet_read(void *device, unsigned bar, uint64_t offset, unsigned size)
{
	(void)device;
	(void)bar;
	(void)offset;
	(void)size;
	return 0;
}

static int quiet_create(void *opaque, struct gw_device *handle, const char *options, void **device,
                        struct gw_error *err)
{
	(void)handle;
	(void)options;
	(void)err;
	*device = opaque;
	return 0;
}

static void quiet_destroy(void *device)
{
	++*(unsigned *)device;
}

Test(embed_x86, what_the_guest_ejects_goes_by_the_loop)
{
	const struct gw_device_type type = {
		.size = sizeof(type),
		.name = "quiet",
		.state_version = 1,
		.vendor = 0x1234,
		.bars = { { .size = 16 } },
		.create = quiet_create,
		.destroy = quiet_destroy,
		.read = quiet_read,
	};
	struct guest *g = external();
	struct gw_error err_;
	unsigned destroyed = 0;
	struct machine *m;

	cr_assert(gw_vm_register_device_type(g->vm, &type, &destroyed, &err_) == 0, "%s",
	          err_.text);
	cr_assert(guest_configure(g, "dirtier", 1, 128,
	                          "\"devices\":[{\"type\":\"quiet\",\"id\":\"q\",\"slot\":5}]",
	                          &err_) == 0,
	          "%s", err_.text);
	run(g);
	cr_assert(gw_vm_device_del(g->vm, "q", &err_) == 0, "%s", err_.text);
	/* As the guest's _EJ0 does. */
	m = g->vm->machine;
	machine_lock(m);
	pci_guest_eject(m->pci, 5);
	machine_unlock(m);
	cr_assert_eq(destroyed, 0);
	turn_until_event(g, "DEVICE_DELETED");
	cr_assert_eq(destroyed, 1);
	guest_free(g);
}
