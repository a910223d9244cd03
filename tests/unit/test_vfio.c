/* SPDX-License-Identifier: Apache-2.0 */
/* Passthrough's parsers and tables: configuration space, regions, sysfs. */
#include "vfio/sysfs.h"
#include "vfio/vfio_pci.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- configuration space -------------------------------------------------------------- */

/* Like an 82574L's: PM, MSI, PCIe, MSI-X; AER and a serial number. */
static void fill_82574l(uint8_t *c)
{
	pci_set(c, 0x00, 4, 0x10d38086);
	pci_set(c, PCI_COMMAND, 2, 0x0407);
	pci_set(c, PCI_STATUS, 2, PCI_STATUS_CAP_LIST | 0x2000);
	pci_set(c, 0x08, 4, 0x02000000);
	c[PCI_HEADER_TYPE] = 0x80;
	pci_set(c, PCI_BASE_ADDRESS_0, 4, 0xfeb80000);
	pci_set(c, PCI_ROM_ADDRESS, 4, 0xfff80001);
	c[PCI_CAPABILITY_LIST] = 0xc8;
	c[PCI_INTERRUPT_LINE] = 11;
	c[PCI_INTERRUPT_PIN] = 1;
	pci_set(c, 0xc8, 4, 0xf822d001); /* PM, next d0 */
	pci_set(c, 0xcc, 2, 0x2103);     /* in D3 */
	pci_set(c, 0xd0, 4, 0x0081e005); /* MSI on, 64 bits, next e0 */
	pci_set(c, 0xe0, 4, 0x0001a010); /* PCIe endpoint, next a0 */
	pci_set(c, 0xe4, 4, PCI_EXP_DEVCAP_FLR);
	pci_set(c, 0xa0, 4, 0x80044011); /* MSI-X on, 5 vectors, next 40 */
	pci_set(c, 0xa4, 4, 0x00000003);
	pci_set(c, 0xa8, 4, 0x00002003);
	pci_set(c, 0x40, 4, 0x00000003);  /* VPD */
	pci_set(c, 0x100, 4, 0x14010001); /* AER, next 140 */
	pci_set(c, 0x140, 4, 0x00010003); /* serial number */
	pci_set(c, 0x144, 4, 0xcafe0001);
}

static struct vfio_pci *virtualised(void (*fill)(uint8_t *c), size_t size)
{
	struct vfio_pci *d = calloc(1, sizeof(*d));

	cr_assert(d);
	fill(d->function.config);
	d->dev.can_reset = true;
	d->irqs[VFIO_PCI_MSI_IRQ_INDEX].count = 1;
	d->irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 5;
	vfio_config_virtualise(d, size);
	return d;
}

/* The capabilities that a guest finds, in order. */
static unsigned find_caps(const uint8_t *c, uint8_t ids[16])
{
	unsigned n = 0;

	for (unsigned at = c[PCI_CAPABILITY_LIST]; at && n < 16; at = c[at + 1])
		ids[n++] = c[at];
	return n;
}

