/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INTx. As a rule inside the kernel: the device's eventfd is KVM's irqfd, and
 * when the guest has dealt with the interrupt KVM signals the resample
 * eventfd, by which VFIO unmasks the device; if that still has a reason, it
 * raises the line again.
 *
 * Some devices (mdevs) cannot be unmasked by eventfd, and these may also drop
 * what happens while they are masked. For them we stand between: the device is
 * unmasked before each access of the guest, which is when such a device finds
 * reasons, and at each end of interrupt; what it raises while the line is
 * asserted already is raised again after that.
 * Source: Linux, <linux/vfio.h> (VFIO_DEVICE_SET_IRQS); KVM API, 4.75 (KVM_IRQFD).
 */
#include "vfio/vfio_pci.h"

#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"

#include <linux/pci_regs.h>
#include <string.h>

static uint32_t gsi_of(const struct vfio_pci *d)
{
	return pci_intx_gsi(d->function.slot, d->function.config[PCI_INTERRUPT_PIN]);
}

/* ---- by hand -------------------------------------------------------------------------- */

static void raise_line(struct vfio_intx *x)
{
	pthread_mutex_lock(&x->lock);
	if (x->asserted) {
		x->again = true;
	} else {
		x->asserted = true;
		io_eventfd_signal(x->line_fd);
	}
	pthread_mutex_unlock(&x->lock);
}

/* Has the device raised it? */
static void look(struct vfio_intx *x)
{
	if (io_eventfd_drain(x->fd))
		raise_line(x);
}

static void on_raised(void *opaque, int fd, uint32_t events)
{
	struct vfio_pci *d = opaque;

	(void)fd;
	(void)events;
	look(&d->intx);
}

/* The guest has dealt with it, and KVM has lowered the line. Without the device lock, which
 * whoever waits for this handler's end may hold. */
static void on_resample(void *opaque, int fd, uint32_t events)
{
	struct vfio_pci *d = opaque;
	struct vfio_intx *x = &d->intx;

	(void)events;
	io_eventfd_drain(fd);
	pthread_mutex_lock(&x->lock);
	x->asserted = x->again;
	if (x->again)
		io_eventfd_signal(x->line_fd);
	x->again = false;
	pthread_mutex_unlock(&x->lock);
	vfio_intx_unmask(&d->dev);
}

void vfio_intx_before_access(struct vfio_pci *d)
{
	if (d->intx.on && d->intx.by_hand)
		vfio_intx_unmask(&d->dev);
}

void vfio_intx_after_access(struct vfio_pci *d)
{
	if (d->intx.on && d->intx.by_hand)
		look(&d->intx);
}

/* A guest that looks once too often finds nothing; one that never looks waits for ever. */
void vfio_intx_kick(struct vfio_pci *d)
{
	machine_lock(d->device.machine);
	if (d->intx.on && d->intx.by_hand)
		raise_line(&d->intx);
	machine_unlock(d->device.machine);
}

static int watch_by_hand(struct vfio_pci *d, struct gw_error *err)
{
	struct loop *loop = d->device.machine->loop;
	struct vfio_intx *x = &d->intx;
	int r = loop_watch(loop, x->fd, EPOLLIN, on_raised, d, &x->watch, err);

	return r ? r
	         : loop_watch(loop, x->resample_fd, EPOLLIN, on_resample, d, &x->resample_watch,
	                      err);
}

/* ---- on and off ------------------------------------------------------------------------- */

static int arm(struct vfio_pci *d, struct gw_error *err)
{
	struct vfio_intx *x = &d->intx;
	int r = vfio_irq_set(&d->dev, VFIO_PCI_INTX_IRQ_INDEX, 0, &x->fd, 1, err);

	if (r)
		return MIN(r, -1);
	x->by_hand = vfio_intx_unmask_by_fd(&d->dev, x->resample_fd) < 0;
	x->asserted = x->again = false;
	r = irq_attach_fd(d->device.machine->irqs, gsi_of(d), x->by_hand ? x->line_fd : x->fd,
	                  x->resample_fd, err);
	x->attached = !r;
	return r || !x->by_hand ? r : watch_by_hand(d, err);
}

/* Also what arm() has left half-done. */
static void disarm(struct vfio_pci *d)
{
	struct irqs *irqs = d->device.machine->irqs;
	struct vfio_intx *x = &d->intx;

	vfio_irq_disable(&d->dev, VFIO_PCI_INTX_IRQ_INDEX);
	loop_unwatch(x->watch);
	loop_unwatch(x->resample_watch);
	x->watch = x->resample_watch = NULL;
	if (x->attached)
		irq_detach_fd(irqs, gsi_of(d), x->by_hand ? x->line_fd : x->fd);
	x->attached = false;
	io_eventfd_drain(x->fd);
	io_eventfd_drain(x->line_fd);
	io_eventfd_drain(x->resample_fd);
}

void vfio_intx_off(struct vfio_pci *d)
{
	if (!d->intx.on)
		return;
	d->intx.on = false;
	disarm(d);
}

void vfio_intx_update(struct vfio_pci *d)
{
	bool wanted = d->plugged && d->intx.count &&
	              !(pci_get(d->function.config, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) &&
	              !(d->msi && msi_enabled(d->msi)) && !(d->msix && msix_enabled(d->msix));
	struct gw_error err;

	if (!wanted) {
		vfio_intx_off(d);
		return;
	}
	if (d->intx.on)
		return;
	d->intx.on = arm(d, &err) == 0;
	if (d->intx.on)
		return;
	disarm(d);
	log_error(d->device.machine->log, "device %s: INTx: %s", d->device.id, err.text);
}

/* ---- life ----------------------------------------------------------------------------------- */

int vfio_intx_init(struct vfio_pci *d, struct gw_error *err)
{
	uint8_t *pin = &d->function.config[PCI_INTERRUPT_PIN];
	struct vfio_intx *x = &d->intx;

	if (*pin >= 1 && *pin <= 4)
		x->count = d->irqs[VFIO_PCI_INTX_IRQ_INDEX].count;
	if (!x->count) {
		*pin = 0;
		return 0;
	}
	x->fd = io_eventfd();
	x->resample_fd = io_eventfd();
	x->line_fd = io_eventfd();
	if (x->fd < 0 || x->resample_fd < 0 || x->line_fd < 0)
		return error_set(err, -EMFILE, "INTx: no eventfd to be had");
	return 0;
}

void vfio_intx_fini(struct vfio_pci *d)
{
	int *const fds[] = { &d->intx.fd, &d->intx.resample_fd, &d->intx.line_fd };

	vfio_intx_off(d);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	pthread_mutex_destroy(&d->intx.lock);
}
