/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables as JSON Schema (draft 2020-12), for editors and checks elsewhere.
 * A device's further properties hang on its "type": one if/then for each.
 */
#include "vmm/config_internal.h"

#include "base/util.h"
#include "vmm/device.h"

#include <string.h>

/* cJSON's calls return NULL where memory is out; `b` remembers it. */
struct build {
	bool failed;
};

static void text(struct build *b, cJSON *object, const char *name, const char *value)
{
	b->failed |= !cJSON_AddStringToObject(object, name, value);
}

static void number(struct build *b, cJSON *object, const char *name, uint64_t value)
{
	b->failed |= !cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *object_in(struct build *b, cJSON *object, const char *name)
{
	cJSON *made = cJSON_AddObjectToObject(object, name);

	b->failed |= !made;
	return made;
}

static cJSON *list_in(struct build *b, cJSON *object, const char *name)
{
	cJSON *made = cJSON_AddArrayToObject(object, name);

	b->failed |= !made;
	return made;
}

static cJSON *entry_in(struct build *b, cJSON *list)
{
	cJSON *made = cJSON_CreateObject();

	if (made && cJSON_AddItemToArray(list, made))
		return made;
	cJSON_Delete(made);
	b->failed = true;
	return NULL;
}

static void word_in(struct build *b, cJSON *list, const char *word)
{
	cJSON *made = cJSON_CreateString(word);

	if (made && cJSON_AddItemToArray(list, made))
		return;
	cJSON_Delete(made);
	b->failed = true;
}

/* ---- one value ----------------------------------------------------------------------------- */

static void describe_text(struct build *b, cJSON *to, const struct config_key *key)
{
	text(b, to, "type", "string");
	if (key->flags & CONFIG_REQUIRED)
		number(b, to, "minLength", 1);
	number(b, to, "maxLength", key->max - 1);
}

static void describe_uint(struct build *b, cJSON *to, const struct config_key *key)
{
	text(b, to, "type", "integer");
	number(b, to, "minimum", key->min);
	number(b, to, "maximum", key->max);
}

static void describe_size(struct build *b, cJSON *to, const struct config_key *key)
{
	cJSON *ways = list_in(b, to, "oneOf");
	cJSON *words;

	describe_uint(b, entry_in(b, ways), key);
	words = entry_in(b, ways);
	text(b, words, "type", "string");
	text(b, words, "pattern", "^[0-9]+[KMGTkmgt]?$");
}

static void describe_bool(struct build *b, cJSON *to, const struct config_key *key)
{
	(void)key;
	text(b, to, "type", "boolean");
}

static void describe_enum(struct build *b, cJSON *to, const struct config_key *key)
{
	cJSON *words = list_in(b, to, "enum");

	for (unsigned i = 0; key->words[i]; i++)
		word_in(b, words, key->words[i]);
}

static void describe_texts(struct build *b, cJSON *to, const struct config_key *key)
{
	cJSON *items;

	text(b, to, "type", "array");
	number(b, to, "maxItems", MIN(key->max, (uint64_t)CONFIG_CPUS_MAX));
	items = object_in(b, to, "items");
	text(b, items, "type", "string");
	number(b, items, "minLength", 1);
	number(b, items, "maxLength", sizeof(((struct config_texts *)0)->item[0]) - 1);
}

static void describe_uints(struct build *b, cJSON *to, const struct config_key *key)
{
	text(b, to, "type", "array");
	number(b, to, "maxItems", CONFIG_NODES_MAX);
	describe_uint(b, object_in(b, to, "items"), key);
}

/* Any value will do: no constraint. */
static void describe_json(struct build *b, cJSON *to, const struct config_key *key)
{
	(void)b;
	(void)to;
	(void)key;
}

static void (*const describe[])(struct build *b, cJSON *to, const struct config_key *key) = {
	[CONFIG_TEXT] = describe_text,   [CONFIG_UINT] = describe_uint,
	[CONFIG_SIZE] = describe_size,   [CONFIG_BOOL] = describe_bool,
	[CONFIG_ENUM] = describe_enum,   [CONFIG_TEXTS] = describe_texts,
	[CONFIG_UINTS] = describe_uints, [CONFIG_JSON] = describe_json,
};

static void add_key(struct build *b, cJSON *properties, const struct config_key *key)
{
	cJSON *to = object_in(b, properties, key->name);
	cJSON *otherwise;

	text(b, to, "description", key->help);
	describe[key->kind](b, to, key);
	if (!key->otherwise)
		return;
	otherwise = cJSON_Parse(key->otherwise);
	if (otherwise && cJSON_AddItemToObject(to, "default", otherwise))
		return;
	cJSON_Delete(otherwise);
	b->failed = true;
}

/* ---- objects ------------------------------------------------------------------------------- */

static void require(struct build *b, cJSON *schema, const char *name)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(schema, "required");
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		if (!strcmp(item->valuestring, name))
			return;
	}
	word_in(b, list ? list : list_in(b, schema, "required"), name);
}

