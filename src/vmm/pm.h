/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power management registers of the hardware-reduced ACPI machine: sleep control and status,
 * reset, and the event register behind the Generic Event Device (power button, PCI hotplug).
 * Sources: ACPI 6.5, 4.8.3.7 (sleep registers), 4.8.3.6 (reset), 5.6.9 (GED).
 */
#ifndef VMM_PM_H
#define VMM_PM_H

/* I/O ports; src/vmm/x86/acpi/dsdt.asl has the same numbers from here, with ASL defined. */
#define PM_PORT 0x600
#define PM_PORT_SIZE 0x20
#define PM_SLEEP_CONTROL 0x00 /* 1 byte */
#define PM_SLEEP_STATUS 0x01  /* 1 byte */
#define PM_RESET 0x02         /* 1 byte: PM_RESET_VALUE resets */
#define PM_RESET_VALUE 0x01
#define PM_EVENTS 0x04      /* u32: pending events; a read clears */
#define PM_PCI_UP 0x08      /* u32: slots with a device inserted; a read clears */
#define PM_PCI_DOWN 0x0c    /* u32: slots whose device is to be ejected; a read clears */
#define PM_PCI_EJECT 0x10   /* u32, written by the guest: bit of the slot that it lets go */
#define PM_PCI_PRESENT 0x14 /* u32: slots that hold a device */
#define PM_GSI 9

#define PM_EVENT_POWER_BUTTON 1
#define PM_EVENT_PCI 2
#define PM_EVENT_GENERATION 4 /* the VM generation id has changed */

#ifndef ASL
#include "vmm/machine.h"

/* Registers on m->pio and as participant "pm". */
int pm_create(struct machine *m, struct pm **out, struct gw_error *err);
void pm_destroy(struct pm *pm);
void pm_reset(struct pm *pm);
/* With the device lock held. */
void pm_power_button(struct pm *pm);
void pm_generation_changed(struct pm *pm);
void pm_pci_inserted(struct pm *pm, unsigned slot);
void pm_pci_eject_wanted(struct pm *pm, unsigned slot);
/* Not any more; a guest that has read it already may eject nevertheless. */
void pm_pci_eject_unwanted(struct pm *pm, unsigned slot);
#endif

#endif
