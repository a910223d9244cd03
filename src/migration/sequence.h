/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of things: one table of phases (sequence.c), and the engine that
 * runs a phase over all participants and undoes what was begun.
 */
#ifndef MIGRATION_SEQUENCE_H
#define MIGRATION_SEQUENCE_H

#include "base/log.h"
#include "vmm/participant.h"

enum phase {
	/* source */
	PHASE_PREPARE,
	PHASE_ITERATE,
	PHASE_QUIESCE,
	PHASE_STOP,
	PHASE_SAVE,
	PHASE_FINISH,
	PHASE_ANSWER_AGAIN,
	PHASE_ROLLBACK,
	/* destination */
	PHASE_BEGIN_LOAD,
	PHASE_LOAD,
	PHASE_SETTLE,
	PHASE_ANSWER_DMA,
	PHASE_RUN,
	PHASE_DISCARD,
	PHASES
};
const char *phase_name(enum phase phase);

/* Told of what participants do and say; on several threads at once. May be NULL each. */
struct sequence_watch {
	void *opaque;
	void (*called)(void *opaque, const struct participant *p, enum phase phase, int64_t us);
	void (*pending)(void *opaque, const struct participant *p,
	                const struct participant_pending *pending);
	/* It failed, and the phase went on past it. */
	void (*failed)(void *opaque, const struct participant *p, enum phase phase,
	               const struct gw_error *err);
};

struct sequence {
	const struct log *log;
	struct participant_list *list;
	struct sink *sink; /* source */
	struct sequence_watch watch;
	bool live;    /* source: the guest runs at first, iterate() is called */
	bool goes_on; /* source: after finish the guest goes on here */
	/* Passthrough devices sleep: source: since the guest arrived paused, they have not run
	 * here yet; they are read as they are, and sleep on. Destination: the guest is to stay
	 * paused; they are left to sequence_wake(). */
	bool asleep;
	bool waking;       /* within sequence_wake() */
	bool begun;        /* there is something to undo */
	bool paused;       /* PHASE_ITERATE: the sink stopped it before all were through */
	struct crew *crew; /* threads for what goes side by side, from the first phase on */
};

/* Gives back what the first phase has taken; also where there was none. */
void sequence_end(struct sequence *s);

/* Runs one phase over all participants, class by class as the table says, and where the table
 * says so all of a class at once. On failure the error is "NAME: PHASE: cause" of the first that
 * failed, all calls begun have returned, and the caller goes to sequence_undo(). */
int sequence_run(struct sequence *s, enum phase phase, struct gw_error *err);

/* Are participants of this class called side by side in this phase? */
bool sequence_side_by_side(enum phase phase, enum participant_class class);

/* Takes back all that was begun: the phase that the table names as the undoing one of the last
 * phase run, and what that one names, over all participants. Goes on where one fails; such failures
 * are logged and appended to `err`, whose first words stay those of the first failure. */
void sequence_undo(struct sequence *s, enum phase failed, struct gw_error *err);

/* Runs a phase over all participants, whatever fails: for what cannot be undone any more.
 * Failures are logged and appended to `err`. */
void sequence_run_all(struct sequence *s, enum phase phase, struct gw_error *err);

/* What an earlier sequence left asleep answers DMA, then runs; what fails is logged, and told to
 * `watch`. */
void sequence_wake(const struct log *log, struct participant_list *list,
                   const struct sequence_watch *watch);

/* All that is still to be sent; `not_yet` if any says so. */
int sequence_pending(struct sequence *s, enum pending_effort effort,
                     struct participant_pending *out, struct gw_error *err);

/* The reason why a participant cannot be saved, or moved, or NULL. Calls `each` for all of them
 * where it is given. */
enum {
	SEQUENCE_LIVE = 1,      /* moved, while its guest runs */
	SEQUENCE_MAY_LEAVE = 2, /* those that leave before stand in nobody's way */
};
const char *sequence_blocker(const struct participant_list *list, unsigned how,
                             void (*each)(void *opaque, const char *why), void *opaque);

#endif
