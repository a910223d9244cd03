/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/value.h"

#include "base/util.h"
#include "godwit.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ------------------------------------------------------------------------- */

bool step_take(const char **path, struct step *step)
{
	const char *at = *path;
	size_t len;
	char *end;

	*step = (struct step){ 0 };
	if (*at == '[') {
		if (!isdigit((unsigned char)at[1]))
			return false;
		step->index = (unsigned)strtoul(at + 1, &end, 10);
		if (*end != ']')
			return false;
		at = end + 1;
	} else {
		len = strcspn(at, ".[]");
		if (!len || len >= sizeof(step->name))
			return false;
		memcpy(step->name, at, len);
		at += len;
	}
	if (*at == '.' && at[1] && at[1] != '[')
		at++;
	else if (*at && *at != '[')
		return false;
	*path = at;
	return true;
}

static cJSON *find_id(const cJSON *list, const char *id)
{
	cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		const cJSON *has = cJSON_GetObjectItemCaseSensitive(item, "id");

		if (cJSON_IsString(has) && !strcmp(has->valuestring, id))
			return item;
	}
	return NULL;
}

cJSON *step_look_up(const cJSON *at, const struct step *step)
{
	if (!step->name[0])
		return cJSON_IsArray(at) ? cJSON_GetArrayItem(at, (int)step->index) : NULL;
	return cJSON_IsArray(at) ? find_id(at, step->name)
	                         : cJSON_GetObjectItemCaseSensitive(at, step->name);
}

/* ---- what the schema has there ------------------------------------------------------ */

static const cJSON *member(const cJSON *at, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(at, name);
}

static bool says(const cJSON *item, const char *text)
{
	return cJSON_IsString(item) && !strcmp(item->valuestring, text);
}

/* A device's type says which of the schema's branches holds for it. */
static const cJSON *branch(const cJSON *schema, const cJSON *type)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, member(schema, "allOf"))
	{
		const cJSON *wanted = member(member(member(item, "if"), "properties"), "type");

		if (cJSON_IsString(type) && says(member(wanted, "const"), type->valuestring))
			return member(item, "then");
	}
	return NULL;
}

/* The schema one step further down, into `value` if there is one; NULL: it knows nothing of it. */
static const cJSON *schema_below(const cJSON *schema, const cJSON *value, const struct step *step)
{
	const cJSON *below;

	if (says(member(schema, "type"), "array"))
		return member(schema, "items");
	below = member(member(schema, "properties"), step->name);
	if (!below)
		below = member(member(branch(schema, member(value, "type")), "properties"),
		               step->name);
	return below;
}

static bool is_text(const cJSON *schema, const cJSON *value, const char *path)
{
	struct step step;

	while (*path && step_take(&path, &step)) {
		schema = schema_below(schema, value, &step);
		value = step_look_up(value, &step);
	}
	return !*path && (says(member(schema, "type"), "string") || member(schema, "enum"));
}

/* ---- values ------------------------------------------------------------------------- */

/* `in_device`: `at` is an entry of "devices". */
static cJSON *read_value(const cJSON *at, bool in_device, const char *path, const char *text)
{
	cJSON *value = cJSON_ParseWithOpts(text, NULL, 1), *root = NULL;
	const cJSON *schema;
	char *json;

	if (!value)
		return cJSON_CreateString(text);
	if (cJSON_IsString(value) || cJSON_IsNull(value) || gw_config_schema(&json, NULL) < 0)
		return value;
	schema = root = cJSON_Parse(json);
	gw_free(json);
	if (in_device)
		schema = member(member(member(root, "properties"), "devices"), "items");
	if (is_text(schema, at, path)) {
		cJSON_Delete(value);
		value = cJSON_CreateString(text);
	}
	cJSON_Delete(root);
	return value;
}

cJSON *value_read(const cJSON *config, const char *path, const char *text)
{
	return read_value(config, false, path, text);
}

cJSON *value_read_device(const cJSON *device, const char *path, const char *text)
{
	return read_value(device, true, path, text);
}
