/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop on epoll: descriptors, deferred calls, timers.
 *
 * One thread runs it; handlers run on that thread, one at a time. Adding,
 * removing and posting may be done from any thread. A removal made on the
 * loop's thread takes effect at once, also for events already fetched; one
 * made from another thread returns only when the handler is not running.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct loop_watch;
struct loop_timer;

typedef void (*loop_fd_fn)(void *opaque, int fd, uint32_t events);
typedef void (*loop_fn)(void *opaque);

int loop_create(struct loop **out, struct gw_error *err);
void loop_destroy(struct loop *loop);

/* Runs handlers until loop_stop(). */
void loop_run(struct loop *loop);
/* Makes loop_run() return, also if it is called later. Any thread. */
void loop_stop(struct loop *loop);
/* A thread of its own that runs the loop, named `name`; and its end (stops and joins). */
int loop_start_thread(struct loop *loop, const char *name, struct gw_error *err);
void loop_stop_thread(struct loop *loop);
/* True on the thread that runs the loop. */
bool loop_is_own_thread(struct loop *loop);
/* A descriptor that is readable when there is work, for a loop inside another. */
int loop_fd(const struct loop *loop);
/* One round: waits at most timeout_ms (-1: no limit). */
void loop_once(struct loop *loop, int timeout_ms);
/* Makes a round that waits return, and loop_fd() readable. Any thread. */
void loop_wake(struct loop *loop);

/* Watches fd for EPOLLIN/EPOLLOUT (level-triggered). The fd stays the caller's. */
int loop_watch(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *opaque,
               struct loop_watch **out, struct gw_error *err);
void loop_watch_events(struct loop_watch *watch, uint32_t events);
/* NULL is fine. */
void loop_unwatch(struct loop_watch *watch);

/* Calls fn once on the loop's thread, soon. -ENOMEM. */
int loop_post(struct loop *loop, loop_fn fn, void *opaque);

/* A one-shot timer, armed by loop_timer_set (ms from now; < 0 disarms). */
int loop_timer_create(struct loop *loop, loop_fn fn, void *opaque, struct loop_timer **out,
                      struct gw_error *err);
void loop_timer_set(struct loop_timer *timer, int64_t ms);
void loop_timer_destroy(struct loop_timer *timer);

#endif
