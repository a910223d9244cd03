/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places in a configuration, and values for them as one writes them on a
 * command line: devices.disk0.serial=17, cpu.affinity=["0","1"].
 */
#ifndef CLI_VALUE_H
#define CLI_VALUE_H

#include <cjson/cJSON.h>
#include <stdbool.h>

/* One step of a path: a name, or a place in a list. */
struct step {
	char name[64]; /* "": it is an index */
	unsigned index;
};

/* Takes the next step off the path; false: it is none. */
bool step_take(const char **path, struct step *step);
/* What stands there; NULL: nothing yet. In a list of objects a name is an "id". */
cJSON *step_look_up(const cJSON *at, const struct step *step);

/*
 * A value for the place `path` of `config`: where the configuration's schema has text, the text as
 * it is; elsewhere JSON if it can be read as such, and text otherwise. A quoted string and null
 * are JSON everywhere. NULL: out of memory.
 */
cJSON *value_read(const cJSON *config, const char *path, const char *text);
/* The same for a place in `device`, an entry of the configuration's "devices". */
cJSON *value_read_device(const cJSON *device, const char *path, const char *text);

#endif
