/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/device.h"

#include "base/util.h"
#include "vfio/dirty.h"

#include <string.h>

#define CAP_HOPS_MAX 32
#define INFO_MAX (64 * KIB)

/* ---- regions --------------------------------------------------------------------------- */

static void add_area(struct vfio_region *r, uint64_t offset, uint64_t size)
{
	uint64_t from = ALIGN_UP(offset, PAGE_SIZE);
	uint64_t to = ALIGN_DOWN(offset + size, PAGE_SIZE);

	if (offset > r->size || size > r->size - offset || from >= to ||
	    r->area_count == VFIO_AREAS_MAX)
		return;
	r->areas[r->area_count++] = (struct vfio_area){ from, to - from };
}

static void parse_sparse(const uint8_t *info, size_t len, uint32_t at, struct vfio_region *out)
{
	struct vfio_region_info_cap_sparse_mmap cap;
	size_t room;

	if (len < sizeof(cap) || at > len - sizeof(cap))
		return;
	memcpy(&cap, info + at, sizeof(cap));
	room = (len - at - sizeof(cap)) / sizeof(cap.areas[0]);
	for (uint32_t i = 0; i < MIN((size_t)cap.nr_areas, room); i++) {
		struct vfio_region_sparse_mmap_area area;

		memcpy(&area, info + at + sizeof(cap) + i * sizeof(area), sizeof(area));
		add_area(out, area.offset, area.size);
	}
}

static void parse_type(const uint8_t *info, size_t len, uint32_t at, struct vfio_region *out)
{
	struct vfio_region_info_cap_type cap;

	if (len < sizeof(cap) || at > len - sizeof(cap))
		return;
	memcpy(&cap, info + at, sizeof(cap));
	out->type = cap.type;
	out->subtype = cap.subtype;
}

void vfio_parse_region(const void *info, size_t len, struct vfio_region *out)
{
	struct vfio_region_info head;
	bool sparse = false;
	uint32_t at;

	*out = (struct vfio_region){ 0 };
	if (len < sizeof(head))
		return;
	memcpy(&head, info, sizeof(head));
	out->size = head.size;
	out->offset = head.offset;
	out->readable = head.flags & VFIO_REGION_INFO_FLAG_READ;
	out->writable = head.flags & VFIO_REGION_INFO_FLAG_WRITE;
	out->mappable = head.flags & VFIO_REGION_INFO_FLAG_MMAP;
	at = head.flags & VFIO_REGION_INFO_FLAG_CAPS ? head.cap_offset : 0;
	for (int hops = 0; at && hops < CAP_HOPS_MAX; hops++) {
		struct vfio_info_cap_header cap;

		if (len < sizeof(cap) || at > len - sizeof(cap))
			break;
		memcpy(&cap, (const uint8_t *)info + at, sizeof(cap));
		if (cap.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
			sparse = true;
			parse_sparse(info, len, at, out);
		} else if (cap.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) {
			out->msix_mappable = true;
		} else if (cap.id == VFIO_REGION_INFO_CAP_TYPE) {
			parse_type(info, len, at, out);
		}
		at = cap.next;
	}
	if (out->mappable && !sparse)
		add_area(out, 0, out->size);
	/* One smaller than a page may be mapped only where nothing else is in its page. */
	if (out->mappable && !sparse && out->size && out->size < PAGE_SIZE) {
		out->areas[0] = (struct vfio_area){ 0, PAGE_SIZE };
		out->area_count = 1;
	}
}

void vfio_region_cut(struct vfio_region *r, uint64_t hole, uint64_t hole_size)
{
	struct vfio_region old = *r;
	uint64_t from = ALIGN_DOWN(hole, PAGE_SIZE), to = ALIGN_UP(hole + hole_size, PAGE_SIZE);

	r->area_count = 0;
	for (unsigned i = 0; i < old.area_count; i++) {
		uint64_t start = old.areas[i].offset, end = start + old.areas[i].size;

		/* One that was cut in two may leave no room for the last, which is trapped then. */
		if (r->area_count == VFIO_AREAS_MAX)
			break;
		if (to <= start || from >= end) {
			r->areas[r->area_count++] = old.areas[i];
			continue;
		}
		if (start < from)
			add_area(r, start, from - start);
		if (end > to)
			add_area(r, to, end - to);
	}
}

/* The kernel says in argsz how much it has to tell. */
static int read_region(struct vfio_dev *d, unsigned index, struct gw_error *err)
{
	struct vfio_region_info probe = { .argsz = sizeof(probe), .index = index };
	autofree struct vfio_region_info *info = NULL;
	int r = d->ops->region_info(d, &probe);
	uint32_t len;

	if (r == -EINVAL || r == -ENODEV) /* the device has no such region (VGA, ROM) */
		return 0;
	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_GET_REGION_INFO (%u)", d->name,
		                     index);
	len = MAX(probe.argsz, (uint32_t)sizeof(probe));
	info = len <= INFO_MAX ? calloc(1, len) : NULL;
	if (!info)
		return error_set(err, -ENOMEM, "%s: region %u: info of %u bytes", d->name, index,
		                 len);
	info->argsz = len;
	info->index = index;
	r = d->ops->region_info(d, info);
	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_GET_REGION_INFO (%u)", d->name,
		                     index);
	vfio_parse_region(info, len, &d->regions[index]);
	return 0;
}

