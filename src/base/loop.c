/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A watch that is removed stays allocated until the round in which its events
 * may have been fetched has ended (`graveyard`); its handler is not called any
 * more from the moment of removal.
 */
#include "base/loop.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/timerfd.h>

#define ROUND_EVENTS 32

struct loop_watch {
	struct loop *loop;
	int fd;
	loop_fd_fn fn;
	void *opaque;
	bool removed;
	struct loop_watch *next; /* in `watches`, then in `graveyard` */
};

struct loop_timer {
	struct loop *loop;
	loop_fn fn;
	void *opaque;
	int64_t deadline_ms; /* < 0: not armed */
	struct loop_timer *next;
};

struct post {
	loop_fn fn;
	void *opaque;
	struct post *next;
};

struct loop {
	int epoll_fd;
	int wake_fd;
	int timer_fd; /* goes off at the earliest deadline, so that epoll_fd alone tells of all work
	               */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t handled;
	struct loop_watch *watches, *graveyard;
	struct loop_timer *timers;
	struct post *posts, **posts_end;
	const void *current; /* the watch or timer whose handler runs */
	bool stop;
	bool has_runner;
	pthread_t runner; /* the thread in loop_once() */
	bool thread_started;
	pthread_t thread;
};

/* Events of the loop's own descriptors carry no watch. */
static int watch_own(struct loop *loop, int fd, struct gw_error *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0
	               ? error_set_sys(err, -errno, "event loop: epoll_ctl")
	               : 0;
}

int loop_create(struct loop **out, struct gw_error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r = 0;

	if (!loop)
		return error_set(err, -ENOMEM, "event loop: out of memory");
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->handled, NULL);
	loop->posts_end = &loop->posts;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = io_eventfd();
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->epoll_fd < 0)
		r = error_set_sys(err, -errno, "event loop: epoll_create1");
	else if (loop->wake_fd < 0)
		r = error_set_sys(err, loop->wake_fd, "event loop: eventfd");
	else if (loop->timer_fd < 0)
		r = error_set_sys(err, -errno, "event loop: timerfd_create");
	else
		r = watch_own(loop, loop->wake_fd, err);
	if (!r)
		r = watch_own(loop, loop->timer_fd, err);
	if (r < 0) {
		loop_destroy(loop);
		return r;
	}
	*out = loop;
	return 0;
}

static void bury(struct loop *loop)
{
	while (loop->graveyard) {
		struct loop_watch *watch = loop->graveyard;

		loop->graveyard = watch->next;
		free(watch);
	}
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	loop_stop_thread(loop);
	bury(loop);
	while (loop->posts) {
		struct post *post = loop->posts;

		loop->posts = post->next;
		free(post);
	}
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	pthread_cond_destroy(&loop->handled);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static bool on_runner(const struct loop *loop)
{
	return loop->has_runner && pthread_equal(loop->runner, pthread_self());
}

bool loop_is_own_thread(struct loop *loop)
{
	bool own;

	pthread_mutex_lock(&loop->lock);
	own = on_runner(loop);
	pthread_mutex_unlock(&loop->lock);
	return own;
}

int loop_fd(const struct loop *loop)
{
	return loop->epoll_fd;
}

/* ---- one round ------------------------------------------------------------------ */

static void run_watch(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	pthread_mutex_lock(&loop->lock);
	if (watch->removed) {
		pthread_mutex_unlock(&loop->lock);
		return;
	}
	loop->current = watch;
	pthread_mutex_unlock(&loop->lock);
	watch->fn(watch->opaque, watch->fd, events);
	pthread_mutex_lock(&loop->lock);
	loop->current = NULL;
	pthread_cond_broadcast(&loop->handled);
	pthread_mutex_unlock(&loop->lock);
}

/* Only what was posted before: a post that posts again waits for the next round. */
static void run_posts(struct loop *loop)
{
	struct post *posts;

	pthread_mutex_lock(&loop->lock);
	posts = loop->posts;
	loop->posts = NULL;
	loop->posts_end = &loop->posts;
	pthread_mutex_unlock(&loop->lock);
	while (posts) {
		struct post *post = posts;

		posts = post->next;
		post->fn(post->opaque);
		free(post);
	}
}

static struct loop_timer *due_timer(const struct loop *loop)
{
	struct loop_timer *first = NULL;

	for (struct loop_timer *t = loop->timers; t; t = t->next)
		if (t->deadline_ms >= 0 && (!first || t->deadline_ms < first->deadline_ms))
			first = t;
	return first;
}

/* With the lock held. The clock is the one of now_ms(). */
static void arm(const struct loop *loop)
{
	const struct loop_timer *t = due_timer(loop);
	struct itimerspec at = { 0 };

	if (t) {
		/* All zero would disarm it. */
		at.it_value.tv_sec = t->deadline_ms / 1000;
		at.it_value.tv_nsec = t->deadline_ms % 1000 * 1000000 + 1;
	}
	timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void run_timers(struct loop *loop)
{
	int64_t now = now_ms();

	pthread_mutex_lock(&loop->lock);
	for (;;) {
		struct loop_timer *t = due_timer(loop);

		if (!t || t->deadline_ms > now)
			break;
		t->deadline_ms = -1;
		loop->current = t;
		pthread_mutex_unlock(&loop->lock);
		t->fn(t->opaque);
		pthread_mutex_lock(&loop->lock);
		loop->current = NULL;
		pthread_cond_broadcast(&loop->handled);
	}
	arm(loop);
	pthread_mutex_unlock(&loop->lock);
}

static int round_timeout(struct loop *loop, int timeout_ms)
{
	bool at_once;

	pthread_mutex_lock(&loop->lock);
	at_once = loop->posts || loop->stop;
	pthread_mutex_unlock(&loop->lock);
	return at_once ? 0 : timeout_ms;
}

void loop_once(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[ROUND_EVENTS];
	bool timers_due = false;
	int n;

	pthread_mutex_lock(&loop->lock);
	loop->has_runner = true;
	loop->runner = pthread_self();
	pthread_mutex_unlock(&loop->lock);

	n = epoll_wait(loop->epoll_fd, events, ROUND_EVENTS, round_timeout(loop, timeout_ms));
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr)
			run_watch(loop, events[i].data.ptr, events[i].events);
		else
			timers_due = true;
	}
	if (timers_due) {
		io_eventfd_drain(loop->wake_fd);
		io_eventfd_drain(loop->timer_fd);
	}
	run_posts(loop);
	if (timers_due)
		run_timers(loop);

	pthread_mutex_lock(&loop->lock);
	bury(loop);
	loop->has_runner = false;
	pthread_mutex_unlock(&loop->lock);
}

