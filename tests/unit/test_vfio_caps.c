/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration spaces as cards have them, and what a guest is shown. */
#include "fake_pci.h"

#include "vfio/quirks.h"
#include "vfio/vfio.h"
#include "vfio/vfio_pci.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

struct card {
	uint8_t config[PCI_CONFIG_SIZE];
	uint16_t last; /* of the extended list */
};

static void add_cap(struct card *c, uint8_t at, uint8_t id, uint16_t flags)
{
	unsigned link = PCI_CAPABILITY_LIST;

	while (c->config[link])
		link = c->config[link] + 1u;
	c->config[link] = at;
	pci_set(c->config, at, 4, (uint32_t)flags << 16 | id);
	pci_set(c->config, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
}

static void add_ecap(struct card *c, uint16_t at, uint16_t id)
{
	pci_set(c->config, at, 4, 1u << 16 | id);
	if (c->last)
		pci_set(c->config, c->last, 4,
		        (pci_get(c->config, c->last, 4) & 0xfffff) | (uint32_t)at << 20);
	c->last = at;
}

static struct card *new_card(uint32_t ids, uint32_t class)
{
	struct card *c = calloc(1, sizeof(*c));

	cr_assert(c);
	pci_set(c->config, 0, 4, ids);
	pci_set(c->config, PCI_CLASS_REVISION, 4, class << 8);
	return c;
}

static struct vfio_pci *shown(struct card *c)
{
	struct vfio_pci *d = calloc(1, sizeof(*d));

	cr_assert(d);
	memcpy(d->function.config, c->config, PCI_CONFIG_SIZE);
	free(c);
	d->dev.can_reset = true;
	d->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 32;
	d->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 2048;
	for (unsigned i = 0; i < PCI_BARS; i++)
		d->dev.regions[i].size = 16 * MIB;
	vfio_config_virtualise(d, PCI_CONFIG_SIZE);
	return d;
}

static unsigned find(const struct vfio_pci *d, uint8_t id)
{
	const uint8_t *c = d->function.config;
	unsigned n = 0;

	for (unsigned at = c[PCI_CAPABILITY_LIST]; at; at = c[at + 1]) {
		cr_assert_lt(n++, 48, "it ends");
		if (c[at] == id)
			return at;
	}
	return 0;
}

static unsigned find_extended(const struct vfio_pci *d, uint16_t id)
{
	unsigned n = 0;

	for (unsigned at = 0x100; at;) {
		uint32_t header = pci_get(d->function.config, at, 4);

		cr_assert_lt(n++, 64, "it ends");
		if (PCI_EXT_CAP_ID(header) == id)
			return at;
		at = PCI_EXT_CAP_NEXT(header);
	}
	return 0;
}

static bool passes(const struct vfio_pci *d, unsigned offset)
{
	return d->passed[offset / 8] >> offset % 8 & 1;
}

static const struct vfio_cap *decided(const struct vfio_pci *d, uint16_t id, bool extended)
{
	for (unsigned i = 0; i < d->cap_count; i++)
		if (d->caps[i].id == id && d->caps[i].extended == extended)
			return &d->caps[i];
	return NULL;
}

/* An igb virtual function: MSI-X in BAR 3, FLR, no pin. */
Test(vfio_caps, an_igb_virtual_function)
{
	struct card *c = new_card(0x10ca8086, 0x020000);
	struct vfio_pci *d;

	add_cap(c, 0x70, PCI_CAP_ID_MSIX, 0x0002);
	pci_set(c->config, 0x74, 4, 0x00000003);
	pci_set(c->config, 0x78, 4, 0x00002003);
	add_cap(c, 0xa0, PCI_CAP_ID_EXP, 0x0002);
	pci_set(c->config, 0xa4, 4, PCI_EXP_DEVCAP_FLR | 2);
	pci_set(c->config, 0xac, 4, 0x00036c41);
	pci_set(c->config, 0xb2, 2, 0x1041);
	add_ecap(c, 0x100, PCI_EXT_CAP_ID_ERR);
	add_ecap(c, 0x150, PCI_EXT_CAP_ID_ARI);
	add_ecap(c, 0x1a0, PCI_EXT_CAP_ID_TPH);
	d = shown(c);
	cr_assert_eq(find(d, PCI_CAP_ID_MSIX), 0x70);
	cr_assert_eq(d->msix_layout.vectors, 3);
	cr_assert_eq(d->msix_layout.table_bar, 3);
	cr_assert_eq(find(d, PCI_CAP_ID_EXP), 0xa0);
	cr_assert(pci_get(d->function.config, 0xa4, 4) & PCI_EXP_DEVCAP_FLR);
	cr_assert_eq(pci_get(d->function.config, 0xac, 4), 0, "an integrated one has no link");
	cr_assert_eq(pci_get(d->function.config, 0xb2, 2), 0);
	for (unsigned i = PCI_CFG_SPACE_SIZE; i < PCI_CONFIG_SIZE; i++)
		cr_assert_eq(d->function.config[i], 0, "0x%x", i);
	cr_assert_not(decided(d, PCI_EXT_CAP_ID_ARI, true)->shown);
	free(d);
}

/* NVMe: MSI with 8 vectors, 33 of MSI-X, version 2 with LTR, and a vendor-specific pair. */
Test(vfio_caps, an_nvme_controller)
{
	struct card *c = new_card(0xa808144d, 0x010802);
	struct vfio_pci *d;
	unsigned at;

	add_cap(c, 0x40, PCI_CAP_ID_PM, 0x0003);
	add_cap(c, 0x50, PCI_CAP_ID_MSI, 0x0086);
	add_cap(c, 0x70, PCI_CAP_ID_EXP, 0x0002);
	pci_set(c->config, 0x94, 4, 0x0010081f); /* DEVCAP2: LTR, extended format */
	pci_set(c->config, 0x98, 2, 0x0400);     /* LTR on */
	add_cap(c, 0xb0, PCI_CAP_ID_MSIX, 0x0020);
	pci_set(c->config, 0xb4, 4, 0x00003000);
	pci_set(c->config, 0xb8, 4, 0x00002000);
	add_ecap(c, 0x100, PCI_EXT_CAP_ID_ERR);
	add_ecap(c, 0x148, PCI_EXT_CAP_ID_DSN);
	pci_set(c->config, 0x14c, 4, 0x11112222);
	add_ecap(c, 0x158, PCI_EXT_CAP_ID_PWR);
	add_ecap(c, 0x168, PCI_EXT_CAP_ID_VNDR);
	pci_set(c->config, 0x16c, 4, 0x01000001 | 0x10u << 20);
	add_ecap(c, 0x188, PCI_EXT_CAP_ID_LTR);
	d = shown(c);
	cr_assert_eq(d->msi_layout.vectors, 8);
	cr_assert_eq(d->msix_layout.vectors, 33);
	cr_assert_eq(pci_get(d->function.config, 0x94, 4), 0x1f);
	cr_assert_eq(pci_get(d->function.config, 0x98, 2), 0);
	cr_assert_eq(PCI_EXT_CAP_ID(pci_get(d->function.config, 0x100, 4)), 0, "a mere link");
	at = find_extended(d, PCI_EXT_CAP_ID_DSN);
	cr_assert_eq(at, 0x148);
	cr_assert_eq(pci_get(d->function.config, at + 4, 4), 0x11112222);
	at = find_extended(d, PCI_EXT_CAP_ID_VNDR);
	cr_assert_eq(at, 0x168);
	cr_assert(!passes(d, at + 7) && passes(d, at + 8) && passes(d, at + 15));
	cr_assert(!passes(d, at + 16));
	cr_assert_eq(find_extended(d, PCI_EXT_CAP_ID_LTR), 0);
	free(d);
}

/* A GPU whose BAR of 64 GiB could have other sizes. */
Test(vfio_caps, a_gpu_with_resizable_bars)
{
	struct card *c = new_card(0x73bf1002, 0x030000);
	struct vfio_pci *d;

	add_cap(c, 0x48, PCI_CAP_ID_VNDR, 0x0008);
	add_cap(c, 0x50, PCI_CAP_ID_PM, 0x0003);
	add_ecap(c, 0x100, PCI_EXT_CAP_ID_REBAR);
	pci_set(c->config, 0x104, 4, 0x00ffff00);       /* 16 MiB to 512 GiB */
	pci_set(c->config, 0x108, 4, 2 << 5 | 16 << 8); /* 2 BARs; BAR 0 has 64 GiB */
	pci_set(c->config, 0x10c, 4, 0x000000f0);
	pci_set(c->config, 0x110, 4, 2 | 8 << 8);
	add_ecap(c, 0x200, PCI_EXT_CAP_ID_ATS);
	add_ecap(c, 0x210, PCI_EXT_CAP_ID_PASID);
	d = shown(c);
	cr_assert_eq(find_extended(d, PCI_EXT_CAP_ID_REBAR), 0x100);
	cr_assert_eq(pci_get(d->function.config, 0x104, 4), 1u << 20, "64 GiB alone");
	cr_assert_eq(pci_get(d->function.config, 0x108, 4), 2 << 5 | 16 << 8);
	cr_assert_eq(pci_get(d->function.config, 0x10c, 4), 1u << 12, "256 MiB alone");
	cr_assert_eq(pci_get(d->function.wmask, 0x108, 4), 0, "it stays");
	cr_assert_eq(find_extended(d, PCI_EXT_CAP_ID_ATS), 0);
	cr_assert_eq(find_extended(d, PCI_EXT_CAP_ID_PASID), 0);
	cr_assert(passes(d, 0x4a) && passes(d, 0x4f) && !passes(d, 0x49) && !passes(d, 0x50));
	free(d);
}

/* Like a ConnectX: VPD, a vendor-specific gateway, SR-IOV, ATS, ACS. */
Test(vfio_caps, an_sriov_capable_nic)
{
	struct card *c = new_card(0x101715b3, 0x020000);
	struct vfio_pci *d;

	add_cap(c, 0x60, PCI_CAP_ID_EXP, 0x0002);
	add_cap(c, 0x48, PCI_CAP_ID_VPD, 0x0000);
	add_cap(c, 0x9c, PCI_CAP_ID_MSIX, 0x003f);
	pci_set(c->config, 0xa0, 4, 0x00002000);
	pci_set(c->config, 0xa4, 4, 0x00003000);
	add_cap(c, 0xc0, PCI_CAP_ID_VNDR, 0x0018);
	add_cap(c, 0x40, PCI_CAP_ID_PM, 0x0003);
	add_ecap(c, 0x100, PCI_EXT_CAP_ID_ERR);
	add_ecap(c, 0x150, PCI_EXT_CAP_ID_ARI);
	add_ecap(c, 0x180, PCI_EXT_CAP_ID_SRIOV);
	add_ecap(c, 0x1c0, PCI_EXT_CAP_ID_SECPCI);
	add_ecap(c, 0x230, PCI_EXT_CAP_ID_ACS);
	d = shown(c);
	cr_assert_eq(find(d, PCI_CAP_ID_VPD), 0x48);
	cr_assert_eq(find(d, PCI_CAP_ID_VNDR), 0xc0);
	cr_assert_eq(find(d, PCI_CAP_ID_PM), 0x40, "lists need not be in order");
	cr_assert_eq(d->function.pm_cap, 0x40);
	cr_assert(passes(d, 0xc2) && passes(d, 0xd7));
	cr_assert_eq(find_extended(d, PCI_EXT_CAP_ID_SRIOV), 0);
	cr_assert_not(decided(d, PCI_EXT_CAP_ID_SRIOV, true)->shown);
	cr_assert(strstr(decided(d, PCI_EXT_CAP_ID_SRIOV, true)->why, "IOMMU group"));
	free(d);
}

Test(vfio_caps, hidden_ones_leave_no_trace)
{
	struct card *c = new_card(0x00010001, 0x020000);
	struct vfio_pci *d;

	add_cap(c, 0x40, PCI_CAP_ID_SLOTID, 0xffff);
	pci_set(c->config, 0x44, 4, 0xdeadbeef);
	add_cap(c, 0x60, PCI_CAP_ID_SATA, 0x0010);
	pci_set(c->config, 0x70, 4, 0xfeedf00d); /* the device's own */
	d = shown(c);
	cr_assert_eq(pci_get(d->function.config, 0x40, 4), 0);
	cr_assert_eq(pci_get(d->function.config, 0x44, 4), 0);
	cr_assert_not(passes(d, 0x44));
	cr_assert_eq(find(d, PCI_CAP_ID_SATA), 0x60);
	cr_assert_not(passes(d, 0x64));
	cr_assert(passes(d, 0x70));
	free(d);
}

Test(vfio_caps, several_vendor_capabilities)
{
	struct card *c = new_card(0x10411af4, 0x020000);
	struct vfio_pci *d;

	for (unsigned i = 0; i < 5; i++)
		add_cap(c, (uint8_t)(0x40 + i * 0x14), PCI_CAP_ID_VNDR, 0x14);
	d = shown(c);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(d->function.config[0x40 + i * 0x14], PCI_CAP_ID_VNDR);
		cr_assert(passes(d, 0x42 + i * 0x14) && passes(d, 0x53 + i * 0x14));
		cr_assert(!passes(d, 0x40 + i * 0x14) && !passes(d, 0x41 + i * 0x14));
	}
	free(d);
}

