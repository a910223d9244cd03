/* SPDX-License-Identifier: Apache-2.0 */
/* Several passed-through devices of different kinds as participants of a migration. */
#include "state_world.h"

#include "base/util.h"
#include "vfio/compat.h"
#include "vfio/participant.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define SECOND 1

static const uint64_t four[WORLD_DEVICES] = { V2_ALL, V2_STOP_COPY | V2_P2P, WORLD_V1,
	                                      V2_STOP_COPY | V2_PRE_COPY };
/* What the second may be. */
static const uint64_t seconds[] = { V2_ALL, V2_STOP_COPY | V2_P2P, V2_STOP_COPY | V2_PRE_COPY,
	                            V2_STOP_COPY, WORLD_V1 };

static struct state_world *with_second(uint64_t kind)
{
	uint64_t kinds[WORLD_DEVICES];

	memcpy(kinds, four, sizeof(kinds));
	kinds[SECOND] = kind;
	return world_new(kinds);
}

static void expect_all(struct state_world *w, const struct state_world *from)
{
	for (unsigned i = 0; i < WORLD_DEVICES; i++)
		cr_assert(world_has(w, from, i), "dev%u has not the state", i);
}

/* ---- as it should be ---- */

Test(vfio_moving, four_kinds_Q1_D4_D5)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	cr_assert_eq(world_running(a), 0, "all stand still before any is at its end");
	cr_assert_eq(world_take(b, a, &err), 0, "%s", err.text);
	cr_assert_eq(world_running(b), 0, "nothing runs before the guest does");
	cr_assert_eq(world_run(b, PHASE_ANSWER_DMA, &err), 0, "%s", err.text);
	cr_assert_eq(world_running(b), 0);
	cr_assert_eq(b->v2[0]->in, MIG_RUNNING_P2P);
	cr_assert_eq(world_run(b, PHASE_RUN, &err), 0, "%s", err.text);
	cr_assert_eq(world_running(b), 4);
	expect_all(b, a);
	cr_assert_eq(world_run(a, PHASE_FINISH, &err), 0);
	cr_assert_eq(world_running(a), 0);
	for (unsigned i = 0; i < WORLD_DEVICES; i++)
		cr_assert_eq(world_resets(a, i) + world_resets(b, i), 0);
	world_free(a);
	world_free(b);
}

Test(vfio_moving, all_are_quiet_before_one_is_stopped_Q1_Q2)
{
	struct state_world *w = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(w, PHASE_QUIESCE, &err), 0, "%s", err.text);
	cr_assert_eq(w->v2[0]->in, MIG_PRE_COPY_P2P);
	cr_assert_eq(w->v2[1]->in, MIG_RUNNING_P2P);
	cr_assert_eq(w->v1[2]->value & 7, MIG_V1_STOP_COPY);
	cr_assert_eq(w->v1[2]->frozen_reads, 0, "others may still write to it");
	cr_assert_eq(world_run(w, PHASE_STOP, &err), 0, "%s", err.text);
	cr_assert_eq(w->v1[2]->frozen_reads, 1);
	world_undo(w, &err);
	cr_assert_eq(world_running(w), 4);
	world_free(w);
}

/* One that starts DMA may write to one that stands, which would be lost. */
Test(vfio_moving, all_answer_again_before_one_runs_Q1)
{
	static const enum phase lasts[] = { PHASE_QUIESCE, PHASE_STOP, PHASE_SAVE };
	struct gw_error err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(lasts); i++) {
		struct state_world *w = world_new(four);

		cr_assert_eq(world_send(w, lasts[i], &err), 0, "%s", err.text);
		cr_assert_eq(world_run(w, PHASE_ANSWER_AGAIN, &err), 0, "%s", err.text);
		cr_assert_eq(world_running(w), 0);
		cr_assert_eq(w->v2[0]->in, MIG_RUNNING_P2P);
		cr_assert_eq(w->v2[1]->in, MIG_RUNNING_P2P);
		cr_assert_eq(world_run(w, PHASE_ROLLBACK, &err), 0, "%s", err.text);
		cr_assert_eq(world_running(w), 4);
		world_free(w);
	}
}

