/* SPDX-License-Identifier: Apache-2.0 */
#include "control/job.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "base/thread.h"

#include <string.h>

#define NOT_FOUND "CommandNotFound"

struct job *job_create(const char *text, size_t len, struct inbox *inbox)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->call.fd = -1;
	job->result = wire_parse(text, len, &job->request, &job->error);
	if (job->result < 0)
		return job;
	job->command = command_find(job->request.command);
	if (job->command && job->command->flags & COMMAND_TAKES_FD)
		job->call.fd = inbox_take(inbox);
	return job;
}

struct job *job_create_failed(int code, const char *text)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->call.fd = -1;
	job->result = error_set(&job->error, code, "%s", text);
	return job;
}

void job_free(struct job *job)
{
	if (!job)
		return;
	job_wait(job);
	cJSON_Delete(job->call.ret);
	wire_request_free(&job->request);
	if (job->call.fd >= 0)
		close(job->call.fd);
	free(job);
}

/* ---- may it? -------------------------------------------------------------------------------- */

/* What is refused out of band waits for its turn, so that the error has its place. */
bool job_is_oob(const struct job *job, const struct job_rights *rights)
{
	return job->result >= 0 && job->request.oob && rights->oob && job->request.id &&
	       job->command && job->command->flags & COMMAND_OOB;
}

static int not_found(struct job *job, const char *why)
{
	job->cls = NOT_FOUND;
	return error_set(&job->error, -ENOENT, "%s: %s", job->request.command, why);
}

static int check_turn(struct job *job, const struct job_rights *rights)
{
	const struct command *command = job->command;
	const bool ends_negotiation = command && command->flags & COMMAND_NEGOTIATE;

	if (!rights->negotiated && !ends_negotiation)
		return not_found(job, "qmp_capabilities has to come first");
	if (!command)
		return not_found(job, "there is no such command");
	if (rights->negotiated && ends_negotiation)
		return not_found(job, "the negotiation is over");
	if (command->flags & COMMAND_REFUSED)
		return not_found(job, command->help);
	return 0;
}

static int check_oob(struct job *job, const struct job_rights *rights)
{
	const char *name = job->request.command;

	if (!job->request.oob)
		return 0;
	if (!rights->oob)
		return error_set(&job->error, -EINVAL,
		                 "%s: qmp_capabilities has not enabled out-of-band execution",
		                 name);
	if (!(job->command->flags & COMMAND_OOB))
		return error_set(&job->error, -EINVAL, "%s: cannot be executed out of band", name);
	if (!job->request.id)
		return error_set(&job->error, -EINVAL,
		                 "%s: an \"id\" is needed for what is executed out of band", name);
	return 0;
}

static int check(struct job *job, const struct job_rights *rights)
{
	int r = check_turn(job, rights);

	if (!r)
		r = check_oob(job, rights);
	if (!r)
		r = args_check(job->request.arguments, job->command->args,
		               job->command->flags & COMMAND_OPEN, job->command->name, &job->error);
	return r;
}

/* ---- doing it ------------------------------------------------------------------------------- */

static void *job_thread(void *opaque)
{
	struct job *job = opaque;
	const int wake_fd = job->wake_fd;

	job->result = job->command->run(&job->call, &job->error);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);
	io_eventfd_signal(wake_fd);
	return NULL;
}

bool job_run(struct job *job, const struct job_rights *rights, struct gw_vm *vm, struct hub *hub,
             int wake_fd)
{
	int r = job->result < 0 ? job->result : check(job, rights);

	job->call.vm = vm;
	job->call.hub = hub;
	job->call.args = job->request.arguments;
	job->wake_fd = wake_fd;
	if (r >= 0 && job->command->flags & COMMAND_INLINE)
		r = job->command->run(&job->call, &job->error);
	else if (r >= 0) {
		r = thread_start(&job->thread, job_thread, job, "godwit-command");
		job->on_thread = !r;
		if (!r)
			return false;
		error_set_sys(&job->error, r, "%s: no thread for it", job->command->name);
	}
	job->result = r;
	job->done = true;
	return true;
}

bool job_is_done(const struct job *job)
{
	return __atomic_load_n(&job->done, __ATOMIC_ACQUIRE);
}

void job_wait(struct job *job)
{
	if (job->on_thread)
		pthread_join(job->thread, NULL);
	job->on_thread = false;
}

char *job_reply(struct job *job)
{
	cJSON *id = cJSON_DetachItemViaPointer(job->request.root, job->request.id);
	const char *cls = job->cls ? job->cls : wire_error_class(job->error.cls);

	job->request.id = NULL;
	if (job->result >= 0)
		return wire_return(take_ptr(&job->call.ret), id);
	return wire_error(cls, job->error.text, id);
}
