/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are in the guest-physical address space of the arm64 machine. */
#ifndef ARM64_LAYOUT_H
#define ARM64_LAYOUT_H

/*
 * The interrupt controller: KVM's. Hosts keep 0x08000000 to 0x080fffff of the I/O addresses for
 * their own MSIs (reserved_regions of an IOMMU group), so nothing that a device may be given
 * access to can be there: what only CPUs reach can.
 */
#define LAYOUT_GICD 0x08000000
#define LAYOUT_GICD_SIZE 0x00010000
#define LAYOUT_GICC 0x08010000 /* GICv2 */
#define LAYOUT_GICC_SIZE 0x00010000
#define LAYOUT_ITS 0x08080000
#define LAYOUT_ITS_SIZE 0x00020000
#define LAYOUT_GICR 0x0a000000 /* one for each vCPU */
#define LAYOUT_GICR_EACH 0x00020000
#define LAYOUT_GICR_END 0x10000000

/* Devices of the platform, a page each. */
#define LAYOUT_SERIAL 0x09000000
#define LAYOUT_RTC 0x09010000
#define LAYOUT_GPIO 0x09030000
#define LAYOUT_DEVICE_SIZE 0x1000

/* PCI. */
#define LAYOUT_MMIO32 0x10000000
#define LAYOUT_MMIO32_SIZE 0x20000000
#define LAYOUT_ECAM 0x30000000
#define LAYOUT_ECAM_SIZE 0x02000000  /* 32 buses */
#define LAYOUT_PIO_WINDOW 0x3eff0000 /* I/O ports 0 to 0xffff */
#define LAYOUT_PIO_WINDOW_SIZE 0x00010000
#define LAYOUT_PIO 0x1000 /* port I/O window for I/O BARs */
#define LAYOUT_PIO_SIZE 0xf000

/* RAM, with the 64-bit window of PCI in between if there is a lot: 256 GiB to 512 GiB, which an
 * IOMMU with 39-bit addresses reaches. */
#define LAYOUT_RAM 0x40000000
#define LAYOUT_MMIO64 0x4000000000
#define LAYOUT_MMIO64_SIZE 0x4000000000
#define LAYOUT_HIGH_RAM 0x8000000000
#define LAYOUT_RAM_END 0x80000000000 /* 8 TiB */

/* The beginning of RAM belongs to the platform. The guest maps it in its own way or not at all, so
 * it has a block of 2 MiB of its own, of which the guest may use what is left. */
#define LAYOUT_STEAL_TIME LAYOUT_RAM
#define LAYOUT_STEAL_TIME_EACH 64 /* 255 vCPUs fill four pages */
#define LAYOUT_VMGENID (LAYOUT_RAM + 0x4000)
#define LAYOUT_PLATFORM_SIZE 0x5000
#define LAYOUT_BOOT (LAYOUT_RAM + 0x200000) /* kernel, initrd, device tree */
#define LAYOUT_BOOT_ALIGN 0x200000

/* SPIs, which are our GSIs. Those of PCI INTx: 16 to 23. */
#define LAYOUT_RTC_GSI 2
#define LAYOUT_SERIAL_GSI 4
#define LAYOUT_GPIO_GSI 7
#define LAYOUT_VMGENID_GSI 9
#define LAYOUT_INTX_GSI 16
#define LAYOUT_INTX_GSIS 8

/* Interrupts that the controller has: 32 private ones and 32 SPIs. */
#define LAYOUT_INTIDS 64

/* Private interrupts, by their number among these (INTID less 16): the generic timer's as Arm's
 * Base System Architecture has them, and the performance monitor's. */
#define LAYOUT_PPI_HYP_TIMER 10
#define LAYOUT_PPI_VIRT_TIMER 11
#define LAYOUT_PPI_SECURE_TIMER 13
#define LAYOUT_PPI_PHYS_TIMER 14
#define LAYOUT_PPI_PMU 7

#endif
