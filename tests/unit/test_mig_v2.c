/* SPDX-License-Identifier: Apache-2.0 */
/* The v2 state machine against a stand-in with a table of ways of its own. */
#include "v2_device.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* What devices offer; STOP_COPY is always there. */
static const uint64_t kinds[] = { V2_STOP_COPY, V2_STOP_COPY | V2_P2P, V2_STOP_COPY | V2_PRE_COPY,
	                          V2_ALL };

static bool saving(enum mig_state s)
{
	return s == MIG_PRE_COPY || s == MIG_PRE_COPY_P2P || s == MIG_STOP_COPY;
}

/* ---- states and arcs ---- */

static void one_way(uint64_t flags, enum mig_state from, enum mig_state to)
{
	enum mig_state room[V2_HOPS + 1];
	const enum mig_state *path = v2_way(flags, from, to, room);
	struct v2_device d;

	if (from != to)
		cr_assert_eq(mig_v2_may(flags, from, to), path != NULL, "%s to %s, flags %u",
		             mig_state_name(from), mig_state_name(to), (unsigned)flags);
	if (!path)
		return;
	cr_assert_eq(mig_v2_next(flags, from, to), path[0], "%s to %s by %s, flags %u",
	             mig_state_name(from), mig_state_name(to),
	             mig_state_name(mig_v2_next(flags, from, to)), (unsigned)flags);
	v2_start(&d, flags);
	v2_go(&d, from);
	v2_go(&d, to);
	cr_assert_eq(d.in, to);
	cr_assert_eq(d.state->now, to);
	cr_assert_eq(d.open_fds, saving(to) || to == MIG_RESUMING, "%d descriptors in %s",
	             d.open_fds, mig_state_name(to));
	v2_end(&d);
}

Test(mig_v2, every_arc_and_every_way_S3_S4_S5_S6)
{
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		for (enum mig_state from = MIG_ERROR; from < MIG_STATES; from++)
			for (enum mig_state to = MIG_ERROR; to < MIG_STATES; to++)
				one_way(kinds[k], from, to);
}

Test(mig_v2, states_that_are_not_offered_S5)
{
	for (enum mig_state s = MIG_ERROR; s < MIG_STATES; s++) {
		cr_assert_eq(mig_v2_may(V2_STOP_COPY, s, s), s == MIG_STOP || s == MIG_RUNNING ||
		                                                     s == MIG_STOP_COPY ||
		                                                     s == MIG_RESUMING);
		cr_assert_not(mig_v2_may(V2_ALL, MIG_ERROR, s));
		cr_assert_not(mig_v2_may(V2_ALL, s, MIG_ERROR));
	}
}

Test(mig_v2, no_migration_is_no_error)
{
	struct v2_device d;

	v2_start(&d, 0);
	cr_assert_null(d.state);
	cr_assert_not(vfio_state_has(d.state, VFIO_STATE_QUIESCE));
	cr_assert_not(mig_v2_may(0, MIG_RUNNING, MIG_STOP));
}

Test(mig_v2, default_state_is_running_S1)
{
	struct v2_device d;

	v2_start(&d, V2_ALL);
	cr_assert_eq(d.state->now, MIG_RUNNING);
	cr_assert_eq(d.requests, 0);
}

Test(mig_v2, refused_before_the_device_is_touched_S3)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	v2_go(&d, MIG_STOP_COPY);
	cr_assert_eq(vfio_state_go(d.state, MIG_PRE_COPY, MIG_STOP, &err), -EINVAL);
	cr_assert_eq(vfio_state_go(d.state, MIG_ERROR, MIG_STOP, &err), -EINVAL);
	cr_assert_eq(d.requests, 0);
	cr_assert_eq(d.in, MIG_STOP_COPY);
	v2_end(&d);
}

/* ---- failures ---- */

