/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/complete.h"

#include "base/util.h"

#include <string.h>

static const char *text_of(const cJSON *entry, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, name));
}

static const cJSON *find_entry(const cJSON *schema, const char *name, size_t len)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, schema)
	{
		const char *its_name = text_of(entry, "name");

		if (its_name && strlen(its_name) == len && !strncmp(its_name, name, len))
			return entry;
	}
	return NULL;
}

static const cJSON *find_type(const cJSON *schema, const char *name)
{
	return name ? find_entry(schema, name, strlen(name)) : NULL;
}

/* ---- collecting ------------------------------------------------------------------------------ */

static void offer(struct completions *out, const char *word, const char *typed)
{
	if (word && !strncmp(word, typed, out->typed) && out->count < COMPLETE_MAX)
		out->word[out->count++] = word;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void finish(struct completions *out)
{
	if (!out->count)
		return;
	qsort(out->word, out->count, sizeof(out->word[0]), compare);
	out->common = strlen(out->word[0]);
	for (unsigned i = 1; i < out->count; i++) {
		size_t same = 0;

		while (same < out->common && out->word[0][same] == out->word[i][same])
			same++;
		out->common = same;
	}
}

/* ---- what may stand there ---------------------------------------------------------------------
 */

static void offer_commands(const cJSON *schema, const char *const *builtin, const char *typed,
                           struct completions *out)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, schema)
	{
		const char *meta = text_of(entry, "meta-type");

		if (meta && !strcmp(meta, "command"))
			offer(out, text_of(entry, "name"), typed);
	}
	for (; builtin && *builtin; builtin++)
		offer(out, *builtin, typed);
}

/* Does the line have " NAME=" already? */
static bool is_given(const char *line, size_t len, const char *name)
{
	const size_t size = strlen(name);

	for (size_t at = 0; at + size + 2 <= len; at++)
		if (line[at] == ' ' && !strncmp(line + at + 1, name, size) &&
		    line[at + 1 + size] == '=')
			return true;
	return false;
}

static const cJSON *members_of(const cJSON *schema, const cJSON *command)
{
	return cJSON_GetObjectItemCaseSensitive(find_type(schema, text_of(command, "arg-type")),
	                                        "members");
}

static void offer_arguments(const cJSON *members, const char *line, size_t word,
                            struct completions *out)
{
	const cJSON *member;

	cJSON_ArrayForEach(member, members)
	{
		const char *name = text_of(member, "name");

		if (name && !is_given(line, word, name))
			offer(out, name, line + word);
	}
}

/* The words of an enumeration; true and false. */
static void offer_values(const cJSON *schema, const cJSON *members, const char *key, size_t len,
                         const char *typed, struct completions *out)
{
	const cJSON *member = find_entry(members, key, len);
	const char *type = text_of(member, "type");
	const cJSON *values, *value;

	if (type && !strcmp(type, "bool")) {
		offer(out, "false", typed);
		offer(out, "true", typed);
		return;
	}
	values = cJSON_GetObjectItemCaseSensitive(find_type(schema, type), "values");
	cJSON_ArrayForEach(value, values)
	{
		offer(out, cJSON_GetStringValue(value), typed);
	}
}

void complete(const cJSON *schema, const char *const *builtin, const char *line, size_t cursor,
              struct completions *out)
{
	size_t start = 0, word = cursor, command_len;
	const cJSON *members;
	const char *equals;

	*out = (struct completions){ .end = " " };
	while (word && line[word - 1] != ' ')
		word--;
	while (start < cursor && line[start] == ' ')
		start++;
	out->typed = cursor - word;
	if (word <= start || !strncmp(line + start, "help ", 5)) {
		offer_commands(schema, builtin, line + word, out);
		finish(out);
		return;
	}
	for (command_len = 0; line[start + command_len] != ' ';)
		command_len++;
	members = members_of(schema, find_entry(schema, line + start, command_len));
	equals = memchr(line + word, '=', cursor - word);
	if (equals) {
		out->typed = cursor - (size_t)(equals + 1 - line);
		offer_values(schema, members, line + word, (size_t)(equals - line) - word,
		             equals + 1, out);
	} else {
		out->end = "=";
		offer_arguments(members, line, word, out);
	}
	finish(out);
}
