/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/type1_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vfio/dirty.h"

#include <string.h>

/* More than any machine has: so that a size in bits or bytes does not overflow. */
#define PIECE_MAX (1ull << 52)
#define CAP_HOPS_MAX 32
#define INFO_MAX MIB

/* ---- DMA mappings ---------------------------------------------------------------------- */

static int explain_map(const struct vfio_container *c, int r, const struct vfio_mapping *m,
                       struct gw_error *err)
{
	error_set_sys(err, r, TYPE1_PATH ": VFIO_IOMMU_MAP_DMA of 0x%llx bytes at 0x%llx",
	              (unsigned long long)m->size, (unsigned long long)m->iova);
	if (r == -ENOMEM)
		error_append(err,
		             "is the limit on locked memory (ulimit -l) as large as the guest?");
	if (r == -ENOSPC && c->map_limit)
		error_append(err, "a container takes %u mappings", c->map_limit);
	if (r == -ENOSPC)
		error_append(err, "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit has the "
		                  "limit of those that are made");
	return r;
}

static int map(struct vfio_space *s, const struct vfio_mapping *m, struct gw_error *err)
{
	struct vfio_container *c = type1_of(s);
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | (m->readonly ? 0 : VFIO_DMA_MAP_FLAG_WRITE),
		.vaddr = (uintptr_t)m->hva,
		.iova = m->iova,
		.size = m->size,
	};
	int r = c->sys->ioctl(c->fd, VFIO_IOMMU_MAP_DMA, &map);

	return r < 0 ? explain_map(c, r, m, err) : 0;
}

