/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the control socket: one command at a time, and the events that come between. */
#ifndef CLI_QMP_H
#define CLI_QMP_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <stdint.h>

struct qmp;

/* `deadline_ms` is a time of now_ms(), -1: none. With one, a socket that is not there yet is
 * waited for. Connects and negotiates. */
int qmp_connect(const char *path, int64_t deadline_ms, struct qmp **out, struct gw_error *err);
void qmp_close(struct qmp *qmp);

/* Sends a command and waits for its reply, passing over events. `args` may be NULL and stays
 * the caller's. -EREMOTEIO: the command failed, and err says what the other end says. */
int qmp_command(struct qmp *qmp, const char *name, const cJSON *args, int64_t deadline_ms,
                cJSON **ret, struct gw_error *err);

/* The next event. -ETIMEDOUT; -ENODATA: the other end has closed the connection. */
int qmp_event(struct qmp *qmp, int64_t deadline_ms, cJSON **event, struct gw_error *err);

#endif
