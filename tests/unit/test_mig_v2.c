/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The v2 state machine against a stand-in device, which has a table of arcs of
 * its own, written from the kernel's documentation, and can be made to fail
 * each step: with an errno, and left in the old state, in the one between, or
 * in the error state.
 */
#include "vfio/mig_v2.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define ALL_FLAGS (VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY)

enum where { FAIL_OLD, FAIL_BETWEEN, FAIL_ERROR, WHERES };

struct device {
	struct vfio_dev dev;
	struct mig_v2 mig;
	uint64_t flags;
	enum mig_state state;
	int open_fds, next_fd;
	unsigned resets, requests;
	/* The step number (of SET requests, from 1) that fails, and how. */
	unsigned fail_request;
	int fail_errno;
	unsigned fail_times;
	enum where fail_where;
	bool fail_all_sets; /* until a reset */
	bool fail_get, fail_reset, lose_fd;
	const char *seen[64];
	unsigned seen_count;
	enum vfio_trouble trouble;
	const char *data;
	size_t data_len, data_at, chunk;
	char written[64];
	size_t written_len;
};

/* Way from -> to: the states passed, by the kernel's rules (uAPI, "mig_device_state"), for a
 * device with all features; 0 ends. Rows that are not here are refused. */
static const struct {
	enum mig_state from, to, path[5];
} ways[] = {
	{ MIG_RUNNING, MIG_RUNNING_P2P, { MIG_RUNNING_P2P } },
	{ MIG_RUNNING, MIG_STOP, { MIG_RUNNING_P2P, MIG_STOP } },
	{ MIG_RUNNING, MIG_STOP_COPY, { MIG_RUNNING_P2P, MIG_STOP, MIG_STOP_COPY } },
	{ MIG_RUNNING, MIG_RESUMING, { MIG_RUNNING_P2P, MIG_STOP, MIG_RESUMING } },
	{ MIG_RUNNING, MIG_PRE_COPY, { MIG_PRE_COPY } },
	{ MIG_RUNNING, MIG_PRE_COPY_P2P, { MIG_RUNNING_P2P, MIG_PRE_COPY_P2P } },
	{ MIG_RUNNING_P2P, MIG_RUNNING, { MIG_RUNNING } },
	{ MIG_RUNNING_P2P, MIG_STOP, { MIG_STOP } },
	{ MIG_RUNNING_P2P, MIG_STOP_COPY, { MIG_STOP, MIG_STOP_COPY } },
	{ MIG_RUNNING_P2P, MIG_RESUMING, { MIG_STOP, MIG_RESUMING } },
	{ MIG_RUNNING_P2P, MIG_PRE_COPY, { MIG_RUNNING, MIG_PRE_COPY } },
	{ MIG_RUNNING_P2P, MIG_PRE_COPY_P2P, { MIG_PRE_COPY_P2P } },
	{ MIG_STOP, MIG_RUNNING, { MIG_RUNNING_P2P, MIG_RUNNING } },
	{ MIG_STOP, MIG_RUNNING_P2P, { MIG_RUNNING_P2P } },
	{ MIG_STOP, MIG_STOP_COPY, { MIG_STOP_COPY } },
	{ MIG_STOP, MIG_RESUMING, { MIG_RESUMING } },
	{ MIG_STOP, MIG_PRE_COPY, { MIG_RUNNING_P2P, MIG_RUNNING, MIG_PRE_COPY } },
	{ MIG_STOP, MIG_PRE_COPY_P2P, { MIG_RUNNING_P2P, MIG_PRE_COPY_P2P } },
	{ MIG_STOP_COPY, MIG_STOP, { MIG_STOP } },
	{ MIG_STOP_COPY, MIG_RUNNING, { MIG_STOP, MIG_RUNNING_P2P, MIG_RUNNING } },
	{ MIG_STOP_COPY, MIG_RUNNING_P2P, { MIG_STOP, MIG_RUNNING_P2P } },
	{ MIG_STOP_COPY, MIG_RESUMING, { MIG_STOP, MIG_RESUMING } },
	{ MIG_RESUMING, MIG_STOP, { MIG_STOP } },
	{ MIG_RESUMING, MIG_RUNNING, { MIG_STOP, MIG_RUNNING_P2P, MIG_RUNNING } },
	{ MIG_RESUMING, MIG_RUNNING_P2P, { MIG_STOP, MIG_RUNNING_P2P } },
	{ MIG_RESUMING, MIG_STOP_COPY, { MIG_STOP, MIG_STOP_COPY } },
	{ MIG_RESUMING, MIG_PRE_COPY, { MIG_STOP, MIG_RUNNING_P2P, MIG_RUNNING, MIG_PRE_COPY } },
	{ MIG_RESUMING, MIG_PRE_COPY_P2P, { MIG_STOP, MIG_RUNNING_P2P, MIG_PRE_COPY_P2P } },
	{ MIG_PRE_COPY, MIG_RUNNING, { MIG_RUNNING } },
	{ MIG_PRE_COPY, MIG_PRE_COPY_P2P, { MIG_PRE_COPY_P2P } },
	{ MIG_PRE_COPY, MIG_STOP_COPY, { MIG_PRE_COPY_P2P, MIG_STOP_COPY } },
	{ MIG_PRE_COPY, MIG_STOP, { MIG_RUNNING, MIG_RUNNING_P2P, MIG_STOP } },
	{ MIG_PRE_COPY, MIG_RUNNING_P2P, { MIG_RUNNING, MIG_RUNNING_P2P } },
	{ MIG_PRE_COPY, MIG_RESUMING, { MIG_RUNNING, MIG_RUNNING_P2P, MIG_STOP, MIG_RESUMING } },
	{ MIG_PRE_COPY_P2P, MIG_PRE_COPY, { MIG_PRE_COPY } },
	{ MIG_PRE_COPY_P2P, MIG_RUNNING_P2P, { MIG_RUNNING_P2P } },
	{ MIG_PRE_COPY_P2P, MIG_STOP_COPY, { MIG_STOP_COPY } },
	{ MIG_PRE_COPY_P2P, MIG_RUNNING, { MIG_RUNNING_P2P, MIG_RUNNING } },
	{ MIG_PRE_COPY_P2P, MIG_STOP, { MIG_RUNNING_P2P, MIG_STOP } },
	{ MIG_PRE_COPY_P2P, MIG_RESUMING, { MIG_RUNNING_P2P, MIG_STOP, MIG_RESUMING } },
};

