/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "control/wire.h"

#include <stdio.h>
#include <string.h>

/* Feeds text in pieces of `step` bytes and joins what comes out: requests with "|" between, "!"
 * for one that was too long. */
static char *split(const char *text, size_t step)
{
	struct wire wire = { 0 };
	const size_t len = strlen(text);
	char *out = calloc(1, 2 * len + 2);

	for (size_t at = 0; at < len; at += step) {
		const char *request;
		enum wire_next next;
		size_t n;

		cr_assert_eq(wire_feed(&wire, text + at, MIN(step, len - at)), 0);
		while ((next = wire_next(&wire, &request, &n)) != WIRE_MORE) {
			if (next == WIRE_TOO_LONG) {
				strcat(out, "!");
				continue;
			}
			while (n && strchr("\r\n", request[n - 1]))
				n--;
			strncat(out, request, n);
			strcat(out, "|");
		}
	}
	wire_free(&wire);
	return out;
}

static void expect_split(const char *text, const char *wanted)
{
	for (size_t step = 1; step < 9; step++) {
		autofree char *got = split(text, step);

		cr_assert_str_eq(got, wanted, "in pieces of %zu: %s", step, got);
	}
}

Test(wire, requests_end_at_the_line_or_where_their_brackets_close)
{
	expect_split("{\"a\":1}\r\n{\"b\":2}\n", "{\"a\":1}|{\"b\":2}|");
	expect_split("{\"a\":{\"b\":[1]}}{\"c\":2} \t\r\n\n {}",
	             "{\"a\":{\"b\":[1]}}|{\"c\":2}|{}|");
	expect_split("{\"a\":", "");
	expect_split("", "");
}

Test(wire, brackets_in_strings_do_not_count)
{
	expect_split("{\"a\":\"}{\\\"}]\"}{\"b\\\\\":\"[\"}",
	             "{\"a\":\"}{\\\"}]\"}|{\"b\\\\\":\"[\"}|");
}

Test(wire, what_is_broken_ends_with_its_line)
{
	expect_split("{\"a\":\r\n{\"b\":2}", "{\"a\":|{\"b\":2}|");
	expect_split("{\"a\n{}", "{\"a|{}|");
	expect_split("hello {}\n{}", "hello {}|{}|");
	expect_split("}\n{}", "}|{}|");
}

Test(wire, a_control_character_throws_away_what_has_come)
{
	expect_split("{\"a\":\x1b{\"b\":2}", "{\"b\":2}|");
	expect_split("garbage\x01\n{}", "{}|");
	expect_split("\x1b\x1b{}", "{}|");
}

Test(wire, one_that_is_too_long_is_told_once_and_its_line_passed_over)
{
	static char text[3 * WIRE_REQUEST_MAX];
	autofree char *got = NULL;

	memset(text, 'x', sizeof(text) - 8);
	text[0] = '{';
	strcpy(text + sizeof(text) - 8, "}}\n{}");
	got = split(text, 40000);
	cr_assert_str_eq(got, "!{}|");
}

Test(wire, one_of_the_full_length_is_taken)
{
	static char text[WIRE_REQUEST_MAX + 1];
	autofree char *got = NULL;

	memset(text, ' ', sizeof(text) - 1);
	text[0] = '{';
	text[WIRE_REQUEST_MAX - 1] = '}';
	got = split(text, 65536);
	cr_assert_eq(strlen(got), (size_t)WIRE_REQUEST_MAX + 1);
}

/* ---- parsing ------------------------------------------------------------------------- */

static void expect_bad(const char *text, const char *wanted)
{
	struct wire_request request;
	struct gw_error err = { 0 };

	cr_assert_eq(wire_parse(text, strlen(text), &request, &err), -EINVAL, "%s", text);
	cr_assert(strstr(err.text, wanted), "%s: %s", text, err.text);
	wire_request_free(&request);
}

