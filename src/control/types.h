/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types that commands and events speak in, for query-qmp-schema and for
 * people. A type is named by a word: a builtin ("str", "int", "bool",
 * "number", "any"), a row of the table, or either of them in brackets: a list.
 */
#ifndef CONTROL_TYPES_H
#define CONTROL_TYPES_H

#include "control/args.h"

struct type {
	const char *name;          /* NULL ends the table */
	const struct arg *members; /* an object's; NULL: an enumeration, or an object without any */
	const char *const *words;  /* an enumeration's, NULL at the end */
};

extern const struct type control_types[];

/* NULL: no row of that name. */
const struct type *type_find(const char *name);
/* The name of an argument's type. */
const char *type_of_arg(const struct arg *arg);

#endif
