/* SPDX-License-Identifier: Apache-2.0 */
/* The program's log when stderr is a pipe that is not read. */
#include <criterion/criterion.h>

#include "cli/logger.c"
#include "patience.h"

/* All of the log so far; what is behind its end stays from before. */
static size_t more(int fd, char *log, size_t len, size_t size)
{
	ssize_t n;

	while (len + 1 < size && (n = read(fd, log + len, size - len - 1)) > 0)
		len += (size_t)n;
	log[len] = 0;
	return len;
}

/* Those that are there, and those that are said to be lost. */
static unsigned lines(const char *log)
{
	unsigned n = 0;

	for (const char *at = log; (at = strstr(at, "godwit: ")); at++) {
		if (!strncmp(at, "godwit: warning: ", 17))
			n += (unsigned)atoi(at + 17);
		n += !strncmp(at, "godwit: info: ", 14);
	}
	return n;
}

Test(logger, lines_of_a_stalled_log_are_counted_and_the_others_are_there)
{
	enum { LINES = 4000, SIZE = 1 << 20 };
	const int own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	char *log = calloc(1, SIZE);
	struct logger l;
	size_t len = 0;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	logger_open(&l);
	dup2(own, STDERR_FILENO);
	cr_assert_not_null(l.file);
	for (unsigned i = 0; i < LINES; i++)
		logger_line(&l,
		            "info: ", "a line that is about as long as most lines of the log are");
	logger_flush(&l);
	wait_turning(strstr(log, "lines of the log were lost"), len = more(fds[0], log, len, SIZE),
	             "nothing is said");
	/* What was lost may be said in parts. */
	wait_turning(lines(log) >= LINES, len = more(fds[0], log, len, SIZE), "%u lines of %u",
	             lines(log), LINES);
	cr_assert_eq(lines(log), LINES);
	logger_line(&l, "error: ", "the last word");
	logger_close(&l);
	len = more(fds[0], log, len, SIZE);
	cr_assert(len > 30 && !strcmp(log + len - 29, "godwit: error: the last word\n"), "%s",
	          log + (len > 60 ? len - 60 : 0));
	free(log);
	close(fds[0]);
	close(fds[1]);
	close(own);
}
