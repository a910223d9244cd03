/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities of the extended configuration space.
 * Source: PCI Express Base 5.0, 7.6.3 (headers), 7.7 to 7.9.
 */
#include "vfio/caps.h"

#include "base/util.h"

#include <linux/pci_regs.h>
#include <string.h>

#define FIRST ((unsigned)PCI_CFG_SPACE_SIZE)
#define ECAP_VF_REBAR 0x24
#define ECAP_IDE 0x30
#define HEADER_KEPT 0xfffffu /* id and version: without the link */

/* Resizable BAR: a pair of registers for each BAR (7.8.6). */
#define REBAR_CAP(n) (4 + (n)*8)
#define REBAR_CTRL(n) (8 + (n)*8)
#define REBAR_INDEX 0x7u
#define REBAR_COUNT_SHIFT 5
#define REBAR_COUNT 0x7u
#define REBAR_SIZE_SHIFT 8
#define REBAR_SIZE 0x3fu
#define REBAR_LOW_SIZES                                                                            \
	28 /* of 1 MiB and up in the first register, from bit 4; more in the second */

static unsigned show_dsn(struct vfio_pci *d, unsigned at, unsigned room)
{
	(void)d;
	(void)at;
	return room >= PCI_EXT_CAP_DSN_SIZEOF ? PCI_EXT_CAP_DSN_SIZEOF : 0;
}

static unsigned show_vsec(struct vfio_pci *d, unsigned at, unsigned room)
{
	unsigned len = room >= 8 ? pci_get(d->function.config, at + PCI_VNDR_HEADER, 4) >> 20 : 0;

	if (len < 8 || len > room)
		return 0;
	vfio_config_pass(d, at + 8, len - 8);
	return len;
}

/* One BAR's pair: the size that it has is the only one there is. */
static void fix_size(uint8_t *config, unsigned at, unsigned n)
{
	uint32_t ctrl = pci_get(config, at + REBAR_CTRL(n), 4);
	unsigned size = ctrl >> REBAR_SIZE_SHIFT & REBAR_SIZE;
	uint32_t kept = REBAR_INDEX | REBAR_SIZE << REBAR_SIZE_SHIFT;

	if (n == 0)
		kept |= REBAR_COUNT << REBAR_COUNT_SHIFT;
	ctrl &= kept;
	if (size >= REBAR_LOW_SIZES && size < REBAR_LOW_SIZES + 16)
		ctrl |= 1u << (size - REBAR_LOW_SIZES + 16);
	pci_set(config, at + REBAR_CAP(n), 4, size < REBAR_LOW_SIZES ? 1u << (size + 4) : 0);
	pci_set(config, at + REBAR_CTRL(n), 4, ctrl);
}

static unsigned show_rebar(struct vfio_pci *d, unsigned at, unsigned room)
{
	uint8_t *config = d->function.config;
	unsigned count, len;

	if (room < REBAR_CAP(1))
		return 0;
	count = pci_get(config, at + REBAR_CTRL(0), 4) >> REBAR_COUNT_SHIFT & REBAR_COUNT;
	len = 4 + count * 8;
	if (!count || count > PCI_BARS || len > room)
		return 0;
	for (unsigned n = 0; n < count; n++)
		fix_size(config, at, n);
	return len;
}

