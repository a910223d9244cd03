/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts: GSIs and their routing in KVM. GSIs below IRQ_LINES are pins of
 * the interrupt controller; those above are made for MSI messages.
 */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;
struct irqs;

#define IRQ_LINES 24

struct msi_message {
	uint64_t address;
	uint32_t data;
	/* Who sends it: bus, device and function, as PCI's requester ID (PCI Express 5.0,
	 * 2.2.6.2). Where interrupts are translated, the same message means another interrupt for
	 * each sender. */
	uint32_t requester;
};

int irqs_create(struct machine *m, struct irqs **out, struct gw_error *err);
void irqs_destroy(struct irqs *irqs);

/* Sets the level of a pin. */
int irq_set_line(struct irqs *irqs, uint32_t gsi, int level);
/* A pin that several devices share is high while any of them holds it so; each says only what
 * changes. Not for pins that irq_set_line() is used on. */
int irq_share_line(struct irqs *irqs, uint32_t gsi, bool high);
/* Those pins are what their devices say, whatever the controller's state was, and all irqfds are
 * KVM's. Before vCPUs run. */
void irqs_settle(struct irqs *irqs);
/* Every MSI that an irqfd has signalled so far is in the interrupt controller. Its state is read
 * after this, and this comes when all devices have stopped. Pins need none: where the guest goes on
 * each is what its device then says. */
int irqs_flush(struct irqs *irqs, struct gw_error *err);
/* Injects one message, without a GSI. */
int irq_send_msi(struct irqs *irqs, const struct msi_message *msg);

/* A GSI for an MSI vector; routed nowhere until irq_route_msi. -ENOSPC. */
int irq_alloc_msi(struct irqs *irqs, uint32_t *gsi, struct gw_error *err);
int irq_route_msi(struct irqs *irqs, uint32_t gsi, const struct msi_message *msg,
                  struct gw_error *err);
/* Several at once, with one update of KVM's table. */
int irq_route_msis(struct irqs *irqs, const uint32_t *gsis, const struct msi_message *msgs,
                   unsigned count, struct gw_error *err);
void irq_free_msi(struct irqs *irqs, uint32_t gsi);

/* A write to `fd` raises `gsi`. With resample_fd >= 0 the pin is level-triggered: KVM lowers
 * it and signals resample_fd when the guest acknowledges; a pin takes no irqfd without. */
int irq_attach_fd(struct irqs *irqs, uint32_t gsi, int fd, int resample_fd, struct gw_error *err);
/* Of what irq_attach_fd() has attached. */
void irq_detach_fd(struct irqs *irqs, uint32_t gsi, int fd);

#endif
