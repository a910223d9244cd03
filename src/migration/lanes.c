/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/lanes.h"

#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"
#include "migration/sequence.h"

#include <string.h>

/* A frame that waits, with a copy of its payload. */
struct parcel {
	struct parcel *next;
	struct frame_header h;
	uint8_t payload[];
};

struct lane {
	struct lanes *lanes;
	pthread_t thread;
	bool threaded;
	struct parcel *first, **last;
	size_t bytes;        /* that wait */
	bool busy;           /* with one that waits no more */
	pthread_cond_t work; /* for the thread: there is some, or it is over */
};

struct lanes {
	struct reader *reader;
	struct lanes_watch watch;
	pthread_mutex_t lock;   /* of all below, and of the lanes */
	pthread_cond_t changed; /* a lane has room, is idle, or has failed */
	bool over;
	struct gw_error error; /* the first failure; its code 0: none */
	unsigned count;
	struct lane lanes[LANES_MAX];
	int lane_of[READER_PARTICIPANTS_MAX]; /* by row; -1: none */
};

/* ---- a lane's thread -------------------------------------------------------------------- */

static size_t size_of(const struct parcel *parcel)
{
	return sizeof(*parcel) + parcel->h.length;
}

/* The next parcel, or NULL: it is over. Lock held. */
static struct parcel *take(struct lane *lane)
{
	struct lanes *l = lane->lanes;
	struct parcel *parcel;

	lane->busy = false;
	pthread_cond_broadcast(&l->changed);
	while (!lane->first && !l->over && !l->error.code)
		pthread_cond_wait(&lane->work, &l->lock);
	if (l->over || l->error.code)
		return NULL;
	parcel = lane->first;
	lane->first = parcel->next;
	if (!lane->first)
		lane->last = &lane->first;
	lane->bytes -= size_of(parcel);
	lane->busy = true;
	return parcel;
}

static int load(struct lanes *l, const struct frame_header *h, const uint8_t *payload,
                struct gw_error *err)
{
	if (h->type != FRAME_MARK)
		return reader_load(l->reader, h, payload, err);
	if (h->length)
		return error_set(err, -EPROTO, "frame %u (mark): %u bytes", h->sequence, h->length);
	if (l->watch.marked)
		l->watch.marked(l->watch.opaque, h->participant);
	return 0;
}

/* The first failure counts; all lanes end by it. Lock held. */
static void fail(struct lanes *l, const struct gw_error *err)
{
	if (l->error.code)
		return;
	l->error = *err;
	for (unsigned i = 0; i < l->count; i++)
		pthread_cond_signal(&l->lanes[i].work);
	pthread_cond_broadcast(&l->changed);
}

static void *work(void *opaque)
{
	struct lane *lane = opaque;
	struct lanes *l = lane->lanes;
	struct parcel *parcel;

	pthread_mutex_lock(&l->lock);
	while ((parcel = take(lane))) {
		struct gw_error err = { 0 };
		int r;

		pthread_mutex_unlock(&l->lock);
		r = load(l, &parcel->h, parcel->payload, &err);
		free(parcel);
		if (r < 0 && !err.code)
			error_set_sys(&err, r, "load");
		pthread_mutex_lock(&l->lock);
		if (r < 0) {
			fail(l, &err);
			if (l->watch.failed)
				l->watch.failed(l->watch.opaque);
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- the reader's side --------------------------------------------------------------------- */

int lanes_check(struct lanes *l, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&l->lock);
	r = l->error.code;
	if (r && err)
		*err = l->error;
	pthread_mutex_unlock(&l->lock);
	return r;
}

static struct parcel *wrap(const struct reader *r)
{
	struct parcel *parcel = malloc(sizeof(*parcel) + r->h.length);

	if (!parcel)
		return NULL;
	parcel->next = NULL;
	parcel->h = r->h;
	memcpy(parcel->payload, r->payload, r->h.length);
	return parcel;
}

static int put(struct lane *lane, struct gw_error *err)
{
	struct lanes *l = lane->lanes;
	struct parcel *parcel = wrap(l->reader);
	int r;

	if (!parcel)
		return error_set(err, -ENOMEM, "%s: load: out of memory",
		                 reader_participant_name(l->reader));
	pthread_mutex_lock(&l->lock);
	while (lane->bytes && lane->bytes + size_of(parcel) > LANE_BYTES && !l->error.code)
		pthread_cond_wait(&l->changed, &l->lock);
	r = l->error.code;
	if (!r) {
		*lane->last = parcel;
		lane->last = &parcel->next;
		lane->bytes += size_of(parcel);
		pthread_cond_signal(&lane->work);
		parcel = NULL;
	} else if (err) {
		*err = l->error;
	}
	pthread_mutex_unlock(&l->lock);
	free(parcel);
	return r;
}

int lanes_deliver(struct lanes *l, struct gw_error *err)
{
	const struct reader *reader = l->reader;
	int lane, r = lanes_check(l, err);

	if (r < 0)
		return r;
	if (reader->h.participant >= reader->table_count)
		return error_set(err, -EPROTO, "frame %u (%s): there is no participant %u",
		                 reader->h.sequence, frame_type_name(reader->h.type),
		                 reader->h.participant);
	lane = l->lane_of[reader->h.participant];
	if (lane >= 0)
		return put(&l->lanes[lane], err);
	return load(l, &reader->h, reader->payload, err);
}

static bool all_idle(const struct lanes *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->lanes[i].first || l->lanes[i].busy)
			return false;
	return true;
}

int lanes_drain(struct lanes *l, struct gw_error *err)
{
	pthread_mutex_lock(&l->lock);
	while (!l->error.code && !all_idle(l))
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
	return lanes_check(l, err);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void assign(struct lanes *l)
{
	unsigned devices = 0;

	for (uint32_t i = 0; i < l->reader->table_count; i++) {
		const struct participant *p = l->reader->table[i].p;

		l->lane_of[i] = -1;
		if (sequence_side_by_side(PHASE_LOAD, p->ops->class))
			l->lane_of[i] = (int)(devices++ % LANES_MAX);
	}
	l->count = MIN(devices, (unsigned)LANES_MAX);
}

int lanes_create(struct reader *reader, const struct lanes_watch *watch, struct lanes **out,
                 struct gw_error *err)
{
	struct lanes *l = calloc(1, sizeof(*l));
	int r = 0;

	if (!l)
		return error_set(err, -ENOMEM, "stream: out of memory");
	l->reader = reader;
	if (watch)
		l->watch = *watch;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	assign(l);
	for (unsigned i = 0; i < l->count; i++) {
		l->lanes[i] = (struct lane){ .lanes = l, .last = &l->lanes[i].first };
		pthread_cond_init(&l->lanes[i].work, NULL);
	}
	for (unsigned i = 0; i < l->count && !r; i++) {
		struct lane *lane = &l->lanes[i];

		r = thread_start(&lane->thread, work, lane, "incoming dev");
		lane->threaded = r == 0;
	}
	if (r < 0) {
		lanes_destroy(l);
		return error_set_sys(err, r, "stream: pthread_create");
	}
	*out = l;
	return 0;
}

void lanes_destroy(struct lanes *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->over = true;
	for (unsigned i = 0; i < l->count; i++)
		pthread_cond_signal(&l->lanes[i].work);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->count; i++) {
		struct lane *lane = &l->lanes[i];

		if (lane->threaded)
			pthread_join(lane->thread, NULL);
		while (lane->first) {
			struct parcel *parcel = lane->first;

			lane->first = parcel->next;
			free(parcel);
		}
		pthread_cond_destroy(&lane->work);
	}
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