static const enum mig_state *way(enum mig_state from, enum mig_state to)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (ways[i].from == from && ways[i].to == to)
			return ways[i].path;
	return NULL;
}

/* ---- the stand-in ---------------------------------------------------------------------- */

static bool saving(enum mig_state s)
{
	return s == MIG_PRE_COPY || s == MIG_PRE_COPY_P2P || s == MIG_STOP_COPY;
}

static int set_state(struct device *d, struct vfio_device_feature_mig_state *s)
{
	enum mig_state from = d->state, to = (enum mig_state)s->device_state;
	const enum mig_state *path = way(from, to);
	bool fails = d->fail_all_sets ||
	             (++d->requests >= d->fail_request && d->fail_request && d->fail_times);

	s->data_fd = -1;
	if (from == to)
		return 0;
	if (!path)
		return -EINVAL;
	if (fails) {
		if (d->fail_times)
			d->fail_times--;
		if (d->fail_where == FAIL_BETWEEN && path[0] != to && path[0])
			d->state = path[0];
		else if (d->fail_where == FAIL_ERROR)
			d->state = MIG_ERROR;
		return -d->fail_errno;
	}
	d->state = to;
	if ((saving(to) && !saving(from)) || to == MIG_RESUMING) {
		if (d->lose_fd)
			return -EMFILE;
		s->data_fd = d->next_fd++;
		d->open_fds++;
	}
	return 0;
}

static int stand_in_feature(struct vfio_dev *dev, struct vfio_device_feature *request)
{
	struct device *d = container_of(dev, struct device, dev);
	struct vfio_feature_request *req = container_of(request, struct vfio_feature_request, head);
	struct vfio_device_feature_migration migration = { .flags = d->flags };
	struct vfio_device_feature_mig_state state;
	struct vfio_device_feature_mig_data_size size = { .stop_copy_length = 4711 };
	int r = 0;

	switch (req->head.flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
		memcpy(req->payload, &migration, sizeof(migration));
		return d->flags ? 0 : -ENOTTY;
	case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		memcpy(req->payload, &size, sizeof(size));
		return 0;
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		memcpy(&state, req->payload, sizeof(state));
		if (req->head.flags & VFIO_DEVICE_FEATURE_SET) {
			r = set_state(d, &state);
		} else {
			state.device_state = d->state;
			state.data_fd = -1;
			r = d->fail_get ? -EIO : 0;
		}
		memcpy(req->payload, &state, sizeof(state));
		return r;
	default:
		return -ENOTTY;
	}
}

