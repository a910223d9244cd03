/* SPDX-License-Identifier: Apache-2.0 */
#include "v2_device.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

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

static bool has(uint64_t flags, enum mig_state s)
{
	static const uint64_t needs[MIG_STATES] = {
		[MIG_STOP] = V2_STOP_COPY,
		[MIG_RUNNING] = V2_STOP_COPY,
		[MIG_STOP_COPY] = V2_STOP_COPY,
		[MIG_RESUMING] = V2_STOP_COPY,
		[MIG_RUNNING_P2P] = V2_P2P,
		[MIG_PRE_COPY] = V2_PRE_COPY,
		[MIG_PRE_COPY_P2P] = V2_P2P | V2_PRE_COPY,
	};

	return needs[s] && (flags & needs[s]) == needs[s];
}

/* States that a device has not are left out of the way. */
const enum mig_state *v2_way(uint64_t flags, enum mig_state from, enum mig_state to,
                             enum mig_state path[V2_HOPS + 1])
{
	unsigned n = 0;

	if (!has(flags, from) || !has(flags, to))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (ways[i].from != from || ways[i].to != to)
			continue;
		for (unsigned k = 0; ways[i].path[k]; k++)
			if (has(flags, ways[i].path[k]))
				path[n++] = ways[i].path[k];
		path[n] = MIG_ERROR;
		return path;
	}
	return NULL;
}

static struct v2_device *of(struct vfio_dev *dev)
{
	return dev->connection;
}

static bool saving(enum mig_state s)
{
	return s == MIG_PRE_COPY || s == MIG_PRE_COPY_P2P || s == MIG_STOP_COPY;
}

static int fail(struct v2_device *d, const enum mig_state *path)
{
	d->fail_times -= d->fail_times != 0;
	if (d->fail_hop == V2_FAIL_ERROR)
		d->in = MIG_ERROR;
	else if (d->fail_hop)
		d->in = path[d->fail_hop - 1];
	return -d->fail_errno;
}

static int set_state(struct v2_device *d, struct vfio_device_feature_mig_state *s)
{
	enum mig_state from = d->in, to = (enum mig_state)s->device_state, path[V2_HOPS + 1];

	s->data_fd = -1;
	d->requests++;
	if (from == to)
		return 0;
	if (!v2_way(d->flags, from, to, path))
		return -EINVAL;
	if (d->fail_all || (d->fail_request && d->requests >= d->fail_request && d->fail_times))
		return fail(d, path);
	d->in = to;
	if (!saving(from) && saving(to))
		d->data_at = 0;
	if ((saving(to) && !saving(from)) || to == MIG_RESUMING) {
		if (d->lose_fd)
			return -EMFILE;
		s->data_fd = d->next_fd++;
		d->open_fds++;
	}
	return 0;
}

static int state_feature(struct v2_device *d, struct vfio_feature_request *req)
{
	struct vfio_device_feature_mig_state state;
	int r = 0;

	memcpy(&state, req->payload, sizeof(state));
	if (req->head.flags & VFIO_DEVICE_FEATURE_SET) {
		r = set_state(d, &state);
	} else {
		state.device_state = d->in;
		state.data_fd = -1;
		r = d->fail_get ? -EIO : 0;
	}
	memcpy(req->payload, &state, sizeof(state));
	return r;
}

static int feature(struct vfio_dev *dev, struct vfio_device_feature *request)
{
	struct v2_device *d = of(dev);
	struct vfio_feature_request *req = container_of(request, struct vfio_feature_request, head);
	struct vfio_device_feature_migration migration = { .flags = d->flags };
	struct vfio_device_feature_mig_data_size size = { .stop_copy_length = 4711 };

	switch (req->head.flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
		memcpy(req->payload, &migration, sizeof(migration));
		return d->flags ? 0 : -ENOTTY;
	case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		memcpy(req->payload, &size, sizeof(size));
		return 0;
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		return state_feature(d, req);
	case VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
		cr_assert_eq(req->head.argsz, sizeof(req->head));
		d->opt_ins++;
		return 0;
	default:
		return -ENOTTY;
	}
}

