/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/sysfs.h"

#include "base/util.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Drivers that leave a device alone without being VFIO's. A bridge's driver does no DMA of its own
 * (Linux, drivers/vfio/pci: pcieport is allowed in a group). */
static const char *const harmless_drivers[] = { "pcieport", "pci-stub" };

void sysfs_link(const char *dir, const char *name, char *out, size_t size)
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

/* vfio-pci itself, and its variants: "mlx5_vfio_pci" and the like. */
bool sysfs_driver_is_vfio(const char *driver)
{
	return strstr(driver, "vfio_pci") || strstr(driver, "vfio-pci");
}

bool sysfs_driver_may_stay(const char *driver)
{
	for (size_t i = 0; i < ARRAY_SIZE(harmless_drivers); i++)
		if (!strcmp(driver, harmless_drivers[i]))
			return true;
	return !driver[0] || sysfs_driver_is_vfio(driver);
}

/* A mediated device is made for VFIO, whatever drives it. */
static bool is_mdev(const char *path)
{
	char type[64];

	sysfs_link(path, "mdev_type", type, sizeof(type));
	return type[0];
}

static int say_bound(const struct sysfs_device *device, const char *who, const char *driver,
                     struct gw_error *err)
{
	bool other = strcmp(who, device->name);

	return error_set(err, -EBUSY,
	                 "%s%s%s is driven by %s and has to be bound to vfio-pci%s "
	                 "(\"godwit devices\" tells how)",
	                 other ? device->name : "", other ? ": in its IOMMU group " : "", who,
	                 driver, other ? " too" : "");
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
		sysfs_link(path, "driver", driver, sizeof(driver));
		if (!sysfs_driver_may_stay(driver) && !is_mdev(path))
			r = say_bound(device, entry->d_name, driver, err);
	}
	closedir(list);
	return r;
}

static int check_driver(const struct sysfs_device *device, struct gw_error *err)
{
	char driver[64];

	sysfs_link(device->path, "driver", driver, sizeof(driver));
	if (sysfs_driver_is_vfio(driver) || is_mdev(device->path))
		return 0;
	if (driver[0])
		return say_bound(device, device->name, driver, err);
	return error_set(err, -EBUSY,
	                 "%s has no driver and has to be bound to vfio-pci "
	                 "(\"godwit devices\" tells how)",
	                 device->name);
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
		return error_set(err, -ENODEV, "no such %sdevice %s (%s: %s)",
		                 host[0] == '/' ? "" : "PCI ", host, path, strerror(errno));
	last = strrchr(out->path, '/') + 1;
	if (strlen(last) >= sizeof(out->name))
		return error_set(err, -ENODEV, "%s is no device", host);
	strcpy(out->name, last);
	out->mdev = is_mdev(out->path);
	sysfs_link(out->path, "iommu_group", group, sizeof(group));
	out->group = (unsigned)strtoul(group, &end, 10);
	if (!group[0] || *end)
		return error_set(
		        err, -ENOTSUP,
		        "%s is in no IOMMU group: is the host's IOMMU on (intel_iommu=on)?",
		        out->name);
	r = check_group(root, out, err);
	return r ? r : check_driver(out, err);
}
