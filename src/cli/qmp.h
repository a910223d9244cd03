/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the control socket: one command at a time, and the events that come between. */
#ifndef CLI_QMP_H
#define CLI_QMP_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <stdint.h>

struct qmp;

/* Connects and negotiates. `where`, `tls_dir` and `deadline_ms` are as with stream_connect(). */
int qmp_connect(const char *where, const char *tls_dir, int64_t deadline_ms, struct qmp **out,
                struct gw_error *err);
void qmp_close(struct qmp *qmp);

/* Gets the events that come while a command's reply is waited for; without it they are passed
 * over. */
void qmp_on_event(struct qmp *qmp, void (*event)(void *opaque, const cJSON *event), void *opaque);

/* Sends a command and waits for its reply. `args` may be NULL and stays the caller's. -EREMOTEIO:
 * the command failed, and err says what the other end says. */
int qmp_command(struct qmp *qmp, const char *name, const cJSON *args, int64_t deadline_ms,
                cJSON **ret, struct gw_error *err);

/* The next event. -ETIMEDOUT; -ENODATA: the other end has closed the connection. */
int qmp_event(struct qmp *qmp, int64_t deadline_ms, cJSON **event, struct gw_error *err);

/* Readable when qmp_event() may have something. */
int qmp_fd(const struct qmp *qmp);

#endif
