/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: accepts clients, passes events on to them, ends.
 *
 * One thread runs its loop, on which all clients live. Events come on threads
 * of the VM, which must not wait: they are made lines there, put in a queue,
 * and the loop is woken. The same wake-up tells of commands that have ended.
 */
#include "base/error.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/util.h"
#include "control/client.h"
#include "control/socket.h"
#include "control/wire.h"

#include <pthread.h>
#include <sys/socket.h>

#define CLIENTS_MAX 32
/* How long the accepting of clients pauses when the process has no descriptor left. */
#define ACCEPT_PAUSE_MS 500
/* How long, at the end, clients have to take the last replies. */
#define FAREWELL_MS 1000

struct event_line {
	char *text;
	struct event_line *next;
};

struct gw_control {
	struct client_host host;
	struct control_socket socket;
	struct loop_watch *accept_watch, *wake_watch;
	struct loop_timer *accept_timer;
	struct client *clients[CLIENTS_MAX]; /* NULL: free */
	bool listening;                      /* to events */

	pthread_mutex_t lock; /* guards the queue */
	struct event_line *events, **events_end;
};

/* ---- events ------------------------------------------------------------------------- */

static void on_event(void *opaque, const struct gw_event *event)
{
	struct gw_control *control = opaque;
	struct event_line *line = calloc(1, sizeof(*line));

	if (!line)
		return;
	line->text = wire_event(event);
	if (!line->text) {
		free(line);
		return;
	}
	pthread_mutex_lock(&control->lock);
	*control->events_end = line;
	control->events_end = &line->next;
	pthread_mutex_unlock(&control->lock);
	io_eventfd_signal(control->host.wake_fd);
}

static void deliver_events(struct gw_control *control)
{
	struct event_line *lines;

	pthread_mutex_lock(&control->lock);
	lines = control->events;
	control->events = NULL;
	control->events_end = &control->events;
	pthread_mutex_unlock(&control->lock);
	while (lines) {
		struct event_line *line = lines;

		lines = line->next;
		for (size_t i = 0; i < CLIENTS_MAX; i++)
			if (control->clients[i])
				client_event(control->clients[i], line->text);
		free(line->text);
		free(line);
	}
}

/* A command's events come before its reply: they were in the queue before it had ended. */
static void on_wake(void *opaque, int fd, uint32_t events)
{
	struct gw_control *control = opaque;

	(void)events;
	io_eventfd_drain(fd);
	deliver_events(control);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i])
			client_look(control->clients[i]);
}

/* ---- clients ------------------------------------------------------------------------ */

static void on_client_gone(void *opaque, struct client *client)
{
	struct gw_control *control = opaque;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i] == client)
			control->clients[i] = NULL;
	client_destroy(client);
}

static void pause_accepting(struct gw_control *control)
{
	loop_watch_events(control->accept_watch, 0);
	loop_timer_set(control->accept_timer, ACCEPT_PAUSE_MS);
}

static void on_accept_timer(void *opaque)
{
	struct gw_control *control = opaque;

	loop_watch_events(control->accept_watch, EPOLLIN);
}

static void on_connection(void *opaque, int listen_fd, uint32_t events)
{
	struct gw_control *control = opaque;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_accepting(control);
		return;
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (control->clients[i])
			continue;
		client_create(&control->host, fd, on_client_gone, control, &control->clients[i],
		              NULL);
		return;
	}
	close(fd);
}

/* ---- life --------------------------------------------------------------------------- */

static int start(struct gw_control *control, const char *path, struct gw_error *err)
{
	struct client_host *host = &control->host;
	int r = loop_create(&host->loop, err);

	if (r < 0)
		return r;
	host->wake_fd = io_eventfd();
	if (host->wake_fd < 0)
		return error_set_sys(err, host->wake_fd, "eventfd");
	r = control_socket_open(path, &control->socket, err);
	if (!r)
		r = loop_watch(host->loop, host->wake_fd, EPOLLIN, on_wake, control,
		               &control->wake_watch, err);
	if (!r)
		r = loop_watch(host->loop, control->socket.fd, EPOLLIN, on_connection, control,
		               &control->accept_watch, err);
	if (!r)
		r = loop_timer_create(host->loop, on_accept_timer, control, &control->accept_timer,
		                      err);
	if (!r)
		r = gw_vm_listen(host->vm, on_event, control, err);
	if (r < 0)
		return r;
	control->listening = true;
	return loop_start_thread(host->loop, "godwit-control", err);
}

int gw_control_new(struct gw_vm *vm, const char *path, struct gw_control **out,
                   struct gw_error *err)
{
	struct gw_control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return error_set(err, -ENOMEM, "control socket: out of memory");
	control->host = (struct client_host){ .vm = vm, .wake_fd = -1 };
	control->socket.fd = -1;
	control->events_end = &control->events;
	pthread_mutex_init(&control->lock, NULL);
	r = start(control, path, err);
	if (r < 0) {
		gw_control_free(control);
		return error_context(err, "control socket");
	}
	*out = control;
	return 0;
}

/* The loop has ended: the last events and replies go out from here. Commands under way come
 * to their end first, since they cause events. */
static void see_clients_off(struct gw_control *control)
{
	int64_t deadline;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i])
			client_stop(control->clients[i]);
	if (control->listening)
		gw_vm_unlisten(control->host.vm, on_event, control);
	deadline = now_ms() + FAREWELL_MS;
	deliver_events(control);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i])
			client_finish(control->clients[i], deadline);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		client_destroy(control->clients[i]);
}

void gw_control_free(struct gw_control *control)
{
	if (!control)
		return;
	if (control->host.loop)
		loop_stop_thread(control->host.loop);
	see_clients_off(control);
	loop_timer_destroy(control->accept_timer);
	loop_unwatch(control->accept_watch);
	loop_unwatch(control->wake_watch);
	control_socket_close(&control->socket);
	if (control->host.loop)
		loop_destroy(control->host.loop);
	if (control->host.wake_fd >= 0)
		close(control->host.wake_fd);
	pthread_mutex_destroy(&control->lock);
	free(control);
}
