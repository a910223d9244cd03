/* SPDX-License-Identifier: Apache-2.0 */
/* The host's devices on a made-up sysfs: what is read, what is judged, what is told. */
#include "vfio/host_devices.h"
#include "vfio/host_internal.h"

#include "base/util.h"
#include "vfio/uapi.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char root[64];

static void make_root(void)
{
	strcpy(root, "/tmp/godwit-host-XXXXXX");
	cr_assert(mkdtemp(root));
}

static void remove_root(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	cr_assert_eq(system(command), 0);
}

static void put_dir(const char *path)
{
	char command[600];

	snprintf(command, sizeof(command), "mkdir -p '%s/%s'", root, path);
	cr_assert_eq(system(command), 0);
}

static void put_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/%s", root, dir, name);
	f = fopen(path, "w");
	cr_assert(f && fprintf(f, "%s\n", text) > 0 && fclose(f) == 0, "%s", path);
}

static void put_link(const char *dir, const char *name, const char *target)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s/%s", root, dir, name);
	cr_assert_eq(symlink(target, path), 0, "%s", path);
}

/* group < 0: in none; driver NULL: none. */
static void put_pci(const char *name, const char *class, const char *driver, int group)
{
	char dir[128], target[256];

	snprintf(dir, sizeof(dir), "devices/pci0000:00/%s", name);
	put_dir(dir);
	put_file(dir, "vendor", "0x8086");
	put_file(dir, "device", "0x10d3");
	put_file(dir, "class", class);
	put_file(dir, "numa_node", "1");
	put_file(dir, "reset_method", "flr bus");
	if (driver) {
		snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
		put_link(dir, "driver", target);
	}
	if (group >= 0) {
		snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%d", group);
		put_link(dir, "iommu_group", target);
		put_dir(target + 9);
	}
	put_dir("bus/pci/devices");
	snprintf(target, sizeof(target), "../../../%s", dir);
	put_link("bus/pci/devices", name, target);
}

static void put_mdev(const char *uuid, int group)
{
	char dir[128], target[256];

	snprintf(dir, sizeof(dir), "devices/virtual/mtty/%s", uuid);
	put_dir(dir);
	put_link(dir, "mdev_type", "../mdev_supported_types/mtty-2");
	put_link(dir, "driver", "../../../../bus/mdev/drivers/mtty");
	snprintf(target, sizeof(target), "/nowhere/kernel/iommu_groups/%d", group);
	put_link(dir, "iommu_group", target);
	put_dir("bus/mdev/devices");
	put_dir("kernel/iommu_groups/x");
	snprintf(target, sizeof(target), "../../../%s", dir);
	put_link("bus/mdev/devices", uuid, target);
}

static struct host_list scan(void)
{
	struct host_list list;
	struct gw_error err;

	cr_assert_eq(host_scan(root, &list, &err), 0, "%s", err.text);
	return list;
}

static struct host_device *find(struct host_list *list, const char *name)
{
	for (unsigned i = 0; i < list->count; i++)
		if (!strcmp(list->devices[i].name, name))
			return &list->devices[i];
	cr_assert(false, "no %s", name);
	return NULL;
}

static struct host_verdict judge(struct host_list *list, const char *name)
{
	struct host_verdict v;

	host_judge(list, find(list, name), &v);
	cr_assert_eq(v.passable, !v.not_passable[0]);
	cr_assert_eq(v.movable, !v.not_movable[0]);
	return v;
}

/* A NIC and a sound device of one group, a bridge, a vfio device of its own, one driven by nobody,
 * an mdev. */
static void make_host(void)
{
	make_root();
	put_pci("0000:00:00.0", "0x060000", NULL, 0);
	put_pci("0000:03:00.0", "0x020000", "e1000e", 7);
	put_pci("0000:03:00.1", "0x040300", "snd_hda_intel", 7);
	put_pci("0000:04:00.0", "0x020000", "vfio-pci", 8);
	put_pci("0000:05:00.0", "0x010802", NULL, 9);
	put_pci("0000:06:00.0", "0x020000", "vfio-pci", -1);
	put_mdev("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 11);
	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "0000:10:%02x.0", i);
		put_pci(name, "0x020000", "pci-stub", 20 + i);
	}
}

#define MDEV "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

Test(host_devices, reads_sysfs, .init = make_host, .fini = remove_root)
{
	struct host_list list = scan();
	const struct host_device *d = find(&list, "0000:03:00.0");

	cr_assert_eq(list.count, 27);
	cr_assert(list.has_iommu);
	cr_assert_not(list.has_vfio_pci);
	cr_assert_eq(d->vendor, 0x8086);
	cr_assert_eq(d->device, 0x10d3);
	cr_assert_eq(d->class, 0x020000);
	cr_assert_str_eq(d->driver, "e1000e");
	cr_assert_str_eq(d->reset, "flr bus");
	cr_assert_eq(d->group, 7);
	cr_assert_eq(d->numa_node, 1);
	cr_assert_eq(find(&list, "0000:06:00.0")->group, -1);
	d = find(&list, MDEV);
	cr_assert(d->mdev);
	cr_assert_str_eq(d->mdev_type, "mtty-2");
	cr_assert_eq(d->group, 11);
	cr_assert_eq(d->numa_node, -1);
	host_list_free(&list);
}

