/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the machine: its state, its parts, its buttons. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

int command_query_status(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	enum gw_state state = gw_vm_state(vm);
	cJSON *root = cJSON_CreateObject();

	(void)args;
	*ret = root;
	if (!cJSON_AddBoolToObject(root, "running", state == GW_STATE_RUNNING) ||
	    !cJSON_AddStringToObject(root, "status", gw_state_name(state)))
		return error_set(err, -ENOMEM, "query-status: out of memory");
	return 0;
}

/* An empty VM has no name, and that is no error. */
int command_query_name(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	char *json = NULL;
	cJSON *config = NULL;
	const char *name;
	int r = gw_vm_query_config(vm, &json, err);

	(void)args;
	if (r == -ENODATA)
		return 0;
	if (r < 0 || (r = command_take_json(json, &config, err)) < 0)
		return error_context(err, "query-name");
	name = args_string(config, "name");
	*ret = cJSON_CreateObject();
	if (name && !cJSON_AddStringToObject(*ret, "name", name))
		r = error_set(err, -ENOMEM, "query-name: out of memory");
	cJSON_Delete(config);
	return r;
}

int command_query_cpus(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	char *json = NULL;
	int r = gw_vm_query_cpus(vm, &json, err);

	(void)args;
	return r < 0 ? r : command_take_json(json, ret, err);
}

int command_query_pci(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	char *json = NULL;
	int r = gw_vm_query_pci(vm, &json, err);

	(void)args;
	return r < 0 ? r : command_take_json(json, ret, err);
}

int command_query_config(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	char *json = NULL;
	int r = gw_vm_query_config(vm, &json, err);

	(void)args;
	return r < 0 ? r : command_take_json(json, ret, err);
}

int command_stop(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)args;
	(void)ret;
	return gw_vm_stop(vm, err);
}

int command_cont(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)ret;
	return gw_vm_cont(vm, args_bool(args, "force", false), err);
}

int command_quit(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)args;
	(void)ret;
	(void)err;
	gw_vm_quit(vm);
	return 0;
}

int command_powerdown(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)args;
	(void)ret;
	return gw_vm_powerdown(vm, err);
}

int command_reset(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)args;
	(void)ret;
	return gw_vm_reset(vm, err);
}

int command_device_add(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	const char *driver = args_string(args, "driver");
	const char *type = args_string(args, "type");
	const cJSON *slot = args_get(args, "slot");
	cJSON *entry;
	autofree char *json = NULL;

	(void)ret;
	if (!driver == !type)
		return error_set(err, -EINVAL,
		                 "device_add: give one of the arguments \"driver\" and \"type\"");
	entry = cJSON_CreateObject();
	if (cJSON_AddStringToObject(entry, "id", args_string(args, "id")) &&
	    cJSON_AddStringToObject(entry, "type", driver ? driver : type) &&
	    cJSON_AddStringToObject(entry, "host", args_string(args, "host")) &&
	    (!slot || cJSON_AddNumberToObject(entry, "slot", slot->valuedouble)))
		json = cJSON_PrintUnformatted(entry);
	cJSON_Delete(entry);
	if (!json)
		return error_set(err, -ENOMEM, "device_add: out of memory");
	return gw_vm_device_add(vm, json, err);
}

int command_device_del(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)ret;
	return gw_vm_device_del(vm, args_string(args, "id"), err);
}
