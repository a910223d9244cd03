/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: a root bus, and those behind its ports, with ECAM (pci/host-generic-pci.yaml), its windows,
 * its INTx pins, and who is whom to the ITS. Source: PCI Bus Binding to Open Firmware (IEEE
 * 1275), 2.2.1 (addresses), 4.1 (interrupts).
 */
#include "vmm/arm64/fdt_internal.h"

#include "vmm/arch.h"
#include "vmm/arm64/layout.h"

/* phys.hi of an address: the space it is in. */
#define SPACE_IO 0x01000000u
#define SPACE_32 0x02000000u
#define SPACE_64 0x03000000u

#define PINS 4
/* What of a device's address its pins depend on: the lowest three bits of its slot. */
#define SLOTS 8
#define SLOT_SHIFT 11
#define SLOT_MASK ((SLOTS - 1) << SLOT_SHIFT)

/* Three cells of PCI address, two of the CPU's, two of size. The 64-bit window is not called
 * prefetchable, so that any BAR on the root bus may be there, and the prefetchable ones behind
 * ports nevertheless. */
static void add_ranges(struct fdt_tree *t)
{
	static const struct {
		uint32_t space;
		uint64_t pci, cpu, size;
	} windows[] = {
		{ SPACE_IO, 0, LAYOUT_PIO_WINDOW, LAYOUT_PIO_WINDOW_SIZE },
		{ SPACE_32, LAYOUT_MMIO32, LAYOUT_MMIO32, LAYOUT_MMIO32_SIZE },
		{ SPACE_64, LAYOUT_MMIO64, LAYOUT_MMIO64, LAYOUT_MMIO64_SIZE },
	};
	uint32_t cells[ARRAY_SIZE(windows) * 7];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
		cells[n++] = windows[i].space;
		cells[n++] = (uint32_t)(windows[i].pci >> 32);
		cells[n++] = (uint32_t)windows[i].pci;
		cells[n++] = (uint32_t)(windows[i].cpu >> 32);
		cells[n++] = (uint32_t)windows[i].cpu;
		cells[n++] = (uint32_t)(windows[i].size >> 32);
		cells[n++] = (uint32_t)windows[i].size;
	}
	fdt_cells(t, "ranges", cells, n);
}

/* The same spreading as pci_intx_gsi()'s. An entry: PCI address, pin; the controller, an address
 * there of two cells that it has no use for, the interrupt. */
static void add_pins(struct fdt_tree *t)
{
	uint32_t cells[SLOTS * PINS * 10];
	size_t n = 0;

	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		for (uint32_t pin = 1; pin <= PINS; pin++) {
			const uint32_t gsi = LAYOUT_INTX_GSI + (slot + pin - 1) % LAYOUT_INTX_GSIS;
			const uint32_t entry[10] = {
				slot << SLOT_SHIFT, 0, 0, pin, PHANDLE_GIC, 0, 0, IRQ_SPI, gsi,
				IRQ_LEVEL,
			};

			for (size_t i = 0; i < ARRAY_SIZE(entry); i++)
				cells[n++] = entry[i];
		}
	}
	fdt_cells(t, "interrupt-map", cells, n);
	fdt_cell(t, "interrupt-map-mask", SLOT_MASK, 0, 0, 7);
}

void fdt_add_pci(struct fdt_tree *t, const struct fdt_contents *c)
{
	fdt_node(t, "pcie@%x", LAYOUT_ECAM);
	fdt_text(t, "compatible", "pci-host-ecam-generic");
	fdt_text(t, "device_type", "pci");
	fdt_reg(t, LAYOUT_ECAM, LAYOUT_ECAM_SIZE);
	fdt_cell(t, "bus-range", 0, ARCH_PCI_BUSES - 1);
	fdt_cell(t, "#address-cells", 3);
	fdt_cell(t, "#size-cells", 2);
	fdt_cell(t, "#interrupt-cells", 1);
	fdt_cell(t, "linux,pci-domain", 0);
	fdt_flag(t, "dma-coherent");
	fdt_near(t, c, c->numa ? c->numa->pci : 0);
	add_ranges(t);
	add_pins(t);
	/* pci/pci-msi.txt: every requester ID is itself. */
	if (c->its)
		fdt_cell(t, "msi-map", 0, PHANDLE_ITS, 0, 0x10000);
	fdt_end(t);
}
