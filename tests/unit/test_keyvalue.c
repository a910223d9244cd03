/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

/* The program's files are no part of the library that tests link with. */
#include "cli/keyvalue.c"

static void expect(const char *word, const char *wanted)
{
	char *words[] = { (char *)(uintptr_t)word };
	struct gw_error err = { 0 };
	cJSON *out = NULL;
	int r = keyvalue_parse(words, 1, &out, &err);
	autofree char *text = cJSON_PrintUnformatted(out);

	if (wanted) {
		cr_assert_eq(r, 0, "%s: %s", word, err.text);
		cr_assert_str_eq(text, wanted);
	} else {
		cr_assert_eq(r, -EINVAL, "%s was taken", word);
		cr_assert(strstr(err.text, word), "%s", err.text);
	}
	cJSON_Delete(out);
}

Test(keyvalue, a_value_is_json_or_else_a_string)
{
	expect("n=17", "{\"n\":17}");
	expect("b=true", "{\"b\":true}");
	expect("o={\"a\":[1]}", "{\"o\":{\"a\":[1]}}");
	expect("q=\"17\"", "{\"q\":\"17\"}");
	expect("uri=tcp:10.0.0.1:4444", "{\"uri\":\"tcp:10.0.0.1:4444\"}");
	expect("host=0000:00:10.0", "{\"host\":\"0000:00:10.0\"}");
	expect("d=1 2", "{\"d\":\"1 2\"}");
	expect("e=", "{\"e\":\"\"}");
	expect("x=a=b", "{\"x\":\"a=b\"}");
}

Test(keyvalue, words_without_key_or_value_are_refused)
{
	expect("word", NULL);
	expect("=value", NULL);
	expect("", NULL);
}

Test(keyvalue, a_key_comes_once)
{
	char *words[] = { "a=1", "b=2", "a=3" };
	struct gw_error err;
	cJSON *out;

	cr_assert_eq(keyvalue_parse(words, 2, &out, &err), 0);
	cr_assert_eq(cJSON_GetArraySize(out), 2);
	cJSON_Delete(out);
	cr_assert_eq(keyvalue_parse(words, 3, &out, &err), -EINVAL);
	cr_assert_str_eq(err.text, "a is given twice");
}

Test(keyvalue, map_entries_are_cut_at_the_first_equals_sign)
{
	char good[] = "devices.tty0.host=/sys/a=b", bad[] = "=x", none[] = "path";
	struct gw_error err;
	struct gw_map map;

	cr_assert_eq(keyvalue_map(good, &map, &err), 0);
	cr_assert_str_eq(map.path, "devices.tty0.host");
	cr_assert_str_eq(map.value, "/sys/a=b");
	cr_assert_eq(keyvalue_map(bad, &map, &err), -EINVAL);
	cr_assert_eq(keyvalue_map(none, &map, &err), -EINVAL);
}