void loop_wake(struct loop *loop)
{
	io_eventfd_signal(loop->wake_fd);
}

static bool stop_wanted(struct loop *loop)
{
	bool stop;

	pthread_mutex_lock(&loop->lock);
	stop = loop->stop;
	pthread_mutex_unlock(&loop->lock);
	return stop;
}

void loop_run(struct loop *loop)
{
	while (!stop_wanted(loop))
		loop_once(loop, -1);
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	io_eventfd_signal(loop->wake_fd);
}

/* ---- a thread of its own --------------------------------------------------------- */

static void *loop_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

int loop_start_thread(struct loop *loop, const char *name, struct gw_error *err)
{
	int r = thread_start(&loop->thread, loop_thread, loop, name);

	if (r < 0)
		return error_set_sys(err, r, "%s: no thread for it", name);
	loop->thread_started = true;
	return 0;
}

void loop_stop_thread(struct loop *loop)
{
	if (!loop->thread_started)
		return;
	loop_stop(loop);
	pthread_join(loop->thread, NULL);
	loop->thread_started = false;
}

/* ---- descriptors ------------------------------------------------------------------ */

int loop_watch(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *opaque,
               struct loop_watch **out, struct gw_error *err)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (!watch)
		return error_set(err, -ENOMEM, "event loop: out of memory");
	*watch = (struct loop_watch){ .loop = loop, .fd = fd, .fn = fn, .opaque = opaque };
	*out = watch;
	pthread_mutex_lock(&loop->lock);
	watch->next = loop->watches;
	loop->watches = watch;
	pthread_mutex_unlock(&loop->lock);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int code = -errno;

		loop_unwatch(watch);
		*out = NULL;
		return error_set_sys(err, code, "event loop: epoll_ctl of descriptor %d", fd);
	}
	return 0;
}

void loop_watch_events(struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

static void wait_handled(struct loop *loop, const void *what)
{
	while (loop->current == what && !on_runner(loop))
		pthread_cond_wait(&loop->handled, &loop->lock);
}

void loop_unwatch(struct loop_watch *watch)
{
	struct loop *loop;

	if (!watch)
		return;
	loop = watch->loop;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	pthread_mutex_lock(&loop->lock);
	watch->removed = true;
	wait_handled(loop, watch);
	for (struct loop_watch **pp = &loop->watches; *pp; pp = &(*pp)->next) {
		if (*pp == watch) {
			*pp = watch->next;
			break;
		}
	}
	watch->next = loop->graveyard;
	loop->graveyard = watch;
	pthread_mutex_unlock(&loop->lock);
}

/* ---- calls and timers --------------------------------------------------------------- */

int loop_post(struct loop *loop, loop_fn fn, void *opaque)
{
	struct post *post = calloc(1, sizeof(*post));

	if (!post)
		return -ENOMEM;
	post->fn = fn;
	post->opaque = opaque;
	pthread_mutex_lock(&loop->lock);
	*loop->posts_end = post;
	loop->posts_end = &post->next;
	pthread_mutex_unlock(&loop->lock);
	io_eventfd_signal(loop->wake_fd);
	return 0;
}

int loop_timer_create(struct loop *loop, loop_fn fn, void *opaque, struct loop_timer **out,
                      struct gw_error *err)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return error_set(err, -ENOMEM, "event loop: out of memory");
	*t = (struct loop_timer){ .loop = loop, .fn = fn, .opaque = opaque, .deadline_ms = -1 };
	pthread_mutex_lock(&loop->lock);
	t->next = loop->timers;
	loop->timers = t;
	pthread_mutex_unlock(&loop->lock);
	*out = t;
	return 0;
}

void loop_timer_set(struct loop_timer *timer, int64_t ms)
{
	struct loop *loop = timer->loop;

	pthread_mutex_lock(&loop->lock);
	timer->deadline_ms = ms < 0 ? -1 : now_ms() + ms;
	arm(loop);
	pthread_mutex_unlock(&loop->lock);
}

void loop_timer_destroy(struct loop_timer *timer)
{
	struct loop *loop;

	if (!timer)
		return;
	loop = timer->loop;
	pthread_mutex_lock(&loop->lock);
	timer->deadline_ms = -1;
	wait_handled(loop, timer);
	for (struct loop_timer **pp = &loop->timers; *pp; pp = &(*pp)->next) {
		if (*pp == timer) {
			*pp = timer->next;
			break;
		}
	}
	pthread_mutex_unlock(&loop->lock);
	free(timer);
}
