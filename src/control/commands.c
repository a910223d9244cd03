/* SPDX-License-Identifier: Apache-2.0 */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"
#include "control/wire.h"

#include <string.h>

static int negotiate(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	const cJSON *wanted = args_get(args, "enable");

	(void)vm;
	(void)ret;
	if (cJSON_GetArraySize(wanted))
		return error_set(err, -EINVAL, "qmp_capabilities: \"%s\" is not offered",
		                 cJSON_GetStringValue(cJSON_GetArrayItem(wanted, 0)));
	return 0;
}

static int query_version(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)vm;
	(void)args;
	*ret = wire_version();
	return *ret ? 0 : error_set(err, -ENOMEM, "query-version: out of memory");
}

static int query_kvm(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	cJSON *root = cJSON_CreateObject();

	(void)vm;
	(void)args;
	*ret = root;
	if (!cJSON_AddTrueToObject(root, "enabled") || !cJSON_AddTrueToObject(root, "present"))
		return error_set(err, -ENOMEM, "query-kvm: out of memory");
	return 0;
}

static int query_commands(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err);

/* Shared rows. */
#define ARG_MAP                                                                                    \
	{                                                                                          \
		"map", ARG_STRINGS, false,                                                         \
		        "host resources that differ here: path in the configuration to value", 0,  \
		        0                                                                          \
	}
#define ARG_URI                                                                                    \
	{                                                                                          \
		"uri", ARG_STRING, false, "tcp:HOST:PORT or unix:PATH", 0, 0                       \
	}
#define ARG_CHANNELS                                                                               \
	{                                                                                          \
		"channels", ARG_LIST, false,                                                       \
		        "instead of uri: one entry with channel-type \"main\" and addr", 0, 0      \
	}

const struct command control_commands[] = {
	{ "qmp_capabilities",
	  ARGS({ "enable", ARG_WORDS, false, "capabilities to use; none is offered", 0, 0 }),
	  negotiate, COMMAND_INLINE | COMMAND_NEGOTIATE,
	  "ends the negotiation: other commands are taken from now on, and events sent" },
	{ "query-version", NULL, query_version, COMMAND_INLINE, "the version of godwit" },
	{ "query-commands", NULL, query_commands, COMMAND_INLINE,
	  "the commands, with their arguments" },
	{ "query-kvm", NULL, query_kvm, COMMAND_INLINE, "whether KVM is used: always" },
	{ "query-status", NULL, command_query_status, 0, "the VM's state, and whether it runs" },
	{ "query-name", NULL, command_query_name, 0, "the VM's name, if it has one" },
	{ "query-cpus-fast", NULL, command_query_cpus, 0, "the vCPUs and their threads" },
	{ "query-pci", NULL, command_query_pci, 0, "the PCI functions" },
	{ "query-config", NULL, command_query_config, 0,
	  "the configuration that the machine has now" },
	{ "stop", NULL, command_stop, 0, "stops the vCPUs" },
	{ "cont",
	  ARGS({ "force", ARG_BOOL, false,
	         "run a guest that was handed over: only if the other host does not run it", 0,
	         0 }),
	  command_cont, 0, "runs the vCPUs" },
	{ "quit", NULL, command_quit, 0, "ends the VM" },
	{ "system_powerdown", NULL, command_powerdown, 0, "presses the power button" },
	{ "system_reset", NULL, command_reset, 0, "resets the machine" },
	{ "device_add",
	  ARGS({ "driver", ARG_STRING, false, "the type of device: vfio-pci", 0, 0 },
	       { "type", ARG_STRING, false, "another name for driver", 0, 0 },
	       { "id", ARG_STRING, true, "what it will be called", 0, 0 },
	       { "host", ARG_STRING, true, "the host's device: 0000:03:00.0, or a path in sysfs", 0,
	         0 },
	       { "slot", ARG_UINT, false, "PCI slot; left out: the first free one", 1, 31 }),
	  command_device_add, 0, "plugs a device in" },
	{ "device_del", ARGS({ "id", ARG_STRING, true, "which device", 0, 0 }), command_device_del,
	  0, "asks the guest to let a device go; DEVICE_DELETED follows when it has" },
	{ "migrate",
	  ARGS(ARG_URI, ARG_CHANNELS,
	       { "detach", ARG_BOOL, false, "taken and without meaning: it always detaches", 0,
	         0 }),
	  command_migrate, 0, "starts to move the VM to another host" },
	{ "migrate-incoming",
	  ARGS(ARG_URI, ARG_CHANNELS, ARG_MAP,
	       { "exit-on-error", ARG_BOOL, false,
	         "false only: a stream that fails does not end the program", 0, 0 }),
	  command_migrate_incoming, 0, "makes an empty VM wait for a migration" },
	{ "migrate_cancel", NULL, command_migrate_cancel, 0,
	  "asks the migration under way to stop; fine if there is none" },
	{ "query-migrate", NULL, command_query_migrate, 0, "the present or last migration" },
	{ "migrate-set-parameters", migrate_parameter_args, command_set_parameters, 0,
	  "sets parameters of migrations to come and under way" },
	{ "query-migrate-parameters", NULL, command_query_parameters, 0,
	  "the parameters of migrations" },
	{ "migrate-set-capabilities",
	  ARGS({ "capabilities", ARG_LIST, true, "entries of capability and state", 0, 0 }),
	  command_set_capabilities, 0, "switches capabilities of migration" },
	{ "query-migrate-capabilities", NULL, command_query_capabilities, 0,
	  "the capabilities of migration, and which are on" },
	{ "snapshot-save",
	  ARGS({ "directory", ARG_STRING, true, "a directory that does not exist yet", 0, 0 }),
	  command_snapshot_save, 0, "saves the VM to a directory; it goes on as before" },
	{ "snapshot-load",
	  ARGS({ "directory", ARG_STRING, true, "what snapshot-save has made", 0, 0 }, ARG_MAP,
	       { "run", ARG_BOOL, false,
	         "whether it runs if it ran when it was saved; left out: true", 0, 0 }),
	  command_snapshot_load, 0, "fills an empty VM from a directory" },
	{ NULL, NULL, NULL, 0, NULL },
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = control_commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int command_take_json(char *json, cJSON **ret, struct gw_error *err)
{
	*ret = cJSON_Parse(json);
	gw_free(json);
	return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static bool describe_arg(cJSON *list, const struct arg *arg)
{
	cJSON *item = cJSON_CreateObject();

	return cJSON_AddItemToArray(list, item) &&
	       cJSON_AddStringToObject(item, "name", arg->name) &&
	       cJSON_AddStringToObject(item, "type", arg_type_name(arg->type)) &&
	       cJSON_AddBoolToObject(item, "required", arg->required) &&
	       cJSON_AddStringToObject(item, "help", arg->help);
}

static bool describe(cJSON *list, const struct command *c)
{
	cJSON *item = cJSON_CreateObject();
	cJSON *args;
	bool ok = cJSON_AddItemToArray(list, item) &&
	          cJSON_AddStringToObject(item, "name", c->name) &&
	          cJSON_AddStringToObject(item, "help", c->help);

	args = cJSON_AddArrayToObject(item, "arguments");
	for (const struct arg *arg = c->args; ok && arg && arg->name; arg++)
		ok = describe_arg(args, arg);
	return ok && args;
}

/* QMP's entries have the name only; a client passes over members that it does not know. */
static int query_commands(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)vm;
	(void)args;
	*ret = cJSON_CreateArray();
	for (const struct command *c = control_commands; c->name; c++)
		if (!describe(*ret, c))
			return error_set(err, -ENOMEM, "query-commands: out of memory");
	return 0;
}
