/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration: moves a list of participants to another host, to a directory,
 * and back. It knows no device and no machine, only what `struct
 * migration_host` offers it.
 */
#ifndef MIGRATION_MIGRATION_H
#define MIGRATION_MIGRATION_H

#include "base/log.h"
#include "godwit.h"
#include "vmm/participant.h"

#include <stdbool.h>

struct migration;

/* The VM as migration sees it. Calls come from migration's own threads, or from within
 * snapshot_save() and snapshot_load(). */
struct migration_host {
	void *opaque;
	const struct log *log;

	/* (S) The participants; valid until the migration ends (no device comes or goes, once all
	 * have left that leave). */
	struct participant_list *(*participants)(void *opaque);
	/* Calls `look` with the participants, if there are any, while none can come or go. */
	void (*with_participants)(void *opaque,
	                          void (*look)(void *arg, const struct participant_list *list),
	                          void *arg);
	/* (S) Asks those that leave (struct participant) to do so: 1, or 0 if there are none. */
	int (*ask_to_leave)(void *opaque, struct gw_error *err);
	/* (S) Waits until they have; -ETIMEDOUT, with their names; -ECANCELED once cancel_fd is
	 * readable. Those that have not left are then to stay. */
	int (*await_leave)(void *opaque, int cancel_fd, uint64_t timeout_ms, struct gw_error *err);
	/* What was under way, here or from elsewhere, is over: nothing is active. What left may
	 * come back, if the guest is here. */
	void (*ended)(void *opaque);
	/* (S) The machine's configuration as JSON; released with free(). NULL: out of memory. */
	char *(*config)(void *opaque);
	/* (S) Stops the vCPUs for a switchover or a save; *was_running: they ran. The VM's state
	 * becomes `state`. Fails if the guest has meanwhile ended. */
	int (*stop_guest)(void *opaque, enum gw_state state, bool *was_running,
	                  struct gw_error *err);
	/* (S) Undoes stop_guest: runs or stays paused as before. */
	void (*resume_guest)(void *opaque);
	/* (S) From here on the guest may be running elsewhere. resume_guest() comes after it only
	 * where it is certain that the destination will not run it. */
	void (*handed_over)(void *opaque);

	/* (D) Makes the machine from a configuration that has arrived (the map of host
	 * resources applied) and gives its participants, in their power-on state. */
	int (*build)(void *opaque, const char *config, struct participant_list **out,
	             struct gw_error *err);
	/* (D) The guest is about to be this side's: takes what only one side may use, such as
	 * disks' locks. What cannot be taken is an error, and the guest does not run here. */
	int (*claim)(void *opaque, struct gw_error *err);
	/* (D) Shall the guest run here, if it did (or did not) before? NULL: as before. Asked once,
	 * before its devices run. */
	bool (*shall_run)(void *opaque, bool did);
	/* (D) Everything is loaded and the devices run: vCPUs run, or the VM is paused. */
	void (*start)(void *opaque, bool run);
	/* (D) Throws away what build() made. */
	void (*abandon)(void *opaque);

	/* Emits a QMP event, `data` a JSON object as text. */
	void (*event)(void *opaque, const char *name, const char *data);
};

int migration_create(const struct migration_host *host, struct migration **out,
                     struct gw_error *err);
/* Cancels and waits. */
void migration_destroy(struct migration *mig);

/* The calls behind gw_vm_migrate, gw_vm_incoming and the like; see godwit.h. */
int migration_start(struct migration *mig, const char *uri, struct gw_error *err);
int migration_listen(struct migration *mig, const char *uri, struct gw_error *err);
/* After a hand-over whose outcome is unknown here: the user has made sure that the destination's
 * process has ended without having run the guest, which is about to run here. Takes the
 * participants out of the state in which they were left; what one of them cannot do is logged.
 * -EBUSY; -EPERM: the destination has said that it runs the guest. */
int migration_take_back(struct migration *mig, struct gw_error *err);
/* A guest that arrived paused is about to run for the first time: its passthrough devices, which
 * have slept so far, run from now on. The host calls it with `list` its participants, before the
 * vCPUs run. -EBUSY: it is on its way elsewhere. */
int migration_wake(struct migration *mig, struct participant_list *list, struct gw_error *err);
/* `why` NULL: the user asked; otherwise the migration fails for that reason. */
void migration_cancel(struct migration *mig, const char *why);
/* Waits until nothing is active. Not on a thread of migration's own. */
void migration_wait(struct migration *mig);
/* Outgoing or incoming, between its start and its end. */
bool migration_active(struct migration *mig);
int migration_query(struct migration *mig, char **json, struct gw_error *err);
int migration_set_params(struct migration *mig, const struct gw_migrate_params *params,
                         struct gw_error *err);
void migration_get_params(struct migration *mig, struct gw_migrate_params *params);

/* Synchronous, on the caller's thread; -EBUSY while a migration is active. With `let_leave` those
 * that leave do so first; otherwise they may be in the way, as any other. */
int migration_save(struct migration *mig, const char *dir, bool let_leave, struct gw_error *err);
int migration_load(struct migration *mig, const char *dir, bool run, struct gw_error *err);

#endif
