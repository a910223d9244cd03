/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the machine: its state, its parts, its buttons. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>

#define NO_UUID "00000000-0000-0000-0000-000000000000"
#define CPUS_MAX 255

static const char *target_name(void)
{
	return HOST_ELF_MACHINE == 62 ? "x86_64" : "aarch64";
}

const char *command_target_cpu(void)
{
	return HOST_ELF_MACHINE == 62 ? "x86_64-cpu" : "aarch64-cpu";
}

int command_query_kvm(struct call *call, struct gw_error *err)
{
	call->ret = cJSON_CreateObject();
	if (!cJSON_AddTrueToObject(call->ret, "enabled") ||
	    !cJSON_AddTrueToObject(call->ret, "present"))
		return error_set(err, -ENOMEM, "query-kvm: out of memory");
	return 0;
}

int command_query_status(struct call *call, struct gw_error *err)
{
	enum gw_state state = gw_vm_state(call->vm);

	call->ret = cJSON_CreateObject();
	if (!cJSON_AddBoolToObject(call->ret, "running", state == GW_STATE_RUNNING) ||
	    !cJSON_AddStringToObject(call->ret, "status", gw_state_name(state)))
		return error_set(err, -ENOMEM, "query-status: out of memory");
	return 0;
}

/* Returns {`as`: the configuration's `key`}; `otherwise` where it has none, which NULL leaves out.
 * That a VM is empty is no error. */
static int query_key(struct call *call, const char *key, const char *as, const char *otherwise,
                     struct gw_error *err)
{
	char *json = NULL;
	cJSON *config = NULL;
	const char *value;
	int r = gw_vm_query_config(call->vm, &json, err);

	if (!r)
		r = command_take_json(json, &config, err);
	if (r < 0 && r != -ENODATA)
		return r;
	value = args_string(config, key);
	if (!value || !*value)
		value = otherwise;
	call->ret = cJSON_CreateObject();
	r = !call->ret || (value && !cJSON_AddStringToObject(call->ret, as, value))
	            ? error_set(err, -ENOMEM, "out of memory")
	            : 0;
	cJSON_Delete(config);
	return r;
}

int command_query_name(struct call *call, struct gw_error *err)
{
	int r = query_key(call, "name", "name", NULL, err);

	return r < 0 ? error_context(err, "query-name") : 0;
}

int command_query_uuid(struct call *call, struct gw_error *err)
{
	int r = query_key(call, "uuid", "UUID", NO_UUID, err);

	return r < 0 ? error_context(err, "query-uuid") : 0;
}

int command_query_target(struct call *call, struct gw_error *err)
{
	call->ret = cJSON_CreateObject();
	return cJSON_AddStringToObject(call->ret, "arch", target_name())
	               ? 0
	               : error_set(err, -ENOMEM, "query-target: out of memory");
}

int command_query_machines(struct call *call, struct gw_error *err)
{
	cJSON *machine = cJSON_CreateObject();

	call->ret = cJSON_CreateArray();
	if (!cJSON_AddItemToArray(call->ret, machine) ||
	    !cJSON_AddStringToObject(machine, "name", "godwit") ||
	    !cJSON_AddTrueToObject(machine, "is-default") ||
	    !cJSON_AddNumberToObject(machine, "cpu-max", CPUS_MAX) ||
	    !cJSON_AddFalseToObject(machine, "hotpluggable-cpus") ||
	    !cJSON_AddFalseToObject(machine, "numa-mem-supported") ||
	    !cJSON_AddFalseToObject(machine, "deprecated") ||
	    !cJSON_AddTrueToObject(machine, "acpi"))
		return error_set(err, -ENOMEM, "query-machines: out of memory");
	return 0;
}

/* What QMP has in every entry beside what the VM says. */
static bool complete_cpu(cJSON *cpu)
{
	char path[40];

	snprintf(path, sizeof(path), "/machine/cpu[%llu]",
	         (unsigned long long)args_uint(cpu, "cpu-index", 0));
	return (cJSON_HasObjectItem(cpu, "qom-path") ||
	        cJSON_AddStringToObject(cpu, "qom-path", path)) &&
	       (cJSON_HasObjectItem(cpu, "target") ||
	        cJSON_AddStringToObject(cpu, "target", target_name()));
}

int command_query_cpus(struct call *call, struct gw_error *err)
{
	cJSON *cpu;
	int r = command_pass_json(call, gw_vm_query_cpus, "[]", err);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(cpu, call->ret)
	{
		if (!complete_cpu(cpu))
			return error_set(err, -ENOMEM, "query-cpus-fast: out of memory");
	}
	return 0;
}

int command_query_pci(struct call *call, struct gw_error *err)
{
	return command_pass_json(call, gw_vm_query_pci, "[]", err);
}

int command_query_memory(struct call *call, struct gw_error *err)
{
	return command_pass_json(call, gw_vm_query_memory,
	                         "{\"base-memory\":0,\"plugged-memory\":0}", err);
}

int command_query_config(struct call *call, struct gw_error *err)
{
	return command_pass_json(call, gw_vm_query_config, "{}", err);
}

static int config_schema(struct gw_vm *vm, char **json, struct gw_error *err)
{
	(void)vm;
	return gw_config_schema(json, err);
}

int command_query_config_schema(struct call *call, struct gw_error *err)
{
	return command_pass_json(call, config_schema, "{}", err);
}

/* ---- buttons ------------------------------------------------------------------------------- */

int command_stop(struct call *call, struct gw_error *err)
{
	return gw_vm_stop(call->vm, err);
}

int command_cont(struct call *call, struct gw_error *err)
{
	return gw_vm_cont(call->vm, args_bool(call->args, "force", false), err);
}

int command_quit(struct call *call, struct gw_error *err)
{
	(void)err;
	gw_vm_quit(call->vm);
	return 0;
}

int command_powerdown(struct call *call, struct gw_error *err)
{
	return gw_vm_powerdown(call->vm, err);
}

int command_reset(struct call *call, struct gw_error *err)
{
	return gw_vm_reset(call->vm, err);
}

/* The ACPI tables offer the guest no sleeping state to enter. */
int command_wakeup(struct call *call, struct gw_error *err)
{
	(void)call;
	return error_set(err, -EPERM, "system_wakeup: the guest is not suspended");
}

int command_nmi(struct call *call, struct gw_error *err)
{
	return gw_vm_inject_nmi(call->vm, err);
}
