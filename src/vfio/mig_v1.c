/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/mig_v1.h"

#include "base/util.h"

#include <string.h>

/* The bits above are reserved; what is in them stays as it is. */
#define STATE_BITS ((uint32_t)VFIO_DEVICE_STATE_MASK)
#define DEVICE_STATE offsetof(struct vfio_device_migration_info, device_state)

/* The five that can be asked for, and the one that only the device enters and only a reset
 * leaves. */
static const struct {
	const char *name;
	bool asked;
} states[MIG_V1_STATES] = {
	[MIG_V1_STOP] = { "stop", true },           [MIG_V1_RUNNING] = { "running", true },
	[MIG_V1_STOP_COPY] = { "stop-copy", true }, [MIG_V1_PRE_COPY] = { "pre-copy", true },
	[MIG_V1_RESUMING] = { "resuming", true },   [MIG_V1_ERROR] = { "error", false },
};

const char *mig_v1_state_name(unsigned state)
{
	return state < MIG_V1_STATES && states[state].name ? states[state].name : "?";
}

bool mig_v1_may(unsigned from, unsigned to)
{
	return from < MIG_V1_STATES && to < MIG_V1_STATES && states[from].asked && states[to].asked;
}

static struct mig_v1 *v1_of(struct vfio_state *s)
{
	return container_of(s, struct mig_v1, state);
}

/* ---- the state register --------------------------------------------------------------------- */

static int read_register(struct mig_v1 *m, uint32_t *value)
{
	return vfio_region_read(m->state.dev, m->region, DEVICE_STATE, value, sizeof(*value));
}

static bool saves(unsigned state)
{
	return state == MIG_V1_PRE_COPY || state == MIG_V1_STOP_COPY;
}

static void now_in(struct mig_v1 *m, unsigned state)
{
	/* Pre-copy and stop-and-copy are one session, but a chunk that was begun in the one is not
	 * to be had in the other. */
	if (state != m->state.now)
		mig_v1_data_restart(m, saves(state) || state == MIG_V1_RESUMING);
	vfio_state_now_in(&m->state, state);
}

static int refresh(struct vfio_state *s, struct gw_error *err)
{
	uint32_t value;
	int r = read_register(v1_of(s), &value);

	if (r < 0)
		return error_set_sys(err, r, "migration region: device_state (read)");
	value &= STATE_BITS;
	if (!states[value].name)
		return error_set(err, -EPROTO, "the device is in state %u, which is none", value);
	now_in(v1_of(s), value);
	return 0;
}

/* A write that was taken can still have led to the error state: only what is read back counts. */
static int request(struct vfio_state *s, unsigned to)
{
	struct mig_v1 *m = v1_of(s);
	const unsigned from = s->now;
	uint32_t value;
	int r = read_register(m, &value);

	if (r < 0)
		return r;
	value = (value & ~STATE_BITS) | to;
	r = vfio_region_write(s->dev, m->region, DEVICE_STATE, &value, sizeof(value));
	if (r >= 0)
		r = read_register(m, &value);
	if (r < 0)
		return r;
	if ((value & STATE_BITS) != to)
		return -EIO;
	s->sessions += saves(to) && !saves(from);
	now_in(m, to);
	return 0;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/*
 * v1 has no state for P2P and needs none: a device whose RUNNING was cleared starts no DMA, and
 * freezes what it is only when pending_bytes is read for the first time after that. So the write
 * of stop-and-copy is its way to be kept from starting DMA, and that read, when all devices have
 * come so far, its stop.
 */
static const struct {
	enum vfio_step step;
	unsigned to, recover;
} steps[] = {
	{ VFIO_BEGIN_PRE_COPY, MIG_V1_PRE_COPY, MIG_V1_RUNNING },
	{ VFIO_QUIESCE, MIG_V1_STOP_COPY, MIG_V1_RUNNING },
	{ VFIO_STOP, MIG_V1_STOP_COPY, MIG_V1_STOP },
	{ VFIO_END_SAVE, MIG_V1_STOP, MIG_V1_STOP },
	{ VFIO_BEGIN_LOAD, MIG_V1_RESUMING, MIG_V1_RUNNING },
	{ VFIO_FINISH_LOAD, MIG_V1_STOP, MIG_V1_STOP },
	{ VFIO_RUN, MIG_V1_RUNNING, MIG_V1_RUNNING },
};

/* Some drivers know only the way from resuming to running, on which the state takes effect, and
 * refuse to be stopped between: those take their state when they run. A state that they refuse is
 * told by other means. */
static int finish_load(struct mig_v1 *m, struct gw_error *err)
{
	struct vfio_state *s = &m->state;
	int r;

	if (m->chunk.open || m->head_len)
		return error_set(err, -EINVAL, "the device data end inside of a chunk");
	r = vfio_state_request(s, MIG_V1_STOP);
	if (!r)
		return 0;
	if (r == -EINVAL && !refresh(s, NULL) && s->now == MIG_V1_RESUMING)
		return 0;
	return vfio_state_recover(s, MIG_V1_STOP, r, MIG_V1_STOP, err);
}

static int take_step(struct vfio_state *s, enum vfio_step step, struct gw_error *err)
{
	struct mig_v1 *m = v1_of(s);
	uint64_t pending;
	int r = 0;

	if (step == VFIO_FINISH_LOAD && s->now == MIG_V1_RESUMING)
		return finish_load(m, err);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i].step == step)
			r = vfio_state_go(s, steps[i].to, steps[i].recover, err);
	if (!r && step == VFIO_STOP)
		r = mig_v1_pending_bytes(m, &pending, err);
	return r;
}

