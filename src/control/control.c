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
#include "control/event_queue.h"
#include "control/listener.h"
#include "control/places.h"

#include <string.h>

/* How long the accepting of clients pauses when the process has no descriptor left. */
#define ACCEPT_PAUSE_MS 500
/* How long, at the end, clients have to take the last replies. */
#define FAREWELL_MS 1000

struct gw_control {
	struct client_host host;
	struct hub hub;
	struct listener listener;
	struct loop_watch *accept_watch, *wake_watch;
	struct loop_timer *accept_timer;
	struct loop_timer *event_timer; /* for events that were held back */
	struct client *clients[PLACES]; /* NULL: free */
	bool listening;                 /* to events */
	struct event_queue events;
};

/* ---- events ------------------------------------------------------------------------- */

static void on_event(void *opaque, const struct gw_event *event)
{
	struct gw_control *control = opaque;

	if (event_queue_push(&control->events, event, now_ms()))
		io_eventfd_signal(control->host.wake_fd);
}

static void deliver_events(struct gw_control *control, int64_t now)
{
	int64_t wait_ms;
	struct event_line *line = event_queue_take(&control->events, now, &wait_ms);

	for (; line; line = event_line_free(line))
		for (size_t i = 0; i < PLACES; i++)
			if (control->clients[i])
				client_event(control->clients[i], line->text);
	if (control->event_timer)
		loop_timer_set(control->event_timer, wait_ms);
}

static void on_event_timer(void *opaque)
{
	deliver_events(opaque, now_ms());
}

/* A command's events come before its reply: they were in the queue before it had ended. */
static void on_wake(void *opaque, int fd, uint32_t events)
{
	struct gw_control *control = opaque;

	(void)events;
	io_eventfd_drain(fd);
	deliver_events(control, now_ms());
	for (size_t i = 0; i < PLACES; i++)
		if (control->clients[i])
			client_look(control->clients[i]);
}

/* ---- clients ------------------------------------------------------------------------ */

static void on_client_gone(void *opaque, struct client *client)
{
	struct gw_control *control = opaque;

	for (size_t i = 0; i < PLACES; i++)
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

/* NULL: there is no place. Otherwise the place is free. */
static struct client **make_place(struct gw_control *control, enum peer_kind kind)
{
	struct standing all[PLACES] = { 0 };
	int at;

	for (size_t i = 0; i < PLACES; i++)
		if (control->clients[i])
			all[i] = client_standing(control->clients[i]);
	at = place_choose(all, kind, now_ms());
	if (at < 0)
		return NULL;
	client_destroy(take_ptr(&control->clients[at]));
	return &control->clients[at];
}

static void on_connection(void *opaque, int listen_fd, uint32_t events)
{
	struct gw_control *control = opaque;
	struct channel *channel = NULL;
	struct client **place;
	enum peer_kind kind;
	int r = listener_accept(&control->listener, &channel, &kind);

	(void)listen_fd;
	(void)events;
	if (r < 0) {
		if (r != -EAGAIN)
			pause_accepting(control);
		return;
	}
	place = make_place(control, kind);
	if (place)
		client_create(&control->host, channel, on_client_gone, control, place, NULL);
	else
		channel_destroy(channel);
}

/* ---- life --------------------------------------------------------------------------- */

static int start_loop(struct gw_control *control, struct gw_error *err)
{
	struct loop *loop = control->host.loop;
	int r = loop_watch(loop, control->host.wake_fd, EPOLLIN, on_wake, control,
	                   &control->wake_watch, err);

	if (!r)
		r = loop_watch(loop, control->listener.fd, EPOLLIN, on_connection, control,
		               &control->accept_watch, err);
	if (!r)
		r = loop_timer_create(loop, on_accept_timer, control, &control->accept_timer, err);
	if (!r)
		r = loop_timer_create(loop, on_event_timer, control, &control->event_timer, err);
	if (!r)
		r = gw_vm_listen(control->host.vm, on_event, control, err);
	if (r < 0)
		return r;
	control->listening = true;
	return loop_start_thread(loop, "godwit-control", err);
}

static int start(struct gw_control *control, const struct gw_control_options *options,
                 struct gw_error *err)
{
	int r = loop_create(&control->host.loop, err);

	if (r < 0)
		return r;
	control->host.wake_fd = io_eventfd();
	if (control->host.wake_fd < 0)
		return error_set_sys(err, control->host.wake_fd, "eventfd");
	r = listener_open(options, &control->listener, err);
	if (r < 0)
		return r;
	r = start_loop(control, err);
	if (r < 0 && options->listen_fd >= 0)
		control->listener.fd = -1; /* it stays the caller's */
	return r;
}

/* Members that the caller's header does not know are what they are in options without them. */
static int take_options(const struct gw_control_options *given, struct gw_control_options *out,
                        struct gw_error *err)
{
	*out = (struct gw_control_options){ .listen_fd = -1 };
	if (given->size < offsetof(struct gw_control_options, tls_dir))
		return error_set(err, -EINVAL, "options.size: %zu is none", given->size);
	memcpy(out, given, MIN(given->size, sizeof(*out)));
	return 0;
}

int gw_control_new_with(struct gw_vm *vm, const struct gw_control_options *options,
                        struct gw_control **out, struct gw_error *err)
{
	struct gw_control *control = calloc(1, sizeof(*control));
	struct gw_control_options wanted;
	int r;

	if (!control)
		return error_set(err, -ENOMEM, "control socket: out of memory");
	control->host = (struct client_host){ .vm = vm, .hub = &control->hub, .wake_fd = -1 };
	control->listener.fd = control->listener.socket.fd = -1;
	event_queue_init(&control->events);
	fds_init(&control->hub.fds, vm);
	dumper_init(&control->hub.dumper, vm, on_event, control);
	r = take_options(options, &wanted, err);
	if (!r)
		r = start(control, &wanted, err);
	if (r < 0) {
		gw_control_free(control);
		return error_context(err, "control socket");
	}
	*out = control;
	return 0;
}

int gw_control_new(struct gw_vm *vm, const char *path, struct gw_control **out,
                   struct gw_error *err)
{
	const struct gw_control_options options = {
		.size = sizeof(options),
		.path = path,
		.listen_fd = -1,
	};

	return gw_control_new_with(vm, &options, out, err);
}

/* The loop has ended: the last events and replies go out from here. Commands under way come
 * to their end first, since they cause events. */
static void see_clients_off(struct gw_control *control)
{
	int64_t deadline;

	for (size_t i = 0; i < PLACES; i++)
		if (control->clients[i])
			client_stop(control->clients[i]);
	dumper_end(&control->hub.dumper);
	if (control->listening)
		gw_vm_unlisten(control->host.vm, on_event, control);
	deadline = now_ms() + FAREWELL_MS;
	deliver_events(control, INT64_MAX - EVENT_INTERVAL_MS);
	for (size_t i = 0; i < PLACES; i++)
		if (control->clients[i])
			client_finish(control->clients[i], deadline);
	for (size_t i = 0; i < PLACES; i++)
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
	loop_timer_destroy(control->event_timer);
	loop_unwatch(control->accept_watch);
	loop_unwatch(control->wake_watch);
	listener_close(&control->listener);
	if (control->host.loop)
		loop_destroy(control->host.loop);
	if (control->host.wake_fd >= 0)
		close(control->host.wake_fd);
	fds_close(&control->hub.fds);
	event_queue_destroy(&control->events);
	free(control);
}
