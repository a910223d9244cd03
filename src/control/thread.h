/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the server: they take no signals, which are the embedder's. */
#ifndef CONTROL_THREAD_H
#define CONTROL_THREAD_H

#include <pthread.h>

/* `name` has at most 15 bytes. Negative errno. */
int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, const char *name);

#endif
