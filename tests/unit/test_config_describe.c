/* SPDX-License-Identifier: Apache-2.0 */
/* Schema, help and examples: made from the tables, and no older than they are. */
#include "vm.h"

#include "base/io.h"
#include "config_drivers.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char *slurp(const char *path)
{
	struct gw_error err;
	char *text = NULL;

	cr_assert_eq(io_read_file(path, 1 << 20, &text, NULL, &err), 0, "%s", err.text);
	return text;
}

static const cJSON *at(const cJSON *json, const char *const *path)
{
	for (; *path && json; path++)
		json = cJSON_GetObjectItemCaseSensitive(json, *path);
	return json;
}
#define AT(json, ...) at(json, (const char *const[]){ __VA_ARGS__, NULL })

Test(config_describe, schema_has_every_kind)
{
	char *text = config_schema(&drivers);
	cJSON *root = cJSON_Parse(text);
	const cJSON *items = AT(root, "properties", "devices", "items");
	const cJSON *arm = cJSON_GetArrayItem(AT(items, "allOf"), 0);
	const cJSON *thing = AT(arm, "then", "properties");

	cr_assert(root, "%s", text);
	cr_assert_str_eq(AT(root, "required")->child->valuestring, "memory");
	cr_assert_eq(AT(root, "properties", "cpus", "maximum")->valuedouble, 255);
	cr_assert_eq(AT(root, "properties", "cpus", "default")->valuedouble, 1);
	cr_assert(cJSON_IsFalse(AT(root, "additionalProperties")));
	cr_assert(cJSON_IsFalse(AT(root, "properties", "boot", "additionalProperties")));
	cr_assert(cJSON_IsFalse(AT(items, "unevaluatedProperties")));
	cr_assert_eq(cJSON_GetArraySize(AT(items, "properties", "type", "enum")), 2);
	cr_assert_str_eq(AT(arm, "if", "properties", "type", "const")->valuestring, "t");
	cr_assert_str_eq(AT(arm, "then", "required")->child->valuestring, "host");
	cr_assert_eq(AT(thing, "host", "maxLength")->valuedouble, 63);
	cr_assert_eq(AT(thing, "rings", "properties", "queues", "maximum")->valuedouble, 8);
	cr_assert_str_eq(AT(thing, "mode", "default")->valuestring, "vhost");
	cr_assert_str_eq(AT(thing, "fast", "type")->valuestring, "boolean");
	cJSON_Delete(root);
	free(text);
}

Test(config_describe, help_has_every_key)
{
	char *text = config_help(&drivers, false), *markdown = config_help(&drivers, true);

	cr_assert(strstr(text, "memory   size, 2M to 4T; required\n"), "%s", text);
	cr_assert(strstr(text, "cpus   number, 1 to 255; default 1\n"), "%s", text);
	cr_assert(strstr(text, "devices[].rings.queues   number, 1 to 8; default 2\n"));
	cr_assert(strstr(text, "devices[].mode   tap, vhost; default vhost\n"), "%s", text);
	cr_assert(strstr(text, "devices[].host   text; required; may be mapped\n"));
	cr_assert(strstr(markdown, "### `t`\n\nA thing.\n"), "%s", markdown);
	cr_assert(strstr(markdown, "| `devices[].room` | size, 0 to "), "%s", markdown);
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
		cr_assert_leq(strcspn(line, "\n"), 120, "%s", line);
	free(markdown);
	free(text);
}

Test(config_describe, files_are_up_to_date)
{
	char *schema = config_schema(&vm_drivers), *help = config_help(&vm_drivers, true);
	char *published = slurp("configs/schema.json"), *docs = slurp("docs/config.md");

	published[strlen(published) - 1] = 0; /* the newline */
	cr_assert(!strcmp(schema, published), "configs/schema.json is old: run \"make configs\"");
	cr_assert(strstr(docs, help), "docs/config.md is old: run \"make configs\"");
	free(docs);
	free(published);
	free(help);
	free(schema);
}

/* ---- examples
 * ------------------------------------------------------------------------------------ */

static const char *const examples[] = { "configs/minimal.json", "configs/disk.json",
	                                "configs/net.json", "configs/passthrough.json",
	                                "configs/full.json" };

Test(config_describe, examples_are_good)
{
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct gw_error err = { 0 };
		char *json = slurp(examples[i]);

		cr_assert_eq(gw_config_check(json, examples[i], false, &err), 0, "%s", err.text);
		free(json);
	}
}

/* Some device of the type says something of the key. */
static bool says_key(const cJSON *root, const char *type, const struct config_key *key)
{
	const cJSON *device;

	cJSON_ArrayForEach(device, AT(root, "devices"))
	{
		if (!strcmp(AT(device, "type")->valuestring, type) &&
		    (key->section ? AT(device, key->section, key->name) : AT(device, key->name)))
			return true;
	}
	return false;
}

/* Every key but those that stand in place of another: it boots by kernel, so not by firmware, and
 * has files, so no descriptors. */
Test(config_describe, the_full_example_is_full)
{
	char *json = slurp("configs/full.json"), *schema = config_schema(&vm_drivers);
	cJSON *root = cJSON_Parse(json), *described = cJSON_Parse(schema);
	const cJSON *key, *inner;

	cJSON_ArrayForEach(key, AT(described, "properties"))
	{
		cr_assert(AT(root, key->string), "%s", key->string);
		cJSON_ArrayForEach(inner, AT(key, "properties"))
		{
			if (strcmp(inner->string, "firmware"))
				cr_assert(AT(root, key->string, inner->string), "%s.%s",
				          key->string, inner->string);
		}
	}
	for (unsigned i = 0; i < vm_drivers.count; i++) {
		const struct device_driver *driver = vm_drivers.list[i];

		for (const struct config_key *k = driver->keys; k->name; k++)
			cr_assert(!strcmp(k->name, "fd") || says_key(root, driver->type, k),
			          "%s: %s", driver->type, k->name);
	}
	cJSON_Delete(described);
	cJSON_Delete(root);
	free(schema);
	free(json);
}

/* A default that its own row refuses would make every configuration faulty. */
Test(config_describe, defaults_are_good)
{
	for (unsigned i = 0; i < vm_drivers.count; i++) {
		const struct device_driver *driver = vm_drivers.list[i];
		struct gw_error err = { 0 };
		struct config_device device;
		char json[128];

		cr_assert(driver->help && driver->help[0], "%s", driver->type);
		for (const struct config_key *key = driver->keys; key->name; key++)
			cr_assert(key->help && key->help[0], "%s: %s", driver->type, key->name);
		snprintf(json, sizeof(json), "{\"id\":\"a\",\"type\":\"%s\"}", driver->type);
		if (config_parse_device(json, &vm_drivers, &device, &err) < 0)
			for (const char *c = err.text; (c = strstr(c, ": ")); c++)
				cr_assert(!strstr(c, "within") && !strstr(c, "must be"), "%s: %s",
				          driver->type, err.text);
	}
}
