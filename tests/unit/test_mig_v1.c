/* SPDX-License-Identifier: Apache-2.0 */
/* The v1 protocol against a stand-in with a table of states of its own. */
#include "v1_device.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* By the protocol's text: what each of the eight values of the three bits is, and whether it may
 * be asked for. */
static const struct {
	const char *name;
	bool asked;
} model[8] = {
	{ "stop", true },     { "running", true }, { "stop-copy", true }, { "pre-copy", true },
	{ "resuming", true }, { "?", false },      { "error", false },    { "?", false },
};

static void go(struct v1_device *d, unsigned to)
{
	struct gw_error err;

	cr_assert_eq(vfio_state_go(d->state, to, 1, &err), 0, "to %u: %s", to, err.text);
	d->writes = 0;
}

static void step(struct v1_device *d, enum vfio_step s)
{
	struct gw_error err;

	cr_assert_eq(vfio_state_step(d->state, s, &err), 0, "step %d: %s", s, err.text);
}

/* ---- states and arcs ------------------------------------------------------------------------- */

Test(mig_v1, default_state_is_running_S1)
{
	struct v1_device *d = v1_new(V1_TRAPPED);

	cr_assert_str_eq(vfio_state_name(d->state), "running");
	cr_assert_str_eq(d->state->ops->protocol, "v1");
	cr_assert_eq(d->writes, 0);
	v1_free(d);
}

Test(mig_v1, five_states_by_three_bits_S2)
{
	for (unsigned s = 0; s < 8; s++) {
		cr_assert_str_eq(mig_v1_state_name(s), model[s].name);
		cr_assert_eq(mig_v1_may(s, MIG_V1_RUNNING), model[s].asked);
		cr_assert_eq(mig_v1_may(MIG_V1_RUNNING, s), model[s].asked);
	}
}

/* The stand-in itself notes a bit that has changed. */
Test(mig_v1, reserved_bits_stay_S2)
{
	struct v1_device *d = v1_new(V1_TRAPPED);

	for (unsigned to = 0; to < 5; to++)
		go(d, to);
	cr_assert_eq(d->value & ~7u, V1_RESERVED & ~7u);
	v1_free(d);
}

Test(mig_v1, any_of_the_five_from_any_other_S3_S4)
{
	for (unsigned from = 0; from < 5; from++) {
		for (unsigned to = 0; to < 5; to++) {
			struct v1_device *d = v1_new(V1_TRAPPED);

			go(d, from);
			go(d, to);
			cr_assert_eq(d->value & 7, to);
			cr_assert_eq(d->state->now, to);
			cr_assert_eq(d->resets, 0);
			v1_free(d);
		}
	}
}

Test(mig_v1, refused_before_the_device_is_touched_S3)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;

	for (unsigned to = 5; to < 10; to++)
		cr_assert_eq(vfio_state_go(d->state, to, 1, &err), -EINVAL);
	cr_assert_eq(d->writes, 0);
	v1_free(d);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void one_failure(unsigned from, unsigned to, int code, enum v1_where where)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	const unsigned left = where == V1_GOES        ? to
	                      : where == V1_ERROR     ? 6
	                      : where == V1_ELSEWHERE ? (from == 0 ? 1 : 0)
	                                              : from;
	struct gw_error err;
	int r;

	go(d, from);
	d->fail_write = d->times = 1;
	d->fail_errno = code;
	d->where = where;
	r = vfio_state_go(d->state, to, 1, &err);
	cr_assert_eq(r, -code, "the first error: %d", r);
	cr_assert(strstr(err.text, model[from].name) && strstr(err.text, model[to].name) &&
	                  strstr(err.text, strerror(code)),
	          "%s", err.text);
	cr_assert_eq(d->value & 7, 1, "%s", err.text);
	cr_assert_eq(d->state->now, 1);
	/* Only a reset leads out of the error state, and out of half a state. */
	cr_assert_eq(d->resets, left == 6 || left == 4, "%u resets: %s", d->resets, err.text);
	cr_assert_eq(d->trouble, d->resets ? VFIO_WAS_RESET : VFIO_WELL);
	v1_free(d);
}

Test(mig_v1, each_arc_with_each_failure_F1_F4_F6)
{
	static const int codes[] = { EIO, EINVAL, ENOMEM, EFAULT, ENOTCONN };

	for (unsigned from = 0; from < 5; from++)
		for (unsigned to = 0; to < 5; to++)
			for (size_t e = 0; e < ARRAY_SIZE(codes) && from != to; e++)
				for (enum v1_where w = V1_KEEPS; w < V1_WHERES; w++)
					one_failure(from, to, codes[e], w);
}

