/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device by messages: each call is one of them, or a few where the message
 * has a limit. Every reply is checked against what was asked; what becomes of
 * one that does not fit says client_rules.c.
 */
#include "vfio/user/client_device.h"

#include "base/error.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* MSI-X has no more (PCI Local Bus 3.0, 6.8.2.3). */
#define IRQS_MAX 2048

static struct vfu_device *of(struct vfio_dev *dev)
{
	return dev->connection;
}

static int device_info(struct vfio_dev *dev, struct vfio_device_info *info)
{
	/* The protocol has the first 16 bytes of it. */
	const uint32_t size = offsetof(struct vfio_device_info, cap_offset);
	struct vfio_device_info ask = { .argsz = size };
	struct vfu *vfu = of(dev)->vfu;
	ssize_t n = vfu_ask(vfu, WIRE_DEVICE_GET_INFO, &ask, size, info, size);

	if (n >= 0 && n < size)
		return vfu_departs(vfu, VFU_SHORT_REPLY, "a device info of %zd bytes", n);
	return MIN((int)n, 0);
}

/* ---- regions ------------------------------------------------------------------------------- */

static void keep_fd(struct vfu_device *d, uint32_t index, int fd)
{
	int *kept = index < VFIO_REGIONS ? &d->region_fds[index] : NULL;

	if (kept && *kept >= 0)
		close(*kept);
	if (kept)
		*kept = fd;
	else if (fd >= 0)
		close(fd);
}

static int region_info(struct vfio_dev *dev, struct vfio_region_info *info)
{
	struct vfio_region_info ask = { .argsz = info->argsz, .index = info->index };
	struct vfu_device *d = of(dev);
	int fd = -1, ret;
	struct vfu_request r = {
		.command = WIRE_DEVICE_GET_REGION_INFO,
		.parts = { { &ask, sizeof(ask) } },
		.part_count = 1,
		.reply = info,
		.room = ask.argsz,
		.reply_fds = &fd,
		.fd_room = 1,
	};
	uint64_t end;

	if (ask.argsz < sizeof(*info))
		return -EINVAL;
	ret = vfu_call(d->vfu, &r);
	if (ret < 0)
		return ret;
	keep_fd(d, ask.index, fd);
	if (r.len >= sizeof(*info) && info->index != ask.index)
		return vfu_departs(d->vfu, VFU_OTHER_REPLY,
		                   "info of region %u where that of region %u was asked for",
		                   info->index, ask.index);
	/* What is missing behind the struct are capabilities, which are zeros then. */
	if (r.len < sizeof(*info))
		return vfu_departs(d->vfu, VFU_SHORT_REPLY, "info of region %u in %zu bytes",
		                   ask.index, r.len);
	if (add_overflows(info->offset, info->size, &end) || end > INT64_MAX)
		return vfu_departs(d->vfu, VFU_BAD_NUMBERS, "region %u ends beyond all files",
		                   ask.index);
	return 0;
}

/* Does the reply begin with what was asked for? */
static bool echoes(const struct wire_region_access *ask, const void *reply, size_t len)
{
	struct wire_region_access echo;

	if (len < sizeof(echo))
		return true;
	memcpy(&echo, reply, sizeof(echo));
	return echo.region == ask->region && echo.offset == ask->offset;
}

/* One message's worth. */
static int read_piece(struct vfu *vfu, const struct wire_region_access *ask, uint8_t *room)
{
	const size_t len = sizeof(*ask) + ask->count;
	ssize_t n = vfu_ask(vfu, WIRE_REGION_READ, ask, sizeof(*ask), room, len);

	if (n < 0)
		return (int)n;
	if (!echoes(ask, room, (size_t)n))
		return vfu_departs(vfu, VFU_OTHER_REPLY,
		                   "a read of %u bytes at 0x%llx of region %u: another came",
		                   ask->count, (unsigned long long)ask->offset, ask->region);
	if ((size_t)n < len)
		return vfu_departs(
		        vfu, VFU_SHORT_REPLY,
		        "a read of %u bytes at 0x%llx of region %u: a reply of %zd bytes",
		        ask->count, (unsigned long long)ask->offset, ask->region, n);
	return 0;
}

