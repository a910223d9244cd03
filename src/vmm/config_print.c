/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration as JSON again. What is printed reads as what it was printed from. */
#include "vmm/config_internal.h"

#include "vmm/device.h"

static bool print_keys(cJSON *root, const struct config_key *keys, const void *base)
{
	for (const struct config_key *key = keys; key->name; key++) {
		cJSON *in = root, *fresh = NULL;
		bool ok;

		if (key->section) {
			in = cJSON_GetObjectItemCaseSensitive(root, key->section);
			if (!in)
				in = fresh = cJSON_CreateObject();
		}
		ok = in && config_print_value(in, key, base);
		/* A section that nothing was said in stays away. */
		if (ok && fresh && fresh->child) {
			ok = cJSON_AddItemToObject(root, key->section, fresh);
			fresh = ok ? NULL : fresh;
		}
		cJSON_Delete(fresh);
		if (!ok)
			return false;
	}
	return true;
}

static bool print_device(cJSON *list, const struct config_device *device,
                         const struct device_drivers *drivers)
{
	const struct device_driver *driver = config_find_driver(drivers, device->type);
	cJSON *entry = cJSON_CreateObject();
	bool ok = entry && print_keys(entry, config_device_keys, device) &&
	          (!driver || print_keys(entry, driver->keys, device->options));

	if (ok && cJSON_AddItemToArray(list, entry))
		return true;
	cJSON_Delete(entry);
	return false;
}

static bool print_nodes(cJSON *root, const struct config *config)
{
	cJSON *list = config->node_count ? cJSON_AddArrayToObject(root, "numa") : NULL;
	bool ok = list || !config->node_count;

	for (unsigned i = 0; i < config->node_count && ok; i++) {
		cJSON *entry = cJSON_CreateObject();

		ok = entry && print_keys(entry, config_node_keys, &config->numa[i]) &&
		     cJSON_AddItemToArray(list, entry);
		if (!ok)
			cJSON_Delete(entry);
	}
	return ok;
}

char *config_print(const struct config *config, const struct device_drivers *drivers)
{
	cJSON *root = cJSON_CreateObject();
	bool ok =
	        root && print_keys(root, config_machine_keys, config) && print_nodes(root, config);
	cJSON *devices = ok ? cJSON_AddArrayToObject(root, "devices") : NULL;
	char *text = NULL;

	ok = devices;
	for (unsigned i = 0; i < config->device_count && ok; i++)
		ok = print_device(devices, &config->devices[i], drivers);
	if (ok)
		text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	return text;
}
