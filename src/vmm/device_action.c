/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/device_action.h"

#include "base/error.h"
#include "vmm/arch.h"

#include <errno.h>
#include <string.h>

const char *const device_action_words[] = { "none", "pause", "reset", "poweroff", "nmi", NULL };
const char *const device_action_words_no_nmi[] = { "none", "pause", "reset", "poweroff", NULL };

int device_action_command(struct device *d, const char *name, const cJSON *args,
                          const char *const *words, enum device_action *action,
                          struct gw_error *err)
{
	struct config_device *config = config_find_device(&d->machine->config, d->id);
	const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(args, "action"));
	unsigned i = 0;

	if (strcmp(name, "set-action") != 0)
		return -EOPNOTSUPP;
	while (word && words[i] && strcmp(words[i], word) != 0)
		i++;
	if (!word || !words[i])
		return error_set(err, -EINVAL, "action: \"%s\" is none that it has",
		                 word ? word : "");
	if (config)
		((struct device_action_options *)(void *)config->options)->action = i;
	__atomic_store_n(action, (enum device_action)i, __ATOMIC_RELAXED);
	return 0;
}

void device_act(struct machine *m, enum device_action action, const char *why)
{
	const struct machine_notify *n = &m->notify;
	struct gw_error err;

	switch (action) {
	case ACTION_NONE:
		break;
	case ACTION_PAUSE:
		if (n->pause_requested)
			n->pause_requested(n->opaque, why);
		break;
	case ACTION_RESET:
		if (n->reset_requested)
			n->reset_requested(n->opaque, why);
		break;
	case ACTION_POWEROFF:
		if (n->powered_off)
			n->powered_off(n->opaque);
		break;
	case ACTION_NMI:
		if (arch_inject_nmi(m, &err) < 0)
			log_warn(m->log, "%s: NMI: %s", why, err.text);
		break;
	}
}
