/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration's keys, each a row of a table, and one walk over JSON and
 * table that reads, checks and writes them.
 */
#include "vmm/config.h"

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum kind { KIND_TEXT, KIND_UINT, KIND_SIZE, KIND_BOOL };

struct key {
	const char *section; /* NULL: top level */
	const char *name;
	enum kind kind;
	bool required;
	size_t offset;
	uint64_t size_or_min; /* KIND_TEXT: room; numbers: smallest */
	uint64_t max;
};

#define TEXT(section, name, required, type, member)                                                \
	{                                                                                          \
		section, name, KIND_TEXT, required, offsetof(type, member),                        \
		        sizeof(((type *)0)->member), 0                                             \
	}
#define NUMBER(kind, section, name, required, member, min, max)                                    \
	{                                                                                          \
		section, name, kind, required, offsetof(struct config, member), min, max           \
	}

static const struct key machine_keys[] = {
	TEXT(NULL, "name", false, struct config, name),
	NUMBER(KIND_UINT, NULL, "cpus", false, cpus, 1, 255),
	NUMBER(KIND_SIZE, NULL, "memory", true, memory, 2 * MIB, 4096 * GIB),
	TEXT("boot", "kernel", true, struct config, boot.kernel),
	TEXT("boot", "initrd", false, struct config, boot.initrd),
	TEXT("boot", "cmdline", false, struct config, boot.cmdline),
	TEXT("serial", "socket", false, struct config, serial.socket),
	TEXT("serial", "log", false, struct config, serial.log),
	{ "serial", "stdio", KIND_BOOL, false, offsetof(struct config, serial.stdio), 0, 0 },
};

static const struct key device_keys[] = {
	TEXT(NULL, "id", true, struct config_device, id),
	TEXT(NULL, "type", true, struct config_device, type),
	TEXT(NULL, "host", true, struct config_device, host),
	{ NULL, "slot", KIND_UINT, false, offsetof(struct config_device, slot), 1, 31 },
};

struct table {
	const struct key *keys;
	size_t count;
};
static const struct table machine_table = { machine_keys, ARRAY_SIZE(machine_keys) };
static const struct table device_table = { device_keys, ARRAY_SIZE(device_keys) };

/* All faults of a text, one after the other. */
struct faults {
	struct gw_error *err;
	int count;
};

static void fault(struct faults *faults, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

static void fault(struct faults *faults, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (faults->count++)
		error_append(faults->err, "%s", text);
	else
		error_set(faults->err, -EINVAL, "%s", text);
}

/* ---- one value -------------------------------------------------------------- */

/* "512M", "2G", or a number of bytes. */
static bool parse_size(const cJSON *item, uint64_t *out)
{
	static const struct {
		char letter;
		uint64_t factor;
	} units[] = { { 'K', KIB }, { 'M', MIB }, { 'G', GIB } };
	unsigned long long value;
	char *end;

	if (cJSON_IsNumber(item)) {
		if (item->valuedouble < 0 || item->valuedouble > 9007199254740992.0 ||
		    item->valuedouble != (double)(uint64_t)item->valuedouble)
			return false;
		*out = (uint64_t)item->valuedouble;
		return true;
	}
	if (!cJSON_IsString(item) || !isdigit((unsigned char)item->valuestring[0]))
		return false;
	errno = 0;
	value = strtoull(item->valuestring, &end, 10);
	if (errno)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (toupper((unsigned char)*end) != units[i].letter || end[1])
			continue;
		return !mul_overflows((uint64_t)value, units[i].factor, out);
	}
	*out = value;
	return !*end;
}

static void read_text(const cJSON *item, const struct key *key, const char *path, char *to,
                      struct faults *faults)
{
	if (!cJSON_IsString(item))
		fault(faults, "%s: must be a string", path);
	else if (strlen(item->valuestring) >= key->size_or_min)
		fault(faults, "%s: longer than %llu bytes", path,
		      (unsigned long long)key->size_or_min - 1);
	else if (key->required && !item->valuestring[0])
		fault(faults, "%s: must not be empty", path);
	else
		strcpy(to, item->valuestring);
}

static void read_number(const cJSON *item, const struct key *key, const char *path, void *to,
                        struct faults *faults)
{
	uint64_t value;

	if (key->kind == KIND_UINT && !cJSON_IsNumber(item)) {
		fault(faults, "%s: must be a number", path);
	} else if (!parse_size(item, &value)) {
		fault(faults, "%s: must be a whole number%s", path,
		      key->kind == KIND_SIZE ? " of bytes, or one with K, M or G, as \"512M\""
		                             : "");
	} else if (value < key->size_or_min || value > key->max) {
		fault(faults, "%s: %llu is not within %llu and %llu", path,
		      (unsigned long long)value, (unsigned long long)key->size_or_min,
		      (unsigned long long)key->max);
	} else if (key->kind == KIND_UINT) {
		*(uint32_t *)to = (uint32_t)value;
	} else {
		*(uint64_t *)to = value;
	}
}

