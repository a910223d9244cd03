/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines from somebody at a terminal, edited with libedit, which is loaded for
 * it: with history, with completion, and with news printed above the line
 * while it is typed. Without libedit, or without a terminal, plain lines.
 */
#ifndef CLI_CTL_LINE_H
#define CLI_CTL_LINE_H

#include "cli/complete.h"
#include "godwit.h"

struct ctl_line;

struct ctl_line_calls {
	void *opaque;
	const char *prompt;
	/* What may follow on the line. */
	void (*complete)(void *opaque, const char *line, size_t cursor, struct completions *out);
	int news_fd;
	/* news_fd is readable, and the cursor at the start of an empty line: prints what there is.
	 * < 0: no more lines are wanted. */
	int (*news)(void *opaque);
};

int ctl_line_create(const struct ctl_line_calls *calls, struct ctl_line **out,
                    struct gw_error *err);
void ctl_line_destroy(struct ctl_line *line);

/* The next line, valid until the next call; NULL: the end. */
const char *ctl_line_get(struct ctl_line *line);

#endif