Test(mig_v1, recovery_fails_too_then_reset_F4)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;

	go(d, MIG_V1_PRE_COPY);
	d->fail_all = true;
	d->fail_errno = EIO;
	cr_assert_eq(vfio_state_step(d->state, VFIO_QUIESCE, &err), -EIO);
	cr_assert_eq(d->resets, 1);
	cr_assert(strstr(err.text, "was reset and is running"), "%s", err.text);
	v1_free(d);
}

Test(mig_v1, even_the_reset_fails_F2)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;

	d->fail_write = d->times = 1;
	d->fail_errno = EIO;
	d->where = V1_ERROR;
	d->fail_reset = true;
	cr_assert_eq(vfio_state_step(d->state, VFIO_BEGIN_PRE_COPY, &err), -EIO);
	cr_assert(strstr(err.text, "the device has failed"), "%s", err.text);
	cr_assert_eq(d->trouble, VFIO_HAS_FAILED);
	cr_assert_str_eq(vfio_state_name(d->state), "error");
	d->fail_reset = false;
	cr_assert_eq(vfio_state_run_again(d->state, &err), 0, "%s", err.text);
	v1_free(d);
}

Test(mig_v1, busy_passes_F5)
{
	static const int codes[] = { EAGAIN, EBUSY };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct v1_device *d = v1_new(V1_TRAPPED);

		d->fail_write = 1;
		d->times = 3;
		d->fail_errno = codes[i];
		step(d, VFIO_BEGIN_PRE_COPY);
		cr_assert_eq(d->writes, 4);
		cr_assert_eq(d->resets, 0);
		v1_free(d);
	}
}

Test(mig_v1, registers_that_cannot_be_read)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;

	d->fail_reads = true;
	cr_assert_eq(vfio_state_step(d->state, VFIO_QUIESCE, &err), -EIO);
	cr_assert(strstr(err.text, "reading the state back"), "%s", err.text);
	cr_assert_eq(d->resets, 1);
	v1_free(d);
}

/* ---- steps -------------------------------------------------------------------------------------
 */

/* Kept from starting DMA, it answers that of others until pending_bytes is read for the first
 * time: which is done when all have come so far. */
Test(mig_v1, it_freezes_after_all_are_quiet_Q1_Q2)
{
	struct v1_device *d = v1_new(V1_TRAPPED), *other = v1_new(V1_TRAPPED);
	struct vfio_state_pending pending;
	struct gw_error err;

	cr_assert(vfio_state_has(d->state, VFIO_STATE_QUIESCE));
	step(d, VFIO_BEGIN_PRE_COPY);
	step(other, VFIO_BEGIN_PRE_COPY);
	step(d, VFIO_QUIESCE);
	cr_assert_eq(d->value & 7, 2);
	cr_assert_eq(vfio_state_pending(d->state, &pending, &err), 0);
	step(other, VFIO_QUIESCE);
	cr_assert_eq(d->frozen_reads, 0, "the other could still write to it");
	step(d, VFIO_STOP);
	cr_assert_eq(d->frozen_reads, 1);
	cr_assert_eq(other->frozen_reads, 0);
	v1_free(other);
	v1_free(d);
}

Test(mig_v1, flows_of_the_protocol_S4_D5)
{
	static const char *const live[] = { "pre-copy", "stop-copy", "stop" };
	static const char *const offline[] = { "stop-copy", "stop" };
	static const char *const load[] = { "resuming", "stop", "running" };
	struct v1_device *d = v1_new(V1_TRAPPED);

	step(d, VFIO_BEGIN_PRE_COPY);
	step(d, VFIO_QUIESCE);
	step(d, VFIO_STOP);
	step(d, VFIO_END_SAVE);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_str_eq(d->names[i], live[i]);
	v1_free(d);
	d = v1_new(V1_TRAPPED);
	step(d, VFIO_QUIESCE);
	step(d, VFIO_STOP);
	step(d, VFIO_END_SAVE);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_str_eq(d->names[i], offline[i]);
	v1_free(d);
	d = v1_new(V1_TRAPPED);
	step(d, VFIO_BEGIN_LOAD);
	step(d, VFIO_FINISH_LOAD);
	cr_assert(d->settled, "the state takes effect before it runs");
	step(d, VFIO_ANSWER_DMA);
	cr_assert_eq(d->value & 7, 0);
	step(d, VFIO_RUN);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_str_eq(d->names[i], load[i]);
	v1_free(d);
}

Test(mig_v1, one_that_only_goes_from_resuming_to_running)
{
	struct v1_device *d = v1_new(V1_TRAPPED);

	d->refuses_stop = true;
	step(d, VFIO_BEGIN_LOAD);
	step(d, VFIO_FINISH_LOAD);
	cr_assert_eq(d->value & 7, 4);
	cr_assert_eq(d->resets, 0);
	step(d, VFIO_ANSWER_DMA);
	step(d, VFIO_RUN);
	cr_assert_eq(d->value & 7, 1);
	cr_assert(d->settled);
	v1_free(d);
}

