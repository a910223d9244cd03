/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the virtio core share. */
#ifndef VMM_VIRTIO_INTERNAL_H
#define VMM_VIRTIO_INTERNAL_H

#include "vmm/virtio/virtio.h"

/* Features of the core that every device offers, and their names. */
#define VIRTIO_CORE_FEATURES                                                                       \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED | \
	 VIRTIO_F_RING_RESET)
/* The name of a feature, or "bit N" in buf. */
const char *virtio_feature_name(const struct virtio *v, unsigned bit, char buf[16]);

/* ---- virtio.c; all with the device lock held ---- */

/* The driver wrote the status. */
void virtio_set_status(struct virtio *v, uint8_t status);
/* Makes `active` what guest, driver, bus master bit and breakage say. */
void virtio_update_active(struct virtio *v);
/* Enables a queue as configured; -EINVAL breaks the device. */
int virtio_enable_queue(struct virtio *v, struct virtio_queue *q, struct gw_error *err);
void virtio_reset_queue(struct virtio *v, struct virtio_queue *q);
/* All of a device's power-on state. */
void virtio_reset(struct virtio *v);
/* It is off the bus: everything is given back. */
void virtio_ejected(struct pci_function *f);

/* ---- virtio_worker.c ---- */
int virtio_workers_create(struct virtio *v, const struct virtio_setup *setup, struct gw_error *err);
void virtio_workers_destroy(struct virtio *v);
/* Under all workers' locks. */
void virtio_set_active(struct virtio *v, bool active);
void virtio_kick_all(struct virtio *v);

/* ---- virtio_irq.c ---- */
int virtio_irq_create(struct virtio *v, struct gw_error *err);
void virtio_irq_destroy(struct virtio *v);
/* After vectors, MSI-X or the pin changed: queues' irq_fd. */
void virtio_irq_update(struct virtio *v);
/* ISR bits changed: the pin follows. */
void virtio_irq_set_isr(struct virtio *v, uint8_t isr);
/* Wakes the machine's loop for what needs the device lock. */
void virtio_defer(struct virtio *v);

/* ---- virtio_pci.c ---- */
int virtio_pci_create(struct virtio *v, struct gw_error *err);
void virtio_pci_destroy(struct virtio *v);

#endif
