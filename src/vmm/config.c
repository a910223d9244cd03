/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: one walk over JSON, by the rows of the tables. A device has two
 * tables, what every device has and its driver's, and two places to fill.
 */
#include "vmm/config_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/device.h"

#include <stdio.h>
#include <string.h>

/* Rows of a table that can be told to have been seen. */
#define KEYS_MAX 64
/* Unknown keys beyond these many are not worth a search for what was meant. */
#define GUESSES_MAX 16

struct table {
	const struct config_key *keys;
	void *base;
	uint64_t seen;
};

struct reading {
	struct table tables[2];
	unsigned count;
	bool has_lists;        /* keys that are lists of objects are dealt with elsewhere */
	bool unknown_are_fine; /* a device of a type that there is not */
	const char *prefix;    /* "devices[3].", "" */
	struct config_faults *faults;
};

const struct device_driver *config_find_driver(const struct device_drivers *drivers,
                                               const char *type)
{
	for (unsigned i = 0; i < drivers->count; i++)
		if (!strcmp(drivers->list[i]->type, type))
			return drivers->list[i];
	return NULL;
}

/* ---- keys that there are not ----------------------------------------------------------------- */

/* Changes that make one word of the other: letters put in, left out or replaced. */
static unsigned distance(const char *a, const char *b)
{
	enum { LONGEST = 40 };
	const size_t alen = strlen(a), blen = strlen(b);
	unsigned row[LONGEST + 1];

	if (alen > LONGEST || blen > LONGEST)
		return LONGEST;
	for (unsigned j = 0; j <= blen; j++)
		row[j] = j;
	for (unsigned i = 1; i <= alen; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= blen; j++) {
			const unsigned replaced = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[blen];
}

/* A key is what was meant if it has that very name elsewhere, or nearly so in the same place. */
static unsigned unlikeness(const struct config_key *key, const char *section, const char *name)
{
	if (!strcmp(key->name, name))
		return 1;
	if (!config_same_section(key->section, section))
		return UINT32_MAX;
	return distance(key->name, name);
}

static void say_unknown(const struct reading *r, const char *section, const char *name)
{
	const char *dot = section ? "." : "";
	unsigned best = MIN(strlen(name) / 3 + 1, 2ul) + 1;
	char hint[160] = "";

	for (unsigned t = 0; t < r->count && r->faults->count < GUESSES_MAX; t++) {
		for (const struct config_key *key = r->tables[t].keys; key->name; key++) {
			unsigned d = unlikeness(key, section, name);

			if (d < best)
				snprintf(hint, sizeof(hint), "; did you mean %s%s%s%s?", r->prefix,
				         key->section ? key->section : "", key->section ? "." : "",
				         key->name);
			best = MIN(best, d);
			if (section || !key->section)
				continue;
			d = distance(key->section, name);
			if (d < best)
				snprintf(hint, sizeof(hint), "; did you mean %s%s?", r->prefix,
				         key->section);
			best = MIN(best, d);
		}
	}
	config_fault(r->faults, "%s%s%s%.64s: no such key%s", r->prefix, section ? section : "",
	             dot, name, hint);
}

/* ---- objects -----------------------------------------------------------------------------------
 */

/* As the table has it, so that it lives as long; NULL: there is no such section. */
static const char *find_section(const struct reading *r, const char *name)
{
	for (unsigned t = 0; t < r->count; t++)
		for (const struct config_key *key = r->tables[t].keys; key->name; key++)
			if (key->section && !strcmp(key->section, name))
				return key->section;
	return NULL;
}

/* False: there is no such key. */
static bool read_key(struct reading *r, const cJSON *item, const char *section)
{
	for (unsigned t = 0; t < r->count; t++) {
		struct table *table = &r->tables[t];
		const struct config_key *key = config_find_key(table->keys, section, item->string);
		char path[160];
		uint64_t bit;

		if (!key)
			continue;
		bit = 1ull << (size_t)(key - table->keys) % KEYS_MAX;
		snprintf(path, sizeof(path), "%s%s%s%s", r->prefix, section ? section : "",
		         section ? "." : "", key->name);
		if (table->seen & bit)
			config_fault(r->faults, "%s: given twice", path);
		else
			config_read_value(item, key, path, table->base, r->faults);
		table->seen |= bit;
		return true;
	}
	return false;
}

static void read_section(struct reading *r, const cJSON *object, const char *section)
{
	const cJSON *item;

	if (!cJSON_IsObject(object)) {
		config_fault(r->faults, "%s%s: must be an object", r->prefix, section);
		return;
	}
	cJSON_ArrayForEach(item, object)
	{
		if (!read_key(r, item, section))
			say_unknown(r, section, item->string);
	}
}

static void check_required(struct reading *r)
{
	for (unsigned t = 0; t < r->count; t++) {
		const struct table *table = &r->tables[t];

		for (size_t i = 0; table->keys[i].name; i++) {
			const struct config_key *key = &table->keys[i];

			if (key->flags & CONFIG_REQUIRED && !(table->seen >> i % KEYS_MAX & 1))
				config_fault(r->faults, "%s%s%s%s: missing", r->prefix,
				             key->section ? key->section : "",
				             key->section ? "." : "", key->name);
		}
	}
}

/* A bit for each key that is a list of objects; 0: it is none. */
static unsigned list_bit(const char *name);

static void read_object(struct reading *r, const cJSON *object)
{
	unsigned lists_seen = 0;
	const cJSON *item;

	for (unsigned t = 0; t < r->count; t++)
		config_read_defaults(r->tables[t].keys, r->tables[t].base, r->faults);
	cJSON_ArrayForEach(item, object)
	{
		const char *section = find_section(r, item->string);
		const unsigned list = r->has_lists ? list_bit(item->string) : 0;

		if (list & lists_seen)
			config_fault(r->faults, "%s: given twice", item->string);
		lists_seen |= list;
		if (list)
			continue;
		if (section)
			read_section(r, item, section);
		else if (!read_key(r, item, NULL) && !r->unknown_are_fine)
			say_unknown(r, NULL, item->string);
	}
	check_required(r);
}

/* ---- devices
 * ------------------------------------------------------------------------------------- */

static void say_no_type(const char *prefix, const char *type, const struct device_drivers *drivers,
                        struct config_faults *faults)
{
	char list[400] = "";

	for (unsigned i = 0; i < drivers->count; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
		         drivers->list[i]->type);
	config_fault(faults, "%stype: no device type \"%.64s\"; there are %s", prefix, type, list);
}

static void read_device(const cJSON *item, const char *prefix, const struct device_drivers *drivers,
                        struct config_device *out, struct config_faults *faults)
{
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "type");
	const char *word = cJSON_IsString(type) ? type->valuestring : "";
	const struct device_driver *driver = config_find_driver(drivers, word);
	struct reading r = {
		.tables = { { .keys = config_device_keys, .base = out } },
		.count = 1,
		.unknown_are_fine = !driver,
		.prefix = prefix,
		.faults = faults,
	};

	memset(out, 0, sizeof(*out));
	if (driver)
		r.tables[r.count++] = (struct table){ driver->keys, out->options, 0 };
	read_object(&r, item);
	if (!driver && *word)
		say_no_type(prefix, word, drivers, faults);
}

