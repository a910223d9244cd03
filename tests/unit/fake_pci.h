/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI device behind the calls of vfio/host.h, made of memory, that notes what is asked of it; and
 * a machine that it is plugged into by vfio_pci_create(). */
#ifndef UNIT_FAKE_PCI_H
#define UNIT_FAKE_PCI_H

#include "platform.h"

#include "vfio/options.h"
#include "vfio/vfio_pci.h"
#include "vmm/memory_internal.h"

#define FAKE_BAR 0x4000
#define FAKE_ROM 0x1000

struct fake_irq_call {
	uint32_t index, start, count;
	bool disables;
};

struct fake_pci {
	struct platform *p;
	struct vfio_pci *d;
	struct vfio_host_ops ops;
	struct device_driver driver;
	struct vfio_pci_kind kind;
	struct vfio_space space;
	struct memory memory;

	/* What it is: set before fake_plug(). */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t bar[FAKE_BAR]; /* BAR 0 */
	uint8_t rom[FAKE_ROM];
	uint64_t bar_size; /* 0: FAKE_BAR */
	bool bar_maps;
	bool no_reset;
	unsigned port; /* that it is plugged in behind; 0: slot 3 of bus 0 */
	struct vfio_options options;
	struct vfio_irqs irqs[VFIO_PCI_NUM_IRQS];
	uint64_t mig_flags;
	uint32_t msi_limit; /* what the host can give; 0: all */

	/* What was asked of it. */
	unsigned maps;
	unsigned resets, hot_resets, hot_groups, hot_size;
	unsigned config_reads, config_writes, bar_reads, bar_writes, rom_reads;
	struct fake_irq_call calls[64];
	unsigned call_count;
	int fd_of[VFIO_PCI_NUM_IRQS];

	/* What a reset of its bus takes along. */
	struct vfio_pci_dependent_device deps[4];
	unsigned dep_count;
	int dep_error; /* what asking for them answers */
	uint32_t dep_flags;
	int hot_error; /* what that reset answers */
	/* A letter a call: H that reset, R a report of the DMA log, S its start. */
	char order[8];
	unsigned order_len;
	unsigned foreign_group;

	unsigned given_back, events;
	char event[32];
};

/* Fills the config of a device with MSI-X of 8 vectors in BAR 0 at 0x1000, MSI of 4, FLR, a
 * vendor-specific capability, VPD, and a register of its own at 0xf0. */
struct fake_pci *fake_new(void);
void fake_plug(struct fake_pci *f);
int fake_try(struct fake_pci *f, struct gw_error *err);
void fake_free(struct fake_pci *f);

/* The guest's accesses. */
uint32_t fake_read(struct fake_pci *f, unsigned reg, unsigned size);
void fake_write(struct fake_pci *f, unsigned reg, unsigned size, uint32_t value);

/* Where its capabilities are. */
#define FAKE_PM 0x40
#define FAKE_MSI 0x50
#define FAKE_EXP 0x70
#define FAKE_MSIX 0xb0
#define FAKE_VENDOR 0xc0
#define FAKE_VPD 0xd0
#define FAKE_OWN 0xf0
#define FAKE_TABLE 0x1000

#endif
