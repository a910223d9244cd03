/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about migration and snapshots. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- where to ---------------------------------------------------------------------- */

static const struct arg channel_args[] = {
	MUST("channel-type", ARG_STRING, "\"main\""),
	MUST("addr", ARG_OBJECT, "transport \"socket\", type, and what the type needs"),
	ARGS_END,
};

/* One row for each kind of address: its members and the URI that it makes. */
static const struct address_type {
	const char *type;
	const struct arg *args;
} address_types[] = {
	{ "inet",
	  ARGS(MUST("transport", ARG_STRING, "\"socket\""), MUST("type", ARG_STRING, "\"inet\""),
	       MUST("host", ARG_STRING, "name or address"), MUST("port", ARG_STRING, "number")) },
	{ "unix",
	  ARGS(MUST("transport", ARG_STRING, "\"socket\""), MUST("type", ARG_STRING, "\"unix\""),
	       MUST("path", ARG_STRING, "of the socket")) },
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
	r = args_check(channel, channel_args, false, "channels[0]", err);
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
	r = args_check(addr, table, false, "channels[0]: addr", err);
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

int command_migrate(struct call *call, struct gw_error *err)
{
	autofree char *uri = NULL;
	int r = take_uri(call->args, "migrate", &uri, err);

	return r < 0 ? r : gw_vm_migrate(call->vm, uri, err);
}

int command_migrate_incoming(struct call *call, struct gw_error *err)
{
	autofree char *uri = NULL;
	autofree struct gw_map *map = NULL;
	size_t count;
	int r;

	if (args_bool(call->args, "exit-on-error", false))
		return error_set(err, -EINVAL,
		                 "migrate-incoming: argument \"exit-on-error\" can be false only");
	r = take_uri(call->args, "migrate-incoming", &uri, err);
	if (!r)
		r = take_map(call->args, &map, &count, err);
	return r < 0 ? r : gw_vm_incoming(call->vm, uri, map, count, err);
}

int command_migrate_cancel(struct call *call, struct gw_error *err)
{
	return gw_vm_migrate_cancel(call->vm, err);
}

int command_query_migrate(struct call *call, struct gw_error *err)
{
	return command_pass_json(call, gw_vm_query_migrate, "{}", err);
}

/* ---- parameters ------------------------------------------------------------------------- */

/* The public header's 0 means "as it is", and its UINT64_MAX "no limit", which is QMP's 0. */
enum {
	DOWNTIME_LIMIT,
	MAX_BANDWIDTH,
	SWITCHOVER_BANDWIDTH,
	SWITCHOVER_TIMEOUT,
	NETWORK_TIMEOUT,
	UNPLUG_TIMEOUT,
	PLAIN_TCP /* a switch; the others are numbers */
};

const struct arg migrate_parameter_args[] = {
	[DOWNTIME_LIMIT] =
	        MAY_UINT("downtime-limit", 1, 2000000, "longest stop of the guest to aim for, ms"),
	[MAX_BANDWIDTH] = MAY_UINT("max-bandwidth", 0, 0, "bytes/s; 0: no limit"),
	[SWITCHOVER_BANDWIDTH] = MAY_UINT("avail-switchover-bandwidth", 1, 0,
	                                  "bytes/s to reckon with for the switchover"),
	[SWITCHOVER_TIMEOUT] = MAY_UINT("switchover-timeout", 1, 3600000,
	                                "longest wait for the destination's \"ready\", ms"),
	[NETWORK_TIMEOUT] = MAY_UINT("network-timeout", 1, 3600000,
	                             "silence after which the peer is taken for dead, ms"),
	[UNPLUG_TIMEOUT] = MAY_UINT("unplug-timeout", 1, 3600000,
	                            "longest wait for the guest to let go of a device, ms"),
	[PLAIN_TCP] = MAY("plain-tcp", ARG_BOOL,
	                  "tcp: to and from other hosts is allowed, without encryption"),
	[PLAIN_TCP + 1] = ARGS_END,
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
	[UNPLUG_TIMEOUT] = { offsetof(struct gw_migrate_params, unplug_timeout_ms), false },
};

static uint64_t *parameter(struct gw_migrate_params *params, size_t i)
{
	return (uint64_t *)((char *)params + parameter_fields[i].offset);
}

int command_set_parameters(struct call *call, struct gw_error *err)
{
	struct gw_migrate_params params = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(parameter_fields); i++) {
		const char *name = migrate_parameter_args[i].name;
		uint64_t value = args_uint(call->args, name, 0);

		if (!value && parameter_fields[i].zero_is_no_limit && args_get(call->args, name))
			value = UINT64_MAX;
		*parameter(&params, i) = value;
	}
	if (args_get(call->args, migrate_parameter_args[PLAIN_TCP].name))
		params.plain_tcp =
		        args_bool(call->args, migrate_parameter_args[PLAIN_TCP].name, false)
		                ? GW_SWITCH_ON
		                : GW_SWITCH_OFF;
	return gw_vm_set_migrate_params(call->vm, &params, err);
}

