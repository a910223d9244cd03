/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set_text(struct gw_error *err, const char *format, va_list ap)
{
	vsnprintf(err->text, sizeof(err->text), format, ap);
}

int error_set(struct gw_error *err, int code, const char *format, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	err->cls = GW_ERROR_GENERIC;
	va_start(ap, format);
	set_text(err, format, ap);
	va_end(ap);
	return code;
}

int error_set_sys(struct gw_error *err, int code, const char *format, ...)
{
	char buf[128];
	size_t len;
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	err->cls = GW_ERROR_GENERIC;
	va_start(ap, format);
	set_text(err, format, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s",
	         strerror_r(-code, buf, sizeof(buf)));
	return code;
}

int error_set_class(struct gw_error *err, int code, enum gw_error_class cls, const char *format,
                    ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	err->cls = cls;
	va_start(ap, format);
	set_text(err, format, ap);
	va_end(ap);
	return code;
}

int error_context(struct gw_error *err, const char *format, ...)
{
	char inner[sizeof(err->text)];
	size_t len;
	va_list ap;

	if (!err)
		return -EIO;
	memcpy(inner, err->text, sizeof(inner));
	va_start(ap, format);
	set_text(err, format, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", inner);
	return err->code;
}

void error_append(struct gw_error *err, const char *format, ...)
{
	size_t len;
	va_list ap;

	if (!err)
		return;
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, "; ");
	len = strlen(err->text);
	va_start(ap, format);
	vsnprintf(err->text + len, sizeof(err->text) - len, format, ap);
	va_end(ap);
}
