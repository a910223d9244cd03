/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration as a struct, what one may hold, and what of the host it may name. */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"
#include "vfio/host_devices.h"

#include <cjson/cJSON.h>

/* ---- made from a struct ------------------------------------------------------------- */

/* The object of that name; made if there is none. NULL section: `root` itself. */
static cJSON *section_of(cJSON *root, const char *section)
{
	cJSON *at = section ? cJSON_GetObjectItemCaseSensitive(root, section) : root;

	return at ? at : cJSON_AddObjectToObject(root, section);
}

/* A key that `more` has as well is there twice then, which reading finds. */
static bool add_keys(cJSON *root, const struct gw_config *c)
{
	const struct {
		const char *section, *key, *value;
	} texts[] = {
		{ NULL, "name", c->name },
		{ "boot", "kernel", c->kernel },
		{ "boot", "initrd", c->initrd },
		{ "boot", "cmdline", c->cmdline },
		{ "serial", "socket", c->serial_socket },
		{ "serial", "log", c->serial_log },
	};
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].value)
			ok &= cJSON_AddStringToObject(section_of(root, texts[i].section),
			                              texts[i].key, texts[i].value) != NULL;
	if (c->memory)
		ok &= cJSON_AddNumberToObject(root, "memory", (double)c->memory) != NULL;
	if (c->cpus)
		ok &= cJSON_AddNumberToObject(root, "cpus", c->cpus) != NULL;
	if (c->serial_stdio)
		ok &= cJSON_AddTrueToObject(section_of(root, "serial"), "stdio") != NULL;
	return ok;
}

static int add_devices(cJSON *root, const struct gw_config *c, struct gw_error *err)
{
	cJSON *list = c->device_count ? cJSON_GetObjectItemCaseSensitive(root, "devices") : NULL;

	if (c->device_count && !list)
		list = cJSON_AddArrayToObject(root, "devices");
	for (size_t i = 0; i < c->device_count; i++) {
		cJSON *device = cJSON_ParseWithOpts(c->devices[i], NULL, 1);

		if (!device)
			return error_set(err, -EINVAL, "devices[%zu]: not JSON", i);
		if (!cJSON_AddItemToArray(list, device)) {
			cJSON_Delete(device);
			return error_set(err, -ENOMEM, "out of memory");
		}
	}
	return 0;
}

static int config_text(const struct gw_config *c, char **json, struct gw_error *err)
{
	cJSON *root = c->more ? cJSON_ParseWithOpts(c->more, NULL, 1) : cJSON_CreateObject();
	int r = 0;

	*json = NULL;
	if (c->more && !cJSON_IsObject(root))
		r = error_set(err, -EINVAL, "more: not a JSON object");
	if (!r)
		r = add_devices(root, c, err);
	if (!r && add_keys(root, c))
		*json = cJSON_PrintUnformatted(root);
	if (!r && !*json)
		r = error_set(err, -ENOMEM, "out of memory");
	cJSON_Delete(root);
	return r;
}

int gw_vm_configure_with(struct gw_vm *vm, const struct gw_config *config, struct gw_error *err)
{
	static const char name[] = "configuration";
	autofree char *json = NULL;
	int r;

	if (config->size != sizeof(*config))
		return error_set(err, -EINVAL, "%s of %zu bytes, not %zu", name, config->size,
		                 sizeof(*config));
	r = config_text(config, &json, err);
	if (r < 0)
		return error_context(err, "%s", name);
	return gw_vm_configure(vm, json, name, err);
}

/* ---- calls that need no VM ---------------------------------------------------------- */

static int hand_out(char *text, char **out, const char *what, struct gw_error *err)
{
	if (!text)
		return error_set(err, -ENOMEM, "%s: out of memory", what);
	*out = text;
	return 0;
}

int gw_config_schema(char **json, struct gw_error *err)
{
	return hand_out(config_schema(&vm_drivers), json, "schema", err);
}

int gw_config_help(bool markdown, char **text, struct gw_error *err)
{
	return hand_out(config_help(&vm_drivers, markdown), text, "help", err);
}

int gw_config_check(const char *json, const char *name, bool host, struct gw_error *err)
{
	autofree struct config *config = malloc(sizeof(*config));
	int r;

	if (!config)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	r = host ? config_parse_here(json, name, &vm_drivers, config, err)
	         : config_parse(json, name, &vm_drivers, config, err);
	return r;
}

int gw_host_devices(char **json, struct gw_error *err)
{
	return host_devices(SYSFS_ROOT, json, err);
}
