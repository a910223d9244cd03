/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of the commands, to clients and in docs/control.md, is what they are. */
#include <criterion/criterion.h>

#include "base/io.h"
#include "base/util.h"
#include "control/command.h"
#include "control/events.h"
#include "control/schema.h"
#include "control/types.h"

#include <stdio.h>
#include <string.h>

static cJSON *schema;

static void make(void)
{
	schema = schema_make();
	cr_assert(schema);
}

static void drop(void)
{
	cJSON_Delete(schema);
}

TestSuite(control_schema, .init = make, .fini = drop);

static const char *text_of(const cJSON *entry, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, name));
}

static const cJSON *find(const char *name)
{
	const cJSON *entry;

	cJSON_ArrayForEach(entry, schema)
	{
		if (!strcmp(text_of(entry, "name"), name))
			return entry;
	}
	return NULL;
}

Test(control_schema, every_name_is_there_once_and_every_type_that_is_named_is_there)
{
	static const char *const references[] = { "arg-type", "ret-type", "element-type" };
	const cJSON *entry, *member;

	cJSON_ArrayForEach(entry, schema)
	{
		cr_assert_eq(find(text_of(entry, "name")), entry, "%s is there twice",
		             text_of(entry, "name"));
		for (size_t i = 0; i < ARRAY_SIZE(references); i++) {
			const char *type = text_of(entry, references[i]);

			cr_assert(!type || find(type), "%s: %s", text_of(entry, "name"), type);
		}
		cJSON_ArrayForEach(member, cJSON_GetObjectItemCaseSensitive(entry, "members"))
		{
			const char *type = text_of(member, "type");

			cr_assert(!type || find(type), "%s: %s", text_of(entry, "name"), type);
		}
	}
}

Test(control_schema, arguments_and_events_have_the_form_of_qapi)
{
	const cJSON *command = find("block_resize");
	const cJSON *members, *event = find("SHUTDOWN"), *device, *size;

	cr_assert_str_eq(text_of(command, "meta-type"), "command");
	cr_assert_str_eq(text_of(command, "ret-type"), "q_empty");
	cr_assert(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(command, "allow-oob")));
	cr_assert(cJSON_IsTrue(
	        cJSON_GetObjectItemCaseSensitive(find("migrate_cancel"), "allow-oob")));
	members = cJSON_GetObjectItemCaseSensitive(find(text_of(command, "arg-type")), "members");
	device = cJSON_GetArrayItem(members, 0);
	size = cJSON_GetArrayItem(members, 2);
	cr_assert_str_eq(text_of(device, "name"), "device");
	cr_assert_str_eq(text_of(device, "type"), "str");
	cr_assert(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(device, "default")));
	cr_assert_str_eq(text_of(size, "type"), "int");
	cr_assert_null(cJSON_GetObjectItemCaseSensitive(size, "default"));
	cr_assert_str_eq(text_of(event, "meta-type"), "event");
	cr_assert_str_eq(text_of(find("[BlockInfo]"), "meta-type"), "array");
	cr_assert_str_eq(text_of(find("[BlockInfo]"), "element-type"), "BlockInfo");
	cr_assert_str_eq(text_of(find("RunState"), "meta-type"), "enum");
	cr_assert_null(find("human-monitor-command"));
}

/* The words of an enumeration are those that the VM uses. */
Test(control_schema, every_state_is_in_its_enumeration)
{
	const cJSON *words = cJSON_GetObjectItemCaseSensitive(find("RunState"), "values");
	const cJSON *word;

	for (int state = GW_STATE_EMPTY; state <= GW_STATE_INTERNAL_ERROR; state++) {
		bool found = false;

		cJSON_ArrayForEach(word, words) found =
		        found || !strcmp(word->valuestring, gw_state_name(state));
		cr_assert(found, "%s", gw_state_name(state));
	}
}

/* ---- docs/control.md --------------------------------------------------------------------- */

static void add_arg(FILE *to, const struct arg *arg, const char *between)
{
	fprintf(to, "%s%s`%s`: %s%s", between, arg->required ? "" : "[", arg->name,
	        arg_type_name(arg->type), arg->required ? "" : "]");
}

/* One row for a command, as the tables in the document have it. */
static void add_row(FILE *to, const struct command *c)
{
	fprintf(to, "| `%s` | ", c->name);
	if (c->args == migrate_parameter_args) {
		fputs("see below", to);
	} else {
		for (const struct arg *arg = c->args; arg && arg->name; arg++)
			add_arg(to, arg, arg == c->args ? "" : ", ");
		if (c->flags & COMMAND_OPEN)
			fputs(", ...", to);
	}
	fprintf(to, " | %s%s |\n", c->help, c->flags & COMMAND_OOB ? " *(oob)*" : "");
}

static void add_event_row(FILE *to, const struct event_kind *e)
{
	fprintf(to, "| `%s` | ", e->name);
	for (const struct arg *arg = e->data; arg && arg->name; arg++)
		add_arg(to, arg, arg == e->data ? "" : ", ");
	fprintf(to, " | %s%s |\n", e->help, e->limited ? " *(limited)*" : "");
}

static unsigned count_rows(const char *text, const char *heading, const char *end)
{
	const char *at = strstr(text, heading), *stop = at ? strstr(at + 1, end) : NULL;
	unsigned count = 0;

	cr_assert(at && stop, "\"%s\" is not there", heading);
	for (at = strstr(at, "\n| `"); at && at < stop; at = strstr(at + 1, "\n| `"))
		count++;
	return count;
}

static void expect_row(const char *doc, const char *row)
{
	cr_expect(strstr(doc, row), "docs/control.md has not this row:\n%s", row);
}

/* The tests run where the Makefile is. */
Test(control_schema, the_document_has_every_command_and_event)
{
	autofree char *doc = NULL;
	struct gw_error err = { 0 };
	unsigned commands = 0, events = 0;

	if (access("docs/control.md", F_OK) < 0)
		cr_skip_test("docs/control.md is not here");
	cr_assert_eq(io_read_file("docs/control.md", 1 << 20, &doc, NULL, &err), 0, "%s", err.text);
	for (const struct command *c = control_commands; c->name; c++) {
		char *row;
		size_t size;
		FILE *to = open_memstream(&row, &size);

		if (c->flags & COMMAND_REFUSED)
			fprintf(to, "| `%s` | %s |\n", c->name, c->help);
		else
			add_row(to, c);
		fclose(to);
		expect_row(doc, row);
		free(row);
		commands++;
	}
	for (const struct event_kind *e = control_events; e->name; e++) {
		char *row;
		size_t size;
		FILE *to = open_memstream(&row, &size);

		add_event_row(to, e);
		fclose(to);
		expect_row(doc, row);
		free(row);
		events++;
	}
	cr_expect_eq(count_rows(doc, "\n## Commands", "\n## Events") -
	                     count_rows(doc, "\n| parameter |", "\n### Snapshots"),
	             commands);
	cr_expect_eq(count_rows(doc, "\n## Events", "\n## "), events);
}
