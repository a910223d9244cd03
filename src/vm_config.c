/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration may hold, and what of the host it may name: calls that need no VM. */
#include "vm.h"

#include "base/error.h"
#include "base/util.h"
#include "vfio/host_devices.h"

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
