/* SPDX-License-Identifier: Apache-2.0 */
#include "control/schema.h"

#include "base/util.h"
#include "control/command.h"
#include "control/events.h"
#include "control/types.h"

#include <stdio.h>
#include <string.h>

/* The type of what has no members: no arguments, nothing returned. */
#define EMPTY "q_empty"

/* What an entry is made into; `ok` is false once memory has run out. */
struct schema {
	cJSON *list;
	bool ok;
};

static cJSON *add_entry(struct schema *s, const char *name, const char *meta_type)
{
	cJSON *entry = cJSON_CreateObject();

	s->ok = s->ok && cJSON_AddItemToArray(s->list, entry) &&
	        cJSON_AddStringToObject(entry, "name", name) &&
	        cJSON_AddStringToObject(entry, "meta-type", meta_type);
	return entry;
}

static void add_text(struct schema *s, cJSON *to, const char *name, const char *value)
{
	s->ok = s->ok && cJSON_AddStringToObject(to, name, value);
}

static bool is_there(const struct schema *s, const char *name)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, s->list)
	{
		const cJSON *its_name = cJSON_GetObjectItemCaseSensitive(entry, "name");

		if (its_name && !strcmp(its_name->valuestring, name))
			return true;
	}
	return false;
}

/* Lists are made where they are first named. */
static void need_type(struct schema *s, const char *name)
{
	char element[64];
	const size_t len = strlen(name);

	if (*name != '[' || len - 2 >= sizeof(element) || is_there(s, name))
		return;
	snprintf(element, sizeof(element), "%.*s", (int)len - 2, name + 1);
	need_type(s, element);
	add_text(s, add_entry(s, name, "array"), "element-type", element);
}

static void add_members(struct schema *s, cJSON *entry, const struct arg *members)
{
	cJSON *list = cJSON_AddArrayToObject(entry, "members");

	s->ok = s->ok && list;
	for (; s->ok && members && members->name; members++) {
		cJSON *member = cJSON_CreateObject();

		s->ok = cJSON_AddItemToArray(list, member);
		add_text(s, member, "name", members->name);
		add_text(s, member, "type", type_of_arg(members));
		if (!members->required)
			s->ok = s->ok && cJSON_AddNullToObject(member, "default");
		need_type(s, type_of_arg(members));
	}
}

/* "members" is what clients read today, "values" what older ones do. */
static void add_words(struct schema *s, cJSON *entry, const char *const *words)
{
	cJSON *members = cJSON_AddArrayToObject(entry, "members");
	cJSON *values = cJSON_AddArrayToObject(entry, "values");

	s->ok = s->ok && members && values;
	for (; s->ok && *words; words++) {
		cJSON *member = cJSON_CreateObject();

		s->ok = cJSON_AddItemToArray(members, member) &&
		        cJSON_AddStringToObject(member, "name", *words) &&
		        cJSON_AddItemToArray(values, cJSON_CreateString(*words));
	}
}

static void add_builtins(struct schema *s)
{
	static const struct {
		const char *name, *json_type;
	} builtins[] = {
		{ "str", "string" },   { "int", "int" },   { "number", "number" },
		{ "bool", "boolean" }, { "null", "null" }, { "any", "value" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
		add_text(s, add_entry(s, builtins[i].name, "builtin"), "json-type",
		         builtins[i].json_type);
}

/* An object for a table of arguments; returns its name, in `name`. */
static const char *add_arguments(struct schema *s, const struct arg *args, const char *of,
                                 const char *suffix, char *name, size_t size)
{
	if (!args)
		return EMPTY;
	snprintf(name, size, "%s-%s", of, suffix);
	add_members(s, add_entry(s, name, "object"), args);
	return name;
}

static void add_command(struct schema *s, const struct command *c)
{
	char name[96];
	const char *ret = c->ret ? c->ret : EMPTY;
	const char *args = add_arguments(s, c->args, c->name, "arg", name, sizeof(name));
	cJSON *entry = add_entry(s, c->name, "command");

	add_text(s, entry, "arg-type", args);
	add_text(s, entry, "ret-type", ret);
	need_type(s, ret);
	s->ok = s->ok && cJSON_AddBoolToObject(entry, "allow-oob", c->flags & COMMAND_OOB);
}

static void add_event(struct schema *s, const struct event_kind *e)
{
	char name[96];
	const char *args = add_arguments(s, e->data, e->name, "data", name, sizeof(name));

	add_text(s, add_entry(s, e->name, "event"), "arg-type", args);
}

cJSON *schema_make(void)
{
	struct schema s = { .list = cJSON_CreateArray(), .ok = true };

	add_builtins(&s);
	add_members(&s, add_entry(&s, EMPTY, "object"), NULL);
	for (const struct type *t = control_types; t->name; t++) {
		if (t->words)
			add_words(&s, add_entry(&s, t->name, "enum"), t->words);
		else
			add_members(&s, add_entry(&s, t->name, "object"), t->members);
	}
	for (const struct event_kind *e = control_events; e->name; e++)
		add_event(&s, e);
	for (const struct command *c = control_commands; c->name; c++)
		if (!(c->flags & COMMAND_REFUSED))
			add_command(&s, c);
	if (s.ok)
		return s.list;
	cJSON_Delete(s.list);
	return NULL;
}
