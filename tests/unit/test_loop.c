/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "patience.h"

#include "base/error.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/util.h"

#include <poll.h>
#include <pthread.h>

static struct loop *make_loop(void)
{
	struct gw_error err;
	struct loop *loop;

	cr_assert_eq(loop_create(&loop, &err), 0, "%s", err.text);
	return loop;
}

/* An eventfd that is watched, and what its handler is to do. */
struct probe {
	struct loop *loop;
	int fd;
	struct loop_watch *watch;
	int calls;
	struct probe *removes;
};

static void on_probe(void *opaque, int fd, uint32_t events)
{
	struct probe *p = opaque;

	cr_assert(events & EPOLLIN);
	io_eventfd_drain(fd);
	p->calls++;
	if (p->removes) {
		loop_unwatch(p->removes->watch);
		p->removes->watch = NULL;
		p->removes = NULL;
	}
}

static void probe_start(struct probe *p, struct loop *loop)
{
	struct gw_error err;

	*p = (struct probe){ .loop = loop, .fd = io_eventfd() };
	cr_assert_eq(loop_watch(loop, p->fd, EPOLLIN, on_probe, p, &p->watch, &err), 0);
}

static void probe_end(struct probe *p)
{
	loop_unwatch(p->watch);
	close(p->fd);
}

Test(loop, a_handler_is_called_when_there_is_something)
{
	struct loop *loop = make_loop();
	struct probe p;

	probe_start(&p, loop);
	loop_once(loop, 0);
	cr_assert_eq(p.calls, 0);
	io_eventfd_signal(p.fd);
	loop_once(loop, patience_ms());
	cr_assert_eq(p.calls, 1);
	loop_watch_events(p.watch, 0);
	io_eventfd_signal(p.fd);
	loop_once(loop, 0);
	cr_assert_eq(p.calls, 1);
	loop_watch_events(p.watch, EPOLLIN);
	loop_once(loop, patience_ms());
	cr_assert_eq(p.calls, 2);
	probe_end(&p);
	loop_destroy(loop);
}

Test(loop, a_watch_may_remove_itself)
{
	struct loop *loop = make_loop();
	struct probe p;

	probe_start(&p, loop);
	p.removes = &p;
	io_eventfd_signal(p.fd);
	loop_once(loop, patience_ms());
	io_eventfd_signal(p.fd);
	loop_once(loop, 0);
	cr_assert_eq(p.calls, 1);
	probe_end(&p);
	loop_destroy(loop);
}

/* Both have an event in the same round; whoever is first removes the other. */
Test(loop, a_watch_removed_by_another_s_handler_is_not_called_any_more)
{
	struct loop *loop = make_loop();
	struct probe a, b;

	probe_start(&a, loop);
	probe_start(&b, loop);
	a.removes = &b;
	b.removes = &a;
	io_eventfd_signal(a.fd);
	io_eventfd_signal(b.fd);
	loop_once(loop, patience_ms());
	loop_once(loop, 0);
	cr_assert_eq(a.calls + b.calls, 1);
	probe_end(&a);
	probe_end(&b);
	loop_destroy(loop);
}

static void count_call(void *opaque)
{
	__atomic_add_fetch((int *)opaque, 1, __ATOMIC_SEQ_CST);
}

struct again {
	struct loop *loop;
	int calls;
};

static void post_again(void *opaque)
{
	struct again *a = opaque;

	a->calls++;
	loop_post(a->loop, post_again, a);
}

Test(loop, a_post_that_posts_waits_for_the_next_round)
{
	struct again a = { .loop = make_loop() };

	loop_post(a.loop, post_again, &a);
	loop_once(a.loop, patience_ms());
	cr_assert_eq(a.calls, 1);
	loop_once(a.loop, patience_ms());
	cr_assert_eq(a.calls, 2);
	loop_destroy(a.loop); /* with a call still posted */
}

#define POSTS 2000

struct poster {
	struct loop *loop;
	int *count;
};

static void *post_many(void *opaque)
{
	const struct poster *p = opaque;

	for (int i = 0; i < POSTS; i++)
		while (loop_post(p->loop, count_call, p->count) < 0)
			;
	return NULL;
}

static bool reaches(const int *count, int wanted)
{
	wait_until(__atomic_load_n(count, __ATOMIC_SEQ_CST) >= wanted);
	return __atomic_load_n(count, __ATOMIC_SEQ_CST) == wanted;
}

