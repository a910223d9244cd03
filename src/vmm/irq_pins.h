/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins of the interrupt controller that several devices hold high: some by
 * irq_share_line(), some by an irqfd that resamples (irq_attach_fd()).
 *
 * Where KVM keeps apart who holds a pin, it is high while anybody does. Where
 * it does not (arch_platform.pins_have_one_level), what one lets go of is low
 * for all, and what KVM lowers for its irqfds, at the guest's end of interrupt,
 * is low for those too that still hold it. There a pin with such irqfds is let
 * go by nobody but KVM, at the end of interrupt; an irqfd of our own hears of
 * that, and the pin is raised again if somebody still holds it.
 */
#ifndef VMM_IRQ_PINS_H
#define VMM_IRQ_PINS_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;
struct irq_pins;

int irq_pins_create(struct machine *m, struct irq_pins **out, struct gw_error *err);
void irq_pins_destroy(struct irq_pins *pins);

/* irq_share_line(). */
int irq_pins_share(struct irq_pins *pins, uint32_t gsi, bool high);
/* An irqfd that resamples is about to come to the pin, or was there and is gone. */
int irq_pins_add_irqfd(struct irq_pins *pins, uint32_t gsi, struct gw_error *err);
void irq_pins_remove_irqfd(struct irq_pins *pins, uint32_t gsi);
/* The pins of PCI are what their devices say, whatever the controller's state that was loaded has:
 * it may be of the moment at which KVM had lowered one that was to be raised again. Before vCPUs
 * run. */
void irq_pins_settle(struct irq_pins *pins);

#endif
