/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of a virtio device. With MSI-X a worker signals the vector's
 * eventfd and that is all. What it cannot do so (a vector that was never
 * unmasked, the INTx pin, a device that needs a reset) is left as a note for
 * the machine's loop, which has the device lock.
 * Source: VIRTIO 1.2, 4.1.4.5 (ISR), 4.1.5.1.2 (vectors).
 */
#include "vmm/virtio/virtio_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/pci_internal.h"

#define ISR_QUEUE 1u
#define ISR_CONFIG 2u
#define CMD_INTX_DISABLE 0x0400
#define STATUS_INTX 0x0008

static void set_irq_fd(struct virtio_queue *q, int fd)
{
	pthread_mutex_lock(&q->worker->lock);
	q->irq_fd = fd;
	pthread_mutex_unlock(&q->worker->lock);
}

/* `fd` is the eventfd of its vector, if that has one. */
static int way_of(const struct virtio_queue *q, int fd)
{
	if (!msix_enabled(q->virtio->msix))
		return VIRTIO_IRQ_DEFER;
	if (q->vector == VIRTIO_NO_VECTOR)
		return VIRTIO_IRQ_NONE;
	return fd < 0 ? VIRTIO_IRQ_DEFER : fd;
}

/* Before any of the old eventfds is closed. */
static int set_vectors(void *opaque, const int *fds, unsigned count, struct gw_error *err)
{
	struct virtio *v = opaque;

	(void)err;
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];

		set_irq_fd(q, way_of(q, q->vector < count ? fds[q->vector] : -1));
	}
	return 0;
}

static const struct msi_irqfds_source irq_source = { .set_vectors = set_vectors };

int virtio_irq_create(struct virtio *v, struct gw_error *err)
{
	const unsigned vectors = v->queue_count + 1;
	int r = msi_irqfds_create(v->device.machine, &v->function, v->device.id, vectors,
	                          &irq_source, v, &v->irqfds, err);

	return r ? r : msix_create(vectors, &msi_irqfds_ops, v->irqfds, &v->msix, err);
}

void virtio_irq_destroy(struct virtio *v)
{
	virtio_irq_set_isr(v, 0);
	msix_destroy(v->msix);
	msi_irqfds_destroy(v->irqfds);
	v->msix = NULL;
	v->irqfds = NULL;
}

void virtio_irq_update(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];

		set_irq_fd(q, way_of(q, msi_irqfds_fd(v->irqfds, q->vector)));
	}
	virtio_irq_set_isr(v, v->isr);
}

void virtio_irq_set_isr(struct virtio *v, uint8_t isr)
{
	uint8_t *config = v->function.config;
	bool high;

	v->isr = isr;
	if (!v->msix)
		return;
	pci_set(config, PCI_REG_STATUS, 2,
	        (pci_get(config, PCI_REG_STATUS, 2) & ~(uint32_t)STATUS_INTX) |
	                (isr ? STATUS_INTX : 0));
	high = isr && !msix_enabled(v->msix) &&
	       !(pci_get(config, PCI_REG_COMMAND, 2) & CMD_INTX_DISABLE);
	if (high != v->pin_high)
		irq_share_line(v->device.machine->irqs, pci_intx_gsi(v->function.slot, 1), high);
	v->pin_high = high;
}

static void raise(struct virtio *v, uint16_t vector, uint8_t isr)
{
	if (!msix_enabled(v->msix))
		virtio_irq_set_isr(v, v->isr | isr);
	else if (vector != VIRTIO_NO_VECTOR)
		msix_raise(v->msix, vector);
}

void virtio_defer(struct virtio *v)
{
	machine_defer(v->device.machine);
}

void virtio_interrupt(struct virtio_queue *q)
{
	if (q->irq_fd >= 0) {
		io_eventfd_signal(q->irq_fd);
		return;
	}
	if (q->irq_fd == VIRTIO_IRQ_NONE)
		return;
	q->irq_waiting = true;
	virtio_defer(q->virtio);
}

void virtio_config_changed(struct virtio *v)
{
	v->config_generation++;
	if (v->status & VIRTIO_DRIVER_OK)
		raise(v, v->config_vector, ISR_CONFIG);
}

static void become_broken(struct virtio *v, const char *why)
{
	if (v->status & VIRTIO_NEEDS_RESET)
		return;
	if (log_limit_pass(&v->said))
		log_warn(v->device.machine->log, "device %s: needs a reset by its driver: %s",
		         v->device.id, why);
	v->status |= VIRTIO_NEEDS_RESET;
	virtio_update_active(v);
	virtio_config_changed(v);
}

void virtio_deferred(struct device *d)
{
	struct virtio *v = container_of(d, struct virtio, device);
	const char *why = __atomic_load_n(&v->broken, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtio_queue *q = &v->queues[i];
		bool waiting;

		pthread_mutex_lock(&q->worker->lock);
		waiting = q->irq_waiting;
		q->irq_waiting = false;
		pthread_mutex_unlock(&q->worker->lock);
		if (waiting)
			raise(v, q->vector, ISR_QUEUE);
	}
	if (why)
		become_broken(v, why);
}

void virtio_break(struct virtio *v, const char *why)
{
	const char *none = NULL;

	if (__atomic_compare_exchange_n(&v->broken, &none, why, false, __ATOMIC_ACQ_REL,
	                                __ATOMIC_ACQUIRE))
		virtio_defer(v);
}
