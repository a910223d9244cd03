/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places for clients. When all are taken, one more client that runs as the server's user gets the
 * reserved place, so that an operator can still give a command; after that, the idle client that
 * has been silent for longest makes room. Whoever has the reserved place keeps it until its first
 * command has been answered.
 */
#ifndef CONTROL_PLACES_H
#define CONTROL_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLACES_COMMON 32
#define PLACE_RESERVED PLACES_COMMON
#define PLACES (PLACES_COMMON + 1)
/* The reserved place is kept for so long for one that gives no command. */
#define PLACE_FIRST_COMMAND_MS 10000

/* What is known of a peer before it has said anything. */
enum peer_kind {
	PEER_OWNER, /* the user we run as, or root */
	PEER_GROUP, /* another user, of the group that is let in */
	PEER_REMOTE /* its certificate has yet to be checked */
};

/* What a client is doing. */
struct standing {
	bool taken;        /* false: the place is free */
	bool idle;         /* no command of it is under way, or known to be on its way */
	bool shaking;      /* hands: it has shown no certificate yet */
	bool served;       /* it has been answered a command */
	int64_t came_ms;   /* when it connected */
	int64_t active_ms; /* when it last said or took something */
};

/* The place for a new client; -1: there is none. Who has the place, if it is taken, has to go. */
int place_choose(const struct standing all[PLACES], enum peer_kind kind, int64_t now_ms);

#endif