static int precopy_info(struct vfio_dev *dev, int session, struct vfio_precopy_info *info)
{
	struct v2_device *d = of(dev);

	(void)session;
	d->infos++;
	cr_assert_eq(info->argsz, sizeof(*info));
	cr_assert_eq(info->flags, 0);
	if (d->info_errno)
		return -d->info_errno;
	if (d->in == MIG_RUNNING)
		return -ENODEV; /* its session is dead */
	if (d->in != MIG_PRE_COPY && d->in != MIG_PRE_COPY_P2P)
		return -EINVAL;
	info->initial_bytes = d->initial;
	info->dirty_bytes = d->dirty;
	return 0;
}

static ssize_t session_read(struct vfio_dev *dev, int session, void *buf, size_t len)
{
	struct v2_device *d = of(dev);
	size_t n = MIN(MIN(len, d->chunk), d->data_len - d->data_at);

	(void)session;
	if (!saving(d->in))
		return -ENODEV;
	if (!n)
		return d->in == MIG_STOP_COPY ? 0 : -ENOMSG;
	memcpy(buf, d->data + d->data_at, n);
	d->data_at += n;
	return (ssize_t)n;
}

static ssize_t session_write(struct vfio_dev *dev, int session, const void *buf, size_t len)
{
	struct v2_device *d = of(dev);
	size_t n = MIN(len, d->chunk);

	(void)session;
	if (d->write_errno)
		return -d->write_errno;
	if (d->in != MIG_RESUMING || d->written_len + n > sizeof(d->written))
		return -ENODEV;
	memcpy(d->written + d->written_len, buf, n);
	d->written_len += n;
	return (ssize_t)n;
}

static void session_close(struct vfio_dev *dev, int session)
{
	(void)session;
	of(dev)->open_fds--;
}

static int reset(struct vfio_dev *dev)
{
	struct v2_device *d = of(dev);

	d->resets++;
	if (d->fail_reset)
		return -EIO;
	d->in = MIG_RUNNING;
	d->fail_all = false;
	d->written_len = 0;
	return 0;
}

/* What is pushed to it after a reset. */
static int region_write(struct vfio_dev *dev, unsigned region, uint64_t offset, const void *buf,
                        size_t len)
{
	(void)dev;
	(void)region;
	(void)offset;
	(void)buf;
	(void)len;
	return 0;
}

static const struct vfio_host_ops ops = {
	.backend = "stand-in",
	.feature = feature,
	.precopy_info = precopy_info,
	.session_read = session_read,
	.session_write = session_write,
	.session_close = session_close,
	.reset = reset,
	.region_write = region_write,
};

static void on_changed(void *opaque, const char *state)
{
	struct v2_device *d = opaque;

	if (d->seen_count < ARRAY_SIZE(d->seen))
		d->seen[d->seen_count++] = state;
}

static void on_trouble(void *opaque, enum vfio_trouble trouble, const char *why)
{
	cr_assert(strstr(why, "reset"), "%s", why);
	((struct v2_device *)opaque)->trouble = trouble;
}

static int on_reset(void *opaque, struct gw_error *err)
{
	return vfio_dev_reset(&((struct v2_device *)opaque)->dev, err);
}

void v2_start(struct v2_device *d, uint64_t flags)
{
	const struct vfio_state_owner owner = { d, on_changed, on_reset, on_trouble, 0 };
	struct gw_error err;

	*d = (struct v2_device){
		.dev = { .ops = &ops, .connection = d, .name = "stand-in", .can_reset = true },
		.flags = flags,
		.in = MIG_RUNNING,
		.next_fd = 100,
		.chunk = 7,
		.initial = 11,
		.dirty = 22,
	};
	d->dev.regions[VFIO_PCI_CONFIG_REGION_INDEX].size = 4096;
	cr_assert_eq(vfio_state_create(&d->dev, &owner, &d->state, &err), 0, "%s", err.text);
}

void v2_go(struct v2_device *d, enum mig_state state)
{
	struct gw_error err;

	cr_assert(vfio_state_go(d->state, state, MIG_RUNNING, &err) == 0, "%s: %s",
	          mig_state_name(state), err.text);
	d->requests = 0;
}

void v2_end(struct v2_device *d)
{
	vfio_state_destroy(d->state);
	d->state = NULL;
	cr_assert_eq(d->open_fds, 0, "%d descriptors left", d->open_fds);
}

void v2_reset_by_guest(struct v2_device *d)
{
	d->in = MIG_RUNNING;
	vfio_state_was_reset(d->state);
}