static int region_read(struct vfio_dev *dev, unsigned region, uint64_t offset, void *buf,
                       size_t len)
{
	struct vfu *vfu = of(dev)->vfu;
	const size_t step = MIN(len, (size_t)vfu_caps(vfu).max_data_xfer_size);
	uint8_t few[sizeof(struct wire_region_access) + 8];
	autofree uint8_t *many = step > 8 ? malloc(sizeof(struct wire_region_access) + step) : NULL;
	uint8_t *room = step > 8 ? many : few;
	int r = room ? 0 : -ENOMEM;

	for (size_t at = 0; at < len && !r; at += step) {
		const struct wire_region_access ask = { offset + at, region,
			                                (uint32_t)MIN(step, len - at) };

		r = read_piece(vfu, &ask, room);
		if (!r)
			memcpy((char *)buf + at, room + sizeof(ask), ask.count);
	}
	return r;
}

static int write_piece(struct vfu *vfu, struct wire_region_access *ask, const void *data)
{
	struct wire_region_access reply;
	struct vfu_request r = {
		.command = WIRE_REGION_WRITE,
		.parts = { { ask, sizeof(*ask) }, { (void *)(uintptr_t)data, ask->count } },
		.part_count = 2,
		.reply = &reply,
		.room = sizeof(reply),
	};
	int ret = vfu_call(vfu, &r);

	if (ret < 0)
		return ret;
	if (!echoes(ask, &reply, r.len))
		return vfu_departs(vfu, VFU_OTHER_REPLY,
		                   "a write of %u bytes at 0x%llx of region %u: another was done",
		                   ask->count, (unsigned long long)ask->offset, ask->region);
	if (r.len < sizeof(reply) || reply.count < ask->count)
		return vfu_departs(vfu, VFU_SHORT_REPLY,
		                   "a write of %u bytes at 0x%llx of region %u was not done whole",
		                   ask->count, (unsigned long long)ask->offset, ask->region);
	return 0;
}

/* Writes to memory are posted on PCI, too; what is read next comes after them on the same way. */
static int region_write(struct vfio_dev *dev, unsigned region, uint64_t offset, const void *buf,
                        size_t len)
{
	struct vfu *vfu = of(dev)->vfu;
	const size_t step = MIN(len, vfu_data_max(vfu, sizeof(struct wire_region_access)));
	int r = 0;

	if (region < PCI_BARS && len <= 8)
		return vfu_post_write(vfu, region, offset, buf, (uint32_t)len);
	for (size_t at = 0; at < len && !r; at += step) {
		struct wire_region_access ask = { offset + at, region,
			                          (uint32_t)MIN(step, len - at) };

		r = write_piece(vfu, &ask, (const char *)buf + at);
	}
	return r;
}

/*
 * Memory of the server's in our process, and in the guest. Whoever can cut the file short can have
 * us killed (SIGBUS) or the vCPU stopped, so it has to be sealed against that: F_SEAL_SHRINK,
 * fcntl(2). In huge pages a hole can do the same, when the host has no other page to put there.
 * Other regions are trapped: a server has to take messages for each of them (specification, Read
 * and Write Operations).
 */
static int check_file(int fd, uint64_t end)
{
	struct statfs fs;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) < 0)
		return -EBADF;
	if (fs.f_type != TMPFS_MAGIC)
		return -EMEDIUMTYPE;
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPERM;
	return (uint64_t)st.st_size < end ? -EOVERFLOW : 0;
}

static void *region_map(struct vfio_dev *dev, unsigned region, const struct vfio_area *area)
{
	const struct vfio_region *r = &dev->regions[region];
	const int prot = (r->readable ? PROT_READ : 0) | (r->writable ? PROT_WRITE : 0);
	const uint64_t from = r->offset + area->offset;
	struct vfu_device *d = of(dev);
	int code = check_file(d->region_fds[region], from + area->size);

	if (code == -EPERM)
		log_warn(d->pci->device.machine->log,
		         "%s: the file of region %u is not sealed against shrinking", d->name,
		         region);
	if (code < 0) {
		errno = -code;
		return MAP_FAILED;
	}
	return mmap(NULL, area->size, prot, MAP_SHARED, d->region_fds[region], (off_t)from);
}

/* ---- interrupts --------------------------------------------------------------------------------
 */

