/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP's wire: requests out of a stream of bytes, replies and events as lines.
 *
 * A request is a JSON object. It ends where its brackets close, or at the end
 * of the line, so that one that is broken costs a line and not the connection.
 * An ASCII control character other than tab, CR and LF throws away what has
 * come of the present request. Lines sent are ASCII and end in CR LF.
 */
#ifndef CONTROL_WIRE_H
#define CONTROL_WIRE_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* The one capability: out-of-band execution. */
#define WIRE_OOB "oob"
#define WIRE_REQUEST_MAX 1048576
#define WIRE_REQUEST_MAX_TEXT "1048576"

/* What has come and is not yet dealt with. All zero: empty. */
struct wire {
	char *buf;
	size_t room, len;
	size_t start; /* of the present request */
	size_t scanned;
	unsigned depth; /* open brackets */
	bool in_string, escaped;
	bool skipping; /* the rest of a request that was too long */
};

enum wire_next {
	WIRE_MORE,     /* no whole request is there */
	WIRE_REQUEST,  /* one is, in *text and *len; valid until wire_feed() */
	WIRE_TOO_LONG, /* one was longer than WIRE_REQUEST_MAX; told once for each */
};

int wire_feed(struct wire *wire, const void *data, size_t len);
enum wire_next wire_next(struct wire *wire, const char **text, size_t *len);
void wire_free(struct wire *wire);

struct wire_request {
	cJSON *root;            /* owns the others */
	const char *command;    /* "execute" or "exec-oob" */
	bool oob;               /* the latter */
	const cJSON *arguments; /* an object, or NULL */
	cJSON *id;              /* any JSON, or NULL; as it was written */
};

/* On error `root` and `id` are still there if there was any. -EINVAL. */
int wire_parse(const char *text, size_t len, struct wire_request *out, struct gw_error *err);
void wire_request_free(struct wire_request *request);

/* Lines to send, CR LF included, released with free(). They take hold of ret and id, which may
 * be NULL. NULL: out of memory. */
char *wire_greeting(void);
char *wire_return(cJSON *ret, cJSON *id);
char *wire_error(const char *cls, const char *text, cJSON *id);
char *wire_event(const struct gw_event *event);

/* QMP's word for a class of errors. */
const char *wire_error_class(enum gw_error_class cls);
/* The version as the greeting has it and query-version returns it. */
cJSON *wire_version(void);

#endif
