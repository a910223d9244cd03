/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DEVICE_FEATURE: a row a feature. What the kernel's structs have as pointers
 * follows inline here.
 * Source: <linux/vfio.h>, VFIO_DEVICE_FEATURE; the vfio-user protocol
 * specification, VFIO_USER_DEVICE_FEATURE.
 */
#include "vfio/user/server_internal.h"

#include "base/util.h"

#include <string.h>

/* A feature's payload: as it came, and room for the reply's, of which `len` bytes are the answer.
 * `most` is what the client takes; an answer that is longer is not made. */
struct payload {
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t len, most;
};

static int get_migration(struct server *s, struct payload *p)
{
	const uint64_t flags = server_mig_flags(s);

	memcpy(p->out, &flags, sizeof(flags));
	p->len = sizeof(flags);
	return 0;
}

static int get_state(struct server *s, struct payload *p)
{
	const struct vfio_device_feature_mig_state state = { s->state, -1 };

	memcpy(p->out, &state, sizeof(state));
	p->len = sizeof(state);
	return 0;
}

static int set_state(struct server *s, struct payload *p)
{
	struct vfio_device_feature_mig_state state;
	struct gw_error err = { 0 };
	int r;

	memcpy(&state, p->in, sizeof(state));
	if (state.device_state >= MIG_STATES)
		return -EINVAL;
	r = server_mig_set(s, state.device_state, &err);
	if (r < 0) {
		log_warn(s->options.log, "device %s: %s -> %s: %s", s->device->id,
		         mig_state_name(s->state), mig_state_name(state.device_state), err.text);
		return r;
	}
	memcpy(p->out, &state, sizeof(state));
	p->len = sizeof(state);
	return 0;
}

static bool page_size_ok(uint64_t size)
{
	return size >= PAGE_SIZE && !(size & (size - 1));
}

/* Aligned, without overflow, and not over one of those before it. */
static bool ranges_ok(const struct wire_logging_start *start, const uint8_t *ranges)
{
	uint64_t range[2], other[2];

	for (uint32_t i = 0; i < start->range_count; i++) {
		memcpy(range, ranges + i * sizeof(range), sizeof(range));
		if (!range[1] || range[1] - 1 > UINT64_MAX - range[0] ||
		    (range[0] | range[1]) % PAGE_SIZE)
			return false;
		for (uint32_t j = 0; j < i; j++) {
			memcpy(other, ranges + j * sizeof(other), sizeof(other));
			if (range[0] <= other[0] + (other[1] - 1) &&
			    other[0] <= range[0] + (range[1] - 1))
				return false;
		}
	}
	return true;
}

/* All that is mapped is logged, whatever the ranges: they only allow to log less. */
static int start_log(struct server *s, struct payload *p)
{
	struct wire_logging_start start;
	struct gw_error err;
	int r;

	memcpy(&start, p->in, sizeof(start));
	if (start.range_count > SERVER_DMA_MAPS_MAX)
		return -E2BIG;
	if (start.range_count * 16ull != p->in_len - sizeof(start) || !start.page_size ||
	    (start.page_size & (start.page_size - 1)) || !ranges_ok(&start, p->in + sizeof(start)))
		return -EINVAL;
	r = server_log_start(s, &err);
	if (r < 0)
		return r;
	memcpy(p->out, p->in, p->in_len);
	start.page_size = PAGE_SIZE;
	memcpy(p->out, &start.page_size, sizeof(start.page_size));
	p->len = p->in_len;
	return 0;
}

static int stop_log(struct server *s, struct payload *p)
{
	p->len = 0;
	if (!s->dma.logging)
		return -EINVAL;
	server_log_stop(s);
	return 0;
}

static int report_log(struct server *s, struct payload *p)
{
	struct wire_logging_report range;
	uint64_t bits, bytes;

	memcpy(&range, p->in, sizeof(range));
	if (!s->dma.logging || !page_size_ok(range.page_size) || !range.length ||
	    range.length - 1 > UINT64_MAX - range.iova || (range.iova | range.length) % PAGE_SIZE)
		return -EINVAL;
	bits = (range.length - 1) / range.page_size + 1;
	bytes = DIV_ROUND_UP(bits, 64) * 8;
	if (bytes > s->caps.max_data_xfer_size)
		return -E2BIG;
	p->len = sizeof(range) + bytes;
	/* Reading takes the bits, so only where they will arrive. */
	if (p->len > p->most)
		return 0;
	memcpy(p->out, &range, sizeof(range));
	memset(p->out + sizeof(range), 0, bytes);
	server_log_report(s, &range, (uint64_t *)(void *)(p->out + sizeof(range)));
	return 0;
}

typedef int (*feature_fn)(struct server *s, struct payload *p);

static const struct feature {
	uint32_t index;
	bool of_migration;
	feature_fn get, set;
	size_t get_len, set_len; /* what has to come with it at least */
} features[] = {
	{ VFIO_DEVICE_FEATURE_MIGRATION, true, get_migration, NULL, 0, 0 },
	{ VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, true, get_state, set_state, 0,
	  sizeof(struct vfio_device_feature_mig_state) },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_START, false, NULL, start_log, 0,
	  sizeof(struct wire_logging_start) },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, false, NULL, stop_log, 0, 0 },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, false, report_log, NULL,
	  sizeof(struct wire_logging_report), 0 },
};

static const struct feature *find(const struct server *s, uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].index == index &&
		    (!features[i].of_migration || server_mig_flags(s)))
			return &features[i];
	return NULL;
}

static int probe(const struct feature *f, uint32_t flags, struct request *q,
                 const struct vfio_device_feature *head)
{
	if (((flags & VFIO_DEVICE_FEATURE_GET) && !f->get) ||
	    ((flags & VFIO_DEVICE_FEATURE_SET) && !f->set))
		return -EINVAL;
	memcpy(q->reply, head, sizeof(*head));
	q->reply_len = sizeof(*head);
	return 0;
}

int server_feature(struct server *s, struct request *q)
{
	const uint32_t methods = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
	struct vfio_device_feature head;
	const struct feature *f;
	struct payload p;
	feature_fn call;
	bool get;
	int r;

	memcpy(&head, q->data, sizeof(head));
	if (head.argsz < sizeof(head) ||
	    (head.flags & ~(VFIO_DEVICE_FEATURE_MASK | methods | VFIO_DEVICE_FEATURE_PROBE)))
		return -EINVAL;
	f = find(s, head.flags & VFIO_DEVICE_FEATURE_MASK);
	if (!f)
		return -ENOTTY;
	if (head.flags & VFIO_DEVICE_FEATURE_PROBE)
		return probe(f, head.flags, q, &head);
	get = head.flags & VFIO_DEVICE_FEATURE_GET;
	call = get ? f->get : f->set;
	p = (struct payload){
		.in = q->data + sizeof(head),
		.in_len = q->len - sizeof(head),
		.out = q->reply + sizeof(head),
		.most = head.argsz - sizeof(head),
	};
	if (!call || !(head.flags & methods) || (head.flags & methods) == methods ||
	    p.in_len < (get ? f->get_len : f->set_len))
		return -EINVAL;
	r = call(s, &p);
	if (r < 0)
		return r;
	/* Too long an answer is not given, but how long it is. */
	head.argsz = (uint32_t)(sizeof(head) + p.len);
	q->reply_len = sizeof(head) + (p.len > p.most ? 0 : p.len);
	memcpy(q->reply, &head, sizeof(head));
	return 0;
}
