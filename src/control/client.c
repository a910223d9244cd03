/* SPDX-License-Identifier: Apache-2.0 */
#include "control/client.h"

#include "base/error.h"
#include "base/util.h"
#include "control/job.h"
#include "control/wire.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* With room for a whole record of TLS. */
#define READ_CHUNK 16384
/* No further request is taken while more than this waits to be sent. */
#define OUT_ENOUGH (64 * 1024)

struct job_queue {
	struct job *first, **end;
	unsigned count;
};

struct client {
	const struct client_host *host;
	void (*gone)(void *opaque, struct client *client);
	void *opaque;
	struct channel *channel;
	struct loop_watch *watch; /* NULL: nothing to wait for */
	uint32_t watched;
	struct loop_timer *handshake_timer; /* NULL: nothing to agree upon */
	bool shaking;                       /* hands */
	struct wire in;
	struct inbox inbox;
	char *out;
	size_t out_room, out_len, out_sent;
	struct job_rights rights;
	bool eof;               /* nothing more comes */
	bool muted;             /* nothing more can be sent */
	bool dead;              /* to be dropped */
	bool closing;           /* the server ends: no further requests */
	struct job *job;        /* the one whose turn it is */
	struct job_queue queue; /* read, and not begun */
	struct job *oob;        /* begun out of band */
	unsigned oob_count;
	bool served; /* a command has been answered, after the negotiation */
	int64_t came_ms, active_ms;
};

static size_t unsent(const struct client *client)
{
	return client->out_len - client->out_sent;
}

/* ---- sending ------------------------------------------------------------------------- */

static void flush(struct client *client)
{
	while (!client->muted && !client->shaking && unsent(client)) {
		ssize_t n = client->channel->ops->write(
		        client->channel, client->out + client->out_sent, unsent(client));

		if (n == -EAGAIN)
			return;
		/* Whoever closes right after a request still means it to be carried out. */
		if (n < 0)
			client->muted = true;
		else
			client->out_sent += (size_t)n;
		client->active_ms = now_ms();
	}
	if (!client->shaking)
		client->out_len = client->out_sent = 0;
}

static bool make_room(struct client *client, size_t len)
{
	if (client->out_sent) {
		memmove(client->out, client->out + client->out_sent, unsent(client));
		client->out_len -= client->out_sent;
		client->out_sent = 0;
	}
	if (client->out_len + len > client->out_room) {
		size_t room = MAX(client->out_len + len, client->out_room * 2);
		char *more = realloc(client->out, room);

		if (!more)
			return false;
		client->out = more;
		client->out_room = room;
	}
	return true;
}

/* Sends a line as soon as the client takes it. NULL: there was no memory for it. */
static void queue_line(struct client *client, const char *line)
{
	const size_t len = line ? strlen(line) : 0;

	if (client->muted || client->dead)
		return;
	if (!line || unsent(client) + len > CLIENT_OUT_MAX || !make_room(client, len)) {
		client->dead = true;
		return;
	}
	memcpy(client->out + client->out_len, line, len);
	client->out_len += len;
	flush(client);
}

/* ---- commands -------------------------------------------------------------------------- */

/* The job is done, and its reply is due. */
static void finish_job(struct client *client, struct job *job)
{
	autofree char *line = NULL;

	job_wait(job);
	client->served |= client->rights.negotiated;
	client->active_ms = now_ms();
	if (job->result >= 0 && job->command->flags & COMMAND_NEGOTIATE)
		client->rights =
		        (struct job_rights){ .negotiated = true, .oob = job->call.use_oob };
	line = job_reply(job);
	job_free(job);
	queue_line(client, line);
}

static bool run(struct client *client, struct job *job)
{
	const struct client_host *host = client->host;

	return job_run(job, &client->rights, host->vm, host->hub, host->wake_fd);
}

static void push(struct job_queue *queue, struct job *job)
{
	if (!queue->first)
		queue->end = &queue->first;
	*queue->end = job;
	queue->end = &job->next;
	queue->count++;
}

