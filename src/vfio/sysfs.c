/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/sysfs.h"

#include "base/util.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Drivers with which a device may stay in a group that is passed through, as they start no DMA
 * (Linux, driver_managed_dma): pcieport is a bridge's, and pci-stub is made to hold a device so
 * that nobody uses it. */
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

/* The only entry of this name in a folder of the device's: "" if there is none. */
static void registered_name(const char *path, char *out, size_t size)
{
	char dir[PATH_MAX + 16];
	struct dirent *entry;
	DIR *list;

	out[0] = 0;
	snprintf(dir, sizeof(dir), "%s/vfio-dev", path);
	list = opendir(dir);
	while (list && !out[0] && (entry = readdir(list)))
		if (!strncmp(entry->d_name, "vfio", 4) && strlen(entry->d_name) < size)
			strcpy(out, entry->d_name);
	if (list)
		closedir(list);
}

/* Since Linux 6.1 each device that VFIO has is named in its folder vfio-dev; before, only the
 * driver's name tells ("mlx5_vfio_pci" and the like). */
bool sysfs_is_vfio(const char *root, const char *path, const char *driver)
{
	char class[PATH_MAX + 32], name[32];

	snprintf(class, sizeof(class), "%s/class/vfio-dev", root);
	if (access(class, F_OK) < 0)
		return strstr(driver, "vfio_pci") || strstr(driver, "vfio-pci");
	registered_name(path, name, sizeof(name));
	return name[0];
}

/* It has a number (file "dev") where the kernel has character devices (Linux 6.6). */
void sysfs_cdev(const char *path, char *out, size_t size)
{
	char dev[PATH_MAX + 64];

	registered_name(path, out, size);
	snprintf(dev, sizeof(dev), "%s/vfio-dev/%s/dev", path, out);
	if (out[0] && access(dev, F_OK) < 0)
		out[0] = 0;
}

bool sysfs_may_stay(const char *root, const char *path, const char *driver)
{
	for (size_t i = 0; i < ARRAY_SIZE(harmless_drivers); i++)
		if (!strcmp(driver, harmless_drivers[i]))
			return true;
	return !driver[0] || sysfs_is_vfio(root, path, driver);
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
		if (!sysfs_may_stay(root, path, driver) && !is_mdev(path))
			r = say_bound(device, entry->d_name, driver, err);
	}
	closedir(list);
	return r;
}

static int check_driver(const char *root, const struct sysfs_device *device, struct gw_error *err)
{
	char driver[64];

	sysfs_link(device->path, "driver", driver, sizeof(driver));
	if (is_mdev(device->path) || sysfs_is_vfio(root, device->path, driver))
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
	sysfs_cdev(out->path, out->cdev, sizeof(out->cdev));
	sysfs_link(out->path, "iommu_group", group, sizeof(group));
	out->group = (unsigned)strtoul(group, &end, 10);
	if (!group[0] || *end)
		return error_set(
		        err, -ENOTSUP,
		        "%s is in no IOMMU group: is the host's IOMMU on (intel_iommu=on)?",
		        out->name);
	r = check_group(root, out, err);
	return r ? r : check_driver(root, out, err);
}
