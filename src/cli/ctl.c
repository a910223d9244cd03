/* SPDX-License-Identifier: Apache-2.0 */
/* godwit ctl: a word to a control socket, from the command line. */
#include "cli/ctl.h"

#include "base/error.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/keyvalue.h"
#include "cli/present.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define POLL_MS 100

static int flushed(bool ok, struct gw_error *err)
{
	return ok && fflush(stdout) != EOF ? 0 : error_set_sys(err, -errno, "stdout");
}

static int print_line(const cJSON *json, struct gw_error *err)
{
	autofree char *text = cJSON_PrintUnformatted(json);

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	return flushed(puts(text) != EOF, err);
}

int ctl_print(const struct ctl *ctl, const cJSON *json, struct gw_error *err)
{
	return ctl->human ? flushed(present(stdout, json), err) : print_line(json, err);
}

/* "14:03:07.042961 MIGRATION status=active" */
int ctl_print_event(const struct ctl *ctl, const cJSON *event, struct gw_error *err)
{
	const cJSON *stamp = cJSON_GetObjectItemCaseSensitive(event, "timestamp");
	const cJSON *seconds = cJSON_GetObjectItemCaseSensitive(stamp, "seconds");
	const cJSON *micro = cJSON_GetObjectItemCaseSensitive(stamp, "microseconds");
	const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "event"));
	const time_t when = seconds ? (time_t)seconds->valuedouble : 0;
	const cJSON *item;
	struct tm tm;

	if (!ctl->human)
		return print_line(event, err);
	localtime_r(&when, &tm);
	printf("%02d:%02d:%02d.%06d %s", tm.tm_hour, tm.tm_min, tm.tm_sec,
	       micro ? (int)micro->valuedouble : 0, name ? name : "?");
	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(event, "data"))
	{
		autofree char *text = cJSON_PrintUnformatted(item);

		printf(" %s=%s", item->string,
		       cJSON_IsString(item) ? item->valuestring : (text ? text : ""));
	}
	return flushed(putchar('\n') != EOF, err);
}

static int do_command(struct ctl *ctl, struct gw_error *err)
{
	cJSON *ret = NULL;
	int r = qmp_command(ctl->qmp, ctl->word, ctl->values, ctl->deadline_ms, &ret, err);

	if (!r)
		r = ctl_print(ctl, ret, err);
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
		r = ctl_print_event(ctl, event, err);
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
			r = ctl_print_event(ctl, event, err);
			cJSON_Delete(event);
			return r;
		}
		cJSON_Delete(event);
	}
}

/* NULL: none has begun. QEMU leaves the member out, or says "none". */
static const char *migration_status(const cJSON *info)
{
	const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "status"));

	return status && strcmp(status, "none") != 0 ? status : NULL;
}

/* The status if it is one that a migration ends with. */
static const char *final_status(const char *status)
{
	static const char *const final[] = { "completed", "failed", "cancelled" };

	for (size_t i = 0; status && i < ARRAY_SIZE(final); i++)
		if (!strcmp(status, final[i]))
			return status;
	return NULL;
}

static int report_migration(const struct ctl *ctl, const cJSON *info, const char *status,
                            struct gw_error *err)
{
	const char *why =
	        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "error-desc"));
	int r = ctl_print(ctl, info, err);

	if (r < 0 || !strcmp(status, "completed"))
		return r;
	return error_set(err, -ECANCELED, "the migration was not completed but %s%s%s", status,
	                 why ? ": " : "", why ? why : "");
}

/* A destination is "setup" from when it listens on, which may be long before a source connects. */
static int refuse_listening(struct ctl *ctl, struct gw_error *err)
{
	cJSON *info = NULL;
	const char *status;
	int r = qmp_command(ctl->qmp, "query-status", NULL, ctl->deadline_ms, &info, err);

	if (r < 0)
		return r;
	status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "status"));
	if (status && !strcmp(status, "inmigrate"))
		r = error_set(err, -ENODATA,
		              "no migration has begun: the VM listens for one, and `wait MIGRATION "
		              "status=completed` waits until one has arrived");
	cJSON_Delete(info);
	return r;
}