Test(vfio_moving, one_that_is_gone_is_told_of_once_F6)
{
	struct state_world *w = with_second(V2_ALL);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(w, PHASE_STOP, &err), 0, "%s", err.text);
	w->v2[SECOND]->fail_errno = ENOTCONN;
	w->v2[SECOND]->fail_all = w->v2[SECOND]->fail_reset = true;
	world_undo(w, &err);
	cr_assert_eq(world_running(w), 3, "all others go on");
	cr_assert(strstr(err.text, "dev1: rollback: "), "%s", err.text);
	cr_assert_null(strstr(err.text, "answer-again"), "%s", err.text);
	cr_assert_eq(w->degraded_count, 1, "%s", w->degraded);
	world_free(w);
}

Test(vfio_moving, cancelled_and_begun_again_D6)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	for (enum phase last = PHASE_PREPARE; last <= PHASE_SAVE; last++) {
		cr_assert_eq(world_send(a, last, &err), 0, "%s", err.text);
		world_undo(a, &err);
		cr_assert_eq(world_running(a), 4, "after %s", phase_name(last));
	}
	for (size_t i = 0; i < a->record_count; i++)
		free(a->records[i].bytes);
	a->record_count = 0;
	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	cr_assert_eq(world_take(b, a, &err), 0, "%s", err.text);
	expect_all(b, a);
	world_free(a);
	world_free(b);
}

/* Room for kinds of records that are not there yet: what is not known is refused, not skipped. */
Test(vfio_moving, records_that_are_not_known_D7)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct participant *p = &b->pci[0]->participant;
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_ITERATE, &err), 0, "%s", err.text);
	cr_assert_eq(p->ops->begin_load(p, &err), 0);
	cr_assert_eq(p->ops->load(p, 2, VFIO_RECORD_DATA, "", 0, &err), -EINVAL, "no identity yet");
	for (size_t i = 0; i < a->record_count; i++)
		if (a->records[i].type == VFIO_RECORD_IDENTITY &&
		    !strcmp(a->records[i].name, "dev0"))
			cr_assert_eq(p->ops->load(p, 2, VFIO_RECORD_IDENTITY, a->records[i].bytes,
			                          a->records[i].len, &err),
			             0, "%s", err.text);
	cr_assert_eq(p->ops->load(p, 2, 77, "", 0, &err), -EINVAL);
	cr_assert(strstr(err.text, "type 77"), "%s", err.text);
	p->ops->discard(p);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
}

/* ---- the second of four fails ---- */

/* v1's ways to fail, by v2's numbers. */
static void make_fail(struct state_world *w, unsigned request, int code, unsigned hop)
{
	struct v1_device *v1 = w->v1[SECOND];
	struct v2_device *v2 = w->v2[SECOND];

	if (v1) {
		v1->fail_write = request;
		v1->times = 1;
		v1->fail_errno = code;
		v1->where = hop == V2_FAIL_ERROR ? V1_ERROR : hop ? V1_ELSEWHERE : V1_KEEPS;
		v1->writes = 0;
	} else {
		v2->fail_request = request;
		v2->fail_times = 1;
		v2->fail_errno = code;
		v2->fail_hop = hop;
		v2->requests = 0;
	}
}

static bool said(const struct gw_error *err, int code)
{
	return !strncmp(err->text, "dev1: ", 6) && strstr(err->text, ": from ") &&
	       strstr(err->text, strerror(code)) && strstr(err->text, "; ");
}

/* False: there is no such request. */
static bool fail_at_source(uint64_t kind, unsigned request, int code, unsigned hop)
{
	struct state_world *w = with_second(kind);
	struct gw_error err = { 0 };
	bool failed;

	make_fail(w, request, code, hop);
	failed = world_send(w, PHASE_SAVE, &err) < 0;
	if (failed) {
		cr_assert(said(&err, code), "%s", err.text);
		world_undo(w, &err);
		cr_assert_eq(world_running(w), 4, "request %u, errno %d, hop %u: %s", request, code,
		             hop, err.text);
		for (unsigned i = 0; i < WORLD_DEVICES; i++)
			cr_assert(i == SECOND || !world_resets(w, i), "dev%u was reset", i);
		cr_assert_eq(w->degraded_count, world_resets(w, SECOND), "%s", err.text);
	}
	world_free(w);
	return failed;
}

