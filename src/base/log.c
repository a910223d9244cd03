/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>

void log_write(const struct log *log, enum gw_log_level level, const char *format, ...)
{
	char text[1200];
	va_list ap;

	if (!log || !log->write)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log->write(log->opaque, level, text);
}

bool log_limit_pass(struct log_limit *limit)
{
	const int64_t now = now_ms();

	if (now - __atomic_load_n(&limit->window_ms, __ATOMIC_RELAXED) >= LOG_WINDOW_MS) {
		__atomic_store_n(&limit->window_ms, now, __ATOMIC_RELAXED);
		__atomic_store_n(&limit->count, 0, __ATOMIC_RELAXED);
	}
	return __atomic_fetch_add(&limit->count, 1, __ATOMIC_RELAXED) < LOG_LIMIT;
}
