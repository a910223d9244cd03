/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are in the guest-physical address space of the x86 machine. Also read by the
 * C preprocessor for the ACPI source, so it holds #defines only. */
#ifndef X86_LAYOUT_H
#define X86_LAYOUT_H

/* Below 1 MiB, filled by the loader (src/vmm/x86/boot*.c). */
#define LAYOUT_GDT 0x500
#define LAYOUT_ZERO_PAGE 0x7000
#define LAYOUT_PVH_INFO 0x6000
#define LAYOUT_PAGE_TABLES 0x9000
#define LAYOUT_CMDLINE 0x20000
#define LAYOUT_EBDA 0x9fc00
#define LAYOUT_VMGENID 0xd0000 /* a page of its own, reserved */
#define LAYOUT_RSDP 0xe0000
#define LAYOUT_ACPI 0xe0040
#define LAYOUT_ACPI_END LAYOUT_RESET_VECTOR
#define LAYOUT_RESET_VECTOR 0xffff0
#define LAYOUT_HIGH_RAM 0x100000

/* The hole below 4 GiB. */
#define LAYOUT_HOLE 0xc0000000
#define LAYOUT_MMIO32 0xc0000000
#define LAYOUT_MMIO32_SIZE 0x20000000
#define LAYOUT_MMIO32_LAST 0xdfffffff /* for the ASL compiler, which adds nothing up there */
#define LAYOUT_ECAM 0xe0000000
#define LAYOUT_ECAM_SIZE 0x02000000 /* 32 buses */
#define LAYOUT_IOAPIC 0xfec00000
#define LAYOUT_LAPIC 0xfee00000
#define LAYOUT_IDENTITY_MAP 0xfffbc000
#define LAYOUT_TSS 0xfffbd000

/* The 64-bit window, 256 GiB to 512 GiB: an IOMMU with 39-bit addresses reaches it. RAM goes on
 * behind it, and behind what AMD's IOMMUs keep for interrupts and messages below 1 TiB (AMD I/O
 * Virtualization Technology (IOMMU) Specification, 2.1.2). */
#define LAYOUT_4G 0x100000000
#define LAYOUT_HT_HOLE 0xfd00000000
#define LAYOUT_1T 0x10000000000
#define LAYOUT_RAM_END 0x80000000000 /* 8 TiB */
#define LAYOUT_MMIO64 0x4000000000
#define LAYOUT_MMIO64_SIZE 0x4000000000
#define LAYOUT_MMIO64_LAST 0x7fffffffff

/* The serial port. */
#define SERIAL_PORT 0x3f8
#define SERIAL_GSI 4

/* Port I/O window for I/O BARs. */
#define LAYOUT_PIO 0x1000
#define LAYOUT_PIO_SIZE 0xf000
#define LAYOUT_PIO_LAST 0xffff

/* GSIs of PCI INTx: 16 to 23. */
#define LAYOUT_INTX_GSI 16
#define LAYOUT_INTX_GSIS 8

#endif
