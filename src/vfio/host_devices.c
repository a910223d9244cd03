/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/host_devices.h"

#include "base/util.h"
#include "vfio/host_internal.h"
#include "vfio/uapi.h"

#include <stdio.h>
#include <string.h>

static bool add_text(cJSON *to, const char *name, const char *value)
{
	return value[0] ? cJSON_AddStringToObject(to, name, value) != NULL
	                : cJSON_AddNullToObject(to, name) != NULL;
}

static bool add_number_or_null(cJSON *to, const char *name, int value)
{
	return value >= 0 ? cJSON_AddNumberToObject(to, name, value) != NULL
	                  : cJSON_AddNullToObject(to, name) != NULL;
}

static bool add_hex(cJSON *to, const char *name, unsigned value, int digits)
{
	char text[16];

	snprintf(text, sizeof(text), "%0*x", digits, value);
	return cJSON_AddStringToObject(to, name, text);
}

static bool add_word(cJSON *list, const char *word)
{
	cJSON *item = cJSON_CreateString(word);

	if (item && cJSON_AddItemToArray(list, item))
		return true;
	cJSON_Delete(item);
	return false;
}

/* ---- the parts of an entry ------------------------------------------------------------------- */

static bool add_pci(cJSON *to, const struct host_device *d, const struct pci_ids *ids)
{
	char vendor[128], device[128], class[128];

	pci_ids_vendor(ids, d->vendor, vendor, sizeof(vendor));
	pci_ids_device(ids, d->vendor, d->device, device, sizeof(device));
	pci_ids_class(ids, d->class, class, sizeof(class));
	return add_hex(to, "vendor", d->vendor, 4) && add_hex(to, "device", d->device, 4) &&
	       add_hex(to, "class", d->class, 6) && add_text(to, "vendor-name", vendor) &&
	       add_text(to, "device-name", device) && add_text(to, "class-name", class);
}

static bool add_group(cJSON *to, const struct host_list *list, const struct host_device *device)
{
	cJSON *others = cJSON_AddArrayToObject(to, "group-others");
	bool ok = others && add_number_or_null(to, "iommu-group", device->group);

	for (unsigned i = 0; i < list->count && ok; i++) {
		const struct host_device *d = &list->devices[i];

		if (d != device && d->group >= 0 && d->group == device->group)
			ok = add_word(others, d->name);
	}
	return ok;
}

static bool add_reset(cJSON *to, const struct host_device *d)
{
	cJSON *methods = cJSON_AddArrayToObject(to, "reset-methods");
	char words[sizeof(d->reset)], *rest = words, *word;
	bool ok = methods;

	strcpy(words, d->reset);
	while (ok && (word = strsep(&rest, " ")))
		ok = !word[0] || add_word(methods, word);
	return ok;
}

static bool add_migration(cJSON *to, const struct host_device *d)
{
	static const struct {
		const char *name;
		uint64_t flag;
	} flags[] = {
		{ "stop-copy", VFIO_MIGRATION_STOP_COPY },
		{ "p2p", VFIO_MIGRATION_P2P },
		{ "pre-copy", VFIO_MIGRATION_PRE_COPY },
	};
	cJSON *migration;
	bool ok;

	if (d->asked < 0)
		return cJSON_AddNullToObject(to, "migration");
	migration = cJSON_AddObjectToObject(to, "migration");
	ok = migration;
	for (size_t i = 0; i < ARRAY_SIZE(flags) && ok; i++)
		ok = cJSON_AddBoolToObject(migration, flags[i].name,
		                           (d->features.flags & flags[i].flag) != 0);
	return ok && cJSON_AddBoolToObject(migration, "dma-logging", d->features.dma_logging) &&
	       cJSON_AddBoolToObject(migration, "iommu-tracking", d->features.iommu_tracks) &&
	       (d->features.data_size ? cJSON_AddNumberToObject(migration, "data-size",
	                                                        (double)d->features.data_size)
	                              : cJSON_AddNullToObject(migration, "data-size"));
}

static bool add_verdict(cJSON *to, const struct host_list *list, const struct host_device *d)
{
	struct host_verdict v;

	host_judge(list, d, &v);
	return cJSON_AddBoolToObject(to, "passable", v.passable) &&
	       cJSON_AddBoolToObject(to, "movable", v.movable) &&
	       add_text(to, "not-passable", v.not_passable) &&
	       add_text(to, "not-movable", v.not_movable) && add_text(to, "mend", v.mend);
}

static bool add_entry(cJSON *to, const struct host_list *list, const struct host_device *d,
                      const struct pci_ids *ids)
{
	char host[96];

	/* As a configuration names it. */
	snprintf(host, sizeof(host), "%s%s", d->mdev ? "/sys/bus/mdev/devices/" : "", d->name);
	return cJSON_AddStringToObject(to, "host", host) &&
	       cJSON_AddStringToObject(to, "kind", d->mdev ? "mdev" : "pci") &&
	       (d->mdev ? add_text(to, "mdev-type", d->mdev_type) : add_pci(to, d, ids)) &&
	       add_text(to, "driver", d->driver) && add_text(to, "character-device", d->cdev) &&
	       add_group(to, list, d) && add_reset(to, d) &&
	       add_number_or_null(to, "numa-node", d->numa_node) && add_migration(to, d) &&
	       add_verdict(to, list, d);
}

cJSON *host_describe(const struct host_list *list, const struct pci_ids *ids)
{
	cJSON *root = cJSON_CreateArray();
	bool ok = root;

	for (unsigned i = 0; i < list->count && ok; i++) {
		cJSON *entry = cJSON_CreateObject();

		ok = entry && cJSON_AddItemToArray(root, entry);
		if (ok)
			ok = add_entry(entry, list, &list->devices[i], ids);
		else
			cJSON_Delete(entry);
	}
	if (ok)
		return root;
	cJSON_Delete(root);
	return NULL;
}

/* ---- the call -----------------------------------------------------------------------------------
 */

/* Only a device that is not the host's any more is opened, and only if all of its group is. */
static void ask_devices(struct host_list *list)
{
	for (unsigned i = 0; i < list->count; i++) {
		struct host_device *d = &list->devices[i];
		struct host_verdict v;

		host_judge(list, d, &v);
		if (v.passable)
			d->asked = host_probe(d, &d->features);
	}
}

int host_devices(const char *root, char **json, struct gw_error *err)
{
	struct pci_ids ids = { 0 };
	struct host_list list;
	cJSON *described;
	int r = host_scan(root, &list, err);

	if (r < 0)
		return error_context(err, "devices");
	ask_devices(&list);
	pci_ids_load(&ids);
	described = host_describe(&list, &ids);
	pci_ids_free(&ids);
	host_list_free(&list);
	*json = described ? cJSON_PrintUnformatted(described) : NULL;
	cJSON_Delete(described);
	return *json ? 0 : error_set(err, -ENOMEM, "devices: out of memory");
}
