/* SPDX-License-Identifier: Apache-2.0 */
/* A line as words, as a shell would cut it: blanks between, '...' and "..." and \ to keep them. */
#ifndef CLI_WORDS_H
#define CLI_WORDS_H

#include "godwit.h"

#include <stddef.h>

struct words {
	char **word; /* `count` of them; NULL after the last */
	int count;
};

/* Errors: -EINVAL (a quote is open). */
int words_split(const char *line, struct words *out, struct gw_error *err);
void words_free(struct words *words);

#endif
