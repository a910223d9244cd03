/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library, and conditions that are waited for by a clock which nobody sets. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* It takes no signals, which are the embedder's, but that of a fault of its own. `name` has at most
 * 15 bytes. Negative errno. */
int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, const char *name);

/* While the library writes on a thread of the embedder's to what may have no reader any more, its
 * SIGPIPE is held back, and taken away afterwards if the write has raised it: the write's error
 * says the same. */
struct thread_pipe {
	sigset_t mask; /* as it was */
	bool pending;  /* it was held back already, or one is older than the write */
};
void thread_pipe_begin(struct thread_pipe *p);
void thread_pipe_end(const struct thread_pipe *p);

void thread_cond_init(pthread_cond_t *cond);
/* With the mutex held, as pthread_cond_wait(); false: it is `until_ms` by now_ms() (-1: never). */
bool thread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ms);

#endif
