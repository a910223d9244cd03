/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/space.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* ---- what the IOMMU takes ---------------------------------------------------------------- */

static void list_ranges(const struct vfio_space *s, char *text, size_t size)
{
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < s->range_count && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s0x%llx-0x%llx", i ? ", " : "",
		                         (unsigned long long)s->ranges[i].start,
		                         (unsigned long long)s->ranges[i].end);
}

static bool within_ranges(const struct vfio_space *s, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < s->range_count; i++)
		if (first >= s->ranges[i].start && last <= s->ranges[i].end)
			return true;
	return !s->range_count;
}

/* Some addresses are kept for others, like those to which x86 sends MSIs (0xfee00000 to
 * 0xfeefffff), and an IOMMU has only so many address bits. */
static int checked_map(struct vfio_space *s, const struct vfio_mapping *m, struct gw_error *err)
{
	const uint64_t last = m->iova + m->size - 1;
	const char *what = m->device ? "a device's memory" : "RAM";
	char ranges[400];

	if (!m->size || last < m->iova)
		return error_set(err, -EINVAL, "0x%llx bytes at 0x%llx",
		                 (unsigned long long)m->size, (unsigned long long)m->iova);
	if (s->page_min && ((m->iova | m->size) & (s->page_min - 1)))
		return error_set(err, -EINVAL,
		                 "%s at 0x%llx, 0x%llx bytes: the host's IOMMU maps whole pages of "
		                 "0x%llx bytes",
		                 what, (unsigned long long)m->iova, (unsigned long long)m->size,
		                 (unsigned long long)s->page_min);
	if (within_ranges(s, m->iova, last))
		return s->ops->map(s, m, err);
	list_ranges(s, ranges, sizeof(ranges));
	return error_set(err, -ERANGE, "%s at 0x%llx-0x%llx: the host's IOMMU reaches %s only%s",
	                 what, (unsigned long long)m->iova, (unsigned long long)last, ranges,
	                 m->device ? ""
	                           : "; give the guest less memory, or pass the device "
	                             "through on a host whose IOMMU has more address bits");
}

/* ---- mappings -------------------------------------------------------------------------- */

static int map_piece(void *opaque, const struct ram_region *r, uint64_t offset, uint64_t size,
                     struct gw_error *err)
{
	struct vfio_space *s = opaque;
	const struct vfio_mapping mapping = {
		.iova = r->gpa + offset,
		.size = size,
		.hva = r->hva ? r->hva + offset : NULL,
		.fd = memory_is_shared(s->machine->memory, r->gpa + offset, size) ? r->fd : -1,
		.fd_offset = r->offset + offset,
	};

	return checked_map(s, &mapping, err);
}

static int unmap_piece(void *opaque, const struct ram_region *r, uint64_t offset, uint64_t size,
                       struct gw_error *err)
{
	struct vfio_space *s = opaque;

	(void)err;
	s->ops->unmap(s, r->gpa + offset, size);
	return 0;
}

typedef int (*piece_call)(void *opaque, const struct ram_region *r, uint64_t offset, uint64_t size,
                          struct gw_error *err);

/* A mapping can only be taken away whole, and asked for its dirty pages so: hence the pieces are
 * counted from the region's beginning, or the block's. `*done`: how far it got. */
static int each_piece(const struct vfio_space *s, const struct ram_region *r, uint64_t offset,
                      uint64_t size, piece_call call, void *opaque, uint64_t *done,
                      struct gw_error *err)
{
	const uint64_t whole = r->block ? r->block : size;
	const uint64_t most = s->piece_max ? MIN(s->piece_max, whole) : whole;
	uint64_t at = 0;
	int ret = 0;

	while (at < size && !ret) {
		const uint64_t n = MIN(most, whole - at % whole);

		ret = call(opaque, r, offset + at, n, err);
		if (!ret)
			at += n;
	}
	if (done)
		*done = at;
	return ret;
}

