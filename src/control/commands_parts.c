/* SPDX-License-Identifier: Apache-2.0 */
/* Queries of QMP that are about parts of a machine: some of them a machine here never has. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- vCPUs ---------------------------------------------------------------------------------- */

static bool describe_cpu(cJSON *list, const cJSON *cpu)
{
	const cJSON *props = args_get(cpu, "props");
	cJSON *entry = cJSON_CreateObject();
	char path[40];

	snprintf(path, sizeof(path), "/machine/cpu[%llu]",
	         (unsigned long long)args_uint(cpu, "cpu-index", 0));
	return cJSON_AddItemToArray(list, entry) &&
	       cJSON_AddStringToObject(entry, "type", command_target_cpu()) &&
	       cJSON_AddNumberToObject(entry, "vcpus-count", 1) &&
	       cJSON_AddItemToObject(entry, "props",
	                             props ? cJSON_Duplicate(props, true) : cJSON_CreateObject()) &&
	       cJSON_AddStringToObject(entry, "qom-path", path);
}

/* Those that there are: none can be added, so there is no place without one. */
int command_query_hotpluggable_cpus(struct call *call, struct gw_error *err)
{
	const cJSON *cpu;
	cJSON *cpus;
	int r = command_pass_json(call, gw_vm_query_cpus, "[]", err);
	bool ok = true;

	if (r < 0)
		return r;
	cpus = call->ret;
	call->ret = cJSON_CreateArray();
	cJSON_ArrayForEach(cpu, cpus) ok = ok && describe_cpu(call->ret, cpu);
	cJSON_Delete(cpus);
	return ok && call->ret ? 0
	                       : error_set(err, -ENOMEM, "query-hotpluggable-cpus: out of memory");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* QMP's name for it, and that of the device's own description. */
static const struct {
	const char *qmp, *own;
} memory_numbers[] = {
	{ "memaddr", "address" }, { "requested-size", "requested" }, { "size", "plugged" },
	{ "max-size", "size" },   { "block-size", "block" },         { "node", "node" },
};

static bool describe_memory(cJSON *list, const cJSON *device)
{
	const cJSON *info = args_get(device, "info");
	const char *id = args_string(device, "id");
	cJSON *entry = cJSON_CreateObject();
	char path[64];
	cJSON *data;
	bool ok = cJSON_AddItemToArray(list, entry) &&
	          cJSON_AddStringToObject(entry, "type", "virtio-mem");

	data = cJSON_AddObjectToObject(entry, "data");
	snprintf(path, sizeof(path), "/machine/%s", id);
	ok = ok && cJSON_AddStringToObject(data, "id", id) &&
	     cJSON_AddStringToObject(data, "memdev", path);
	for (size_t i = 0; i < ARRAY_SIZE(memory_numbers) && ok; i++)
		ok = cJSON_AddNumberToObject(data, memory_numbers[i].qmp,
		                             (double)args_uint(info, memory_numbers[i].own, 0));
	return ok;
}

int command_query_memory_devices(struct call *call, struct gw_error *err)
{
	cJSON *devices = NULL;
	const cJSON *device;
	int r = command_list_devices(call->vm, &devices, err);
	bool ok = true;

	if (r < 0)
		return r;
	call->ret = cJSON_CreateArray();
	cJSON_ArrayForEach(device, devices)
	{
		const char *type = args_string(device, "type");

		if (type && !strcmp(type, "virtio-mem"))
			ok = ok && describe_memory(call->ret, device);
	}
	cJSON_Delete(devices);
	return ok && call->ret ? 0 : error_set(err, -ENOMEM, "query-memory-devices: out of memory");
}

/* ---- what there never is --------------------------------------------------------------------- */

/* A device's threads are its own, and not objects that one could name; and no job outlives the
 * command that began it. */
int command_query_none(struct call *call, struct gw_error *err)
{
	call->ret = cJSON_CreateArray();
	return call->ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}