int vfio_region_find(const struct vfio_dev *d, uint32_t type, uint32_t subtype)
{
	for (unsigned i = VFIO_PCI_REGIONS; i < d->region_count; i++)
		if (d->regions[i].size && d->regions[i].type == type &&
		    d->regions[i].subtype == subtype)
			return (int)i;
	return -1;
}

static bool inside(struct vfio_dev *d, unsigned region, uint64_t offset, size_t len)
{
	return region < VFIO_REGIONS && offset <= d->regions[region].size &&
	       len <= d->regions[region].size - offset;
}

int vfio_region_read(struct vfio_dev *d, unsigned region, uint64_t offset, void *buf, size_t len)
{
	return inside(d, region, offset, len) ? d->ops->region_read(d, region, offset, buf, len)
	                                      : -EINVAL;
}

int vfio_region_write(struct vfio_dev *d, unsigned region, uint64_t offset, const void *buf,
                      size_t len)
{
	return inside(d, region, offset, len) ? d->ops->region_write(d, region, offset, buf, len)
	                                      : -EINVAL;
}

void *vfio_area_map(struct vfio_dev *d, unsigned region, const struct vfio_area *area)
{
	return d->ops->region_map(d, region, area);
}

/* ---- the device --------------------------------------------------------------------------- */

int vfio_dev_init(struct vfio_dev *d, int fd, const char *name, struct gw_error *err)
{
	*d = (struct vfio_dev){ .ops = &vfio_kernel_ops, .fd = fd, .name = name };
	return vfio_dev_read(d, err);
}

int vfio_dev_read(struct vfio_dev *d, struct gw_error *err)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int r = d->ops->device_info(d, &info);

	if (r < 0)
		r = error_set_sys(err, r, "%s: VFIO_DEVICE_GET_INFO", d->name);
	else if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) ||
	         info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		r = error_set(err, -ENOTSUP, "%s: not a PCI device", d->name);
	d->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	d->region_count = MIN(info.num_regions, (uint32_t)VFIO_REGIONS);
	for (unsigned i = 0; i < d->region_count && r >= 0; i++)
		r = read_region(d, i, err);
	if (r < 0)
		vfio_dev_fini(d);
	return MIN(r, 0);
}

void vfio_dev_fini(struct vfio_dev *d)
{
	if (d->ops)
		d->ops->close(d);
	d->ops = NULL;
}

int vfio_dev_reset(struct vfio_dev *d, struct gw_error *err)
{
	int r;

	if (d->dirty)
		vfio_dirty_before_reset(d->dirty);
	r = d->ops->reset(d);
	if (d->dirty)
		vfio_dirty_after_reset(d->dirty);
	return r < 0 ? error_set_sys(err, r, "%s: VFIO_DEVICE_RESET", d->name) : 0;
}

int vfio_dev_feature(struct vfio_dev *d, uint32_t what, void *payload, size_t len)
{
	struct vfio_feature_request req = {
		.head.argsz = (uint32_t)(sizeof(req.head) + len),
		.head.flags = what,
	};
	int r;

	if (len)
		memcpy(req.payload, payload, len);
	r = d->ops->feature(d, &req.head);
	if (len)
		memcpy(payload, req.payload, len);
	return MIN(r, 0);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

unsigned vfio_irq_count(struct vfio_dev *d, unsigned index, uint32_t *flags)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (d->ops->irq_info(d, &info) < 0 || !(info.flags & VFIO_IRQ_INFO_EVENTFD))
		info.count = info.flags = 0;
	if (flags)
		*flags = info.flags;
	return info.count;
}

int vfio_irq_set(struct vfio_dev *d, unsigned index, unsigned start, const int *fds, unsigned count,
                 struct gw_error *err)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
	autofree struct vfio_irq_set *set = calloc(1, size);
	int r;

	if (!set)
		return error_set(err, -ENOMEM, "%s: interrupts: out of memory", d->name);
	set->argsz = (uint32_t)size;
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = index;
	set->start = start;
	set->count = count;
	memcpy(set->data, fds, count * sizeof(int32_t));
	r = d->ops->set_irqs(d, set);
	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_SET_IRQS (index %u, %u from %u on)",
		                     d->name, index, count, start);
	if (r > 0)
		error_set(err, -ENOSPC, "%s: the host has %d interrupts for it, not %u", d->name, r,
		          count);
	return r;
}

static int set_plain(struct vfio_dev *d, unsigned index, uint32_t flags, unsigned count)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = flags | VFIO_IRQ_SET_DATA_NONE,
		.index = index,
		.count = count,
	};

	return d->ops->set_irqs(d, &set);
}

void vfio_irq_disable(struct vfio_dev *d, unsigned index)
{
	set_plain(d, index, VFIO_IRQ_SET_ACTION_TRIGGER, 0);
}

int vfio_intx_unmask(struct vfio_dev *d)
{
	return set_plain(d, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 1);
}

int vfio_intx_unmask_by_fd(struct vfio_dev *d, int fd)
{
	struct {
		struct vfio_irq_set head;
		int32_t fd;
	} set = {
		.head = {
			.argsz = sizeof(set),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
			.index = VFIO_PCI_INTX_IRQ_INDEX,
			.count = 1,
		},
		.fd = fd,
	};

	return d->ops->set_irqs(d, &set.head);
}
