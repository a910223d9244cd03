/* SPDX-License-Identifier: Apache-2.0 */
/* A device that has no reset of its own: its bus is reset, where all that is on it is ours. */
#include "fake_pci.h"

#include "vfio/reset.h"

#include <linux/pci_regs.h>

/* Two functions of group 7, and what is in `group` at 0000:03:00.1. */
static struct fake_pci *new_on_bus(uint32_t group)
{
	struct fake_pci *f = fake_new();

	f->no_reset = true;
	f->dep_count = 2;
	f->deps[0] = (struct vfio_pci_dependent_device){ .group_id = 7, .bus = 3 };
	f->deps[1] = (struct vfio_pci_dependent_device){ .group_id = group, .bus = 3, .devfn = 1 };
	return f;
}

Test(vfio_reset, of_the_bus_where_the_function_has_none)
{
	struct fake_pci *f = new_on_bus(7);

	fake_plug(f);
	cr_assert_eq(f->hot_resets, 1);
	cr_assert_eq(f->hot_groups, 1, "each group once");
	cr_assert_eq(f->resets, 0);
	pci_reset(f->p->m.pci);
	cr_assert_eq(f->hot_resets, 2);
	fake_free(f);
}

Test(vfio_reset, never_of_what_is_anothers)
{
	struct fake_pci *f = new_on_bus(8);
	struct gw_error err;

	f->foreign_group = 8;
	fake_plug(f);
	cr_assert_eq(f->hot_resets, 0);
	pci_reset(f->p->m.pci);
	cr_assert_eq(f->hot_resets, 0);
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EPERM);
	cr_assert(strstr(err.text, "0000:03:00.0: "), "%s", err.text);
	cr_assert(strstr(err.text, "0000:03:00.1 along, which is not this machine's"), "%s",
	          err.text);
	fake_free(f);
}

/* Of two devices of an iommufd; `id` is what is said of the second. */
static struct fake_pci *new_by_id(uint32_t id, uint32_t flags)
{
	struct fake_pci *f = new_on_bus(id);

	f->deps[0].group_id = 7;
	f->foreign_group = 7; /* an id that is taken for a group would be refused */
	f->dep_flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | flags;
	return f;
}

/* Without any descriptor: the kernel looks for itself. */
Test(vfio_reset, of_devices_of_an_iommufd)
{
	static const uint32_t ids[] = { 9, VFIO_PCI_DEVID_OWNED };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct fake_pci *f = new_by_id(ids[i], VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);

		fake_plug(f);
		cr_assert_eq(f->hot_resets, 1);
		cr_assert_eq(f->hot_groups, 0);
		cr_assert_eq(f->hot_size, sizeof(struct vfio_pci_hot_reset));
		pci_reset(f->p->m.pci);
		cr_assert_eq(f->hot_resets, 2);
		fake_free(f);
	}
}

Test(vfio_reset, never_of_what_an_iommufd_has_not)
{
	struct fake_pci *f = new_by_id((uint32_t)VFIO_PCI_DEVID_NOT_OWNED, 0);
	struct vfio_pci other = { .device = { .id = "dev1" } };
	struct gw_error err;

	fake_plug(f);
	pci_reset(f->p->m.pci);
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EPERM);
	cr_assert(strstr(err.text, "0000:03:00.1 along, which is not this machine's"), "%s",
	          err.text);
	/* It may be the guest's all the same, by a group. */
	other.device.driver = &f->driver;
	other.dev.name = "0000:03:00.1";
	f->p->m.devices = &other.device;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EPERM);
	cr_assert(strstr(err.text, "0000:03:00.1 along, which the guest has by another backend"),
	          "%s", err.text);
	cr_assert(strstr(err.text, "(device dev1)"), "%s", err.text);
	f->p->m.devices = NULL;
	/* What the kernel says of all of them counts, whatever it says of each. */
	f->deps[1].group_id = 9;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EPERM);
	cr_assert_eq(f->hot_resets, 0);
	fake_free(f);
}

