/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's devices at run time: plugged in, asked, let go; and what else is asked of the machine.
 */
#include "vm.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/dump.h"
#include "vmm/memory.h"
#include "vmm/pci.h"

#include <cjson/cJSON.h>
#include <string.h>

int vm_check_may_change(struct gw_vm *vm, struct gw_error *err)
{
	int r = vm_need_machine(vm, err);

	if (!r && migration_active(vm->migration))
		r = error_set(err, -EBUSY, "a migration is under way");
	if (!r && vm->state != GW_STATE_PRELAUNCH && vm->state != GW_STATE_RUNNING &&
	    vm->state != GW_STATE_PAUSED)
		r = error_set(err, -EBUSY, "not in state \"%s\"", gw_state_name(vm->state));
	return r;
}

int vm_check_has_device(struct gw_vm *vm, const char *id, struct gw_error *err)
{
	if (!vm->machine)
		return error_set_class(err, -ENODATA, GW_ERROR_DEVICE_NOT_FOUND,
		                       "there is no device \"%s\": the VM is empty", id);
	if (!machine_find_device(vm->machine, id) && !config_find_device(&vm->machine->config, id))
		return error_set_class(err, -ENOENT, GW_ERROR_DEVICE_NOT_FOUND,
		                       "the machine has no device \"%s\"", id);
	return 0;
}

/* With `lock` held. A device that another one stands in for comes when the guest can deal with it.
 */
static int add(struct gw_vm *vm, struct config_device *device, struct gw_error *err)
{
	struct config *config = &vm->machine->config;
	int r = config_check_pair(config, device, vm_drivers_of(vm), err);

	if (!r)
		r = config_check_addresses(config, device, vm_drivers_of(vm), err);
	if (r < 0)
		return r;
	if (config->device_count == CONFIG_DEVICES_MAX)
		return error_set(err, -ENOSPC, "there are %d devices already", CONFIG_DEVICES_MAX);
	if (config_find_device(config, device->id))
		return error_set(err, -EEXIST, "device %s: the id is taken", device->id);
	if (!device->failover[0])
		r = vm_add_device(vm, device, vm->state != GW_STATE_PRELAUNCH, err);
	else if (vm_failover_may_come(vm, device))
		r = vm_failover_plug(vm, device, err);
	if (!r)
		config->devices[config->device_count++] = *device;
	return r;
}

int gw_vm_device_add(struct gw_vm *vm, const char *json, struct gw_error *err)
{
	struct config_device device;
	int r = config_parse_device(json, vm_drivers_of(vm), &device, err);

	if (!r)
		r = config_check_host_device(&device, vm_drivers_of(vm), err);
	if (r < 0)
		return error_context(err, "device_add");
	pthread_mutex_lock(&vm->lock);
	r = vm_check_may_change(vm, err);
	if (!r)
		r = add(vm, &device, err);
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "device_add") : 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static cJSON *describe(struct device *d)
{
	cJSON *entry = cJSON_CreateObject();
	cJSON *info;
	bool ok = cJSON_AddStringToObject(entry, "id", d->id) &&
	          cJSON_AddStringToObject(entry, "type", d->driver->type) &&
	          cJSON_AddNumberToObject(entry, "slot", pci_place_slot(d->slot)) &&
	          (!pci_place_port(d->slot) ||
	           cJSON_AddNumberToObject(entry, "port", pci_place_port(d->slot)));

	info = cJSON_AddObjectToObject(entry, "info");
	if (ok && info && (!d->driver->describe || d->driver->describe(d, info)))
		return entry;
	cJSON_Delete(entry);
	return NULL;
}

/* One that is in the configuration only. */
static cJSON *describe_away(const struct config_device *config)
{
	cJSON *entry = cJSON_CreateObject();
	cJSON *info;

	if (cJSON_AddStringToObject(entry, "id", config->id) &&
	    cJSON_AddStringToObject(entry, "type", config->type) &&
	    (info = cJSON_AddObjectToObject(entry, "info")) &&
	    cJSON_AddBoolToObject(info, "plugged", false))
		return entry;
	cJSON_Delete(entry);
	return NULL;
}

static bool list_away(struct gw_vm *vm, cJSON *list)
{
	const struct config *config = &vm->machine->config;

	for (unsigned i = 0; i < config->device_count; i++) {
		cJSON *entry;

		if (!vm_failover_is_away(vm, &config->devices[i]))
			continue;
		entry = describe_away(&config->devices[i]);
		if (!entry || !cJSON_AddItemToArray(list, entry)) {
			cJSON_Delete(entry);
			return false;
		}
	}
	return true;
}