static struct job *pop(struct job_queue *queue)
{
	struct job *job = queue->first;

	queue->first = job->next;
	job->next = NULL;
	queue->count--;
	return job;
}

/* Begins what is read, as far as it goes. */
static void begin_jobs(struct client *client)
{
	while (!client->job && client->queue.count && !client->dead && !client->closing &&
	       unsent(client) < OUT_ENOUGH) {
		struct job *job = pop(&client->queue);

		if (run(client, job))
			finish_job(client, job);
		else
			client->job = job;
	}
}

static void begin_oob(struct client *client, struct job *job)
{
	if (run(client, job)) {
		finish_job(client, job);
		return;
	}
	job->next = client->oob;
	client->oob = job;
	client->oob_count++;
}

/* A request has been read. NULL: there was no memory for it. */
static void admit(struct client *client, struct job *job)
{
	if (!job)
		client->dead = true;
	else if (job_is_oob(job, &client->rights))
		begin_oob(client, job);
	else
		push(&client->queue, job);
}

/* Replies to what has ended on a thread; `all`: waits for it. */
static void finish_jobs(struct client *client, bool all)
{
	for (struct job **at = &client->oob; *at;) {
		struct job *job = *at;

		if (!all && !job_is_done(job)) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		client->oob_count--;
		finish_job(client, job);
	}
	if (client->job && (all || job_is_done(client->job)))
		finish_job(client, take_ptr(&client->job));
}

static bool has_jobs(const struct client *client)
{
	return client->job || client->oob;
}

/* ---- taking turns ------------------------------------------------------------------------- */

static bool takes_requests(const struct client *client)
{
	const unsigned limit = client->rights.oob ? CLIENT_QUEUE_MAX : 1;

	return !client->dead && !client->closing && !client->shaking &&
	       client->queue.count + !!client->job < limit && client->oob_count < CLIENT_OOB_MAX &&
	       unsent(client) < OUT_ENOUGH;
}

/* Deals with the requests that have come. */
static void take_requests(struct client *client)
{
	begin_jobs(client);
	while (takes_requests(client)) {
		const char *text;
		size_t len;

		switch (wire_next(&client->in, &text, &len)) {
		case WIRE_MORE:
			return;
		case WIRE_REQUEST:
			admit(client, job_create(text, len, &client->inbox));
			break;
		case WIRE_TOO_LONG:
			admit(client,
			      job_create_failed(-EMSGSIZE,
			                        "request: longer than " WIRE_REQUEST_MAX_TEXT
			                        " bytes"));
			break;
		}
		begin_jobs(client);
	}
}

static void receive(struct client *client)
{
	char chunk[READ_CHUNK];
	ssize_t n =
	        client->channel->ops->read(client->channel, chunk, sizeof(chunk), &client->inbox);

	if (n == -EAGAIN)
		return;
	client->active_ms = now_ms();
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
	} else if (loop_watch(client->host->loop, client->channel->fd, events, on_socket, client,
	                      &client->watch, NULL) < 0) {
		client->dead = true;
		return;
	}
	client->watched = events;
}

static uint32_t wanted_events(const struct client *client)
{
	uint32_t events = 0;

	if (client->dead)
		return 0;
	if (client->shaking)
		return client->channel->ops->wants(client->channel);
	if (takes_requests(client) && !client->eof)
		events |= EPOLLIN;
	if (unsent(client))
		events |= EPOLLOUT;
	return events;
}

/* After whatever happened: what is the client waiting for now, if it still is? */
static void go_on(struct client *client)
{
	take_requests(client);
	watch(client, wanted_events(client));
	if (client->dead) { /* it sees so now, even if a command is still under way */
		watch(client, 0);
		shutdown(client->channel->fd, SHUT_RDWR);
	}
	if (!has_jobs(client) && (client->dead || (client->eof && !unsent(client))))
		client->gone(client->opaque, client);
}

