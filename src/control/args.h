/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arguments of a command as a table: a row names one, its type and what
 * it is for. Types are strict; one that is unknown or missing is named.
 */
#ifndef CONTROL_ARGS_H
#define CONTROL_ARGS_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

enum arg_type {
	ARG_STRING,
	ARG_BOOL,
	ARG_UINT,    /* a whole number from `min` to `max` */
	ARG_OBJECT,  /* the handler looks into it */
	ARG_LIST,    /* of objects; the handler looks into them */
	ARG_WORDS,   /* a list of strings */
	ARG_STRINGS, /* an object all of whose members are strings */
};

/* The largest whole number that JSON's readers agree on (RFC 8259, 6). */
#define ARG_UINT_MAX 9007199254740991ull

struct arg {
	const char *name; /* NULL ends a table */
	enum arg_type type;
	bool required;
	const char *help;
	uint64_t min, max; /* ARG_UINT; max 0: ARG_UINT_MAX */
};

/* A table in place: ARGS({ "id", ARG_STRING, true, "...", 0, 0 }, ...). */
#define ARGS(...) ((const struct arg[]){ __VA_ARGS__, { NULL, ARG_STRING, false, NULL, 0, 0 } })

/* Checks `object` (NULL: nothing given) against a table (NULL: takes nothing). `where` begins
 * the message. -EINVAL. */
int args_check(const cJSON *object, const struct arg *table, const char *where,
               struct gw_error *err);

/* After args_check(). What is not given: NULL, or `otherwise`. */
const cJSON *args_get(const cJSON *object, const char *name);
const char *args_string(const cJSON *object, const char *name);
bool args_bool(const cJSON *object, const char *name, bool otherwise);
uint64_t args_uint(const cJSON *object, const char *name, uint64_t otherwise);

/* "string", "bool", "number", ... */
const char *arg_type_name(enum arg_type type);

#endif
