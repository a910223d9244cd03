/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the conversation itself: what is spoken here. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"
#include "control/events.h"
#include "control/schema.h"
#include "control/types.h"
#include "control/wire.h"

#include <string.h>

int command_negotiate(struct call *call, struct gw_error *err)
{
	const cJSON *wanted;

	cJSON_ArrayForEach(wanted, args_get(call->args, "enable"))
	{
		if (strcmp(wanted->valuestring, WIRE_OOB) != 0)
			return error_set(err, -EINVAL, "qmp_capabilities: \"%s\" is not offered",
			                 wanted->valuestring);
		call->use_oob = true;
	}
	return 0;
}

int command_query_version(struct call *call, struct gw_error *err)
{
	call->ret = wire_version();
	return call->ret ? 0 : error_set(err, -ENOMEM, "query-version: out of memory");
}

static bool describe_arg(cJSON *list, const struct arg *arg)
{
	cJSON *item = cJSON_CreateObject();

	return cJSON_AddItemToArray(list, item) &&
	       cJSON_AddStringToObject(item, "name", arg->name) &&
	       cJSON_AddStringToObject(item, "type", arg_type_name(arg->type)) &&
	       cJSON_AddBoolToObject(item, "required", arg->required) &&
	       cJSON_AddStringToObject(item, "help", arg->help ? arg->help : "");
}

static bool describe(cJSON *list, const char *name, const char *help, const struct arg *arg)
{
	cJSON *item = cJSON_CreateObject();
	cJSON *args;
	bool ok = cJSON_AddItemToArray(list, item) && cJSON_AddStringToObject(item, "name", name) &&
	          cJSON_AddStringToObject(item, "help", help);

	args = cJSON_AddArrayToObject(item, "arguments");
	for (; ok && arg && arg->name; arg++)
		ok = describe_arg(args, arg);
	return ok && args;
}

/* QMP's entries have the name only; a client passes over members that it does not know. */
int command_query_commands(struct call *call, struct gw_error *err)
{
	call->ret = cJSON_CreateArray();
	for (const struct command *c = control_commands; c->name; c++)
		if (!(c->flags & COMMAND_REFUSED) &&
		    !describe(call->ret, c->name, c->help, c->args))
			return error_set(err, -ENOMEM, "query-commands: out of memory");
	return 0;
}

int command_query_events(struct call *call, struct gw_error *err)
{
	call->ret = cJSON_CreateArray();
	for (const struct event_kind *e = control_events; e->name; e++) {
		cJSON *item = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(call->ret, item) ||
		    !cJSON_AddStringToObject(item, "name", e->name) ||
		    !cJSON_AddStringToObject(item, "help", e->help))
			return error_set(err, -ENOMEM, "query-events: out of memory");
	}
	return 0;
}

int command_query_schema(struct call *call, struct gw_error *err)
{
	call->ret = schema_make();
	return call->ret ? 0 : error_set(err, -ENOMEM, "query-qmp-schema: out of memory");
}
