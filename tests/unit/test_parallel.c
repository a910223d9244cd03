/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices side by side, shown by construction and not by time: who waits at a
 * barrier for all others only comes through if all are inside at once.
 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "migration/parallel.h"
#include "migration/sequence.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DEVICES 4
#define CHUNK (256 * KIB)
#define CHUNKS 64 /* 16 MiB a device */

/* What a call of the phase under test does. */
enum conduct {
	MEET,    /* waits for all others, once */
	STREAM,  /* saves CHUNKS chunks, and meets the others before each */
	FAIL,    /* meets the others, then fails */
	FOREVER, /* saves until the sink has enough */
	PLAIN,   /* is done at once */
};

struct world;
struct dev {
	struct participant p;
	struct world *w;
	enum conduct conduct;
	unsigned sent;
	unsigned calls, undone;
};

struct world {
	struct dev devs[DEVICES + 1]; /* the last one is a vCPU, which comes before or behind */
	struct participant_list list;
	struct participant_ops ops, vcpu_ops;
	pthread_barrier_t barrier;
	enum phase phase; /* under test */
	int inside;       /* how many are in it; atomic */
	uint64_t most;    /* and at most; atomic */
	bool vcpu_met_one;
	/* the sink */
	struct sink sink;
	int in_sink;
	uint64_t in_hand, most_in_hand; /* bytes that devices have read and not got rid of */
	uint8_t order[DEVICES * CHUNKS];
	size_t records;
	size_t break_at; /* the link fails at this record; 0: never */
	int break_code;
};

static struct dev *of(struct participant *p)
{
	return container_of(p, struct dev, p);
}

static void raise_to(uint64_t *most, uint64_t now)
{
	uint64_t was = __atomic_load_n(most, __ATOMIC_SEQ_CST);

	while (now > was && !__atomic_compare_exchange_n(most, &was, now, false, __ATOMIC_SEQ_CST,
	                                                 __ATOMIC_SEQ_CST))
		;
}

static int send_chunk(struct dev *d, struct sink *sink, struct gw_error *err)
{
	struct world *w = d->w;
	autofree uint32_t *chunk = malloc(CHUNK);
	int r;

	raise_to(&w->most_in_hand, __atomic_add_fetch(&w->in_hand, CHUNK, __ATOMIC_SEQ_CST));
	chunk[0] = d->sent++;
	r = sink_record(sink, &d->p, 1, chunk, CHUNK, err);
	__atomic_sub_fetch(&w->in_hand, CHUNK, __ATOMIC_SEQ_CST);
	return r;
}

static int conduct(struct dev *d, struct sink *sink, struct gw_error *err)
{
	struct world *w = d->w;
	int r = 0;

	switch (d->conduct) {
	case PLAIN:
		return 0;
	case STREAM:
		for (unsigned i = 0; i < CHUNKS && !r; i++) {
			pthread_barrier_wait(&w->barrier);
			r = send_chunk(d, sink, err);
		}
		return r;
	case FOREVER:
		pthread_barrier_wait(&w->barrier);
		while (!r)
			r = send_chunk(d, sink, err);
		return r;
	case FAIL:
		pthread_barrier_wait(&w->barrier);
		return error_set(err, -EIO, "it broke");
	default:
		pthread_barrier_wait(&w->barrier);
		return 0;
	}
}

/* Each call of a phase; only the one under test is of interest. */
static int step(struct participant *p, enum phase phase, struct sink *sink, struct gw_error *err)
{
	struct dev *d = of(p);
	struct world *w = d->w;
	int r;

	if (phase != w->phase)
		return 0;
	if (p->ops == &w->vcpu_ops) {
		w->vcpu_met_one |= __atomic_load_n(&w->inside, __ATOMIC_SEQ_CST) != 0;
		return 0;
	}
	d->calls++;
	raise_to(&w->most, (uint64_t)__atomic_add_fetch(&w->inside, 1, __ATOMIC_SEQ_CST));
	r = conduct(d, sink, err);
	__atomic_sub_fetch(&w->inside, 1, __ATOMIC_SEQ_CST);
	return r;
}

static int dev_quiesce(struct participant *p, struct gw_error *err)
{
	return step(p, PHASE_QUIESCE, NULL, err);
}

static int dev_stop(struct participant *p, struct gw_error *err)
{
	return step(p, PHASE_STOP, NULL, err);
}

