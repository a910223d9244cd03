/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/sequence.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

/*
 * The protocol. Source: the guest runs during PREPARE and ITERATE; vCPUs stop
 * before QUIESCE. All participants are through one phase before any begins
 * the next: so all devices have stopped (STOP) before RAM's last dirty sync
 * and any final state (SAVE). Between SAVE and FINISH the destination says
 * that it is ready, and the source lets go: nothing after that is undone.
 * Destination: the guest runs after RUN.
 */
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
	enum phase undone_by; /* its own number: nothing to undo */
	enum participant_class order[PARTICIPANT_CLASSES];
} phases[PHASES] = {
	/* RAM first: no page that a device dirties while it gets ready is missed. */
	[PHASE_PREPARE] = { "prepare", call_prepare, PHASE_ROLLBACK,
	                    ALL(RAM, BOOT, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_ITERATE] = { "iterate", call_iterate, PHASE_ROLLBACK,
	                    ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_QUIESCE] = { "quiesce", call_quiesce, PHASE_ROLLBACK,
	                    ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT) },
	[PHASE_STOP] = { "stop", call_stop, PHASE_ROLLBACK,
	                 ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT) },
	/* vCPUs behind all that can raise an interrupt in them. */
	[PHASE_SAVE] = { "save", call_save, PHASE_ROLLBACK,
	                 ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_FINISH] = { "finish", call_finish, PHASE_FINISH,
	                   ALL(PASSTHROUGH, DEVICE, CHIP, VCPU, CLOCK, RAM, BOOT) },
	/* RAM last: tracking ends when nobody else needs it. */
	[PHASE_ROLLBACK] = { "rollback", call_rollback, PHASE_ROLLBACK,
	                     ALL(CLOCK, VCPU, CHIP, DEVICE, PASSTHROUGH, RAM, BOOT) },

	[PHASE_BEGIN_LOAD] = { "begin-load", call_begin_load, PHASE_DISCARD,
	                       ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	/* Records come in the source's order; this row only names the phase and its undoing. */
	[PHASE_LOAD] = { "load", call_load, PHASE_DISCARD,
	                 ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_SETTLE] = { "settle", call_settle, PHASE_DISCARD,
	                   ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	/* Two passes over all devices: none starts DMA before all answer it. */
	[PHASE_ANSWER_DMA] = { "answer-dma", call_answer_dma, PHASE_DISCARD,
	                       ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_RUN] = { "run", call_run, PHASE_DISCARD,
	                ALL(BOOT, RAM, CHIP, DEVICE, PASSTHROUGH, VCPU, CLOCK) },
	[PHASE_DISCARD] = { "discard", call_discard, PHASE_DISCARD,
	                    ALL(CLOCK, VCPU, CHIP, DEVICE, PASSTHROUGH, RAM, BOOT) },
};

const char *phase_name(enum phase phase)
{
	return phases[phase].name;
}

/* ---- one participant, one phase: what it leaves out is done already ------------------- */

static int call_prepare(struct sequence *s, struct participant *p, struct gw_error *err)
{
	return p->ops->prepare ? p->ops->prepare(p, s->live, err) : 0;
}

static int call_iterate(struct sequence *s, struct participant *p, struct gw_error *err)
{
	int r = p->ops->iterate ? p->ops->iterate(p, s->sink, err) : 0;

	if (r > 0)
		s->paused = true;
	return MIN(r, 0);
}

static int call_quiesce(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->quiesce ? p->ops->quiesce(p, err) : 0;
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
		p->ops->finish(p, s->goes_on);
	return 0;
}

static int call_rollback(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->rollback ? p->ops->rollback(p, err) : 0;
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

static int call_answer_dma(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->resume ? p->ops->resume(p, 0, err) : 0;
}

static int call_run(struct sequence *s, struct participant *p, struct gw_error *err)
{
	(void)s;
	return p->ops->resume ? p->ops->resume(p, 1, err) : 0;
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

/* Calls `each` in the phase's order; stops where it does not give 0. */
static int for_each(struct sequence *s, enum phase phase,
                    int (*each)(struct sequence *s, enum phase phase, struct participant *p,
                                struct gw_error *err),
                    struct gw_error *err)
{
	for (size_t c = 0; c < PARTICIPANT_CLASSES; c++) {
		for (struct participant *p = s->list->first; p; p = p->next) {
			int r;

			if (p->ops->class != phases[phase].order[c])
				continue;
			r = each(s, phase, p, err);
			if (r)
				return r;
		}
	}
	return 0;
}

static int run_one(struct sequence *s, enum phase phase, struct participant *p,
                   struct gw_error *err)
{
	int r = phases[phase].call(s, p, err);

	if (r < 0)
		return error_context(err, "%s: %s", p->name, phases[phase].name);
	/* A paused iterate() lets the sequencer look around; it goes on with the same one. */
	return phase == PHASE_ITERATE && s->paused ? 1 : 0;
}

int sequence_run(struct sequence *s, enum phase phase, struct gw_error *err)
{
	int r;

	s->begun = true;
	s->paused = false;
	r = for_each(s, phase, run_one, err);
	return MIN(r, 0);
}

static int run_anyway(struct sequence *s, enum phase phase, struct participant *p,
                      struct gw_error *err)
{
	struct gw_error own = { 0 };

	if (phases[phase].call(s, p, &own) < 0) {
		log_error(s->log, "%s: %s: %s", p->name, phases[phase].name, own.text);
		error_append(err, "%s: %s: %s", p->name, phases[phase].name, own.text);
	}
	return 0;
}

void sequence_run_all(struct sequence *s, enum phase phase, struct gw_error *err)
{
	for_each(s, phase, run_anyway, err);
}

void sequence_undo(struct sequence *s, enum phase failed, struct gw_error *err)
{
	enum phase undo = phases[failed].undone_by;

	if (!s->begun || undo == failed)
		return;
	sequence_run_all(s, undo, err);
	s->begun = false;
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
