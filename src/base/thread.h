/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library: they take no signals, which are the embedder's. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

/* `name` has at most 15 bytes. Negative errno. */
int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, const char *name);

#endif