Test(host_devices, an_empty_host, .init = make_root, .fini = remove_root)
{
	struct host_list list = scan();

	cr_assert_eq(list.count, 0);
	cr_assert_not(list.has_iommu);
	host_list_free(&list);
}

static bool ends_with(const char *text, const char *end)
{
	return strlen(text) >= strlen(end) && !strcmp(text + strlen(text) - strlen(end), end);
}

/* Half a command would do something else. */
Test(host_devices, a_group_too_large_to_mend_has_whole_commands, .init = make_host,
     .fini = remove_root)
{
	struct host_list list;
	struct host_verdict v;

	for (unsigned i = 0; i < 60; i++) {
		char name[32];

		snprintf(name, sizeof(name), "0000:20:%02x.%u", i / 8, i % 8);
		put_pci(name, "0x020000", "igbvf", 7);
	}
	list = scan();
	v = judge(&list, "0000:03:00.0");
	cr_assert_gt(strlen(v.mend), sizeof(v.mend) - 200, "as many as there is room for");
	cr_assert(ends_with(v.mend, "/driver_override") || ends_with(v.mend, "/driver/unbind") ||
	                  ends_with(v.mend, "/drivers_probe"),
	          "%s", v.mend);
	cr_assert(ends_with(v.not_passable, "is driven by igbvf"), "%s", v.not_passable);
	host_list_free(&list);
}

Test(host_devices, says_what_hinders_and_what_mends_it, .init = make_host, .fini = remove_root)
{
	struct host_list list = scan();
	struct host_verdict v = judge(&list, "0000:03:00.0");

	cr_assert_str_eq(v.not_passable, "it is driven by e1000e; 0000:03:00.1, in the same IOMMU "
	                                 "group, is driven by snd_hda_intel");
	cr_assert_str_eq(v.mend,
	                 "modprobe vfio-pci; "
	                 "echo vfio-pci >/sys/bus/pci/devices/0000:03:00.0/driver_override; "
	                 "echo 0000:03:00.0 >/sys/bus/pci/devices/0000:03:00.0/driver/unbind; "
	                 "echo 0000:03:00.0 >/sys/bus/pci/drivers_probe; "
	                 "echo vfio-pci >/sys/bus/pci/devices/0000:03:00.1/driver_override; "
	                 "echo 0000:03:00.1 >/sys/bus/pci/devices/0000:03:00.1/driver/unbind; "
	                 "echo 0000:03:00.1 >/sys/bus/pci/drivers_probe");
	v = judge(&list, "0000:04:00.0");
	cr_assert(v.passable, "%s", v.not_passable);
	cr_assert_str_eq(v.mend, "");
	cr_assert_not(v.movable);
	list.has_vfio_pci = true;
	v = judge(&list, "0000:05:00.0");
	cr_assert_str_eq(v.not_passable, "it has no driver");
	cr_assert_str_eq(v.mend,
	                 "echo vfio-pci >/sys/bus/pci/devices/0000:05:00.0/driver_override; "
	                 "echo 0000:05:00.0 >/sys/bus/pci/drivers_probe");
	cr_assert_str_eq(judge(&list, "0000:06:00.0").not_passable, "no IOMMU stands before it");
	cr_assert_str_eq(judge(&list, "0000:00:00.0").not_passable, "a bridge stays with the host");
	cr_assert_str_eq(judge(&list, "0000:10:00.0").not_passable, "it is driven by pci-stub");
	cr_assert(judge(&list, MDEV).passable);
	list.has_iommu = false;
	v = judge(&list, "0000:06:00.0");
	cr_assert_str_eq(v.not_passable, "the host's IOMMU is off");
	cr_assert(strstr(v.mend, "intel_iommu=on"), "%s", v.mend);
	host_list_free(&list);
}

