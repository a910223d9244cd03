/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/quirks.h"

#include "base/util.h"

#include <linux/pci_regs.h>

#define CLASS_DISPLAY 0x03

enum quirk_kind { QUIRK_PBA_OFFSET, QUIRK_CONFIG_MIRROR };

static const struct quirk {
	uint16_t vendor, device, device_mask;
	uint8_t class, class_mask; /* base class */
	enum quirk_kind kind;
	uint8_t bar;
	uint32_t offset;
	const char *why;
} quirks[] = {
	{ 0x1425, 0x5800, 0xff00, 0, 0, QUIRK_PBA_OFFSET, 0, 0x1000,
	  "Chelsio T5 virtual functions: the capability says that the pending bits are behind the "
	  "end of their BAR, which is 8 KiB large and has them at 0x1000" },
	{ 0x10de, 0, 0, CLASS_DISPLAY, 0xff, QUIRK_CONFIG_MIRROR, 0, 0x88000,
	  "NVIDIA GPUs show their configuration space in BAR 0 too, and their drivers use it: they "
	  "would find the host's BAR addresses and MSI messages, and write over them" },
};

static bool matches(const struct vfio_pci *d, const struct quirk *q)
{
	const uint8_t *c = d->function.config;

	return pci_get(c, PCI_VENDOR_ID, 2) == q->vendor &&
	       (pci_get(c, PCI_DEVICE_ID, 2) & q->device_mask) == q->device &&
	       (c[PCI_CLASS_DEVICE + 1] & q->class_mask) == q->class;
}

static const struct quirk *next_of(const struct vfio_pci *d, enum quirk_kind kind,
                                   const struct quirk *q)
{
	for (q = q ? q + 1 : quirks; q < quirks + ARRAY_SIZE(quirks); q++)
		if (q->kind == kind && matches(d, q))
			return q;
	return NULL;
}

void vfio_quirk_msix(struct vfio_pci *d)
{
	const struct quirk *q = next_of(d, QUIRK_PBA_OFFSET, NULL);

	if (!q)
		return;
	d->msix_layout.pba_offset = q->offset;
	pci_set(d->function.config, d->msix_cap + PCI_MSIX_PBA, 4,
	        d->msix_layout.pba_bar | q->offset);
}

/* As large as what is mirrored, and there at all. */
static uint64_t mirror_size(const struct vfio_pci *d, const struct quirk *q)
{
	uint64_t size = d->dev.regions[q->bar].size;

	return q->offset < size ? MIN(size - q->offset, (uint64_t)PCI_CONFIG_SIZE) : 0;
}

void vfio_quirk_cut_mirrors(struct vfio_pci *d)
{
	for (const struct quirk *q = NULL; (q = next_of(d, QUIRK_CONFIG_MIRROR, q));)
		if (mirror_size(d, q))
			vfio_region_cut(&d->dev.regions[q->bar], q->offset, mirror_size(d, q));
}

bool vfio_quirk_in_mirror(const struct vfio_pci *d, unsigned bar, uint64_t offset, unsigned size,
                          unsigned *config)
{
	for (const struct quirk *q = NULL; (q = next_of(d, QUIRK_CONFIG_MIRROR, q));) {
		uint64_t len = mirror_size(d, q);

		if (q->bar != bar || offset < q->offset || offset - q->offset >= len ||
		    size > len - (offset - q->offset))
			continue;
		*config = (unsigned)(offset - q->offset);
		return true;
	}
	return false;
}