static int irq_info(struct vfio_dev *dev, struct vfio_irq_info *info)
{
	struct vfio_irq_info ask = { .argsz = sizeof(ask), .index = info->index };
	struct vfu *vfu = of(dev)->vfu;
	ssize_t n = vfu_ask(vfu, WIRE_DEVICE_GET_IRQ_INFO, &ask, sizeof(ask), info, sizeof(*info));

	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(*info))
		return vfu_departs(vfu, VFU_SHORT_REPLY, "info of interrupts %u in %zd bytes",
		                   ask.index, n);
	if (info->index != ask.index)
		return vfu_departs(vfu, VFU_OTHER_REPLY,
		                   "info of interrupts %u where that of %u was asked for",
		                   info->index, ask.index);
	if (info->count > IRQS_MAX)
		return vfu_departs(vfu, VFU_BAD_NUMBERS, "%u interrupts of index %u", info->count,
		                   ask.index);
	return 0;
}

static int send_irqs(struct vfu *vfu, const struct vfio_irq_set *head, const void *data, size_t len,
                     const int *fds, unsigned fd_count)
{
	struct vfio_irq_set set = *head;
	struct vfu_request r = {
		.command = WIRE_DEVICE_SET_IRQS,
		.parts = { { &set, sizeof(set) }, { (void *)(uintptr_t)data, len } },
		.part_count = len ? 2 : 1,
		.fds = fds,
		.fd_count = fd_count,
	};

	set.argsz = (uint32_t)(sizeof(set) + len);
	return vfu_call(vfu, &r);
}

/* A message takes away what a range of interrupts signal, or gives each one a descriptor: runs of
 * either kind, and of the second no more than the server takes. */
static int set_eventfds(struct vfu *vfu, const struct vfio_irq_set *set, const int *fds)
{
	const uint32_t most = vfu_caps(vfu).max_msg_fds;
	int r = 0;

	for (uint32_t at = 0, n; at < set->count && !r; at += n) {
		struct vfio_irq_set part = *set;
		bool none = fds[at] < 0;

		if (!none && !most)
			return -EOPNOTSUPP;
		for (n = 1; at + n < set->count && (fds[at + n] < 0) == none; n++)
			if (!none && n == most)
				break;
		part.start += at;
		part.count = n;
		r = send_irqs(vfu, &part, NULL, 0, fds + at, none ? 0 : n);
	}
	return r;
}

static int set_irqs(struct vfio_dev *dev, struct vfio_irq_set *set)
{
	struct vfu *vfu = of(dev)->vfu;

	if (set->count > IRQS_MAX)
		return -EINVAL;
	switch (set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
	case VFIO_IRQ_SET_DATA_NONE:
		return send_irqs(vfu, set, NULL, 0, NULL, 0);
	case VFIO_IRQ_SET_DATA_BOOL:
		return send_irqs(vfu, set, set->data, set->count, NULL, 0);
	case VFIO_IRQ_SET_DATA_EVENTFD:
		return set_eventfds(vfu, set, (const int *)(const void *)set->data);
	default:
		return -EINVAL;
	}
}

static int reset(struct vfio_dev *dev)
{
	return (int)vfu_ask(of(dev)->vfu, WIRE_DEVICE_RESET, NULL, 0, NULL, 0);
}

/* ---- what does not go over the socket ---------------------------------------------------------
 */

/* The protocol has no such message. */
static int precopy_info(struct vfio_dev *dev, int session, struct vfio_precopy_info *info)
{
	(void)dev;
	(void)session;
	(void)info;
	return -ENOTTY;
}

static void session_close(struct vfio_dev *dev, int session)
{
	(void)dev;
	(void)session;
}

static const char *lost(struct vfio_dev *dev)
{
	return vfu_is_lost(of(dev)->vfu) ? "its server is gone" : NULL;
}

/* The connection outlives it: client_pci.c. */
static void close_device(struct vfio_dev *dev)
{
	dev->connection = NULL;
}

const struct vfio_host_ops vfu_host_ops = {
	.backend = "vfio-user",
	.device_info = device_info,
	.region_info = region_info,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.irq_info = irq_info,
	.set_irqs = set_irqs,
	.reset = reset,
	.feature = vfu_feature,
	.precopy_info = precopy_info,
	.session_read = vfu_session_read,
	.session_write = vfu_session_write,
	.session_close = session_close,
	.lost = lost,
	.close = close_device,
};

