/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/logger.h"

#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* There is room again: the line goes where the lost ones would have been. */
static void on_lost(void *opaque, int error, uint64_t pieces, uint64_t bytes)
{
	struct logger *l = opaque;
	char text[80];

	(void)bytes;
	if (error)
		return;
	snprintf(text, sizeof(text), "%llu lines of the log were lost: it was not written in time",
	         (unsigned long long)pieces);
	logger_line(l, "warning: ", text);
}

void logger_open(struct logger *l)
{
	const int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	struct gw_error err;

	l->file = NULL;
	if (fd >= 0 && file_writer_create(fd, "log", on_lost, l, &l->file, &err) < 0)
		l->file = NULL;
}

void logger_line(struct logger *l, const char *prefix, const char *text)
{
	char line[1300];
	int n = snprintf(line, sizeof(line), "godwit: %s%s\n", prefix, text);

	if (n < 0)
		return;
	if ((size_t)n >= sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	if (l->file)
		file_writer_put(l->file, line, (size_t)n);
	else
		fputs(line, stderr);
}

void logger_flush(struct logger *l)
{
	if (l->file)
		file_writer_flush(l->file);
}

void logger_close(struct logger *l)
{
	file_writer_destroy(l->file);
	l->file = NULL;
}
