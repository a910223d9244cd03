/* SPDX-License-Identifier: Apache-2.0 */
/* Sits between the two sides of a live migration, reads frames, and does harm to one of them. */
#ifndef FAKE_WIRE_H
#define FAKE_WIRE_H

#include "migration/frame.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { TO_DESTINATION, TO_SOURCE };

enum harm {
	HARM_NONE,
	HARM_FLIP_HEADER, /* the bit numbered `bit`, modulo the header's length */
	HARM_FLIP_PAYLOAD,
	HARM_CUT_BEFORE, /* both directions end, as when a host dies */
	HARM_CUT_AFTER,
	HARM_CUT_AT,      /* after `offset` bytes in this direction */
	HARM_KILL_BEFORE, /* SIGKILL to `victim`, whose sockets the kernel closes */
	HARM_KILL_AFTER,
	HARM_HOLD, /* this frame and all behind it are kept back; the connection stands */
};

struct wire {
	/* the plan: to the nth (from 0) frame of a type, or to an offset */
	enum harm harm;
	int direction;
	unsigned type, nth, bit;
	uint64_t offset;
	pid_t victim;

	/* what came of it: whole frames passed on, and as they were (atomic until wire_stop()) */
	bool done;
	unsigned passed[2][FRAME_TYPES];
	uint64_t bytes[2];

	char from[108], to[108];        /* where it listens; where it connects to */
	int listen_fd, stop_fd, fds[2]; /* to the destination, to the source */
	bool connected;
	pthread_t thread;
};

void wire_start(struct wire *w);
/* Both directions end at once. Any thread, while it is connected. */
void wire_cut(struct wire *w);
/* Waits until both sides have closed; if nobody ever connected, ends. */
void wire_stop(struct wire *w);

#endif
