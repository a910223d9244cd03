/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration space as a device, or a server that plays one, may hand it over: lists in
 * circles, capabilities that reach over the end or into each other. What becomes of it has lists
 * that end.
 */
#include "base/util.h"
#include "vfio/vfio_pci.h"

#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define HOPS 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct vfio_pci *d)
{
	const uint8_t *c = d->function.config;
	unsigned hops = 0, at;

	for (at = c[PCI_CAPABILITY_LIST]; at; at = c[at + 1])
		if (at < 0x40 || at > 0xfc || ++hops > HOPS)
			abort();
	for (at = 0x100; at; at = PCI_EXT_CAP_NEXT(pci_get(c, at, 4)))
		if (at < 0x100 || at > 0xffc || ++hops > HOPS)
			abort();
	for (unsigned i = 0; i < 0x40 / 8; i++)
		if (d->passed[i])
			abort();
	if (d->msix_cap && d->msix_layout.vectors > d->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count)
		abort();
}

/* The first byte says how much of it there is and how many interrupts. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfio_pci *d;

	if (size < 0x42)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return 0;
	d->dev.can_reset = data[0] & 1;
	d->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = data[0] >> 1 & 3;
	d->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = data[0] >> 3;
	size = MIN(size - 1, (size_t)PCI_CONFIG_SIZE);
	memcpy(d->function.config, data + 1, size);
	vfio_config_virtualise(d, size);
	check(d);
	free(d);
	return 0;
}