Test(mig_v1, begins_again_in_the_middle_D6)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;
	char some[10];

	d->len = 1000;
	for (unsigned i = 1; i <= 5; i++) {
		step(d, VFIO_BEGIN_PRE_COPY);
		cr_assert_eq(vfio_state_read(d->state, some, sizeof(some), &err), 10);
		cr_assert(vfio_state_midway(d->state));
		cr_assert_eq(vfio_state_run_again(d->state, &err), 0, "%s", err.text);
		cr_assert_not(vfio_state_midway(d->state));
		cr_assert_eq(d->state->sessions, i);
	}
	v1_free(d);
}

/* ---- data ---------------------------------------------------------------------------------------
 */

/* All that a device has, read by `piece` bytes, into another. */
static void copy(struct v1_device *from, struct v1_device *to, size_t piece)
{
	static uint8_t buf[300000];
	struct gw_error err;
	ssize_t n;

	while ((n = vfio_state_read(from->state, buf, piece, &err)) > 0)
		cr_assert_eq(vfio_state_write(to->state, buf, (size_t)n, &err), 0, "%s", err.text);
	cr_assert_eq(n, 0, "%s", err.text);
}

static void move(enum v1_data there, enum v1_data here, size_t len, size_t chunk, size_t piece)
{
	struct v1_device *a = v1_new(there), *b = v1_new(here);

	a->chunk = chunk;
	a->len = len / 2;
	step(b, VFIO_BEGIN_LOAD);
	step(a, VFIO_BEGIN_PRE_COPY);
	copy(a, b, piece);
	cr_assert_eq(b->loaded_len, len / 2, "all of it came while the device ran");
	step(a, VFIO_QUIESCE);
	a->len = len;
	step(a, VFIO_STOP);
	copy(a, b, piece);
	step(a, VFIO_END_SAVE);
	step(b, VFIO_FINISH_LOAD);
	cr_assert_eq(b->loaded_len, len);
	cr_assert_arr_eq(b->loaded, a->data, len);
	for (unsigned i = 0; i < b->size_count; i++)
		cr_assert_leq(b->sizes[i], chunk);
	cr_assert_eq(b->size_count,
	             DIV_ROUND_UP(len / 2, chunk) + DIV_ROUND_UP(len - len / 2, chunk), "%u chunks",
	             b->size_count);
	if (there == V1_TRAPPED && here == V1_TRAPPED)
		cr_assert_eq(a->largest, b->largest, "the same transactions");
	v1_free(a);
	v1_free(b);
}

Test(mig_v1, trapped_data_D4)
{
	move(V1_TRAPPED, V1_TRAPPED, 0x50000, 0x40000, 256 * KIB);
	move(V1_TRAPPED, V1_TRAPPED, 100, 7, 13);
	move(V1_TRAPPED, V1_TRAPPED, 0x30001, 0x10001, 777);
}

Test(mig_v1, mapped_data_D4)
{
	move(V1_MAPPED, V1_MAPPED, 0x50000, 0x40000, 256 * KIB);
	move(V1_MAPPED, V1_TRAPPED, 0x30001, 0x10001, 4096);
}

Test(mig_v1, mixed_data_D4)
{
	move(V1_MIXED, V1_MIXED, 0x50000, 0x40000, 256 * KIB);
	move(V1_MIXED, V1_MAPPED, 0x30001, 0x10001, 4096);
	move(V1_TRAPPED, V1_MIXED, 0x50003, 0x3fff1, 256 * KIB);
}

Test(mig_v1, mapped_sections_are_not_trapped)
{
	struct v1_device *d = v1_new(V1_MAPPED);
	static uint8_t buf[V1_DATA_MAX];
	struct gw_error err;

	d->len = 0x8000;
	step(d, VFIO_STOP);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 0x8008, "%s", err.text);
	cr_assert_eq(d->data_accesses, 0);
	v1_free(d);
}

Test(mig_v1, nothing_until_it_stops_D1)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct vfio_state_pending pending;
	struct gw_error err;
	char buf[100];

	step(d, VFIO_BEGIN_PRE_COPY);
	cr_assert_eq(vfio_state_pending(d->state, &pending, &err), 0);
	cr_assert_eq(pending.initial + pending.dirty, 0);
	cr_assert_not(pending.unknown);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 0);
	d->len = 10;
	step(d, VFIO_QUIESCE);
	step(d, VFIO_STOP);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 18);
	v1_free(d);
}

/* It says that it has as much left as before, and has no chunk to give. */
Test(mig_v1, pending_bytes_need_not_fall_D2)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct vfio_state_pending pending;
	struct gw_error err;
	char buf[100];

	d->constant = 5000;
	d->len = 20;
	step(d, VFIO_BEGIN_PRE_COPY);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 28, "%s", err.text);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 0, "%s", err.text);
	cr_assert_eq(vfio_state_pending(d->state, &pending, &err), 0);
	cr_assert_eq(pending.dirty, 5000);
	step(d, VFIO_QUIESCE);
	step(d, VFIO_STOP);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 0, "complete when it is 0");
	v1_free(d);
}