/* ---- lists of objects ---------------------------------------------------------------------- */

/* One entry of "devices": NULL if it is no object. */
static void add_device(const cJSON *item, const char *prefix, const struct device_drivers *drivers,
                       struct config *out, struct config_faults *faults)
{
	const unsigned before = faults->count;

	if (item)
		read_device(item, prefix, drivers, &out->devices[out->device_count], faults);
	if (!item || faults->count != before)
		faults->faulty_devices |= 1u << out->device_count;
	out->device_count++;
}

static void add_node(const cJSON *item, const char *prefix, const struct device_drivers *drivers,
                     struct config *out, struct config_faults *faults)
{
	const unsigned before = faults->count;
	struct reading r = {
		.tables = { { .keys = config_node_keys, .base = &out->numa[out->node_count] } },
		.count = 1,
		.prefix = prefix,
		.faults = faults,
	};

	(void)drivers;
	if (item)
		read_object(&r, item);
	faults->faulty_nodes |= !item || faults->count != before;
	out->node_count++;
}

static const struct list {
	const char *name;
	unsigned max;
	void (*add)(const cJSON *item, const char *prefix, const struct device_drivers *drivers,
	            struct config *out, struct config_faults *faults);
} lists[] = {
	{ "numa", CONFIG_NODES_MAX, add_node },
	{ "devices", CONFIG_DEVICES_MAX, add_device },
};

