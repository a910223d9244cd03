/* SPDX-License-Identifier: Apache-2.0 */
/* Failing on purpose: what a test asks for, and whether it is time. */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* ---- reading them ---- */

/* As <linux/vfio.h> writes it, where the library says "running-p2p". */
static bool is_name(const char *name, const char *known)
{
	for (; *name && (*name == '_' ? *known == '-' : tolower(*name) == *known); name++)
		known++;
	return !*name && !*known;
}

/* A state of v2 by its name, or of v1 by its three bits: "011". */
static int state_of(const char *name)
{
	for (int i = 0; i < MIG_STATES; i++)
		if (is_name(name, mig_state_name(i)))
			return i;
	if (strlen(name) == 3 && strspn(name, "01") == 3)
		return SERVER_FAULT_V1 + (name[0] - '0') * 4 + (name[1] - '0') * 2 + name[2] - '0';
	return -1;
}

static int errno_of(const char *name)
{
	for (int i = 1; i < 256; i++) {
		const char *known = strerrorname_np(i);

		if (known && !strcmp(known, name))
			return i;
	}
	return -1;
}

static int parse_arc(const char *word, struct server_faults *out, struct gw_error *err)
{
	char from[16], to[16], name[16], rest[8] = "";
	const int n =
	        sscanf(word, "%15[A-Z0-9_]-%15[A-Z0-9_]:%15[A-Z0-9]:%7s", from, to, name, rest);
	int f, t, e;

	if (n < 3 || (n == 4 && strcmp(rest, "error")))
		return error_set(err, -EINVAL, "\"%s\" is not FROM-TO:ERRNO[:error]", word);
	f = state_of(from);
	t = state_of(to);
	e = errno_of(name);
	if (f < 0 || t < 0)
		return error_set(err, -EINVAL, "\"%s\": no state is named %s", word,
		                 f < 0 ? from : to);
	if (e < 0)
		return error_set(err, -EINVAL, "\"%s\": no error is named %s", word, name);
	if (out->count == SERVER_FAULTS_MAX)
		return error_set(err, -E2BIG, "more than %d", SERVER_FAULTS_MAX);
	out->arcs[out->count].from = (uint8_t)f;
	out->arcs[out->count].to = (uint8_t)t;
	out->arcs[out->count].error = e;
	out->arcs[out->count++].to_error = n == 4;
	return 0;
}

int server_faults_parse_arcs(const char *text, struct server_faults *out, struct gw_error *err)
{
	autofree char *words = strdup(text);
	char *rest = words;
	int r = words ? 0 : error_set(err, -ENOMEM, "out of memory");

	out->count = 0;
	for (char *word; !r && (word = strsep(&rest, ","));)
		if (*word)
			r = parse_arc(word, out, err);
	return r;
}

int server_faults_parse_die(const char *text, struct server_faults *out, struct gw_error *err)
{
	char name[32] = "", end;
	unsigned count = 1;
	int n;

	out->die_command = out->die_at = 0;
	if (!*text)
		return 0;
	if (sscanf(text, "%u%c", &count, &end) == 1 && count) {
		out->die_at = count;
		return 0;
	}
	count = 1;
	n = sscanf(text, "%31[A-Z_]:%u%c", name, &count, &end);
	for (unsigned i = 0; i < WIRE_COMMANDS; i++) {
		if (strcmp(wire_command_name(i), name))
			continue;
		if (n < 1 || n > 2 || !count || (n == 1 && text[strlen(name)]))
			break;
		out->die_command = i;
		out->die_at = count;
		return 0;
	}
	return error_set(err, -EINVAL, "\"%s\" is not N, COMMAND or COMMAND:N", text);
}

/* ---- their time ---- */

int server_faults_arc(const struct server_faults *f, unsigned from, unsigned to, bool *to_error)
{
	for (unsigned i = 0; i < f->count; i++) {
		if (f->arcs[i].from != from || f->arcs[i].to != to)
			continue;
		*to_error = f->arcs[i].to_error;
		return -f->arcs[i].error;
	}
	return 0;
}

bool server_faults_die(struct server *s, unsigned command)
{
	const struct server_faults *f = &s->options.faults;

	if (!f->die_at || (f->die_command && f->die_command != command))
		return false;
	return ++s->commands_seen == f->die_at;
}
