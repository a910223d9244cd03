/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first: how long a program takes, from exec, to print a text.
 *
 *   first SECONDS TEXT PROGRAM ARG...     prints milliseconds; kills the program then
 *
 * The program's standard input stays open and silent. Fails when the program ends, or SECONDS are
 * over, before the text has come.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Waits for `text` among what comes from fd. */
static int wait_for(int fd, const char *text, double deadline)
{
	static char buf[1 << 20];
	size_t have = 0;

	while (have < sizeof(buf) - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int left = (int)(deadline - now());
		ssize_t n;

		if (left <= 0 || poll(&p, 1, left) <= 0)
			break;
		n = read(fd, buf + have, sizeof(buf) - 1 - have);
		if (n <= 0)
			break;
		have += n;
		buf[have] = 0;
		if (memmem(buf, have, text, strlen(text)))
			return 0;
	}
	fprintf(stderr, "first: no '%s' but: %s\n", text, buf);
	return -1;
}

int main(int argc, char **argv)
{
	int in[2], out[2], r;
	double began, came;
	pid_t pid;

	if (argc < 4 || atof(argv[1]) <= 0) {
		fprintf(stderr, "usage: first SECONDS TEXT PROGRAM ARG...\n");
		return 2;
	}
	if (pipe(in) || pipe(out)) {
		perror("first: pipe");
		return 1;
	}
	began = now();
	pid = vfork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		execv(argv[3], argv + 3);
		_exit(127);
	}
	close(out[1]);
	r = pid < 0 ? -1 : wait_for(out[0], argv[2], began + atof(argv[1]) * 1e3);
	came = now();
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (r < 0)
		return 1;
	printf("%.2f\n", came - began);
	return 0;
}
