/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/mig_v2.h"

#include "base/util.h"

#include <string.h>
#include <time.h>

#define RETRIES 10
#define RETRY_NS 10000000l

#define STOP_COPY VFIO_MIGRATION_STOP_COPY
#define P2P VFIO_MIGRATION_P2P
#define PRE_COPY VFIO_MIGRATION_PRE_COPY

static const struct {
	const char *name;
	uint64_t needs; /* flags; a state that needs more than the device has is not there */
	bool saving;    /* never passed on the way to another state */
} states[MIG_STATES] = {
	[MIG_ERROR] = { "error", 0, false },
	[MIG_STOP] = { "stop", STOP_COPY, false },
	[MIG_RUNNING] = { "running", STOP_COPY, false },
	[MIG_STOP_COPY] = { "stop-copy", STOP_COPY, true },
	[MIG_RESUMING] = { "resuming", STOP_COPY, false },
	[MIG_RUNNING_P2P] = { "running-p2p", STOP_COPY | P2P, false },
	[MIG_PRE_COPY] = { "pre-copy", STOP_COPY | PRE_COPY, true },
	[MIG_PRE_COPY_P2P] = { "pre-copy-p2p", STOP_COPY | PRE_COPY | P2P, true },
};

/* The single steps that a driver takes, and which of P2P they need (1) or are only for its
 * absence (-1). The kernel puts longer ways together from these. */
static const struct {
	enum mig_state from, to;
	int p2p;
} arcs[] = {
	{ MIG_RUNNING, MIG_RUNNING_P2P, 1 },
	{ MIG_RUNNING_P2P, MIG_RUNNING, 1 },
	{ MIG_RUNNING_P2P, MIG_STOP, 1 },
	{ MIG_STOP, MIG_RUNNING_P2P, 1 },
	{ MIG_RUNNING, MIG_STOP, -1 },
	{ MIG_STOP, MIG_RUNNING, -1 },
	{ MIG_RUNNING, MIG_PRE_COPY, 0 },
	{ MIG_PRE_COPY, MIG_RUNNING, 0 },
	{ MIG_PRE_COPY, MIG_PRE_COPY_P2P, 1 },
	{ MIG_PRE_COPY_P2P, MIG_PRE_COPY, 1 },
	{ MIG_PRE_COPY_P2P, MIG_RUNNING_P2P, 1 },
	{ MIG_RUNNING_P2P, MIG_PRE_COPY_P2P, 1 },
	{ MIG_PRE_COPY_P2P, MIG_STOP_COPY, 1 },
	{ MIG_PRE_COPY, MIG_STOP_COPY, -1 },
	{ MIG_STOP, MIG_STOP_COPY, 0 },
	{ MIG_STOP_COPY, MIG_STOP, 0 },
	{ MIG_STOP, MIG_RESUMING, 0 },
	{ MIG_RESUMING, MIG_STOP, 0 },
};

const char *mig_state_name(enum mig_state state)
{
	return (size_t)state < MIG_STATES ? states[state].name : "?";
}

static bool has_state(uint64_t flags, enum mig_state state)
{
	return state != MIG_ERROR && (states[state].needs & ~flags) == 0;
}

static bool is_arc(size_t i, uint64_t flags)
{
	bool p2p = flags & P2P;

	return has_state(flags, arcs[i].from) && has_state(flags, arcs[i].to) &&
	       (arcs[i].p2p == 0 || (arcs[i].p2p > 0) == p2p);
}

/* Steps from `from` to `to`, breadth first, with saving states at the ends only; but within the
 * saving group PRE_COPY may pass PRE_COPY_P2P to STOP_COPY. */
enum mig_state mig_v2_next(uint64_t flags, enum mig_state from, enum mig_state to)
{
	enum mig_state queue[MIG_STATES], first[MIG_STATES] = { MIG_ERROR };
	size_t head = 0, tail = 0;
	bool seen[MIG_STATES] = { false };

