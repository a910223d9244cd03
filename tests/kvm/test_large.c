/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines with much RAM, of which the host gives as much as is written: at each border of the
 * address space, with a device in the window between the parts of it.
 */
#include "harness.h"

#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/ram_layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char device[] = "\"devices\":[{\"id\":\"rng0\",\"type\":\"virtio-rng\",\"slot\":3}]";

/* The first and the last bytes of each part of RAM are RAM, and no other part's. */
static void touch(struct machine *m)
{
	struct memory *mem = m->memory;
	uint64_t last = 0;

	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);
		const uint64_t at[] = { r->gpa + 1 * MIB, r->gpa + r->size - 8 };

		cr_assert_geq(r->gpa, last);
		last = r->gpa + r->size;
		for (unsigned k = 0; k < 2; k++)
			cr_assert_eq(memory_write(mem, at[k], &at[k], 8), 0);
	}
	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);
		const uint64_t end = r->gpa + r->size;
		uint64_t back;

		cr_assert_eq(memory_read(mem, end - 8, &back, 8), 0);
		cr_assert_eq(back, end - 8);
		cr_assert_lt(memory_read(mem, end, &back, 8), 0, "there is no RAM behind it");
	}
}

static uint64_t config_of(const struct machine *m, unsigned reg)
{
	return arch_pci.ecam.gpa + (m->devices->slot << 15) + reg;
}

/* As a guest does that puts the device's BAR where the window begins or ends. */
static void move_device(struct machine *m, uint64_t to)
{
	machine_lock(m);
	bus_write(&m->mmio, config_of(m, 0x10), 4, to & UINT32_MAX);
	bus_write(&m->mmio, config_of(m, 0x14), 4, to >> 32);
	bus_write(&m->mmio, config_of(m, 0x04), 2, 2); /* command: memory */
	machine_unlock(m);
}

/* It answers there, and no RAM does. VIRTIO 1.2, 4.1.4.3: num_queues, 1. */
static void find_device(struct machine *m, uint64_t at)
{
	cr_assert_null(memory_hva(m->memory, at, 8));
	machine_lock(m);
	cr_assert_eq(bus_read(&m->mmio, at + 0x12, 2), 1, "at 0x%llx", (unsigned long long)at);
	machine_unlock(m);
}

static uint64_t last_place(void)
{
	return arch_pci.mmio64.gpa + arch_pci.mmio64.size - 0x10000;
}

/* False: this host's CPU has too few bits of address for it, which is said. */
static bool works(uint64_t size)
{
	struct guest *g = guest_new();
	struct gw_error err;
	int r = guest_configure(g, "mixer", 1, (unsigned)(size / MIB), device, &err);

	if (r < 0) {
		cr_assert(strstr(err.text, "bits of guest-physical address"), "%s", err.text);
		guest_free(g);
		return false;
	}
	touch(g->vm->machine);
	move_device(g->vm->machine, arch_pci.mmio64.gpa);
	find_device(g->vm->machine, arch_pci.mmio64.gpa);
	move_device(g->vm->machine, last_place());
	find_device(g->vm->machine, last_place());
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	guest_await_end(g);
	guest_free(g);
	return true;
}

Test(large, each_border_of_ram)
{
	uint64_t border = 0;

	for (unsigned i = 0; i + 1 < ARCH_RAM_RANGES && arch_platform.ram[i + 1].size; i++) {
		border += arch_platform.ram[i].size;
		/* What ends below the 64-bit window every host can have. */
		cr_assert(works(border - 2 * MIB) || border > 256 * GIB);
		works(border);
		works(border + 2 * MIB);
	}
	works(4096 * GIB);
}

/* It costs what was written, not what there is. */
Test(large, saved_and_restored)
{
	struct guest *g = guest_new(), *h;
	struct gw_error err;
	uint64_t end, back = 0;
	int r = guest_configure(g, "mixer", 1, 300 * 1024, device, &err);

	if (r < 0) {
		cr_assert(strstr(err.text, "bits of guest-physical address"), "%s", err.text);
		guest_free(g);
		return;
	}
	touch(g->vm->machine);
	move_device(g->vm->machine, last_place());
	guest_save(g);
	h = guest_restored(g, false);
	end = ram_end(300 * GIB);
	cr_assert_eq(memory_read(h->vm->machine->memory, end - 8, &back, 8), 0);
	cr_assert_eq(back, end - 8);
	find_device(h->vm->machine, last_place());
	cr_assert_eq(gw_vm_cont(h->vm, false, &err), 0, "%s", err.text);
	guest_await_end(h);
	guest_free(g);
	guest_free(h);
}