Test(vfio_moving, the_second_of_four_fails_at_each_arc_F1_F2_F3_F6)
{
	static const int codes[] = { EIO, EINVAL, ENOMEM };
	static const unsigned hops[] = { 0, 1, V2_FAIL_ERROR };

	for (size_t k = 0; k < ARRAY_SIZE(seconds); k++) {
		for (size_t i = 0; i < ARRAY_SIZE(codes) * ARRAY_SIZE(hops); i++) {
			unsigned request = 1;

			while (fail_at_source(seconds[k], request, codes[i / ARRAY_SIZE(hops)],
			                      hops[i % ARRAY_SIZE(hops)]))
				request++;
			cr_assert_gt(request, 1);
		}
	}
}

static bool fail_at_destination(const struct state_world *from, uint64_t kind, unsigned request,
                                unsigned hop)
{
	struct state_world *w = with_second(kind);
	struct gw_error err = { 0 };
	bool failed;

	make_fail(w, request, EIO, hop);
	failed = world_take(w, from, &err) < 0;
	if (failed) {
		cr_assert(said(&err, EIO), "%s", err.text);
		world_undo(w, &err);
		cr_assert_eq(world_running(w), 4, "%s", err.text);
		/* Half a state is nobody's: what had come so far goes by a reset. */
		cr_assert_eq(w->degraded_count, 0, "no guest has it yet");
	}
	world_free(w);
	return failed;
}

Test(vfio_moving, the_second_of_four_fails_where_it_arrives_F3_D5)
{
	static const unsigned hops[] = { 0, V2_FAIL_ERROR };

	for (size_t k = 0; k < ARRAY_SIZE(seconds); k++) {
		struct state_world *a = with_second(seconds[k]);
		struct gw_error err = { 0 };

		cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
		for (size_t i = 0; i < ARRAY_SIZE(hops); i++) {
			unsigned request = 1;

			while (fail_at_destination(a, seconds[k], request, hops[i]))
				request++;
			cr_assert_gt(request, 2, "the way to resuming, and out of it");
		}
		world_undo(a, &err);
		world_free(a);
	}
}

/* The migration has failed; the device has, too: the two are told apart, and neither costs the
 * guest more than that device. */
Test(vfio_moving, a_device_that_stays_broken_F2_F4)
{
	struct state_world *w = with_second(V2_ALL);
	struct participant *p = &w->pci[SECOND]->participant;
	struct gw_error err = { 0 };
	cJSON *info, *state;
	char why[640];

	make_fail(w, 2, EIO, V2_FAIL_ERROR);
	w->v2[SECOND]->fail_reset = true;
	cr_assert_lt(world_send(w, PHASE_SAVE, &err), 0);
	world_undo(w, &err);
	cr_assert_eq(world_running(w), 3, "all others go on");
	cr_assert(p->ops->trouble(p, why, sizeof(why)));
	cr_assert(strstr(why, "dev1 has failed"), "%s", why);
	cr_assert(strstr(w->degraded, "\"device\":\"dev1\",\"state\":\"failed\""), "%s",
	          w->degraded);
	cr_assert_not(
	        w->pci[0]->participant.ops->trouble(&w->pci[0]->participant, why, sizeof(why)));
	info = cJSON_CreateObject();
	cr_assert(vfio_participant_describe(w->pci[SECOND], info));
	state = cJSON_GetObjectItem(info, "state");
	cr_assert_str_eq(cJSON_GetObjectItem(state, "protocol")->valuestring, "v2");
	cr_assert_str_eq(cJSON_GetObjectItem(state, "now")->valuestring, "error");
	cr_assert_str_eq(cJSON_GetObjectItem(state, "degraded")->valuestring, why);
	cJSON_Delete(info);
	/* The guest resets it: that mends it. */
	w->v2[SECOND]->fail_reset = false;
	world_reset(w, SECOND);
	cr_assert_not(p->ops->trouble(p, why, sizeof(why)));
	cr_assert_eq(world_running(w), 4);
	world_free(w);
}