	if (!has_state(flags, from) || !has_state(flags, to))
		return MIG_ERROR;
	seen[from] = true;
	queue[tail++] = from;
	while (head < tail) {
		enum mig_state at = queue[head++];

		if (at == to)
			return first[at] == MIG_ERROR ? to : first[at];
		for (size_t i = 0; i < ARRAY_SIZE(arcs); i++) {
			enum mig_state next = arcs[i].to;
			bool through = next != to && states[next].saving &&
			               !(from == MIG_PRE_COPY && next == MIG_PRE_COPY_P2P &&
			                 to == MIG_STOP_COPY);

			if (arcs[i].from != at || seen[next] || !is_arc(i, flags) || through)
				continue;
			seen[next] = true;
			first[next] = at == from ? next : first[at];
			queue[tail++] = next;
		}
	}
	return MIG_ERROR;
}

bool mig_v2_may(uint64_t flags, enum mig_state from, enum mig_state to)
{
	/* A session that has frozen the device cannot go back to copying beside it. */
	if (from == MIG_STOP_COPY && (to == MIG_PRE_COPY || to == MIG_PRE_COPY_P2P))
		return false;
	return from == to ? has_state(flags, to) : mig_v2_next(flags, from, to) != MIG_ERROR;
}

/* ---- asking the device ---------------------------------------------------------------- */

static int feature(struct mig_v2 *m, uint32_t what, void *payload, size_t len)
{
	struct vfio_feature_request req = {
		.head.argsz = (uint32_t)(sizeof(req.head) + len),
		.head.flags = what,
	};
	int r;

	memcpy(req.payload, payload, len);
	r = m->dev->ops->feature(m->dev, &req.head);
	memcpy(payload, req.payload, len);
	return MIN(r, 0);
}

int mig_v2_init(struct mig_v2 *m, struct vfio_dev *dev, struct gw_error *err)
{
	struct vfio_device_feature_migration migration = { 0 };
	int r;

	m->dev = dev;
	m->flags = 0;
	m->state = MIG_RUNNING;
	m->session = -1;
	r = feature(m, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &migration,
	            sizeof(migration));
	if (r == -ENOTTY)
		return 0;
	if (r < 0)
		return error_set_sys(err, r, "VFIO_DEVICE_FEATURE_MIGRATION");
	if (migration.flags & STOP_COPY)
		m->flags = migration.flags & (STOP_COPY | P2P | PRE_COPY);
	return m->flags ? mig_v2_refresh(m, err) : 0;
}

static void end_session(struct mig_v2 *m)
{
	if (m->session >= 0)
		m->dev->ops->session_close(m->dev, m->session);
	m->session = -1;
}

void mig_v2_fini(struct mig_v2 *m)
{
	end_session(m);
}

static void now_in(struct mig_v2 *m, enum mig_state state)
{
	/* These have no session, or a new one: what is left of the old only gives errors. */
	if (state == MIG_STOP || state == MIG_RUNNING || state == MIG_RUNNING_P2P ||
	    state == MIG_ERROR)
		end_session(m);
	if (m->state == state)
		return;
	m->state = state;
	if (m->changed)
		m->changed(m->opaque, state);
}