static int stand_in_precopy_info(struct vfio_dev *dev, int session, struct vfio_precopy_info *info)
{
	struct device *d = container_of(dev, struct device, dev);

	(void)session;
	if (d->state != MIG_PRE_COPY && d->state != MIG_PRE_COPY_P2P)
		return -EINVAL;
	info->initial_bytes = 11;
	info->dirty_bytes = 22;
	return 0;
}

static ssize_t stand_in_read(struct vfio_dev *dev, int session, void *buf, size_t len)
{
	struct device *d = container_of(dev, struct device, dev);
	size_t n = MIN(MIN(len, d->chunk), d->data_len - d->data_at);

	(void)session;
	if (!saving(d->state))
		return -ENODEV;
	if (!n)
		return d->state == MIG_STOP_COPY ? 0 : -ENOMSG;
	memcpy(buf, d->data + d->data_at, n);
	d->data_at += n;
	return (ssize_t)n;
}

static ssize_t stand_in_write(struct vfio_dev *dev, int session, const void *buf, size_t len)
{
	struct device *d = container_of(dev, struct device, dev);
	size_t n = MIN(len, d->chunk);

	(void)session;
	if (d->state != MIG_RESUMING || d->written_len + n > sizeof(d->written))
		return -ENODEV;
	memcpy(d->written + d->written_len, buf, n);
	d->written_len += n;
	return (ssize_t)n;
}

static void stand_in_close(struct vfio_dev *dev, int session)
{
	(void)session;
	container_of(dev, struct device, dev)->open_fds--;
}

static const struct vfio_host_ops stand_in_ops = {
	.feature = stand_in_feature,
	.precopy_info = stand_in_precopy_info,
	.session_read = stand_in_read,
	.session_write = stand_in_write,
	.session_close = stand_in_close,
};

static void on_changed(void *opaque, const char *state)
{
	struct device *d = opaque;

	if (d->seen_count < ARRAY_SIZE(d->seen))
		d->seen[d->seen_count++] = state;
}

static void on_trouble(void *opaque, enum vfio_trouble trouble, const char *why)
{
	struct device *d = opaque;

	cr_assert(strstr(why, "reset"), "%s", why);
	d->trouble = trouble;
}

static int on_reset(void *opaque, struct gw_error *err)
{
	struct device *d = opaque;

	d->resets++;
	if (d->fail_reset)
		return error_set(err, -EIO, "it will not");
	d->state = MIG_RUNNING;
	d->fail_all_sets = false;
	return 0;
}

static void start(struct device *d, uint64_t flags)
{
	struct gw_error err;

	*d = (struct device){ .dev.ops = &stand_in_ops,
		              .flags = flags,
		              .state = MIG_RUNNING,
		              .next_fd = 100,
		              .chunk = 7 };
	cr_assert(mig_v2_init(&d->mig, &d->dev, &err) == 0, "%s", err.text);
	d->mig.state.owner = (struct vfio_state_owner){ d, on_changed, on_reset, on_trouble };
}

/* From RUNNING into a state, without a failure. */
static void go(struct device *d, enum mig_state state)
{
	struct gw_error err;

	cr_assert(vfio_state_go(&d->mig.state, state, MIG_RUNNING, &err) == 0, "%s: %s",
	          mig_state_name(state), err.text);
	d->requests = 0;
}

/* ---- tests ------------------------------------------------------------------------------- */

Test(mig_v2, no_migration_is_no_error)
{
	struct device d;

	start(&d, 0);
	cr_assert_eq(d.mig.flags, 0);
	cr_assert_not(mig_v2_may(0, MIG_RUNNING, MIG_STOP));
}

Test(mig_v2, default_state_is_running_S1)
{
	struct device d;

	start(&d, ALL_FLAGS);
	cr_assert_eq(d.mig.state.now, MIG_RUNNING);
	cr_assert_eq(d.requests, 0);
}

Test(mig_v2, every_arc_and_every_way_S3_S6)
{
	for (enum mig_state from = MIG_ERROR; from < MIG_STATES; from++) {
		for (enum mig_state to = MIG_ERROR; to < MIG_STATES; to++) {
			const enum mig_state *path = way(from, to);
			struct device d;

			cr_assert_eq(mig_v2_may(ALL_FLAGS, from, to), path || (from == to && from),
			             "%s to %s", mig_state_name(from), mig_state_name(to));
			if (!path)
				continue;
			cr_assert_eq(mig_v2_next(ALL_FLAGS, from, to), path[0], "%s to %s by %s",
			             mig_state_name(from), mig_state_name(to),
			             mig_state_name(mig_v2_next(ALL_FLAGS, from, to)));
			start(&d, ALL_FLAGS);
			go(&d, from);
			go(&d, to);
			cr_assert_eq(d.state, to);
			cr_assert_eq(d.open_fds, saving(to) || to == MIG_RESUMING,
			             "%d descriptors in %s", d.open_fds, mig_state_name(to));
			mig_v2_fini(&d.mig);
			cr_assert_eq(d.open_fds, 0);
		}
	}
}

