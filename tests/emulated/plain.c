/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Criterion's tests without Criterion's sandbox, which cannot start a process
 * under an emulator of user programs: a fork for each test. Linked before the
 * library, whose calls of the same names it stands in for; failed assertions
 * are worded by the library.
 */
#include <criterion/criterion.h>

#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED 77
#define SECONDS 120

/* Test() and TestSuite() put pointers into these sections; the linker knows where they are. */
extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

/* In the process of one test. */
static const struct criterion_test *current;
static const struct criterion_test_extra_data *current_suite;
static bool failed;

void criterion_internal_test_setup(void)
{
	if (current_suite && current_suite->init)
		current_suite->init();
	if (current->data->init)
		current->data->init();
}

void criterion_internal_test_main(void (*fn)(void))
{
	fn();
}

void criterion_internal_test_teardown(void)
{
	if (current->data->fini)
		current->data->fini();
	if (current_suite && current_suite->fini)
		current_suite->fini();
}

void cri_asserts_passed_incr(void)
{
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
	if (stats->passed)
		return;
	failed = true;
	fprintf(stderr, "%s:%u: %s\n", stats->file, stats->line, stats->message);
}

void criterion_abort_test(void)
{
	_exit(failed);
}

void criterion_skip_test(const char *format, ...)
{
	(void)format;
	_exit(SKIPPED);
}

static const struct criterion_test_extra_data *suite_of(const struct criterion_test *test)
{
	for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++)
		if (*s && !strcmp((*s)->name, test->category))
			return (*s)->data;
	return NULL;
}

static void run(const struct criterion_test *test)
{
	current = test;
	current_suite = suite_of(test);
	alarm(SECONDS);
	test->test();
	exit(failed);
}

enum verdict { PASSED, FAILED, LEFT_OUT };

static enum verdict judge(const struct criterion_test *test, int status)
{
	const struct criterion_test_extra_data *d = test->data;

	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		return LEFT_OUT;
	if (d->signal)
		return WIFSIGNALED(status) && WTERMSIG(status) == d->signal ? PASSED : FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) == d->exit_code ? PASSED : FAILED;
}

static enum verdict run_apart(const struct criterion_test *test)
{
	int status = 0;
	pid_t pid;

	if (test->data->disabled)
		return LEFT_OUT;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run(test);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return FAILED;
	return judge(test, status);
}

/* --filter PATTERN: of "suite/test", as Criterion has it, less its extensions. */
int main(int argc, char **argv)
{
	const char *pattern = argc > 2 && !strcmp(argv[1], "--filter") ? argv[2] : "*";
	unsigned count[3] = { 0 };

	for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
		char name[256];
		enum verdict v;

		if (!*t)
			continue;
		snprintf(name, sizeof(name), "%s/%s", (*t)->category, (*t)->name);
		if (fnmatch(pattern, name, 0))
			continue;
		v = run_apart(*t);
		count[v]++;
		if (v != PASSED)
			printf("%s %s\n", v == FAILED ? "[FAIL]" : "[SKIP]", name);
	}
	printf("[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0 \n",
	       count[PASSED] + count[FAILED], count[PASSED], count[FAILED]);
	return count[FAILED] != 0;
}
