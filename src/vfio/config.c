/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space, virtualised by tables: which registers the guest may
 * write, which capabilities it sees and what is done about each. Everything
 * is answered from a copy but vendor-specific capabilities, which are the
 * device's own.
 * Sources: PCI Local Bus 3.0, 6.1 and 6.7; PCI Express Base 5.0, 7.5 and 7.9.
 */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

#define CAP_HOPS_MAX 48
#define EXP_TYPE_RC_END (PCI_EXP_TYPE_RC_END << 4)
#define HEADER_END 0x40

/* Registers of the header that the guest may write, beside those that the PCI core handles. */
static const struct {
	unsigned offset, size;
	uint32_t wmask;
} header_masks[] = {
	{ PCI_COMMAND, 2, PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE },
	{ PCI_CACHE_LINE_SIZE, 1, 0xff },
	{ PCI_LATENCY_TIMER, 1, 0xff },
	{ PCI_INTERRUPT_LINE, 1, 0xff },
};

/* ---- capabilities ------------------------------------------------------------------------ */

/* The device stays in D0 whatever the guest writes, and so loses nothing on the way back. */
static bool show_pm(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	(void)d;
	pci_set(f->config, at + PCI_PM_PMC, 2,
	        pci_get(f->config, at + PCI_PM_PMC, 2) & ~(uint32_t)PCI_PM_CAP_PME_MASK);
	pci_set(f->config, at + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
	pci_set(f->wmask, at + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
	return true;
}

static bool show_msi(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	if (msi_parse(f->config + at, &d->msi_layout, NULL) < 0 ||
	    at + d->msi_layout.size > PCI_CFG_SPACE_SIZE)
		return false;
	d->msi_cap = at;
	pci_set(f->config, at + PCI_MSI_FLAGS, 2,
	        pci_get(f->config, at + PCI_MSI_FLAGS, 2) &
	                ~(uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE));
	msi_wmask(&d->msi_layout, f->wmask + at);
	return true;
}

static bool show_msix(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	if (at + MSIX_CAP_SIZE > PCI_CFG_SPACE_SIZE ||
	    msix_parse(f->config + at, &d->msix_layout, NULL) < 0)
		return false;
	d->msix_cap = at;
	pci_set(f->config, at + PCI_MSIX_FLAGS, 2,
	        pci_get(f->config, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE);
	msix_wmask(f->wmask + at);
	return true;
}

/* The function sits on the root bus, where only integrated endpoints may be. */
static bool show_pcie(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	uint32_t flags = pci_get(f->config, at + PCI_EXP_FLAGS, 2);

	d->pcie_cap = at;
	pci_set(f->config, at + PCI_EXP_FLAGS, 2,
	        (flags & ~(uint32_t)PCI_EXP_FLAGS_TYPE) | EXP_TYPE_RC_END);
	pci_set(f->wmask, at + PCI_EXP_DEVCTL, 2, 0xffff & ~(uint32_t)PCI_EXP_DEVCTL_BCR_FLR);
	pci_set(f->config, at + PCI_EXP_DEVSTA, 2, 0);
	return true;
}

static bool show_vendor(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	unsigned size = f->config[at + 2];

	if (size < 3 || at + size > PCI_CFG_SPACE_SIZE || d->vendor_cap)
		return false;
	d->vendor_cap = at;
	d->vendor_size = size;
	return true;
}

/* What is not here is hidden: vital product data, slot numbers and the like have no meaning, or
 * a side effect, in a guest. */
static const struct {
	uint8_t id;
	bool (*show)(struct pci_function *f, struct vfio_pci *d, unsigned at);
} shown_caps[] = {
	{ PCI_CAP_ID_PM, show_pm },       { PCI_CAP_ID_MSI, show_msi },
	{ PCI_CAP_ID_MSIX, show_msix },   { PCI_CAP_ID_EXP, show_pcie },
	{ PCI_CAP_ID_VNDR, show_vendor },
};

static bool show_cap(struct pci_function *f, struct vfio_pci *d, unsigned at)
{
	for (size_t i = 0; i < ARRAY_SIZE(shown_caps); i++)
		if (shown_caps[i].id == f->config[at])
			return shown_caps[i].show(f, d, at);
	return false;
}

/* Walks the chain and links past what is hidden. */
static void virtualise_caps(struct pci_function *f, struct vfio_pci *d)
{
	unsigned at = f->config[PCI_CAPABILITY_LIST] & ~3u, link = PCI_CAPABILITY_LIST;

	if (!(pci_get(f->config, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		at = 0;
	for (int hops = 0; at >= HEADER_END && hops < CAP_HOPS_MAX; hops++) {
		unsigned next = f->config[at + 1] & ~3u;

		if (show_cap(f, d, at)) {
			f->config[link] = (uint8_t)at;
			link = at + 1;
		}
		at = next;
	}
	f->config[link] = 0;
	if (link == PCI_CAPABILITY_LIST)
		pci_set(f->config, PCI_STATUS, 2,
		        pci_get(f->config, PCI_STATUS, 2) & ~(uint32_t)PCI_STATUS_CAP_LIST);
}

/* Of the extended capabilities only the serial number is shown. Hidden among others: SR-IOV,
 * resizable BARs, ATS, PRI, PASID (which would need an IOMMU in the guest) and AER. */
static void virtualise_extended(struct pci_function *f)
{
	uint8_t kept[PCI_EXT_CAP_DSN_SIZEOF];
	unsigned at = PCI_CFG_SPACE_SIZE, found = 0;

	for (int hops = 0;
	     at >= PCI_CFG_SPACE_SIZE && at <= PCI_CONFIG_SIZE - sizeof(kept) && hops < 1024;
	     hops++) {
		uint32_t header = pci_get(f->config, at, 4);

		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_DSN) {
			memcpy(kept, f->config + at, sizeof(kept));
			found = at;
			break;
		}
		at = PCI_EXT_CAP_NEXT(header);
	}
	memset(f->config + PCI_CFG_SPACE_SIZE, 0, PCI_CONFIG_SIZE - PCI_CFG_SPACE_SIZE);
	if (!found)
		return;
	/* The first capability has to be at 0x100: an empty one that leads to ours. */
	if (found != PCI_CFG_SPACE_SIZE)
		pci_set(f->config, PCI_CFG_SPACE_SIZE, 4, found << 20);
	memcpy(f->config + found, kept, sizeof(kept));
	pci_set(f->config, found, 4, PCI_EXT_CAP_ID_DSN | 1u << 16);
}

void vfio_config_virtualise(struct pci_function *f, struct vfio_pci *d, size_t size)
{
	if (size < PCI_CONFIG_SIZE)
		memset(f->config + size, 0, PCI_CONFIG_SIZE - size);
	for (size_t i = 0; i < ARRAY_SIZE(header_masks); i++)
		pci_set(f->wmask, header_masks[i].offset, header_masks[i].size,
		        header_masks[i].wmask);
	pci_set(f->config, PCI_COMMAND, 2, 0);
	pci_set(f->config, PCI_STATUS, 2,
	        pci_get(f->config, PCI_STATUS, 2) &
	                (PCI_STATUS_CAP_LIST | PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK |
	                 PCI_STATUS_DEVSEL_MASK));
	f->config[PCI_HEADER_TYPE] &= 0x7f; /* one function */
	f->config[PCI_INTERRUPT_LINE] = 0;
	pci_set(f->config, PCI_ROM_ADDRESS, 4, 0);
	memset(f->config + PCI_BASE_ADDRESS_0, 0, 4 * PCI_BARS);
	virtualise_caps(f, d);
	virtualise_extended(f);
}

int vfio_config_init(struct vfio_pci *d, struct gw_error *err)
{
	const struct vfio_region *r = &d->dev.regions[VFIO_PCI_CONFIG_REGION_INDEX];
	size_t size = MIN(r->size, PCI_CONFIG_SIZE);
	int ret;

	if (size < HEADER_END)
		return error_set(err, -ENOTSUP, "%s: configuration space of %zu bytes", d->dev.name,
		                 size);
	ret = vfio_region_read(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, d->function.config, size);
	if (ret < 0)
		return error_set_sys(err, ret, "%s: reading configuration space", d->dev.name);
	vfio_config_virtualise(&d->function, d, size);
	return 0;
}

/* ---- accesses ------------------------------------------------------------------------------- */

static bool in_vendor_cap(const struct vfio_pci *d, unsigned offset, unsigned size)
{
	/* The first two bytes, number and link, are ours. */
	return d->vendor_cap && offset >= d->vendor_cap + 2 &&
	       offset + size <= d->vendor_cap + d->vendor_size;
}

bool vfio_config_read(struct pci_function *f, unsigned offset, unsigned size, uint32_t *value)
{
	struct vfio_pci *d = vfio_pci_of(f);
	uint8_t bytes[4] = { 0xff, 0xff, 0xff, 0xff };

	if (d->msi_cap && d->msi_layout.pending_offset &&
	    offset == d->msi_cap + d->msi_layout.pending_offset && size == 4) {
		*value = msi_pending(d->msi);
		return true;
	}
	if (!in_vendor_cap(d, offset, size))
		return false;
	vfio_region_read(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size);
	*value = pci_get(bytes, 0, size);
	return true;
}

bool vfio_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	struct vfio_pci *d = vfio_pci_of(f);
	uint8_t bytes[4];

	/* The guest's function-level reset: the device's, and of all that the guest has set. */
	if (d->pcie_cap && offset <= d->pcie_cap + PCI_EXP_DEVCTL + 1 &&
	    offset + size > d->pcie_cap + PCI_EXP_DEVCTL + 1) {
		uint32_t shift = (d->pcie_cap + PCI_EXP_DEVCTL + 1 - offset) * 8;

		if (value >> shift & (PCI_EXP_DEVCTL_BCR_FLR >> 8)) {
			f->ops->reset(f);
			return true;
		}
	}
	if (!in_vendor_cap(d, offset, size))
		return false;
	pci_set(bytes, 0, size, value);
	vfio_region_write(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size);
	return true;
}

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
	return reg_size && offset < reg + reg_size && reg < offset + size;
}

void vfio_config_push_command(struct vfio_pci *d)
{
	uint8_t bytes[2];

	pci_set(bytes, 0, 2,
	        pci_get(d->function.config, PCI_COMMAND, 2) | PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	vfio_region_write(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, bytes, 2);
}

void vfio_config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct vfio_pci *d = vfio_pci_of(f);

	if (touches(offset, size, PCI_COMMAND, 2)) {
		vfio_config_push_command(d);
		vfio_intx_update(d);
	}
	if (d->msi && touches(offset, size, d->msi_cap, d->msi_layout.size))
		msi_update(d->msi, f->config + d->msi_cap);
	if (d->msix && touches(offset, size, d->msix_cap, MSIX_CAP_SIZE))
		msix_update(d->msix, f->config + d->msix_cap);
}