Test(vfio_config, shows_what_a_guest_may_have)
{
	struct vfio_pci *d = virtualised(fill_82574l, PCI_CONFIG_SIZE);
	const uint8_t *c = d->function.config, *w = d->function.wmask;
	uint8_t ids[16];

	cr_assert_eq(find_caps(c, ids), 5);
	cr_assert_eq(ids[0], PCI_CAP_ID_PM);
	cr_assert_eq(ids[1], PCI_CAP_ID_MSI);
	cr_assert_eq(ids[2], PCI_CAP_ID_EXP);
	cr_assert_eq(ids[3], PCI_CAP_ID_MSIX);
	cr_assert_eq(ids[4], PCI_CAP_ID_VPD);
	cr_assert_eq(pci_get(c, PCI_COMMAND, 2), 0, "the guest starts with decoding off");
	cr_assert_eq(c[PCI_HEADER_TYPE], 0, "one function");
	cr_assert_eq(pci_get(c, PCI_ROM_ADDRESS, 4), 0);
	cr_assert_eq(pci_get(c, PCI_BASE_ADDRESS_0, 4), 0, "no address of the host is shown");
	cr_assert_eq(pci_get(c, 0xcc, 2), PCI_PM_CTRL_NO_SOFT_RESET, "in D0");
	cr_assert_not(pci_get(c, 0xd2, 2) & PCI_MSI_FLAGS_ENABLE);
	cr_assert_not(pci_get(c, 0xa2, 2) & PCI_MSIX_FLAGS_ENABLE);
	cr_assert_eq((pci_get(c, 0xe2, 2) & PCI_EXP_FLAGS_TYPE) >> 4, PCI_EXP_TYPE_RC_END);
	cr_assert_eq(d->msi_cap, 0xd0);
	cr_assert_eq(d->msix_cap, 0xa0);
	cr_assert_eq(d->msix_layout.vectors, 5);
	cr_assert_eq(d->pcie_cap, 0xe0);
	cr_assert_eq(pci_get(w, 0x00, 4), 0, "the identity cannot be written");
	cr_assert_eq(w[PCI_INTERRUPT_LINE], 0xff);
	cr_assert_eq(w[PCI_INTERRUPT_PIN], 0);
	free(d);
}

Test(vfio_config, of_extended_capabilities_only_the_serial_number)
{
	struct vfio_pci *d = virtualised(fill_82574l, PCI_CONFIG_SIZE);
	const uint8_t *c = d->function.config;
	uint32_t head = pci_get(c, 0x100, 4);

	cr_assert_eq(PCI_EXT_CAP_ID(head), 0);
	cr_assert_eq(PCI_EXT_CAP_NEXT(head), 0x140);
	cr_assert_eq(PCI_EXT_CAP_ID(pci_get(c, 0x140, 4)), PCI_EXT_CAP_ID_DSN);
	cr_assert_eq(PCI_EXT_CAP_NEXT(pci_get(c, 0x140, 4)), 0);
	cr_assert_eq(pci_get(c, 0x144, 4), 0xcafe0001);
	free(d);
}