/* The keys of a table into a schema's properties; sections become objects in it. */
static void add_keys(struct build *b, cJSON *schema, const struct config_key *keys)
{
	cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");

	for (const struct config_key *key = keys; key->name; key++) {
		cJSON *in = schema, *to = properties;

		if (key->section) {
			in = cJSON_GetObjectItemCaseSensitive(properties, key->section);
			if (!in) {
				in = object_in(b, properties, key->section);
				text(b, in, "type", "object");
				b->failed |= !cJSON_AddFalseToObject(in, "additionalProperties");
				object_in(b, in, "properties");
			}
			to = cJSON_GetObjectItemCaseSensitive(in, "properties");
		}
		add_key(b, to, key);
		if (key->flags & CONFIG_REQUIRED && key->section)
			require(b, schema, key->section);
		if (key->flags & CONFIG_REQUIRED)
			require(b, in, key->name);
	}
}

/* A kernel or a firmware image, and one of them (config_check.c). */
static void add_boot_choice(struct build *b, cJSON *schema)
{
	cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
	cJSON *boot = cJSON_GetObjectItemCaseSensitive(properties, "boot");
	cJSON *choice = list_in(b, boot, "oneOf");

	require(b, schema, "boot");
	require(b, entry_in(b, choice), "kernel");
	require(b, entry_in(b, choice), "firmware");
}

static void add_type(struct build *b, cJSON *list, const struct device_driver *driver)
{
	cJSON *arm = entry_in(b, list), *when, *then, *is;

	when = object_in(b, arm, "if");
	is = object_in(b, object_in(b, when, "properties"), "type");
	text(b, is, "const", driver->type);
	then = object_in(b, arm, "then");
	text(b, then, "description", driver->help);
	object_in(b, then, "properties");
	add_keys(b, then, driver->keys);
}

static void add_nodes(struct build *b, cJSON *schema)
{
	cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
	cJSON *nodes = object_in(b, properties, "numa"), *items;

	text(b, nodes, "description",
	     "NUMA nodes of the guest, by their numbers from 0; it is told of none where it is "
	     "left out");
	text(b, nodes, "type", "array");
	number(b, nodes, "maxItems", CONFIG_NODES_MAX);
	items = object_in(b, nodes, "items");
	text(b, items, "type", "object");
	b->failed |= !cJSON_AddFalseToObject(items, "additionalProperties");
	object_in(b, items, "properties");
	add_keys(b, items, config_node_keys);
}

static void add_devices(struct build *b, cJSON *schema, const struct device_drivers *drivers)
{
	cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
	cJSON *devices = object_in(b, properties, "devices"), *items, *types, *arms, *words;

	text(b, devices, "description", "what is plugged in");
	text(b, devices, "type", "array");
	number(b, devices, "maxItems", CONFIG_DEVICES_MAX);
	items = object_in(b, devices, "items");
	text(b, items, "type", "object");
	properties = object_in(b, items, "properties");
	add_keys(b, items, config_device_keys);
	types = cJSON_GetObjectItemCaseSensitive(properties, "type");
	words = list_in(b, types, "enum");
	arms = list_in(b, items, "allOf");
	for (unsigned i = 0; i < drivers->count; i++) {
		word_in(b, words, drivers->list[i]->type);
		add_type(b, arms, drivers->list[i]);
	}
	/* Also false for what only the arm of another type knows. */
	b->failed |= !cJSON_AddFalseToObject(items, "unevaluatedProperties");
}

char *config_schema(const struct device_drivers *drivers)
{
	struct build b = { 0 };
	cJSON *root = cJSON_CreateObject();
	char *out = NULL;

	text(&b, root, "$schema", "https://json-schema.org/draft/2020-12/schema");
	text(&b, root, "title", "godwit: a machine");
	text(&b, root, "type", "object");
	b.failed |= !cJSON_AddFalseToObject(root, "additionalProperties");
	object_in(&b, root, "properties");
	add_keys(&b, root, config_machine_keys);
	add_boot_choice(&b, root);
	add_nodes(&b, root);
	add_devices(&b, root, drivers);
	if (!b.failed)
		out = cJSON_Print(root);
	cJSON_Delete(root);
	return out;
}
