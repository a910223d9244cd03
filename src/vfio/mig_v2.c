/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/mig_v2.h"

#include "base/util.h"

#include <string.h>

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

static struct mig_v2 *v2_of(struct vfio_state *s)
{
	return container_of(s, struct mig_v2, state);
}

static int feature(struct mig_v2 *m, uint32_t what, void *payload, size_t len)
{
	return vfio_dev_feature(m->state.dev, what, payload, len);
}

static void end_session(struct mig_v2 *m)
{
	if (m->session >= 0)
		m->state.dev->ops->session_close(m->state.dev, m->session);
	m->session = -1;
}

static void now_in(struct mig_v2 *m, enum mig_state state)
{
	/* These have no session, or a new one: what is left of the old only gives errors. */
	if (state == MIG_STOP || state == MIG_RUNNING || state == MIG_RUNNING_P2P ||
	    state == MIG_ERROR)
		end_session(m);
	vfio_state_now_in(&m->state, state);
}

static int refresh(struct vfio_state *s, struct gw_error *err)
{
	struct vfio_device_feature_mig_state state = { .data_fd = -1 };
	struct mig_v2 *m = v2_of(s);
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
static int request(struct vfio_state *s, unsigned to)
{
	struct vfio_device_feature_mig_state state = { .device_state = to, .data_fd = -1 };
	struct mig_v2 *m = v2_of(s);
	const enum mig_state from = s->now;
	int r = feature(m, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &state,
	                sizeof(state));

	if (r < 0)
		return r;
	if (opens_session(from, to)) {
		end_session(m);
		m->session = state.data_fd;
		m->drained = false;
		m->read = 0;
		s->sessions += states[to].saving;
	}
	now_in(m, to);
	return opens_session(from, to) && state.data_fd < 0 ? -EBADF : 0;
}

/* ---- steps ------------------------------------------------------------------------------ */

/*
 * A row is for devices that have its features, and the first that fits counts; a step without one
 * is done already. To stop in mid pre-copy the device goes to STOP_COPY and nowhere else: the way
 * from PRE_COPY to STOP leads over RUNNING. Where the guest runs on, a failure leads back to
 * RUNNING; among devices that have stopped, to STOP, since what runs may write to what has
 * stopped.
 */
#define ANY MIG_STATES
static const struct {
	enum vfio_step step;
	unsigned needs;
	enum mig_state from, to, recover;
} steps[] = {
	{ VFIO_BEGIN_PRE_COPY, VFIO_STATE_PRE_COPY, ANY, MIG_PRE_COPY, MIG_RUNNING },
	{ VFIO_QUIESCE, VFIO_STATE_QUIESCE, MIG_PRE_COPY, MIG_PRE_COPY_P2P, MIG_RUNNING },
	{ VFIO_QUIESCE, VFIO_STATE_QUIESCE, ANY, MIG_RUNNING_P2P, MIG_RUNNING },
	{ VFIO_STOP, 0, ANY, MIG_STOP_COPY, MIG_STOP },
	{ VFIO_END_SAVE, 0, ANY, MIG_STOP, MIG_STOP },
	{ VFIO_BEGIN_LOAD, 0, ANY, MIG_RESUMING, MIG_RUNNING },
	{ VFIO_FINISH_LOAD, 0, ANY, MIG_STOP, MIG_STOP },
	{ VFIO_ANSWER_DMA, VFIO_STATE_QUIESCE, ANY, MIG_RUNNING_P2P, MIG_RUNNING },
	{ VFIO_RUN, 0, ANY, MIG_RUNNING, MIG_RUNNING },
};

static int take_step(struct vfio_state *s, enum vfio_step step, struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i].step == step && !(steps[i].needs & ~s->features) &&
		    (steps[i].from == ANY || steps[i].from == s->now))
			return vfio_state_go(s, steps[i].to, steps[i].recover, err);
	return 0;
}

/* ---- the session ------------------------------------------------------------------------ */

/* Without the info, what came since the last call is what will come until the next. */
static void guess_pending(struct mig_v2 *m, struct vfio_state_pending *out)
{
	out->unknown = !m->drained;
	out->dirty = m->read;
	m->read = 0;
}

/* Some drivers make new increments inside the ioctl only. */
static int pending(struct vfio_state *s, struct vfio_state_pending *out, struct gw_error *err)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };
	struct mig_v2 *m = v2_of(s);
	int r;

	if (!states[s->now].saving || s->now == MIG_STOP_COPY)
		return 0;
	r = m->session < 0 ? -EBADF
	    : m->no_info   ? -ENOTTY
	                   : s->dev->ops->precopy_info(s->dev, m->session, &info);
	if (r == -ENOTTY || r == -EOPNOTSUPP || r == -ENOSYS) {
		m->no_info = true;
		guess_pending(m, out);
		return 0;
	}
	if (r < 0)
		return error_set_sys(err, r, "VFIO_MIG_GET_PRECOPY_INFO");
	out->initial = info.initial_bytes;
	out->dirty = info.dirty_bytes;
	return 0;
}