Test(host_devices, what_can_be_moved, .init = make_host, .fini = remove_root)
{
	struct host_list list = scan();
	struct host_device *mdev = find(&list, MDEV), *nic = find(&list, "0000:04:00.0");

	cr_assert(strstr(judge(&list, MDEV).not_movable, "once it is bound"));
	mdev->asked = nic->asked = 0;
	cr_assert_str_eq(judge(&list, MDEV).not_movable, "its driver (mtty) offers no migration");
	mdev->features.flags = nic->features.flags = VFIO_MIGRATION_STOP_COPY;
	cr_assert(judge(&list, MDEV).movable);
	cr_assert(strstr(judge(&list, "0000:04:00.0").not_movable, "nobody tells which memory"));
	nic->features.dma_logging = true;
	cr_assert(judge(&list, "0000:04:00.0").movable);
	mdev->asked = -EBUSY;
	cr_assert_str_eq(judge(&list, MDEV).not_passable,
	                 "in use: somebody has its IOMMU group open");
	cr_assert_not(judge(&list, MDEV).movable);
	mdev->asked = -EACCES;
	cr_assert(judge(&list, MDEV).passable);
	cr_assert_str_eq(judge(&list, MDEV).not_movable,
	                 "what it offers cannot be asked: Permission denied");
	host_list_free(&list);
}

static const cJSON *entry(const cJSON *list, const char *host)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		if (!strcmp(cJSON_GetObjectItem(item, "host")->valuestring, host))
			return item;
	}
	cr_assert(false, "no %s", host);
	return NULL;
}

static void has(const cJSON *object, const char *key, const char *json)
{
	char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(object, key));

	cr_assert(text, "no %s", key);
	cr_assert_str_eq(text, json, "%s: %s, not %s", key, text, json);
	free(text);
}

Test(host_devices, told_as_json, .init = make_host, .fini = remove_root)
{
	struct host_list list = scan();
	struct host_device *mdev = find(&list, MDEV);
	struct pci_ids ids = { 0 };
	const cJSON *d;
	cJSON *json;
	char path[128];

	put_file("", "pci.ids",
	         "# names\n8086  Intel Corporation\n# inside\n\t10d3  82574L\n\t\t8086 0001  Sub\n"
	         "10d3  Other\n\nC 02  Network controller\n\t00  Ethernet controller\n"
	         "C 06  Bridge\n");
	snprintf(path, sizeof(path), "%s/pci.ids", root);
	pci_ids_load_file(&ids, path);
	mdev->asked = 0;
	mdev->features = (struct vfio_features){
		.flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
		.dma_logging = true,
		.data_size = 928,
	};
	json = host_describe(&list, &ids);
	cr_assert_eq(cJSON_GetArraySize(json), 27);
	d = entry(json, "0000:03:00.0");
	has(d, "kind", "\"pci\"");
	has(d, "vendor", "\"8086\"");
	has(d, "class", "\"020000\"");
	has(d, "vendor-name", "\"Intel Corporation\"");
	has(d, "device-name", "\"82574L\"");
	has(d, "class-name", "\"Ethernet controller\"");
	has(d, "driver", "\"e1000e\"");
	has(d, "iommu-group", "7");
	has(d, "group-others", "[\"0000:03:00.1\"]");
	has(d, "reset-methods", "[\"flr\",\"bus\"]");
	has(d, "numa-node", "1");
	has(d, "character-device", "null");
	has(d, "migration", "null");
	has(d, "passable", "false");
	has(entry(json, "0000:05:00.0"), "driver", "null");
	has(entry(json, "0000:06:00.0"), "iommu-group", "null");
	has(entry(json, "0000:00:00.0"), "class-name", "\"Bridge\"");
	d = entry(json, "/sys/bus/mdev/devices/" MDEV);
	has(d, "mdev-type", "\"mtty-2\"");
	has(d, "migration",
	    "{\"stop-copy\":true,\"p2p\":false,\"pre-copy\":true,\"dma-logging\":true,"
	    "\"iommu-tracking\":false,\"data-size\":928}");
	has(d, "movable", "true");
	has(d, "not-movable", "null");
	cJSON_Delete(json);
	pci_ids_free(&ids);
	host_list_free(&list);
}

Test(host_devices, names_without_a_file)
{
	struct pci_ids ids = { 0 };
	char name[64] = "x";

	pci_ids_load_file(&ids, "/nonexistent");
	pci_ids_vendor(&ids, 0x8086, name, sizeof(name));
	cr_assert_str_eq(name, "");
	pci_ids_device(&ids, 0x8086, 0x10d3, name, sizeof(name));
	cr_assert_str_eq(name, "");
	pci_ids_class(&ids, 0x020000, name, sizeof(name));
	cr_assert_str_eq(name, "network controller");
	pci_ids_class(&ids, 0xff0000, name, sizeof(name));
	cr_assert_str_eq(name, "");
}

/* Whatever host this is: it can be looked at. */
Test(host_devices, this_host)
{
	struct gw_error err;
	char *text = NULL;
	cJSON *json;

	cr_assert_eq(host_devices(SYSFS_ROOT, &text, &err), 0, "%s", err.text);
	json = cJSON_Parse(text);
	cr_assert(cJSON_IsArray(json), "%s", text);
	cJSON_Delete(json);
	free(text);
}
