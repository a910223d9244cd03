/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the platform tells its guest of outside the devices: the power button,
 * a new generation id, PCI devices that come and go. How it does so is the
 * architecture's (src/vmm/x86/pm.c, src/vmm/arm64/pm.c); participant "pm".
 */
#ifndef VMM_PM_H
#define VMM_PM_H

#include "vmm/machine.h"

int pm_create(struct machine *m, struct pm **out, struct gw_error *err);
void pm_destroy(struct pm *pm);
void pm_reset(struct pm *pm);
/* With the device lock held. */
void pm_power_button(struct pm *pm);
void pm_generation_changed(struct pm *pm);
/* Slots of bus 0 whose devices come and go: only where arch_pci.hotplug is true. */
void pm_pci_inserted(struct pm *pm, unsigned slot);
void pm_pci_eject_wanted(struct pm *pm, unsigned slot);
/* Not any more; a guest that has read it already may eject nevertheless. */
void pm_pci_eject_unwanted(struct pm *pm, unsigned slot);

#endif