Test(mig_v1, no_data_outside_of_a_session_D3)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;
	char buf[10] = "";

	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), -EBADF);
	cr_assert_eq(vfio_state_write(d->state, buf, sizeof(buf), &err), -EBADF);
	cr_assert_eq(d->data_accesses, 0);
	v1_free(d);
}

/* ---- lies and losses
 * ------------------------------------------------------------------------------- */

static uint8_t head[8];

static int load_head(struct v1_device *d, uint64_t size, struct gw_error *err)
{
	for (unsigned i = 0; i < 8; i++)
		head[i] = (uint8_t)(size >> 8 * i);
	return vfio_state_write(d->state, head, sizeof(head), err);
}

Test(mig_v1, chunks_that_do_not_fit)
{
	static const uint64_t sizes[] = { 0, V1_SIZE - V1_SECTION + 1, V1_SIZE, 1ull << 63,
		                          UINT64_MAX };
	static const uint64_t offsets[] = { 0, 31, V1_SIZE, UINT64_MAX };
	struct gw_error err;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct v1_device *d = v1_new(V1_MIXED);

		step(d, VFIO_BEGIN_LOAD);
		cr_assert_eq(load_head(d, sizes[i], &err), -EPROTO);
		cr_assert(strstr(err.text, "a chunk of"), "%s", err.text);
		v1_free(d);
	}
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		struct v1_device *d = v1_new(V1_MIXED);

		step(d, VFIO_BEGIN_LOAD);
		d->load_offset = offsets[i];
		cr_assert_eq(load_head(d, 16, &err), -EPROTO);
		v1_free(d);
	}
}

Test(mig_v1, data_that_end_inside_of_a_chunk)
{
	for (unsigned short_by = 1; short_by < 12; short_by++) {
		struct v1_device *d = v1_new(V1_TRAPPED);
		const uint8_t chunk[12] = { 4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4 };
		struct gw_error err;

		step(d, VFIO_BEGIN_LOAD);
		cr_assert_eq(vfio_state_write(d->state, chunk, 12 - short_by, &err), 0);
		cr_assert_eq(vfio_state_step(d->state, VFIO_FINISH_LOAD, &err), -EINVAL);
		cr_assert_not(d->settled);
		v1_free(d);
	}
}

/* The server has cut its file short: an error, and no signal. */
Test(mig_v1, pages_that_are_gone)
{
	struct v1_device *d = v1_new(V1_MAPPED);
	struct gw_error err;
	static char buf[0x3000];

	d->shortens = 0x1000;
	d->len = 0x1000;
	step(d, VFIO_STOP);
	cr_assert_eq(vfio_state_read(d->state, buf, 0x1008, &err), 0x1008, "%s", err.text);
	v1_free(d);
	d = v1_new(V1_MAPPED);
	step(d, VFIO_BEGIN_LOAD);
	cr_assert_eq(ftruncate(d->memory, 0x1000), 0);
	cr_assert_eq(load_head(d, 0x3000, &err), 0);
	cr_assert_eq(vfio_state_write(d->state, buf, sizeof(buf), &err), -EFAULT);
	v1_free(d);
}

Test(mig_v1, pending_bytes_that_cannot_be_read)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct gw_error err;

	step(d, VFIO_QUIESCE);
	d->fail_pending = true;
	cr_assert_eq(vfio_state_step(d->state, VFIO_STOP, &err), -EIO);
	cr_assert(strstr(err.text, "pending_bytes"), "%s", err.text);
	cr_assert_eq(vfio_state_run_again(d->state, &err), 0);
	v1_free(d);
}

/* The guest has reset the device in the middle of pre-copy. */
Test(mig_v1, a_reset_while_it_copies)
{
	struct v1_device *d = v1_new(V1_TRAPPED);
	struct vfio_state_pending pending;
	struct gw_error err;
	char buf[10];

	d->len = 100;
	step(d, VFIO_BEGIN_PRE_COPY);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), 10);
	d->value = V1_RESERVED | 1;
	vfio_state_was_reset(d->state);
	cr_assert_eq(vfio_state_read(d->state, buf, sizeof(buf), &err), -ESTALE);
	cr_assert(vfio_state_runs(d->state));
	step(d, VFIO_BEGIN_PRE_COPY);
	cr_assert_eq(d->state->sessions, 2);
	d->value = V1_RESERVED | 1;
	vfio_state_was_reset(d->state);
	cr_assert_eq(vfio_state_pending(d->state, &pending, &err), -ESTALE);
	v1_free(d);
}
