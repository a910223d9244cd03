/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/sequence.h"

#include "base/error.h"
#include "base/util.h"
#include "migration/parallel.h"
#include "migration/shared_sink.h"

#include <string.h>

/*
 * The protocol. Source: the guest runs during PREPARE and ITERATE; vCPUs stop
 * before QUIESCE. All participants are through one phase before any begins
 * the next: so all devices have stopped (STOP) before RAM's last dirty sync
 * and any final state (SAVE). Between SAVE and FINISH the destination says
 * that it is ready, and the source lets go: nothing after that is undone.
 * Destination: the guest runs after RUN.
 *
 * The last column: a class whose participants go through the phase side by
 * side, a thread each. While the guest stands still, N devices then take as
 * long as the slowest one, and N that hang as long as one that hangs. Still
 * the whole class is through before the next begins, and the whole phase
 * before the next phase.
 */
#define ONE_BY_ONE PARTICIPANT_CLASSES
#define ALL(a, b, c, d, e, f, g)                                                                   \
	{                                                                                          \
		PARTICIPANT_##a, PARTICIPANT_##b, PARTICIPANT_##c, PARTICIPANT_##d,                \
		        PARTICIPANT_##e, PARTICIPANT_##f, PARTICIPANT_##g                          \
	}

static int call_prepare(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_iterate(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_quiesce(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_stop(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_save(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_finish(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_answer_again(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_rollback(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_begin_load(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_load(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_settle(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_answer_dma(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_run(struct sequence *s, struct participant *p, struct gw_error *err);
static int call_discard(struct sequence *s, struct participant *p, struct gw_error *err);

static const struct phase_row {
	const char *name;
	int (*call)(struct sequence *s, struct participant *p, struct gw_error *err);
	enum phase undone_by; /* or gone on with; its own number: nothing more */
	enum participant_class order[PARTICIPANT_CLASSES];
	enum participant_class side_by_side;
} phases[PHASES] = {
	/* RAM first: no page that a device dirties while it gets ready is missed. */
	[PHASE_PREPARE] = { "prepare", call_prepare, PHASE_ROLLBACK,
	                    ALL(RAM, BOOT, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK), ONE_BY_ONE },
	[PHASE_ITERATE] = { "iterate", call_iterate, PHASE_ROLLBACK,
	                    ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK), ONE_BY_ONE },
	[PHASE_QUIESCE] = { "quiesce", call_quiesce, PHASE_ANSWER_AGAIN,
	                    ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT),
	                    PARTICIPANT_PASSTHROUGH },
	[PHASE_STOP] = { "stop", call_stop, PHASE_ANSWER_AGAIN,
	                 ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT),
	                 PARTICIPANT_PASSTHROUGH },
	/* vCPUs behind all that can raise an interrupt in them. */
	[PHASE_SAVE] = { "save", call_save, PHASE_ANSWER_AGAIN,
	                 ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK),
	                 PARTICIPANT_PASSTHROUGH },
	[PHASE_FINISH] = { "finish", call_finish, PHASE_FINISH,
	                   ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT),
	                   PARTICIPANT_PASSTHROUGH },
	/* What had stopped comes back as it started elsewhere: in two passes over all devices. */
	[PHASE_ANSWER_AGAIN] = { "answer-again", call_answer_again, PHASE_ROLLBACK,
	                         ALL(CLOCK, VCPU, CHIP, DEVICE, PASSTHROUGH, RAM, BOOT),
	                         PARTICIPANT_PASSTHROUGH },
	/* RAM last: tracking ends when nobody else needs it. */
	[PHASE_ROLLBACK] = { "rollback", call_rollback, PHASE_ROLLBACK,
	                     ALL(CLOCK, VCPU, CHIP, DEVICE, PASSTHROUGH, RAM, BOOT),
	                     PARTICIPANT_PASSTHROUGH },

	[PHASE_BEGIN_LOAD] = { "begin-load", call_begin_load, PHASE_DISCARD,
	                       ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK), ONE_BY_ONE },
	/* Records come in the source's order; this row only names the phase and its undoing. */
	[PHASE_LOAD] = { "load", call_load, PHASE_DISCARD,
	                 ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK),
	                 PARTICIPANT_PASSTHROUGH },
	[PHASE_SETTLE] = { "settle", call_settle, PHASE_DISCARD,
	                   ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK),
	                   PARTICIPANT_PASSTHROUGH },
	/* Two passes over all devices: none starts DMA before all answer it. */
	[PHASE_ANSWER_DMA] = { "answer-dma", call_answer_dma, PHASE_DISCARD,
	                       ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK),
	                       PARTICIPANT_PASSTHROUGH },
	[PHASE_RUN] = { "run", call_run, PHASE_DISCARD,
	                ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK),
	                PARTICIPANT_PASSTHROUGH },
	[PHASE_DISCARD] = { "discard", call_discard, PHASE_DISCARD,
	                    ALL(CLOCK, VCPU, CHIP, DEVICE, PASSTHROUGH, RAM, BOOT),
	                    PARTICIPANT_PASSTHROUGH },
};

const char *phase_name(enum phase phase)
{
	return phases[phase].name;
}

bool sequence_side_by_side(enum phase phase, enum participant_class class)
{
	return phases[phase].side_by_side == class;
}

/* ---- one participant, one phase: what it leaves out is done already ------------------- */

/* Only passthrough devices do anything by themselves; all others move with the vCPUs. */
static bool can_sleep(const struct participant *p)
{
	return p->ops->class == PARTICIPANT_PASSTHROUGH;
}

static bool sleeps(const struct sequence *s, const struct participant *p)
{
	return s->asleep && can_sleep(p);
}

static int call_prepare(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return p->ops->prepare ? p->ops->prepare(p, s->live && !sleeps(s, p), err) : 0;
}

static int call_iterate(struct sequence *s, struct participant *p, struct gw_error *err)
{
	int r = p->ops->iterate && !sleeps(s, p) ? p->ops->iterate(p, s->sink, err) : 0;

	if (r > 0)
		s->paused = true;
	return MIN(r, 0);
}

static int call_quiesce(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return p->ops->quiesce && !sleeps(s, p) ? p->ops->quiesce(p, err) : 0;
}

static int call_stop(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->stop ? p->ops->stop(p, err) : 0;
}

static int call_save(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return p->ops->save ? p->ops->save(p, s->sink, err) : 0;
}

static int call_finish(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)err;
	if (p->ops->finish)
		p->ops->finish(p, s->goes_on && !sleeps(s, p));
	return 0;
}

static int call_answer_again(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return p->ops->answer_again && !sleeps(s, p) ? p->ops->answer_again(p, err) : 0;
}

static int call_rollback(struct sequence *s, struct participant *p, struct gw_error *err)
{
	if (!sleeps(s, p))
		return p->ops->rollback ? p->ops->rollback(p, err) : 0;
	/* It does not run again: it stops saving. */
	if (p->ops->finish)
		p->ops->finish(p, false);
	return 0;
}

static int call_begin_load(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->begin_load ? p->ops->begin_load(p, err) : 0;
}

static int call_load(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	(void)p;
	(void)err;
	return 0;
}

static int call_settle(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->settle ? p->ops->settle(p, err) : 0;
}

static int resume(struct sequence *s, struct participant *p, int pass, struct gw_error *err)
{
	if (!p->ops->resume || sleeps(s, p) || (s->waking && !can_sleep(p)))
		return 0;
	return p->ops->resume(p, pass, err);
}

static int call_answer_dma(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return resume(s, p, 0, err);
}

static int call_run(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return resume(s, p, 1, err);
}

static int call_discard(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	(void)err;
	if (p->ops->discard)
		p->ops->discard(p);
	return 0;
}

/* ---- the engine ------------------------------------------------------------------------ */

static int call(struct sequence *s, enum phase phase, struct participant *p, struct gw_error *err)
{
	const int64_t began = now_us();
	int r = phases[phase].call(s, p, err);

	if (s->watch.called)
		s->watch.called(s->watch.opaque, p, phase, now_us() - began);
	if (r < 0 && !err->code)
		error_set_sys(err, r, "it failed");
	return r;
}

/* How a phase goes on past a failure. */
enum attitude { STOP_AT_FAILURE, GO_ON };

static int failed(struct sequence *s, enum phase phase, const struct participant *p,
                  enum attitude attitude, struct gw_error *own, struct gw_error *err)
{
	const char *name = phases[phase].name;

	if (attitude == STOP_AT_FAILURE) {
		if (err)
			*err = *own;
		return error_context(err ? err : own, "%s: %s", p->name, name);
	}
	log_error(s->log, "%s: %s: %s", p->name, name, own->text);
	error_append(err, "%s: %s: %s", p->name, name, own->text);
	if (s->watch.failed)
		s->watch.failed(s->watch.opaque, p, phase, own);
	return 0;
}

struct side_by_side {
	struct sequence *s;
	enum phase phase;
	enum attitude attitude;
	struct shared_sink sink;
};

static void call_aside(void *opaque, struct parallel_call *c)
{
	struct side_by_side *b = opaque;

	if (shared_sink_culprit(&b->sink) && b->attitude == STOP_AT_FAILURE)
		return;
	c->result = call(b->s, b->phase, c->p, &c->err);
	if (c->result < 0 && b->attitude == STOP_AT_FAILURE)
		shared_sink_stop(&b->sink, c->p);
}

/* The error is that of the first that failed in time; what it brought down with it is not told. */
static int settle_calls(struct side_by_side *b, struct parallel_call *calls, size_t count,
                        struct gw_error *err)
{
	const struct participant *culprit = shared_sink_culprit(&b->sink);
	struct parallel_call *first = NULL;

	for (size_t i = 0; i < count; i++) {
		if (calls[i].result >= 0)
			continue;
		if (b->attitude == GO_ON)
			failed(b->s, b->phase, calls[i].p, GO_ON, &calls[i].err, err);
		else if (!first || calls[i].p == culprit)
			first = &calls[i];
	}
	return first ? failed(b->s, b->phase, first->p, STOP_AT_FAILURE, &first->err, err) : 0;
}

/* Up to PARALLEL_MAX from *p on, which moves behind them. */
static int run_side_by_side(struct sequence *s, enum phase phase, enum participant_class class,
                            enum attitude attitude, struct participant **p, struct gw_error *err)
{
	struct parallel_call calls[PARALLEL_MAX];
	struct side_by_side b = { .s = s, .phase = phase, .attitude = attitude };
	struct sink *sink = s->sink;
	size_t count = 0;
	int r;

	for (; *p && count < PARALLEL_MAX; *p = (*p)->next)
		if ((*p)->ops->class == class)
			calls[count++] = (struct parallel_call){ .p = *p };
	shared_sink_init(&b.sink, sink);
	s->sink = &b.sink.sink;
	parallel_run(s->crew, calls, count, call_aside, &b);
	s->sink = sink;
	r = settle_calls(&b, calls, count, err);
	shared_sink_fini(&b.sink);
	return r;
}

static int run_one_by_one(struct sequence *s, enum phase phase, enum participant_class class,
                          enum attitude attitude, struct gw_error *err)
{
	for (struct participant *p = s->list->first; p; p = p->next) {
		struct gw_error own = { 0 };
		int r = 0;

		if (p->ops->class == class && call(s, phase, p, &own) < 0)
			r = failed(s, phase, p, attitude, &own, err);
		if (r < 0)
			return r;
		/* A paused iterate() lets the sequencer look around; it goes on with the same one.
		 */
		if (phase == PHASE_ITERATE && s->paused)
			return 0;
	}
	return 0;
}

/* At the first phase of all, when the guest still runs, or does not yet. */
static void hire(struct sequence *s)
{
	size_t count = 0;

	for (const struct participant *p = s->list->first; p && !s->crew; p = p->next)
		count += p->ops->class == PARTICIPANT_PASSTHROUGH;
	if (!s->crew)
		s->crew = crew_create(count);
}

static int run(struct sequence *s, enum phase phase, enum attitude attitude, struct gw_error *err)
{
	int r = 0;

	hire(s);
	for (size_t c = 0; c < PARTICIPANT_CLASSES && !r && !s->paused; c++) {
		enum participant_class class = phases[phase].order[c];
		struct participant *p = s->list->first;

		if (!sequence_side_by_side(phase, class)) {
			r = run_one_by_one(s, phase, class, attitude, err);
			continue;
		}
		while (p && !r)
			r = run_side_by_side(s, phase, class, attitude, &p, err);
	}
	return r;
}

int sequence_run(struct sequence *s, enum phase phase, struct gw_error *err)
{
	s->begun = true;
	s->paused = false;
	return run(s, phase, STOP_AT_FAILURE, err);
}

void sequence_run_all(struct sequence *s, enum phase phase, struct gw_error *err)
{
	s->paused = false;
	run(s, phase, GO_ON, err);
}

void sequence_undo(struct sequence *s, enum phase phase, struct gw_error *err)
{
	for (enum phase undo; s->begun; phase = undo) {
		undo = phases[phase].undone_by;
		if (undo == phase)
			break;
		sequence_run_all(s, undo, err);
	}
	s->begun = false;
}

void sequence_wake(const struct log *log, struct participant_list *list,
                   const struct sequence_watch *watch)
{
	struct sequence s = { .log = log, .list = list, .watch = *watch, .waking = true };

	sequence_run_all(&s, PHASE_ANSWER_DMA, NULL);
	sequence_run_all(&s, PHASE_RUN, NULL);
	sequence_end(&s);
}

void sequence_end(struct sequence *s)
{
	crew_destroy(s->crew);
	s->crew = NULL;
}

int sequence_pending(struct sequence *s, enum pending_effort effort,
                     struct participant_pending *out, struct gw_error *err)
{
	*out = (struct participant_pending){ 0 };
	for (struct participant *p = s->list->first; p; p = p->next) {
		struct participant_pending one = { 0 };
		int r = p->ops->pending ? p->ops->pending(p, effort, &one, err) : 0;

		if (r < 0)
			return error_context(err, "%s: pending", p->name);
		/* What sleeps has nothing to send before it is stopped. */
		one.not_yet &= !sleeps(s, p);
		if (s->watch.pending)
			s->watch.pending(s->watch.opaque, p, &one);
		out->precopy += one.precopy;
		out->stop += one.stop;
		out->not_yet |= one.not_yet;
	}
	return 0;
}

static const char *blocker_of(struct participant *p, bool live)
{
	const char *why = p->ops->blocker ? p->ops->blocker(p) : NULL;

	return !why && live && p->ops->live_blocker ? p->ops->live_blocker(p) : why;
}

const char *sequence_blocker(const struct participant_list *list, unsigned how,
                             void (*each)(void *opaque, const char *why), void *opaque)
{
	const char *first = NULL;

	for (struct participant *p = list->first; p; p = p->next) {
		const char *why = blocker_of(p, how & SEQUENCE_LIVE);

		if (p->leaves[0])
			why = how & SEQUENCE_MAY_LEAVE ? NULL : p->leaves;
		if (!why)
			continue;
		if (!each)
			return why;
		each(opaque, why);
		first = first ? first : why;
	}
	return first;
}
