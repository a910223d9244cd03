/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that KVM does not inject in the context of the signal, but in a work item (slow_msi.c of
 * the architecture): vector 0 of the device that the guest "doorbell" drives. */
#ifndef KVM_SLOW_MSI_H
#define KVM_SLOW_MSI_H

#include "harness.h"
#include "vm_own_device.h"

/* The next one goes that way. The guest is stopped and has set its interrupts up. */
void slow_msi_prepare(struct guest *g, struct gw_device *d);
/* What the interrupt controllers' state, as it is read after PHASE_STOP, says of it. */
bool slow_msi_pending(struct guest *g);
/* The participant that brings the interrupt controller to rest. */
#define SLOW_MSI_CHIP (GUEST_MACHINE == EM_X86_64 ? "irqchip" : "gic")
/* Where the guest counts its interrupts, behind its mailbox. */
#define SLOW_MSI_COUNT (GUEST_MACHINE == EM_X86_64 ? 16 : 8)

#endif