static int do_wait_migration(struct ctl *ctl, struct gw_error *err)
{
	for (;;) {
		cJSON *info = NULL;
		const char *status;
		bool over;
		int r = qmp_command(ctl->qmp, "query-migrate", NULL, ctl->deadline_ms, &info, err);

		if (r < 0)
			return r;
		status = migration_status(info);
		if (!status)
			r = error_set(err, -ENODATA, "no migration has begun");
		else if (!strcmp(status, "setup"))
			r = refuse_listening(ctl, err);
		if (!r && (status = final_status(status)))
			r = report_migration(ctl, info, status, err);
		over = r < 0 || status;
		cJSON_Delete(info);
		if (over)
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

int ctl_do(struct ctl *ctl, char *const *words, int count, struct gw_error *err)
{
	const struct verb *verb = find_verb(words[0]);
	cJSON *values = NULL;
	int first = 1, r;

	ctl->word = words[0];
	if (verb->takes_event && count < 2)
		return error_set(err, -EINVAL, "%s: needs an event's name", words[0]);
	if (verb->takes_event)
		ctl->word = words[first++];
	if (!verb->takes_values && first < count)
		return error_set(err, -EINVAL, "%s: takes no arguments", words[0]);
	r = keyvalue_parse(words + first, count - first, &values, err);
	if (r < 0)
		return r;
	ctl->values = count > first ? values : NULL;
	if (!ctl->qmp)
		r = qmp_connect(ctl->where, ctl->tls_dir, ctl->deadline_ms, &ctl->qmp, err);
	if (!r)
		r = verb->run(ctl, err);
	ctl->values = NULL;
	cJSON_Delete(values);
	return r;
}

static int start_prompt(struct ctl *ctl)
{
	struct gw_error err;
	int r = qmp_connect(ctl->where, ctl->tls_dir, ctl->deadline_ms, &ctl->qmp, &err);

	ctl->deadline_ms = -1;
	return r < 0 ? cli_error("ctl", "%s", err.text) : ctl_prompt(ctl);
}

static int do_once(struct ctl *ctl, char *const *words, int count)
{
	struct gw_error err;
	int r = ctl_do(ctl, words, count, &err);

	/* Before there is a connection, it is the words that are wrong. */
	if (r == -EINVAL && !ctl->qmp)
		return cli_usage("ctl", "%s", err.text);
	return r < 0 ? cli_error("ctl", "%s", err.text) : CLI_OK;
}

static int take_option(struct ctl *ctl, int option)
{
	switch (option) {
	case 't':
		if (parse_seconds(optarg, &ctl->deadline_ms))
			return CLI_OK;
		return cli_usage("ctl", "--timeout %s: not a number of seconds", optarg);
	case 'd':
		ctl->tls_dir = optarg;
		return CLI_OK;
	case 'H':
		ctl->human = true;
		return CLI_OK;
	default:
		return cli_usage("ctl", "bad option");
	}
}

int cli_ctl(int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "tls-dir", required_argument, NULL, 'd' },
		{ "human", no_argument, NULL, 'H' },
		{ 0 },
	};
	struct ctl ctl = { .deadline_ms = -1 };
	int option, status;

	while ((option = getopt_long(argc, argv, "H", options, NULL)) != -1) {
		status = take_option(&ctl, option);
		if (status != CLI_OK)
			return status;
	}
	if (optind == argc)
		return cli_usage(argv[0], "needs a socket's path");
	ctl.where = argv[optind];
	status = optind + 1 < argc ? do_once(&ctl, argv + optind + 1, argc - optind - 1)
	                           : start_prompt(&ctl);
	qmp_close(ctl.qmp);
	return status;
}