static void shake_hands(struct client *client)
{
	int r = client->channel->ops->handshake(client->channel);

	if (r == -EAGAIN)
		return;
	if (r < 0) {
		client->dead = true;
		return;
	}
	client->shaking = false;
	loop_timer_set(client->handshake_timer, -1);
}

static void on_socket(void *opaque, int fd, uint32_t events)
{
	struct client *client = opaque;

	(void)fd;
	(void)events;
	if (client->shaking)
		shake_hands(client);
	flush(client);
	if (takes_requests(client) && !client->eof)
		receive(client);
	go_on(client);
}

static void on_handshake_timer(void *opaque)
{
	struct client *client = opaque;

	client->dead = true;
	go_on(client);
}

/* ---- the calls ------------------------------------------------------------------------------ */

static int start_handshake(struct client *client, struct gw_error *err)
{
	int r;

	if (!client->channel->ops->handshake)
		return 0;
	client->shaking = true;
	r = loop_timer_create(client->host->loop, on_handshake_timer, client,
	                      &client->handshake_timer, err);
	if (!r)
		loop_timer_set(client->handshake_timer, CLIENT_HANDSHAKE_MS);
	return r;
}

int client_create(const struct client_host *host, struct channel *channel,
                  void (*gone)(void *opaque, struct client *client), void *opaque,
                  struct client **out, struct gw_error *err)
{
	struct client *client = calloc(1, sizeof(*client));
	autofree char *greeting = wire_greeting();
	int r;

	if (!client) {
		channel_destroy(channel);
		return error_set(err, -ENOMEM, "client: out of memory");
	}
	*client = (struct client){
		.host = host,
		.gone = gone,
		.opaque = opaque,
		.channel = channel,
		.came_ms = now_ms(),
		.active_ms = now_ms(),
	};
	r = start_handshake(client, err);
	if (!r) {
		queue_line(client, greeting);
		watch(client, EPOLLIN);
	}
	if (r < 0 || client->dead) {
		client_destroy(client);
		return r < 0 ? r : error_set(err, -ENOMEM, "client: out of memory");
	}
	*out = client;
	return 0;
}

/* A request may lie in the socket and have its turn in this round of the loop. */
static bool is_about_to_ask(const struct client *client)
{
	char c;

	return takes_requests(client) &&
	       recv(client->channel->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

struct standing client_standing(const struct client *client)
{
	return (struct standing){
		.taken = true,
		.idle = !has_jobs(client) && !client->queue.count && !is_about_to_ask(client),
		.shaking = client->shaking,
		.served = client->served,
		.came_ms = client->came_ms,
		.active_ms = client->active_ms,
	};
}

void client_destroy(struct client *client)
{
	if (!client)
		return;
	client->muted = true;
	finish_jobs(client, true);
	while (client->queue.count)
		job_free(pop(&client->queue));
	loop_timer_destroy(client->handshake_timer);
	loop_unwatch(client->watch);
	channel_destroy(client->channel);
	wire_free(&client->in);
	inbox_close(&client->inbox);
	free(client->out);
	free(client);
}

void client_event(struct client *client, const char *line)
{
	if (!client->rights.negotiated || client->dead)
		return;
	queue_line(client, line);
	go_on(client);
}

void client_look(struct client *client)
{
	if (!has_jobs(client))
		return;
	finish_jobs(client, false);
	go_on(client);
}

void client_stop(struct client *client)
{
	client->closing = true;
	if (client->job)
		job_wait(client->job);
	for (struct job *job = client->oob; job; job = job->next)
		job_wait(job);
}

void client_finish(struct client *client, int64_t deadline_ms)
{
	finish_jobs(client, true);
	for (flush(client); unsent(client) && !client->dead && !client->shaking; flush(client)) {
		struct pollfd pfd = { .fd = client->channel->fd, .events = POLLOUT };
		const int64_t left = deadline_ms - now_ms();

		if (left <= 0 || poll(&pfd, 1, (int)left) == 0)
			return;
	}
}
