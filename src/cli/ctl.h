/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `godwit ctl` share: a conversation, and how answers are printed. */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include "cli/qmp.h"
#include "godwit.h"

#include <stdbool.h>

struct ctl {
	struct qmp *qmp;
	const char *where;
	const char *tls_dir;
	int64_t deadline_ms; /* -1: none */
	bool human;          /* print for people */
	const char *word;    /* the command, or the event to wait for */
	const cJSON *values; /* KEY=VALUE... */
};

/* On stdout: one line of JSON, or with `human` as many as it takes. */
int ctl_print(const struct ctl *ctl, const cJSON *json, struct gw_error *err);
/* An event: with `human`, one line. */
int ctl_print_event(const struct ctl *ctl, const cJSON *event, struct gw_error *err);
/* One of the verbs of the command line, or a command of the other end. -EINVAL: wrong words. */
int ctl_do(struct ctl *ctl, char *const *words, int count, struct gw_error *err);

/* Commands from stdin until it ends, at a prompt if it is a terminal. CLI_FAILED if one failed
 * and nobody saw it. */
int ctl_prompt(struct ctl *ctl);

#endif