Test(vfio_reset, of_the_bus_fails)
{
	struct fake_pci *f = new_on_bus(7);
	struct gw_error err;

	fake_plug(f);
	f->hot_resets = 0;
	f->hot_error = -EIO;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EIO);
	cr_assert(strstr(err.text, "0000:03:00.0: VFIO_DEVICE_PCI_HOT_RESET: "), "%s", err.text);
	f->dep_error = -ENODEV;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -ENODEV);
	cr_assert(strstr(err.text, "0000:03:00.0: neither it nor its bus"), "%s", err.text);
	f->ops.hot_reset_info = NULL;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -ENOTTY);
	cr_assert(strstr(err.text, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"), "%s", err.text);
	cr_assert_eq(f->hot_resets, 1);
	fake_free(f);
}

static void count_line(void *opaque, enum gw_log_level level, const char *text)
{
	(void)level;
	*(unsigned *)opaque += strstr(text, "device dev0: ") != NULL;
}

/* The port's secondary bus reset can be written as often as one likes. */
Test(vfio_reset, that_fails_again_and_again_fills_no_log)
{
	struct fake_pci *f = new_on_bus(8);
	unsigned lines = 0;
	const struct log log = { .opaque = &lines, .write = count_line };
	struct pci_function *port;

	f->foreign_group = 8;
	f->port = 1;
	fake_plug(f);
	f->p->m.log = &log;
	port = pci_slot(f->p->m.pci, PCI_PORT_SLOT(1), 0);
	for (unsigned i = 0; i < 10; i++) {
		pci_config_write(port, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
		pci_config_write(port, PCI_BRIDGE_CONTROL, 2, 0);
	}
	cr_assert_eq(lines, 1);
	cr_assert_eq(f->hot_resets, 0);
	f->foreign_group = UINT32_MAX;
	pci_config_write(port, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
	cr_assert_eq(f->hot_resets, 1);
	f->hot_error = -EIO;
	pci_config_write(port, PCI_BRIDGE_CONTROL, 2, 0);
	pci_config_write(port, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
	cr_assert_eq(lines, 2, "that is news");
	fake_free(f);
}

/* Another function on the bus is the guest's too. */
Test(vfio_reset, waits_until_all_are_reset)
{
	struct fake_pci *f = new_on_bus(7);
	struct vfio_pci other = { .device = { .id = "dev1" } };
	uint8_t command[2];

	fake_plug(f);
	other.device.driver = &f->driver;
	other.device.machine = &f->p->m;
	other.dev = f->d->dev;
	other.dev.name = "0000:03:00.1";
	f->p->m.devices = &other.device;
	f->hot_resets = 0;
	vfio_pci_reset_any(f->d, VFIO_RESETS_IT);
	cr_assert_eq(f->hot_resets, 0, "it is in use");
	other.function.slot = f->d->function.slot + 1;
	vfio_pci_reset_any(f->d, VFIO_RESETS_SLOT);
	cr_assert_eq(f->hot_resets, 0, "it is in another slot");
	other.function.slot = f->d->function.slot;
	vfio_pci_reset_any(f->d, VFIO_RESETS_IT);
	cr_assert_eq(f->hot_resets, 0, "a function's reset is not its slot's");
	vfio_pci_reset_any(f->d, VFIO_RESETS_SLOT);
	cr_assert_eq(f->hot_resets, 1);
	f->hot_resets = 0;
	pci_set(other.function.config, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	vfio_pci_reset_any(f->d, VFIO_RESETS_ALL);
	cr_assert_eq(f->hot_resets, 1);
	memcpy(command, f->config + PCI_COMMAND, 2);
	cr_assert(pci_get(command, 0, 2) & PCI_COMMAND_MASTER, "it has its command again");
	f->p->m.devices = NULL;
	fake_free(f);
}

/* What the log knows is taken before, and it is started anew. */
Test(vfio_reset, of_the_bus_loses_nothing_of_the_log)
{
	struct fake_pci *f = new_on_bus(7);
	struct gw_error err;

	fake_plug(f);
	f->memory.regions[0] = (struct ram_region){ .size = 64 * PAGE_SIZE };
	f->memory.region_count = 1;
	f->d->dirty.logging = true;
	f->order_len = 0;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), 0);
	cr_assert_eq(f->order_len, 3);
	cr_assert_arr_eq(f->order, "RHS", 3, "report, reset, start: %.3s", f->order);
	f->hot_error = -EIO;
	f->order_len = 0;
	cr_assert_eq(vfio_bus_reset(f->d, VFIO_RESETS_ALL, &err), -EIO);
	cr_assert_arr_eq(f->order, "RHS", 3, "on again whatever came of it: %.3s", f->order);
	f->d->dirty.logging = false;
	f->memory.region_count = 0;
	fake_free(f);
}
