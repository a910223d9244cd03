/* SPDX-License-Identifier: Apache-2.0 */
#include "control/client.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "control/command.h"
#include "control/wire.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define READ_CHUNK 16384
/* No further request is taken while more than this waits to be sent. */
#define OUT_ENOUGH (64 * 1024)

/* A command under way. `done` says that its thread touches it no more. */
struct job {
	struct client *client;
	const struct command *command;
	struct wire_request request;
	pthread_t thread;
	cJSON *ret;
	int result;
	struct gw_error error;
	bool done;
	bool joined;
};

struct client {
	const struct client_host *host;
	void (*gone)(void *opaque, struct client *client);
	void *opaque;
	int fd;
	struct loop_watch *watch; /* NULL: nothing to wait for */
	uint32_t watched;
	struct wire in;
	char *out;
	size_t out_room, out_len, out_sent;
	bool negotiated;
	bool eof;     /* nothing more comes */
	bool muted;   /* nothing more can be sent */
	bool dead;    /* to be dropped */
	bool closing; /* the server ends: no further requests */
	struct job *job;
};

static size_t unsent(const struct client *client)
{
	return client->out_len - client->out_sent;
}

/* ---- sending ------------------------------------------------------------------------- */

static void flush(struct client *client)
{
	while (!client->muted && unsent(client)) {
		ssize_t n = send(client->fd, client->out + client->out_sent, unsent(client),
		                 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		/* Whoever closes right after a request still means it to be carried out. */
		if (n < 0)
			client->muted = true;
		else
			client->out_sent += (size_t)n;
	}
	client->out_len = client->out_sent = 0;
}

/* Sends a line as soon as the client takes it. NULL: there was no memory for it. */
static void queue(struct client *client, const char *line)
{
	const size_t len = line ? strlen(line) : 0;

	if (!line)
		client->dead = true;
	if (client->muted || client->dead)
		return;
	if (unsent(client) + len > CLIENT_OUT_MAX) {
		client->dead = true;
		return;
	}
	if (client->out_sent) {
		memmove(client->out, client->out + client->out_sent, unsent(client));
		client->out_len -= client->out_sent;
		client->out_sent = 0;
	}
	if (client->out_len + len > client->out_room) {
		size_t room = MAX(client->out_len + len, client->out_room * 2);
		char *more = realloc(client->out, room);

		if (!more) {
			client->dead = true;
			return;
		}
		client->out = more;
		client->out_room = room;
	}
	memcpy(client->out + client->out_len, line, len);
	client->out_len += len;
	flush(client);
}

/* The id is taken out of the request. */
static void reply(struct client *client, struct wire_request *request, int result, cJSON *ret,
                  const char *cls, const struct gw_error *error)
{
	cJSON *id = cJSON_DetachItemViaPointer(request->root, request->id);
	autofree char *line = NULL;

	if (result < 0) {
		cJSON_Delete(ret);
		line = wire_error(cls, error->text, id);
	} else {
		line = wire_return(ret, id);
	}
	wire_request_free(request);
	queue(client, line);
}

static void reply_result(struct client *client, struct wire_request *request, int result,
                         cJSON *ret, const struct gw_error *error)
{
	reply(client, request, result, ret, wire_error_class(error->cls), error);
}

/* ---- commands -------------------------------------------------------------------------- */

static void run_inline(struct client *client, const struct command *command,
                       struct wire_request *request)
{
	struct gw_error error = { 0 };
	cJSON *ret = NULL;
	int r = command->run(client->host->vm, request->arguments, &ret, &error);

	if (!r && command->flags & COMMAND_NEGOTIATE)
		client->negotiated = true;
	reply_result(client, request, r, ret, &error);
}

static void *job_thread(void *opaque)
{
	struct job *job = opaque;
	const int wake_fd = job->client->host->wake_fd;

	job->result = job->command->run(job->client->host->vm, job->request.arguments, &job->ret,
	                                &job->error);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);
	io_eventfd_signal(wake_fd);
	return NULL;
}

/* Signals are the embedder's: the thread takes none. */
static int start_thread(struct job *job)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&job->thread, NULL, job_thread, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		pthread_setname_np(job->thread, "godwit-command");
	return -r;
}

static void run_on_thread(struct client *client, const struct command *command,
                          struct wire_request *request)
{
	struct job *job = calloc(1, sizeof(*job));
	struct gw_error error = { 0 };
	int r = -ENOMEM;

	if (job) {
		*job = (struct job){ .client = client, .command = command, .request = *request };
		client->job = job;
		r = start_thread(job);
	}
	if (!r)
		return;
	client->job = NULL;
	free(job);
	error_set_sys(&error, r, "%s: no thread for it", command->name);
	reply_result(client, request, r, NULL, &error);
}

static void join_job(struct job *job)
{
	if (!job->joined)
		pthread_join(job->thread, NULL);
	job->joined = true;
}

static void finish_job(struct client *client)
{
	struct job *job = client->job;

	join_job(job);
	client->job = NULL;
	reply_result(client, &job->request, job->result, job->ret, &job->error);
	free(job);
}

static const struct command *find_command(const struct client *client, const char *name,
                                          struct gw_error *err)
{
	const struct command *command = command_find(name);
	const bool ends_negotiation = command && command->flags & COMMAND_NEGOTIATE;

