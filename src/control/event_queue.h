/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events on their way from the VM's threads to the clients. One that a guest
 * could cause without end is let through once a second for each name and
 * device; the last that came meanwhile follows when the second is over.
 */
#ifndef CONTROL_EVENT_QUEUE_H
#define CONTROL_EVENT_QUEUE_H

#include "godwit.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define EVENT_INTERVAL_MS 1000
/* Names with devices that are watched at the same time; what is beyond waits for nothing. A machine
 * has no more: 31 devices with up to 8 ports each, and names without a device. */
#define EVENT_LIMITS 256

struct event_line {
	char *text;
	struct event_line *next;
};

struct event_limit {
	char *key; /* NULL: free */
	int64_t until_ms;
	struct event_line *kept; /* the last one held back */
};

struct event_queue {
	pthread_mutex_t lock;
	struct event_line *first, **end;
	struct event_limit limits[EVENT_LIMITS];
};

void event_queue_init(struct event_queue *queue);
void event_queue_destroy(struct event_queue *queue);

/* Any thread. True: event_queue_take() has to be called soon. */
bool event_queue_push(struct event_queue *queue, const struct gw_event *event, int64_t now_ms);

/* What is to be sent by now, in order; released with event_line_free(). *wait_ms says when to ask
 * again, -1: when a push says so. */
struct event_line *event_queue_take(struct event_queue *queue, int64_t now_ms, int64_t *wait_ms);
/* Frees the line and returns the next one. */
struct event_line *event_line_free(struct event_line *line);

#endif
