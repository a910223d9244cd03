/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts from device to guest inside the kernel: MSI and MSI-X by irqfd,
 * INTx by irqfd with resample, which unmasks the device when the guest has
 * dealt with it.
 */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/irq.h"

#include <linux/pci_regs.h>
#include <string.h>

/* ---- INTx -------------------------------------------------------------------------------- */

/* For a device that the kernel cannot unmask by eventfd (an mdev): one ioctl on the loop. */
static void on_resample(void *opaque, int fd, uint32_t events)
{
	struct vfio_pci *d = opaque;

	(void)events;
	io_eventfd_drain(fd);
	/* Without the device lock, which whoever waits for this handler's end may hold; unmasking
	 * what is off does nothing. */
	vfio_intx_unmask(&d->dev);
}

static uint32_t intx_gsi(const struct vfio_pci *d)
{
	return pci_intx_gsi(d->function.slot, d->function.config[PCI_INTERRUPT_PIN]);
}

static int intx_arm(struct vfio_pci *d, struct gw_error *err)
{
	struct machine *m = d->device.machine;
	struct vfio_intx *x = &d->intx;
	int r = irq_attach_fd(m->irqs, intx_gsi(d), x->fd, x->resample_fd, err);

	if (r < 0)
		return r;
	r = vfio_irq_set(&d->dev, VFIO_PCI_INTX_IRQ_INDEX, &x->fd, 1, err);
	if (r < 0) {
		irq_detach_fd(m->irqs, intx_gsi(d), x->fd);
		return r;
	}
	if (vfio_intx_unmask_by_fd(&d->dev, x->resample_fd) < 0 && !x->watch)
		return loop_watch(m->loop, x->resample_fd, EPOLLIN, on_resample, d, &x->watch, err);
	return 0;
}

static void intx_on(struct vfio_pci *d)
{
	struct gw_error err;

	if (d->intx.on)
		return;
	if (intx_arm(d, &err) < 0)
		log_error(d->device.machine->log, "device %s: INTx: %s", d->device.id, err.text);
	else
		d->intx.on = true;
}

static void intx_off(struct vfio_pci *d)
{
	struct machine *m = d->device.machine;

	if (!d->intx.on)
		return;
	vfio_irq_disable(&d->dev, VFIO_PCI_INTX_IRQ_INDEX);
	irq_detach_fd(m->irqs, intx_gsi(d), d->intx.fd);
	irq_set_line(m->irqs, intx_gsi(d), 0);
	io_eventfd_drain(d->intx.fd);
	d->intx.on = false;
}