/* ---- the same device? ---------------------------------------------------------------------------
 */

/* What of the header tells what the device is. */
static const struct {
	uint8_t offset, size;
	uint8_t mask;
	const char *name;
} header_fields[] = {
	{ PCI_VENDOR_ID, 2, 0xff, "vendor" },
	{ PCI_DEVICE_ID, 2, 0xff, "device" },
	{ PCI_REVISION_ID, 1, 0xff, "revision" },
	{ PCI_CLASS_PROG, 3, 0xff, "class" },
	{ PCI_HEADER_TYPE, 1, 0xff, "header type" },
	{ PCI_BASE_ADDRESS_0, 1, 0x0f, "kind of BAR 0" },
	{ PCI_BASE_ADDRESS_1, 1, 0x0f, "kind of BAR 1" },
	{ PCI_BASE_ADDRESS_2, 1, 0x0f, "kind of BAR 2" },
	{ PCI_BASE_ADDRESS_3, 1, 0x0f, "kind of BAR 3" },
	{ PCI_BASE_ADDRESS_4, 1, 0x0f, "kind of BAR 4" },
	{ PCI_BASE_ADDRESS_5, 1, 0x0f, "kind of BAR 5" },
	{ PCI_SUBSYSTEM_VENDOR_ID, 2, 0xff, "subsystem vendor" },
	{ PCI_SUBSYSTEM_ID, 2, 0xff, "subsystem" },
	{ PCI_CAPABILITY_LIST, 1, 0xff, "capabilities" },
	{ PCI_INTERRUPT_PIN, 1, 0xff, "interrupt pin" },
};

int vfu_identify(struct vfio_dev *dev, struct vfu_identity *out, struct gw_error *err)
{
	struct {
		struct vfio_device_feature head;
		struct vfio_device_feature_migration migration;
	} ask = {
		.head = { .argsz = sizeof(ask),
		          .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION },
	};
	int r = vfio_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, out->header,
	                         sizeof(out->header));

	if (r < 0)
		return error_set_sys(err, r, "%s: reading configuration space", dev->name);
	out->region_count = dev->region_count;
	out->can_reset = dev->can_reset;
	memcpy(out->regions, dev->regions, sizeof(out->regions));
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		out->irqs[i] = vfio_irq_count(dev, i, NULL);
	r = dev->ops->feature(dev, &ask.head);
	if (r == -ENOTCONN)
		return error_set_sys(err, r, "%s: what it is", dev->name);
	out->migration = r < 0 ? 0 : ask.migration.flags;
	return 0;
}

static bool alike(const struct vfio_region *a, const struct vfio_region *b)
{
	if (a->size != b->size || a->readable != b->readable || a->writable != b->writable ||
	    a->mappable != b->mappable || a->type != b->type || a->subtype != b->subtype ||
	    a->area_count != b->area_count)
		return false;
	return memcmp(a->areas, b->areas, sizeof(a->areas[0]) * a->area_count) == 0;
}

int vfu_identity_compare(const struct vfu_identity *was, const struct vfu_identity *is,
                         struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(header_fields); i++)
		for (unsigned at = header_fields[i].offset, n = header_fields[i].size; n; at++, n--)
			if ((was->header[at] ^ is->header[at]) & header_fields[i].mask)
				return error_set(err, -EXDEV, "another device: %s differs",
				                 header_fields[i].name);
	for (unsigned i = 0; i < VFIO_REGIONS; i++)
		if (!alike(&was->regions[i], &is->regions[i]))
			return error_set(err, -EXDEV, "another device: region %u differs", i);
	for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		if (was->irqs[i] != is->irqs[i])
			return error_set(err, -EXDEV,
			                 "another device: %u interrupts of index %u, not %u",
			                 is->irqs[i], i, was->irqs[i]);
	if (was->region_count != is->region_count || was->migration != is->migration ||
	    was->can_reset != is->can_reset)
		return error_set(err, -EXDEV,
		                 "another device: its regions, its reset or what it "
		                 "offers for migration differ");
	return 0;
}