/* Of a way that failed: what is left, and what is done about it, by the recovery's rules. */
static void one_failure(uint64_t flags, enum mig_state from, enum mig_state to, unsigned hop,
                        int code)
{
	enum mig_state room[V2_HOPS + 1], back[V2_HOPS + 1], left;
	struct gw_error err;
	struct v2_device d;
	bool reset;
	int r;

	v2_way(flags, from, to, room);
	left = hop == V2_FAIL_ERROR ? MIG_ERROR : hop ? room[hop - 1] : from;
	reset = left == MIG_ERROR || left == MIG_RESUMING ||
	        (left != MIG_RUNNING && !v2_way(flags, left, MIG_RUNNING, back));
	v2_start(&d, flags);
	v2_go(&d, from);
	d.fail_request = d.fail_times = 1;
	d.fail_errno = code;
	d.fail_hop = hop;
	r = vfio_state_go(d.state, to, MIG_RUNNING, &err);
	cr_assert_eq(r, -code, "the first error is reported: %d", r);
	cr_assert(strstr(err.text, mig_state_name(from)) && strstr(err.text, mig_state_name(to)) &&
	                  strstr(err.text, strerror(code)) && strstr(err.text, "; "),
	          "%s", err.text);
	cr_assert_eq(d.in, MIG_RUNNING, "%s to %s at hop %u: %s", mig_state_name(from),
	             mig_state_name(to), hop, err.text);
	cr_assert_eq(d.state->now, MIG_RUNNING, "%s", err.text);
	cr_assert_eq(d.resets, reset, "%u resets: %s", d.resets, err.text);
	cr_assert_eq(d.trouble, reset ? VFIO_WAS_RESET : VFIO_WELL);
	cr_assert_eq(d.open_fds, 0, "%d descriptors left", d.open_fds);
	v2_end(&d);
}

/* Each kind of device, each way, each errno, each hop after which a failure may leave it. */
Test(mig_v2, each_way_with_each_failure_F1_F4_F6)
{
	static const int errnos[] = { EIO,       EINVAL, ENOMEM, EPERM,
		                      ETIMEDOUT, ENODEV, EMFILE, ENOTCONN };
	enum mig_state room[V2_HOPS + 1];

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (unsigned way = 0; way < MIG_STATES * MIG_STATES; way++) {
			enum mig_state from = way / MIG_STATES, to = way % MIG_STATES;
			const enum mig_state *path = v2_way(kinds[k], from, to, room);

			for (size_t e = 0; path && e < ARRAY_SIZE(errnos); e++) {
				one_failure(kinds[k], from, to, V2_FAIL_ERROR, errnos[e]);
				for (unsigned hop = 0; hop == 0 || path[hop - 1]; hop++)
					one_failure(kinds[k], from, to, hop, errnos[e]);
			}
		}
	}
}

Test(mig_v2, recovery_fails_too_then_reset_F4)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	v2_go(&d, MIG_PRE_COPY);
	d.fail_all = true;
	d.fail_errno = EIO;
	cr_assert_eq(vfio_state_go(d.state, MIG_STOP_COPY, MIG_STOP, &err), -EIO);
	cr_assert_eq(d.resets, 1);
	cr_assert_eq(d.state->now, MIG_RUNNING);
	cr_assert(strstr(err.text, "reset"), "%s", err.text);
	cr_assert_eq(d.open_fds, 0);
}

Test(mig_v2, even_the_reset_fails_F2)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	d.fail_request = d.fail_times = 1;
	d.fail_errno = EIO;
	d.fail_hop = V2_FAIL_ERROR;
	d.fail_reset = true;
	cr_assert_eq(vfio_state_go(d.state, MIG_STOP, MIG_RUNNING, &err), -EIO);
	cr_assert(strstr(err.text, "the device has failed"), "%s", err.text);
	cr_assert_eq(d.state->now, MIG_ERROR);
}

Test(mig_v2, state_that_cannot_be_read_back)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	d.fail_request = d.fail_times = 1;
	d.fail_errno = EIO;
	d.fail_get = true;
	cr_assert_eq(vfio_state_go(d.state, MIG_STOP, MIG_RUNNING, &err), -EIO);
	cr_assert_eq(d.resets, 1);
}

