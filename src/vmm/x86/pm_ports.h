/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power management registers of the hardware-reduced ACPI machine: sleep control and status,
 * reset, and the event register behind the Generic Event Device (power button, PCI hotplug).
 * Also read by the C preprocessor for the ACPI source, so it holds #defines only.
 * Sources: ACPI 6.5, 4.8.3.7 (sleep registers), 4.8.3.6 (reset), 5.6.9 (GED).
 */
#ifndef X86_PM_PORTS_H
#define X86_PM_PORTS_H

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

#endif
