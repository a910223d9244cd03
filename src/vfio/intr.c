/* SPDX-License-Identifier: Apache-2.0 */
/* MSI and MSI-X, from device to guest inside the kernel, by irqfd. INTx is in intx.c. */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"
#include <string.h>

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
	vfio_intx_off(d);
	if (d->msi_armed && d->msi_armed != armed)
		vfio_irq_disable(&d->dev, index);
	d->msi_armed = armed;
	if (armed)
		r = vfio_irq_set(&d->dev, index, fds, armed, err);
	if (!armed)
		vfio_intx_update(d);
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

/* ---- life -------------------------------------------------------------------------------------
 */

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
	int r = vfio_intx_init(d, err);

	return r ? r : init_msi(d, err);
}

void vfio_intr_fini(struct vfio_pci *d)
{
	/* What goes off must not turn INTx on again. */
	d->plugged = false;
	vfio_intx_off(d);
	msix_destroy(d->msix);
	msi_destroy(d->msi);
	msi_irqfds_destroy(d->msix_irqfds);
	msi_irqfds_destroy(d->msi_irqfds);
	vfio_intx_fini(d);
}

void vfio_intr_reset(struct vfio_pci *d)
{
	if (d->msi)
		msi_reset(d->msi);
	if (d->msix)
		msix_reset(d->msix);
	vfio_intx_off(d);
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
		vfio_intx_off(d);
		vfio_intx_update(d);
	}
}
