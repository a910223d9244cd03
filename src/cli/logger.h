/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a long-lived subcommand: lines on stderr, written by a thread of its own, so that the
 * virtual machine never waits for a file or a pipe that has stalled. Lines without room are
 * counted, and the log says how many. */
#ifndef CLI_LOGGER_H
#define CLI_LOGGER_H

#include "base/file_writer.h"

struct logger {
	struct file_writer *file; /* NULL: lines are written at once */
};

/* Where there are no threads to be had lines are written at once. */
void logger_open(struct logger *l);
/* "godwit: PREFIX" and TEXT as one line. Any thread. */
void logger_line(struct logger *l, const char *prefix, const char *text);
/* What is logged so far is on stderr, unless that has stalled: before a last word to the user. */
void logger_flush(struct logger *l);
void logger_close(struct logger *l);

#endif
