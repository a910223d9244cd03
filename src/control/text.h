/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as text: what has to be looked at before or after cJSON deals with it. */
#ifndef CONTROL_TEXT_H
#define CONTROL_TEXT_H

#include <stdbool.h>

/* RFC 3629: no byte out of place, nothing longer than need be, no surrogates. */
bool text_is_utf8(const char *text);

/* What cJSON has printed as a line of ASCII with CR LF at its end, released with free(). A byte
 * that is no UTF-8 becomes U+FFFD. NULL: out of memory. */
char *text_to_line(const char *json);

/* Is there an escaped NUL? cJSON ends a string there, which would make two different strings the
 * same. */
bool text_has_nul_escape(const char *json);

/* A member's value as it stands in an object that cJSON can read, the space in it taken away;
 * released with free(). NULL: no member's name is written so, or out of memory. */
char *text_of_member(const char *object, const char *name);

#endif
