/* SPDX-License-Identifier: Apache-2.0 */
#include "control/text.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* ---- UTF-8 ------------------------------------------------------------------------------ */

#define NO_UTF8 0x110000u

/* The code point at *text, which moves on; NO_UTF8 for a byte that is out of place (RFC 3629, 4).
 */
static unsigned next_code_point(const unsigned char **text)
{
	static const struct {
		unsigned char mask, lead;
		unsigned more, least;
	} forms[] = { { 0x80, 0x00, 0, 0 },
		      { 0xe0, 0xc0, 1, 0x80 },
		      { 0xf0, 0xe0, 2, 0x800 },
		      { 0xf8, 0xf0, 3, 0x10000 } };
	const unsigned char *at = (*text)++;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		unsigned code, n;

		if ((*at & forms[i].mask) != forms[i].lead)
			continue;
		code = *at & (unsigned char)~forms[i].mask;
		for (n = 0; n < forms[i].more && (at[1 + n] & 0xc0) == 0x80; n++)
			code = code << 6 | (at[1 + n] & 0x3f);
		if (n < forms[i].more || code < forms[i].least || code > 0x10ffff ||
		    (code >= 0xd800 && code < 0xe000))
			return NO_UTF8;
		*text += n;
		return code;
	}
	return NO_UTF8;
}

bool text_is_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at)
		if (next_code_point(&at) == NO_UTF8)
			return false;
	return true;
}

/* In what cJSON prints, bytes other than ASCII are within strings only. */
char *text_to_line(const char *json)
{
	const unsigned char *from = (const unsigned char *)json;
	char *line = malloc(strlen(json) * 6 + 3);
	char *to = line;

	while (line && *from) {
		unsigned code = next_code_point(&from);

		if (code == NO_UTF8)
			code = 0xfffd;
		if (code < 0x80)
			*to++ = (char)code;
		else if (code < 0x10000)
			to += sprintf(to, "\\u%04x", code);
		else
			to += sprintf(to, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
			              0xdc00 + ((code - 0x10000) & 0x3ff));
	}
	if (line)
		strcpy(to, "\r\n");
	return line;
}

/* ---- what cJSON would lose -------------------------------------------------------------- */

bool text_has_nul_escape(const char *json)
{
	for (const char *at = json; (at = strstr(at, "\\u0000")); at++) {
		size_t slashes = 0;

		while (at - slashes > json && at[-1 - (ptrdiff_t)slashes] == '\\')
			slashes++;
		if (slashes % 2 == 0)
			return true;
	}
	return false;
}

/* From the opening quote to behind the closing one. */
static const char *skip_string(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && at[1])
			at++;
	return *at ? at + 1 : at;
}

/* To behind a value: the comma or bracket that ends it. */
static const char *skip_value(const char *at)
{
	unsigned depth = 0;

	for (;; at++) {
		while (*at == '"')
			at = skip_string(at);
		if (!*at || (!depth && strchr(",}]", *at)))
			return at;
		if (strchr("{[", *at))
			depth++;
		else if (strchr("}]", *at))
			depth--;
	}
}

char *text_of_member(const char *object, const char *name)
{
	const size_t len = strlen(name);
	const char *at = strchr(object, '{');

	while (at && (at = strchr(at, '"'))) {
		const char *key = at + 1, *end = skip_string(at);
		const char *value = strchr(end, ':');

		if (!value)
			return NULL;
		at = skip_value(value + 1);
		if ((size_t)(end - key) == len + 1 && !strncmp(key, name, len)) {
			char *copy = strndup(value + 1, (size_t)(at - value - 1));

			if (copy)
				cJSON_Minify(copy);
			return copy;
		}
	}
	return NULL;
}