/* A chain in a circle, one that leads into the header, capabilities that reach over the end. */
static void fill_hostile(uint8_t *c)
{
	pci_set(c, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	c[PCI_CAPABILITY_LIST] = 0x40;
	pci_set(c, 0x40, 2, 0x5001);      /* PM */
	pci_set(c, 0x50, 2, 0xf809);      /* vendor */
	c[0x52] = 0xff;                   /* longer than what is there */
	pci_set(c, 0xf8, 2, 0x4011);      /* MSI-X over the end, and back to 40 */
	pci_set(c, 0x100, 4, 0x10010001); /* leads to itself */
}

Test(vfio_config, hostile_chains_end)
{
	struct vfio_pci *d = virtualised(fill_hostile, PCI_CONFIG_SIZE);

	cr_assert_eq(d->msix_cap, 0);
	for (unsigned i = PCI_CFG_SPACE_SIZE; i < PCI_CONFIG_SIZE; i++)
		cr_assert_eq(d->function.config[i], 0);
	free(d);
}

static void fill_none(uint8_t *c)
{
	pci_set(c, 0x00, 4, 0x32534348);
	memset(c + 0xff, 0xaa, PCI_CONFIG_SIZE - 0xff); /* not read from the device */
}

Test(vfio_config, short_space_without_capabilities)
{
	struct vfio_pci *d = virtualised(fill_none, 0xff);
	uint8_t ids[16];

	cr_assert_eq(find_caps(d->function.config, ids), 0);
	cr_assert_eq(d->function.config[0xff], 0);
	cr_assert_eq(d->function.config[0x100], 0);
	free(d);
}

/* ---- regions ---------------------------------------------------------------------------- */

struct info {
	struct vfio_region_info head;
	struct vfio_region_info_cap_sparse_mmap sparse;
	struct vfio_region_sparse_mmap_area areas[3];
	struct vfio_info_cap_header msix;
};

static struct info sparse_info(void)
{
	struct info i = {
		.head = {
			.argsz = sizeof(i),
			.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				 VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS,
			.cap_offset = offsetof(struct info, sparse),
			.size = 0x10000,
		},
		.sparse = {
			.header = { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1,
				    offsetof(struct info, msix) },
			.nr_areas = 3,
		},
		.areas = { { 0x0, 0x2000 }, { 0x4000, 0x1800 }, { 0xf000, 0x8000 } },
		.msix = { VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0 },
	};

	return i;
}

Test(vfio_device, sparse_areas)
{
	struct info i = sparse_info();
	struct vfio_region r;

	vfio_parse_region(&i, sizeof(i), &r);
	cr_assert_eq(r.area_count, 2, "one reaches over the end");
	cr_assert_eq(r.areas[0].offset, 0);
	cr_assert_eq(r.areas[0].size, 0x2000);
	cr_assert_eq(r.areas[1].offset, 0x4000);
	cr_assert_eq(r.areas[1].size, 0x1000, "whole pages");
	cr_assert(r.msix_mappable);
}

Test(vfio_device, hostile_capability_chains)
{
	struct vfio_region r;
	struct info i;

	i = sparse_info(); /* in a circle */
	i.msix.next = offsetof(struct info, sparse);
	vfio_parse_region(&i, sizeof(i), &r);
	i = sparse_info(); /* beyond the end */
	i.head.cap_offset = sizeof(i) - 2;
	vfio_parse_region(&i, sizeof(i), &r);
	cr_assert_eq(r.area_count, 1, "without capabilities the whole region");
	i = sparse_info(); /* more areas than there is room for */
	i.sparse.nr_areas = 0xffffffff;
	vfio_parse_region(&i, sizeof(i), &r);
	cr_assert_leq(r.area_count, VFIO_AREAS_MAX);
	i = sparse_info();
	i.areas[0].offset = UINT64_MAX - 0xfff;
	vfio_parse_region(&i, sizeof(i), &r);
	cr_assert_eq(r.area_count, 1);
	vfio_parse_region(&i, 8, &r);
	cr_assert_eq(r.size, 0, "too short to be anything");
}

Test(vfio_device, a_hole_around_the_msix_table)
{
	struct vfio_region r = { .size = 0x8000, .areas = { { 0, 0x8000 } }, .area_count = 1 };

	vfio_region_cut(&r, 0x3010, 0x50);
	cr_assert_eq(r.area_count, 2);
	cr_assert_eq(r.areas[0].size, 0x3000);
	cr_assert_eq(r.areas[1].offset, 0x4000);
	cr_assert_eq(r.areas[1].size, 0x4000);
	vfio_region_cut(&r, 0x0, 0x1);
	cr_assert_eq(r.areas[0].offset, 0x1000);
	vfio_region_cut(&r, 0x4000, 0x4000);
	cr_assert_eq(r.area_count, 1);
	vfio_region_cut(&r, 0x0, 0x10000);
	cr_assert_eq(r.area_count, 0);
}

/* With as many areas as there is room for: a hole in one of them would make one more. */
Test(vfio_device, a_hole_where_there_is_no_room_for_another_area)
{
	struct vfio_region r = { .size = 0x40000, .area_count = VFIO_AREAS_MAX, .type = 77 };

	for (uint64_t i = 0; i < VFIO_AREAS_MAX; i++)
		r.areas[i] = (struct vfio_area){ i * 0x4000, 0x3000 };
	vfio_region_cut(&r, 0x1000, 0x1000);
	cr_assert_eq(r.area_count, VFIO_AREAS_MAX);
	cr_assert_eq(r.areas[0].size, 0x1000);
	cr_assert_eq(r.areas[1].offset, 0x2000);
	cr_assert_eq(r.areas[7].offset, 6 * 0x4000, "the last one is trapped");
	cr_assert_eq(r.type, 77);
}

/* ---- sysfs -------------------------------------------------------------------------------- */

static void put_link(const char *root, const char *path, const char *target)
{
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	cr_assert_eq(symlink(target, full), 0, "%s", full);
}

static void put_dir(const char *root, const char *path)
{
	char command[600];

	snprintf(command, sizeof(command), "mkdir -p '%s/%s'", root, path);
	cr_assert_eq(system(command), 0);
}

/* Two functions of one group, a third of its own; driver of each, "" for none. */
static void make_tree(char *root, const char *driver0, const char *driver1)
{
	const char *const drivers[] = { driver0, driver1 };

	strcpy(root, "/tmp/godwit-sysfs-XXXXXX");
	cr_assert(mkdtemp(root));
	put_dir(root, "bus/pci/devices");
	put_dir(root, "kernel/iommu_groups/7/devices");
	for (int i = 0; i < 2; i++) {
		char path[128], target[256];

		snprintf(path, sizeof(path), "devices/0000:03:00.%d", i);
		put_dir(root, path);
		snprintf(target, sizeof(target), "%s/devices/0000:03:00.%d", root, i);
		snprintf(path, sizeof(path), "bus/pci/devices/0000:03:00.%d", i);
		put_link(root, path, target);
		snprintf(path, sizeof(path), "kernel/iommu_groups/7/devices/0000:03:00.%d", i);
		put_link(root, path, target);
		snprintf(path, sizeof(path), "devices/0000:03:00.%d/iommu_group", i);
		put_link(root, path, "/sys/kernel/iommu_groups/7");
		snprintf(path, sizeof(path), "devices/0000:03:00.%d/driver", i);
		snprintf(target, sizeof(target), "/sys/bus/pci/drivers/%s", drivers[i]);
		if (drivers[i][0])
			put_link(root, path, target);
	}
	put_dir(root, "devices/0000:04:00.0");
	put_link(root, "bus/pci/devices/0000:04:00.0", "../../../devices/0000:04:00.0");
}

static void remove_tree(const char *root)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	cr_assert_eq(system(command), 0);
}

