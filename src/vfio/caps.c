/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities of the first 256 bytes.
 * Sources: PCI Local Bus 3.0, 6.7, 6.8 and appendices H and I; PCI Bus Power Management 1.2, 3.2;
 * PCI Express Base 5.0, 7.5.3 and 7.9; Advanced Capabilities for Conventional PCI, 1.
 */
#include "vfio/caps.h"
#include "vfio/quirks.h"

#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

#define HEADER_END 0x40u
#define EXP_TYPE_RC_END (PCI_EXP_TYPE_RC_END << 4)
#define EXP_SIZE_V1 0x14u
#define EXP_SIZE_V2 0x3cu
#define EXP_DEVCAP2_SHOWN 0x1fu /* completion timeout: ranges, disable */
#define VPD_SIZE 8u
#define SATA_SIZE 8u
#define AF_SIZE 6u

/* ---- rules -------------------------------------------------------------------------------- */

static unsigned show_pm(struct vfio_pci *d, unsigned at, unsigned room)
{
	struct pci_function *f = &d->function;

	if (room < PCI_PM_SIZEOF || f->pm_cap)
		return 0;
	pci_set(f->config, at + PCI_PM_PMC, 2,
	        pci_get(f->config, at + PCI_PM_PMC, 2) & ~(uint32_t)PCI_PM_CAP_PME_MASK);
	pci_set(f->config, at + PCI_PM_CTRL, 4, PCI_PM_CTRL_NO_SOFT_RESET);
	pci_set(f->wmask, at + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
	f->pm_cap = (uint8_t)at;
	return PCI_PM_SIZEOF;
}

/* A power of two that the host can give. */
static unsigned msi_vectors(unsigned capable, unsigned there)
{
	while (capable > there)
		capable /= 2;
	return capable;
}

static unsigned show_msi(struct vfio_pci *d, unsigned at, unsigned room)
{
	struct pci_function *f = &d->function;
	struct msi_layout *l = &d->msi_layout;
	uint32_t flags = pci_get(f->config, at + PCI_MSI_FLAGS, 2);
	unsigned vectors, log2 = 0;

	if (d->msi_cap || room < MSI_CAP_SIZE_MAX - 14 || msi_parse(f->config + at, l, NULL) < 0 ||
	    room < l->size)
		return 0;
	vectors = msi_vectors(l->vectors, d->irqs[VFIO_PCI_MSI_IRQ_INDEX].count);
	if (!vectors)
		return 0;
	while (1u << log2 < vectors)
		log2++;
	flags &= ~(uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_QMASK);
	pci_set(f->config, at + PCI_MSI_FLAGS, 2, flags | log2 << 1);
	memset(f->config + at + PCI_MSI_ADDRESS_LO, 0, l->size - PCI_MSI_ADDRESS_LO);
	l->vectors = vectors;
	d->msi_cap = at;
	msi_wmask(l, f->wmask + at);
	return l->size;
}

static unsigned show_msix(struct vfio_pci *d, unsigned at, unsigned room)
{
	struct pci_function *f = &d->function;
	uint32_t last = pci_get(f->config, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE;
	unsigned there = d->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count;

	if (d->msix_cap || room < MSIX_CAP_SIZE || !there)
		return 0;
	pci_set(f->config, at + PCI_MSIX_FLAGS, 2, MIN(last, there - 1));
	if (msix_parse(f->config + at, &d->msix_layout, NULL) < 0)
		return 0;
	d->msix_cap = at;
	vfio_quirk_msix(d);
	msix_wmask(f->wmask + at);
	return MSIX_CAP_SIZE;
}

/* Registers of a link, a slot or a root, which an integrated endpoint does not have. */
static const struct {
	uint8_t offset, size;
} not_integrated[] = {
	{ PCI_EXP_LNKCAP, 4 },  { PCI_EXP_LNKCTL, 4 },  { PCI_EXP_SLTCAP, 4 },
	{ PCI_EXP_SLTCTL, 4 },  { PCI_EXP_RTCTL, 4 },   { PCI_EXP_RTSTA, 4 },
	{ PCI_EXP_LNKCAP2, 4 }, { PCI_EXP_LNKCTL2, 4 }, { PCI_EXP_SLTCAP2, 8 },
};

static unsigned show_pcie(struct vfio_pci *d, unsigned at, unsigned room)
{
	struct pci_function *f = &d->function;
	uint32_t flags, devcap;
	/* Some devices say version 2 and end before it does. */
	unsigned size = MIN(room, EXP_SIZE_V2);

	if (d->pcie_cap || room < EXP_SIZE_V1)
		return 0;
	flags = pci_get(f->config, at + PCI_EXP_FLAGS, 2);
	if ((flags & PCI_EXP_FLAGS_VERS) < 2)
		size = EXP_SIZE_V1;
	pci_set(f->config, at + PCI_EXP_FLAGS, 2,
	        (flags & PCI_EXP_FLAGS_VERS) | (uint32_t)EXP_TYPE_RC_END);
	devcap = pci_get(f->config, at + PCI_EXP_DEVCAP, 4);
	/* The host resets the function alone, be it in another way than by FLR. */
	devcap &= ~(uint32_t)PCI_EXP_DEVCAP_FLR;
	if (d->dev.can_reset)
		devcap |= PCI_EXP_DEVCAP_FLR;
	pci_set(f->config, at + PCI_EXP_DEVCAP, 4, devcap);
	pci_set(f->wmask, at + PCI_EXP_DEVCTL, 2, 0xffff & ~PCI_EXP_DEVCTL_BCR_FLR);
	pci_set(f->config, at + PCI_EXP_DEVSTA, 2, 0);
	for (size_t i = 0; i < ARRAY_SIZE(not_integrated); i++)
		if (not_integrated[i].offset + not_integrated[i].size <= size)
			memset(f->config + at + not_integrated[i].offset, 0,
			       not_integrated[i].size);
	if (size >= PCI_EXP_DEVSTA2 + 2) {
		pci_set(f->config, at + PCI_EXP_DEVCAP2, 4,
		        pci_get(f->config, at + PCI_EXP_DEVCAP2, 4) & EXP_DEVCAP2_SHOWN);
		pci_set(f->config, at + PCI_EXP_DEVCTL2, 4, 0);
		pci_set(f->wmask, at + PCI_EXP_DEVCTL2, 2, EXP_DEVCAP2_SHOWN);
	}
	d->pcie_cap = at;
	return size;
}

static unsigned show_vendor(struct vfio_pci *d, unsigned at, unsigned room)
{
	unsigned size = room >= 3 ? d->function.config[at + 2] : 0;

	if (size < 3 || size > room)
		return 0;
	/* The first two bytes, number and link, are ours. */
	vfio_config_pass(d, at + 2, size - 2);
	return size;
}

static unsigned show_vpd(struct vfio_pci *d, unsigned at, unsigned room)
{
	if (d->vpd_cap || room < VPD_SIZE)
		return 0;
	d->vpd_cap = at;
	vfio_config_pass(d, at + PCI_VPD_ADDR, VPD_SIZE - PCI_VPD_ADDR);
	return VPD_SIZE;
}

static unsigned show_sata(struct vfio_pci *d, unsigned at, unsigned room)
{
	(void)d;
	(void)at;
	return room >= SATA_SIZE ? SATA_SIZE : 0;
}

static unsigned show_af(struct vfio_pci *d, unsigned at, unsigned room)
{
	uint8_t *config = d->function.config;

	if (room < AF_SIZE || d->af_cap || !d->dev.can_reset)
		return 0;
	if (!(config[at + PCI_AF_CAP] & PCI_AF_CAP_FLR))
		return 0;
	/* Drivers want to be told of pending transactions too: there are none, as AF_STATUS stays
	 * 0, when the host's reset has returned. */
	config[at + PCI_AF_CAP] = PCI_AF_CAP_TP | PCI_AF_CAP_FLR;
	pci_set(config, at + PCI_AF_CTRL, 2, 0);
	d->af_cap = at;
	return AF_SIZE;
}

static const struct vfio_cap_rule rules[] = {
	{ PCI_CAP_ID_PM, "power management", show_pm,
	  "the device stays in D0 whatever the guest asks for, and so loses nothing on the way "
	  "back; "
	  "no PME, which has nowhere to go" },
	{ PCI_CAP_ID_MSI, "MSI", show_msi,
	  "delivered by the kernel, as many vectors as the host has" },
	{ PCI_CAP_ID_MSIX, "MSI-X", show_msix,
	  "delivered by the kernel, as many vectors as the host has" },
	{ PCI_CAP_ID_EXP, "PCI Express", show_pcie,
	  "as an integrated endpoint, which is what may be on a root bus; its link is the host's; "
	  "function-level reset wherever the host can reset the function alone" },
	{ PCI_CAP_ID_VNDR, "vendor-specific", show_vendor, "the device's own registers" },
	{ PCI_CAP_ID_VPD, "vital product data", show_vpd,
	  "read from the device; not written, since it would outlast the guest" },
	{ PCI_CAP_ID_AF, "advanced features", show_af, "its function-level reset" },
	{ PCI_CAP_ID_SATA, "SATA", show_sata, "read-only; says where registers are in a BAR" },
	{ PCI_CAP_ID_AGP, "AGP", NULL, "there is no AGP bridge above it" },
	{ PCI_CAP_ID_SLOTID, "slot identification", NULL, "the host's chassis" },
	{ PCI_CAP_ID_CHSWP, "CompactPCI hot swap", NULL, "the host's slot" },
	{ PCI_CAP_ID_PCIX, "PCI-X", NULL, "the host's bus; the guest's is PCI Express" },
	{ PCI_CAP_ID_HT, "HyperTransport", NULL, "the host's links" },
	{ PCI_CAP_ID_DBG, "debug port", NULL, "belongs to whoever debugs the host" },
	{ PCI_CAP_ID_SHPC, "hot-plug controller", NULL, "the host's slots" },
	{ PCI_CAP_ID_SSVID, "bridge subsystem", NULL, "bridges are not passed through" },
	{ PCI_CAP_ID_EA, "enhanced allocation", NULL,
	  "would name fixed addresses of the host; BARs are there in its place" },
};

/* ---- what both lists share ---------------------------------------------------------------- */

static const struct vfio_cap_rule *find_rule(const struct vfio_cap_rule *table, size_t count,
                                             uint16_t id)
{
	static const struct vfio_cap_rule unknown = { 0, "unknown", NULL, "not known to be safe" };

	for (size_t i = 0; i < count; i++)
		if (table[i].id == id)
			return &table[i];
	return &unknown;
}

unsigned vfio_cap_decide(struct vfio_pci *d, const struct vfio_cap_rule *table, size_t count,
                         uint16_t id, bool extended, unsigned at, unsigned room)
{
	const struct vfio_cap_rule *rule = find_rule(table, count, id);
	unsigned len = rule->show ? rule->show(d, at, room) : 0;

	if (d->cap_count < ARRAY_SIZE(d->caps))
		d->caps[d->cap_count++] = (struct vfio_cap){
			.id = id,
			.at = (uint16_t)at,
			.extended = extended,
			.shown = len,
			.name = rule->name,
			.why = rule->why,
		};
	return len;
}

bool vfio_cap_chain_add(struct vfio_cap_chain *chain, unsigned at)
{
	for (unsigned i = 0; i < chain->count; i++)
		if (chain->at[i] == at)
			return false;
	if (chain->count == ARRAY_SIZE(chain->at))
		return false;
	chain->at[chain->count++] = (uint16_t)at;
	return true;
}

unsigned vfio_cap_room(const struct vfio_cap_chain *chain, unsigned at)
{
	unsigned end = chain->end;

	for (unsigned i = 0; i < chain->count; i++)
		if (chain->at[i] > at)
			end = MIN(end, (unsigned)chain->at[i]);
	return end - at;
}

/* ---- the list of the first 256 bytes ------------------------------------------------------- */

/* One that leads into the header ends it. */
static void walk(const uint8_t *config, struct vfio_cap_chain *chain)
{
	unsigned at = config[PCI_CAPABILITY_LIST] & ~3u;

	if (!(pci_get(config, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return;
	while (at >= HEADER_END && at + 2 <= chain->end && vfio_cap_chain_add(chain, at))
		at = config[at + 1] & ~3u;
}

/* What is shown is followed by registers that belong to no capability, the device's own; what is
 * hidden reads as zeros up to the next. */
static bool show_or_hide(struct vfio_pci *d, unsigned at, unsigned room)
{
	uint8_t *config = d->function.config;
	unsigned len = vfio_cap_decide(d, rules, ARRAY_SIZE(rules), config[at], false, at, room);

	if (len)
		vfio_config_pass(d, at + len, room - len);
	else
		memset(config + at, 0, room);
	return len;
}

void vfio_caps_virtualise(struct vfio_pci *d, size_t size)
{
	struct pci_function *f = &d->function;
	struct vfio_cap_chain chain = { .end = (unsigned)MIN(size, (size_t)PCI_CFG_SPACE_SIZE) };
	unsigned link = PCI_CAPABILITY_LIST;

	walk(f->config, &chain);
	vfio_config_pass(d, HEADER_END, vfio_cap_room(&chain, HEADER_END - 1) - 1);
	for (unsigned i = 0; i < chain.count; i++) {
		const unsigned at = chain.at[i];

		if (!show_or_hide(d, at, vfio_cap_room(&chain, at)))
			continue;
		f->config[link] = (uint8_t)at;
		link = at + 1;
	}
	f->config[link] = 0;
	if (link == PCI_CAPABILITY_LIST)
		pci_set(f->config, PCI_STATUS, 2,
		        pci_get(f->config, PCI_STATUS, 2) & ~(uint32_t)PCI_STATUS_CAP_LIST);
}