int gw_vm_query_devices(struct gw_vm *vm, char **json, struct gw_error *err)
{
	cJSON *list = cJSON_CreateArray();
	bool ok = list;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm->machine ? 0 : error_set(err, -ENODATA, "query-devices: the VM is empty");
	/* In the order in which they were added: the list has the newest first. */
	for (struct device *d = r ? NULL : vm->machine->devices; d && ok; d = d->next) {
		cJSON *entry = describe(d);

		ok = entry && cJSON_InsertItemInArray(list, 0, entry);
		if (!ok)
			cJSON_Delete(entry);
	}
	if (!r && ok)
		ok = list_away(vm, list);
	pthread_mutex_unlock(&vm->lock);
	if (!r && (!ok || !(*json = cJSON_PrintUnformatted(list))))
		r = error_set(err, -ENOMEM, "query-devices: out of memory");
	cJSON_Delete(list);
	return r;
}

static int command(struct gw_vm *vm, const char *id, const char *name, const cJSON *args,
                   cJSON **ret, struct gw_error *err)
{
	struct device *d = machine_find_device(vm->machine, id);
	int r;

	if (!d)
		return error_set_class(err, -ENOENT, GW_ERROR_DEVICE_NOT_FOUND,
		                       "the machine has no device \"%s\"", id);
	r = d->driver->command ? d->driver->command(d, name, args, ret, err) : -EOPNOTSUPP;
	if (r == -EOPNOTSUPP)
		return error_set(err, r, "a %s has no command \"%s\"", d->driver->type, name);
	return r;
}

int gw_vm_device_command(struct gw_vm *vm, const char *id, const char *name, const char *args,
                         char **ret, struct gw_error *err)
{
	cJSON *parsed = args ? cJSON_Parse(args) : NULL, *answer = NULL;
	char *text = NULL;
	int r = 0;

	if (args && !cJSON_IsObject(parsed))
		r = error_set(err, -EINVAL, "the arguments are not a JSON object");
	if (!r) {
		pthread_mutex_lock(&vm->lock);
		r = vm_check_has_device(vm, id, err);
		if (!r)
			r = vm_check_may_change(vm, err);
		if (!r)
			r = command(vm, id, name, parsed, &answer, err);
		pthread_mutex_unlock(&vm->lock);
	}
	if (!r && ret) {
		text = answer ? cJSON_PrintUnformatted(answer) : strdup("{}");
		if (text)
			*ret = text;
		else
			r = error_set(err, -ENOMEM, "out of memory");
	}
	cJSON_Delete(answer);
	cJSON_Delete(parsed);
	return r < 0 ? error_context(err, "device %s: %s", id, name) : 0;
}

int gw_vm_query_memory(struct gw_vm *vm, char **json, struct gw_error *err)
{
	cJSON *root = cJSON_CreateObject();
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm->machine ? 0 : error_set(err, -ENODATA, "query-memory: the VM is empty");
	if (!r) {
		const uint64_t base = vm->machine->config.memory;

		cJSON_AddNumberToObject(root, "base-memory", (double)base);
		cJSON_AddNumberToObject(root, "plugged-memory",
		                        (double)memory_plugged(vm->machine->memory));
	}
	pthread_mutex_unlock(&vm->lock);
	if (!r && (cJSON_GetArraySize(root) != 2 || !(*json = cJSON_PrintUnformatted(root))))
		r = error_set(err, -ENOMEM, "query-memory: out of memory");
	cJSON_Delete(root);
	return r;
}

/* ---- looking into a guest that hangs -------------------------------------------------------- */

int gw_vm_inject_nmi(struct gw_vm *vm, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r)
		r = arch_inject_nmi(vm->machine, err);
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "inject-nmi") : 0;
}

int gw_vm_dump_device_tree(struct gw_vm *vm, int fd, struct gw_error *err)
{
	autofree void *tree = NULL;
	struct thread_pipe pipe;
	size_t len = 0;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_need_machine(vm, err);
	if (!r)
		r = arch_device_tree(vm->machine, &tree, &len, err);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		return error_context(err, "device tree");
	thread_pipe_begin(&pipe);
	r = io_write_full(fd, tree, len);
	thread_pipe_end(&pipe);
	return r < 0 ? error_set_sys(err, r, "device tree: writing it") : 0;
}

int gw_vm_dump_memory(struct gw_vm *vm, int fd, struct gw_error *err)
{
	bool ran;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = vm_check_may_change(vm, err);
	if (!r) {
		ran = vm->state == GW_STATE_RUNNING;
		machine_pause(vm->machine);
		r = dump_write(vm->machine, fd, err);
		if (ran)
			machine_run(vm->machine);
	}
	pthread_mutex_unlock(&vm->lock);
	return r < 0 ? error_context(err, "dump") : 0;
}