static void read_value(const cJSON *item, const struct key *key, const char *path, void *base,
                       struct faults *faults)
{
	void *to = (char *)base + key->offset;

	switch (key->kind) {
	case KIND_TEXT:
		read_text(item, key, path, to, faults);
		break;
	case KIND_UINT:
	case KIND_SIZE:
		read_number(item, key, path, to, faults);
		break;
	case KIND_BOOL:
		if (cJSON_IsBool(item))
			*(bool *)to = cJSON_IsTrue(item);
		else
			fault(faults, "%s: must be true or false", path);
		break;
	}
}

/* ---- objects ------------------------------------------------------------------ */

static bool same_section(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static const struct key *find_key(const struct table *table, const char *section, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (same_section(table->keys[i].section, section) &&
		    !strcmp(table->keys[i].name, name))
			return &table->keys[i];
	return NULL;
}

static bool is_section(const struct table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (table->keys[i].section && !strcmp(table->keys[i].section, name))
			return true;
	return false;
}

static void read_object(const cJSON *object, const struct table *table, const char *section,
                        const char *prefix, void *base, struct faults *faults)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		const struct key *key = find_key(table, section, item->string);
		char path[160];

		snprintf(path, sizeof(path), "%s%.64s", prefix, item->string);
		if (key) {
			read_value(item, key, path, base, faults);
		} else if (!section && is_section(table, item->string)) {
			strcat(path, ".");
			if (cJSON_IsObject(item))
				read_object(item, table, item->string, path, base, faults);
			else
				fault(faults, "%s%s: must be an object", prefix, item->string);
		} else if (!(table == &machine_table && !section &&
		             !strcmp(item->string, "devices"))) {
			fault(faults, "%s: no such key", path);
		}
	}
}

static void check_required(const cJSON *object, const struct table *table, const char *prefix,
                           struct faults *faults)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct key *key = &table->keys[i];
		const cJSON *in = object;

		if (!key->required)
			continue;
		if (key->section)
			in = cJSON_GetObjectItemCaseSensitive(object, key->section);
		if (!cJSON_GetObjectItemCaseSensitive(in, key->name))
			fault(faults, "%s%s%s%s: missing", prefix, key->section ? key->section : "",
			      key->section ? "." : "", key->name);
	}
}

static void read_device(const cJSON *item, const char *prefix, struct config_device *out,
                        struct faults *faults)
{
	memset(out, 0, sizeof(*out));
	if (!cJSON_IsObject(item)) {
		fault(faults, "%s: must be an object", prefix);
		return;
	}
	read_object(item, &device_table, NULL, prefix, out, faults);
	check_required(item, &device_table, prefix, faults);
	for (const char *c = out->id; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("-_", *c)) {
			fault(faults, "%sid: \"%s\" may hold letters, digits, - and _ only", prefix,
			      out->id);
			break;
		}
	}
}

static void read_devices(const cJSON *list, struct config *out, struct faults *faults)
{
	const cJSON *item;

	if (!list)
		return;
	if (!cJSON_IsArray(list)) {
		fault(faults, "devices: must be a list");
		return;
	}
	cJSON_ArrayForEach(item, list)
	{
		unsigned n = out->device_count;
		char prefix[32];

		if (n == CONFIG_DEVICES_MAX) {
			fault(faults, "devices: more than %d", CONFIG_DEVICES_MAX);
			return;
		}
		snprintf(prefix, sizeof(prefix), "devices[%u].", n);
		read_device(item, prefix, &out->devices[n], faults);
		for (unsigned i = 0; i < n; i++) {
			if (!strcmp(out->devices[i].id, out->devices[n].id))
				fault(faults, "%sid: \"%s\" is devices[%u]'s already", prefix,
				      out->devices[n].id, i);
			if (out->devices[n].slot && out->devices[i].slot == out->devices[n].slot)
				fault(faults, "%sslot: %u is devices[%u]'s already", prefix,
				      out->devices[n].slot, i);
		}
		out->device_count++;
	}
}

/* ---- the calls ------------------------------------------------------------------- */

static cJSON *parse_json(const char *json, struct gw_error *err)
{
	const char *end = NULL;
	cJSON *root = cJSON_ParseWithOpts(json, &end, 1);

	if (!root) {
		unsigned line = 1;

		for (const char *c = json; end && c < end; c++)
			line += *c == '\n';
		error_set(err, -EINVAL, "line %u: not JSON", line);
	} else if (!cJSON_IsObject(root)) {
		error_set(err, -EINVAL, "must be a JSON object");
		cJSON_Delete(root);
		root = NULL;
	}
	return root;
}

