/* SPDX-License-Identifier: Apache-2.0 */
/* One value: from JSON into the struct, and back. A row for each kind. */
#include "vmm/config_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Whole numbers up to here are exact in JSON's doubles. */
#define EXACT_MAX (1ull << 53)

struct place {
	const struct config_key *key;
	const char *path;
	void *to;
	struct config_faults *faults;
};

/* ---- numbers ------------------------------------------------------------------------------- */

static bool whole_number(const cJSON *item, uint64_t *out)
{
	const double value = item->valuedouble;

	/* Also false for what is no number at all (NaN). */
	if (!(value >= 0 && value <= (double)EXACT_MAX) || value != (double)(uint64_t)value)
		return false;
	*out = (uint64_t)value;
	return true;
}

/* "512M", "2G", "4096". */
static bool sized_text(const char *text, uint64_t *out)
{
	static const struct {
		char letter;
		uint64_t factor;
	} units[] = { { 'K', KIB }, { 'M', MIB }, { 'G', GIB }, { 'T', 1024 * GIB } };
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (toupper((unsigned char)*end) == units[i].letter && !end[1])
			return !mul_overflows((uint64_t)value, units[i].factor, out);
	*out = value;
	return !*end;
}

static bool in_range(const struct place *p, uint64_t value)
{
	if (value >= p->key->min && value <= p->key->max)
		return true;
	config_fault(p->faults, "%s: %llu is not within %llu and %llu", p->path,
	             (unsigned long long)value, (unsigned long long)p->key->min,
	             (unsigned long long)p->key->max);
	return false;
}

static void read_uint(const cJSON *item, const struct place *p)
{
	uint64_t value;

	if (!cJSON_IsNumber(item))
		config_fault(p->faults, "%s: must be a number", p->path);
	else if (!whole_number(item, &value))
		config_fault(p->faults, "%s: must be a whole number, not negative", p->path);
	else if (in_range(p, value))
		*(uint32_t *)p->to = (uint32_t)value;
}

static void read_size(const cJSON *item, const struct place *p)
{
	uint64_t value;
	const bool good = cJSON_IsString(item)   ? sized_text(item->valuestring, &value)
	                  : cJSON_IsNumber(item) ? whole_number(item, &value)
	                                         : false;

	if (!good)
		config_fault(p->faults,
		             "%s: must be a whole number of bytes, or one with K, M, G or T, "
		             "as \"512M\"",
		             p->path);
	else if (in_range(p, value))
		*(uint64_t *)p->to = value;
}

static cJSON *print_uint(const struct config_key *key, const void *from)
{
	(void)key;
	return cJSON_CreateNumber(*(const uint32_t *)from);
}

static cJSON *print_size(const struct config_key *key, const void *from)
{
	const uint64_t value = *(const uint64_t *)from;
	char text[24];

	(void)key;
	if (value <= EXACT_MAX)
		return cJSON_CreateNumber((double)value);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return cJSON_CreateString(text);
}

static bool uint_is_zero(const void *from)
{
	return !*(const uint32_t *)from;
}

static bool size_is_zero(const void *from)
{
	return !*(const uint64_t *)from;
}

/* ---- words --------------------------------------------------------------------------------- */

static bool text_is_good(const char *text, size_t size, const char *path, const struct place *p)
{
	struct gw_error err;

	if (strlen(text) >= size)
		config_fault(p->faults, "%s: longer than %zu bytes", path, size - 1);
	else if (p->key->flags & CONFIG_REQUIRED && !text[0])
		config_fault(p->faults, "%s: must not be empty", path);
	else if (text[0] && p->key->check && p->key->check(text, &err) < 0)
		config_fault(p->faults, "%s: %s", path, err.text);
	else
		return true;
	return false;
}

static void read_text(const cJSON *item, const struct place *p)
{
	if (!cJSON_IsString(item))
		config_fault(p->faults, "%s: must be a string", p->path);
	else if (text_is_good(item->valuestring, p->key->max, p->path, p))
		strcpy(p->to, item->valuestring);
}

static cJSON *print_text(const struct config_key *key, const void *from)
{
	(void)key;
	return cJSON_CreateString(from);
}

static bool text_is_empty(const void *from)
{
	return !*(const char *)from;
}

static void read_enum(const cJSON *item, const struct place *p)
{
	const char *const *words = p->key->words;
	char list[300] = "";

	for (uint32_t i = 0; cJSON_IsString(item) && words[i]; i++) {
		if (!strcmp(words[i], item->valuestring)) {
			*(uint32_t *)p->to = i;
			return;
		}
	}
	for (unsigned i = 0; words[i]; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s\"%s\"",
		         i ? ", " : "", words[i]);
	config_fault(p->faults, "%s: must be one of %s", p->path, list);
}

