/* SPDX-License-Identifier: Apache-2.0 */
/* godwit ctl: a word to a control socket, from the command line. */
#include "cli/cli.h"

#include "base/error.h"
#include "base/util.h"
#include "cli/keyvalue.h"
#include "cli/qmp.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define POLL_MS 100

struct ctl {
	struct qmp *qmp;
	int64_t deadline_ms; /* -1: none */
	const char *word;    /* the command, or the event to wait for */
	const cJSON *values; /* KEY=VALUE... */
};

static int print_line(const cJSON *json, struct gw_error *err)
{
	autofree char *text = cJSON_PrintUnformatted(json);

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	if (puts(text) == EOF || fflush(stdout) == EOF)
		return error_set_sys(err, -errno, "stdout");
	return 0;
}

static int do_command(struct ctl *ctl, struct gw_error *err)
{
	cJSON *ret = NULL;
	int r = qmp_command(ctl->qmp, ctl->word, ctl->values, ctl->deadline_ms, &ret, err);

	if (!r)
		r = print_line(ret, err);
	cJSON_Delete(ret);
	return r;
}

/* Ends well when the time is over or the other end has closed the connection. */
static int do_events(struct ctl *ctl, struct gw_error *err)
{
	int r = 0;

	while (!r) {
		cJSON *event;

		r = qmp_event(ctl->qmp, ctl->deadline_ms, &event, err);
		if (r < 0)
			break;
		r = print_line(event, err);
		cJSON_Delete(event);
	}
	return r == -ETIMEDOUT || r == -ENODATA ? 0 : r;
}

/* Has the event's data all the values? */
static bool event_matches(const cJSON *event, const char *name, const cJSON *values)
{
	const cJSON *data = cJSON_GetObjectItemCaseSensitive(event, "data");
	const char *its_name =
	        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "event"));
	const cJSON *value;

	if (!its_name || strcmp(its_name, name) != 0)
		return false;
	cJSON_ArrayForEach(value, values)
	{
		if (!cJSON_Compare(value, cJSON_GetObjectItemCaseSensitive(data, value->string),
		                   true))
			return false;
	}
	return true;
}

static int do_wait(struct ctl *ctl, struct gw_error *err)
{
	for (;;) {
		cJSON *event;
		int r = qmp_event(ctl->qmp, ctl->deadline_ms, &event, err);

		if (r < 0)
			return error_context(err, "waiting for %s", ctl->word);
		if (event_matches(event, ctl->word, ctl->values)) {
			r = print_line(event, err);
			cJSON_Delete(event);
			return r;
		}
		cJSON_Delete(event);
	}
}

/* The status if it is one that a migration ends with. */
static const char *final_status(const cJSON *info)
{
	static const char *const final[] = { "completed", "failed", "cancelled" };
	const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "status"));

	for (size_t i = 0; status && i < ARRAY_SIZE(final); i++)
		if (!strcmp(status, final[i]))
			return status;
	return NULL;
}

static int report_migration(const cJSON *info, const char *status, struct gw_error *err)
{
	const char *why =
	        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "error-desc"));
	int r = print_line(info, err);

	if (r < 0 || !strcmp(status, "completed"))
		return r;
	return error_set(err, -ECANCELED, "the migration was not completed but %s%s%s", status,
	                 why ? ": " : "", why ? why : "");
}

static int do_wait_migration(struct ctl *ctl, struct gw_error *err)
{
	for (;;) {
		cJSON *info = NULL;
		const char *status;
		int r = qmp_command(ctl->qmp, "query-migrate", NULL, ctl->deadline_ms, &info, err);

		if (r < 0)
			return r;
		status = final_status(info);
		if (status)
			r = report_migration(info, status, err);
		cJSON_Delete(info);
		if (status)
			return r;
		if (ctl->deadline_ms >= 0 && now_ms() + POLL_MS > ctl->deadline_ms)
			return error_set(err, -ETIMEDOUT, "the migration has not ended in time");
		usleep(POLL_MS * 1000);
	}
}

/* What is no command of the other end. */
static const struct verb {
	const char *name;
	int (*run)(struct ctl *ctl, struct gw_error *err);
	bool takes_event;
	bool takes_values;
} verbs[] = {
	{ "events", do_events, false, false },
	{ "wait", do_wait, true, true },
	{ "wait-migration", do_wait_migration, false, false },
};
static const struct verb command_verb = { NULL, do_command, false, true };

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return &command_verb;
}

static bool parse_seconds(const char *text, int64_t *deadline_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !isfinite(seconds) || seconds < 0 || seconds > 1e9)
		return false;
	*deadline_ms = now_ms() + (int64_t)(seconds * 1000);
	return true;
}

static int talk(struct ctl *ctl, const struct verb *verb, const char *path, char **words, int count)
{
	struct gw_error err;
	cJSON *values = NULL;
	int r = keyvalue_parse(words, count, &values, &err);

	if (r < 0)
		return cli_usage("ctl", "%s", err.text);
	ctl->values = count ? values : NULL;
	r = qmp_connect(path, ctl->deadline_ms, &ctl->qmp, &err);
	if (!r)
		r = verb->run(ctl, &err);
	qmp_close(ctl->qmp);
	cJSON_Delete(values);
	return r < 0 ? cli_error("ctl", "%s", err.text) : CLI_OK;
}

int cli_ctl(int argc, char **argv)
{
	static const struct option options[] = { { "timeout", required_argument, NULL, 't' },
		                                 { 0 } };
	struct ctl ctl = { .deadline_ms = -1 };
	const struct verb *verb;
	int option, first;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 't')
			return cli_usage(argv[0], "bad option");
		if (!parse_seconds(optarg, &ctl.deadline_ms))
			return cli_usage(argv[0], "--timeout %s: not a number of seconds", optarg);
	}
	if (argc - optind < 2)
		return cli_usage(argv[0], "needs a socket's path and a command");
	ctl.word = argv[optind + 1];
	verb = find_verb(ctl.word);
	first = optind + 2;
	if (verb->takes_event) {
		if (first == argc)
			return cli_usage(argv[0], "%s: needs an event's name", ctl.word);
		ctl.word = argv[first++];
	}
	if (!verb->takes_values && first < argc)
		return cli_usage(argv[0], "%s: takes no arguments", ctl.word);
	return talk(&ctl, verb, argv[optind], argv + first, argc - first);
}
