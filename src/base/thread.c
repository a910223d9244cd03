/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, const char *name)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	/* That of a fault would kill the process past its handler if it were blocked. */
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(thread, NULL, run, opaque);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		pthread_setname_np(*thread, name);
	return -r;
}

static sigset_t pipe_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	return set;
}

void thread_pipe_begin(struct thread_pipe *p)
{
	const sigset_t set = pipe_signal();
	sigset_t pending;

	pthread_sigmask(SIG_BLOCK, &set, &p->mask);
	p->pending = sigismember(&p->mask, SIGPIPE);
	if (!p->pending && !sigpending(&pending))
		p->pending = sigismember(&pending, SIGPIPE);
}

void thread_pipe_end(const struct thread_pipe *p)
{
	const sigset_t set = pipe_signal();
	const struct timespec now = { 0 };

	if (!p->pending)
		while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
			;
	if (!sigismember(&p->mask, SIGPIPE))
		pthread_sigmask(SIG_SETMASK, &p->mask, NULL);
}

void thread_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool thread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ms)
{
	const struct timespec until = { until_ms / 1000, until_ms % 1000 * 1000000 };

	if (until_ms < 0)
		return pthread_cond_wait(cond, mutex) == 0;
	return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}