static int dev_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	return step(p, PHASE_SAVE, sink, err);
}

static int dev_settle(struct participant *p, struct gw_error *err)
{
	return step(p, PHASE_SETTLE, NULL, err);
}

static int dev_resume(struct participant *p, int pass, struct gw_error *err)
{
	return step(p, pass ? PHASE_RUN : PHASE_ANSWER_DMA, NULL, err);
}

static void dev_finish(struct participant *p, bool goes_on)
{
	(void)goes_on;
	step(p, PHASE_FINISH, NULL, NULL);
}

static int dev_answer_again(struct participant *p, struct gw_error *err)
{
	return step(p, PHASE_ANSWER_AGAIN, NULL, err);
}

static int dev_rollback(struct participant *p, struct gw_error *err)
{
	of(p)->undone++;
	return step(p, PHASE_ROLLBACK, NULL, err);
}

static void dev_discard(struct participant *p)
{
	of(p)->undone++;
	step(p, PHASE_DISCARD, NULL, NULL);
}

/* One at a time, or the stream would be a heap of pieces. */
static int take_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                       size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct world *w = container_of(sink, struct world, sink);
	struct dev *d = of(p);

	(void)type, (void)body;
	cr_assert_eq(__atomic_add_fetch(&w->in_sink, 1, __ATOMIC_SEQ_CST), 1);
	cr_assert_eq(head_len + body_len, CHUNK);
	cr_assert_eq(*(const uint32_t *)head, d->sent - 1, "records of one come in their order");
	if (w->records < ARRAY_SIZE(w->order))
		w->order[w->records] = (uint8_t)(d - w->devs);
	w->records++;
	__atomic_sub_fetch(&w->in_sink, 1, __ATOMIC_SEQ_CST);
	if (w->break_at && w->records >= w->break_at)
		return error_set(err, w->break_code, "the link broke at %zu", w->records);
	return 0;
}

static int no_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                    size_t count, struct gw_error *err)
{
	(void)sink, (void)p, (void)gpa, (void)hva, (void)count;
	return error_set(err, -EINVAL, "no pages");
}

static const struct sink_ops sink_ops = { .record = take_record, .pages = no_pages };

static struct world *world_new(enum phase phase, enum conduct all)
{
	struct world *w = calloc(1, sizeof(*w));

	w->phase = phase;
	w->sink.ops = &sink_ops;
	w->ops = (struct participant_ops){
		.kind = "dev",
		.version = 1,
		.class = PARTICIPANT_PASSTHROUGH,
		.quiesce = dev_quiesce,
		.stop = dev_stop,
		.save = dev_save,
		.settle = dev_settle,
		.resume = dev_resume,
		.finish = dev_finish,
		.answer_again = dev_answer_again,
		.rollback = dev_rollback,
		.discard = dev_discard,
	};
	w->vcpu_ops = w->ops;
	w->vcpu_ops.class = PARTICIPANT_VCPU;
	pthread_barrier_init(&w->barrier, NULL, DEVICES);
	for (size_t i = 0; i <= DEVICES; i++) {
		struct dev *d = &w->devs[i];

		d->w = w;
		d->conduct = all;
		d->p.ops = i < DEVICES ? &w->ops : &w->vcpu_ops;
		snprintf(d->p.name, sizeof(d->p.name), "dev%zu", i);
		participant_add(&w->list, &d->p, NULL);
	}
	return w;
}

static void world_free(struct world *w)
{
	pthread_barrier_destroy(&w->barrier);
	free(w);
}

static int run(struct world *w, struct sequence *s, struct gw_error *err)
{
	*s = (struct sequence){ .list = &w->list, .sink = &w->sink };
	*err = (struct gw_error){ 0 };
	return sequence_run(s, w->phase, err);
}

static const enum phase phases[] = { PHASE_QUIESCE, PHASE_STOP,       PHASE_SAVE,
	                             PHASE_SETTLE,  PHASE_ANSWER_DMA, PHASE_RUN };
/* What goes on past any failure. */
static const enum phase endings[] = { PHASE_FINISH, PHASE_ANSWER_AGAIN, PHASE_ROLLBACK,
	                              PHASE_DISCARD };

/* ---- at once -------------------------------------------------------------------------------- */

