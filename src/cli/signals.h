/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM as a call on a thread of their own, where everything may be called. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "godwit.h"

#include <pthread.h>

struct signals {
	void (*on_signal)(void *opaque, int signal);
	void *opaque;
	int signal_fd, stop_fd;
	pthread_t thread;
};

/* To be called before any other thread is started: all of them shall block these signals. */
void signals_block(void);
int signals_start(struct signals *signals, void (*on_signal)(void *opaque, int signal),
                  void *opaque, struct gw_error *err);
/* No call is under way, nor will be, once this has returned. */
void signals_stop(struct signals *signals);

#endif
