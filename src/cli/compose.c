/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/compose.h"

#include "base/error.h"
#include "base/util.h"
#include "cli/value.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* Where nobody says otherwise. */
static const char quick_base[] = "{\"memory\":\"512M\",\"serial\":{\"stdio\":true}}";

static int out_of_memory(struct gw_error *err)
{
	return error_set(err, -ENOMEM, "out of memory");
}

/* ---- values by path ----------------------------------------------------------------------------
 */

/* Puts `value` there, in place of what there is; it is consumed. */
static bool put(cJSON *at, const struct step *step, cJSON *value)
{
	cJSON *old = step_look_up(at, step);
	bool ok = false;

	if (old && cJSON_IsObject(at))
		ok = cJSON_ReplaceItemInObjectCaseSensitive(at, step->name, value);
	else if (old)
		ok = cJSON_ReplaceItemViaPointer(at, old, value);
	else if (step->name[0] && cJSON_IsObject(at))
		ok = cJSON_AddItemToObject(at, step->name, value);
	else if (!step->name[0] && cJSON_IsArray(at) &&
	         step->index == (unsigned)cJSON_GetArraySize(at))
		ok = cJSON_AddItemToArray(at, value);
	if (!ok)
		cJSON_Delete(value);
	return ok;
}

/* Goes one step down, over an object or list made for it if there is none. */
static cJSON *descend(cJSON *at, const struct step *step, char next)
{
	cJSON *below = step_look_up(at, step);

	if (below)
		return below;
	if (!put(at, step, next == '[' ? cJSON_CreateArray() : cJSON_CreateObject()))
		return NULL;
	return step_look_up(at, step);
}

/* `value` is consumed; NULL takes away what is there. */
static int set_path(cJSON *root, const char *path, cJSON *value, struct gw_error *err)
{
	const char *rest = path;
	cJSON *at = root;
	struct step step;

	while (at && step_take(&rest, &step)) {
		if (*rest) {
			at = descend(at, &step, *rest);
			continue;
		}
		if (!value)
			cJSON_Delete(cJSON_DetachItemViaPointer(at, step_look_up(at, &step)));
		else if (!put(at, &step, value))
			return error_set(err, -EINVAL, "%s: there is no such place", path);
		return 0;
	}
	cJSON_Delete(value);
	return error_set(err, -EINVAL, at ? "%s: not a path" : "%s: there is no such place", path);
}

/* ---- the flags
 * ------------------------------------------------------------------------------------ */

static int set_text(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	cJSON *item = cJSON_CreateString(value);

	return item ? set_path(root, path, item, err) : out_of_memory(err);
}

static int set_json(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	cJSON *item = value_read(root, path, value);

	return item ? set_path(root, path, item, err) : out_of_memory(err);
}

static int set_any(cJSON *root, const char *path, const char *word, struct gw_error *err)
{
	const char *equals = strchr(word, '=');
	autofree char *name = NULL;
	cJSON *value;

	(void)path;
	if (!equals || equals == word)
		return error_set(err, -EINVAL, "\"%s\" is not PATH=VALUE", word);
	name = strndup(word, (size_t)(equals - word));
	value = name ? value_read(root, name, equals + 1) : NULL;
	if (!value)
		return out_of_memory(err);
	if (cJSON_IsNull(value)) {
		cJSON_Delete(value);
		value = NULL;
	}
	return set_path(root, name, value, err);
}

/* A further entry of "devices", with the first free id "disk0", "disk1", ...; NULL: no room. */
static cJSON *add_device(cJSON *root, const char *stem, const char *type)
{
	cJSON *devices = cJSON_GetObjectItemCaseSensitive(root, "devices");
	cJSON *device = cJSON_CreateObject();
	struct step id = { 0 };
	unsigned n = 0;

	if (!devices)
		devices = cJSON_AddArrayToObject(root, "devices");
	do
		snprintf(id.name, sizeof(id.name), "%s%u", stem, n++);
	while (step_look_up(devices, &id));
	if (device && cJSON_IsArray(devices) && cJSON_AddStringToObject(device, "id", id.name) &&
	    cJSON_AddStringToObject(device, "type", type) && cJSON_AddItemToArray(devices, device))
		return device;
	cJSON_Delete(device);
	return NULL;
}