int mig_v2_refresh(struct mig_v2 *m, struct gw_error *err)
{
	struct vfio_device_feature_mig_state state = { .data_fd = -1 };
	int r = feature(m, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &state,
	                sizeof(state));

	if (r < 0)
		return error_set_sys(err, r, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE (get)");
	if (state.device_state >= MIG_STATES)
		return error_set(err, -EPROTO, "the device is in state %u, which is none",
		                 state.device_state);
	now_in(m, (enum mig_state)state.device_state);
	return 0;
}

static bool opens_session(enum mig_state from, enum mig_state to)
{
	bool was_saving = states[from].saving;

	return (states[to].saving && !was_saving) || (to == MIG_RESUMING && from != MIG_RESUMING);
}

/* One request. The state changes before the descriptor is made (in 6.12), so that -EMFILE may
 * mean a session without one: the state is read back and the session left. */
static int request(struct mig_v2 *m, enum mig_state to)
{
	struct vfio_device_feature_mig_state state = { .device_state = to, .data_fd = -1 };
	enum mig_state from = m->state;
	int r = feature(m, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &state,
	                sizeof(state));

	if (r < 0)
		return r;
	if (opens_session(from, to)) {
		end_session(m);
		m->session = state.data_fd;
	}
	now_in(m, to);
	return opens_session(from, to) && state.data_fd < 0 ? -EBADF : 0;
}

static int request_patiently(struct mig_v2 *m, enum mig_state to)
{
	const struct timespec pause = { 0, RETRY_NS };
	int r = request(m, to);

	for (int i = 0; i < RETRIES && (r == -EAGAIN || r == -EBUSY); i++) {
		nanosleep(&pause, NULL);
		r = request(m, to);
	}
	return r;
}

static void recover_by_reset(struct mig_v2 *m, struct gw_error *err)
{
	struct gw_error why;

	end_session(m);
	if (m->reset(m->opaque, &why) < 0 || mig_v2_refresh(m, &why) < 0) {
		error_append(err, "reset: %s: the device has failed", why.text);
		return;
	}
	error_append(err, "the device was reset and is %s", mig_state_name(m->state));
}

static void recover(struct mig_v2 *m, enum mig_state to, struct gw_error *err)
{
	struct gw_error why;
	int r;

	if (mig_v2_refresh(m, &why) < 0) {
		error_append(err, "reading the state back: %s", why.text);
		recover_by_reset(m, err);
		return;
	}
	if (m->state == MIG_ERROR || m->state == MIG_RESUMING) {
		error_append(err, "the device is in state \"%s\"", mig_state_name(m->state));
		recover_by_reset(m, err);
		return;
	}
	if (m->state == to) {
		error_append(err, "the device is still %s", mig_state_name(to));
		return;
	}
	r = mig_v2_may(m->flags, m->state, to) ? request_patiently(m, to) : -EINVAL;
	if (!r) {
		error_append(err, "the device was taken back to %s", mig_state_name(to));
		return;
	}
	error_append(err, "it does not go from %s to %s: %s", mig_state_name(m->state),
	             mig_state_name(to), strerror(-r));
	recover_by_reset(m, err);
}

int mig_v2_set(struct mig_v2 *m, enum mig_state to, enum mig_state recover_to, struct gw_error *err)
{
	enum mig_state from = m->state;
	struct gw_error own;
	int r;

	if (!mig_v2_may(m->flags, from, to))
		return error_set(err, -EINVAL, "there is no way from state %s to %s",
		                 mig_state_name(from), mig_state_name(to));
	if (from == to)
		return 0;
	r = request_patiently(m, to);
	if (!r)
		return 0;
	error_set_sys(&own, r, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: from %s to %s",
	              mig_state_name(from), mig_state_name(to));
	recover(m, recover_to, &own);
	if (err)
		*err = own;
	return r;
}

/* ---- the session ------------------------------------------------------------------------ */

int mig_v2_precopy_info(struct mig_v2 *m, uint64_t *initial, uint64_t *dirty, struct gw_error *err)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	int r = m->session < 0 ? -EBADF : m->dev->ops->precopy_info(m->dev, m->session, &info);

	if (r < 0)
		return error_set_sys(err, r, "VFIO_MIG_GET_PRECOPY_INFO");
	*initial = info.initial_bytes;
	*dirty = info.dirty_bytes;
	return 0;
}

uint64_t mig_v2_stop_copy_size(struct mig_v2 *m)
{
	struct vfio_device_feature_mig_data_size size = { 0 };
	int r = feature(m, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size,
	                sizeof(size));

	return r < 0 ? 0 : size.stop_copy_length;
}

ssize_t mig_v2_read(struct mig_v2 *m, void *buf, size_t len, struct gw_error *err)
{
	ssize_t n =
	        m->session < 0 ? -EBADF : m->dev->ops->session_read(m->dev, m->session, buf, len);

	if (n == -ENOMSG) /* PRE_COPY: nothing at the moment */
		return 0;
	return n < 0 ? error_set_sys(err, (int)n, "reading device data in state %s",
	                             mig_state_name(m->state))
	             : n;
}

int mig_v2_write(struct mig_v2 *m, const void *buf, size_t len, struct gw_error *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = m->session < 0 ? -EBADF
		                           : m->dev->ops->session_write(m->dev, m->session,
		                                                        (const char *)buf + done,
		                                                        len - done);

		if (n <= 0)
			return error_set_sys(err, n ? (int)n : -EIO,
			                     "writing %zu bytes of device data in state %s",
			                     len - done, mig_state_name(m->state));
		done += (size_t)n;
	}
	return 0;
}
