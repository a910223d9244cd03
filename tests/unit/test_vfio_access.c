/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest reads and writes of a passed-through function, and what of that reaches the device.
 */
#include "fake_pci.h"

#include "vfio/mig_v2.h"

#include <linux/pci_regs.h>
#include <stdio.h>

#define MSG 0xfee00000u

/* ---- configuration space -------------------------------------------------------------- */

Test(vfio_access, registers_of_the_devices_own_go_there)
{
	struct fake_pci *f = fake_new();

	fake_plug(f);
	pci_set(f->config, FAKE_OWN, 4, 0xcafe0001);
	cr_assert_eq(fake_read(f, FAKE_OWN, 4), 0xcafe0001, "outside of all capabilities");
	fake_write(f, FAKE_OWN, 2, 0x7777);
	cr_assert_eq(pci_get(f->config, FAKE_OWN, 4), 0xcafe7777);
	/* The first doubleword of a capability: number and link are ours, the rest is not. */
	f->config[FAKE_VENDOR] = f->config[FAKE_VENDOR + 1] = 0xee;
	f->config[FAKE_VENDOR + 3] = 0x44;
	cr_assert_eq(fake_read(f, FAKE_VENDOR, 4), 0x44100000u | FAKE_VPD << 8 | PCI_CAP_ID_VNDR);
	fake_write(f, FAKE_VENDOR, 4, 0x55660102);
	cr_assert_eq(pci_get(f->config, FAKE_VENDOR, 4), 0x5566eeee);
	cr_assert_eq(fake_read(f, FAKE_VENDOR, 2), FAKE_VPD << 8 | PCI_CAP_ID_VNDR);
	fake_free(f);
}

Test(vfio_access, vital_product_data_are_read_and_never_written)
{
	struct fake_pci *f = fake_new();
	unsigned writes;

	fake_plug(f);
	fake_write(f, FAKE_VPD + PCI_VPD_ADDR, 2, 0x0010);
	cr_assert_eq(pci_get(f->config, FAKE_VPD + PCI_VPD_ADDR, 2), 0x0010);
	pci_set(f->config, FAKE_VPD + PCI_VPD_ADDR, 2, 0x8010);
	pci_set(f->config, FAKE_VPD + PCI_VPD_DATA, 4, 0x11223344);
	cr_assert_eq(fake_read(f, FAKE_VPD + PCI_VPD_ADDR, 2), 0x8010);
	cr_assert_eq(fake_read(f, FAKE_VPD + PCI_VPD_DATA, 4), 0x11223344);
	writes = f->config_writes;
	fake_write(f, FAKE_VPD + PCI_VPD_DATA, 4, 0xdeadbeef);
	fake_write(f, FAKE_VPD + PCI_VPD_ADDR, 2, 0x8020);
	fake_write(f, FAKE_VPD + PCI_VPD_ADDR + 1, 1, 0x80);
	fake_write(f, FAKE_VPD, 4, 0x80200000);
	cr_assert_eq(f->config_writes, writes);
	fake_free(f);
}

Test(vfio_access, status_tells_whether_intx_is_asserted)
{
	struct fake_pci *f = fake_new();

	f->config[PCI_INTERRUPT_PIN] = 1;
	f->irqs[VFIO_PCI_INTX_IRQ_INDEX].count = 1;
	fake_plug(f);
	cr_assert_not(fake_read(f, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	f->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	cr_assert(fake_read(f, PCI_COMMAND, 4) >> 16 & PCI_STATUS_INTERRUPT);
	cr_assert(fake_read(f, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, "the rest is ours");
	f->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	cr_assert_not(fake_read(f, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	fake_free(f);
}

Test(vfio_access, the_command_register_is_pushed)
{
	struct fake_pci *f = fake_new();

	fake_plug(f);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2),
	             PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE | PCI_COMMAND_MEMORY |
	                     PCI_COMMAND_IO);
	fake_free(f);
}

/* Behind a port that forwards nothing the device must not get at memory either. */
Test(vfio_access, a_bus_master_behind_a_port_that_is_none_is_none)
{
	const uint16_t open = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
	struct fake_pci *f = fake_new();
	struct pci_function *port;

	f->port = 1;
	fake_plug(f);
	port = pci_slot(f->p->m.pci, PCI_PORT_SLOT(1), 0);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), open);
	cr_assert_eq(fake_read(f, PCI_COMMAND, 2), PCI_COMMAND_MASTER, "the guest sees its own");
	pci_config_write(port, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), open | PCI_COMMAND_MASTER);
	pci_config_write(port, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), open);
	pci_config_write(port, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	fake_write(f, PCI_COMMAND, 2, 0);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), open);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	pci_reset(f->p->m.pci);
	cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), open);
	fake_free(f);
}

