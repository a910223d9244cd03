/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space as the guest sees it: a copy, made from the device's at
 * the beginning, from which the guest is answered. Registers of the device's
 * own (vendor-specific ones, and those outside of all capabilities) are read
 * from it and written to it.
 * Sources: PCI Local Bus 3.0, 6.1, 6.2 and 6.7; PCI Express Base 5.0, 7.5 and 7.9.
 */
#include "vfio/caps.h"
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

#define HEADER_END 0x40
/* Whether errors are reported to the ports above is for whoever owns these: the host. */
#define COMMAND_OF_HOST (PCI_COMMAND_PARITY | PCI_COMMAND_SERR)

/* Registers of the header that the guest may write, beside those that the PCI core handles. */
static const struct {
	unsigned offset, size;
	uint32_t wmask;
} header_masks[] = {
	{ PCI_COMMAND, 2, COMMAND_OF_HOST | PCI_COMMAND_INTX_DISABLE },
	{ PCI_CACHE_LINE_SIZE, 1, 0xff },
	{ PCI_LATENCY_TIMER, 1, 0xff },
	{ PCI_INTERRUPT_LINE, 1, 0xff },
};

/* ---- made --------------------------------------------------------------------------------- */

void vfio_config_pass(struct vfio_pci *d, unsigned offset, unsigned len)
{
	for (unsigned i = offset; i < offset + len; i++)
		d->passed[i / 8] |= (uint8_t)(1u << i % 8);
}

static bool passes(const struct vfio_pci *d, unsigned offset)
{
	return d->passed[offset / 8] >> offset % 8 & 1;
}

void vfio_config_virtualise(struct vfio_pci *d, size_t size)
{
	struct pci_function *f = &d->function;

	if (size < PCI_CONFIG_SIZE)
		memset(f->config + size, 0, PCI_CONFIG_SIZE - size);
	for (size_t i = 0; i < ARRAY_SIZE(header_masks); i++)
		pci_set(f->wmask, header_masks[i].offset, header_masks[i].size,
		        header_masks[i].wmask);
	d->host_command = pci_get(f->config, PCI_COMMAND, 2) & COMMAND_OF_HOST;
	pci_set(f->config, PCI_COMMAND, 2, 0);
	pci_set(f->config, PCI_STATUS, 2,
	        pci_get(f->config, PCI_STATUS, 2) &
	                (PCI_STATUS_CAP_LIST | PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK |
	                 PCI_STATUS_DEVSEL_MASK));
	f->config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_NORMAL;
	f->config[PCI_BIST] = 0; /* a self-test would take the device from under the guest */
	f->config[PCI_INTERRUPT_LINE] = 0;
	pci_set(f->config, PCI_CARDBUS_CIS, 4, 0); /* a pointer into BARs or ROM; nobody reads it */
	pci_set(f->config, PCI_ROM_ADDRESS, 4, 0);
	memset(f->config + PCI_BASE_ADDRESS_0, 0, 4 * PCI_BARS);
	vfio_caps_virtualise(d, size);
	vfio_ecaps_virtualise(d);
}

static void log_caps(const struct vfio_pci *d)
{
	for (unsigned i = 0; i < d->cap_count; i++) {
		const struct vfio_cap *c = &d->caps[i];

		log_debug(d->device.machine->log,
		          "device %s: capability 0x%02x at 0x%x (%s): %s; %s", d->device.id, c->id,
		          c->at, c->name, c->shown ? "shown" : "hidden", c->why);
	}
}

int vfio_config_init(struct vfio_pci *d, struct gw_error *err)
{
	const struct vfio_region *r = &d->dev.regions[VFIO_PCI_CONFIG_REGION_INDEX];
	size_t size = MIN(r->size, PCI_CONFIG_SIZE);
	uint8_t *config = d->function.config;
	int ret;

	if (size < HEADER_END)
		return error_set(err, -ENOTSUP, "%s: configuration space of %zu bytes", d->dev.name,
		                 size);
	ret = vfio_region_read(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, config, size);
	if (ret < 0)
		return error_set_sys(err, ret, "%s: reading configuration space", d->dev.name);
	if ((config[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK) != PCI_HEADER_TYPE_NORMAL)
		return error_set(err, -ENOTSUP, "%s: a bridge; only endpoints are passed through",
		                 d->dev.name);
	vfio_config_virtualise(d, size);
	log_caps(d);
	return 0;
}

/* ---- reads ---------------------------------------------------------------------------------- */

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
	return reg_size && offset < reg + reg_size && reg < offset + size;
}

static int read_device(struct vfio_pci *d, unsigned offset, void *bytes, unsigned size)
{
	return vfio_region_read(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size);
}