	if (!client->negotiated && !ends_negotiation)
		error_set(err, -ENOENT, "%s: qmp_capabilities has to come first", name);
	else if (!command)
		error_set(err, -ENOENT, "%s: there is no such command", name);
	else if (client->negotiated && ends_negotiation)
		error_set(err, -ENOENT, "%s: the negotiation is over", name);
	else
		return command;
	return NULL;
}

static void handle(struct client *client, const char *text, size_t len)
{
	struct wire_request request;
	struct gw_error error = { 0 };
	const struct command *command;
	int r = wire_parse(text, len, &request, &error);

	if (r < 0) {
		reply_result(client, &request, r, NULL, &error);
		return;
	}
	command = find_command(client, request.command, &error);
	if (!command) {
		reply(client, &request, -ENOENT, NULL, "CommandNotFound", &error);
		return;
	}
	r = args_check(request.arguments, command->args, command->name, &error);
	if (r < 0)
		reply_result(client, &request, r, NULL, &error);
	else if (command->flags & COMMAND_INLINE)
		run_inline(client, command, &request);
	else
		run_on_thread(client, command, &request);
}

/* ---- taking turns ------------------------------------------------------------------------- */

static bool takes_requests(const struct client *client)
{
	return !client->dead && !client->closing && !client->job && unsent(client) < OUT_ENOUGH;
}

/* Deals with the requests that have come. */
static void take_requests(struct client *client)
{
	while (takes_requests(client)) {
		struct wire_request none = { 0 };
		struct gw_error error = { 0 };
		const char *text;
		size_t len;

		switch (wire_next(&client->in, &text, &len)) {
		case WIRE_MORE:
			return;
		case WIRE_REQUEST:
			handle(client, text, len);
			break;
		case WIRE_TOO_LONG:
			error_set(&error, -EMSGSIZE, "request: longer than %d bytes",
			          WIRE_REQUEST_MAX);
			reply_result(client, &none, -EMSGSIZE, NULL, &error);
			break;
		}
	}
}

static void receive(struct client *client)
{
	char chunk[READ_CHUNK];
	ssize_t n;

	do
		n = recv(client->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		client->eof = true;
	else if (wire_feed(&client->in, chunk, (size_t)n) < 0)
		client->dead = true;
}

static void on_socket(void *opaque, int fd, uint32_t events);

/* Without anything to wait for there is no watch: a connection that was closed would be
 * reported again and again. */
static void watch(struct client *client, uint32_t events)
{
	if (events == client->watched)
		return;
	if (!events) {
		loop_unwatch(client->watch);
		client->watch = NULL;
	} else if (client->watch) {
		loop_watch_events(client->watch, events);
	} else if (loop_watch(client->host->loop, client->fd, events, on_socket, client,
	                      &client->watch, NULL) < 0) {
		client->dead = true;
		return;
	}
	client->watched = events;
}

/* After whatever happened: what is the client waiting for now, if it still is? */
static void go_on(struct client *client)
{
	uint32_t events = 0;

	take_requests(client);
	if (takes_requests(client) && !client->eof)
		events |= EPOLLIN;
	if (unsent(client) && !client->dead)
		events |= EPOLLOUT;
	watch(client, events);
	if (client->dead) { /* it sees so now, even if a command is still under way */
		watch(client, 0);
		shutdown(client->fd, SHUT_RDWR);
	}
	if (!client->job && (client->dead || (client->eof && !unsent(client))))
		client->gone(client->opaque, client);
}

static void on_socket(void *opaque, int fd, uint32_t events)
{
	struct client *client = opaque;

	(void)fd;
	(void)events;
	flush(client);
	if (takes_requests(client) && !client->eof)
		receive(client);
	go_on(client);
}

/* ---- the calls ------------------------------------------------------------------------------ */

int client_create(const struct client_host *host, int fd,
                  void (*gone)(void *opaque, struct client *client), void *opaque,
                  struct client **out, struct gw_error *err)
{
	struct client *client = calloc(1, sizeof(*client));
	autofree char *greeting = wire_greeting();

	if (!client) {
		close(fd);
		return error_set(err, -ENOMEM, "client: out of memory");
	}
	*client = (struct client){ .host = host, .gone = gone, .opaque = opaque, .fd = fd };
	queue(client, greeting);
	watch(client, EPOLLIN);
	if (client->dead) {
		client_destroy(client);
		return error_set(err, -ENOMEM, "client: out of memory");
	}
	*out = client;
	return 0;
}

void client_destroy(struct client *client)
{
	if (!client)
		return;
	if (client->job)
		finish_job(client);
	loop_unwatch(client->watch);
	close(client->fd);
	wire_free(&client->in);
	free(client->out);
	free(client);
}

void client_event(struct client *client, const char *line)
{
	if (!client->negotiated || client->dead)
		return;
	queue(client, line);
	go_on(client);
}

void client_look(struct client *client)
{
	if (!client->job || !__atomic_load_n(&client->job->done, __ATOMIC_ACQUIRE))
		return;
	finish_job(client);
	go_on(client);
}

void client_stop(struct client *client)
{
	client->closing = true;
	if (client->job)
		join_job(client->job);
}

void client_finish(struct client *client, int64_t deadline_ms)
{
	if (client->job)
		finish_job(client);
	for (flush(client); unsent(client) && !client->dead; flush(client)) {
		struct pollfd pfd = { .fd = client->fd, .events = POLLOUT };
		const int64_t left = deadline_ms - now_ms();

		if (left <= 0 || poll(&pfd, 1, (int)left) == 0)
			return;
	}
}
