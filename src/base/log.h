/* SPDX-License-Identifier: Apache-2.0 */
/* A log with a sink that the owner supplies; without one, words go nowhere. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "godwit.h"

struct log {
	void *opaque;
	void (*write)(void *opaque, enum gw_log_level level, const char *text);
};

/* Formats one line (no newline) and hands it to the sink. `log` may be NULL. Any thread. */
void log_write(const struct log *log, enum gw_log_level level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#define log_error(log, ...) log_write(log, GW_LOG_ERROR, __VA_ARGS__)
#define log_warn(log, ...) log_write(log, GW_LOG_WARN, __VA_ARGS__)
#define log_info(log, ...) log_write(log, GW_LOG_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_write(log, GW_LOG_DEBUG, __VA_ARGS__)

#endif
