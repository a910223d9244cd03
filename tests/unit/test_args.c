/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "control/args.h"
#include "control/command.h"

#include <string.h>

static const struct arg table[] = {
	{ "id", ARG_STRING, true, "a string", 0, 0, NULL },
	{ "force", ARG_BOOL, false, "a bool", 0, 0, NULL },
	{ "slot", ARG_UINT, false, "a number", 1, 31, NULL },
	{ "size", ARG_UINT, false, "a large number", 0, 0, NULL },
	{ "addr", ARG_OBJECT, false, "an object", 0, 0, NULL },
	{ "channels", ARG_LIST, false, "objects", 0, 0, NULL },
	{ "enable", ARG_WORDS, false, "strings", 0, 0, NULL },
	{ "map", ARG_STRINGS, false, "an object of strings", 0, 0, NULL },
	{ NULL, ARG_STRING, false, NULL, 0, 0, NULL },
};

/* NULL: taken; otherwise the message must hold `wanted`. */
static void expect(const char *json, const struct arg *args, const char *wanted)
{
	cJSON *object = json ? cJSON_Parse(json) : NULL;
	struct gw_error err = { 0 };
	int r = args_check(object, args, false, "cmd", &err);

	cr_assert_eq(!json, !object, "%s", json);
	if (wanted) {
		cr_assert_eq(r, -EINVAL, "%s was taken", json);
		cr_assert(strstr(err.text, wanted), "%s: %s", json, err.text);
		cr_assert_eq(strncmp(err.text, "cmd: ", 5), 0);
	} else {
		cr_assert_eq(r, 0, "%s: %s", json, err.text);
	}
	cJSON_Delete(object);
}

Test(args, good_ones_are_taken)
{
	expect("{\"id\":\"a\"}", table, NULL);
	expect("{\"id\":\"a\",\"force\":false,\"slot\":31,\"size\":9007199254740991,\"addr\":{},"
	       "\"channels\":[{}],\"enable\":[\"oob\"],\"map\":{\"p\":\"v\"}}",
	       table, NULL);
	expect(NULL, NULL, NULL);
	expect("{}", NULL, NULL);
}

Test(args, unknown_missing_and_repeated_ones_are_named)
{
	expect("{\"id\":\"a\",\"idd\":1}", table, "\"idd\"");
	expect("{\"ID\":\"a\"}", table, "\"ID\"");
	expect("{\"force\":true}", table, "\"id\" is missing");
	expect(NULL, table, "\"id\" is missing");
	expect("{\"id\":\"a\",\"id\":\"b\"}", table, "\"id\" is there twice");
	expect("{\"x\":1}", NULL, "\"x\"");
}

