/* SPDX-License-Identifier: Apache-2.0 */
/* MSI and MSI-X, from device to guest inside the kernel, by irqfd. INTx is in intx.c. */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

/* ---- MSI and MSI-X -------------------------------------------------------------------------- */

/* How many vectors the device is to have. With MSI as many as the guest has granted, since it
 * spreads its reasons over just these (PCI 3.0, 6.8.1.6). With MSI-X those in use and all below;
 * but all there are where the host cannot add one without losing what the others raise meanwhile
 * (Linux uAPI, VFIO_IRQ_INFO_NORESIZE). */
static unsigned vectors_to_arm(const struct vfio_pci *d, unsigned index, const int *fds,
                               unsigned count)
{
	unsigned used = count;

	while (used && fds[used - 1] < 0)
		used--;
	if (!used)
		return 0;
	if (index == VFIO_PCI_MSI_IRQ_INDEX) {
		uint32_t flags = pci_get(d->function.config, d->msi_cap + PCI_MSI_FLAGS, 2);

		return MAX(used, MIN(1u << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4), count));
	}
	return d->irqs[index].flags & VFIO_IRQ_INFO_NORESIZE ? count : MAX(used, d->armed);
}

static void disarm(struct vfio_pci *d, unsigned index)
{
	if (d->armed)
		vfio_irq_disable(&d->dev, index);
	d->armed = 0;
}

/* A host that is short of vectors says how many it has: better these than none. */
static int arm_all(struct vfio_pci *d, unsigned index, const int *fds, unsigned count,
                   struct gw_error *err)
{
	int r = vfio_irq_set(&d->dev, index, 0, fds, count, err);

	if (r > 0 && (unsigned)r < count) {
		log_warn(d->device.machine->log, "device %s: %s; the others stay silent",
		         d->device.id, err->text);
		count = (unsigned)r;
		r = vfio_irq_set(&d->dev, index, 0, fds, count, err);
	}
	if (r)
		return r < 0 ? r : -ENOSPC;
	memcpy(d->armed_fds, fds, count * sizeof(*fds));
	d->armed = count;
	return 0;
}

static bool is_told(const struct vfio_pci *d, unsigned vector, int fd)
{
	return vector < d->armed ? d->armed_fds[vector] == fd : fd < 0;
}

/* Only what differs: the others' interrupts go on undisturbed. */
static int arm_changed(struct vfio_pci *d, unsigned index, const int *fds, unsigned count,
                       struct gw_error *err)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned n = 0;
		int r;

		while (i + n < count && !is_told(d, i + n, fds[i + n]))
			n++;
		if (!n)
			continue;
		r = vfio_irq_set(&d->dev, index, i, fds + i, n, err);
		if (r)
			return r < 0 ? r : -ENOSPC;
		i += n;
	}
	memcpy(d->armed_fds, fds, count * sizeof(*fds));
	d->armed = count;
	return 0;
}

static int arm_vectors(struct vfio_pci *d, unsigned index, const int *fds, unsigned count,
                       struct gw_error *err)
{
	const bool grows = index == VFIO_PCI_MSIX_IRQ_INDEX &&
	                   !(d->irqs[index].flags & VFIO_IRQ_INFO_NORESIZE);
	unsigned wanted = vectors_to_arm(d, index, fds, count);

	/* A device has one kind of interrupt at a time. */
	vfio_intx_off(d);
	if (!wanted || (d->armed != wanted && !grows))
		disarm(d, index);
	if (!wanted) {
		vfio_intx_update(d);
		return 0;
	}
	return d->armed ? arm_changed(d, index, fds, wanted, err)
	                : arm_all(d, index, fds, wanted, err);
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
		r = msi_irqfds_create(m, &d->function, d->device.id, d->msi_layout.vectors,
		                      &msi_source, d, &d->msi_irqfds, err);
	if (d->msi_cap && !r)
		r = msi_create(&d->msi_layout, &msi_irqfds_ops, d->msi_irqfds, &d->msi, err);
	if (d->msix_cap && !r)
		r = msi_irqfds_create(m, &d->function, d->device.id, d->msix_layout.vectors,
		                      &msix_source, d, &d->msix_irqfds, err);
	if (d->msix_cap && !r)
		r = msix_create(d->msix_layout.vectors, &msi_irqfds_ops, d->msix_irqfds, &d->msix,
		                err);
	return r;
}

void vfio_intr_probe(struct vfio_pci *d)
{
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		d->irqs[i].count = vfio_irq_count(&d->dev, i, &d->irqs[i].flags);
}

int vfio_intr_init(struct vfio_pci *d, struct gw_error *err)
{
	int r = vfio_intx_init(d, err);

	d->armed_fds = calloc(MAX(d->msi_layout.vectors, d->msix_layout.vectors) + 1, sizeof(int));
	if (!r && !d->armed_fds)
		r = error_set(err, -ENOMEM, "interrupts: out of memory");
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
	free(d->armed_fds);
	d->armed_fds = NULL;
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
	d->armed = 0;
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
