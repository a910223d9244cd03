/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about migration and snapshots. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- where to ---------------------------------------------------------------------- */

static const struct arg channel_args[] = {
	{ "channel-type", ARG_STRING, true, "\"main\"", 0, 0 },
	{ "addr", ARG_OBJECT, true, "transport \"socket\", type, and what the type needs", 0, 0 },
	{ NULL, ARG_STRING, false, NULL, 0, 0 },
};

/* One row for each kind of address: its members and the URI that it makes. */
static const struct address_type {
	const char *type;
	const struct arg *args;
} address_types[] = {
	{ "inet", ARGS({ "transport", ARG_STRING, true, "\"socket\"", 0, 0 },
	               { "type", ARG_STRING, true, "\"inet\"", 0, 0 },
	               { "host", ARG_STRING, true, "name or address", 0, 0 },
	               { "port", ARG_STRING, true, "number", 0, 0 }) },
	{ "unix", ARGS({ "transport", ARG_STRING, true, "\"socket\"", 0, 0 },
	               { "type", ARG_STRING, true, "\"unix\"", 0, 0 },
	               { "path", ARG_STRING, true, "of the socket", 0, 0 }) },
};

static const struct arg *address_args(const cJSON *addr)
{
	const char *transport = args_string(addr, "transport");
	const char *type = args_string(addr, "type");

	if (!transport || !type || strcmp(transport, "socket") != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(address_types); i++)
		if (!strcmp(address_types[i].type, type))
			return address_types[i].args;
	return NULL;
}

static int print_uri(const cJSON *addr, char **uri)
{
	const char *path = args_string(addr, "path");
	const char *host = args_string(addr, "host");
	const bool is_ipv6 = host && strchr(host, ':');

	if (path)
		return asprintf(uri, "unix:%s", path);
	return asprintf(uri, "tcp:%s%s%s:%s", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "",
	                args_string(addr, "port"));
}

static int channels_to_uri(const cJSON *channels, char **uri, struct gw_error *err)
{
	const cJSON *channel = cJSON_GetArrayItem(channels, 0);
	const cJSON *addr;
	const struct arg *table;
	int r;

	if (cJSON_GetArraySize(channels) != 1)
		return error_set(err, -EINVAL, "channels: must have one entry");
	r = args_check(channel, channel_args, "channels[0]", err);
	if (r < 0)
		return r;
	if (strcmp(args_string(channel, "channel-type"), "main") != 0)
		return error_set(err, -EINVAL, "channels[0]: channel-type: there is \"main\" only");
	addr = args_get(channel, "addr");
	table = address_args(addr);
	if (!table)
		return error_set(err, -EINVAL,
		                 "channels[0]: addr: transport must be \"socket\", and type "
		                 "\"inet\" or \"unix\"");
	r = args_check(addr, table, "channels[0]: addr", err);
	if (!r && print_uri(addr, uri) < 0) {
		*uri = NULL;
		r = error_set(err, -ENOMEM, "out of memory");
	}
	return r;
}

/* One of uri and channels. */
static int take_uri(const cJSON *args, const char *what, char **uri, struct gw_error *err)
{
	const char *given = args_string(args, "uri");
	const cJSON *channels = args_get(args, "channels");
	int r;

	if (!given == !channels)
		return error_set(err, -EINVAL,
		                 "%s: give one of the arguments \"uri\" and \"channels\"", what);
	if (channels) {
		r = channels_to_uri(channels, uri, err);
		return r < 0 ? error_context(err, "%s", what) : 0;
	}
	*uri = strdup(given);
	return *uri ? 0 : error_set(err, -ENOMEM, "%s: out of memory", what);
}

