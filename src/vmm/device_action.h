/* SPDX-License-Identifier: Apache-2.0 */
/* What is done about a guest that has panicked or hangs: an option of the devices that find out. */
#ifndef VMM_DEVICE_ACTION_H
#define VMM_DEVICE_ACTION_H

#include "vmm/machine.h"

enum device_action { ACTION_NONE, ACTION_PAUSE, ACTION_RESET, ACTION_POWEROFF, ACTION_NMI };

/* For CONFIG_ENUM; the second list without "nmi". */
extern const char *const device_action_words[];
extern const char *const device_action_words_no_nmi[];

/* All the options that such a device has. */
struct device_action_options {
	uint32_t action; /* enum device_action */
};

/* A device's command, of which there is one: "set-action" {"action": WORD}, `words` as with
 * CONFIG_ENUM. From now on *action (atomic) is that, and so is what the configuration says. */
int device_action_command(struct device *d, const char *name, const cJSON *args,
                          const char *const *words, enum device_action *action,
                          struct gw_error *err);

/* Any thread; no lock but perhaps the device lock. `why` names the device. */
void device_act(struct machine *m, enum device_action action, const char *why);

#endif