Test(wire, a_request_has_command_arguments_and_id)
{
	const char *text =
	        "{\"execute\":\"stop\",\"arguments\":{\"a\":1},\"id\":{\"n\":[1,null]}}\r\n";
	struct wire_request request;
	autofree char *text_of_id = NULL;
	struct gw_error err;

	cr_assert_eq(wire_parse(text, strlen(text), &request, &err), 0);
	cr_assert_str_eq(request.command, "stop");
	cr_assert_eq(cJSON_GetArraySize(request.arguments), 1);
	cr_assert_not(request.oob);
	text_of_id = cJSON_PrintUnformatted(request.id);
	cr_assert_str_eq(text_of_id, "{\"n\":[1,null]}");
	wire_request_free(&request);
}

Test(wire, faulty_requests_are_refused_with_their_cause)
{
	expect_bad("{\"execute\":", "not JSON");
	expect_bad("{\"execute\":\"a\"]", "not JSON");
	expect_bad("{} {}", "not JSON");
	expect_bad("[]", "object");
	expect_bad("17", "object");
	expect_bad("{}", "\"execute\" is missing");
	expect_bad("{\"execute\":1}", "must be a string");
	expect_bad("{\"execute\":\"a\",\"arguments\":[]}", "must be an object");
	expect_bad("{\"execute\":\"a\",\"extra\":1}", "\"extra\"");
	expect_bad("{\"execute\":\"a\",\"execute\":\"b\"}", "twice");
	expect_bad("{\"exec-oob\":\"a\",\"execute\":\"b\"}", "one of");
	expect_bad("{\"exec-oob\":[]}", "\"exec-oob\" must be a string");
	expect_bad("{\"execute\":\"a\xff\"}", "not UTF-8");
	expect_bad("{\"execute\":\"\xed\xa0\x80\"}", "not UTF-8");
	expect_bad("{\"execute\":\"a\\u0000b\"}", "\\u0000");
}

Test(wire, an_escaped_backslash_before_u0000_is_no_nul)
{
	const char *text = "{\"execute\":\"a\\\\u0000b\"}";
	struct wire_request request;
	struct gw_error err;

	cr_assert_eq(wire_parse(text, strlen(text), &request, &err), 0, "%s", err.text);
	cr_assert_str_eq(request.command, "a\\u0000b");
	wire_request_free(&request);
}

Test(wire, a_faulty_request_keeps_its_id)
{
	const char *text = "{\"execute\":1,\"id\":\"x7\"}";
	struct wire_request request;
	struct gw_error err;

	cr_assert_eq(wire_parse(text, strlen(text), &request, &err), -EINVAL);
	cr_assert_str_eq(cJSON_GetStringValue(request.id), "x7");
	wire_request_free(&request);
}

Test(wire, nesting_has_a_limit)
{
	char text[CJSON_NESTING_LIMIT * 2 + 64];
	size_t len = (size_t)sprintf(text, "{\"execute\":\"a\",\"id\":");

	memset(text + len, '[', CJSON_NESTING_LIMIT);
	memset(text + len + CJSON_NESTING_LIMIT, ']', CJSON_NESTING_LIMIT);
	strcpy(text + len + 2 * CJSON_NESTING_LIMIT, "}");
	expect_bad(text, "nested");
}

/* ---- lines ------------------------------------------------------------------------------ */

Test(wire, replies_carry_the_id_of_any_type)
{
	static const char *const ids[] = { "1", "-0.5", "\"x\"", "null", "true", "[1,{\"a\":[]}]" };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		autofree char *line = wire_return(NULL, cJSON_Parse(ids[i]));
		char wanted[100];

		sprintf(wanted, "{\"return\":{},\"id\":%s}\r\n", ids[i]);
		cr_assert_str_eq(line, wanted);
	}
}

Test(wire, replies_have_the_form_of_qmp)
{
	autofree char *plain = wire_return(cJSON_CreateTrue(), NULL);
	autofree char *error = wire_error("GenericError", "no \"x\"\n", cJSON_CreateNumber(3));

	cr_assert_str_eq(plain, "{\"return\":true}\r\n");
	cr_assert_str_eq(error,
	                 "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no \\\"x\\\"\\n\"},"
	                 "\"id\":3}\r\n");
}

