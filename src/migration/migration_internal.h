/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the migration share. */
#ifndef MIGRATION_INTERNAL_H
#define MIGRATION_INTERNAL_H

#include "migration/migration.h"
#include "migration/progress.h"
#include "migration/sequence.h"
#include "migration/stats.h"
#include "migration/transport.h"

#include <pthread.h>

#define URI_MAX 512
#define REASON_MAX 256
#define DEGRADED_MAX 2048

struct migration {
	struct migration_host host;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t ended;
	bool active;
	bool incoming; /* what is, or last was, active */
	bool threaded; /* `thread` has to be joined */
	pthread_t thread;
	int cancel_fd; /* eventfd: readable once cancelled */
	bool cancelled;
	bool handed_over;               /* GO was said, or has come: nothing can be cancelled */
	bool gone;                      /* the destination has said that it runs the guest */
	char cancel_reason[REASON_MAX]; /* "": the user asked */
	enum migration_status status;
	struct stats stats;
	struct progress progress; /* of the outgoing one */
	struct gw_error error;    /* of the last that failed */
	/* What the destination said of devices that do not run there, a line each. */
	char degraded_there[DEGRADED_MAX];
	struct gw_migrate_params params;
	char uri[URI_MAX];
	int listen_fd; /* incoming */
	bool asleep;   /* the guest arrived paused: its passthrough devices do not run yet */
	bool waking;   /* they are being woken: nothing else begins */
};

/* Sets the status and tells of it. */
void migration_set_status(struct migration *mig, enum migration_status status);
/* Becomes active; -EBUSY. `threaded` later by migration_spawn. */
int migration_begin(struct migration *mig, bool incoming, struct gw_error *err);
int migration_spawn(struct migration *mig, void *(*run)(void *), const char *name,
                    struct gw_error *err);
/* No longer active. `err` NULL: it completed. Else it failed, or was cancelled by the user. */
void migration_finish(struct migration *mig, const struct gw_error *err);
/* No longer active, without a word: it did not even start, or is no migration but a save or
 * load, whose caller gets the result. */
void migration_call_off(struct migration *mig);
/* From here on cancelling is without effect. -ECANCELED: it came first; with err NULL it counts
 * for nothing, since the other side has decided. */
int migration_point_of_no_return(struct migration *mig, struct gw_error *err);
/* (D) The guest is here. Unless it runs, its passthrough devices sleep. */
void migration_arrives(struct migration *mig, bool run);
/* Takes no connection any more. */
void migration_stop_listening(struct migration *mig);
/* If it was cancelled, the error becomes what that was for. */
void migration_explain_cancel(struct migration *mig, struct gw_error *err);
/* Waits until all has left that does not come along; nothing of the sequence may have begun.
 * `tell`: as a status. What has left comes back when the migration has ended and the guest is still
 * here. */
int migration_let_leave(struct migration *mig, bool tell, struct gw_error *err);
/* (D) The event for a participant that does not run where it arrived, unless it says so itself
 * (trouble()). As sequence_watch.failed; `mig` is the opaque. */
void migration_tell_degraded(void *mig, const struct participant *p, enum phase phase,
                             const struct gw_error *err);
/* A snapshot of the parameters. */
struct gw_migrate_params migration_params(struct migration *mig);

void *outgoing_thread(void *migration);
void *incoming_thread(void *migration);

#endif
