/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that clients have handed over: by name (getfd), or in numbered
 * sets whose members are one file opened in several ways (add-fd). The VM gets
 * each under its name, a set as "/dev/fdset/N".
 *
 * Any thread. fds_init() makes it, fds_close() closes all.
 */
#ifndef CONTROL_FDS_H
#define CONTROL_FDS_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdint.h>

#define FDS_MAX 256
#define FDSET_MAX INT32_MAX

struct fds_entry;

struct fds {
	struct gw_vm *vm;
	pthread_mutex_t lock;
	struct fds_entry *list; /* the newest first */
	unsigned count;
};

void fds_init(struct fds *fds, struct gw_vm *vm);
void fds_close(struct fds *fds);

/* Gives `fd` a name, in place of what had it. Takes fd over if it succeeds. -EINVAL (the name),
 * -EMFILE (there are FDS_MAX). */
int fds_name(struct fds *fds, const char *name, int fd, struct gw_error *err);
/* Takes the name back. -ENOENT. */
int fds_drop(struct fds *fds, const char *name, struct gw_error *err);
/* As fds_drop, and the descriptor is the caller's: its number, or -ENOENT. */
int fds_take(struct fds *fds, const char *name, struct gw_error *err);

/* Puts `fd` into set *set, -1: a new one, whose number it becomes. Takes fd over if it succeeds. */
int fds_add(struct fds *fds, int64_t *set, int fd, const char *opaque, struct gw_error *err);
/* Takes `fd` out of a set, -1: all that it has. -ENOENT. */
int fds_remove(struct fds *fds, int64_t set, int64_t fd, struct gw_error *err);
/* The sets as query-fdsets has them. NULL: out of memory. */
cJSON *fds_describe(struct fds *fds);

#endif