Test(vfio_sysfs, a_group_that_can_be_handed_over)
{
	struct sysfs_device device;
	struct gw_error err;
	char root[64];

	make_tree(root, "vfio-pci", "");
	cr_assert_eq(sysfs_find(root, "0000:03:00.0", &device, &err), 0, "%s", err.text);
	cr_assert_eq(device.group, 7);
	cr_assert_str_eq(device.name, "0000:03:00.0");
	remove_tree(root);
}

Test(vfio_sysfs, says_which_other_device_must_be_bound)
{
	struct sysfs_device device;
	struct gw_error err;
	char root[64];

	make_tree(root, "vfio-pci", "snd_hda_intel");
	cr_assert_eq(sysfs_find(root, "0000:03:00.0", &device, &err), -EBUSY);
	cr_assert(strstr(err.text, "in its IOMMU group 0000:03:00.1 is driven by snd_hda_intel"),
	          "%s", err.text);
	cr_assert(strstr(err.text, "0000:03:00.1 is driven by snd_hda_intel"), "%s", err.text);
	remove_tree(root);
}

Test(vfio_sysfs, what_cannot_be_passed_through)
{
	struct sysfs_device device;
	struct gw_error err;
	char root[64];

	make_tree(root, "", "");
	cr_assert_eq(sysfs_find(root, "0000:03:00.0", &device, &err), -EBUSY);
	cr_assert(strstr(err.text, "has no driver"), "%s", err.text);
	cr_assert_eq(sysfs_find(root, "0000:09:00.0", &device, &err), -ENODEV);
	cr_assert(strstr(err.text, "no such PCI device 0000:09:00.0"), "%s", err.text);
	cr_assert_eq(sysfs_find(root, "0000:04:00.0", &device, &err), -ENOTSUP);
	cr_assert(strstr(err.text, "no IOMMU group"), "%s", err.text);
	remove_tree(root);
}