static cJSON *print_enum(const struct config_key *key, const void *from)
{
	return cJSON_CreateString(key->words[*(const uint32_t *)from]);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void read_bool(const cJSON *item, const struct place *p)
{
	if (cJSON_IsBool(item))
		*(bool *)p->to = cJSON_IsTrue(item);
	else
		config_fault(p->faults, "%s: must be true or false", p->path);
}

static cJSON *print_bool(const struct config_key *key, const void *from)
{
	(void)key;
	return cJSON_CreateBool(*(const bool *)from);
}

static bool bool_is_false(const void *from)
{
	return !*(const bool *)from;
}

static void read_texts(const cJSON *list, const struct place *p)
{
	struct config_texts *texts = p->to;
	const uint64_t max = MIN(p->key->max, (uint64_t)ARRAY_SIZE(texts->item));
	const cJSON *item;

	memset(texts, 0, sizeof(*texts));
	if (!cJSON_IsArray(list)) {
		config_fault(p->faults, "%s: must be a list of strings", p->path);
		return;
	}
	cJSON_ArrayForEach(item, list)
	{
		char path[256];

		if (texts->count == max) {
			config_fault(p->faults, "%s: more than %llu", p->path,
			             (unsigned long long)max);
			return;
		}
		snprintf(path, sizeof(path), "%s[%u]", p->path, texts->count);
		if (!cJSON_IsString(item) || !item->valuestring[0])
			config_fault(p->faults, "%s: must be a string, not empty", path);
		else if (text_is_good(item->valuestring, sizeof(texts->item[0]), path, p))
			strcpy(texts->item[texts->count], item->valuestring);
		texts->count++;
	}
}

static cJSON *print_texts(const struct config_key *key, const void *from)
{
	const struct config_texts *texts = from;
	cJSON *list = cJSON_CreateArray();

	(void)key;
	for (unsigned i = 0; list && i < texts->count; i++) {
		if (cJSON_AddItemToArray(list, cJSON_CreateString(texts->item[i])))
			continue;
		cJSON_Delete(list);
		list = NULL;
	}
	return list;
}

static bool texts_are_none(const void *from)
{
	return !((const struct config_texts *)from)->count;
}

static void read_uints(const cJSON *list, const struct place *p)
{
	struct config_numbers *numbers = p->to;
	const cJSON *item;

	memset(numbers, 0, sizeof(*numbers));
	if (!cJSON_IsArray(list)) {
		config_fault(p->faults, "%s: must be a list of numbers", p->path);
		return;
	}
	cJSON_ArrayForEach(item, list)
	{
		char path[256];
		const struct place one = { p->key, path, &numbers->item[numbers->count],
			                   p->faults };

		if (numbers->count == ARRAY_SIZE(numbers->item)) {
			config_fault(p->faults, "%s: more than %zu", p->path,
			             ARRAY_SIZE(numbers->item));
			return;
		}
		snprintf(path, sizeof(path), "%s[%u]", p->path, numbers->count);
		read_uint(item, &one);
		numbers->count++;
	}
}

static cJSON *print_uints(const struct config_key *key, const void *from)
{
	const struct config_numbers *numbers = from;
	cJSON *list = cJSON_CreateArray();

	(void)key;
	for (unsigned i = 0; list && i < numbers->count; i++) {
		if (cJSON_AddItemToArray(list, cJSON_CreateNumber(numbers->item[i])))
			continue;
		cJSON_Delete(list);
		list = NULL;
	}
	return list;
}

static bool uints_are_none(const void *from)
{
	return !((const struct config_numbers *)from)->count;
}

static void read_json(const cJSON *item, const struct place *p)
{
	autofree char *text = cJSON_PrintUnformatted(item);

	if (!text)
		config_fault_code(p->faults, -ENOMEM, "%s: out of memory", p->path);
	else if (text_is_good(text, p->key->max, p->path, p))
		strcpy(p->to, text);
}

static cJSON *print_json(const struct config_key *key, const void *from)
{
	(void)key;
	return cJSON_Parse(from);
}

/* ---- by kind ------------------------------------------------------------------------------- */

static const struct {
	void (*read)(const cJSON *item, const struct place *p);
	cJSON *(*print)(const struct config_key *key, const void *from);
	bool (*is_nothing)(const void *from);
} kinds[] = {
	[CONFIG_TEXT] = { read_text, print_text, text_is_empty },
	[CONFIG_UINT] = { read_uint, print_uint, uint_is_zero },
	[CONFIG_SIZE] = { read_size, print_size, size_is_zero },
	[CONFIG_BOOL] = { read_bool, print_bool, bool_is_false },
	[CONFIG_ENUM] = { read_enum, print_enum, uint_is_zero },
	[CONFIG_TEXTS] = { read_texts, print_texts, texts_are_none },
	[CONFIG_UINTS] = { read_uints, print_uints, uints_are_none },
	[CONFIG_JSON] = { read_json, print_json, text_is_empty },
};

void config_read_value(const cJSON *item, const struct config_key *key, const char *path,
                       void *base, struct config_faults *faults)
{
	const struct place p = { key, path, (char *)base + key->offset, faults };

	kinds[key->kind].read(item, &p);
}

void config_read_defaults(const struct config_key *keys, void *base, struct config_faults *faults)
{
	for (const struct config_key *key = keys; key->name; key++) {
		cJSON *value;

		if (!key->otherwise)
			continue;
		value = cJSON_Parse(key->otherwise);
		if (value)
			config_read_value(value, key, key->name, base, faults);
		else
			config_fault_code(faults, -ENOMEM, "%s: no default", key->name);
		cJSON_Delete(value);
	}
}

bool config_print_value(cJSON *object, const struct config_key *key, const void *base)
{
	const void *from = (const char *)base + key->offset;
	cJSON *value;

	if (!key->otherwise && kinds[key->kind].is_nothing(from))
		return true;
	value = kinds[key->kind].print(key, from);
	if (value && cJSON_AddItemToObject(object, key->name, value))
		return true;
	cJSON_Delete(value);
	return false;
}
