/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the PCI bus share. */
#ifndef VMM_PCI_INTERNAL_H
#define VMM_PCI_INTERNAL_H

#include "vmm/pci.h"
#include "vmm/pcie_port.h"

/* Registers of a type 0 header (PCI 3.0, 6.1 and 6.2). */
#define PCI_REG_VENDOR 0x00
#define PCI_REG_DEVICE 0x02
#define PCI_REG_COMMAND 0x04
#define PCI_REG_STATUS 0x06
#define PCI_REG_REVISION 0x08
#define PCI_REG_PROG_IF 0x09
#define PCI_REG_CLASS 0x0a
#define PCI_REG_CACHE_LINE 0x0c
#define PCI_REG_HEADER_TYPE 0x0e
#define PCI_REG_BAR 0x10
#define PCI_REG_PRIMARY 0x18 /* type 1, as the next two */
#define PCI_REG_SECONDARY 0x19
#define PCI_REG_SUBORDINATE 0x1a
#define PCI_REG_SUBSYSTEM_VENDOR 0x2c
#define PCI_REG_SUBSYSTEM 0x2e
#define PCI_REG_ROM 0x30
#define PCI_REG_CAPABILITIES 0x34
#define PCI_REG_IRQ_LINE 0x3c
#define PCI_REG_IRQ_PIN 0x3d
#define PCI_REG_BRIDGE_CONTROL 0x3e /* type 1 */
#define PCI_REG_EXT_CAPABILITIES 0x100

#define PCI_FIRST_CAPABILITY 0x40 /* behind the header */

#define PCI_CMD_IO 0x0001
#define PCI_CMD_MEMORY 0x0002
#define PCI_CMD_MASTER 0x0004
#define PCI_CMD_WRITABLE 0x0547 /* I/O, memory, master, parity, SERR#, INTx disable */
#define PCI_STATUS_CAPABILITIES 0x0010
#define PCI_STATUS_W1C 0xf900

#define PCI_HEADER_MULTI 0x80
#define PCI_HEADER_KIND 0x7f
#define PCI_ROM_ENABLE 1u

#define PCI_PM_CONTROL 4 /* into the power management capability (PM 1.2, 3.2.4) */
#define PCI_PM_STATE 3u  /* D0 to D3hot */

#define PCI_BAR_IO 1u
#define PCI_BAR_64 4u
#define PCI_BAR_PREFETCH 8u

/* Whose BAR a range on a bus is. */
struct pci_bar_ref {
	struct pci_function *f;
	unsigned bar;
};

struct pci_slot {
	struct pci_function *f[PCI_FUNCTIONS];
	bool left; /* ejected by the guest, not yet unplugged */
	struct pci_bar_ref refs[PCI_FUNCTIONS][PCI_REGIONS];
};

struct pci_bus {
	struct machine *machine;
	struct bus_range ecam;
	struct pci_function bridge; /* slot 0 */
	struct pci_slot
	        slots[PCI_PLACES]; /* that of a port 0, which there is none of, stays empty */
	struct pcie_port *ports;
	unsigned port_count;
	struct participant participant;
};

/* What the guest sees there. */
struct pci_function *pci_visible(const struct pci_bus *bus, unsigned slot, unsigned function);
/* Its own, whatever is above it (pci_is_master()). */
bool pci_has_master_bit(const struct pci_function *f);
/* All that is plugged in, the bridge first; NULL ends. `f` NULL: from the beginning. */
struct pci_function *pci_next(const struct pci_bus *bus, const struct pci_function *f);

/* The bus behind a port has another number: what is there sends its messages by that. */
void pci_renumbered(struct pci_bus *bus, unsigned place);

/* pci_config.c: the ECAM window. */
extern const struct bus_ops pci_ecam_ops;

/* pci_bar.c */
int pci_bar_check(const struct pci_function *f, struct gw_error *err);
/* Finds room for every BAR and writes addresses, flags and masks into config space. */
int pci_bar_place(struct pci_bus *bus, struct pci_function *f, struct gw_error *err);
/* Makes the mappings of the whole bus what config space says. `cause`, if any, is the function
 * that has changed: what cannot be mapped of it is logged. */
void pci_bar_update(struct pci_bus *bus, const struct pci_function *cause);
/* For a function behind a port: the guest places its BARs. Returns 0. */
int pci_bar_leave_open(struct pci_function *f);
void pci_bar_unmap_all(struct pci_bus *bus, struct pci_function *f);

/* pci_state.c */
extern const struct participant_ops pci_participant_ops;

#endif
