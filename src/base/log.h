/* SPDX-License-Identifier: Apache-2.0 */
/* A log with a sink that the owner supplies; without one, words go nowhere. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

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

/* For what a guest can make happen as often as it likes: LOG_LIMIT lines in LOG_WINDOW_MS. All zero
 * at first. */
#define LOG_LIMIT 10
#define LOG_WINDOW_MS 10000
struct log_limit {
	int64_t window_ms;
	unsigned count;
};

/* May this line be written? Any thread; two at once may let one line more pass. */
bool log_limit_pass(struct log_limit *limit);

#endif
