/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/log.h"

#include <string.h>

Test(error, carries_code_class_and_text)
{
	struct gw_error err;

	cr_assert_eq(error_set(&err, -EINVAL, "bad length %u", 7u), -EINVAL);
	cr_assert_eq(err.code, -EINVAL);
	cr_assert_eq(err.cls, GW_ERROR_GENERIC);
	cr_assert_str_eq(err.text, "bad length 7");
	cr_assert_eq(error_set_class(&err, -ENOENT, GW_ERROR_DEVICE_NOT_FOUND, "no %s", "net0"),
	             -ENOENT);
	cr_assert_eq(err.cls, GW_ERROR_DEVICE_NOT_FOUND);
	cr_assert_str_eq(err.text, "no net0");
}

Test(error, a_new_error_forgets_the_class_of_the_old)
{
	struct gw_error err;

	error_set_class(&err, -ENOENT, GW_ERROR_DEVICE_NOT_FOUND, "x");
	error_set_sys(&err, -ENOSPC, "snap/ram");
	cr_assert_eq(err.cls, GW_ERROR_GENERIC);
	cr_assert_str_eq(err.text, "snap/ram: No space left on device");
}

Test(error, gathers_context_outermost_first_and_keeps_the_code)
{
	struct gw_error err;

	error_set(&err, -EBADMSG, "checksum mismatch");
	cr_assert_eq(error_context(&err, "frame %d", 17), -EBADMSG);
	cr_assert_eq(error_context(&err, "restore snap"), -EBADMSG);
	error_append(&err, "the guest goes on");
	cr_assert_str_eq(err.text, "restore snap: frame 17: checksum mismatch; the guest goes on");
}

Test(error, null_is_fine_everywhere)
{
	cr_assert_eq(error_set(NULL, -EINVAL, "x"), -EINVAL);
	cr_assert_eq(error_set_sys(NULL, -EIO, "x"), -EIO);
	cr_assert_eq(error_set_class(NULL, -ENOENT, GW_ERROR_GENERIC, "x"), -ENOENT);
	cr_assert_lt(error_context(NULL, "x"), 0);
	error_append(NULL, "x");
}

Test(error, a_text_that_is_too_long_is_cut_and_stays_a_string)
{
	struct gw_error err;
	char big[3000];

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	error_set(&err, -EIO, "%s", big);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
	cr_assert_eq(error_context(&err, "outer"), -EIO);
	cr_assert_eq(strncmp(err.text, "outer: aaa", 10), 0);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
	error_context(&err, "%s", big);
	error_append(&err, "more");
	error_set_sys(&err, -EIO, "%s", big);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
}

static enum gw_log_level got_level;
static char got_text[64];

static void sink(void *opaque, enum gw_log_level level, const char *text)
{
	(*(int *)opaque)++;
	got_level = level;
	strncpy(got_text, text, sizeof(got_text) - 1);
}

Test(error, log_lines_reach_the_sink_and_a_log_without_one_is_silent)
{
	int calls = 0;
	const struct log log = { .opaque = &calls, .write = sink };
	const struct log none = { 0 };

	log_warn(&log, "slot %d", 3);
	log_warn(NULL, "x");
	log_warn(&none, "x");
	cr_assert_eq(calls, 1);
	cr_assert_eq(got_level, GW_LOG_WARN);
	cr_assert_str_eq(got_text, "slot 3");
}
