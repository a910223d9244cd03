/* SPDX-License-Identifier: Apache-2.0 */
/* What differs at the place of arrival: keys that name something of the host, and no others. */
#include "vmm/config_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/device.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Named by the `len` bytes at id. */
static struct config_device *find_device(struct config *config, const char *id, size_t len)
{
	char name[sizeof(config->devices[0].id)];

	if (len >= sizeof(name))
		return NULL;
	snprintf(name, sizeof(name), "%.*s", (int)len, id);
	return config_find_device(config, name);
}

/* The guest has another device to go on with, so it can do without this one here. */
static int leave_out(struct config *config, const struct gw_map *map, struct gw_error *err)
{
	struct config_device *device = config_find_device(config, map->path + 8);
	const struct config_device *end = &config->devices[config->device_count];

	if (!device)
		return error_set(err, -ENOENT, "map %.128s: the machine has no such device",
		                 map->path);
	if (strcmp(map->value, "none"))
		return error_set(err, -EINVAL, "map %.128s: a whole device can be \"none\" only",
		                 map->path);
	if (!device->failover[0])
		return error_set(err, -EINVAL,
		                 "map %.128s: it cannot be left out: no other device stands in for "
		                 "it (failover)",
		                 map->path);
	memmove(device, device + 1, (size_t)(end - device - 1) * sizeof(*device));
	config->device_count--;
	return 0;
}

/* By "numa.NUMBER."; *rest is what follows. NULL: there is no such node. */
static struct config_node *find_node(struct config *config, const char *path, const char **rest)
{
	const char *at = path + 5;
	unsigned number = 0;

	if (strncmp(path, "numa.", 5))
		return NULL;
	for (; isdigit((unsigned char)*at) && number < CONFIG_NODES_MAX; at++)
		number = number * 10 + (unsigned)(*at - '0');
	if (at == path + 5 || *at != '.' || number >= config->node_count)
		return NULL;
	*rest = at + 1;
	return &config->numa[number];
}

/* By "section.name" or "name". */
static const struct config_key *find_path(const struct config_key *keys, const char *path)
{
	const char *dot = strchr(path, '.');
	char section[64];

	if (!dot)
		return config_find_key(keys, NULL, path);
	if ((size_t)(dot - path) >= sizeof(section))
		return NULL;
	snprintf(section, sizeof(section), "%.*s", (int)(dot - path), path);
	return config_find_key(keys, section, dot + 1);
}

static void list_paths(const struct config_key *keys, const char *prefix, char *out, size_t size)
{
	for (const struct config_key *key = keys; key->name; key++)
		if (key->flags & CONFIG_OF_HOST)
			snprintf(out + strlen(out), size - strlen(out), "%s%s%s%s%s",
			         out[0] ? ", " : "", prefix, key->section ? key->section : "",
			         key->section ? "." : "", key->name);
}

static int say_no_path(const struct config *config, const struct device_drivers *drivers,
                       const char *path, struct gw_error *err)
{
	char list[600] = "";

	list_paths(config_machine_keys, "", list, sizeof(list));
	for (unsigned i = 0; i < config->node_count; i++) {
		char prefix[24];

		snprintf(prefix, sizeof(prefix), "numa.%u.", i);
		list_paths(config_node_keys, prefix, list, sizeof(list));
	}
	for (unsigned i = 0; i < config->device_count; i++) {
		const struct device_driver *driver =
		        config_find_driver(drivers, config->devices[i].type);
		char prefix[64];

		snprintf(prefix, sizeof(prefix), "devices.%s.", config->devices[i].id);
		if (driver)
			list_paths(driver->keys, prefix, list, sizeof(list));
	}
	return error_set(err, -EINVAL, "map %.128s: no such path; there are %s", path, list);
}

/* Text is taken as it stands; other kinds are JSON, or the text that their JSON would be. */
static cJSON *make_value(const struct config_key *key, const char *text)
{
	cJSON *value = key->kind == CONFIG_TEXT ? NULL : cJSON_ParseWithOpts(text, NULL, 1);

	return value ? value : cJSON_CreateString(text);
}

static int apply_one(struct config *config, const struct device_drivers *drivers,
                     const struct gw_map *map, struct gw_error *err)
{
	const struct config_key *key = NULL;
	const struct device_driver *driver;
	struct config_device *device;
	struct config_node *node;
	struct config_faults faults;
	void *base = config;
	const char *dot;
	cJSON *value;

	if (!strncmp(map->path, "devices.", 8) && !strchr(map->path + 8, '.'))
		return leave_out(config, map, err);
	if (!strncmp(map->path, "devices.", 8) && (dot = strchr(map->path + 8, '.'))) {
		device = find_device(config, map->path + 8, (size_t)(dot - map->path - 8));
		if (!device)
			return error_set(err, -ENOENT, "map %.128s: the machine has no such device",
			                 map->path);
		driver = config_find_driver(drivers, device->type);
		key = driver ? find_path(driver->keys, dot + 1) : NULL;
		base = device->options;
	} else if ((node = find_node(config, map->path, &dot))) {
		key = find_path(config_node_keys, dot);
		base = node;
	} else {
		key = find_path(config_machine_keys, map->path);
	}
	if (!key || !(key->flags & CONFIG_OF_HOST))
		return say_no_path(config, drivers, map->path, err);
	config_faults_begin(&faults, "map", err);
	value = make_value(key, map->value);
	if (value)
		config_read_value(value, key, map->path, base, &faults);
	else
		config_fault_code(&faults, -ENOMEM, "%s: out of memory", map->path);
	cJSON_Delete(value);
	return config_faults_end(&faults);
}

int config_apply_map(struct config *config, const struct device_drivers *drivers,
                     const struct gw_map *map, size_t count, struct gw_error *err)
{
	struct config_faults faults;

	for (size_t i = 0; i < count; i++) {
		int r = apply_one(config, drivers, &map[i], err);

		if (r < 0)
			return r;
	}
	config_faults_begin(&faults, "map", err);
	config_check_whole(config, drivers, &faults);
	return config_faults_end(&faults);
}
