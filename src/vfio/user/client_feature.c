/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO_DEVICE_FEATURE as a message, and the data of a migration. Where the
 * kernel's structs point to memory the message has it inline: ranges that are
 * to be logged, and the bitmap of what was written.
 * Source: the vfio-user specification, VFIO_USER_DEVICE_FEATURE and following.
 */
#include "vfio/user/client_device.h"

#include "base/util.h"

#include <string.h>

#define RANGES_MAX 512

static struct vfu_device *of(struct vfio_dev *dev)
{
	return dev->connection;
}

static bool is_set(const struct vfio_device_feature *f)
{
	return f->flags & VFIO_DEVICE_FEATURE_SET && !(f->flags & VFIO_DEVICE_FEATURE_PROBE);
}

static bool is_get(const struct vfio_device_feature *f)
{
	return f->flags & VFIO_DEVICE_FEATURE_GET && !(f->flags & VFIO_DEVICE_FEATURE_PROBE);
}

/* Features whose data are numbers, and probes: as they are. */
static int plain(struct vfu_device *d, struct vfio_device_feature *f)
{
	const uint32_t argsz = f->argsz, flags = f->flags;
	const size_t len = is_set(f) ? argsz : sizeof(*f);
	const bool gets = is_get(f);
	autofree uint8_t *ask = malloc(argsz);
	ssize_t n;

	if (!ask)
		return -ENOMEM;
	memcpy(ask, f, argsz);
	n = vfu_ask(d->vfu, WIRE_DEVICE_FEATURE, ask, len, f, argsz);
	if (n < 0)
		return (int)n;
	if ((size_t)n >= sizeof(*f) && f->flags != flags)
		return vfu_departs(d->vfu, VFU_OTHER_REPLY,
		                   "feature 0x%x: a reply for feature 0x%x", flags, f->flags);
	if (n < (gets ? argsz : (ssize_t)sizeof(*f)))
		return vfu_departs(d->vfu, VFU_SHORT_REPLY, "feature 0x%x: a reply of %zd bytes",
		                   flags, n);
	return 0;
}

/* The kernel gives a descriptor for the data that a transition brings; here they go over the
 * socket, and any number that is none will do. */
static int set_state(struct vfu_device *d, struct vfio_device_feature *f)
{
	struct vfio_device_feature_mig_state *state = (void *)f->data;
	int r;

	if (f->argsz < sizeof(*f) + sizeof(*state))
		return -EINVAL;
	state->data_fd = -1;
	r = plain(d, f);
	if (!r)
		state->data_fd = 0;
	return r;
}

static int start_logging(struct vfu_device *d, struct vfio_device_feature *f)
{
	struct vfio_device_feature_dma_logging_control *control = (void *)f->data;
	const struct vfio_device_feature_dma_logging_range *ranges;
	struct wire_logging_start *start;
	autofree struct vfio_device_feature *ask = NULL;
	size_t len;
	int r;

	if (f->argsz < sizeof(*f) + sizeof(*control) || !control->num_ranges)
		return -EINVAL;
	if (control->num_ranges > RANGES_MAX)
		return -E2BIG;
	len = sizeof(*f) + sizeof(*start) + control->num_ranges * sizeof(start->ranges[0]);
	ask = calloc(1, len);
	if (!ask)
		return -ENOMEM;
	ask->argsz = (uint32_t)len;
	ask->flags = f->flags;
	start = (void *)ask->data;
	start->page_size = control->page_size;
	start->range_count = control->num_ranges;
	ranges = (const void *)(uintptr_t)control->ranges;
	for (uint32_t i = 0; i < control->num_ranges; i++) {
		start->ranges[i].iova = ranges[i].iova;
		start->ranges[i].length = ranges[i].length;
	}
	r = plain(d, ask);
	if (!r)
		control->page_size = start->page_size;
	return r;
}

static int report(struct vfu_device *d, struct vfio_device_feature *f)
{
	const struct vfio_device_feature_dma_logging_report *ask = (const void *)f->data;

	if (f->argsz < sizeof(*f) + sizeof(*ask))
		return -EINVAL;
	return vfu_space_report(d->space, ask->iova, ask->length, ask->page_size,
	                        (void *)(uintptr_t)ask->bitmap);
}

/* By feature and method; all others are plain. */
static const struct {
	uint32_t flags;
	int (*call)(struct vfu_device *d, struct vfio_device_feature *f);
} special[] = {
	{ VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, set_state },
	{ VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, start_logging },
	{ VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, report },
};

/* What is asked to find out whether the device has it at all. */
static bool is_probe(uint32_t flags)
{
	return flags & VFIO_DEVICE_FEATURE_PROBE ||
	       flags == (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION);
}

/* Servers have more than one word for "no". */
static bool is_no(int r)
{
	return r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS;
}

static int request(struct vfu_device *d, struct vfio_device_feature *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if (special[i].flags == f->flags)
			return special[i].call(d, f);
	return plain(d, f);
}

int vfu_feature(struct vfio_dev *dev, struct vfio_device_feature *f)
{
	const uint32_t flags = f->flags;
	int r;

	if (f->argsz < sizeof(*f) || f->argsz > 64 * KIB)
		return -EINVAL;
	r = request(of(dev), f);
	return is_no(r) && is_probe(flags) ? -ENOTTY : r;
}

/* ---- a migration's data -------------------------------------------------------------------------
 */

/* 0: no more (for now). */
ssize_t vfu_session_read(struct vfio_dev *dev, int session, void *buf, size_t len)
{
	struct vfu *vfu = of(dev)->vfu;
	/* A reply is read piece by piece here, however long it is. */
	const uint32_t size = (uint32_t)MIN(len, (size_t)vfu_caps(vfu).max_data_xfer_size);
	struct wire_mig_data head = { sizeof(head) + size, size };
	autofree uint8_t *reply = malloc(sizeof(head) + size);
	ssize_t n;

	(void)session;
	if (!reply)
		return -ENOMEM;
	n = vfu_ask(vfu, WIRE_MIG_DATA_READ, &head, sizeof(head), reply, sizeof(head) + size);
	if (n < 0)
		return n;
	if ((size_t)n >= sizeof(head))
		memcpy(&head, reply, sizeof(head));
	if ((size_t)n < sizeof(head) || (size_t)n - sizeof(head) < head.size)
		return vfu_departs(vfu, VFU_SHORT_REPLY,
		                   "%u bytes of device data in a reply of %zd", head.size, n);
	if ((size_t)n - sizeof(head) > head.size)
		vfu_departs(vfu, VFU_LONG_REPLY, "%u bytes of device data in a reply of %zd",
		            head.size, n);
	memcpy(buf, reply + sizeof(head), head.size);
	return head.size;
}

ssize_t vfu_session_write(struct vfio_dev *dev, int session, const void *buf, size_t len)
{
	struct vfu *vfu = of(dev)->vfu;
	const uint32_t size = (uint32_t)MIN(len, vfu_data_max(vfu, sizeof(struct wire_mig_data)));
	struct wire_mig_data head = { sizeof(head) + size, size }, echo;
	struct vfu_request r = {
		.command = WIRE_MIG_DATA_WRITE,
		.parts = { { &head, sizeof(head) }, { (void *)(uintptr_t)buf, size } },
		.part_count = 2,
		/* The specification has no payload there; some servers send the head back. */
		.reply = &echo,
		.room = sizeof(echo),
	};
	int ret = vfu_call(vfu, &r);

	(void)session;
	return ret < 0 ? ret : (ssize_t)size;
}