static void unmap(struct vfio_space *s, const struct ram_region *r, uint64_t offset, uint64_t size)
{
	each_piece(s, r, offset, size, unmap_piece, s, NULL, NULL);
}

/* All of it or nothing. */
static int map(struct vfio_space *s, const struct ram_region *r, uint64_t offset, uint64_t size,
               struct gw_error *err)
{
	uint64_t done;
	int ret = each_piece(s, r, offset, size, map_piece, s, &done, err);

	if (ret < 0)
		unmap(s, r, offset, done);
	return ret;
}

int vfio_space_each_piece(const struct vfio_space *s, const struct memory *mem, piece_call call,
                          void *opaque, struct gw_error *err)
{
	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);
		uint64_t at = 0, len;

		for (; memory_next_run(mem, i, &at, &len); at += len) {
			int ret = each_piece(s, r, at, len, call, opaque, NULL, err);

			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

static int map_window(struct vfio_space *s, const struct vfio_window_map *w, struct gw_error *err)
{
	const struct vfio_mapping mapping = {
		.iova = w->iova,
		.size = w->size,
		.hva = w->hva,
		.fd = -1,
		.device = true,
	};

	return checked_map(s, &mapping, err);
}

/* The device itself has no use for it, and it takes the kernel time in proportion to the size: in
 * its own space it waits for a second device. */
static int map_at_home(struct vfio_space *s, struct vfio_window_map *w, struct gw_error *err)
{
	int ret;

	if (w->at_home || s->devices < 2)
		return 0;
	ret = map_window(s, w, err);
	w->at_home = ret == 0;
	return ret;
}

int vfio_space_map_device(struct vfio_space *s, uint64_t iova, uint64_t size, void *hva,
                          struct gw_error *err)
{
	struct vfio_window_map *w;
	int ret;

	if (s->alone)
		return error_set(err, -EOPNOTSUPP, "its memory is another process's");
	w = malloc(sizeof(*w));
	if (!w)
		return error_set(err, -ENOMEM, "out of memory");
	*w = (struct vfio_window_map){ .iova = iova, .size = size, .hva = hva };
	pthread_mutex_lock(&s->machine->vfio_lock);
	ret = map_at_home(s, w, err);
	if (ret < 0) {
		free(w);
	} else {
		w->next = s->windows;
		s->windows = w;
		for (struct vfio_space *o = s->machine->vfio; o; o = o->next)
			if (o != s && o->attached)
				map_window(o, w, NULL);
	}
	pthread_mutex_unlock(&s->machine->vfio_lock);
	return ret;
}

void vfio_space_unmap_device(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	struct vfio_window_map **pp = &s->windows, *w;

	pthread_mutex_lock(&s->machine->vfio_lock);
	while (*pp && ((*pp)->iova != iova || (*pp)->size != size))
		pp = &(*pp)->next;
	w = *pp;
	if (w) {
		*pp = w->next;
		for (struct vfio_space *o = s->machine->vfio; o; o = o->next)
			if (o == s ? w->at_home : o->attached)
				o->ops->unmap(o, iova, size);
	}
	pthread_mutex_unlock(&s->machine->vfio_lock);
	free(w);
}

void vfio_space_join(struct vfio_space *s)
{
	pthread_mutex_lock(&s->machine->vfio_lock);
	s->devices++;
	for (struct vfio_window_map *w = s->windows; w; w = w->next)
		map_at_home(s, w, NULL);
	pthread_mutex_unlock(&s->machine->vfio_lock);
}

void vfio_space_leave(struct vfio_space *s)
{
	pthread_mutex_lock(&s->machine->vfio_lock);
	s->devices--;
	pthread_mutex_unlock(&s->machine->vfio_lock);
}

/* A space that comes later reaches what the devices of the others have shown. */
static void map_windows_of_others(struct vfio_space *s)
{
	for (const struct vfio_space *o = s->machine->vfio; o; o = o->next)
		for (const struct vfio_window_map *w = o->windows; w && o != s; w = w->next)
			map_window(s, w, NULL);
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

static void ram_unplugged(struct memory_listener *l, uint64_t gpa, uint64_t size)
{
	struct vfio_space *s = container_of(l, struct vfio_space, listener);
	const struct ram_region *r = region_at(s->machine->memory, gpa);

	if (r && r->block)
		unmap(s, r, gpa - r->gpa, size);
}

static int ram_plugged(struct memory_listener *l, uint64_t gpa, uint64_t size, uint64_t block,
                       void *hva, struct gw_error *err)
{
	struct vfio_space *s = container_of(l, struct vfio_space, listener);
	const struct ram_region *r = region_at(s->machine->memory, gpa);

	(void)hva, (void)block;
	if (!r)
		return error_set(err, -EINVAL, "no RAM at 0x%llx", (unsigned long long)gpa);
	return map(s, r, gpa - r->gpa, size, err);
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
		unmap(s, r, at, r->block);
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
	unmap(s, r, 0, r->size);
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

		ret = r->block || r->gpa == MEMORY_GONE ? 0 : map(s, r, 0, r->size, err);
	}
	if (!ret)
		ret = memory_follow(mem, &s->listener, err);
	if (!ret)
		ret = memory_add_dirty_source(mem, &s->dirty, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->machine->vfio_lock);
	s->attached = true;
	map_windows_of_others(s);
	pthread_mutex_unlock(&s->machine->vfio_lock);
	return 0;
}

/* ---- dirty pages ------------------------------------------------------------------------- */

int vfio_space_track(struct vfio_space *s, struct gw_error *err)
{
	int r = s->tracking ? 0 : s->ops->dirty_start(s, err);

	s->tracking = !r;
	return r;
}

static void dirty_stop(struct dirty_source *source)
{
	struct vfio_space *s = container_of(source, struct vfio_space, dirty);

	if (s->tracking)
		s->ops->dirty_stop(s);
	s->tracking = false;
}

static int sync_piece(void *opaque, const struct ram_region *r, uint64_t offset, uint64_t size,
                      struct gw_error *err)
{
	struct vfio_space *s = opaque;

	return s->ops->dirty_sync(s, s->machine->memory, r->gpa + offset, size, err);
}

static int dirty_sync(struct dirty_source *source, struct memory *mem, struct gw_error *err)
{
	struct vfio_space *s = container_of(source, struct vfio_space, dirty);

	return s->tracking ? vfio_space_each_piece(s, mem, sync_piece, s, err) : 0;
}

/* ---- life ---------------------------------------------------------------------------------- */

void vfio_space_init(struct vfio_space *s, const struct vfio_space_ops *ops, struct machine *m)
{
	*s = (struct vfio_space){
		.ops = ops,
		.machine = m,
		.users = 1,
		.dirty = { .name = ops->backend, .sync = dirty_sync, .stop = dirty_stop },
		.listener = { .remapped = ram_remapped,
		              .plugged = ram_plugged,
		              .unplugged = ram_unplugged },
	};
	pthread_mutex_lock(&m->vfio_lock);
	s->next = m->vfio;
	m->vfio = s;
	pthread_mutex_unlock(&m->vfio_lock);
	memory_add_listener(m->memory, &s->listener);
}

void vfio_space_fini(struct vfio_space *s)
{
	struct memory *mem = s->machine->memory;

	while (s->windows)
		vfio_space_unmap_device(s, s->windows->iova, s->windows->size);
	memory_remove_dirty_source(mem, &s->dirty);
	memory_remove_listener(mem, &s->listener);
	pthread_mutex_lock(&s->machine->vfio_lock);
	for (struct vfio_space **pp = &s->machine->vfio; *pp; pp = &(*pp)->next) {
		if (*pp == s) {
			*pp = s->next;
			break;
		}
	}
	pthread_mutex_unlock(&s->machine->vfio_lock);
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