static int add_disk(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	static const char suffix[] = ",ro";
	const size_t len = strlen(value), tail = sizeof(suffix) - 1;
	const bool ro = len > tail && !strcmp(value + len - tail, suffix);
	autofree char *file = strndup(value, ro ? len - tail : len);
	cJSON *device = add_device(root, "disk", path);

	if (!file || !device || !cJSON_AddStringToObject(device, "file", file) ||
	    (ro && !cJSON_AddTrueToObject(device, "read-only")))
		return error_set(err, -EINVAL, "no place for it in \"devices\"");
	return 0;
}

static int add_with(cJSON *root, const char *stem, const char *type, const char *key,
                    const char *value, struct gw_error *err)
{
	cJSON *device = add_device(root, stem, type);

	if (!device || !cJSON_AddStringToObject(device, key, value))
		return error_set(err, -EINVAL, "no place for it in \"devices\"");
	return 0;
}

static int add_net(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	return add_with(root, "net", path, "tap", value, err);
}

static int add_vfio(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	return add_with(root, "vfio", path, "host", value, err);
}

static int add_vfio_user(cJSON *root, const char *path, const char *value, struct gw_error *err)
{
	return add_with(root, "user", path, "socket", value, err);
}

static const struct flag {
	const char *name;
	int (*apply)(cJSON *root, const char *path, const char *value, struct gw_error *err);
	const char *path; /* or the device's type */
} flags[] = {
	{ "name", set_text, "name" },
	{ "memory", set_json, "memory" },
	{ "cpus", set_json, "cpus" },
	{ "kernel", set_text, "boot.kernel" },
	{ "initrd", set_text, "boot.initrd" },
	{ "cmdline", set_text, "boot.cmdline" },
	{ "disk", add_disk, "virtio-blk" },
	{ "net", add_net, "virtio-net" },
	{ "vfio", add_vfio, "vfio-pci" },
	{ "vfio-user", add_vfio_user, "vfio-user-pci" },
	{ "set", set_any, NULL },
};

static const struct flag *find_flag(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strcmp(flags[i].name, name))
			return &flags[i];
	return NULL;
}

int compose_option(const char *flag, const char *value, struct compose *to, struct gw_error *err)
{
	if (!find_flag(flag))
		return error_set(err, -ENOENT, "--%s: no such option", flag);
	if (to->count == COMPOSE_WORDS_MAX)
		return error_set(err, -E2BIG, "--%s: more than %d flags", flag, COMPOSE_WORDS_MAX);
	to->words[to->count++] = (struct compose_word){ flag, value };
	return 0;
}

static int apply_all(const struct compose *c, bool sets, cJSON *root, struct gw_error *err)
{
	for (unsigned i = 0; i < c->count; i++) {
		const struct compose_word *word = &c->words[i];
		const struct flag *flag = find_flag(word->flag);

		if ((flag->apply == set_any) != sets)
			continue;
		if (flag->apply(root, flag->path, word->value, err) < 0)
			return error_context(err, "--%s", word->flag);
	}
	return 0;
}

int compose_text(const struct compose *c, const char *base, char **out, struct gw_error *err)
{
	cJSON *root =
	        c->count || !base ? cJSON_ParseWithOpts(base ? base : quick_base, NULL, 1) : NULL;
	int r = 0;

	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		*out = strdup(base ? base : quick_base);
		return *out ? 0 : out_of_memory(err);
	}
	r = apply_all(c, false, root, err);
	if (!r)
		r = apply_all(c, true, root, err);
	*out = r ? NULL : cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!r && !*out)
		r = out_of_memory(err);
	return r;
}