/* The map, its strings those of args. Released with free(). */
static int take_map(const cJSON *args, struct gw_map **out, size_t *count, struct gw_error *err)
{
	const cJSON *map = args_get(args, "map");
	const cJSON *item;
	size_t n = 0;

	*out = calloc((size_t)cJSON_GetArraySize(map) + 1, sizeof(**out));
	if (!*out)
		return error_set(err, -ENOMEM, "map: out of memory");
	cJSON_ArrayForEach(item, map)(*out)[n++] =
	        (struct gw_map){ .path = item->string, .value = item->valuestring };
	*count = n;
	return 0;
}

/* ---- moving ----------------------------------------------------------------------------- */

int command_migrate(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	autofree char *uri = NULL;
	int r = take_uri(args, "migrate", &uri, err);

	(void)ret;
	return r < 0 ? r : gw_vm_migrate(vm, uri, err);
}

int command_migrate_incoming(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	autofree char *uri = NULL;
	autofree struct gw_map *map = NULL;
	size_t count;
	int r;

	(void)ret;
	if (args_bool(args, "exit-on-error", false))
		return error_set(err, -EINVAL,
		                 "migrate-incoming: argument \"exit-on-error\" can be false only");
	r = take_uri(args, "migrate-incoming", &uri, err);
	if (!r)
		r = take_map(args, &map, &count, err);
	return r < 0 ? r : gw_vm_incoming(vm, uri, map, count, err);
}

int command_migrate_cancel(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)args;
	(void)ret;
	return gw_vm_migrate_cancel(vm, err);
}

int command_query_migrate(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	char *json = NULL;
	int r = gw_vm_query_migrate(vm, &json, err);

	(void)args;
	return r < 0 ? r : command_take_json(json, ret, err);
}

/* ---- parameters ------------------------------------------------------------------------- */

/* The public header's 0 means "as it is", and its UINT64_MAX "no limit", which is QMP's 0. */
enum { DOWNTIME_LIMIT, MAX_BANDWIDTH, SWITCHOVER_BANDWIDTH, SWITCHOVER_TIMEOUT, NETWORK_TIMEOUT };

const struct arg migrate_parameter_args[] = {
	[DOWNTIME_LIMIT] = { "downtime-limit", ARG_UINT, false,
	                     "longest stop of the guest to aim for, ms", 1, 2000000 },
	[MAX_BANDWIDTH] = { "max-bandwidth", ARG_UINT, false, "bytes/s; 0: no limit", 0, 0 },
	[SWITCHOVER_BANDWIDTH] = { "avail-switchover-bandwidth", ARG_UINT, false,
	                           "bytes/s to reckon with for the switchover", 1, 0 },
	[SWITCHOVER_TIMEOUT] = { "switchover-timeout", ARG_UINT, false,
	                         "longest wait for the destination's \"ready\", ms", 1, 3600000 },
	[NETWORK_TIMEOUT] = { "network-timeout", ARG_UINT, false,
	                      "silence after which the peer is taken for dead, ms", 1, 3600000 },
	{ NULL, ARG_STRING, false, NULL, 0, 0 },
};

static const struct {
	size_t offset;
	bool zero_is_no_limit;
} parameter_fields[] = {
	[DOWNTIME_LIMIT] = { offsetof(struct gw_migrate_params, downtime_limit_ms), false },
	[MAX_BANDWIDTH] = { offsetof(struct gw_migrate_params, max_bandwidth), true },
	[SWITCHOVER_BANDWIDTH] = { offsetof(struct gw_migrate_params, switchover_bandwidth),
	                           false },
	[SWITCHOVER_TIMEOUT] = { offsetof(struct gw_migrate_params, switchover_timeout_ms), false },
	[NETWORK_TIMEOUT] = { offsetof(struct gw_migrate_params, network_timeout_ms), false },
};

static uint64_t *parameter(struct gw_migrate_params *params, size_t i)
{
	return (uint64_t *)((char *)params + parameter_fields[i].offset);
}

