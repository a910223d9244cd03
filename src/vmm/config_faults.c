/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config_internal.h"

#include "base/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Left for what callers put before the text, and for "; and 123456 more". */
#define RESERVE 160

void config_faults_begin(struct config_faults *faults, const char *name, struct gw_error *err)
{
	const size_t size = sizeof(faults->text.text) - RESERVE;
	const size_t used = strlen(name);

	*faults = (struct config_faults){ .name = name, .err = err };
	faults->room = used < size / 2 ? size - used : size / 2;
}

static void add(struct config_faults *faults, int code, const char *format, va_list ap)
{
	char *text = faults->text.text;
	const size_t len = strlen(text);
	char one[sizeof(faults->text.text)];

	vsnprintf(one, sizeof(one), format, ap);
	if (!faults->count++) {
		faults->text.code = code;
		snprintf(text, faults->room, "%s", one);
	} else if (len + 2 + strlen(one) < faults->room) {
		snprintf(text + len, faults->room - len, "; %s", one);
	} else {
		faults->left_out++;
	}
}

void config_fault(struct config_faults *faults, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	add(faults, -EINVAL, format, ap);
	va_end(ap);
}

void config_fault_code(struct config_faults *faults, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	add(faults, code, format, ap);
	va_end(ap);
}

int config_faults_end(struct config_faults *faults)
{
	if (!faults->count)
		return 0;
	if (faults->left_out)
		error_append(&faults->text, "and %u more", faults->left_out);
	/* Keys and values may hold anything; an error is one line. */
	for (char *c = faults->text.text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	error_context(&faults->text, "%s", faults->name);
	if (faults->err)
		*faults->err = faults->text;
	return faults->text.code;
}