Test(mig_v2, busy_passes_F5)
{
	static const int errnos[] = { EAGAIN, EBUSY };

	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
		struct gw_error err;
		struct v2_device d;

		v2_start(&d, V2_ALL);
		d.fail_request = 1;
		d.fail_times = 3;
		d.fail_errno = errnos[i];
		cr_assert_eq(vfio_state_go(d.state, MIG_STOP, MIG_RUNNING, &err), 0, "%s",
		             err.text);
		cr_assert_eq(d.in, MIG_STOP);
		cr_assert_eq(d.requests, 4);
		cr_assert_eq(d.resets, 0);
	}
}

/* The state has changed, but no descriptor came. */
Test(mig_v2, no_descriptor_leaves_the_session)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	d.lose_fd = true;
	cr_assert_eq(vfio_state_go(d.state, MIG_PRE_COPY, MIG_RUNNING, &err), -EMFILE);
	cr_assert_eq(d.in, MIG_RUNNING, "%s", mig_state_name(d.in));
	cr_assert_eq(d.state->now, MIG_RUNNING);
	cr_assert_lt(vfio_state_read(d.state, &err, 1, &err), 0, "there is no session");
	v2_end(&d);
}

/* ---- data ---- */

Test(mig_v2, data_in_pieces_D1_D3)
{
	static const char data[] = "what the device alone understands";
	char got[64];
	struct gw_error err;
	struct v2_device d;
	size_t len = 0;
	ssize_t n;
	struct vfio_state_pending pending;

	v2_start(&d, V2_ALL);
	d.data = data;
	v2_go(&d, MIG_PRE_COPY);
	cr_assert_eq(vfio_state_read(d.state, got, sizeof(got), &err), 0, "nothing is pending yet");
	cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0);
	cr_assert_eq(pending.initial, 11);
	cr_assert_eq(pending.dirty, 22);
	cr_assert_eq(vfio_state_stop_size(d.state), 4711);
	d.data_len = sizeof(data);
	v2_go(&d, MIG_STOP_COPY);
	cr_assert_eq(d.open_fds, 1, "the session goes on with its descriptor");
	while ((n = vfio_state_read(d.state, got + len, sizeof(got) - len, &err)) > 0)
		len += (size_t)n;
	cr_assert_eq(n, 0);
	cr_assert_eq(len, sizeof(data));
	cr_assert_arr_eq(got, data, sizeof(data));
	v2_go(&d, MIG_STOP);
	cr_assert_eq(d.open_fds, 0);
	cr_assert_eq(vfio_state_read(d.state, got, sizeof(got), &err), -EBADF,
	             "the session is over");

	v2_go(&d, MIG_RESUMING);
	cr_assert_eq(vfio_state_write(d.state, data, sizeof(data), &err), 0, "%s", err.text);
	cr_assert_eq(d.written_len, sizeof(data));
	cr_assert_arr_eq(d.written, data, sizeof(data));
	d.data_at = 0;
	v2_go(&d, MIG_RUNNING);
	cr_assert_lt(vfio_state_write(d.state, data, 1, &err), 0);
}

Test(mig_v2, begins_again_in_the_middle_D6)
{
	struct v2_device d;

	v2_start(&d, V2_ALL);
	for (int i = 0; i < 5; i++) {
		v2_go(&d, MIG_PRE_COPY);
		v2_go(&d, MIG_PRE_COPY_P2P);
		v2_go(&d, MIG_RUNNING);
		cr_assert_eq(d.open_fds, 0);
	}
}

/* ---- the info of pre-copy ---- */

Test(mig_v2, info_starts_over_where_the_kernel_says_so)
{
	struct vfio_state_pending pending;
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	cr_assert_eq(d.opt_ins, 1, "VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2");
	v2_go(&d, MIG_PRE_COPY);
	d.initial = 0;
	cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0);
	cr_assert_eq(pending.initial, 0);
	d.initial = 4096;
	cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0);
	cr_assert_eq(pending.initial, 4096);
	v2_end(&d);
	v2_start(&d, V2_STOP_COPY | V2_P2P);
	cr_assert_eq(d.opt_ins, 0, "a device without pre-copy is not asked");
	v2_end(&d);
}

