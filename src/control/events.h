/* SPDX-License-Identifier: Apache-2.0 */
/* The events that there are, for query-events, query-qmp-schema and for people. */
#ifndef CONTROL_EVENTS_H
#define CONTROL_EVENTS_H

#include "control/args.h"

struct event_kind {
	const char *name;       /* NULL ends the table */
	const struct arg *data; /* NULL: none */
	bool limited;           /* a guest may cause any number of them: at most one a second */
	const char *help;
};

extern const struct event_kind control_events[];

/* NULL: it is not in the table. */
const struct event_kind *event_find(const char *name);

#endif
