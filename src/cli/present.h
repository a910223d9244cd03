/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON for people: an object as lines of name and value, a list of small
 * objects as a table, what is nested set in below its name. No character of a
 * string reaches the terminal as a command to it.
 */
#ifndef CLI_PRESENT_H
#define CLI_PRESENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

/* False: it could not be written. */
bool present(FILE *to, const cJSON *json);

#endif
