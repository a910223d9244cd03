/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit ctl WHERE wait-migration`, at another end that says what the test wants. */
#include <criterion/criterion.h>

#include "cli/ctl.c"

static const char *const *answers; /* of query-migrate, one after the other */
static unsigned asked;
static const char *vm_status;

int qmp_connect(const char *where, const char *tls_dir, int64_t deadline_ms, struct qmp **out,
                struct gw_error *err)
{
	(void)where;
	(void)tls_dir;
	(void)deadline_ms;
	(void)out;
	(void)err;
	return 0;
}

void qmp_close(struct qmp *qmp)
{
	(void)qmp;
}

int qmp_command(struct qmp *qmp, const char *name, const cJSON *args, int64_t deadline_ms,
                cJSON **ret, struct gw_error *err)
{
	(void)qmp;
	(void)args;
	(void)deadline_ms;
	(void)err;
	if (!strcmp(name, "query-status")) {
		*ret = cJSON_CreateObject();
		cJSON_AddStringToObject(*ret, "status", vm_status);
		return 0;
	}
	cr_assert_str_eq(name, "query-migrate");
	cr_assert(answers[asked], "it goes on asking");
	*ret = cJSON_Parse(answers[asked++]);
	return 0;
}

int qmp_event(struct qmp *qmp, int64_t deadline_ms, cJSON **event, struct gw_error *err)
{
	(void)qmp;
	(void)deadline_ms;
	*event = NULL;
	return error_set(err, -ENODATA, "no events here");
}

int ctl_prompt(struct ctl *ctl)
{
	(void)ctl;
	return CLI_OK;
}

int cli_error(const char *command, const char *fmt, ...)
{
	(void)command;
	(void)fmt;
	return CLI_FAILED;
}

int cli_usage(const char *command, const char *fmt, ...)
{
	(void)command;
	(void)fmt;
	return CLI_USAGE;
}

static int wait_at(const char *status, const char *const *all, struct gw_error *err)
{
	struct ctl ctl = { .deadline_ms = -1 };
	char *word = (char[]){ "wait-migration" };

	answers = all;
	asked = 0;
	vm_status = status;
	*err = (struct gw_error){ 0 };
	return ctl_do(&ctl, &word, 1, err);
}

static int wait_for(const char *const *all, struct gw_error *err)
{
	return wait_at("running", all, err);
}

Test(ctl_wait, ends_at_once_where_no_migration_has_begun)
{
	static const char *const godwit[] = { "{}", NULL };
	static const char *const qemu[] = { "{\"status\":\"none\"}", NULL };
	struct gw_error err;

	cr_assert_eq(wait_for(godwit, &err), -ENODATA);
	cr_assert_str_eq(err.text, "no migration has begun");
	cr_assert_eq(wait_for(qemu, &err), -ENODATA);
	cr_assert_str_eq(err.text, "no migration has begun");
}

Test(ctl_wait, ends_at_once_at_a_destination_that_only_listens)
{
	static const char *const listening[] = { "{\"status\":\"setup\"}", NULL };
	static const char *const arriving[] = { "{\"status\":\"active\"}",
		                                "{\"status\":\"completed\"}", NULL };
	struct gw_error err;

	cr_assert_eq(wait_at("inmigrate", listening, &err), -ENODATA);
	cr_assert(strstr(err.text, "no migration has begun: the VM listens"), "%s", err.text);
	cr_assert_eq(wait_at("inmigrate", arriving, &err), 0, "%s", err.text);
}

Test(ctl_wait, asks_until_it_has_ended)
{
	static const char *const good[] = { "{\"status\":\"setup\"}", "{\"status\":\"active\"}",
		                            "{\"status\":\"completed\"}", NULL };
	static const char *const bad[] = { "{\"status\":\"cancelling\"}",
		                           "{\"status\":\"failed\",\"error-desc\":\"x: y\"}",
		                           NULL };
	struct gw_error err;

	cr_assert_eq(wait_for(good, &err), 0, "%s", err.text);
	cr_assert_eq(asked, 3);
	cr_assert_eq(wait_for(bad, &err), -ECANCELED);
	cr_assert(strstr(err.text, "failed: x: y"), "%s", err.text);
}
