/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/space.h"

#include "base/error.h"
#include "base/util.h"

/* ---- mappings -------------------------------------------------------------------------- */

static int map(struct vfio_space *s, const struct ram_region *r, uint64_t offset, uint64_t size,
               struct gw_error *err)
{
	const struct vfio_mapping mapping = {
		.iova = r->gpa + offset,
		.size = size,
		.hva = r->hva + offset,
		.fd = r->fd,
		.fd_offset = r->offset + offset,
	};

	return s->ops->map(s, &mapping, err);
}

int vfio_space_map_device(struct vfio_space *s, uint64_t iova, uint64_t size, void *hva,
                          struct gw_error *err)
{
	const struct vfio_mapping mapping = {
		.iova = iova,
		.size = size,
		.hva = hva,
		.fd = -1,
		.device = true,
	};

	return s->ops->map(s, &mapping, err);
}

void vfio_space_unmap_device(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	s->ops->unmap(s, iova, size);
}

static const struct ram_region *region_at(const struct memory *mem, uint64_t gpa)
{
	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);

		if (gpa >= r->gpa && gpa - r->gpa < r->size)
			return r;
	}
	return NULL;
}

/* ---- following the machine's memory ------------------------------------------------------ */

static void unmap_blocks(struct vfio_space *s, uint64_t gpa, uint64_t size, uint64_t block)
{
	for (uint64_t at = 0; at < size; at += block)
		s->ops->unmap(s, gpa + at, block);
}

static void ram_unplugged(struct memory_listener *l, uint64_t gpa, uint64_t size)
{
	struct vfio_space *s = container_of(l, struct vfio_space, listener);
	const struct ram_region *r = region_at(s->machine->memory, gpa);

	if (r && r->block)
		unmap_blocks(s, gpa, size, r->block);
}

/* Each block is a mapping of its own, since a mapping can only be taken away whole. */
static int ram_plugged(struct memory_listener *l, uint64_t gpa, uint64_t size, uint64_t block,
                       void *hva, struct gw_error *err)
{
	struct vfio_space *s = container_of(l, struct vfio_space, listener);
	const struct ram_region *r = region_at(s->machine->memory, gpa);

	(void)hva;
	if (!r)
		return error_set(err, -EINVAL, "no RAM at 0x%llx", (unsigned long long)gpa);
	for (uint64_t at = 0; at < size; at += block) {
		int ret = map(s, r, gpa - r->gpa + at, block, err);

		if (ret < 0) {
			unmap_blocks(s, gpa, at, block);
			return ret;
		}
	}
	return 0;
}

/* Where RAM is in blocks, those of them that are mapped. */
static int remap_blocks(struct vfio_space *s, const struct ram_region *r, uint64_t gpa,
                        uint64_t size, struct gw_error *err)
{
	uint64_t at = ALIGN_DOWN(gpa - r->gpa, r->block);
	int ret = 0;

	for (; at < gpa - r->gpa + size && !ret; at += r->block) {
		if (!memory_plugged_within(s->machine->memory, r->gpa + at, r->block))
			continue;
		s->ops->unmap(s, r->gpa + at, r->block);
		ret = map(s, r, at, r->block, err);
	}
	return ret;
}

/* What is behind a piece of RAM has been replaced: devices still reach what was there before. */
static int ram_remapped(struct memory_listener *l, uint64_t gpa, uint64_t size, void *hva,
                        struct gw_error *err)
{
	struct vfio_space *s = container_of(l, struct vfio_space, listener);
	const struct ram_region *r = region_at(s->machine->memory, gpa);

	(void)hva;
	if (!s->attached || !r)
		return 0;
	if (r->block)
		return remap_blocks(s, r, gpa, size, err);
	s->ops->unmap(s, r->gpa, r->size);
	return map(s, r, 0, r->size, err);
}

int vfio_space_attach(struct vfio_space *s, struct gw_error *err)
{
	struct memory *mem = s->machine->memory;
	int ret = 0;

	if (s->attached)
		return 0;
	for (size_t i = 0; i < memory_region_count(mem) && !ret; i++) {
		const struct ram_region *r = memory_region(mem, i);

		ret = r->block ? 0 : map(s, r, 0, r->size, err);
	}
	if (!ret)
		ret = memory_follow(mem, &s->listener, err);
	if (!ret)
		ret = memory_add_dirty_source(mem, &s->dirty, err);
	s->attached = !ret;
	return ret;
}

/* ---- dirty pages ------------------------------------------------------------------------- */

static int dirty_start(struct dirty_source *source, struct gw_error *err)
{
	struct vfio_space *s = container_of(source, struct vfio_space, dirty);

	return s->tracks_dirty ? s->ops->dirty_start(s, err) : 0;
}

static void dirty_stop(struct dirty_source *source)
{
	struct vfio_space *s = container_of(source, struct vfio_space, dirty);

	if (s->tracks_dirty)
		s->ops->dirty_stop(s);
}

static int dirty_sync(struct dirty_source *source, struct memory *mem, struct gw_error *err)
{
	struct vfio_space *s = container_of(source, struct vfio_space, dirty);

	for (size_t i = 0; i < memory_region_count(mem) && s->tracks_dirty; i++) {
		const struct ram_region *region = memory_region(mem, i);
		uint64_t at = 0, len;
		int r;

		for (; memory_next_run(mem, i, &at, &len); at += len) {
			r = s->ops->dirty_sync(s, mem, region->gpa + at, len, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

void vfio_space_init(struct vfio_space *s, const struct vfio_space_ops *ops, struct machine *m)
{
	*s = (struct vfio_space){
		.ops = ops,
		.machine = m,
		.users = 1,
		.dirty = { .name = ops->backend,
		           .start = dirty_start,
		           .sync = dirty_sync,
		           .stop = dirty_stop },
		.listener = { .remapped = ram_remapped,
		              .plugged = ram_plugged,
		              .unplugged = ram_unplugged },
		.next = m->vfio,
	};
	m->vfio = s;
	memory_add_listener(m->memory, &s->listener);
}

void vfio_space_fini(struct vfio_space *s)
{
	struct memory *mem = s->machine->memory;

	memory_remove_dirty_source(mem, &s->dirty);
	memory_remove_listener(mem, &s->listener);
	for (struct vfio_space **pp = &s->machine->vfio; *pp; pp = &(*pp)->next) {
		if (*pp == s) {
			*pp = s->next;
			break;
		}
	}
}

void vfio_space_get(struct vfio_space *s)
{
	s->users++;
}

void vfio_space_put(struct vfio_space *s)
{
	if (s && --s->users == 0)
		s->ops->destroy(s);
}
