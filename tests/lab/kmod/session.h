/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A data session: the file that a state is read from (STOP_COPY) or written to (RESUMING). The
 * user may keep the file for longer than the session lasts; then it gives errors.
 */
#ifndef GODWIT_E1000E_SESSION_H
#define GODWIT_E1000E_SESSION_H

#include "card.h"

#include <linux/fs.h>
#include <linux/mutex.h>

struct session {
	struct file *file; /* which owns this struct */
	struct mutex lock;
	bool over;
	size_t at, filled, size;
	struct card_state *state;
};

/* The owner has one reference to the file, and takes another for whom it hands it to. */
struct session *session_create(bool saving);
/* After which *session is NULL. */
void session_end(struct session **session);

#endif