Test(mig_v2, refused_before_the_device_is_touched_S3)
{
	struct gw_error err;
	struct device d;

	start(&d, ALL_FLAGS);
	go(&d, MIG_STOP_COPY);
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_PRE_COPY, MIG_STOP, &err), -EINVAL);
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_ERROR, MIG_STOP, &err), -EINVAL);
	cr_assert_eq(d.requests, 0);
	cr_assert_eq(d.state, MIG_STOP_COPY);
	mig_v2_fini(&d.mig);
}

Test(mig_v2, without_p2p_and_pre_copy_S5)
{
	const uint64_t flags = VFIO_MIGRATION_STOP_COPY;

	cr_assert_eq(mig_v2_next(flags, MIG_RUNNING, MIG_STOP), MIG_STOP);
	cr_assert_eq(mig_v2_next(flags, MIG_STOP, MIG_RUNNING), MIG_RUNNING);
	cr_assert_eq(mig_v2_next(flags, MIG_RUNNING, MIG_STOP_COPY), MIG_STOP);
	cr_assert_not(mig_v2_may(flags, MIG_RUNNING, MIG_RUNNING_P2P));
	cr_assert_not(mig_v2_may(flags, MIG_RUNNING, MIG_PRE_COPY));
	cr_assert_eq(mig_v2_next(flags | VFIO_MIGRATION_PRE_COPY, MIG_PRE_COPY, MIG_STOP_COPY),
	             MIG_STOP_COPY);
}

/* Each way, each errno, each place where a failure may leave the device; it recovers by the next
 * request. */
Test(mig_v2, each_way_with_each_failure_F1_F4_F6, .timeout = 60)
{
	static const int errnos[] = { EIO, EINVAL, ENOMEM, EPERM, ETIMEDOUT };

	for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
		for (size_t e = 0; e < ARRAY_SIZE(errnos); e++) {
			for (enum where where = FAIL_OLD; where < WHERES; where++) {
				enum mig_state from = ways[w].from, to = ways[w].to;
				struct gw_error err;
				struct device d;
				int r;

				start(&d, ALL_FLAGS);
				go(&d, from);
				d.fail_request = 1;
				d.fail_times = 1;
				d.fail_errno = errnos[e];
				d.fail_where = where;
				r = vfio_state_go(&d.mig.state, to, MIG_RUNNING, &err);
				cr_assert_eq(r, -errnos[e], "the first error is reported: %d", r);
				cr_assert(strstr(err.text, mig_state_name(from)) &&
				                  strstr(err.text, mig_state_name(to)) &&
				                  strstr(err.text, strerror(errnos[e])),
				          "%s", err.text);
				cr_assert_eq(d.mig.state.now, d.state, "%s; device %s, we %s",
				             err.text, mig_state_name(d.state),
				             mig_state_name(d.mig.state.now));
				cr_assert_eq(d.state, MIG_RUNNING, "%s to %s: %s",
				             mig_state_name(from), mig_state_name(to), err.text);
				/* A reset leads out of the error state, and out of RESUMING. */
				cr_assert_eq(d.resets,
				             where == FAIL_ERROR ||
				                     (from == MIG_RESUMING &&
				                      (where == FAIL_OLD || ways[w].path[0] == to)),
				             "%u resets: %s", d.resets, err.text);
				cr_assert_eq(d.open_fds, 0, "%d descriptors left", d.open_fds);
			}
		}
	}
}

Test(mig_v2, recovery_fails_too_then_reset_F4)
{
	struct gw_error err;
	struct device d;

	start(&d, ALL_FLAGS);
	go(&d, MIG_PRE_COPY);
	d.fail_all_sets = true;
	d.fail_errno = EIO;
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_STOP_COPY, MIG_STOP, &err), -EIO);
	cr_assert_eq(d.resets, 1);
	cr_assert_eq(d.mig.state.now, MIG_RUNNING);
	cr_assert(strstr(err.text, "reset"), "%s", err.text);
	cr_assert_eq(d.open_fds, 0);
}

