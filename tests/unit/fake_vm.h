/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM of nothing but participants, for the tests of migration: RAM of two
 * MiB, a device with pre-copy data that writes to RAM until it is stopped,
 * and some that have one record each. Every call can be made to fail, or to
 * cancel. Whoever "runs" is counted, over all VMs that share a tally.
 */
#ifndef FAKE_VM_H
#define FAKE_VM_H

#include "base/log.h"
#include "migration/migration.h"
#include "vmm/participant.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_PAGES 384
#define FAKE_PARTS 9
#define FAKE_BASE 0x100000ull
/* RAM in two pieces, with a hole between them. */
#define FAKE_SPLIT 64
#define FAKE_HIGH 0x40000000ull

enum fake_op {
	OP_NONE,
	OP_PREPARE,
	OP_PENDING,
	OP_ITERATE,
	OP_QUIESCE,
	OP_STOP,
	OP_SAVE,
	OP_FINISH,
	OP_ANSWER_AGAIN,
	OP_ROLLBACK,
	OP_BEGIN_LOAD,
	OP_LOAD,
	OP_LOAD_PAGES,
	OP_MAP_FILE,
	OP_SETTLE,
	OP_ANSWER_DMA,
	OP_RUN,
	OP_DISCARD,
	/* the host's */
	OP_STOP_GUEST,
	OP_BUILD,
	OP_HANDED_OVER,
	OP_CLAIM,
	FAKE_OPS
};
const char *fake_op_name(enum fake_op op);

/* How many run, now and at most; in memory that processes may share. */
struct tally {
	int now, most;
};

/* Where each stands; what a guest would find out about. */
enum fake_state {
	AT_REST, /* runs, or is as new: nothing under way */
	PREPARED,
	QUIESCED,
	STOPPED,
	LOADING,
	SETTLED,
	ANSWERS,
	RUNS,
	DISCARDED,
	FINISHED,
};

struct fake_part {
	struct participant p;
	struct participant_ops ops;
	struct fake_vm *vm;
	enum fake_state state;
	uint64_t value;    /* what the record carries */
	unsigned sent;     /* device: records of pre-copy; boot: sent */
	unsigned received; /* device: records */
	bool ended;        /* device: the last record came */
};

struct fake_vm {
	struct migration *mig;
	struct log log;
	struct tally *tally;
	struct participant_list list;
	struct fake_part parts[FAKE_PARTS];
	uint8_t *mem;
	bool logged[FAKE_PAGES], dirty[FAKE_PAGES], tracking;
	bool destination;
	bool complete; /* has a machine */

	/* what to do, and where */
	enum fake_op fail_op, cancel_op;
	const char *fail_at; /* NULL: at the first that comes */
	enum fake_op fail_too;
	const char *blocker, *live_blocker;
	unsigned dirty_per_sync, build_ms;
	unsigned last_dirty; /* pages that the last look found */
	unsigned passes;     /* the last MIGRATION_PASS; UINT_MAX: they were not told one by one */
	bool hold_load;      /* the device takes nothing until this is false (atomic) */
	bool never_converges;
	void (*at_hand_over)(void *opaque); /* before GO; or NULL */
	void *hand_over_opaque;

	/* what came of it */
	bool runs, was_running, handed_over, abandoned, started;
	char trace[16384];
	char events[2048];   /* of MIGRATION */
	char degraded[2048]; /* of DEVICE_DEGRADED */
	char logged_text[2048];
	pthread_mutex_t lock; /* these texts, fail_op and fail_at */
};

/* A source has its machine and, with `runs`, a guest that runs; a destination is empty. */
struct fake_vm *fake_vm_new(struct tally *tally, bool destination, bool runs);
void fake_vm_free(struct fake_vm *vm);
struct fake_part *fake_part(struct fake_vm *vm, const char *name);
/* While it runs: this is in its trace; from now on this fails there. */
bool fake_vm_did(struct fake_vm *vm, const char *what);
void fake_vm_fail(struct fake_vm *vm, enum fake_op op, const char *at);
/* All participants are in this state. */
bool fake_vm_all(const struct fake_vm *vm, enum fake_state state);
/* All that moves with the vCPUs is ready, and what can move by itself has not begun to. */
bool fake_vm_asleep(const struct fake_vm *vm);
/* What a guest could see is the same in both. */
bool fake_vm_same(const struct fake_vm *a, const struct fake_vm *b);
/* The "status" of query-migrate, "error-desc" ("" without); static buffers of the VM's thread. */
const char *fake_vm_status(struct fake_vm *vm);
const char *fake_vm_error(struct fake_vm *vm);

#endif
