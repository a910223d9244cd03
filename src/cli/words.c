/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/words.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One word out of *line, which moves behind it. NULL: a quote is open. `to` has room for it. */
static char *take_word(const char **line, char *to)
{
	char quote = 0;
	const char *at = *line;

	for (; *at && (quote || !is_blank(*at)); at++) {
		if (*at == quote)
			quote = 0;
		else if (!quote && (*at == '\'' || *at == '"'))
			quote = *at;
		else if (*at == '\\' && quote != '\'' && at[1])
			*to++ = *++at;
		else
			*to++ = *at;
	}
	*to++ = 0;
	*line = at;
	return quote ? NULL : to;
}

/* The words lie one after the other in one piece of memory, the table before them. */
int words_split(const char *line, struct words *out, struct gw_error *err)
{
	const size_t len = strlen(line);
	const size_t most = len / 2 + 2;
	char **table = calloc(1, most * sizeof(*table) + len + 2);
	char *to;

	if (!table)
		return error_set(err, -ENOMEM, "out of memory");
	*out = (struct words){ .word = table };
	to = (char *)(table + most);
	for (;;) {
		char *word = to;

		while (is_blank(*line))
			line++;
		if (!*line)
			return 0;
		to = take_word(&line, word);
		if (!to) {
			words_free(out);
			return error_set(err, -EINVAL, "a quote is open");
		}
		table[out->count++] = word;
	}
}

void words_free(struct words *words)
{
	free(words->word);
	*words = (struct words){ 0 };
}
