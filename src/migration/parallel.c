/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/parallel.h"

#include "base/thread.h"
#include "base/util.h"

struct crew {
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work;  /* there are calls to make, or it is over */
	pthread_cond_t done;  /* the last of them has returned */
	bool over;
	struct parallel_call *calls;
	size_t count, begun, returned;
	void (*call)(void *opaque, struct parallel_call *c);
	void *opaque;
	size_t size;
	pthread_t threads[PARALLEL_MAX - 1];
};

/* Makes calls until none is left to be begun. Lock held; given up and taken again meanwhile. */
static void make_calls(struct crew *crew)
{
	while (crew->begun < crew->count) {
		struct parallel_call *c = &crew->calls[crew->begun++];

		pthread_mutex_unlock(&crew->lock);
		crew->call(crew->opaque, c);
		pthread_mutex_lock(&crew->lock);
		if (++crew->returned == crew->count)
			pthread_cond_signal(&crew->done);
	}
}

static void *work(void *opaque)
{
	struct crew *crew = opaque;

	pthread_mutex_lock(&crew->lock);
	while (!crew->over) {
		make_calls(crew);
		pthread_cond_wait(&crew->work, &crew->lock);
	}
	pthread_mutex_unlock(&crew->lock);
	return NULL;
}

struct crew *crew_create(size_t count)
{
	struct crew *crew = count > 1 ? calloc(1, sizeof(*crew)) : NULL;

	if (!crew)
		return NULL;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->work, NULL);
	pthread_cond_init(&crew->done, NULL);
	while (crew->size < MIN(count, (size_t)PARALLEL_MAX) - 1 &&
	       !thread_start(&crew->threads[crew->size], work, crew, "migration dev"))
		crew->size++;
	if (crew->size)
		return crew;
	crew_destroy(crew);
	return NULL;
}

void crew_destroy(struct crew *crew)
{
	if (!crew)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->over = true;
	pthread_cond_broadcast(&crew->work);
	pthread_mutex_unlock(&crew->lock);
	for (size_t i = 0; i < crew->size; i++)
		pthread_join(crew->threads[i], NULL);
	pthread_cond_destroy(&crew->done);
	pthread_cond_destroy(&crew->work);
	pthread_mutex_destroy(&crew->lock);
	free(crew);
}

void parallel_run(struct crew *crew, struct parallel_call *calls, size_t count,
                  void (*call)(void *opaque, struct parallel_call *c), void *opaque)
{
	if (!crew || count < 2) {
		for (size_t i = 0; i < count; i++)
			call(opaque, &calls[i]);
		return;
	}
	pthread_mutex_lock(&crew->lock);
	crew->calls = calls;
	crew->count = count;
	crew->begun = crew->returned = 0;
	crew->call = call;
	crew->opaque = opaque;
	pthread_cond_broadcast(&crew->work);
	make_calls(crew);
	while (crew->returned < crew->count)
		pthread_cond_wait(&crew->done, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}