Test(vfio_access, the_report_of_errors_stays_the_hosts)
{
	static const uint16_t hosts[] = { PCI_COMMAND_SERR, PCI_COMMAND_PARITY, 0 };

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		const uint16_t ours = hosts[i] | PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
		const uint16_t other = (PCI_COMMAND_SERR | PCI_COMMAND_PARITY) & ~hosts[i];
		struct fake_pci *f = fake_new();

		pci_set(f->config, PCI_COMMAND, 2, hosts[i]);
		fake_plug(f);
		fake_write(f, PCI_COMMAND, 2, 0);
		cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), ours);
		fake_write(f, PCI_COMMAND, 2, other);
		cr_assert_eq(pci_get(f->config, PCI_COMMAND, 2), ours);
		cr_assert_eq(fake_read(f, PCI_COMMAND, 2), other, "the guest reads what it wrote");
		fake_free(f);
	}
}

/* ---- BARs that are mapped --------------------------------------------------------------- */

/* One without MSI-X, whose table would be in the BAR. */
static struct fake_pci *new_mapped(uint64_t bar_size)
{
	struct fake_pci *f = fake_new();

	f->bar_maps = true;
	f->bar_size = bar_size;
	f->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 0;
	fake_plug(f);
	cr_assert_eq(f->maps, 1);
	cr_assert_eq(f->d->window_count, 1);
	cr_assert_not(f->d->windows[0].shown);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return f;
}