/* ---- the session ----------------------------------------------------------------------------- */

static int pending(struct vfio_state *s, struct vfio_state_pending *out, struct gw_error *err)
{
	struct mig_v1 *m = v1_of(s);

	/* Not while a chunk is under way: it would be taken as read. Nor between the end of
	 * RUNNING and the stop of all. */
	if (s->now != MIG_V1_PRE_COPY || m->chunk.open)
		return 0;
	return mig_v1_pending_bytes(m, &out->dirty, err);
}

static uint64_t stop_size(struct vfio_state *s)
{
	(void)s; /* nothing tells */
	return 0;
}

static ssize_t read_data(struct vfio_state *s, void *buf, size_t len, struct gw_error *err)
{
	if (!saves(s->now))
		return error_set_sys(err, -EBADF, "reading device data in state %s",
		                     vfio_state_name(s));
	return mig_v1_read(v1_of(s), buf, len, err);
}

static int write_data(struct vfio_state *s, const void *buf, size_t len, struct gw_error *err)
{
	if (s->now != MIG_V1_RESUMING)
		return error_set_sys(err, -EBADF, "writing device data in state %s",
		                     vfio_state_name(s));
	return mig_v1_write(v1_of(s), buf, len, err);
}

static bool midway(const struct vfio_state *s)
{
	const struct mig_v1 *m = container_of(s, const struct mig_v1, state);

	return m->chunk.open || m->stage_at < m->stage_len;
}

/* ---- life ---- */

static bool may(const struct vfio_state *s, unsigned from, unsigned to)
{
	(void)s;
	return mig_v1_may(from, to);
}

static void destroy(struct vfio_state *s)
{
	mig_v1_data_fini(v1_of(s));
	free(v1_of(s));
}

static const struct vfio_state_ops ops = {
	.protocol = "v1",
	.how = "migration region: device_state",
	.running = MIG_V1_RUNNING,
	.error = MIG_V1_ERROR,
	.copying = MIG_V1_PRE_COPY,
	.resuming = MIG_V1_RESUMING,
	.name = mig_v1_state_name,
	.may = may,
	.refresh = refresh,
	.request = request,
	.step = take_step,
	.pending = pending,
	.stop_size = stop_size,
	.read = read_data,
	.write = write_data,
	.midway = midway,
	.destroy = destroy,
};

int mig_v1_create(struct vfio_dev *dev, struct vfio_state **out, struct gw_error *err)
{
	int region = vfio_region_find(dev, VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
	                              VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED);
	struct mig_v1 *m;
	int r;

	if (region < 0)
		return 0;
	if (dev->regions[region].size < sizeof(struct vfio_device_migration_info))
		return error_set(err, -EPROTO, "a migration region of %llu bytes",
		                 (unsigned long long)dev->regions[region].size);
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(err, -ENOMEM, "out of memory");
	m->state.ops = &ops;
	m->state.dev = dev;
	m->state.now = MIG_V1_RUNNING;
	m->state.features = VFIO_STATE_PRE_COPY | VFIO_STATE_QUIESCE;
	m->region = (unsigned)region;
	r = mig_v1_data_init(m, err);
	if (!r)
		r = refresh(&m->state, err);
	if (r < 0)
		destroy(&m->state);
	else
		*out = &m->state;
	return r;
}