/* ---- chains that nobody should have -------------------------------------------------------- */

/* Whatever stands there: lists end, and only what is shown is in them. */
static void check_sane(const struct vfio_pci *d)
{
	find(d, 0xff);
	find_extended(d, 0xffff);
	for (unsigned i = 0; i < 0x40; i++)
		cr_assert(!passes(d, i), "the header is ours");
	cr_assert(!d->msix_cap || d->msix_cap + MSIX_CAP_SIZE <= 0x100);
	cr_assert(!d->msi_cap || d->msi_cap + d->msi_layout.size <= 0x100);
	cr_assert_leq(d->cap_count, VFIO_CAPS_MAX);
}

Test(vfio_caps, anything_at_all)
{
	unsigned seed = 1;

	for (int round = 0; round < 2000; round++) {
		struct card *c = new_card(0x00010001, 0x020000);
		struct vfio_pci *d;

		for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
			uint8_t any = (uint8_t)rand_r(&seed);

			/* Small numbers make capabilities that there are rules for. */
			c->config[i] = i % 4 ? any : any % 0x30;
		}
		c->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
		d = shown(c);
		check_sane(d);
		free(d);
	}
}

/* ---- quirks -----------------------------------------------------------------------------------
 */

Test(vfio_quirks, pending_bits_of_a_chelsio_vf)
{
	struct card *c = new_card(0x58011425, 0x020000);
	struct vfio_pci *d;

	add_cap(c, 0xb0, PCI_CAP_ID_MSIX, 0x001f);
	pci_set(c->config, 0xb4, 4, 0x00000004);
	pci_set(c->config, 0xb8, 4, 0x00008004);
	d = shown(c);
	cr_assert_eq(d->msix_layout.pba_offset, 0x1000);
	cr_assert_eq(pci_get(d->function.config, 0xb8, 4), 0x1004, "the guest is told as well");
	free(d);
}

