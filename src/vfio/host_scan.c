/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sysfs says of every PCI device and mediated device.
 * Source: Linux, Documentation/ABI/testing/sysfs-bus-pci and
 * sysfs-kernel-iommu_groups; Documentation/driver-api/vfio-mediated-device.rst.
 */
#include "vfio/host_internal.h"

#include "base/io.h"
#include "base/util.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

void host_list_free(struct host_list *list)
{
	free(list->devices);
	*list = (struct host_list){ 0 };
}

static struct host_device *grow(struct host_list *list)
{
	if (list->count == list->room) {
		const unsigned room = list->room ? list->room * 2 : 16;
		struct host_device *more = realloc(list->devices, room * sizeof(*more));

		if (!more)
			return NULL;
		list->devices = more;
		list->room = room;
	}
	return &list->devices[list->count];
}

/* ---- single files ---------------------------------------------------------------------------- */

static void read_word(const struct host_device *d, const char *name, char *out, size_t size)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", d->path, name);
	if (io_read_line(path, out, size, NULL) < 0)
		out[0] = 0;
}

/* `otherwise` where there is no such file, or no number in it. */
static long read_number(const struct host_device *d, const char *name, long otherwise)
{
	char text[32], *end;
	long value;

	read_word(d, name, text, sizeof(text));
	value = strtol(text, &end, 0);
	return text[0] && !*end ? value : otherwise;
}

static bool directory_has_entries(const char *root, const char *name)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool has = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	dir = opendir(path);
	while (dir && !has && (entry = readdir(dir)))
		has = entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return has;
}

/* ---- a device ----------------------------------------------------------------------------------
 */

static void read_device(const char *root, struct host_device *d)
{
	char group[32], *end;

	sysfs_link(d->path, "driver", d->driver, sizeof(d->driver));
	d->vfio = d->mdev || sysfs_is_vfio(root, d->path, d->driver);
	d->may_stay = d->mdev || sysfs_may_stay(root, d->path, d->driver);
	sysfs_cdev(d->path, d->cdev, sizeof(d->cdev));
	sysfs_link(d->path, "iommu_group", group, sizeof(group));
	d->group = (int)strtol(group, &end, 10);
	if (!group[0] || *end)
		d->group = -1;
	d->numa_node = (int)read_number(d, "numa_node", -1);
	if (d->mdev) {
		sysfs_link(d->path, "mdev_type", d->mdev_type, sizeof(d->mdev_type));
		return;
	}
	d->vendor = (unsigned)read_number(d, "vendor", 0);
	d->device = (unsigned)read_number(d, "device", 0);
	d->class = (unsigned)read_number(d, "class", 0);
	read_word(d, "reset_method", d->reset, sizeof(d->reset));
}

static int add(struct host_list *list, const char *root, const char *dir, const char *name,
               bool mdev, struct gw_error *err)
{
	struct host_device *d = grow(list);
	char path[PATH_MAX + 300];

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	*d = (struct host_device){ .mdev = mdev, .group = -1, .asked = -EOPNOTSUPP };
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	/* One that has gone meanwhile is not on the list. */
	if (strlen(name) >= sizeof(d->name) || !realpath(path, d->path))
		return 0;
	strcpy(d->name, name);
	read_device(root, d);
	list->count++;
	return 0;
}

/* A bus that there is not has no devices. */
static int scan_bus(const char *root, const char *bus, bool mdev, struct host_list *list,
                    struct gw_error *err)
{
	struct dirent **entries;
	char dir[PATH_MAX];
	int count, r = 0;

	snprintf(dir, sizeof(dir), "%s/bus/%s/devices", root, bus);
	count = scandir(dir, &entries, NULL, alphasort);
	if (count < 0 && errno == ENOENT)
		return 0;
	if (count < 0)
		return error_set_sys(err, -errno, "%s", dir);
	for (int i = 0; i < count; i++) {
		if (!r && entries[i]->d_name[0] != '.')
			r = add(list, root, dir, entries[i]->d_name, mdev, err);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int host_scan(const char *root, struct host_list *out, struct gw_error *err)
{
	int r;

	*out = (struct host_list){ 0 };
	out->has_iommu = directory_has_entries(root, "kernel/iommu_groups");
	out->has_vfio_pci = directory_has_entries(root, "bus/pci/drivers/vfio-pci");
	r = scan_bus(root, "pci", false, out, err);
	if (!r)
		r = scan_bus(root, "mdev", true, out, err);
	if (r < 0)
		host_list_free(out);
	return r;
}
