/* SPDX-License-Identifier: Apache-2.0 */
#include "control/event_queue.h"

#include "base/util.h"
#include "control/events.h"
#include "control/wire.h"

#include <stdio.h>
#include <string.h>

void event_queue_init(struct event_queue *queue)
{
	*queue = (struct event_queue){ .end = NULL };
	queue->end = &queue->first;
	pthread_mutex_init(&queue->lock, NULL);
}

struct event_line *event_line_free(struct event_line *line)
{
	struct event_line *next = line->next;

	free(line->text);
	free(line);
	return next;
}

void event_queue_destroy(struct event_queue *queue)
{
	while (queue->first)
		queue->first = event_line_free(queue->first);
	for (size_t i = 0; i < EVENT_LIMITS; i++) {
		if (queue->limits[i].kept)
			event_line_free(queue->limits[i].kept);
		free(queue->limits[i].key);
	}
	pthread_mutex_destroy(&queue->lock);
}

static struct event_line *make_line(const struct gw_event *event)
{
	struct event_line *line = calloc(1, sizeof(*line));

	if (!line)
		return NULL;
	line->text = wire_event(event);
	if (line->text)
		return line;
	free(line);
	return NULL;
}

/* ---- limits, with the lock held ------------------------------------------------------------- */

/* The event's name and the device that it is of. NULL: out of memory. */
static char *key_of(const struct gw_event *event)
{
	static const char *const members[] = { "id", "device", "qom-path" };
	cJSON *data = cJSON_Parse(event->data);
	const char *of = NULL;
	char *key;

	for (size_t i = 0; i < ARRAY_SIZE(members) && !of; i++)
		of = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, members[i]));
	if (asprintf(&key, "%s %s", event->name, of ? of : "") < 0)
		key = NULL;
	cJSON_Delete(data);
	return key;
}

/* The limit of that key, or a free one, which then gets the key; NULL: there is none. */
static struct event_limit *find_limit(struct event_queue *queue, char **key, int64_t now_ms)
{
	struct event_limit *free_one = NULL;

	for (size_t i = 0; i < EVENT_LIMITS; i++) {
		struct event_limit *limit = &queue->limits[i];

		if (limit->key && !strcmp(limit->key, *key))
			return limit;
		if (!free_one && !limit->kept && (!limit->key || limit->until_ms <= now_ms))
			free_one = limit;
	}
	if (free_one) {
		free(free_one->key);
		*free_one = (struct event_limit){ .key = take_ptr(key) };
	}
	return free_one;
}

/* Keeps the line back if it is too early for it: 0. 1: it may go; -1: kept, and the first one. */
static int hold_back(struct event_limit *limit, struct event_line *line, int64_t now_ms)
{
	const bool first = !limit->kept;

	if (first && limit->until_ms <= now_ms) {
		limit->until_ms = now_ms + EVENT_INTERVAL_MS;
		return 1;
	}
	if (!first)
		event_line_free(limit->kept);
	limit->kept = line;
	return first ? -1 : 0;
}

static void append(struct event_queue *queue, struct event_line *line)
{
	line->next = NULL;
	*queue->end = line;
	queue->end = &line->next;
}

bool event_queue_push(struct event_queue *queue, const struct gw_event *event, int64_t now_ms)
{
	const struct event_kind *kind = event_find(event->name);
	autofree char *key = kind && kind->limited ? key_of(event) : NULL;
	struct event_line *line = make_line(event);
	struct event_limit *limit;
	int verdict;

	if (!line)
		return false;
	pthread_mutex_lock(&queue->lock);
	limit = key ? find_limit(queue, &key, now_ms) : NULL;
	verdict = limit ? hold_back(limit, line, now_ms) : 1;
	if (verdict > 0)
		append(queue, line);
	pthread_mutex_unlock(&queue->lock);
	return verdict;
}

struct event_line *event_queue_take(struct event_queue *queue, int64_t now_ms, int64_t *wait_ms)
{
	struct event_line *lines;

	*wait_ms = -1;
	pthread_mutex_lock(&queue->lock);
	for (size_t i = 0; i < EVENT_LIMITS; i++) {
		struct event_limit *limit = &queue->limits[i];

		if (!limit->kept)
			continue;
		if (limit->until_ms <= now_ms) {
			append(queue, limit->kept);
			limit->kept = NULL;
			limit->until_ms = now_ms + EVENT_INTERVAL_MS;
		} else if (*wait_ms < 0 || limit->until_ms - now_ms < *wait_ms) {
			*wait_ms = limit->until_ms - now_ms;
		}
	}
	lines = queue->first;
	queue->first = NULL;
	queue->end = &queue->first;
	pthread_mutex_unlock(&queue->lock);
	return lines;
}
