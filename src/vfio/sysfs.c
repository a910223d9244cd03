/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/sysfs.h"

#include "base/util.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Drivers that leave the group's devices to user space. A bridge's driver does no DMA of its
 * own (Linux, drivers/vfio/pci: pcieport is allowed in a group). */
static const char *const harmless_drivers[] = { "vfio-pci",  "pcieport", "pci-stub",
	                                        "vfio_mdev", "mtty",     "vfio-pci-core" };

/* The last part of where the link dir/name points; "" if there is none. */
static void link_name(const char *dir, const char *name, char *out, size_t size)
{
	char path[PATH_MAX + 64], target[PATH_MAX];
	const char *last;
	ssize_t n;

	out[0] = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return;
	target[n] = 0;
	last = strrchr(target, '/');
	last = last ? last + 1 : target;
	if (strlen(last) < size)
		strcpy(out, last);
}

static bool may_stay(const char *driver)
{
	if (!driver[0])
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(harmless_drivers); i++)
		if (!strcmp(driver, harmless_drivers[i]))
			return true;
	/* Variant drivers of vfio-pci, "mlx5_vfio_pci" and the like. */
	return strstr(driver, "vfio_pci") || strstr(driver, "vfio-pci");
}

static int say_bound(const struct sysfs_device *device, const char *who, const char *driver,
                     struct gw_error *err)
{
	bool other = strcmp(who, device->name);

	return error_set(err, -EBUSY,
	                 "%s%s%s is driven by %s and has to be bound to vfio-pci%s: "
	                 "driverctl --nosave set-override %s vfio-pci",
	                 other ? device->name : "", other ? ": in its IOMMU group " : "", who,
	                 driver, other ? " too" : "", who);
}

static int check_group(const char *root, const struct sysfs_device *device, struct gw_error *err)
{
	char dir[PATH_MAX], path[PATH_MAX + 300], driver[64];
	struct dirent *entry;
	DIR *list;
	int r = 0;

	snprintf(dir, sizeof(dir), "%s/kernel/iommu_groups/%u/devices", root, device->group);
	list = opendir(dir);
	if (!list)
		return error_set_sys(err, -errno, "%s", dir);
	while (!r && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		link_name(path, "driver", driver, sizeof(driver));
		if (!may_stay(driver))
			r = say_bound(device, entry->d_name, driver, err);
	}
	closedir(list);
	return r;
}

static int check_driver(const struct sysfs_device *device, struct gw_error *err)
{
	char driver[64];

	link_name(device->path, "driver", driver, sizeof(driver));
	if (driver[0])
		return 0;
	return error_set(err, -EBUSY,
	                 "%s has no driver and has to be bound to vfio-pci: "
	                 "driverctl --nosave set-override %s vfio-pci",
	                 device->name, device->name);
}

int sysfs_find(const char *root, const char *host, struct sysfs_device *out, struct gw_error *err)
{
	char path[PATH_MAX], group[32];
	const char *last;
	char *end;
	int r;

	if (host[0] == '/')
		snprintf(path, sizeof(path), "%s", host);
	else
		snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", root, host);
	if (!realpath(path, out->path))
		return error_set(err, -ENODEV, "host: no such device %s (%s: %s)", host, path,
		                 strerror(errno));
	last = strrchr(out->path, '/') + 1;
	if (strlen(last) >= sizeof(out->name))
		return error_set(err, -ENODEV, "host: %s is no device", host);
	strcpy(out->name, last);
	link_name(out->path, "iommu_group", group, sizeof(group));
	out->group = (unsigned)strtoul(group, &end, 10);
	if (!group[0] || *end)
		return error_set(
		        err, -ENOTSUP,
		        "%s is in no IOMMU group: is the host's IOMMU on (intel_iommu=on)?",
		        out->name);
	r = check_group(root, out, err);
	return r ? r : check_driver(out, err);
}
