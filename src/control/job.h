/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request, from its text to the line that answers it. What may wait for
 * the VM runs on a thread of its own, so that the server's thread serves the
 * other clients meanwhile.
 */
#ifndef CONTROL_JOB_H
#define CONTROL_JOB_H

#include "control/command.h"
#include "control/inbox.h"
#include "control/wire.h"

#include <pthread.h>
#include <stdbool.h>

struct job {
	struct job *next; /* the owner's */
	struct wire_request request;
	const struct command *command; /* NULL: there is none of that name */
	struct call call;
	int result;
	const char *cls; /* of an error; NULL: error's */
	struct gw_error error;
	int wake_fd; /* signalled at the thread's end */
	pthread_t thread;
	bool on_thread; /* and not joined yet */
	bool done;      /* its thread touches it no more */
};

/* What the client has agreed to so far. */
struct job_rights {
	bool negotiated;
	bool oob;
};

/* Reads a request; a fault in it is the job's result. A descriptor that its command takes comes out
 * of the inbox. NULL: out of memory. */
struct job *job_create(const char *text, size_t len, struct inbox *inbox);
/* A job that has failed already. */
struct job *job_create_failed(int code, const char *text);
/* Waits for its thread. NULL is fine. */
void job_free(struct job *job);

/* May it be executed out of band, as it asks for? Then it need not wait for others. */
bool job_is_oob(const struct job *job, const struct job_rights *rights);

/* Carries it out, or finds why that cannot be. True: it is done; false: its thread has begun, and
 * signals wake_fd. */
bool job_run(struct job *job, const struct job_rights *rights, struct gw_vm *vm, struct hub *hub,
             int wake_fd);
bool job_is_done(const struct job *job);
void job_wait(struct job *job);

/* The reply to a job that is done, once. NULL: out of memory. */
char *job_reply(struct job *job);

#endif
