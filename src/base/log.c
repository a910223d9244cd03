/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

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
