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
	ARG_ANY,     /* any JSON */
};

/* The largest whole number that JSON's readers agree on (RFC 8259, 6). */
#define ARG_UINT_MAX 9007199254740991ull

struct arg {
	const char *name; /* NULL ends a table */
	enum arg_type type;
	bool required;
	const char *help;
	uint64_t min, max; /* ARG_UINT; max 0: ARG_UINT_MAX */
	const char *of;    /* the type's name for query-qmp-schema (types.h); NULL: by `type` */
};

/* Rows: MUST for an argument that is required, MAY for one that is not; _UINT with a range, _OF
 * with a type's name. */
#define MUST(name, type, help)                                                                     \
	{                                                                                          \
		name, type, true, help, 0, 0, NULL                                                 \
	}
#define MAY(name, type, help)                                                                      \
	{                                                                                          \
		name, type, false, help, 0, 0, NULL                                                \
	}
#define MUST_OF(name, type, of, help)                                                              \
	{                                                                                          \
		name, type, true, help, 0, 0, of                                                   \
	}
#define MAY_OF(name, type, of, help)                                                               \
	{                                                                                          \
		name, type, false, help, 0, 0, of                                                  \
	}
#define MUST_UINT(name, min, max, help)                                                            \
	{                                                                                          \
		name, ARG_UINT, true, help, min, max, NULL                                         \
	}
#define MAY_UINT(name, min, max, help)                                                             \
	{                                                                                          \
		name, ARG_UINT, false, help, min, max, NULL                                        \
	}
#define ARGS_END MAY(NULL, ARG_ANY, NULL)

/* A table in place. */
#define ARGS(...) ((const struct arg[]){ __VA_ARGS__, ARGS_END })

/* Checks `object` (NULL: nothing given) against a table (NULL: takes nothing). With `open`, names
 * that are not in it pass. `where` begins the message. -EINVAL. */
int args_check(const cJSON *object, const struct arg *table, bool open, const char *where,
               struct gw_error *err);

/* After args_check(). What is not given: NULL, or `otherwise`. */
const cJSON *args_get(const cJSON *object, const char *name);
const char *args_string(const cJSON *object, const char *name);
bool args_bool(const cJSON *object, const char *name, bool otherwise);
uint64_t args_uint(const cJSON *object, const char *name, uint64_t otherwise);

/* "string", "bool", "number", ... */
const char *arg_type_name(enum arg_type type);

#endif
