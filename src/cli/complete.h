/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may follow on the line of a prompt, by what the other end says of its
 * commands (query-qmp-schema): a command's name, then the names of its
 * arguments, then the words that a value may be.
 */
#ifndef CLI_COMPLETE_H
#define CLI_COMPLETE_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <stddef.h>

#define COMPLETE_MAX 128

struct completions {
	const char *word[COMPLETE_MAX]; /* of the schema, sorted */
	unsigned count;
	size_t typed;    /* bytes before the cursor that each begins with */
	size_t common;   /* bytes that all of them begin with */
	const char *end; /* what follows a word that is complete: " ", "=" */
};

/* `line` up to the cursor. `builtin`: commands of the prompt itself, NULL at the end. The words
 * live as long as the schema. */
void complete(const cJSON *schema, const char *const *builtin, const char *line, size_t cursor,
              struct completions *out);

#endif
