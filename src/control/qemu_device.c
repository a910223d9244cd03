/* SPDX-License-Identifier: Apache-2.0 */
#include "control/qemu_device.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- values --------------------------------------------------------------------------------- */

/* 1: on, 0: off, -1: neither. */
static int truth_of(const char *text)
{
	static const char *const words[][4] = { { "off", "no", "false", "n" },
		                                { "on", "yes", "true", "y" } };

	for (int truth = 0; truth < 2; truth++)
		for (size_t i = 0; i < ARRAY_SIZE(words[0]); i++)
			if (!strcmp(text, words[truth][i]))
				return truth;
	return -1;
}

const char *qemu_value_text(const cJSON *value, char *buf, size_t size)
{
	const char *text = cJSON_GetStringValue(value);

	buf[0] = 0;
	if (cJSON_IsBool(value))
		text = cJSON_IsTrue(value) ? "on" : "off";
	else if (text && truth_of(text) >= 0)
		text = truth_of(text) ? "on" : "off";
	if (text)
		snprintf(buf, size, "%s", text);
	else if (cJSON_IsNumber(value))
		snprintf(buf, size, "%.0f", value->valuedouble);
	return buf;
}

/* QEMU takes numbers and truth values as text as well. What cannot be read so is left to the key
 * to refuse. NULL: out of memory. */
static cJSON *convert(const cJSON *value, enum qemu_value to)
{
	const char *text = cJSON_GetStringValue(value);
	unsigned long long number;
	char *end;

	if (text && to == QEMU_BOOL && truth_of(text) >= 0)
		return cJSON_CreateBool(truth_of(text));
	if (text && *text && to == QEMU_NUMBER) {
		number = strtoull(text, &end, 0);
		if (!*end)
			return cJSON_CreateNumber((double)number);
	}
	return cJSON_Duplicate(value, true);
}

/* ---- parameters ----------------------------------------------------------------------------- */

static bool is_harmless(const struct qemu_param *param, const cJSON *value)
{
	char text[64];
	const size_t len = strlen(qemu_value_text(value, text, sizeof(text)));
	const char *at = param->harmless;

	if (!at)
		return true;
	for (; *at; at = strchr(at, ',') + 1)
		if (!strncmp(at, text, len) && at[len] == ',')
			return !cJSON_IsObject(value) && !cJSON_IsArray(value);
	return false;
}

static int pass_on(cJSON *entry, const struct qemu_param *param, const cJSON *value,
                   struct gw_error *err)
{
	cJSON *copy;

	if (cJSON_HasObjectItem(entry, param->key))
		return error_set(err, -EINVAL, "\"%s\" is another name of \"%s\": give one of them",
		                 param->name, param->key);
	copy = convert(value, param->value);
	if (copy && cJSON_AddItemToObject(entry, param->key, copy))
		return 0;
	cJSON_Delete(copy);
	return error_set(err, -ENOMEM, "out of memory");
}

/* A parameter that was given. */
static int take_value(cJSON *entry, const struct qemu_param *param, const cJSON *value,
                      struct gw_error *err)
{
	char text[64];

	if (param->take)
		return param->take(entry, value, err);
	if (param->key)
		return pass_on(entry, param, value, err);
	if (is_harmless(param, value))
		return 0;
	qemu_value_text(value, text, sizeof(text));
	return error_set(err, -ENOTSUP, "parameter \"%s\"%s%s is not supported%s%s", param->name,
	                 *text ? ": " : "", text, param->instead ? ": " : "",
	                 param->instead ? param->instead : "");
}

static int take_table(cJSON *entry, const struct qemu_param *table, struct gw_error *err)
{
	int r = 0;

	for (const struct qemu_param *param = table; param->name && !r; param++) {
		cJSON *value = cJSON_DetachItemFromObjectCaseSensitive(entry, param->name);

		if (value)
			r = take_value(entry, param, value, err);
		cJSON_Delete(value);
	}
	return r;
}

/* ---- drivers -------------------------------------------------------------------------------- */

static const struct qemu_driver *find(const char *name)
{
	for (const struct qemu_driver *d = qemu_drivers; d->name; d++)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

int qemu_device_translate(cJSON *entry, const char *name, struct gw_error *err)
{
	const struct qemu_driver *driver = find(name);
	int r = 0;

	if (driver && !driver->type)
		return error_set(err, -ENOTSUP, "driver \"%s\" is not supported: %s", name,
		                 driver->instead);
	for (size_t i = 0; driver && !r && driver->tables[i]; i++)
		r = take_table(entry, driver->tables[i], err);
	if (r < 0)
		return error_context(err, "%s", name);
	if (driver && driver->key && !cJSON_HasObjectItem(entry, driver->key) &&
	    !cJSON_AddStringToObject(entry, driver->key, driver->value))
		return error_set(err, -ENOMEM, "out of memory");
	if (!cJSON_AddStringToObject(entry, "type", driver ? driver->type : name))
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}