Test(vfio_quirks, the_mirror_of_an_nvidia_gpu)
{
	struct vfio_pci *d = shown(new_card(0x1b8010de, 0x030000));
	struct vfio_pci *other = shown(new_card(0x1b8010de, 0x020000));
	struct vfio_region *r = &d->dev.regions[0];
	unsigned at;

	r->areas[0] = (struct vfio_area){ 0, r->size };
	r->area_count = 1;
	vfio_quirk_cut_mirrors(d);
	cr_assert_eq(r->area_count, 2);
	cr_assert_eq(r->areas[0].size, 0x88000);
	cr_assert_eq(r->areas[1].offset, 0x89000);
	cr_assert(vfio_quirk_in_mirror(d, 0, 0x88068, 4, &at));
	cr_assert_eq(at, 0x68);
	cr_assert(vfio_quirk_in_mirror(d, 0, 0x88ffc, 4, &at));
	cr_assert_not(vfio_quirk_in_mirror(d, 0, 0x88ffe, 4, &at));
	cr_assert_not(vfio_quirk_in_mirror(d, 1, 0x88068, 4, &at));
	cr_assert_not(vfio_quirk_in_mirror(d, 0, 0x87ffc, 4, &at));
	cr_assert_not(vfio_quirk_in_mirror(other, 0, 0x88068, 4, &at), "a NIC of theirs");
	d->dev.regions[0].size = 0x10000;
	cr_assert_not(vfio_quirk_in_mirror(d, 0, 0x88068, 4, &at));
	free(d);
	free(other);
}

Test(vfio_caps, query_devices_lists_them_with_reasons)
{
	struct fake_pci *f = fake_new();
	cJSON *info = cJSON_CreateObject();
	const cJSON *list, *entry;
	unsigned found = 0;

	fake_plug(f);
	cr_assert(vfio_pci_driver.describe && vfio_pci_driver.describe(&f->d->device, info));
	cr_assert(cJSON_GetObjectItem(info, "state"));
	list = cJSON_GetObjectItem(info, "capabilities");
	cJSON_ArrayForEach(entry, list)
	{
		cr_assert(*cJSON_GetStringValue(cJSON_GetObjectItem(entry, "reason")));
		found += cJSON_GetObjectItem(entry, "id")->valueint == PCI_CAP_ID_MSIX &&
		         cJSON_IsTrue(cJSON_GetObjectItem(entry, "shown"));
	}
	cr_assert_eq(found, 1);
	cJSON_Delete(info);
	fake_free(f);
}
