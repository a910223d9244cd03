/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program that works in the background of a guest is started, asked and ended: it keeps one
 * line about itself in /run/NAME, and its process ID in /run/NAME.pid. SIGTERM makes it finish; the
 * last line then ends in "result=ok" or "result=bad".
 */
#ifndef LAB_REPORT_H
#define LAB_REPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t report_ending;

static inline uint64_t report_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static inline void report_nap(unsigned ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000l };

	nanosleep(&t, NULL);
}

/* Sleeps off what `bytes` are ahead of `kib_per_s`. After a stop no more than 100 ms are made up.
 */
static inline void report_pace(uint64_t *due, uint64_t bytes, uint64_t kib_per_s)
{
	uint64_t t = report_now();

	if (!kib_per_s)
		return;
	if (*due + 100000000 < t)
		*due = t - 100000000;
	*due += bytes * 1000000000ull / (kib_per_s << 10);
	if (*due > t)
		report_nap((*due - t) / 1000000);
}

/* Replaces the file as a whole, so that a reader never sees a part of it. */
__attribute__((format(printf, 2, 3))) static inline void report_line(const char *name,
                                                                     const char *fmt, ...)
{
	char path[64], new[64];
	va_list ap;
	FILE *f;

	snprintf(path, sizeof(path), "/run/%s", name);
	snprintf(new, sizeof(new), "/run/%s.new", name);
	f = fopen(new, "w");
	if (!f)
		return;
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fputc('\n', f);
	fclose(f);
	rename(new, path);
}

static inline void report_term(int sig)
{
	(void)sig;
	report_ending = 1;
}

/* In the background from here on; the parent has ended with 0. */
static inline void report_daemon(const char *name)
{
	struct sigaction sa = { .sa_handler = report_term };
	pid_t pid = fork();
	char path[64];
	FILE *f;
	int fd;

	if (pid) {
		snprintf(path, sizeof(path), "/run/%s.pid", name);
		f = pid < 0 ? NULL : fopen(path, "w");
		if (!f) {
			perror(name);
			exit(1);
		}
		fprintf(f, "%d\n", (int)pid);
		fclose(f);
		exit(0);
	}
	setsid();
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
}

static inline int report_read(const char *name, const char *what, char *line, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/run/%s%s", name, what);
	f = fopen(path, "r");
	line[0] = 0;
	if (!f || !fgets(line, size, f)) {
		fprintf(stderr, "%s: %s: %s\n", name, path, f ? "empty" : strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	fclose(f);
	return 0;
}

/* "status": prints the line. "finish": has it end, waits for that, prints the last line. 0 when
 * all is well, 1 when something was found wrong or the program is gone without a result. */
static inline int report_ask(const char *name, const char *verb)
{
	int finish = !strcmp(verb, "finish");
	char line[512], number[32];
	pid_t pid;

	if (report_read(name, ".pid", number, sizeof(number)))
		return 1;
	pid = atoi(number);
	if (finish && kill(pid, SIGTERM) && errno != ESRCH) {
		perror(name);
		return 1;
	}
	while (finish && !kill(pid, 0))
		report_nap(20);
	if (report_read(name, "", line, sizeof(line)))
		return 1;
	fputs(line, stdout);
	if (strstr(line, "result=bad"))
		return 1;
	if (strstr(line, "result=ok"))
		return 0;
	if (kill(pid, 0)) {
		printf("%s: gone without a result\n", name);
		return 1;
	}
	return 0;
}

#endif
