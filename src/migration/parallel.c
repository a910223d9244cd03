/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/parallel.h"

#include "base/thread.h"

struct worker {
	pthread_t thread;
	bool threaded;
	struct parallel_call *c;
	void (*call)(void *opaque, struct parallel_call *c);
	void *opaque;
};

static void *work(void *opaque)
{
	struct worker *w = opaque;

	w->call(w->opaque, w->c);
	return NULL;
}

void parallel_run(struct parallel_call *calls, size_t count,
                  void (*call)(void *opaque, struct parallel_call *c), void *opaque)
{
	struct worker workers[PARALLEL_MAX];

	for (size_t i = 0; i < count; i++) {
		struct worker *w = &workers[i];

		*w = (struct worker){ .c = &calls[i], .call = call, .opaque = opaque };
		if (i + 1 < count)
			w->threaded = !thread_start(&w->thread, work, w, "migration dev");
	}
	for (size_t i = count; i-- > 0;)
		if (!workers[i].threaded)
			work(&workers[i]);
	for (size_t i = 0; i < count; i++)
		if (workers[i].threaded)
			pthread_join(workers[i].thread, NULL);
}
