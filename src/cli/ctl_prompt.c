/* SPDX-License-Identifier: Apache-2.0 */
/* godwit ctl PATH alone: one command after the other. */
#include "base/error.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/complete.h"
#include "cli/ctl.h"
#include "cli/ctl_line.h"
#include "cli/words.h"

#include <stdio.h>
#include <string.h>

struct prompt {
	struct ctl *ctl;
	cJSON *schema;   /* NULL: the other end has none */
	cJSON *commands; /* as query-commands has them; NULL */
	struct ctl_line *line;
	bool failed; /* a command has */
	bool ended;
};

static int do_help(struct prompt *p, const struct words *words);
static int do_exit(struct prompt *p, const struct words *words);

static const struct builtin {
	const char *name;
	int (*run)(struct prompt *p, const struct words *words);
	const char *help;
} builtins[] = {
	{ "help", do_help, "help [COMMAND]: the commands, or one and its arguments" },
	{ "exit", do_exit, "leave; the VM goes on" },
};
static const char *const builtin_names[] = { "help", "exit",           "events",
	                                     "wait", "wait-migration", NULL };

/* ---- help -------------------------------------------------------------------------------------
 */

static const char *text_of(const cJSON *entry, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, name));

	return text ? text : "";
}

static void print_command(const cJSON *command)
{
	const cJSON *arg;

	printf("%s: %s\n", text_of(command, "name"), text_of(command, "help"));
	cJSON_ArrayForEach(arg, cJSON_GetObjectItemCaseSensitive(command, "arguments"))
	{
		const cJSON *required = cJSON_GetObjectItemCaseSensitive(arg, "required");

		printf("  %-20s %-8s %-9s %s\n", text_of(arg, "name"), text_of(arg, "type"),
		       cJSON_IsTrue(required) ? "required" : "", text_of(arg, "help"));
	}
}

static int do_help(struct prompt *p, const struct words *words)
{
	const cJSON *command;

	cJSON_ArrayForEach(command, p->commands)
	{
		const char *name = text_of(command, "name");

		if (words->count < 2)
			printf("%-28s %s\n", name, text_of(command, "help"));
		else if (!strcmp(words->word[1], name))
			print_command(command);
	}
	for (size_t i = 0; i < ARRAY_SIZE(builtins) && words->count < 2; i++)
		printf("%-28s %s\n", builtins[i].name, builtins[i].help);
	return 0;
}

static int do_exit(struct prompt *p, const struct words *words)
{
	(void)words;
	p->ended = true;
	return 0;
}

/* ---- events, between the lines -----------------------------------------------------------------
 */

static void on_event(void *opaque, const cJSON *event)
{
	const struct prompt *p = opaque;

	ctl_print_event(p->ctl, event, NULL);
}

/* What has come by now. < 0: the connection is over. */
static int print_news(void *opaque)
{
	struct prompt *p = opaque;
	struct gw_error err;
	cJSON *event;
	int r;

	while (!(r = qmp_event(p->ctl->qmp, now_ms(), &event, &err))) {
		ctl_print_event(p->ctl, event, NULL);
		cJSON_Delete(event);
	}
	if (r == -ETIMEDOUT)
		return 0;
	printf("%s\n", err.text);
	p->ended = true;
	return r;
}

/* ---- lines
 * --------------------------------------------------------------------------------------- */

static int do_words(struct prompt *p, const struct words *words, struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++)
		if (!strcmp(builtins[i].name, words->word[0]))
			return builtins[i].run(p, words);
	return ctl_do(p->ctl, words->word, words->count, err);
}

static void do_line(struct prompt *p, const char *text)
{
	struct words words = { 0 };
	struct gw_error err;
	int r = words_split(text, &words, &err);

	if (!r && words.count && *words.word[0] != '#')
		r = do_words(p, &words, &err);
	words_free(&words);
	fflush(stdout);
	if (r < 0) {
		cli_error("ctl", "%s", err.text);
		p->failed = true;
	}
	if (r == -ENODATA || r == -EPIPE || r == -ECONNRESET)
		p->ended = true;
}

static void on_complete(void *opaque, const char *line, size_t cursor, struct completions *out)
{
	const struct prompt *p = opaque;

	complete(p->schema, builtin_names, line, cursor, out);
}

/* What the other end knows; an old one may have no schema. */
static cJSON *ask(struct ctl *ctl, const char *command)
{
	cJSON *ret = NULL;

	qmp_command(ctl->qmp, command, NULL, ctl->deadline_ms, &ret, NULL);
	return ret;
}

int ctl_prompt(struct ctl *ctl)
{
	struct prompt p = { .ctl = ctl };
	const struct ctl_line_calls calls = {
		.opaque = &p,
		.prompt = "godwit> ",
		.complete = on_complete,
		.news_fd = qmp_fd(ctl->qmp),
		.news = print_news,
	};
	const bool somebody = isatty(STDIN_FILENO);
	struct gw_error err;
	const char *text;

	if (ctl_line_create(&calls, &p.line, &err) < 0)
		return cli_error("ctl", "%s", err.text);
	p.commands = ask(ctl, "query-commands");
	if (somebody) {
		p.schema = ask(ctl, "query-qmp-schema");
		qmp_on_event(ctl->qmp, on_event, &p);
		printf("%s; help lists the commands, Ctrl-D leaves\n", ctl->where);
	}
	while (!p.ended && (!somebody || print_news(&p) >= 0) && (text = ctl_line_get(p.line)))
		do_line(&p, text);
	ctl_line_destroy(p.line);
	cJSON_Delete(p.schema);
	cJSON_Delete(p.commands);
	return p.failed && !somebody ? CLI_FAILED : CLI_OK;
}