Test(mig_v2, even_the_reset_fails_F2)
{
	struct gw_error err;
	struct device d;

	start(&d, ALL_FLAGS);
	d.fail_request = d.fail_times = 1;
	d.fail_errno = EIO;
	d.fail_where = FAIL_ERROR;
	d.fail_reset = true;
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_STOP, MIG_RUNNING, &err), -EIO);
	cr_assert(strstr(err.text, "the device has failed"), "%s", err.text);
	cr_assert_eq(d.mig.state.now, MIG_ERROR);
}

Test(mig_v2, state_that_cannot_be_read_back)
{
	struct gw_error err;
	struct device d;

	start(&d, ALL_FLAGS);
	d.fail_request = d.fail_times = 1;
	d.fail_errno = EIO;
	d.fail_get = true;
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_STOP, MIG_RUNNING, &err), -EIO);
	cr_assert_eq(d.resets, 1);
}

Test(mig_v2, busy_passes_F5)
{
	static const int errnos[] = { EAGAIN, EBUSY };

	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
		struct gw_error err;
		struct device d;

		start(&d, ALL_FLAGS);
		d.fail_request = 1;
		d.fail_times = 3;
		d.fail_errno = errnos[i];
		cr_assert_eq(vfio_state_go(&d.mig.state, MIG_STOP, MIG_RUNNING, &err), 0, "%s",
		             err.text);
		cr_assert_eq(d.state, MIG_STOP);
		cr_assert_eq(d.requests, 4);
		cr_assert_eq(d.resets, 0);
	}
}

/* The state has changed, but no descriptor came. */
Test(mig_v2, no_descriptor_leaves_the_session)
{
	struct gw_error err;
	struct device d;

	start(&d, ALL_FLAGS);
	d.lose_fd = true;
	cr_assert_eq(vfio_state_go(&d.mig.state, MIG_PRE_COPY, MIG_RUNNING, &err), -EMFILE);
	cr_assert_eq(d.state, MIG_RUNNING, "%s", mig_state_name(d.state));
	cr_assert_eq(d.mig.state.now, MIG_RUNNING);
	cr_assert_eq(d.mig.session, -1);
}

Test(mig_v2, data_in_pieces_D1_D3)
{
	static const char data[] = "what the device alone understands";
	char got[64];
	struct gw_error err;
	struct device d;
	size_t len = 0;
	ssize_t n;
	struct vfio_state_pending pending;

	start(&d, ALL_FLAGS);
	d.data = data;
	go(&d, MIG_PRE_COPY);
	cr_assert_eq(vfio_state_read(&d.mig.state, got, sizeof(got), &err), 0,
	             "nothing is pending yet");
	cr_assert_eq(vfio_state_pending(&d.mig.state, &pending, &err), 0);
	cr_assert_eq(pending.initial, 11);
	cr_assert_eq(pending.dirty, 22);
	cr_assert_eq(mig_v2_stop_copy_size(&d.mig), 4711);
	d.data_len = sizeof(data);
	go(&d, MIG_STOP_COPY);
	cr_assert_eq(d.open_fds, 1, "the session goes on with its descriptor");
	while ((n = vfio_state_read(&d.mig.state, got + len, sizeof(got) - len, &err)) > 0)
		len += (size_t)n;
	cr_assert_eq(n, 0);
	cr_assert_eq(len, sizeof(data));
	cr_assert_arr_eq(got, data, sizeof(data));
	go(&d, MIG_STOP);
	cr_assert_eq(d.open_fds, 0);
	cr_assert_eq(vfio_state_read(&d.mig.state, got, sizeof(got), &err), -EBADF,
	             "the session is over");

	go(&d, MIG_RESUMING);
	cr_assert_eq(vfio_state_write(&d.mig.state, data, sizeof(data), &err), 0, "%s", err.text);
	cr_assert_eq(d.written_len, sizeof(data));
	cr_assert_arr_eq(d.written, data, sizeof(data));
	d.data_at = 0;
	go(&d, MIG_RUNNING);
	cr_assert_lt(vfio_state_write(&d.mig.state, data, 1, &err), 0);
}

Test(mig_v2, begins_again_in_the_middle_D6)
{
	struct device d;

	start(&d, ALL_FLAGS);
	for (int i = 0; i < 5; i++) {
		go(&d, MIG_PRE_COPY);
		go(&d, MIG_PRE_COPY_P2P);
		go(&d, MIG_RUNNING);
		cr_assert_eq(d.open_fds, 0);
	}
}