static unsigned list_bit(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		if (!strcmp(lists[i].name, name))
			return 1u << i;
	return 0;
}

static void read_list(const struct list *l, const cJSON *list, const struct device_drivers *drivers,
                      struct config *out, struct config_faults *faults)
{
	const cJSON *item;
	unsigned n = 0;

	if (!list)
		return;
	if (!cJSON_IsArray(list)) {
		config_fault(faults, "%s: must be a list", l->name);
		return;
	}
	cJSON_ArrayForEach(item, list)
	{
		const bool good = cJSON_IsObject(item);
		char prefix[32];

		if (n == l->max) {
			config_fault(faults, "%s: more than %u", l->name, l->max);
			return;
		}
		snprintf(prefix, sizeof(prefix), "%s[%u]%s", l->name, n++, good ? "." : "");
		if (!good)
			config_fault(faults, "%s: must be an object", prefix);
		l->add(good ? item : NULL, prefix, drivers, out, faults);
	}
}

/* ---- the calls
 * ------------------------------------------------------------------------------------- */

static cJSON *parse_json(const char *json, struct config_faults *faults)
{
	const char *end = NULL;
	cJSON *root = cJSON_ParseWithOpts(json, &end, 1);

	if (!root) {
		unsigned line = 1;

		for (const char *c = json; end && c < end; c++)
			line += *c == '\n';
		config_fault(faults, "line %u: not JSON", line);
	} else if (!cJSON_IsObject(root)) {
		config_fault(faults, "must be a JSON object");
		cJSON_Delete(root);
		root = NULL;
	}
	return root;
}

/* What a device cannot do without, the machine has. */
static void imply(const struct device_drivers *drivers, struct config *out)
{
	for (unsigned i = 0; i < out->device_count; i++) {
		const struct device_driver *driver =
		        config_find_driver(drivers, out->devices[i].type);

		if (driver && driver->shares_memory)
			out->backing.shared = true;
	}
}

static void parse(const char *json, const struct device_drivers *drivers, struct config *out,
                  struct config_faults *faults)
{
	struct reading r = {
		.tables = { { .keys = config_machine_keys, .base = out } },
		.count = 1,
		.has_lists = true,
		.prefix = "",
		.faults = faults,
	};
	cJSON *root;

	memset(out, 0, sizeof(*out));
	root = parse_json(json, faults);
	if (root) {
		read_object(&r, root);
		for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
			read_list(&lists[i], cJSON_GetObjectItemCaseSensitive(root, lists[i].name),
			          drivers, out, faults);
		imply(drivers, out);
		config_check_whole(out, drivers, faults);
	}
	cJSON_Delete(root);
}

int config_parse(const char *json, const char *name, const struct device_drivers *drivers,
                 struct config *out, struct gw_error *err)
{
	struct config_faults faults;

	config_faults_begin(&faults, name, err);
	parse(json, drivers, out, &faults);
	return config_faults_end(&faults);
}

int config_parse_here(const char *json, const char *name, const struct device_drivers *drivers,
                      struct config *out, struct gw_error *err)
{
	struct config_faults faults;

	config_faults_begin(&faults, name, err);
	parse(json, drivers, out, &faults);
	config_check_here(out, drivers, false, &faults);
	return config_faults_end(&faults);
}

int config_parse_device(const char *json, const struct device_drivers *drivers,
                        struct config_device *out, struct gw_error *err)
{
	struct config_faults faults;
	cJSON *root;

	config_faults_begin(&faults, "device", err);
	root = parse_json(json, &faults);
	if (root)
		read_device(root, "", drivers, out, &faults);
	cJSON_Delete(root);
	return config_faults_end(&faults);
}
