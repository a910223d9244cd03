/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dump of guest memory: at most one at a time, on the thread that asks for
 * it or on one of its own. The last one is remembered for query-dump.
 *
 * Any thread. dumper_init() makes it, dumper_end() waits for what runs.
 */
#ifndef CONTROL_DUMPER_H
#define CONTROL_DUMPER_H

#include "godwit.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum dumper_status { DUMPER_NONE, DUMPER_ACTIVE, DUMPER_COMPLETED, DUMPER_FAILED };

struct dumper {
	struct gw_vm *vm;
	/* DUMP_COMPLETED, of a dump on a thread of its own. */
	void (*event)(void *opaque, const struct gw_event *event);
	void *opaque;
	pthread_mutex_t thread_lock; /* guards the thread; taken before `lock` */
	pthread_t thread;
	bool joinable;
	pthread_mutex_t lock; /* guards all below */
	enum dumper_status status;
	int fd;     /* while ACTIVE */
	char *path; /* while ACTIVE: the file that was made for it; NULL: none was */
	uint64_t completed, total;
};

void dumper_init(struct dumper *dumper, struct gw_vm *vm,
                 void (*event)(void *opaque, const struct gw_event *event), void *opaque);
void dumper_end(struct dumper *dumper);

/* Takes fd over in every case. `path` is the file if it was made for this, and is removed if the
 * dump fails; NULL: it was not. With `detach`, returns once it has begun. -EBUSY: one is under
 * way. */
int dumper_start(struct dumper *dumper, int fd, const char *path, bool detach,
                 struct gw_error *err);

/* As query-dump has it. NULL: out of memory. */
cJSON *dumper_describe(struct dumper *dumper);

#endif