/* What is the device's is read anew. The copy stays at the last that was known. */
static void refresh(struct vfio_pci *d, unsigned offset, unsigned size)
{
	uint8_t *config = d->function.config;
	uint8_t bytes[4];
	bool any = false;

	for (unsigned i = 0; i < size; i++)
		any |= passes(d, offset + i);
	if (!any || !vfio_pci_reachable(d) || read_device(d, offset, bytes, size) < 0)
		return;
	for (unsigned i = 0; i < size; i++)
		if (passes(d, offset + i))
			config[offset + i] = bytes[i];
}

/* Whether it asserts INTx at this moment (PCI 3.0, 6.2.3). */
static void refresh_status(struct vfio_pci *d)
{
	uint8_t *config = d->function.config;
	uint8_t bytes[2];
	uint32_t bit;

	if (!d->intx.count || !vfio_pci_reachable(d) || read_device(d, PCI_STATUS, bytes, 2) < 0)
		return;
	bit = pci_get(bytes, 0, 2) & PCI_STATUS_INTERRUPT;
	pci_set(config, PCI_STATUS, 2,
	        (pci_get(config, PCI_STATUS, 2) & ~(uint32_t)PCI_STATUS_INTERRUPT) | bit);
}

bool vfio_config_read(struct pci_function *f, unsigned offset, unsigned size, uint32_t *value)
{
	struct vfio_pci *d = vfio_pci_of(f);

	if (d->msi_cap && d->msi_layout.pending_offset &&
	    offset == d->msi_cap + d->msi_layout.pending_offset && size == 4) {
		*value = msi_pending(d->msi);
		return true;
	}
	if (touches(offset, size, PCI_STATUS, 2))
		refresh_status(d);
	refresh(d, offset, size);
	return false;
}

/* ---- writes --------------------------------------------------------------------------------- */

/* Has a bit of the byte `reg` been written as 1? */
static bool byte_has(unsigned reg, uint32_t bit, unsigned offset, unsigned size, uint32_t value)
{
	return offset <= reg && reg < offset + size && (value >> (reg - offset) * 8 & bit);
}

/* The guest's function-level reset, by PCI Express or by Advanced Features. */
static bool is_flr(const struct vfio_pci *d, unsigned offset, unsigned size, uint32_t value)
{
	unsigned exp = d->pcie_cap + PCI_EXP_DEVCTL, af = d->af_cap + PCI_AF_CTRL;

	if (d->pcie_cap &&
	    (pci_get(d->function.config, d->pcie_cap + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR) &&
	    byte_has(exp + 1, PCI_EXP_DEVCTL_BCR_FLR >> 8, offset, size, value))
		return true;
	return d->af_cap && byte_has(af, PCI_AF_CTRL_FLR, offset, size, value);
}

/* A guest that wrote vital product data would alter the card for good. */
static bool writes_vpd(const struct vfio_pci *d, unsigned offset, unsigned size, uint32_t value)
{
	if (!d->vpd_cap)
		return false;
	return touches(offset, size, d->vpd_cap + PCI_VPD_DATA, 4) ||
	       byte_has(d->vpd_cap + PCI_VPD_ADDR + 1, PCI_VPD_ADDR_F >> 8, offset, size, value);
}

static void write_device(struct vfio_pci *d, unsigned offset, const uint8_t *bytes, unsigned size)
{
	vfio_region_write(&d->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size);
}

bool vfio_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	struct vfio_pci *d = vfio_pci_of(f);
	unsigned passed = 0;
	uint8_t bytes[4];

	if (is_flr(d, offset, size, value)) {
		vfio_pci_flr(d);
		return true;
	}
	for (unsigned i = 0; i < size; i++)
		passed += passes(d, offset + i);
	if (!passed || !vfio_pci_reachable(d) || writes_vpd(d, offset, size, value))
		return false;
	pci_set(bytes, 0, 4, value);
	if (passed == size) {
		write_device(d, offset, bytes, size);
		return false;
	}
	for (unsigned i = 0; i < size; i++)
		if (passes(d, offset + i))
			write_device(d, offset + i, bytes + i, 1);
	return false;
}

void vfio_config_push_command(struct vfio_pci *d)
{
	uint32_t guests = pci_get(d->function.config, PCI_COMMAND, 2);
	uint8_t bytes[2];

	if (!pci_is_master(&d->function))
		guests &= ~(uint32_t)PCI_COMMAND_MASTER;
	pci_set(bytes, 0, 2,
	        (guests & ~(uint32_t)COMMAND_OF_HOST) | d->host_command | PCI_COMMAND_MEMORY |
	                PCI_COMMAND_IO);
	write_device(d, PCI_COMMAND, bytes, 2);
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