static const struct vfio_cap_rule rules[] = {
	{ PCI_EXT_CAP_ID_DSN, "serial number", show_dsn, "read-only" },
	{ PCI_EXT_CAP_ID_VNDR, "vendor-specific", show_vsec, "the device's own registers" },
	{ PCI_EXT_CAP_ID_REBAR, "resizable BAR", show_rebar,
	  "with one size, which the host has chosen; a BAR keeps it while a guest has the device" },
	{ PCI_EXT_CAP_ID_ERR, "advanced error reporting", NULL,
	  "no root port or event collector is above it that could report; a device that the host "
	  "finds in error is taken away instead" },
	{ PCI_EXT_CAP_ID_VC, "virtual channel", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_VC9, "virtual channel", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_MFVC, "multi-function virtual channel", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_PWR, "power budgeting", NULL, "the host's power" },
	{ PCI_EXT_CAP_ID_RCLD, "root complex link", NULL, "the host's root complex" },
	{ PCI_EXT_CAP_ID_RCILC, "root complex link", NULL, "the host's root complex" },
	{ PCI_EXT_CAP_ID_RCEC, "event collector", NULL, "the host's root complex" },
	{ PCI_EXT_CAP_ID_RCRB, "root complex registers", NULL, "the host's root complex" },
	{ PCI_EXT_CAP_ID_ACS, "access control", NULL,
	  "keeps devices of the host apart; not the guest's to switch off" },
	{ PCI_EXT_CAP_ID_ARI, "alternative routing", NULL,
	  "would give another meaning to the function's number, which is the guest's own" },
	{ PCI_EXT_CAP_ID_ATS, "address translation", NULL,
	  "needs an IOMMU that the guest programs" },
	{ PCI_EXT_CAP_ID_PRI, "page requests", NULL, "needs an IOMMU that the guest programs" },
	{ PCI_EXT_CAP_ID_PASID, "process address spaces", NULL,
	  "needs an IOMMU that the guest programs" },
	{ PCI_EXT_CAP_ID_SRIOV, "SR-IOV", NULL,
	  "functions made by a guest would be outside of its IOMMU group's hands" },
	{ PCI_EXT_CAP_ID_MRIOV, "MR-IOV", NULL, "the host's fabric" },
	{ PCI_EXT_CAP_ID_MCAST, "multicast", NULL, "the host's fabric" },
	{ PCI_EXT_CAP_ID_DPA, "dynamic power", NULL, "the host's power" },
	{ PCI_EXT_CAP_ID_TPH, "processing hints", NULL, "name caches of the host's CPUs" },
	{ PCI_EXT_CAP_ID_LTR, "latency tolerance", NULL, "is told to the host's platform" },
	{ PCI_EXT_CAP_ID_SECPCI, "secondary PCI Express", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_PMUX, "protocol multiplexing", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_DPC, "downstream port containment", NULL, "only ports have it" },
	{ PCI_EXT_CAP_ID_L1SS, "L1 substates", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_PTM, "precision time", NULL,
	  "needs the host's root complex as its master" },
	{ PCI_EXT_CAP_ID_DLF, "data link feature", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_PL_16GT, "physical layer 16 GT/s", NULL, "the host's link" },
	{ PCI_EXT_CAP_ID_DVSEC, "designated vendor-specific", NULL,
	  "much of what stands there, CXL's above all, describes the host's topology" },
	{ ECAP_VF_REBAR, "VF resizable BAR", NULL, "belongs to SR-IOV" },
	{ PCI_EXT_CAP_ID_DOE, "data object exchange", NULL,
	  "a mailbox by which the host attests the device" },
	{ ECAP_IDE, "link encryption", NULL, "the host's link and keys" },
};

/* A capability of zeros or ones ends it. */
static void walk(const uint8_t *config, struct vfio_cap_chain *chain)
{
	unsigned at = FIRST;

	while (at >= FIRST && at + 4 <= chain->end) {
		uint32_t header = pci_get(config, at, 4);

		if (!header || header == UINT32_MAX || !vfio_cap_chain_add(chain, at))
			return;
		at = PCI_EXT_CAP_NEXT(header);
	}
}

/* An empty one, which only leads on, is none. */
static unsigned show_or_hide(struct vfio_pci *d, unsigned at, unsigned room)
{
	uint16_t id = (uint16_t)PCI_EXT_CAP_ID(pci_get(d->function.config, at, 4));

	return id ? vfio_cap_decide(d, rules, ARRAY_SIZE(rules), id, true, at, room) : 0;
}

/* Nothing is left but what is shown: there are no registers outside of capabilities here. */
void vfio_ecaps_virtualise(struct vfio_pci *d)
{
	uint8_t *config = d->function.config;
	uint8_t out[PCI_CONFIG_SIZE] = { 0 };
	struct vfio_cap_chain chain = { .end = PCI_CONFIG_SIZE };
	unsigned link = FIRST;

	walk(config, &chain);
	for (unsigned i = 0; i < chain.count; i++) {
		unsigned at = chain.at[i], len = show_or_hide(d, at, vfio_cap_room(&chain, at));

		if (!len)
			continue;
		memcpy(out + at, config + at, len);
		pci_set(out, at, 4, pci_get(out, at, 4) & HEADER_KEPT);
		/* The first has to be at 0x100: an empty one that leads to ours, if need be. */
		if (at != FIRST)
			pci_set(out, link, 4, (pci_get(out, link, 4) & HEADER_KEPT) | at << 20);
		link = at;
	}
	memcpy(config + FIRST, out + FIRST, PCI_CONFIG_SIZE - FIRST);
}