Test(mig_v2, servers_without_the_info)
{
	static const int errnos[] = { ENOTTY, EOPNOTSUPP, ENOSYS };

	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
		struct vfio_state_pending pending;
		struct gw_error err;
		struct v2_device d;
		char buf[32];

		v2_start(&d, V2_ALL);
		d.data = "0123456789";
		d.data_len = 10;
		d.info_errno = errnos[i];
		v2_go(&d, MIG_PRE_COPY);
		cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0, "%s", err.text);
		cr_assert(pending.unknown);
		cr_assert_eq(vfio_state_read(d.state, buf, sizeof(buf), &err), 7);
		cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0, "%s", err.text);
		cr_assert(pending.unknown, "it never said that there is no more");
		cr_assert_eq(pending.dirty, 7);
		cr_assert_eq(vfio_state_read(d.state, buf, sizeof(buf), &err), 3);
		cr_assert_eq(vfio_state_read(d.state, buf, sizeof(buf), &err), 0);
		cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0, "%s", err.text);
		cr_assert_not(pending.unknown);
		cr_assert_eq(pending.dirty, 3, "what came last time is what will come");
		cr_assert_eq(vfio_state_pending(d.state, &pending, &err), 0, "%s", err.text);
		cr_assert_eq(pending.dirty, 0);
		cr_assert_eq(d.infos, 1, "it is not asked again");
		v2_end(&d);
	}
}

Test(mig_v2, an_info_that_fails)
{
	struct vfio_state_pending pending;
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	d.info_errno = EIO;
	v2_go(&d, MIG_PRE_COPY);
	cr_assert_eq(vfio_state_pending(d.state, &pending, &err), -EIO);
	cr_assert(strstr(err.text, "PRECOPY_INFO"), "%s", err.text);
	v2_end(&d);
}

/* ---- resets by the guest ---- */

Test(mig_v2, a_reset_while_it_copies)
{
	struct vfio_state_pending pending;
	struct gw_error err;
	struct v2_device d;
	char c;

	/* The guest's FLR, of which we know; and one by the host, which only an error tells. */
	for (unsigned told = 0; told < 2; told++) {
		v2_start(&d, V2_ALL);
		d.data = "data";
		d.data_len = 4;
		v2_go(&d, MIG_PRE_COPY);
		v2_reset_by_guest(&d);
		atomic_store(&d.state->reset, told != 0);
		cr_assert_eq(vfio_state_read(d.state, &c, 1, &err), -ESTALE, "%s", err.text);
		cr_assert(vfio_state_runs(d.state));
		cr_assert_eq(d.open_fds, 0, "the dead session's is closed");
		v2_go(&d, MIG_PRE_COPY);
		cr_assert_eq(d.state->sessions, 2);
		v2_reset_by_guest(&d);
		atomic_store(&d.state->reset, told != 0);
		cr_assert_eq(vfio_state_pending(d.state, &pending, &err), -ESTALE);
		cr_assert_eq(d.resets, 0);
		v2_end(&d);
	}
}

Test(mig_v2, a_reset_just_before_it_is_quiesced)
{
	struct gw_error err;
	struct v2_device d;

	v2_start(&d, V2_ALL);
	v2_go(&d, MIG_PRE_COPY);
	v2_reset_by_guest(&d);
	cr_assert_eq(vfio_state_step(d.state, VFIO_QUIESCE, &err), 0, "%s", err.text);
	cr_assert_eq(d.in, MIG_RUNNING_P2P, "without a session to go on with");
	cr_assert_eq(vfio_state_step(d.state, VFIO_STOP, &err), 0, "%s", err.text);
	cr_assert_eq(d.state->sessions, 2);
	v2_end(&d);
}

/* ---- steps ---- */

