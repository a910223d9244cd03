/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `godwit ctl` that need no other end. The program's files are no part of the library
 * that tests link with. */
#include <criterion/criterion.h>

#include "cli/complete.c"
#include "cli/present.c"
#include "cli/words.c"
#include "control/schema.h"

#include <stdio.h>
#include <string.h>

/* ---- words ---------------------------------------------------------------------------------- */

static void expect_words(const char *line, const char *wanted)
{
	struct words words = { 0 };
	struct gw_error err;
	char got[256] = "";

	cr_assert_eq(words_split(line, &words, &err), 0, "%s: %s", line, err.text);
	for (int i = 0; i < words.count; i++) {
		strcat(got, words.word[i]);
		strcat(got, "|");
	}
	cr_assert_null(words.word[words.count]);
	cr_assert_str_eq(got, wanted);
	words_free(&words);
}

Test(ctl_words, are_cut_at_blanks_but_not_in_quotes)
{
	expect_words("", "");
	expect_words(" \t\n", "");
	expect_words("stop\n", "stop|");
	expect_words("  a b=1\tc ", "a|b=1|c|");
	expect_words("a b='{\"x\": \"y z\"}' \"c d\"e", "a|b={\"x\": \"y z\"}|c de|");
	expect_words("a\\ b 'c\\' \"d\\\"e\" ''", "a b|c\\|d\"e||");
	expect_words("a b c d e f g h i j", "a|b|c|d|e|f|g|h|i|j|");
}

Test(ctl_words, a_quote_that_is_open_is_an_error)
{
	struct words words;
	struct gw_error err;

	cr_assert_eq(words_split("a 'b", &words, &err), -EINVAL);
	cr_assert_eq(words_split("a \"b\\\"", &words, &err), -EINVAL);
}

/* ---- completion ------------------------------------------------------------------------------ */

static const char *const builtin[] = { "help", "exit", NULL };

static void expect_completion(const char *line, const char *wanted, size_t common, const char *end)
{
	cJSON *schema = schema_make();
	struct completions found;
	char got[1024] = "";

	complete(schema, builtin, line, strlen(line), &found);
	for (unsigned i = 0; i < found.count; i++) {
		strcat(got, found.word[i]);
		strcat(got, "|");
	}
	cr_assert_str_eq(got, wanted, "%s: %s", line, got);
	cr_assert_str_eq(found.end, end, "%s", line);
	if (found.count)
		cr_assert_eq(found.common, common, "%s: %zu", line, found.common);
	cJSON_Delete(schema);
}

Test(ctl_complete, commands_then_arguments_then_values)
{
	expect_completion("query-st", "query-status|", 12, " ");
	expect_completion("  snapshot-", "snapshot-load|snapshot-save|", 9, " ");
	expect_completion("he", "help|", 4, " ");
	expect_completion("help balloo", "balloon|", 7, " ");
	expect_completion("no-such", "", 0, " ");
	expect_completion("no-such x", "", 0, "=");
	expect_completion("block_resize ", "device|node-name|size|", 0, "=");
	expect_completion("block_resize device=a s", "size|", 4, "=");
	expect_completion("block_resize device=a ", "node-name|size|", 0, "=");
	expect_completion("cont force=", "false|true|", 0, " ");
	expect_completion("cont force=t", "true|", 4, " ");
	expect_completion("dump-guest-memory format=", "elf|", 3, " ");
	expect_completion("stop ", "", 0, "=");
}

Test(ctl_complete, without_a_schema_there_are_the_prompts_own)
{
	struct completions found;

	complete(NULL, builtin, "e", 1, &found);
	cr_assert_eq(found.count, 1);
	complete(NULL, NULL, "x y=z", 5, &found);
	cr_assert_eq(found.count, 0);
}

/* ---- for people ------------------------------------------------------------------------------ */

static void expect_shown(const char *json, const char *wanted)
{
	cJSON *root = cJSON_Parse(json);
	char *got = NULL;
	size_t size;
	FILE *to = open_memstream(&got, &size);

	cr_assert(root, "%s", json);
	cr_assert(present(to, root));
	fclose(to);
	cr_assert_str_eq(got, wanted, "%s:\n%s", json, got);
	free(got);
	cJSON_Delete(root);
}

Test(ctl_present, scalars_and_objects_are_aligned)
{
	expect_shown("true", "true\n");
	expect_shown("\"x\"", "x\n");
	expect_shown("{}", "");
	expect_shown("{\"running\":true,\"status\":\"a b\",\"n\":null,\"l\":[1,\"x\"],\"e\":[]}",
	             "running  true\nstatus   a b\nn        -\nl        1, x\ne        -\n");
	expect_shown("{\"\xc3\xa9\":1,\"ab\":2}", "\xc3\xa9   1\nab  2\n");
	expect_shown("{\"a\":1,\"deep\":{\"b\":2,\"c\":{\"d\":3}}}",
	             "a  1\ndeep\n  b  2\n  c\n    d  3\n");
}

Test(ctl_present, lists_of_small_objects_are_tables)
{
	expect_shown("[]", "-\n");
	expect_shown("[1,2]", "1, 2\n");
	expect_shown("[{\"id\":\"a\",\"size\":10},{\"id\":\"long\",\"x\":[1,2]}]",
	             "id    size  x\na     10    -\nlong  -     1, 2\n");
	expect_shown("[{\"id\":\"a\",\"in\":{\"b\":1}},{\"id\":\"c\"}]",
	             "id  a\nin\n  b  1\n\nid  c\n");
}

Test(ctl_present, strings_do_not_command_the_terminal)
{
	expect_shown("{\"a\":\"x\\u001b[2Jy\\u007f\\n\"}", "a  x?[2Jy??\n");
}