Test(vfio_moving, a_device_that_was_reset_is_told_F4)
{
	struct state_world *w = with_second(WORLD_V1);
	struct participant *p = &w->pci[SECOND]->participant;
	struct gw_error err = { 0 };
	char why[640];

	make_fail(w, 1, EIO, V2_FAIL_ERROR);
	cr_assert_lt(world_send(w, PHASE_SAVE, &err), 0);
	world_undo(w, &err);
	cr_assert_eq(world_running(w), 4);
	cr_assert(p->ops->trouble(p, why, sizeof(why)));
	cr_assert(strstr(why, "dev1 was reset"), "%s", why);
	cr_assert(strstr(w->degraded, "\"state\":\"reset\""), "%s", w->degraded);
	world_free(w);
}

Test(vfio_moving, a_device_that_does_not_run_where_it_arrived_F4)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	cr_assert_eq(world_take(b, a, &err), 0, "%s", err.text);
	make_fail(b, 1, EIO, V2_FAIL_ERROR);
	sequence_run_all(&b->sequence, PHASE_ANSWER_DMA, &err);
	sequence_run_all(&b->sequence, PHASE_RUN, &err);
	cr_assert_eq(world_running(b), 4, "by a reset");
	cr_assert_eq(b->degraded_count, 1);
	cr_assert(strstr(b->degraded, "dev1"), "%s", b->degraded);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
}

Test(vfio_moving, busy_passes_F5)
{
	static const int codes[] = { EAGAIN, EBUSY };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct state_world *w = with_second(i ? WORLD_V1 : V2_ALL);
		struct gw_error err = { 0 };

		make_fail(w, 2, codes[i], 0);
		cr_assert_eq(world_send(w, PHASE_SAVE, &err), 0, "%s", err.text);
		world_undo(w, &err);
		cr_assert_eq(world_resets(w, SECOND), 0);
		world_free(w);
	}
}

/* ---- the guest resets a device in mid pre-copy ---- */

static void reset_after(enum phase phase, unsigned which)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, phase, &err), 0, "%s", err.text);
	world_reset(a, which);
	if (phase == PHASE_ITERATE)
		cr_assert_eq(world_run(a, PHASE_ITERATE, &err), 0, "%s", err.text);
	for (enum phase next = PHASE_QUIESCE; next <= PHASE_SAVE; next++)
		cr_assert_eq(world_run(a, next, &err), 0, "%s", err.text);
	cr_assert_eq(world_count(a, which, VFIO_RECORD_RESTART), phase == PHASE_ITERATE);
	cr_assert_eq(world_take(b, a, &err), 0, "%s", err.text);
	expect_all(b, a);
	cr_assert_eq(world_resets(b, which), phase == PHASE_ITERATE, "the half that came is gone");
	world_undo(a, &err);
	cr_assert_eq(world_running(a), 4);
	world_free(a);
	world_free(b);
}

Test(vfio_moving, a_reset_by_the_guest_begins_it_anew)
{
	for (unsigned which = 0; which < WORLD_DEVICES; which++) {
		if (which == 1) /* has nothing to send while it runs */
			continue;
		reset_after(PHASE_PREPARE, which);
		reset_after(PHASE_ITERATE, which);
	}
}

/* ---- the stream ---- */

static struct world_record *find(struct state_world *w, const char *name, uint16_t type)
{
	for (size_t i = 0; i < w->record_count; i++)
		if (!strcmp(w->records[i].name, name) && w->records[i].type == type)
			return &w->records[i];
	return NULL;
}