uint64_t mig_v2_stop_copy_size(struct mig_v2 *m)
{
	struct vfio_device_feature_mig_data_size size = { 0 };
	int r = feature(m, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size,
	                sizeof(size));

	return r < 0 ? 0 : size.stop_copy_length;
}

static uint64_t stop_size(struct vfio_state *s)
{
	return mig_v2_stop_copy_size(v2_of(s));
}

static ssize_t read_data(struct vfio_state *s, void *buf, size_t len, struct gw_error *err)
{
	struct mig_v2 *m = v2_of(s);
	ssize_t n =
	        m->session < 0 ? -EBADF : s->dev->ops->session_read(s->dev, m->session, buf, len);

	if (n == -ENOMSG) /* PRE_COPY: nothing at the moment; most drivers say it by 0 */
		n = 0;
	if (n < 0 || (size_t)n > len)
		return error_set_sys(err, n < 0 ? (int)n : -EPROTO,
		                     "reading device data in state %s", vfio_state_name(s));
	m->drained |= n == 0;
	m->read += (uint64_t)n;
	return n;
}

static int write_data(struct vfio_state *s, const void *buf, size_t len, struct gw_error *err)
{
	struct mig_v2 *m = v2_of(s);
	size_t done = 0;

	while (done < len) {
		ssize_t n = m->session < 0 ? -EBADF
		                           : s->dev->ops->session_write(s->dev, m->session,
		                                                        (const char *)buf + done,
		                                                        len - done);

		if (n <= 0 || (size_t)n > len - done)
			return error_set_sys(err, n < 0 ? (int)n : -EIO,
			                     "writing %zu bytes of device data in state %s",
			                     len - done, vfio_state_name(s));
		done += (size_t)n;
	}
	return 0;
}

/* ---- life --------------------------------------------------------------------------------- */

static const char *name(unsigned state)
{
	return mig_state_name((enum mig_state)state);
}

static bool may(const struct vfio_state *s, unsigned from, unsigned to)
{
	const struct mig_v2 *m = container_of(s, const struct mig_v2, state);

	return from < MIG_STATES && to < MIG_STATES &&
	       mig_v2_may(m->flags, (enum mig_state)from, (enum mig_state)to);
}

static void destroy(struct vfio_state *s)
{
	mig_v2_fini(v2_of(s));
	free(v2_of(s));
}

static const struct vfio_state_ops ops = {
	.protocol = "v2",
	.how = "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
	.running = MIG_RUNNING,
	.error = MIG_ERROR,
	.copying = MIG_PRE_COPY,
	.resuming = MIG_RESUMING,
	.name = name,
	.may = may,
	.refresh = refresh,
	.request = request,
	.step = take_step,
	.pending = pending,
	.stop_size = stop_size,
	.read = read_data,
	.write = write_data,
	.destroy = destroy,
};

int mig_v2_init(struct mig_v2 *m, struct vfio_dev *dev, struct gw_error *err)
{
	struct vfio_device_feature_migration migration = { 0 };
	int r;

	*m = (struct mig_v2){
		.state = { .ops = &ops, .dev = dev, .now = MIG_RUNNING },
		.session = -1,
	};
	r = feature(m, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &migration,
	            sizeof(migration));
	/* The kernel's way to say so, and a server's. */
	if (r == -ENOTTY || r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	if (r < 0)
		return error_set_sys(err, r, "VFIO_DEVICE_FEATURE_MIGRATION");
	if (migration.flags & STOP_COPY)
		m->flags = migration.flags & (STOP_COPY | P2P | PRE_COPY);
	if (!m->flags)
		return 0;
	m->state.features = (m->flags & PRE_COPY ? VFIO_STATE_PRE_COPY : 0) |
	                    (m->flags & P2P ? VFIO_STATE_QUIESCE : 0);
	/* From then on initial_bytes may start over (VFIO_PRECOPY_INFO_REINIT), and old kernels do
	 * not know it: either way it is read anew each time. */
	if (m->flags & PRE_COPY)
		feature(m, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, NULL,
		        0);
	return refresh(&m->state, err);
}

void mig_v2_fini(struct mig_v2 *m)
{
	end_session(m);
}

int mig_v2_create(struct vfio_dev *dev, struct vfio_state **out, struct gw_error *err)
{
	struct mig_v2 *m = malloc(sizeof(*m));
	int r = m ? mig_v2_init(m, dev, err) : error_set(err, -ENOMEM, "out of memory");

	if (r < 0 || !m->flags)
		free(m);
	else
		*out = &m->state;
	return r;
}