void vfio_intr_update_intx(struct vfio_pci *d)
{
	bool wanted = d->plugged && d->intx.count &&
		      !(pci_get(d->function.config, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) &&
		      !(d->msi && msi_enabled(d->msi)) && !(d->msix && msix_enabled(d->msix));

	if (wanted)
		intx_on(d);
	else
		intx_off(d);
}

/* ---- MSI and MSI-X -------------------------------------------------------------------------- */

/* How many vectors to ask for: with MSI-X all, so that vectors that come into use later change
 * nothing for those that are; with MSI as many as are used, since the host may not have more. */
static unsigned vectors_to_arm(unsigned index, const int *fds, unsigned count)
{
	if (index == VFIO_PCI_MSIX_IRQ_INDEX)
		return count;
	while (count && fds[count - 1] < 0)
		count--;
	return count;
}

static int arm_vectors(struct vfio_pci *d, unsigned index, const int *fds, unsigned count,
		       struct gw_error *err)
{
	unsigned armed = vectors_to_arm(index, fds, count);
	int r = 0;

	/* A device has one kind of interrupt at a time, and MSI a fixed number of vectors. */
	intx_off(d);
	if (d->msi_armed && d->msi_armed != armed)
		vfio_irq_disable(&d->dev, index);
	d->msi_armed = armed;
	if (armed)
		r = vfio_irq_set(&d->dev, index, fds, armed, err);
	if (!armed)
		vfio_intr_update_intx(d);
	return r;
}

static int set_msi_vectors(void *opaque, const int *fds, unsigned count, struct gw_error *err)
{
	return arm_vectors(opaque, VFIO_PCI_MSI_IRQ_INDEX, fds, count, err);
}

static int set_msix_vectors(void *opaque, const int *fds, unsigned count, struct gw_error *err)
{
	return arm_vectors(opaque, VFIO_PCI_MSIX_IRQ_INDEX, fds, count, err);
}

static const struct msi_irqfds_source msi_source = { .set_vectors = set_msi_vectors };
static const struct msi_irqfds_source msix_source = { .set_vectors = set_msix_vectors };

/* ---- life ------------------------------------------------------------------------------------- */

static int init_intx(struct vfio_pci *d, struct gw_error *err)
{
	struct vfio_intx *x = &d->intx;

	x->fd = x->resample_fd = -1;
	if (d->function.config[PCI_INTERRUPT_PIN] < 1 || d->function.config[PCI_INTERRUPT_PIN] > 4)
		d->function.config[PCI_INTERRUPT_PIN] = 0;
	if (d->function.config[PCI_INTERRUPT_PIN])
		x->count = vfio_irq_count(&d->dev, VFIO_PCI_INTX_IRQ_INDEX, NULL);
	if (!x->count) {
		d->function.config[PCI_INTERRUPT_PIN] = 0;
		return 0;
	}
	x->fd = io_eventfd();
	x->resample_fd = io_eventfd();
	if (x->fd < 0 || x->resample_fd < 0)
		return error_set_sys(err, MIN(x->fd, x->resample_fd), "INTx: eventfd");
	return 0;
}

static int init_msi(struct vfio_pci *d, struct gw_error *err)
{
	struct machine *m = d->device.machine;
	int r = 0;

	if (d->msi_cap)
		r = msi_irqfds_create(m, d->device.id, d->msi_layout.vectors, &msi_source, d,
				      &d->msi_irqfds, err);
	if (d->msi_cap && !r)
		r = msi_create(&d->msi_layout, &msi_irqfds_ops, d->msi_irqfds, &d->msi, err);
	if (d->msix_cap && !r)
		r = msi_irqfds_create(m, d->device.id, d->msix_layout.vectors, &msix_source, d,
				      &d->msix_irqfds, err);
	if (d->msix_cap && !r)
		r = msix_create(d->msix_layout.vectors, &msi_irqfds_ops, d->msix_irqfds, &d->msix,
				err);
	return r;
}

int vfio_intr_init(struct vfio_pci *d, struct gw_error *err)
{
	int r = init_intx(d, err);

	return r ? r : init_msi(d, err);
}

void vfio_intr_fini(struct vfio_pci *d)
{
	/* The queue of what changed must not turn INTx on again. */
	d->plugged = false;
	intx_off(d);
	msix_destroy(d->msix);
	msi_destroy(d->msi);
	msi_irqfds_destroy(d->msix_irqfds);
	msi_irqfds_destroy(d->msi_irqfds);
	loop_unwatch(d->intx.watch);
	if (d->intx.fd >= 0)
		close(d->intx.fd);
	if (d->intx.resample_fd >= 0)
		close(d->intx.resample_fd);
	d->intx.fd = d->intx.resample_fd = -1;
}

void vfio_intr_reset(struct vfio_pci *d)
{
	if (d->msi)
		msi_reset(d->msi);
	if (d->msix)
		msix_reset(d->msix);
	intx_off(d);
}

static void rearm_vectors(struct vfio_pci *d, unsigned index, const struct msi_irqfds *irqfds,
			  unsigned count)
{
	autofree int *fds = malloc(count * sizeof(*fds));
	struct gw_error err;

	if (!fds)
		return;
	for (unsigned i = 0; i < count; i++)
		fds[i] = msi_irqfds_fd(irqfds, i);
	vfio_irq_disable(&d->dev, index);
	d->msi_armed = 0;
	if (arm_vectors(d, index, fds, count, &err) < 0)
		log_error(d->device.machine->log, "device %s: %s", d->device.id, err.text);
}

void vfio_intr_rearm(struct vfio_pci *d)
{
	if (d->msix && msix_enabled(d->msix)) {
		rearm_vectors(d, VFIO_PCI_MSIX_IRQ_INDEX, d->msix_irqfds, d->msix_layout.vectors);
	} else if (d->msi && msi_enabled(d->msi)) {
		rearm_vectors(d, VFIO_PCI_MSI_IRQ_INDEX, d->msi_irqfds, d->msi_layout.vectors);
	} else {
		intx_off(d);
		vfio_intr_update_intx(d);
	}
}
