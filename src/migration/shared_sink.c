/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/shared_sink.h"

#include "base/error.h"
#include "base/util.h"

static struct shared_sink *shared(struct sink *sink)
{
	return container_of(sink, struct shared_sink, sink);
}

static int enter(struct shared_sink *s, struct gw_error *err)
{
	pthread_mutex_lock(&s->lock);
	return s->culprit ? error_set(err, -ECANCELED, "given up, since %s has failed",
	                              s->culprit->name)
	                  : 0;
}

/* Half a record may have gone out: what came behind it could not be read. */
static int leave(struct shared_sink *s, const struct participant *p, int r)
{
	if (r < 0 && !s->culprit)
		s->culprit = p;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int put_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                      size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct shared_sink *s = shared(sink);
	int r = enter(s, err);

	if (!r)
		r = s->to->ops->record(s->to, p, type, head, head_len, body, body_len, err);
	return leave(s, p, r);
}

static int put_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                     size_t count, struct gw_error *err)
{
	struct shared_sink *s = shared(sink);
	int r = enter(s, err);

	if (!r)
		r = s->to->ops->pages(s->to, p, gpa, hva, count, err);
	return leave(s, p, r);
}

static bool pause_wanted(struct sink *sink)
{
	struct shared_sink *s = shared(sink);
	bool wanted;

	pthread_mutex_lock(&s->lock);
	wanted = s->culprit || (s->to->ops->pause_wanted && s->to->ops->pause_wanted(s->to));
	pthread_mutex_unlock(&s->lock);
	return wanted;
}

static const struct sink_ops shared_ops = {
	.record = put_record,
	.pages = put_pages,
	.pause_wanted = pause_wanted,
};

void shared_sink_init(struct shared_sink *s, struct sink *to)
{
	*s = (struct shared_sink){ .sink.ops = &shared_ops, .to = to };
	pthread_mutex_init(&s->lock, NULL);
}

void shared_sink_fini(struct shared_sink *s)
{
	pthread_mutex_destroy(&s->lock);
}

void shared_sink_stop(struct shared_sink *s, const struct participant *p)
{
	pthread_mutex_lock(&s->lock);
	if (!s->culprit)
		s->culprit = p;
	pthread_mutex_unlock(&s->lock);
}

const struct participant *shared_sink_culprit(struct shared_sink *s)
{
	const struct participant *culprit;

	pthread_mutex_lock(&s->lock);
	culprit = s->culprit;
	pthread_mutex_unlock(&s->lock);
	return culprit;
}