int command_query_parameters(struct call *call, struct gw_error *err)
{
	struct gw_migrate_params params;

	gw_vm_get_migrate_params(call->vm, &params);
	call->ret = cJSON_CreateObject();
	for (size_t i = 0; i < ARRAY_SIZE(parameter_fields); i++) {
		uint64_t value = *parameter(&params, i);

		if (value == UINT64_MAX && parameter_fields[i].zero_is_no_limit)
			value = 0;
		if (!cJSON_AddNumberToObject(call->ret, migrate_parameter_args[i].name,
		                             (double)value))
			return error_set(err, -ENOMEM, "query-migrate-parameters: out of memory");
	}
	if (!cJSON_AddBoolToObject(call->ret, migrate_parameter_args[PLAIN_TCP].name,
	                           params.plain_tcp == GW_SWITCH_ON))
		return error_set(err, -ENOMEM, "query-migrate-parameters: out of memory");
	return 0;
}

/* ---- capabilities ----------------------------------------------------------------------- */

/* Those of QMP. The first ALWAYS_ON are part of how godwit migrates; one can be switched; others
 * cannot be had. */
enum { ALWAYS_ON = 2, SWITCHOVER_ACK = 2 };
const char *const migration_capability_names[] = {
	"return-path",
	"events",
	"switchover-ack",
	"multifd",
	"postcopy-ram",
	"postcopy-preempt",
	"auto-converge",
	"dirty-limit",
	"pause-before-switchover",
	"mapped-ram",
	"zero-copy-send",
	"background-snapshot",
	NULL,
};

static const struct arg capability_args[] = {
	MUST("capability", ARG_STRING, "its name"),
	MUST("state", ARG_BOOL, "whether it is to be on"),
	ARGS_END,
};

static int set_switchover_ack(struct gw_vm *vm, bool on, struct gw_error *err)
{
	const struct gw_migrate_params params = {
		.switchover_ack = on ? GW_SWITCH_ON : GW_SWITCH_OFF,
	};

	return gw_vm_set_migrate_params(vm, &params, err);
}

static int set_capability(struct gw_vm *vm, const cJSON *entry, struct gw_error *err)
{
	const char *name = args_string(entry, "capability");
	const bool on = args_bool(entry, "state", false);

	for (size_t i = 0; migration_capability_names[i]; i++) {
		if (strcmp(migration_capability_names[i], name) != 0)
			continue;
		if (i == SWITCHOVER_ACK)
			return set_switchover_ack(vm, on, err);
		if (on == (i < ALWAYS_ON))
			return 0;
		return error_set(err, -ENOTSUP, "capability \"%s\" %s", name,
		                 on ? "is not offered" : "is always on");
	}
	return error_set(err, -EINVAL, "no capability is named \"%s\"", name);
}

int command_set_capabilities(struct call *call, struct gw_error *err)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, args_get(call->args, "capabilities"))
	{
		int r = args_check(entry, capability_args, false, "capabilities", err);

		if (!r)
			r = set_capability(call->vm, entry, err);
		if (r < 0)
			return error_context(err, "migrate-set-capabilities");
	}
	return 0;
}

int command_query_capabilities(struct call *call, struct gw_error *err)
{
	struct gw_migrate_params params;

	gw_vm_get_migrate_params(call->vm, &params);
	call->ret = cJSON_CreateArray();
	for (size_t i = 0; migration_capability_names[i]; i++) {
		const bool on =
		        i == SWITCHOVER_ACK ? params.switchover_ack == GW_SWITCH_ON : i < ALWAYS_ON;
		cJSON *entry = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(call->ret, entry) ||
		    !cJSON_AddStringToObject(entry, "capability", migration_capability_names[i]) ||
		    !cJSON_AddBoolToObject(entry, "state", on))
			return error_set(err, -ENOMEM, "query-migrate-capabilities: out of memory");
	}
	return 0;
}

/* ---- snapshots -------------------------------------------------------------------------- */

int command_snapshot_save(struct call *call, struct gw_error *err)
{
	const struct gw_save_options options = {
		.size = sizeof(options),
		.unplug_primaries = args_bool(call->args, "unplug-primaries", false),
	};

	return gw_vm_save_with(call->vm, args_string(call->args, "directory"), &options, err);
}

int command_snapshot_load(struct call *call, struct gw_error *err)
{
	autofree struct gw_map *map = NULL;
	size_t count;
	int r = take_map(call->args, &map, &count, err);

	if (r < 0)
		return r;
	return gw_vm_restore(call->vm, args_string(call->args, "directory"), map, count,
	                     args_bool(call->args, "run", true), err);
}