static void expect_refused(void (*spoil)(struct state_world *a), const char *words)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	spoil(a);
	cr_assert_lt(world_take(b, a, &err), 0, "%s", words);
	cr_assert(strstr(err.text, words), "%s", err.text);
	world_undo(b, &err);
	cr_assert_eq(world_running(b), 4);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
}

static void skip_data(struct state_world *a)
{
	find(a, "dev2", VFIO_RECORD_DATA)->bytes[0]++;
}

static void lie_about_length(struct state_world *a)
{
	find(a, "dev0", VFIO_RECORD_END)->bytes[0]--;
}

static void cut_identity(struct state_world *a)
{
	find(a, "dev0", VFIO_RECORD_IDENTITY)->len -= 10;
}

static void double_identity(struct state_world *a)
{
	struct world_record *r = find(a, "dev0", VFIO_RECORD_IDENTITY);

	r->bytes = realloc(r->bytes, r->len * 2);
	memcpy(r->bytes + r->len, r->bytes, r->len);
	r->len *= 2;
}

static void cut_pci(struct state_world *a)
{
	find(a, "dev3", VFIO_RECORD_PCI)->len--;
}

static void restart_with_words(struct state_world *a)
{
	find(a, "dev0", VFIO_RECORD_DATA)->type = VFIO_RECORD_RESTART;
}

Test(vfio_moving, streams_that_lie_D4)
{
	expect_refused(skip_data, "dev2: load: device data at");
	expect_refused(lie_about_length, "bytes of device data came");
	expect_refused(cut_identity, "incomplete");
	expect_refused(double_identity, "there twice");
	expect_refused(cut_pci, "PCI state of");
	expect_refused(restart_with_words, "a new beginning of");
}

/* ---- compatibility ---- */

static void expect_differs(unsigned offset, uint8_t value, const char *words, const char *ignore)
{
	struct state_world *a = world_new(four), *b = world_new(four), *c = world_new(four);
	struct vfio_pci *d = c->pci[0];
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	b->pci[0]->function.initial[offset] = d->function.initial[offset] = value;
	cr_assert_eq(world_take(b, a, &err), -EXDEV, "%s", words);
	cr_assert(strstr(err.text, "dev0: load: not compatible: ") && strstr(err.text, words), "%s",
	          err.text);
	cr_assert_eq(!!strstr(err.text, "compat.ignore="), ignore != NULL, "%s", err.text);
	cr_assert_eq(b->v2[0]->written_len, 0, "before anything is loaded");
	world_undo(b, &err);
	if (ignore) {
		cr_assert_eq(vfio_compat_parse(ignore, &d->compat_ignored, &err), 0, "%s",
		             err.text);
		cr_assert_eq(world_take(c, a, &err), 0, "%s", err.text);
		cr_assert_eq(d->function.initial[offset], a->pci[0]->function.initial[offset],
		             "the guest finds what it knows");
		expect_all(c, a);
	}
	world_undo(c, &err);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
	world_free(c);
}

Test(vfio_moving, what_has_to_be_alike_D4)
{
	expect_differs(0x00, 0x86, "vendor is 0x0 there and 0x86 here", NULL);
	expect_differs(0x02, 0x11, "device is 0x0 there and 0x11 here", "device");
	expect_differs(0x2d, 0x01, "subsystem is 0x0 there and 0x100 here", "subsystem,class");
	expect_differs(0x0b, 0x02, "class is 0x0 there and 0x200 here", "revision,class");
	expect_differs(0x09, 0x02, "programming interface is", "class");
	expect_differs(0x08, 0x03, "revision is 0x0 there and 0x3 here", "revision");
	expect_differs(0x3d, 0x01, "interrupt pin is", NULL);
}

Test(vfio_moving, bars_and_capabilities_have_to_be_alike_D4)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	uint8_t *c = b->pci[0]->function.initial;
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	b->pci[0]->function.bars[2].size = 0x4000;
	cr_assert_eq(world_take(b, a, &err), -EXDEV);
	cr_assert(strstr(err.text, "BAR 2 is 0x0 there and 0x4000 here"), "%s", err.text);
	world_undo(b, &err);
	b->pci[0]->function.bars[2].size = 0;
	pci_set(c, 0x06, 2, 0x10);
	c[0x34] = 0x40;
	c[0x40] = 0x11;
	c[0x41] = 0x40; /* to itself: the walk ends */
	cr_assert_eq(world_take(b, a, &err), -EXDEV);
	cr_assert(strstr(err.text, "capability 0x11 at 0x40 here, none there"), "%s", err.text);
	world_undo(b, &err);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
}