Test(loop, no_post_of_several_threads_is_lost)
{
	struct loop *loop = make_loop();
	int count = 0;
	struct poster poster = { loop, &count };
	pthread_t threads[3];
	struct gw_error err;

	cr_assert_eq(loop_start_thread(loop, "test", &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, post_many, &poster);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	cr_assert(reaches(&count, POSTS * (int)ARRAY_SIZE(threads)), "%d", count);
	loop_stop_thread(loop);
	loop_destroy(loop);
}

struct slow {
	int entered, left;
};

static void on_slow(void *opaque, int fd, uint32_t events)
{
	struct slow *s = opaque;

	(void)events;
	io_eventfd_drain(fd);
	__atomic_store_n(&s->entered, 1, __ATOMIC_SEQ_CST);
	usleep(50000);
	__atomic_store_n(&s->left, 1, __ATOMIC_SEQ_CST);
}

Test(loop, a_removal_from_another_thread_waits_for_the_handler)
{
	struct loop *loop = make_loop();
	struct loop_watch *watch;
	struct slow slow = { 0 };
	struct gw_error err;
	autoclose int fd = io_eventfd();

	cr_assert_eq(loop_watch(loop, fd, EPOLLIN, on_slow, &slow, &watch, &err), 0);
	cr_assert_eq(loop_start_thread(loop, "test", &err), 0);
	io_eventfd_signal(fd);
	cr_assert(reaches(&slow.entered, 1));
	loop_unwatch(watch);
	cr_assert_eq(slow.left, 1);
	loop_destroy(loop);
}

struct order {
	int log[4];
	int count;
};

struct timer_probe {
	struct order *order;
	int id;
	struct loop_timer *timer;
};

static void on_timer(void *opaque)
{
	struct timer_probe *p = opaque;

	p->order->log[p->order->count++] = p->id;
}

Test(loop, timers_fire_once_in_the_order_of_their_times)
{
	struct loop *loop = make_loop();
	struct order order = { 0 };
	struct timer_probe probes[3];
	const int64_t start = now_ms();
	struct gw_error err;

	for (int i = 0; i < 3; i++) {
		probes[i] = (struct timer_probe){ .order = &order, .id = i };
		cr_assert_eq(loop_timer_create(loop, on_timer, &probes[i], &probes[i].timer, &err),
		             0);
	}
	loop_timer_set(probes[0].timer, 40);
	loop_timer_set(probes[1].timer, 20);
	loop_timer_set(probes[2].timer, 10);
	loop_timer_set(probes[2].timer, -1);
	wait_turning(order.count >= 2, loop_once(loop, 1000), "%d fired", order.count);
	cr_assert_geq(now_ms(), start + 40);
	loop_once(loop, 0);
	cr_assert_eq(order.count, 2);
	cr_assert_eq(order.log[0], 1);
	cr_assert_eq(order.log[1], 0);
	for (int i = 0; i < 3; i++)
		loop_timer_destroy(probes[i].timer);
	loop_destroy(loop);
}

Test(loop, a_stop_before_the_run_is_not_lost)
{
	struct loop *loop = make_loop();
	struct gw_error err;

	loop_stop(loop);
	cr_assert_eq(loop_start_thread(loop, "test", &err), 0);
	loop_stop_thread(loop);
	loop_destroy(loop);
}

Test(loop, its_descriptor_tells_of_work)
{
	struct loop *loop = make_loop();
	struct pollfd pfd = { .fd = loop_fd(loop), .events = POLLIN };
	int count = 0;

	cr_assert_eq(poll(&pfd, 1, 0), 0);
	loop_post(loop, count_call, &count);
	cr_assert_eq(poll(&pfd, 1, patience_ms()), 1);
	loop_once(loop, 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(poll(&pfd, 1, 0), 0);
	loop_destroy(loop);
}

Test(loop, a_descriptor_that_cannot_be_watched_is_an_error)
{
	struct loop *loop = make_loop();
	struct loop_watch *watch;
	struct gw_error err;

	cr_assert_eq(loop_watch(loop, -1, EPOLLIN, on_probe, NULL, &watch, &err), -EBADF);
	cr_assert_null(watch);
	loop_once(loop, 0);
	loop_destroy(loop);
}

static void note_thread(void *opaque)
{
	struct poster *p = opaque;

	if (loop_is_own_thread(p->loop))
		__atomic_add_fetch(p->count, 1, __ATOMIC_SEQ_CST);
}

Test(loop, knows_its_own_thread)
{
	struct loop *loop = make_loop();
	int own = 0;
	struct poster p = { loop, &own };
	struct gw_error err;

	cr_assert_not(loop_is_own_thread(loop));
	cr_assert_eq(loop_start_thread(loop, "test", &err), 0);
	loop_post(loop, note_thread, &p);
	cr_assert(reaches(&own, 1));
	cr_assert_not(loop_is_own_thread(loop));
	loop_destroy(loop);
}