static void check_all_met(struct world *w)
{
	cr_assert_eq(w->most, DEVICES, "%s", phase_name(w->phase));
	cr_assert_not(w->vcpu_met_one, "%s: the class was not through", phase_name(w->phase));
	for (size_t d = 0; d < DEVICES; d++)
		cr_assert_eq(w->devs[d].calls, 1);
}

Test(parallel, all_four_are_in_the_phase_at_once)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		struct world *w = world_new(phases[i], MEET);
		struct gw_error err;
		struct sequence s;

		cr_assert_eq(run(w, &s, &err), 0, "%s", err.text);
		check_all_met(w);
		sequence_end(&s);
		world_free(w);
	}
}

/* Four that hang take no longer than one. */
Test(parallel, all_four_are_taken_back_at_once_F3)
{
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		struct world *w = world_new(endings[i], MEET);
		struct sequence s = { .list = &w->list };

		sequence_run_all(&s, endings[i], NULL);
		check_all_met(w);
		sequence_end(&s);
		world_free(w);
	}
}

/* 16 MiB each: in each round every device's chunk passes before any device's next. */
Test(parallel, records_of_several_interleave_in_bounded_memory)
{
	struct world *w = world_new(PHASE_SAVE, STREAM);
	struct gw_error err;
	struct sequence s;

	cr_assert_eq(run(w, &s, &err), 0, "%s", err.text);
	cr_assert_eq(w->records, DEVICES * CHUNKS);
	for (size_t round = 0; round < CHUNKS; round++) {
		unsigned seen = 0;

		for (size_t i = 0; i < DEVICES; i++)
			seen |= 1u << w->order[round * DEVICES + i];
		cr_assert_eq(seen, (1u << DEVICES) - 1, "round %zu", round);
	}
	cr_assert_leq(w->most_in_hand, DEVICES * CHUNK);
	sequence_end(&s);
	world_free(w);
}

static void count_call(void *opaque, struct parallel_call *c)
{
	int *counts = opaque;

	__atomic_add_fetch(&counts[c->result], 1, __ATOMIC_SEQ_CST);
}

/* With as many threads as calls, with fewer, and with none; many times with the same. */
Test(parallel, each_call_is_made_once_however_many_there_are)
{
	static const size_t sizes[] = { 0, 1, 2, 3, PARALLEL_MAX, 2 * PARALLEL_MAX };

	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct crew *crew = crew_create(sizes[s]);

		cr_assert_eq(crew != NULL, sizes[s] > 1);
		for (size_t n = 0; n < 40 * (PARALLEL_MAX + 1); n++) {
			const size_t count = n % (PARALLEL_MAX + 1);
			struct parallel_call calls[PARALLEL_MAX];
			int counts[PARALLEL_MAX] = { 0 };

			for (size_t i = 0; i < count; i++)
				calls[i] = (struct parallel_call){ .result = (int)i };
			parallel_run(crew, calls, count, count_call, counts);
			for (size_t i = 0; i < PARALLEL_MAX; i++)
				cr_assert_eq(counts[i], i < count);
		}
		crew_destroy(crew);
	}
}

struct rendezvous {
	pthread_barrier_t all;
	pthread_t callers[PARALLEL_MAX];
};

static void meet(void *opaque, struct parallel_call *c)
{
	struct rendezvous *r = opaque;

	pthread_barrier_wait(&r->all);
	r->callers[c->result] = pthread_self();
}

/* Each on a thread of its own, again and again on the same ones. */
Test(parallel, a_crew_stays)
{
	struct crew *crew = crew_create(PARALLEL_MAX);
	pthread_t known[PARALLEL_MAX];
	struct rendezvous r;

	pthread_barrier_init(&r.all, NULL, PARALLEL_MAX);
	for (int round = 0; round < 100; round++) {
		struct parallel_call calls[PARALLEL_MAX];

		for (int i = 0; i < PARALLEL_MAX; i++)
			calls[i] = (struct parallel_call){ .result = i };
		parallel_run(crew, calls, PARALLEL_MAX, meet, &r);
		if (!round)
			memcpy(known, r.callers, sizeof(known));
		for (int i = 0; i < PARALLEL_MAX; i++) {
			int found = 0;

			for (int k = 0; k < PARALLEL_MAX; k++)
				found += pthread_equal(r.callers[i], known[k]) != 0;
			cr_assert_eq(found, 1);
		}
	}
	pthread_barrier_destroy(&r.all);
	crew_destroy(crew);
}

