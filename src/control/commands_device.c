/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about devices: come and go, what they are, and what each kind can be asked. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"
#include "control/qemu_device.h"

#include <stdio.h>
#include <string.h>

#define BALLOON "virtio-balloon"
#define FORCE_AFTER_MS 10000 /* where device_del forces and says no time */

/* ---- come and go ---------------------------------------------------------------------------- */

/* The request's arguments are the configuration's entry, or with "driver" what QEMU calls it. */
int command_device_add(struct call *call, struct gw_error *err)
{
	const char *driver = args_string(call->args, "driver");
	const char *type = args_string(call->args, "type");
	autofree char *json = NULL;
	cJSON *entry;
	int r = 0;

	if (!driver == !type)
		return error_set(err, -EINVAL,
		                 "device_add: give one of the arguments \"driver\" and \"type\"");
	entry = cJSON_Duplicate(call->args, true);
	if (driver && entry) {
		cJSON_DeleteItemFromObjectCaseSensitive(entry, "driver");
		r = qemu_device_translate(entry, driver, err);
	}
	json = entry && !r ? cJSON_PrintUnformatted(entry) : NULL;
	cJSON_Delete(entry);
	if (r < 0)
		return error_context(err, "device_add");
	if (!json)
		return error_set(err, -ENOMEM, "device_add: out of memory");
	return gw_vm_device_add(call->vm, json, err);
}

int command_device_del(struct call *call, struct gw_error *err)
{
	const char *id = args_string(call->args, "id");
	const bool force = args_bool(call->args, "force", false);

	if (!force && !args_get(call->args, "timeout"))
		return gw_vm_device_del(call->vm, id, err);
	return gw_vm_device_unplug(call->vm, id,
	                           (unsigned)args_uint(call->args, "timeout", FORCE_AFTER_MS),
	                           force, err);
}

/* ---- what there is -------------------------------------------------------------------------- */