int command_set_parameters(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	struct gw_migrate_params params = { 0 };

	(void)ret;
	for (size_t i = 0; i < ARRAY_SIZE(parameter_fields); i++) {
		const char *name = migrate_parameter_args[i].name;
		uint64_t value = args_uint(args, name, 0);

		if (!value && parameter_fields[i].zero_is_no_limit && args_get(args, name))
			value = UINT64_MAX;
		*parameter(&params, i) = value;
	}
	return gw_vm_set_migrate_params(vm, &params, err);
}

int command_query_parameters(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	struct gw_migrate_params params;

	(void)args;
	gw_vm_get_migrate_params(vm, &params);
	*ret = cJSON_CreateObject();
	for (size_t i = 0; i < ARRAY_SIZE(parameter_fields); i++) {
		uint64_t value = *parameter(&params, i);

		if (value == UINT64_MAX && parameter_fields[i].zero_is_no_limit)
			value = 0;
		if (!cJSON_AddNumberToObject(*ret, migrate_parameter_args[i].name, (double)value))
			return error_set(err, -ENOMEM, "query-migrate-parameters: out of memory");
	}
	return 0;
}

/* ---- capabilities ----------------------------------------------------------------------- */

/* Those of QMP, and which are part of how godwit always migrates. */
static const struct {
	const char *name;
	bool on;
} capabilities[] = {
	{ "return-path", true },
	{ "events", true },
	{ "multifd", false },
	{ "postcopy-ram", false },
	{ "postcopy-preempt", false },
	{ "auto-converge", false },
	{ "dirty-limit", false },
	{ "switchover-ack", false },
	{ "pause-before-switchover", false },
	{ "mapped-ram", false },
	{ "zero-copy-send", false },
	{ "background-snapshot", false },
};

static const struct arg capability_args[] = {
	{ "capability", ARG_STRING, true, "its name", 0, 0 },
	{ "state", ARG_BOOL, true, "whether it is to be on", 0, 0 },
	{ NULL, ARG_STRING, false, NULL, 0, 0 },
};

static int set_capability(const cJSON *entry, struct gw_error *err)
{
	const char *name = args_string(entry, "capability");
	const bool on = args_bool(entry, "state", false);

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (strcmp(capabilities[i].name, name) != 0)
			continue;
		if (capabilities[i].on == on)
			return 0;
		return error_set(err, -ENOTSUP, "capability \"%s\" %s", name,
		                 on ? "is not offered" : "is always on");
	}
	return error_set(err, -EINVAL, "no capability is named \"%s\"", name);
}

int command_set_capabilities(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	const cJSON *entry;

	(void)vm;
	(void)ret;
	cJSON_ArrayForEach(entry, args_get(args, "capabilities"))
	{
		int r = args_check(entry, capability_args, "capabilities", err);

		if (!r)
			r = set_capability(entry, err);
		if (r < 0)
			return error_context(err, "migrate-set-capabilities");
	}
	return 0;
}

int command_query_capabilities(struct gw_vm *vm, const cJSON *args, cJSON **ret,
                               struct gw_error *err)
{
	(void)vm;
	(void)args;
	*ret = cJSON_CreateArray();
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		cJSON *entry = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(*ret, entry) ||
		    !cJSON_AddStringToObject(entry, "capability", capabilities[i].name) ||
		    !cJSON_AddBoolToObject(entry, "state", capabilities[i].on))
			return error_set(err, -ENOMEM, "query-migrate-capabilities: out of memory");
	}
	return 0;
}

/* ---- snapshots -------------------------------------------------------------------------- */

int command_snapshot_save(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	(void)ret;
	return gw_vm_save(vm, args_string(args, "directory"), err);
}

int command_snapshot_load(struct gw_vm *vm, const cJSON *args, cJSON **ret, struct gw_error *err)
{
	autofree struct gw_map *map = NULL;
	size_t count;
	int r = take_map(args, &map, &count, err);

	(void)ret;
	if (r < 0)
		return r;
	return gw_vm_restore(vm, args_string(args, "directory"), map, count,
	                     args_bool(args, "run", true), err);
}