/* More of them than threads. */
Test(parallel, devices_beyond_the_bound_take_turns)
{
	enum { MANY = 2 * PARALLEL_MAX + 3 };
	struct world *w = world_new(PHASE_STOP, PLAIN);
	struct dev *more = calloc(MANY, sizeof(*more));
	struct gw_error err;
	struct sequence s;

	for (size_t i = 0; i < MANY; i++) {
		more[i] = (struct dev){ .w = w, .conduct = PLAIN };
		more[i].p.ops = &w->ops;
		snprintf(more[i].p.name, sizeof(more[i].p.name), "more%zu", i);
		participant_add(&w->list, &more[i].p, NULL);
	}
	cr_assert_eq(run(w, &s, &err), 0, "%s", err.text);
	for (size_t i = 0; i < MANY; i++)
		cr_assert_eq(more[i].calls, 1, "%zu", i);
	cr_assert_leq(w->most, PARALLEL_MAX);
	free(more);
	sequence_end(&s);
	world_free(w);
}

/* ---- failure ----------------------------------------------------------------------------------
 */

/* The second of four: it is named, with the phase, and all are taken back. */
Test(parallel, failure_of_one_takes_all_back_F3)
{
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		struct world *w = world_new(phases[i], MEET);
		struct gw_error err;
		struct sequence s;
		char want[64];

		w->devs[1].conduct = FAIL;
		cr_assert_eq(run(w, &s, &err), -EIO);
		snprintf(want, sizeof(want), "dev1: %s: it broke", phase_name(phases[i]));
		cr_assert_str_eq(err.text, want);
		cr_assert_eq(w->inside, 0, "a call has not returned");
		sequence_undo(&s, phases[i], &err);
		cr_assert_str_eq(err.text, want);
		for (size_t d = 0; d < DEVICES; d++)
			cr_assert_eq(w->devs[d].undone, 1);
		sequence_end(&s);
		world_free(w);
	}
}

/* Those who would go on for ever are told; what they say then is not the reason. */
Test(parallel, failure_of_one_stops_those_who_save_F3)
{
	for (int i = 0; i < 50; i++) {
		struct world *w = world_new(PHASE_SAVE, FOREVER);
		struct gw_error err;
		struct sequence s;

		w->devs[1].conduct = FAIL;
		cr_assert_eq(run(w, &s, &err), -EIO, "%s", err.text);
		cr_assert_str_eq(err.text, "dev1: save: it broke");
		sequence_end(&s);
		world_free(w);
	}
}

Test(parallel, broken_link_is_told_once_and_ends_all)
{
	for (int i = 0; i < 50; i++) {
		struct world *w = world_new(PHASE_SAVE, FOREVER);
		struct gw_error err;
		struct sequence s;

		w->break_at = 37;
		w->break_code = -EPIPE;
		cr_assert_eq(run(w, &s, &err), -EPIPE, "%s", err.text);
		cr_assert(strstr(err.text, ": save: the link broke at 37"), "%s", err.text);
		cr_assert_eq(w->records, 37, "something went out behind half a record");
		sequence_end(&s);
		world_free(w);
	}
}

Test(parallel, cancelling_ends_all)
{
	struct world *w = world_new(PHASE_SAVE, FOREVER);
	struct gw_error err;
	struct sequence s;

	w->break_at = 20;
	w->break_code = -ECANCELED;
	cr_assert_eq(run(w, &s, &err), -ECANCELED, "%s", err.text);
	sequence_end(&s);
	world_free(w);
}

Test(parallel, what_cannot_be_undone_goes_on_past_failures)
{
	static const enum phase those[] = { PHASE_RUN, PHASE_ANSWER_AGAIN, PHASE_ROLLBACK };

	for (size_t i = 0; i < ARRAY_SIZE(those); i++) {
		struct world *w = world_new(those[i], MEET);
		struct gw_error err = { 0 };
		struct sequence s = { .list = &w->list };
		char want[80];

		w->devs[1].conduct = FAIL;
		w->devs[3].conduct = FAIL;
		sequence_run_all(&s, those[i], &err);
		snprintf(want, sizeof(want), "dev1: %s: it broke; dev3: %s: it broke",
		         phase_name(those[i]), phase_name(those[i]));
		cr_assert(strstr(err.text, want), "%s", err.text);
		for (size_t d = 0; d < DEVICES; d++)
			cr_assert_eq(w->devs[d].calls, 1);
		sequence_end(&s);
		world_free(w);
	}
}