/* An empty VM has none, and that is no error. */
static int list_devices(struct gw_vm *vm, cJSON **out, struct gw_error *err)
{
	char *json = NULL;
	int r = gw_vm_query_devices(vm, &json, err);

	if (r == -ENODATA) {
		*out = cJSON_CreateArray();
		return *out ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	return r < 0 ? r : command_take_json(json, out, err);
}

int command_query_devices(struct call *call, struct gw_error *err)
{
	return list_devices(call->vm, &call->ret, err);
}

static bool is_type(const cJSON *device, const char *type)
{
	const char *its_type = args_string(device, "type");

	return its_type && !strcmp(its_type, type);
}

/* Calls `add` for each disk; it puts what it makes into the reply, which is a list. */
static int list_disks(struct call *call, bool (*add)(cJSON *list, const cJSON *disk),
                      struct gw_error *err)
{
	cJSON *devices = NULL;
	const cJSON *device;
	int r = list_devices(call->vm, &devices, err);
	bool ok = true;

	if (r < 0)
		return r;
	call->ret = cJSON_CreateArray();
	cJSON_ArrayForEach(device, devices)
	{
		if (ok && is_type(device, "virtio-blk"))
			ok = add(call->ret, device);
	}
	cJSON_Delete(devices);
	return ok && call->ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* What a disk's "info" says, with QMP's other members, which are all the same here. */
static bool describe_node(cJSON *to, const cJSON *disk)
{
	static const char *const limits[] = { "bps",     "bps_rd",  "bps_wr",         "iops",
		                              "iops_rd", "iops_wr", "write_threshold" };
	const cJSON *info = args_get(disk, "info");
	const char *file = args_string(info, "file");
	cJSON *cache = cJSON_AddObjectToObject(to, "cache");
	cJSON *image = cJSON_AddObjectToObject(to, "image");
	bool ok = cJSON_AddStringToObject(to, "file", file ? file : "") &&
	          cJSON_AddStringToObject(to, "node-name", args_string(disk, "id")) &&
	          cJSON_AddBoolToObject(to, "ro", args_bool(info, "ro", false)) &&
	          cJSON_AddStringToObject(to, "drv", "raw") &&
	          cJSON_AddFalseToObject(to, "encrypted") &&
	          cJSON_AddStringToObject(to, "detect_zeroes", "off");

	for (size_t i = 0; i < ARRAY_SIZE(limits) && ok; i++)
		ok = cJSON_AddNumberToObject(to, limits[i], 0);
	return ok && cJSON_AddTrueToObject(cache, "writeback") &&
	       cJSON_AddBoolToObject(cache, "direct", args_bool(info, "direct", false)) &&
	       cJSON_AddFalseToObject(cache, "no-flush") &&
	       cJSON_AddStringToObject(image, "filename", file ? file : "") &&
	       cJSON_AddStringToObject(image, "format", "raw") &&
	       cJSON_AddNumberToObject(image, "virtual-size", (double)args_uint(info, "size", 0));
}

static bool add_node(cJSON *list, const cJSON *disk)
{
	cJSON *node = cJSON_CreateObject();

	return cJSON_AddItemToArray(list, node) && describe_node(node, disk);
}

static bool add_block(cJSON *list, const cJSON *disk)
{
	const char *id = args_string(disk, "id");
	cJSON *block = cJSON_CreateObject();

	return cJSON_AddItemToArray(list, block) && cJSON_AddStringToObject(block, "device", id) &&
	       cJSON_AddStringToObject(block, "qdev", id) &&
	       cJSON_AddStringToObject(block, "type", "unknown") &&
	       cJSON_AddFalseToObject(block, "removable") &&
	       cJSON_AddFalseToObject(block, "locked") &&
	       describe_node(cJSON_AddObjectToObject(block, "inserted"), disk);
}

static bool add_stats(cJSON *list, const cJSON *disk)
{
	static const char *const counters[] = { "rd_bytes", "wr_bytes", "rd_operations",
		                                "wr_operations", "flush_operations" };
	const cJSON *info = args_get(disk, "info");
	const char *id = args_string(disk, "id");
	cJSON *entry = cJSON_CreateObject();
	cJSON *stats;
	bool ok = cJSON_AddItemToArray(list, entry) &&
	          cJSON_AddStringToObject(entry, "device", id) &&
	          cJSON_AddStringToObject(entry, "qdev", id) &&
	          cJSON_AddStringToObject(entry, "node-name", id);

	stats = cJSON_AddObjectToObject(entry, "stats");
	for (size_t i = 0; i < ARRAY_SIZE(counters) && ok; i++)
		ok = cJSON_AddNumberToObject(stats, counters[i],
		                             (double)args_uint(info, counters[i], 0));
	return ok;
}

int command_query_block(struct call *call, struct gw_error *err)
{
	return list_disks(call, add_block, err);
}

int command_query_block_nodes(struct call *call, struct gw_error *err)
{
	return list_disks(call, add_node, err);
}

int command_query_blockstats(struct call *call, struct gw_error *err)
{
	return list_disks(call, add_stats, err);
}

/* ---- character devices ------------------------------------------------------------------------
 */

/* The serial line, by where the configuration lets it lead. */
static bool add_serial(cJSON *list, const cJSON *config)
{
	const cJSON *serial = args_get(config, "serial");
	const char *path = args_string(serial, "socket");
	const char *log = args_string(serial, "log");
	autofree char *where = NULL;
	cJSON *entry = cJSON_CreateObject();
	int r;

	if (path && *path)
		r = asprintf(&where, "unix:%s,server=on", path);
	else if (args_bool(serial, "stdio", false))
		r = asprintf(&where, "stdio");
	else
		r = log && *log ? asprintf(&where, "file:%s", log) : asprintf(&where, "null");
	if (r < 0)
		where = NULL;
	return cJSON_AddItemToArray(list, entry) &&
	       cJSON_AddStringToObject(entry, "label", "serial0") && where &&
	       cJSON_AddStringToObject(entry, "filename", where) &&
	       cJSON_AddTrueToObject(entry, "frontend-open");
}

/* What a console says of its ports. */
static bool add_console(cJSON *list, const cJSON *device)
{
	const cJSON *chardev;
	bool ok = true;

	cJSON_ArrayForEach(chardev, args_get(args_get(device, "info"), "chardevs"))
	{
		cJSON *copy = ok ? cJSON_Duplicate(chardev, true) : NULL;

		ok = copy && cJSON_AddItemToArray(list, copy);
	}
	return ok;
}

int command_query_chardev(struct call *call, struct gw_error *err)
{
	cJSON *devices = NULL, *config = NULL;
	const cJSON *device;
	char *json = NULL;
	int r = gw_vm_query_config(call->vm, &json, err);
	bool ok;

	call->ret = cJSON_CreateArray();
	if (r == -ENODATA)
		return 0;
	if (!r)
		r = command_take_json(json, &config, err);
	if (!r)
		r = list_devices(call->vm, &devices, err);
	ok = r < 0 || add_serial(call->ret, config);
	cJSON_ArrayForEach(device, devices) ok = ok && add_console(call->ret, device);
	cJSON_Delete(config);
	cJSON_Delete(devices);
	if (!ok)
		return error_set(err, -ENOMEM, "query-chardev: out of memory");
	return r;
}

/* ---- asking one
 * ---------------------------------------------------------------------------------- */

/* `name`: NULL, or the one argument, a number. */
static int ask(struct call *call, const char *id, const char *command, const char *name,
               uint64_t value, struct gw_error *err)
{
	char args[64], *ret = NULL;
	int r;

	snprintf(args, sizeof(args), "{\"%s\":%llu}", name ? name : "", (unsigned long long)value);
	r = gw_vm_device_command(call->vm, id, command, name ? args : NULL, &ret, err);
	return r < 0 ? r : command_take_json(ret, &call->ret, err);
}

int command_device(struct call *call, struct gw_error *err)
{
	const cJSON *args = args_get(call->args, "arguments");
	autofree char *json = args ? cJSON_PrintUnformatted(args) : NULL;
	char *ret = NULL;
	int r;

	if (args && !json)
		return error_set(err, -ENOMEM, "device-command: out of memory");
	r = gw_vm_device_command(call->vm, args_string(call->args, "id"),
	                         args_string(call->args, "command"), json, &ret, err);
	return r < 0 ? r : command_take_json(ret, &call->ret, err);
}

int command_block_resize(struct call *call, struct gw_error *err)
{
	const char *device = args_string(call->args, "device");
	const char *node = args_string(call->args, "node-name");

	if (!device == !node)
		return error_set(err, -EINVAL,
		                 "block_resize: give one of the arguments \"device\" and "
		                 "\"node-name\"");
	return ask(call, device ? device : node, "resize", "size", args_uint(call->args, "size", 0),
	           err);
}

/* To the first balloon. QMP has a class of its own for a machine without. */
static int ask_balloon(struct call *call, const char *command, const char *name, uint64_t value,
                       struct gw_error *err)
{
	cJSON *devices = NULL;
	const cJSON *device;
	const char *id = NULL;
	int r = list_devices(call->vm, &devices, err);

	cJSON_ArrayForEach(device, devices)
	{
		if (!id && is_type(device, BALLOON))
			id = args_string(device, "id");
	}
	if (!r && !id)
		r = error_set_class(err, -ENODEV, GW_ERROR_DEVICE_NOT_ACTIVE,
		                    "%s: the machine has no %s", command, BALLOON);
	if (!r)
		r = ask(call, id, command, name, value, err);
	cJSON_Delete(devices);
	return r;
}

int command_balloon(struct call *call, struct gw_error *err)
{
	return ask_balloon(call, "balloon", "value", args_uint(call->args, "value", 0), err);
}

int command_query_balloon(struct call *call, struct gw_error *err)
{
	return ask_balloon(call, "query-balloon", NULL, 0, err);
}
