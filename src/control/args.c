/* SPDX-License-Identifier: Apache-2.0 */
#include "control/args.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

static bool is_whole_number(const cJSON *item)
{
	return cJSON_IsNumber(item) && item->valuedouble >= 0 &&
	       item->valuedouble <= (double)ARG_UINT_MAX &&
	       item->valuedouble == (double)(uint64_t)item->valuedouble;
}

static bool is_object_list(const cJSON *item)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, item)
	{
		if (!cJSON_IsObject(entry))
			return false;
	}
	return cJSON_IsArray(item);
}

static bool holds_strings(const cJSON *item)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, item)
	{
		if (!cJSON_IsString(entry))
			return false;
	}
	return true;
}

static bool is_words(const cJSON *item)
{
	return cJSON_IsArray(item) && holds_strings(item);
}

static bool is_strings(const cJSON *item)
{
	return cJSON_IsObject(item) && holds_strings(item);
}

static bool is_string(const cJSON *item)
{
	return cJSON_IsString(item);
}

static bool is_bool(const cJSON *item)
{
	return cJSON_IsBool(item);
}

static bool is_object(const cJSON *item)
{
	return cJSON_IsObject(item);
}

static bool is_anything(const cJSON *item)
{
	return item;
}

static const struct {
	const char *name;
	const char *must_be;
	bool (*is)(const cJSON *item);
} types[] = {
	[ARG_STRING] = { "string", "a string", is_string },
	[ARG_BOOL] = { "bool", "true or false", is_bool },
	[ARG_UINT] = { "number", "a whole number", is_whole_number },
	[ARG_OBJECT] = { "object", "an object", is_object },
	[ARG_LIST] = { "list", "a list of objects", is_object_list },
	[ARG_WORDS] = { "strings", "a list of strings", is_words },
	[ARG_STRINGS] = { "map", "an object of strings", is_strings },
	[ARG_ANY] = { "any", "JSON", is_anything },
};

const char *arg_type_name(enum arg_type type)
{
	return types[type].name;
}

static const struct arg *find(const struct arg *table, const char *name)
{
	for (; table && table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

static int check_value(const cJSON *item, const struct arg *arg, const char *where,
                       struct gw_error *err)
{
	const uint64_t max = arg->max ? arg->max : ARG_UINT_MAX;
	uint64_t value;

	if (!types[arg->type].is(item))
		return error_set(err, -EINVAL, "%s: argument \"%s\" must be %s", where, arg->name,
		                 types[arg->type].must_be);
	if (arg->type != ARG_UINT)
		return 0;
	value = (uint64_t)item->valuedouble;
	if (value < arg->min || value > max)
		return error_set(err, -EINVAL,
		                 "%s: argument \"%s\" is %llu, not within %llu and %llu", where,
		                 arg->name, (unsigned long long)value, (unsigned long long)arg->min,
		                 (unsigned long long)max);
	return 0;
}

int args_check(const cJSON *object, const struct arg *table, bool open, const char *where,
               struct gw_error *err)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		const struct arg *arg = find(table, item->string);
		int r;

		if (!arg && !open)
			return error_set(err, -EINVAL, "%s: no argument is named \"%s\"", where,
			                 item->string);
		if (args_get(object, item->string) != item)
			return error_set(err, -EINVAL, "%s: argument \"%s\" is there twice", where,
			                 item->string);
		r = arg ? check_value(item, arg, where, err) : 0;
		if (r < 0)
			return r;
	}
	for (const struct arg *arg = table; arg && arg->name; arg++)
		if (arg->required && !args_get(object, arg->name))
			return error_set(err, -EINVAL, "%s: argument \"%s\" is missing", where,
			                 arg->name);
	return 0;
}

const cJSON *args_get(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *args_string(const cJSON *object, const char *name)
{
	return cJSON_GetStringValue(args_get(object, name));
}

bool args_bool(const cJSON *object, const char *name, bool otherwise)
{
	const cJSON *item = args_get(object, name);

	return item ? cJSON_IsTrue(item) : otherwise;
}

uint64_t args_uint(const cJSON *object, const char *name, uint64_t otherwise)
{
	const cJSON *item = args_get(object, name);

	return item ? (uint64_t)item->valuedouble : otherwise;
}
