/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Criterion's tests without Criterion's sandbox, which cannot start a process
 * under an emulator of user programs or ThreadSanitizer: a fork for each test.
 * Linked before the library, whose calls of the same names it stands in for;
 * failed assertions are worded by the library. A test of which a sanitizer
 * reports something has failed, however it and its processes end. A test
 * that hangs is ended as everywhere (patience.h).
 *
 *   --filter PATTERN   of "suite/test", as Criterion has it, less its extensions
 *   --except FILE      all but the tests that are named in it; may be repeated
 *   --only FILE        only those
 *   -jN                N at a time
 *   --verbose          names those that passed too, and says how long each took, and of the
 * processor
 */
#include <criterion/criterion.h>

#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "patience.h"

#define SKIPPED 77
#define MAX_JOBS 16

/* Test() and TestSuite() put pointers into these sections; the linker knows where they are. */
extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

/* In the process of one test. */
static const struct criterion_test *current;
static const struct criterion_test_extra_data *current_suite;
static bool failed;
/* In memory that is shared with the test's processes. */
static bool *reported;

/* ThreadSanitizer calls it after each report. */
void __tsan_on_report(void *report);
__attribute__((visibility("default"))) void __tsan_on_report(void *report)
{
	(void)report;
	if (reported)
		__atomic_store_n(reported, true, __ATOMIC_RELAXED);
}

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
	alarm(patience_test_s());
	test->test();
	exit(failed);
}

enum verdict { PASSED, FAILED, LEFT_OUT };
static const char *const verdicts[] = { "[PASS]", "[FAIL]", "[SKIP]" };

static enum verdict judge(const struct criterion_test *test, int status)
{
	const struct criterion_test_extra_data *d = test->data;

	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		return LEFT_OUT;
	if (d->signal)
		return WIFSIGNALED(status) && WTERMSIG(status) == d->signal ? PASSED : FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) == d->exit_code ? PASSED : FAILED;
}

/* One test at a time: always the next that no other process has taken. */
struct shift {
	const char *pattern;
	char *listed; /* names, each in a line of its own that goes on with the reason */
	bool only_listed, verbose, reported;
	unsigned jobs, *next; /* the next one's number, for all processes */
	unsigned count[3];
};

static enum verdict run_apart(const struct criterion_test *test)
{
	int status = 0;
	pid_t pid;

	if (test->data->disabled)
		return LEFT_OUT;
	*reported = false;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run(test);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return FAILED;
	return *reported ? FAILED : judge(test, status);
}

static bool in_list(const char *list, const char *name)
{
	const size_t len = strlen(name);

	for (const char *line = list; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && strchr("\t\n", line[len]))
			return true;
	}
	return false;
}

static bool wanted(const struct shift *s, const char *name)
{
	if (fnmatch(s->pattern, name, 0))
		return false;
	return !s->listed || in_list(s->listed, name) == s->only_listed;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Of the processor, by the tests that have ended: a shift runs one after the other. */
static double processor_seconds(void)
{
	struct rusage all;

	getrusage(RUSAGE_CHILDREN, &all);
	return (double)(all.ru_utime.tv_sec + all.ru_stime.tv_sec) +
	       (double)(all.ru_utime.tv_usec + all.ru_stime.tv_usec) / 1e6;
}

static void work(struct shift *s)
{
	unsigned n = 0, mine = __atomic_fetch_add(s->next, 1, __ATOMIC_RELAXED);

	reported = &s->reported;
	for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
		char name[256];
		enum verdict v;
		double began, used;

		if (!*t)
			continue;
		snprintf(name, sizeof(name), "%s/%s", (*t)->category, (*t)->name);
		if (!wanted(s, name) || n++ != mine)
			continue;
		mine = __atomic_fetch_add(s->next, 1, __ATOMIC_RELAXED);
		began = seconds();
		used = processor_seconds();
		v = run_apart(*t);
		s->count[v]++;
		if (v != PASSED || s->verbose)
			printf("%s %s::%s: (%.2fs, processor %.2fs)\n", verdicts[v], (*t)->category,
			       (*t)->name, seconds() - began, processor_seconds() - used);
	}
}

/* The shifts count in memory that is shared with them. */
static void work_side_by_side(struct shift *s, unsigned jobs)
{
	for (unsigned i = 0; i < jobs; i++) {
		fflush(NULL);
		if (fork() == 0) {
			work(&s[i]);
			exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	for (unsigned i = 1; i < jobs; i++)
		for (unsigned v = 0; v < 3; v++)
			s[0].count[v] += s[i].count[v];
}

/* What is in the file, behind `before`. */
static char *contents(const char *path, char *before)
{
	FILE *f = fopen(path, "re");
	char *text = calloc(1, 65536);
	size_t len = before ? strlen(before) : 0;

	if (!f || !text || (!fread(text + len, 1, 65535 - len, f) && ferror(f))) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(2);
	}
	memcpy(text, before ? before : "", len);
	free(before);
	fclose(f);
	return text;
}

static void parse(struct shift *s, int argc, char **argv)
{
	*s = (struct shift){ .pattern = "*", .jobs = 1 };
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "-j", 2)) {
			s->jobs = (unsigned)strtoul(argv[i] + 2, NULL, 10);
		} else if (!strcmp(argv[i], "--verbose")) {
			s->verbose = true;
		} else if (i + 1 < argc && !strcmp(argv[i], "--filter")) {
			s->pattern = argv[++i];
		} else if (i + 1 < argc &&
		           (!strcmp(argv[i], "--except") || !strcmp(argv[i], "--only"))) {
			s->only_listed = !strcmp(argv[i], "--only");
			s->listed = contents(argv[++i], s->listed);
		} else {
			fprintf(stderr, "%s is no option\n", argv[i]);
			exit(2);
		}
	}
	if (s->jobs < 1 || s->jobs > MAX_JOBS) {
		fprintf(stderr, "-j: 1 to %d\n", MAX_JOBS);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	/* One more, which is of use for the number of the next test alone. */
	struct shift *s = mmap(NULL, (MAX_JOBS + 1) * sizeof(*s), PROT_READ | PROT_WRITE,
	                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return 2;
	parse(&s[0], argc, argv);
	s[0].next = &s[MAX_JOBS].count[0];
	for (unsigned i = 1; i < s[0].jobs; i++)
		s[i] = s[0];
	work_side_by_side(s, s[0].jobs);
	printf("[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0 \n",
	       s->count[PASSED] + s->count[FAILED], s->count[PASSED], s->count[FAILED]);
	return s->count[FAILED] != 0;
}
