/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as values that gather context on their way up.
 *
 * The place that fails calls error_set() and returns its result; each caller
 * that knows something worth saying prefixes it with error_context(). Both
 * return the negative errno, so that one writes
 *     return error_set(err, -EINVAL, "bad length %u", n);
 *     return error_context(err, "frame %u", seq);
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "godwit.h"

#include <errno.h>

/* Fills err (NULL is fine) and returns code, which must be negative. */
int error_set(struct gw_error *err, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* As error_set, and appends ": " and the system's text for `code`. */
int error_set_sys(struct gw_error *err, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* As error_set, with an error class for QMP. */
int error_set_class(struct gw_error *err, int code, enum gw_error_class cls, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));

/* Puts "context: " before what is there; returns err's code (-EIO if err is NULL). */
int error_context(struct gw_error *err, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* Appends "; " and more to what is there: what was done about it, say. */
void error_append(struct gw_error *err, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

#endif
