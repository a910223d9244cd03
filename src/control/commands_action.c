/* SPDX-License-Identifier: Apache-2.0 */
/* What is done when the guest resets, powers off, panics or hangs: QMP's set-action. */
#include "control/command.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* What QMP's enumerations have and is offered here, with the word that a device's "action" has for
 * it; NULL: this is what is done anyway. */
struct action_word {
	const char *qmp, *own;
};

#define ACTION_WORDS(...) ((const struct action_word[]){ __VA_ARGS__, { NULL, NULL } })

static const struct action_kind {
	const char *argument;
	const char *type; /* of the devices that find out; NULL: the machine itself */
	const struct action_word *words;
} kinds[] = {
	{ "reboot", NULL, ACTION_WORDS({ "reset", NULL }) },
	{ "shutdown", NULL, ACTION_WORDS({ "poweroff", NULL }) },
	{ "panic", "pvpanic",
	  ACTION_WORDS({ "none", "none" }, { "pause", "pause" }, { "shutdown", "poweroff" }) },
	{ "watchdog", "i6300esb",
	  ACTION_WORDS({ "none", "none" }, { "pause", "pause" }, { "reset", "reset" },
	               { "poweroff", "poweroff" }, { "inject-nmi", "nmi" }) },
};

static bool is_of_type(const cJSON *device, const char *type)
{
	const char *its_type = args_string(device, "type");

	return its_type && !strcmp(its_type, type);
}

/* What is asked for: NULL in *out where nothing is. */
static int find_word(const cJSON *args, const struct action_kind *kind,
                     const struct action_word **out, struct gw_error *err)
{
	const char *given = args_string(args, kind->argument);
	char offered[128] = "";

	*out = NULL;
	for (const struct action_word *word = kind->words; given && word->qmp; word++) {
		if (!strcmp(word->qmp, given)) {
			*out = word;
			return 0;
		}
		strcat(offered, word == kind->words ? "" : ", ");
		strcat(offered, word->qmp);
	}
	if (!given)
		return 0;
	return error_set(err, -ENOTSUP,
	                 "set-action: argument \"%s\": \"%s\" is not offered; there is: %s",
	                 kind->argument, given, offered);
}

/* Without such a device nothing is found out, and so nothing is done. */
static int check_device(const cJSON *devices, const struct action_kind *kind,
                        const struct action_word *word, struct gw_error *err)
{
	const cJSON *device;

	if (!word || !word->own || !strcmp(word->own, "none"))
		return 0;
	cJSON_ArrayForEach(device, devices)
	{
		if (is_of_type(device, kind->type))
			return 0;
	}
	return error_set(err, -ENODEV,
	                 "set-action: argument \"%s\": the machine has no %s, without which "
	                 "nothing is done",
	                 kind->argument, kind->type);
}

static int set(struct gw_vm *vm, const cJSON *devices, const struct action_kind *kind,
               const struct action_word *word, struct gw_error *err)
{
	const cJSON *device;
	char args[64];
	int r = 0;

	if (!word || !word->own)
		return 0;
	snprintf(args, sizeof(args), "{\"action\":\"%s\"}", word->own);
	cJSON_ArrayForEach(device, devices)
	{
		if (!r && is_of_type(device, kind->type))
			r = gw_vm_device_command(vm, args_string(device, "id"), "set-action", args,
			                         NULL, err);
	}
	return r < 0 ? error_context(err, "set-action: argument \"%s\"", kind->argument) : 0;
}

int command_set_action(struct call *call, struct gw_error *err)
{
	const struct action_word *words[ARRAY_SIZE(kinds)];
	cJSON *devices = NULL;
	int r = command_list_devices(call->vm, &devices, err);

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !r; i++) {
		r = find_word(call->args, &kinds[i], &words[i], err);
		if (!r)
			r = check_device(devices, &kinds[i], words[i], err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !r; i++)
		r = set(call->vm, devices, &kinds[i], words[i], err);
	cJSON_Delete(devices);
	return r;
}