Test(args, types_are_strict)
{
	static const char *const faulty[] = {
		"{\"id\":1}",
		"{\"id\":null}",
		"{\"id\":\"a\",\"force\":1}",
		"{\"id\":\"a\",\"force\":\"true\"}",
		"{\"id\":\"a\",\"slot\":\"3\"}",
		"{\"id\":\"a\",\"slot\":1.5}",
		"{\"id\":\"a\",\"size\":-1}",
		"{\"id\":\"a\",\"size\":1e300}",
		"{\"id\":\"a\",\"size\":9007199254740992}",
		"{\"id\":\"a\",\"addr\":[]}",
		"{\"id\":\"a\",\"channels\":{}}",
		"{\"id\":\"a\",\"channels\":[1]}",
		"{\"id\":\"a\",\"enable\":[1]}",
		"{\"id\":\"a\",\"enable\":{}}",
		"{\"id\":\"a\",\"map\":{\"p\":1}}",
		"{\"id\":\"a\",\"map\":[\"p\"]}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(faulty); i++)
		expect(faulty[i], table, "must be");
}

Test(args, numbers_keep_their_range)
{
	expect("{\"id\":\"a\",\"slot\":0}", table, "\"slot\" is 0, not within 1 and 31");
	expect("{\"id\":\"a\",\"slot\":32}", table, "\"slot\" is 32");
	expect("{\"id\":\"a\",\"slot\":1}", table, NULL);
}

Test(args, an_open_table_lets_names_pass_that_it_does_not_have)
{
	cJSON *object = cJSON_Parse("{\"id\":\"a\",\"else\":[1]}");
	cJSON *twice = cJSON_Parse("{\"id\":\"a\",\"else\":1,\"else\":2}");
	cJSON *bad = cJSON_Parse("{\"id\":1,\"else\":[1]}");
	struct gw_error err = { 0 };

	cr_assert_eq(args_check(object, table, true, "cmd", &err), 0, "%s", err.text);
	cr_assert_eq(args_check(twice, table, true, "cmd", &err), -EINVAL);
	cr_assert_eq(args_check(bad, table, true, "cmd", &err), -EINVAL);
	cJSON_Delete(object);
	cJSON_Delete(twice);
	cJSON_Delete(bad);
}

Test(args, what_is_not_given_has_its_default)
{
	cJSON *object = cJSON_Parse("{\"b\":true,\"n\":7,\"s\":\"x\"}");

	cr_assert_eq(args_bool(object, "b", false), true);
	cr_assert_eq(args_bool(object, "c", true), true);
	cr_assert_eq(args_uint(object, "n", 1), 7);
	cr_assert_eq(args_uint(object, "m", 1), 1);
	cr_assert_str_eq(args_string(object, "s"), "x");
	cr_assert_null(args_string(object, "t"));
	cr_assert_null(args_string(NULL, "t"));
	cJSON_Delete(object);
}

/* ---- the table of commands --------------------------------------------------------------- */

Test(commands, every_row_is_whole_and_found_by_its_name)
{
	for (const struct command *c = control_commands; c->name; c++) {
		cr_assert(c->help && *c->help, "%s", c->name);
		cr_assert_eq(!c->run, !!(c->flags & COMMAND_REFUSED), "%s", c->name);
		cr_assert_eq(command_find(c->name), c, "%s is there twice", c->name);
		for (const struct arg *arg = c->args; arg && arg->name; arg++)
			cr_assert(arg->help && *arg->help, "%s %s", c->name, arg->name);
	}
	cr_assert_null(command_find("migrate_"));
	cr_assert_null(command_find(""));
}

static int run(const char *name, cJSON *args, struct call *call, struct gw_error *err)
{
	const struct command *c = command_find(name);
	int r = args_check(args, c->args, c->flags & COMMAND_OPEN, name, err);

	cr_assert_eq(r, 0, "%s", err->text);
	*call = (struct call){ .args = args, .fd = -1 };
	return c->run(call, err);
}

static void expect_run(const char *name, const char *args, const char *wanted)
{
	cJSON *object = cJSON_Parse(args);
	struct gw_error err = { 0 };
	struct call call;

	cr_assert_lt(run(name, object, &call, &err), 0, "%s %s was taken", name, args);
	cr_assert(strstr(err.text, wanted), "%s %s: %s", name, args, err.text);
	cJSON_Delete(object);
	cJSON_Delete(call.ret);
}

/* What is refused before the VM is asked. */
Test(commands, arguments_that_do_not_go_together_are_refused)
{
	expect_run("device_add", "{\"id\":\"a\",\"host\":\"h\"}", "\"driver\" and \"type\"");
	expect_run("device_add", "{\"id\":\"a\",\"host\":\"h\",\"driver\":\"d\",\"type\":\"d\"}",
	           "one of");
	expect_run("migrate", "{}", "\"uri\" and \"channels\"");
	expect_run("migrate", "{\"uri\":\"tcp:a:1\",\"channels\":[]}", "one of");
	expect_run("migrate", "{\"channels\":[]}", "one entry");
	expect_run("migrate", "{\"channels\":[{\"channel-type\":\"main\"}]}",
	           "\"addr\" is missing");
	expect_run("migrate", "{\"channels\":[{\"channel-type\":\"cpr\",\"addr\":{}}]}", "main");
	expect_run("migrate",
	           "{\"channels\":[{\"channel-type\":\"main\",\"addr\":{\"transport\":\"rdma\"}}]}",
	           "transport");
	expect_run("migrate",
	           "{\"channels\":[{\"channel-type\":\"main\",\"addr\":{\"transport\":\"socket\","
	           "\"type\":\"inet\",\"host\":\"h\",\"port\":1}}]}",
	           "\"port\" must be a string");
	expect_run("migrate-incoming", "{\"uri\":\"tcp:a:1\",\"exit-on-error\":true}",
	           "exit-on-error");
	expect_run("qmp_capabilities", "{\"enable\":[\"oob\",\"fly\"]}", "\"fly\"");
	expect_run("block_resize", "{\"size\":1}", "\"device\" and \"node-name\"");
	expect_run("block_resize", "{\"size\":1,\"device\":\"a\",\"node-name\":\"a\"}", "one of");
	expect_run("getfd", "{\"fdname\":\"a\"}", "SCM_RIGHTS");
	expect_run("add-fd", "{}", "SCM_RIGHTS");
	expect_run("dump-guest-memory", "{\"paging\":true,\"protocol\":\"file:/x\"}", "paging");
	expect_run("dump-guest-memory",
	           "{\"paging\":false,\"protocol\":\"file:/x\",\"format\":\"kdump-zlib\"}",
	           "format");
	expect_run("dump-guest-memory", "{\"paging\":false,\"protocol\":\"/x\"}", "file:PATH");
	expect_run("dump-guest-memory", "{\"paging\":false,\"protocol\":\"file:/dev/null\"}",
	           "/dev/null: File exists");
	expect_run("system_wakeup", "{}", "not suspended");
}

static int set_capability(const char *name, bool on, struct gw_error *err)
{
	cJSON *args = cJSON_CreateObject(), *entry = cJSON_CreateObject();
	struct call call;
	int r;

	cJSON_AddItemToArray(cJSON_AddArrayToObject(args, "capabilities"), entry);
	cJSON_AddStringToObject(entry, "capability", name);
	cJSON_AddBoolToObject(entry, "state", on);
	r = run("migrate-set-capabilities", args, &call, err);
	cJSON_Delete(args);
	return r;
}

Test(commands, capabilities_that_cannot_be_had_are_named)
{
	struct gw_error err = { 0 };

	cr_assert_eq(set_capability("return-path", true, &err), 0);
	cr_assert_eq(set_capability("events", true, &err), 0);
	cr_assert_eq(set_capability("multifd", false, &err), 0);
	cr_assert_lt(set_capability("multifd", true, &err), 0);
	cr_assert(strstr(err.text, "\"multifd\""));
	cr_assert_lt(set_capability("return-path", false, &err), 0);
	cr_assert(strstr(err.text, "\"return-path\""));
	cr_assert_lt(set_capability("nonsense", false, &err), 0);
	cr_assert(strstr(err.text, "\"nonsense\""));
}