static void unmap_plainly(struct vfio_container *c, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	c->sys->ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

/* What was written up to this moment goes with the mapping, so it is asked for along with it. */
static int unmap_with_bitmap(struct vfio_container *c, uint64_t iova, uint64_t size)
{
	const uint64_t words = DIV_ROUND_UP(size / PAGE_SIZE, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	struct {
		struct vfio_iommu_type1_dma_unmap head;
		struct vfio_bitmap bitmap;
	} req = {
		.head = {
			.argsz = sizeof(req),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = iova,
			.size = size,
		},
		.bitmap = {
			.pgsize = PAGE_SIZE,
			.size = words * sizeof(*bits),
			.data = (void *)bits,
		},
	};
	int r;

	/* The bitmap is in head.data, a flexible member. */
	_Static_assert(sizeof(req.head) % _Alignof(struct vfio_bitmap) == 0, "no gap before it");
	if (!bits)
		return -ENOMEM;
	r = c->sys->ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &req);
	if (r >= 0)
		vfio_dirty_mark(c->space.machine->memory, iova, PAGE_SIZE, bits, size / PAGE_SIZE);
	return r;
}

static void unmap(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	struct vfio_container *c = type1_of(s);

	if (s->tracking && unmap_with_bitmap(c, iova, size) >= 0)
		return;
	unmap_plainly(c, iova, size);
	if (s->tracking)
		memory_mark_dirty(s->machine->memory, iova, size);
}

/* ---- dirty pages ----------------------------------------------------------------------- */

static int dirty_request(struct vfio_container *c, uint32_t flag)
{
	struct vfio_iommu_type1_dirty_bitmap req = { .argsz = sizeof(req), .flags = flag };

	return c->sys->ioctl(c->fd, VFIO_IOMMU_DIRTY_PAGES, &req);
}

static int dirty_start(struct vfio_space *s, struct gw_error *err)
{
	int r = dirty_request(type1_of(s), VFIO_IOMMU_DIRTY_PAGES_FLAG_START);

	return r < 0 ? error_set_sys(err, r, TYPE1_PATH ": VFIO_IOMMU_DIRTY_PAGES (start)") : 0;
}

static void dirty_stop(struct vfio_space *s)
{
	dirty_request(type1_of(s), VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

/* Whole mappings only (Linux, vfio_iova_dirty_bitmap). */
static int dirty_sync(struct vfio_space *s, struct memory *mem, uint64_t gpa, uint64_t size,
                      struct gw_error *err)
{
	struct vfio_container *c = type1_of(s);
	const uint64_t words = DIV_ROUND_UP(size / PAGE_SIZE, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} req = {
		.head.argsz = sizeof(req),
		.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.get.iova = gpa,
		.get.size = size,
		.get.bitmap = {
			.pgsize = PAGE_SIZE,
			.size = words * sizeof(*bits),
			.data = (void *)bits,
		},
	};
	int r;

	if (!bits)
		return error_set(err, -ENOMEM, "out of memory");
	r = c->sys->ioctl(c->fd, VFIO_IOMMU_DIRTY_PAGES, &req);
	if (r < 0)
		return error_set_sys(err, r, TYPE1_PATH ": VFIO_IOMMU_DIRTY_PAGES (get) at 0x%llx",
		                     (unsigned long long)gpa);
	vfio_dirty_mark(mem, gpa, PAGE_SIZE, bits, size / PAGE_SIZE);
	return 0;
}

/* ---- what the container says of itself ---------------------------------------------------- */

static void take_ranges(struct vfio_container *c, const uint8_t *cap, size_t len)
{
	struct vfio_iommu_type1_info_cap_iova_range head;
	unsigned n;

	if (len < sizeof(head))
		return;
	memcpy(&head, cap, sizeof(head));
	n = (unsigned)MIN((len - sizeof(head)) / sizeof(head.iova_ranges[0]),
	                  (size_t)MIN(head.nr_iovas, VFIO_IOVA_RANGES_MAX));
	memcpy(c->space.ranges, cap + sizeof(head), n * sizeof(head.iova_ranges[0]));
	c->space.range_count = n;
}

static void take_migration(struct vfio_container *c, const uint8_t *cap, size_t len)
{
	struct vfio_iommu_type1_info_cap_migration mig;
	uint64_t bytes;

	if (len < sizeof(mig))
		return;
	memcpy(&mig, cap, sizeof(mig));
	c->has_bitmap = mig.pgsize_bitmap & PAGE_SIZE && mig.max_dirty_bitmap_size >= 8;
	bytes = MIN(ALIGN_DOWN(mig.max_dirty_bitmap_size, 8ull), PIECE_MAX / 8 / PAGE_SIZE);
	c->space.piece_max = c->has_bitmap ? bytes * 8 * PAGE_SIZE : 0;
}

/* It has what is left; with the first group nothing is mapped yet. */
static void take_available(struct vfio_container *c, const uint8_t *cap, size_t len)
{
	struct vfio_iommu_type1_info_dma_avail left;

	if (len < sizeof(left))
		return;
	memcpy(&left, cap, sizeof(left));
	c->map_limit = MAX(c->map_limit, left.avail);
}

static const struct {
	uint16_t id;
	void (*take)(struct vfio_container *c, const uint8_t *cap, size_t len);
} caps[] = {
	{ VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, take_ranges },
	{ VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, take_migration },
	{ VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, take_available },
};

/* Each capability's offset is from the info's beginning. */
void type1_parse_info(struct vfio_container *c, const void *info, size_t len)
{
	struct vfio_iommu_type1_info head = { 0 };
	uint32_t at;

	memcpy(&head, info, MIN(len, sizeof(head)));
	if (head.flags & VFIO_IOMMU_INFO_PGSIZES)
		c->space.page_min = head.iova_pgsizes & -head.iova_pgsizes;
	at = head.flags & VFIO_IOMMU_INFO_CAPS ? head.cap_offset : 0;
	for (int hops = 0; at && hops < CAP_HOPS_MAX; hops++) {
		struct vfio_info_cap_header cap;

		if (len < sizeof(cap) || at > len - sizeof(cap))
			return;
		memcpy(&cap, (const uint8_t *)info + at, sizeof(cap));
		for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
			if (caps[i].id == cap.id)
				caps[i].take(c, (const uint8_t *)info + at, len - at);
		at = cap.next;
	}
}

int type1_read_info(struct vfio_container *c, struct gw_error *err)
{
	struct vfio_iommu_type1_info probe = { .argsz = sizeof(probe) };
	autofree struct vfio_iommu_type1_info *info = NULL;
	uint32_t len;
	int r = c->sys->ioctl(c->fd, VFIO_IOMMU_GET_INFO, &probe);

	if (r < 0)
		return error_set_sys(err, r, TYPE1_PATH ": VFIO_IOMMU_GET_INFO");
	len = MAX(probe.argsz, (uint32_t)sizeof(probe));
	info = len <= INFO_MAX ? calloc(1, len) : NULL;
	if (!info)
		return error_set(err, -ENOMEM, TYPE1_PATH ": VFIO_IOMMU_GET_INFO wants %u bytes",
		                 len);
	info->argsz = len;
	r = c->sys->ioctl(c->fd, VFIO_IOMMU_GET_INFO, info);
	if (r < 0)
		return error_set_sys(err, r, TYPE1_PATH ": VFIO_IOMMU_GET_INFO");
	type1_parse_info(c, info, len);
	return 0;
}

static void destroy(struct vfio_space *s)
{
	struct vfio_container *c = type1_of(s);

	vfio_space_fini(s);
	if (c->fd >= 0)
		close(c->fd); /* and with it all mappings */
	free(c);
}

const struct vfio_space_ops type1_space_ops = {
	.backend = "type1",
	.map = map,
	.unmap = unmap,
	.dirty_start = dirty_start,
	.dirty_sync = dirty_sync,
	.dirty_stop = dirty_stop,
	.destroy = destroy,
};
