/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/device_action.h"

#include "vmm/arch.h"

const char *const device_action_words[] = { "none", "pause", "reset", "poweroff", "nmi", NULL };
const char *const device_action_words_no_nmi[] = { "none", "pause", "reset", "poweroff", NULL };

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