Test(mig_v2, steps_of_each_kind_Q1_D5)
{
	static const struct {
		uint64_t flags;
		enum mig_state after[VFIO_STEPS];
	} rows[] = {
		{ V2_ALL,
		  { MIG_PRE_COPY, MIG_PRE_COPY_P2P, MIG_STOP_COPY, MIG_STOP, MIG_RESUMING, MIG_STOP,
		    MIG_RUNNING_P2P, MIG_RUNNING } },
		{ V2_STOP_COPY | V2_P2P,
		  { MIG_RUNNING, MIG_RUNNING_P2P, MIG_STOP_COPY, MIG_STOP, MIG_RESUMING, MIG_STOP,
		    MIG_RUNNING_P2P, MIG_RUNNING } },
		{ V2_STOP_COPY | V2_PRE_COPY,
		  { MIG_PRE_COPY, MIG_PRE_COPY, MIG_STOP_COPY, MIG_STOP, MIG_RESUMING, MIG_STOP,
		    MIG_STOP, MIG_RUNNING } },
		{ V2_STOP_COPY,
		  { MIG_RUNNING, MIG_RUNNING, MIG_STOP_COPY, MIG_STOP, MIG_RESUMING, MIG_STOP,
		    MIG_STOP, MIG_RUNNING } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct gw_error err;
		struct v2_device d;

		v2_start(&d, rows[i].flags);
		for (enum vfio_step s = 0; s < VFIO_STEPS; s++) {
			cr_assert_eq(vfio_state_step(d.state, s, &err), 0, "%s", err.text);
			cr_assert_eq(d.in, rows[i].after[s], "flags %u, step %d: %s",
			             (unsigned)rows[i].flags, s, mig_state_name(d.in));
		}
		v2_end(&d);
	}
}

/* ---- what is not to be used -------------------------------------------------------------- */

Test(mig_v2, features_by_name)
{
	struct gw_error err;
	unsigned set;

	cr_assert_eq(vfio_state_without("", &set, &err), 0);
	cr_assert_eq(set, 0);
	cr_assert_eq(vfio_state_without("p2p", &set, &err), 0);
	cr_assert_eq(set, VFIO_STATE_QUIESCE);
	cr_assert_eq(vfio_state_without("pre-copy,p2p", &set, &err), 0);
	cr_assert_eq(set, VFIO_STATE_PRE_COPY | VFIO_STATE_QUIESCE);
	cr_assert_eq(vfio_state_check_without("pre-copy,", &err), -EINVAL);
	cr_assert_eq(vfio_state_check_without(",p2p", &err), -EINVAL);
	cr_assert_eq(vfio_state_check_without("stop-copy", &err), -EINVAL);
	cr_assert(strstr(err.text, "\"stop-copy\" is no feature"), "%s", err.text);
}

/* The device has them all the same, so the ways that it is led are the kernel's. */
Test(mig_v2, what_is_masked_is_not_asked_for)
{
	static const enum vfio_step steps[] = { VFIO_BEGIN_PRE_COPY, VFIO_QUIESCE, VFIO_STOP };
	static const struct {
		unsigned without;
		enum mig_state after[ARRAY_SIZE(steps)];
	} rows[] = {
		{ 0, { MIG_PRE_COPY, MIG_PRE_COPY_P2P, MIG_STOP_COPY } },
		{ VFIO_STATE_PRE_COPY, { MIG_RUNNING, MIG_RUNNING_P2P, MIG_STOP_COPY } },
		{ VFIO_STATE_QUIESCE, { MIG_PRE_COPY, MIG_PRE_COPY, MIG_STOP_COPY } },
		{ VFIO_STATE_PRE_COPY | VFIO_STATE_QUIESCE,
		  { MIG_RUNNING, MIG_RUNNING, MIG_STOP_COPY } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vfio_state_owner owner = { .without = rows[i].without };
		struct gw_error err;
		struct v2_device d;

		v2_start(&d, V2_ALL);
		vfio_state_destroy(d.state);
		cr_assert_eq(vfio_state_create(&d.dev, &owner, &d.state, &err), 0);
		for (size_t k = 0; k < ARRAY_SIZE(steps); k++) {
			cr_assert_eq(vfio_state_step(d.state, steps[k], &err), 0, "%s", err.text);
			cr_assert_eq(d.in, rows[i].after[k], "row %zu: step %zu: %s", i, k,
			             mig_state_name(d.in));
		}
		v2_end(&d);
	}
}