int config_parse(const char *json, const char *name, struct config *out, struct gw_error *err)
{
	struct gw_error local;
	struct faults faults = { .err = err ? err : &local };
	cJSON *root = parse_json(json, faults.err);

	if (!root)
		return error_context(faults.err, "%s", name);
	memset(out, 0, sizeof(*out));
	out->cpus = 1;
	read_object(root, &machine_table, NULL, "", out, &faults);
	check_required(root, &machine_table, "", &faults);
	if (out->memory % (2 * MIB))
		fault(&faults, "memory: %llu is not a multiple of 2M",
		      (unsigned long long)out->memory);
	read_devices(cJSON_GetObjectItemCaseSensitive(root, "devices"), out, &faults);
	cJSON_Delete(root);
	return faults.count ? error_context(faults.err, "%s", name) : 0;
}

int config_parse_device(const char *json, struct config_device *out, struct gw_error *err)
{
	struct gw_error local;
	struct faults faults = { .err = err ? err : &local };
	cJSON *root = parse_json(json, faults.err);

	if (!root)
		return error_context(faults.err, "device");
	read_device(root, "", out, &faults);
	cJSON_Delete(root);
	return faults.count ? error_context(faults.err, "device") : 0;
}

static struct config_device *find_device(struct config *config, const char *id, size_t len)
{
	for (unsigned i = 0; i < config->device_count; i++)
		if (strlen(config->devices[i].id) == len &&
		    !strncmp(config->devices[i].id, id, len))
			return &config->devices[i];
	return NULL;
}

/* What may differ between hosts: places in the host's file system, and nothing of the guest's. */
static const char *const map_paths[] = { "serial.socket", "serial.log", "serial.stdio" };

static int apply_one(struct config *config, const struct gw_map *map, struct gw_error *err)
{
	struct faults faults = { .err = err };
	const struct table *table = &machine_table;
	const struct key *key = NULL;
	const char *dot;
	void *base = config;
	cJSON *value;

	for (size_t i = 0; i < ARRAY_SIZE(map_paths); i++)
		if (!strcmp(map_paths[i], map->path))
			key = find_key(table, "serial", map->path + strlen("serial."));
	if (!strncmp(map->path, "devices.", 8) && (dot = strchr(map->path + 8, '.')) &&
	    !strcmp(dot, ".host")) {
		base = find_device(config, map->path + 8, (size_t)(dot - map->path - 8));
		if (!base)
			return error_set(err, -ENOENT, "map %s: the machine has no such device",
			                 map->path);
		key = find_key(&device_table, NULL, "host");
	}
	if (!key)
		return error_set(err, -EINVAL,
		                 "map %s: no such path; there are devices.ID.host, serial.socket, "
		                 "serial.log, serial.stdio",
		                 map->path);
	value = key->kind == KIND_BOOL ? cJSON_Parse(map->value) : cJSON_CreateString(map->value);
	if (value)
		read_value(value, key, map->path, base, &faults);
	else
		fault(&faults, "%s: %s is no value for it", map->path, map->value);
	cJSON_Delete(value);
	return faults.count ? error_context(err, "map") : 0;
}

int config_apply_map(struct config *config, const struct gw_map *map, size_t count,
                     struct gw_error *err)
{
	struct gw_error local;

	for (size_t i = 0; i < count; i++) {
		int r = apply_one(config, &map[i], err ? err : &local);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool print_key(cJSON *object, const struct key *key, const void *base)
{
	const void *from = (const char *)base + key->offset;

	switch (key->kind) {
	case KIND_TEXT:
		return !*(const char *)from || cJSON_AddStringToObject(object, key->name, from);
	case KIND_UINT:
		return !*(const uint32_t *)from ||
		       cJSON_AddNumberToObject(object, key->name, *(const uint32_t *)from);
	case KIND_SIZE:
		return cJSON_AddNumberToObject(object, key->name, (double)*(const uint64_t *)from);
	case KIND_BOOL:
		return !*(const bool *)from || cJSON_AddTrueToObject(object, key->name);
	}
	return false;
}

static bool print_keys(cJSON *root, const struct table *table, const void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct key *key = &table->keys[i];
		cJSON *in = root;

		if (key->section) {
			in = cJSON_GetObjectItemCaseSensitive(root, key->section);
			if (!in)
				in = cJSON_AddObjectToObject(root, key->section);
		}
		if (!in || !print_key(in, key, base))
			return false;
	}
	return true;
}

char *config_print(const struct config *config)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *devices = cJSON_AddArrayToObject(root, "devices");
	bool ok = root && devices && print_keys(root, &machine_table, config);
	char *text = NULL;

	for (unsigned i = 0; i < config->device_count && ok; i++) {
		cJSON *d = cJSON_CreateObject();

		ok = d && cJSON_AddItemToArray(devices, d) &&
		     print_keys(d, &device_table, &config->devices[i]);
	}
	if (ok)
		text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	return text;
}