static int take_with(const uint64_t there[WORLD_DEVICES], const uint64_t here[WORLD_DEVICES],
                     bool live, const char *ignore, struct gw_error *err)
{
	struct state_world *a = world_new(there), *b = world_new(here);
	int r;

	a->sequence.live = live;
	cr_assert_eq(world_send(a, PHASE_SAVE, err), 0, "%s", err->text);
	cr_assert_eq(vfio_compat_parse(ignore, &b->pci[0]->compat_ignored, err), 0, "%s",
	             err->text);
	r = world_take(b, a, err);
	world_undo(b, r < 0 ? NULL : err);
	world_undo(a, NULL);
	world_free(a);
	world_free(b);
	return r;
}

/* What the data need has to be there, and no more. */
Test(vfio_moving, features_have_to_suffice_D4)
{
	static const uint64_t all[] = { V2_ALL, V2_ALL, WORLD_V1, V2_ALL };
	static const uint64_t less[] = { V2_STOP_COPY | V2_P2P, V2_ALL, WORLD_V1, V2_ALL };
	static const uint64_t other[] = { WORLD_V1, V2_ALL, WORLD_V1, V2_ALL };
	struct gw_error err = { 0 };

	cr_assert_eq(take_with(less, all, true, "", &err), 0, "more than was needed: %s", err.text);
	cr_assert_eq(take_with(all, less, false, "", &err), 0, "all saved while stopped: %s",
	             err.text);
	cr_assert_eq(take_with(all, less, true, "", &err), -EXDEV);
	cr_assert(strstr(err.text, "its data need copying while it runs"), "%s", err.text);
	cr_assert(strstr(err.text, "compat.ignore=features"), "%s", err.text);
	cr_assert_eq(take_with(all, less, true, "features", &err), 0, "%s", err.text);
	cr_assert_eq(take_with(all, other, true, "features", &err), -EXDEV);
	cr_assert(strstr(err.text, "state protocol is 0x2 there and 0x1 here"), "%s", err.text);
}

Test(vfio_moving, names_that_may_be_ignored)
{
	static const char *const bad[] = { "vendor",          "bars",     "revision,", ",",
		                           "revision,,class", "Revision", "x" };
	struct gw_error err = { 0 };
	uint32_t set;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(vfio_compat_check(bad[i], &err), -EINVAL, "%s", bad[i]);
	cr_assert_eq(vfio_compat_check("device,subsystem,class,revision,features", &err), 0);
	cr_assert_eq(vfio_compat_parse("", &set, &err), 0);
	cr_assert_eq(set, 0);
}

/* What our check cannot know, the device's driver may still refuse: in other words. */
Test(vfio_moving, the_driver_refuses_D4_F6)
{
	struct state_world *a = world_new(four), *b = world_new(four);
	struct gw_error err = { 0 };

	cr_assert_eq(world_send(a, PHASE_SAVE, &err), 0, "%s", err.text);
	make_fail(b, 2, EINVAL, 0);
	cr_assert_eq(world_take(b, a, &err), -EINVAL);
	cr_assert(strstr(err.text, "dev1: settle: stand-in refuses the state: ") &&
	                  !strstr(err.text, "not compatible"),
	          "%s", err.text);
	world_undo(b, &err);
	b->v2[1]->write_errno = EBADMSG;
	b->v2[1]->fail_request = 0;
	cr_assert_eq(world_take(b, a, &err), -EBADMSG);
	cr_assert(strstr(err.text, "dev1: load: stand-in does not take its data"), "%s", err.text);
	world_undo(b, &err);
	world_undo(a, &err);
	world_free(a);
	world_free(b);
}