Test(vfio_bar, smaller_than_a_page_is_mapped_where_nothing_else_is)
{
	struct fake_pci *f = new_mapped(0x100);
	const struct vfio_window *w = &f->d->windows[0];
	uint32_t home = fake_read(f, PCI_BASE_ADDRESS_0, 4);
	static const struct pci_function_ops no_ops;
	struct pci_function other = { .ops = &no_ops, .name = "other" };

	cr_assert_eq(w->area.size, PAGE_SIZE);
	cr_assert(w->shown);
	fake_write(f, PCI_BASE_ADDRESS_0, 4, home + 0x200);
	cr_assert_not(w->shown, "not at a page's beginning");
	memset(f->bar, 0x5a, sizeof(f->bar));
	cr_assert_eq(bus_read(&f->p->m.mmio, home + 0x204, 4), 0x5a5a5a5a, "but trapped");
	fake_write(f, PCI_BASE_ADDRESS_0, 4, home);
	cr_assert(w->shown);
	other.bars[0] = (struct pci_bar){ .size = 0x100 };
	cr_assert_eq(pci_plug(f->p->m.pci, &other, 9, false, NULL), 0);
	pci_config_write(&other, PCI_BASE_ADDRESS_0, 4, home + 0x800);
	pci_config_write(&other, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_assert_not(w->shown, "another is in its page");
	pci_config_write(&other, PCI_COMMAND, 2, 0);
	cr_assert(w->shown);
	pci_unplug_now(f->p->m.pci, &other);
	fake_free(f);
}

Test(vfio_bar, whole_pages_are_mapped_while_the_guest_decodes_them)
{
	struct fake_pci *f = new_mapped(0x2000);
	const struct vfio_window *w = &f->d->windows[0];

	cr_assert_eq(w->area.size, 0x2000);
	cr_assert(w->shown);
	fake_write(f, FAKE_PM + PCI_PM_CTRL, 2, 3);
	cr_assert_not(w->shown, "asleep");
	fake_write(f, FAKE_PM + PCI_PM_CTRL, 2, 0);
	cr_assert(w->shown);
	fake_write(f, FAKE_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_assert_not(w->shown, "a reset leaves decoding off");
	fake_free(f);
}

/* ---- resets ----------------------------------------------------------------------------- */

Test(vfio_access, the_guest_resets_the_function)
{
	struct fake_pci *f = fake_new();
	unsigned before;
	uint32_t home;

	fake_plug(f);
	before = f->resets;
	home = fake_read(f, PCI_BASE_ADDRESS_0, 4);
	fake_write(f, PCI_BASE_ADDRESS_0, 4, home + 0x100000);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_write(f, FAKE_MSIX + 2, 2, PCI_MSIX_FLAGS_ENABLE);
	cr_assert(msix_enabled(f->d->msix));
	fake_write(f, FAKE_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_assert_eq(f->resets, before + 1);
	cr_assert_eq(fake_read(f, PCI_COMMAND, 2), 0);
	cr_assert_eq(fake_read(f, PCI_BASE_ADDRESS_0, 4), home);
	cr_assert_not(msix_enabled(f->d->msix));
	cr_assert_eq(fake_read(f, FAKE_MSIX + 2, 2), 7, "and its register says so");
	cr_assert_not(f->d->function.bars[0].mapped);
	fake_write(f, FAKE_EXP + PCI_EXP_DEVCTL, 2, 0x0010);
	cr_assert_eq(f->resets, before + 1, "other bits reset nothing");
	fake_free(f);
}

Test(vfio_access, a_function_without_flr_has_one_that_the_host_does)
{
	struct fake_pci *f = fake_new();

	pci_set(f->config, FAKE_EXP + PCI_EXP_DEVCAP, 4, 0);
	fake_plug(f);
	cr_assert(fake_read(f, FAKE_EXP + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	fake_write(f, FAKE_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_assert_eq(f->resets, 2);
	fake_free(f);
}

Test(vfio_access, a_reset_that_the_host_cannot_do_is_not_offered)
{
	struct fake_pci *f = fake_new();

	f->no_reset = true;
	fake_plug(f);
	cr_assert_not(fake_read(f, FAKE_EXP + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	fake_write(f, FAKE_EXP + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_assert_eq(f->resets, 0);
	fake_free(f);
}

Test(vfio_access, sleep_and_back_keeps_everything)
{
	struct fake_pci *f = fake_new();
	uint32_t bar;

	fake_plug(f);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	bar = fake_read(f, PCI_BASE_ADDRESS_0, 4);
	cr_assert(f->d->function.bars[0].mapped);
	fake_write(f, FAKE_PM + PCI_PM_CTRL, 2, 3);
	cr_assert_eq(fake_read(f, FAKE_PM + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 3);
	cr_assert_not(f->d->function.bars[0].mapped);
	cr_assert_eq(pci_get(f->config, FAKE_PM + PCI_PM_CTRL, 2), 0, "the device stays awake");
	fake_write(f, FAKE_PM + PCI_PM_CTRL, 2, 0);
	cr_assert(f->d->function.bars[0].mapped);
	cr_assert_eq(fake_read(f, PCI_BASE_ADDRESS_0, 4), bar);
	cr_assert_eq(f->resets, 1, "the one at the beginning");
	fake_free(f);
}

/* ---- standing still --------------------------------------------------------------------- */

static struct fake_pci *new_stopped(void)
{
	struct fake_pci *f = fake_new();

	f->mig_flags = VFIO_MIGRATION_STOP_COPY;
	fake_plug(f);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	fake_read(f, FAKE_OWN, 4);
	f->d->state->now = MIG_STOP_COPY;
	f->config_reads = f->config_writes = f->bar_reads = f->bar_writes = 0;
	return f;
}

Test(vfio_access, configuration_space_is_answered_from_the_copy_Q3)
{
	struct fake_pci *f = new_stopped();

	pci_set(f->config, FAKE_OWN, 4, 0xffffffff);
	cr_assert_eq(fake_read(f, FAKE_OWN, 4), 0x01020304, "the last that was known");
	cr_assert_eq(fake_read(f, FAKE_VENDOR + 4, 4), 0xa5a5a5a5);
	cr_assert_eq(fake_read(f, PCI_VENDOR_ID, 4), 0x12345678);
	fake_read(f, PCI_STATUS, 2);
	fake_read(f, FAKE_VPD, 4);
	fake_write(f, FAKE_VENDOR + 4, 4, 1);
	fake_write(f, FAKE_VPD + PCI_VPD_ADDR, 2, 4);
	cr_assert_eq(f->config_reads + f->config_writes, 0, "nothing reaches the device");
	f->d->state->now = MIG_RUNNING;
	cr_assert_eq(fake_read(f, FAKE_OWN, 4), 0xffffffff);
	fake_free(f);
}

Test(vfio_access, regions_are_kept_from_the_guest_Q3)
{
	static const enum mig_state states[] = { MIG_STOP,        MIG_STOP_COPY,    MIG_RESUMING,
		                                 MIG_RUNNING_P2P, MIG_PRE_COPY_P2P, MIG_ERROR };
	struct fake_pci *f = new_stopped();
	struct pci_function *fn = &f->d->function;

	memset(f->bar, 0x11, sizeof(f->bar));
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		f->d->state->now = states[i];
		cr_assert_eq(vfio_bar_read(fn, 0, 8, 4), UINT64_MAX);
		vfio_bar_write(fn, 0, 8, 4, 0x22222222);
	}
	cr_assert_eq(f->bar_reads + f->bar_writes, 0);
	cr_assert_eq(f->bar[8], 0x11);
	f->d->state->now = MIG_PRE_COPY;
	cr_assert_eq((uint32_t)vfio_bar_read(fn, 0, 8, 4), 0x11111111, "it runs");
	fake_free(f);
}

Test(vfio_access, the_msix_table_still_answers_Q3)
{
	struct fake_pci *f = new_stopped();
	struct pci_function *fn = &f->d->function;

	vfio_bar_write(fn, 0, FAKE_TABLE + 8, 4, 0x1234);
	cr_assert_eq((uint32_t)vfio_bar_read(fn, 0, FAKE_TABLE + 8, 4), 0x1234);
	cr_assert_eq((uint32_t)vfio_bar_read(fn, 0, FAKE_TABLE + 0x800, 4), 0, "pending bits");
	cr_assert_eq(f->bar_reads + f->bar_writes, 0);
	fake_free(f);
}

/* ---- interrupts --------------------------------------------------------------------------- */

static void unmask(struct fake_pci *f, unsigned vector)
{
	struct pci_function *fn = &f->d->function;
	uint64_t entry = FAKE_TABLE + vector * 16;

	vfio_bar_write(fn, 0, entry, 4, MSG);
	vfio_bar_write(fn, 0, entry + 8, 4, 0x40 + vector);
	vfio_bar_write(fn, 0, entry + 12, 4, 0);
}

static const struct fake_irq_call *last_call(const struct fake_pci *f)
{
	cr_assert(f->call_count);
	return &f->calls[f->call_count - 1];
}

Test(vfio_intr, late_vectors_come_one_by_one_where_the_host_can_add_them)
{
	struct fake_pci *f = fake_new();

	fake_plug(f);
	fake_write(f, FAKE_MSIX + 2, 2, PCI_MSIX_FLAGS_ENABLE);
	unmask(f, 0);
	cr_assert_eq(last_call(f)->count, 1, "no more than is in use");
	unmask(f, 5);
	cr_assert_eq(last_call(f)->start, 5);
	cr_assert_eq(last_call(f)->count, 1, "the first is left alone");
	unmask(f, 2);
	cr_assert_eq(last_call(f)->start, 2);
	cr_assert_eq(last_call(f)->count, 1);
	for (unsigned i = 0; i < f->call_count; i++)
		cr_assert_not(f->calls[i].disables);
	cr_assert_eq(f->d->armed, 6);
	fake_write(f, FAKE_MSIX + 2, 2, 0);
	cr_assert(last_call(f)->disables);
	cr_assert_eq(f->d->armed, 0);
	fake_free(f);
}

Test(vfio_intr, all_vectors_are_reserved_where_it_cannot)
{
	struct fake_pci *f = fake_new();

	f->irqs[VFIO_PCI_MSIX_IRQ_INDEX].flags = VFIO_IRQ_INFO_NORESIZE;
	fake_plug(f);
	fake_write(f, FAKE_MSIX + 2, 2, PCI_MSIX_FLAGS_ENABLE);
	unmask(f, 1);
	cr_assert_eq(last_call(f)->start, 0);
	cr_assert_eq(last_call(f)->count, 8);
	unmask(f, 6);
	cr_assert_eq(last_call(f)->start, 6);
	cr_assert_eq(last_call(f)->count, 1);
	cr_assert_eq(f->call_count, 2);
	/* Masking a vector is between us and KVM. */
	vfio_bar_write(&f->d->function, 0, FAKE_TABLE + 6 * 16 + 12, 4, 1);
	cr_assert_eq(f->call_count, 2);
	fake_free(f);
}

static void enable_msi(struct fake_pci *f, unsigned log2)
{
	fake_write(f, FAKE_MSI + PCI_MSI_ADDRESS_LO, 4, MSG);
	fake_write(f, FAKE_MSI + PCI_MSI_DATA_64, 2, 0x40);
	fake_write(f, FAKE_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | log2 << 4);
}

Test(vfio_intr, msi_with_as_many_vectors_as_were_granted)
{
	struct fake_pci *f = fake_new();

	fake_plug(f);
	cr_assert_eq((fake_read(f, FAKE_MSI + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 2);
	/* One is masked from the beginning: it is granted all the same. */
	fake_write(f, FAKE_MSI + PCI_MSI_MASK_64, 4, 0x8);
	enable_msi(f, 2);
	cr_assert_eq(last_call(f)->index, VFIO_PCI_MSI_IRQ_INDEX);
	cr_assert_eq(last_call(f)->count, 4);
	fake_free(f);
}

Test(vfio_intr, a_host_short_of_vectors_gives_what_it_has)
{
	struct fake_pci *f = fake_new();

	f->msi_limit = 2;
	fake_plug(f);
	enable_msi(f, 2);
	cr_assert_eq(last_call(f)->count, 2);
	cr_assert_eq(f->d->armed, 2);
	fake_free(f);
}

Test(vfio_intr, the_guest_is_offered_no_more_than_the_host_has)
{
	struct fake_pci *f = fake_new();

	f->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 3;
	f->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 5;
	fake_plug(f);
	cr_assert_eq((fake_read(f, FAKE_MSI + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 1);
	cr_assert_eq(fake_read(f, FAKE_MSIX + 2, 2) & PCI_MSIX_FLAGS_QSIZE, 4);
	fake_free(f);
}

Test(vfio_intr, a_table_outside_of_its_bar_is_refused)
{
	struct fake_pci *f = fake_new();
	struct gw_error err = { 0 };

	pci_set(f->config, FAKE_MSIX + 4, 4, FAKE_BAR - 0x40);
	pci_set(f->config, FAKE_MSIX + 8, 4, 0);
	cr_assert_eq(fake_try(f, &err), -EINVAL);
	cr_assert(strstr(err.text, "MSI-X table"), "%s", err.text);
	fake_free(f);
}

/* ---- ROM ---------------------------------------------------------------------------------- */

static uint32_t rom_at(struct fake_pci *f, uint64_t offset)
{
	fake_write(f, PCI_ROM_ADDRESS, 4, fake_read(f, PCI_ROM_ADDRESS, 4) | 1);
	fake_write(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return (uint32_t)bus_read(&f->p->m.mmio, (fake_read(f, PCI_ROM_ADDRESS, 4) & ~1u) + offset,
	                          4);
}

Test(vfio_rom, the_devices_own_is_read_when_the_guest_looks)
{
	struct fake_pci *f = fake_new();

	pci_set(f->rom, 0, 4, 0x0002aa55);
	fake_plug(f);
	cr_assert_eq(f->rom_reads, 0);
	cr_assert_eq(rom_at(f, 0), 0x0002aa55);
	cr_assert_eq(f->rom_reads, 1);
	rom_at(f, 8);
	cr_assert_eq(f->rom_reads, 1, "once");
	fake_free(f);
}

Test(vfio_rom, none)
{
	struct fake_pci *f = fake_new();

	strcpy(f->options.rom, "none");
	fake_plug(f);
	fake_write(f, PCI_ROM_ADDRESS, 4, 0xffffffff);
	cr_assert_eq(fake_read(f, PCI_ROM_ADDRESS, 4), 0);
	fake_free(f);
}

Test(vfio_rom, a_file)
{
	static const uint8_t bytes[] = { 0x55, 0xaa, 3, 4, 5 };
	char path[] = "/tmp/godwit-rom-XXXXXX";
	int fd = mkstemp(path);
	struct fake_pci *f = fake_new();
	struct gw_error err = { 0 };

	cr_assert_eq(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	strcpy(f->options.rom, path);
	fake_plug(f);
	cr_assert_eq(rom_at(f, 0), 0x0403aa55);
	cr_assert_eq(rom_at(f, 4), 0xffffff05);
	cr_assert_eq(f->d->function.bars[PCI_ROM].size, 2048);
	cr_assert_eq(f->rom_reads, 0);
	fake_free(f);
	f = fake_new();
	strcpy(f->options.rom, path);
	cr_assert_eq(pwrite(fd, "no", 2, 0), 2);
	cr_assert_eq(fake_try(f, &err), -EINVAL);
	cr_assert(strstr(err.text, "does not begin with 55 aa"), "%s", err.text);
	fake_free(f);
	close(fd);
	unlink(path);
}

/* ---- the host's wishes ---------------------------------------------------------------------- */

static void signalled(unsigned index, const char *event)
{
	struct fake_pci *f = fake_new();

	f->irqs[index].count = 1;
	fake_plug(f);
	cr_assert_eq(last_call(f)->index, index);
	io_eventfd_signal(f->fd_of[index]);
	wait_turning(f->given_back, loop_once(f->p->m.loop, 100), "nothing is noticed");
	cr_assert_eq(f->given_back, 1);
	cr_assert(f->d->device.wanted_back);
	cr_assert_eq(f->events, 1);
	cr_assert_str_eq(f->event, event);
	fake_free(f);
}

Test(vfio_wanted, the_host_asks_for_its_device)
{
	signalled(VFIO_PCI_REQ_IRQ_INDEX, "VFIO_DEVICE_REQUEST");
}

Test(vfio_wanted, the_host_finds_it_in_error)
{
	signalled(VFIO_PCI_ERR_IRQ_INDEX, "VFIO_DEVICE_ERROR");
}