Test(wire, events_carry_data_and_time)
{
	const struct gw_event event = { "MIGRATION", "{\"status\":\"active\"}", 1700000000,
		                        123456 };
	const struct gw_event broken = { "STOP", "not JSON", 1, 2 };
	autofree char *line = wire_event(&event);
	autofree char *other = wire_event(&broken);

	cr_assert_str_eq(line, "{\"timestamp\":{\"seconds\":1700000000,\"microseconds\":123456},"
	                       "\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}\r\n");
	cr_assert_str_eq(
	        other, "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"STOP\"}\r\n");
}

Test(wire, lines_are_ascii)
{
	static const struct {
		const char *text, *wanted;
	} cases[] = {
		{ "a\xc3\xa9z", "a\\u00e9z" },            /* U+00E9 */
		{ "\xe2\x82\xac", "\\u20ac" },            /* U+20AC */
		{ "\xf0\x9f\x90\xa6", "\\ud83d\\udc26" }, /* U+1F426 */
		{ "\xff"
		  "a",
		  "\\ufffda" },                                         /* no such byte */
		{ "\xc3", "\\ufffd" },                                  /* cut off */
		{ "\xc0\x80", "\\ufffd\\ufffd" },                       /* longer than need be */
		{ "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },            /* a surrogate */
		{ "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" }, /* past U+10FFFF */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *line = wire_return(cJSON_CreateString(cases[i].text), NULL);
		char wanted[100];

		sprintf(wanted, "{\"return\":\"%s\"}\r\n", cases[i].wanted);
		cr_assert_str_eq(line, wanted, "case %zu: %s", i, line);
	}
}

/* What a client wrote, digit for digit: a double would not hold it. */
Test(wire, ids_come_back_as_they_were_written)
{
	static const struct {
		const char *request, *wanted;
	} cases[] = {
		{ "{\"execute\":\"a\",\"id\":12345678901234567890}", "12345678901234567890" },
		{ "{\"id\" : -1.50e+3 ,\"execute\":\"a\"}", "-1.50e+3" },
		{ "{\"arguments\":{\"id\":1},\"execute\":\"a\",\"id\":[ 9007199254740993, \"x y\" "
		  "]}",
		  "[9007199254740993,\"x y\"]" },
		{ "{\"execute\":\"id\",\"x\\\"id\":2,\"id\":{\"}\":[3.0,\"]\"]}}",
		  "{\"}\":[3.0,\"]\"]}" },
		{ "{\"execute\":\"a\",\"\\u0069d\":7}", "7" },
		{ "{\"exec-oob\":\"a\",\"id\":\"\xc3\xa9\"}", "\"\\u00e9\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct wire_request request;
		autofree char *line = NULL;
		struct gw_error err = { 0 };
		char wanted[100];
		cJSON *id;

		wire_parse(cases[i].request, strlen(cases[i].request), &request, &err);
		id = cJSON_DetachItemViaPointer(request.root, request.id);
		cr_assert(id, "case %zu: %s", i, err.text);
		line = wire_return(NULL, id);
		sprintf(wanted, "{\"return\":{},\"id\":%s}\r\n", cases[i].wanted);
		cr_assert_str_eq(line, wanted, "case %zu: %s", i, line);
		wire_request_free(&request);
	}
}

Test(wire, the_greeting_names_the_version_and_what_is_offered)
{
	autofree char *line = wire_greeting();
	cJSON *root = cJSON_Parse(line);
	cJSON *qmp = cJSON_GetObjectItemCaseSensitive(root, "QMP");
	cJSON *version = cJSON_GetObjectItemCaseSensitive(qmp, "version");
	cJSON *caps = cJSON_GetObjectItemCaseSensitive(qmp, "capabilities");

	cr_assert(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(version, "qemu")));
	cr_assert(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(version, "godwit")));
	cr_assert_eq(cJSON_GetArraySize(caps), 1);
	cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetArrayItem(caps, 0)), "oob");
	cJSON_Delete(root);
}
