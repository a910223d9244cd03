/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/container.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vfio/uapi.h"
#include "vmm/memory.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

struct vfio_group {
	struct vfio_container *container;
	unsigned number;
	unsigned users;
	int fd;
	struct vfio_group *next;
};

struct vfio_container {
	struct machine *machine;
	int fd;
	int kvm_fd; /* KVM's VFIO device */
	bool iommu_set;
	bool tracks_dirty;
	uint64_t bitmap_max; /* bytes of bitmap that one request may fetch */
	struct vfio_group *groups;
	struct dirty_source dirty;
	struct memory_listener listener;
};

/* ---- DMA mappings ---------------------------------------------------------------------- */

int vfio_container_map(struct vfio_container *c, uint64_t iova, uint64_t size, void *hva,
                       struct gw_error *err)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)hva,
		.iova = iova,
		.size = size,
	};
	int r = io_ioctl(c->fd, VFIO_IOMMU_MAP_DMA, &map);

	if (r >= 0)
		return 0;
	error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_MAP_DMA of 0x%llx bytes at 0x%llx",
	              (unsigned long long)size, (unsigned long long)iova);
	if (r == -ENOMEM)
		error_append(err,
		             "is the limit on locked memory (ulimit -l) as large as the guest?");
	return r;
}

void vfio_container_unmap(struct vfio_container *c, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	io_ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static int map_ram(struct vfio_container *c, struct gw_error *err)
{
	struct memory *mem = c->machine->memory;

	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);
		int ret = r->block ? 0 : vfio_container_map(c, r->gpa, r->size, r->hva, err);

		if (ret < 0)
			return ret;
	}
	return memory_follow(mem, &c->listener, err);
}

static void ram_unplugged(struct memory_listener *l, uint64_t gpa, uint64_t size)
{
	vfio_container_unmap(container_of(l, struct vfio_container, listener), gpa, size);
}

/* Each block is a mapping of its own, since a type1v2 mapping can only be taken away whole. */
static int ram_plugged(struct memory_listener *l, uint64_t gpa, uint64_t size, uint64_t block,
                       void *hva, struct gw_error *err)
{
	struct vfio_container *c = container_of(l, struct vfio_container, listener);

	for (uint64_t at = 0; at < size; at += block) {
		int ret = vfio_container_map(c, gpa + at, block, (uint8_t *)hva + at, err);

		if (ret < 0) {
			if (at)
				vfio_container_unmap(c, gpa, at);
			return ret;
		}
	}
	return 0;
}

/* Where RAM is in blocks, those of them that are mapped. */
static int remap_blocks(struct vfio_container *c, size_t i, uint64_t gpa, uint64_t size,
                        struct gw_error *err)
{
	const struct memory *mem = c->machine->memory;
	const struct ram_region *r = memory_region(mem, i);
	uint64_t at = ALIGN_DOWN(gpa - r->gpa, r->block);
	int ret = 0;

	for (; at < gpa - r->gpa + size && !ret; at += r->block) {
		if (!memory_plugged_within(mem, r->gpa + at, r->block))
			continue;
		ram_unplugged(&c->listener, r->gpa + at, r->block);
		ret = ram_plugged(&c->listener, r->gpa + at, r->block, r->block, r->hva + at, err);
	}
	return ret;
}

/* What is behind a piece of RAM has been replaced: the IOMMU still leads to what was there
 * before. A type1v2 mapping can only be taken away whole, so the region is mapped anew. */
static int ram_remapped(struct memory_listener *l, uint64_t gpa, uint64_t size, void *hva,
                        struct gw_error *err)
{
	struct vfio_container *c = container_of(l, struct vfio_container, listener);
	struct memory *mem = c->machine->memory;

	(void)hva;
	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);

		if (gpa < r->gpa || gpa - r->gpa >= r->size)
			continue;
		if (r->block)
			return remap_blocks(c, i, gpa, size, err);
		vfio_container_unmap(c, r->gpa, r->size);
		return vfio_container_map(c, r->gpa, r->size, r->hva, err);
	}
	return 0;
}

/* ---- dirty pages ----------------------------------------------------------------------- */

static int dirty_request(struct vfio_container *c, uint32_t flag)
{
	struct vfio_iommu_type1_dirty_bitmap req = { .argsz = sizeof(req), .flags = flag };

	return io_ioctl(c->fd, VFIO_IOMMU_DIRTY_PAGES, &req);
}

static int dirty_start(struct dirty_source *s, struct gw_error *err)
{
	struct vfio_container *c = container_of(s, struct vfio_container, dirty);
	int r = c->tracks_dirty ? dirty_request(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_START) : 0;

	return r < 0 ? error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_DIRTY_PAGES (start)") : 0;
}

static void dirty_stop(struct dirty_source *s)
{
	struct vfio_container *c = container_of(s, struct vfio_container, dirty);

	if (c->tracks_dirty)
		dirty_request(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

/* The bits of [iova, iova + size), which is no more than bitmap_max can tell. */
static int fetch_bitmap(struct vfio_container *c, uint64_t iova, uint64_t size, uint64_t *bits,
                        size_t bytes)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} req = {
		.head.argsz = sizeof(req),
		.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.get.iova = iova,
		.get.size = size,
		.get.bitmap = { .pgsize = PAGE_SIZE, .size = bytes, .data = (void *)bits },
	};

	return io_ioctl(c->fd, VFIO_IOMMU_DIRTY_PAGES, &req);
}

static void mark_bits(struct memory *mem, uint64_t gpa, const uint64_t *bits, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		if (!bits[i / 64]) {
			i |= 63;
			continue;
		}
		if (bits[i / 64] >> (i % 64) & 1)
			memory_mark_dirty(mem, gpa + i * PAGE_SIZE, PAGE_SIZE);
	}
}

static int sync_run(struct vfio_container *c, struct memory *mem, uint64_t gpa, uint64_t size,
                    struct gw_error *err)
{
	uint64_t chunk = MIN(size, c->bitmap_max * 8 * PAGE_SIZE);
	size_t bytes = ALIGN_UP(DIV_ROUND_UP(chunk / PAGE_SIZE, 8ull), 8ull);
	autofree uint64_t *bits = malloc(bytes);

	if (!bits)
		return error_set(err, -ENOMEM, "out of memory");
	for (uint64_t at = 0; at < size; at += chunk) {
		uint64_t len = MIN(chunk, size - at);
		size_t n = ALIGN_UP(DIV_ROUND_UP(len / PAGE_SIZE, 8ull), 8ull);
		int ret;

		memset(bits, 0, bytes);
		ret = fetch_bitmap(c, gpa + at, len, bits, n);
		if (ret < 0)
			return error_set_sys(
			        err, ret, "/dev/vfio/vfio: VFIO_IOMMU_DIRTY_PAGES (get) at 0x%llx",
			        (unsigned long long)(gpa + at));
		mark_bits(mem, gpa + at, bits, len / PAGE_SIZE);
	}
	return 0;
}

static int dirty_sync(struct dirty_source *s, struct memory *mem, struct gw_error *err)
{
	struct vfio_container *c = container_of(s, struct vfio_container, dirty);

	for (size_t i = 0; i < memory_region_count(mem) && c->tracks_dirty; i++) {
		const struct ram_region *region = memory_region(mem, i);
		uint64_t at = 0, len;
		int r;

		for (; memory_next_run(mem, i, &at, &len); at += len) {
			r = sync_run(c, mem, region->gpa + at, len, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* The chain of capabilities in VFIO_IOMMU_GET_INFO; each offset is from the info's beginning. */
static void read_caps(struct vfio_container *c, const uint8_t *info, uint32_t len)
{
	const struct vfio_iommu_type1_info *head = (const void *)info;
	uint32_t at = head->flags & VFIO_IOMMU_INFO_CAPS ? head->cap_offset : 0;

	for (int hops = 0; at && hops < 32; hops++) {
		struct vfio_info_cap_header cap;
		struct vfio_iommu_type1_info_cap_migration mig;

		if (at > len - sizeof(cap))
			return;
		memcpy(&cap, info + at, sizeof(cap));
		if (cap.id == VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION && at <= len - sizeof(mig)) {
			memcpy(&mig, info + at, sizeof(mig));
			c->tracks_dirty = mig.pgsize_bitmap & PAGE_SIZE;
			c->bitmap_max = mig.max_dirty_bitmap_size;
		}
		at = cap.next;
	}
}

static int read_info(struct vfio_container *c, struct gw_error *err)
{
	struct vfio_iommu_type1_info probe = { .argsz = sizeof(probe) };
	autofree uint8_t *info = NULL;
	uint32_t len;
	int r = io_ioctl(c->fd, VFIO_IOMMU_GET_INFO, &probe);

	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_GET_INFO");
	len = MAX(probe.argsz, (uint32_t)sizeof(probe));
	info = calloc(1, len);
	if (!info || len > MIB)
		return error_set(err, -ENOMEM, "/dev/vfio/vfio: VFIO_IOMMU_GET_INFO wants %u bytes",
		                 len);
	((struct vfio_iommu_type1_info *)info)->argsz = len;
	r = io_ioctl(c->fd, VFIO_IOMMU_GET_INFO, info);
	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_GET_INFO");
	read_caps(c, info, len);
	return 0;
}

/* ---- the container ------------------------------------------------------------------------ */

static void container_destroy(struct vfio_container *c)
{
	struct machine *m = c->machine;

	memory_remove_dirty_source(m->memory, &c->dirty);
	memory_remove_listener(m->memory, &c->listener);
	if (c->kvm_fd >= 0)
		close(c->kvm_fd);
	if (c->fd >= 0)
		close(c->fd); /* and with it all mappings */
	if (m->vfio == c)
		m->vfio = NULL;
	free(c);
}

/* What the embedder has given under this name, or else what is at `path`. */
static int open_or_given(struct machine *m, const char *name, const char *path)
{
	int fd = machine_fd(m, name);

	if (fd != -ENOENT)
		return fd;
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int container_create(struct machine *m, struct gw_error *err)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	struct vfio_container *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	c->machine = m;
	c->kvm_fd = -1;
	c->dirty = (struct dirty_source){ .name = "VFIO container",
		                          .start = dirty_start,
		                          .sync = dirty_sync,
		                          .stop = dirty_stop };
	c->listener.remapped = ram_remapped;
	c->listener.plugged = ram_plugged;
	c->listener.unplugged = ram_unplugged;
	c->fd = open_or_given(m, "vfio", "/dev/vfio/vfio");
	if (c->fd < 0)
		r = error_set_sys(err, c->fd, "/dev/vfio/vfio (is the module vfio loaded?)");
	else if ((r = io_ioctl(c->fd, VFIO_GET_API_VERSION, NULL)) < 0)
		r = error_set_sys(err, r, "/dev/vfio/vfio: VFIO_GET_API_VERSION");
	else if (r != VFIO_API_VERSION)
		r = error_set(err, -ENOTSUP, "/dev/vfio/vfio: API version %d", r);
	else if (io_ioctl(c->fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0)
		r = error_set(
		        err, -ENOTSUP,
		        "/dev/vfio/vfio: no type1v2 (is the module vfio_iommu_type1 loaded?)");
	else if ((r = io_ioctl(m->vm_fd, KVM_CREATE_DEVICE, &device)) < 0)
		r = error_set_sys(err, r, "KVM_CREATE_DEVICE (VFIO)");
	else
		c->kvm_fd = (int)device.fd;
	if (r < 0) {
		container_destroy(c);
		return r;
	}
	m->vfio = c;
	memory_add_listener(m->memory, &c->listener);
	return 0;
}

/* The IOMMU's type can be set once the container has a group. */
static int set_iommu(struct vfio_container *c, struct gw_error *err)
{
	int r;

	if (c->iommu_set)
		return 0;
	r = io_ioctl(c->fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/vfio: VFIO_SET_IOMMU (type1v2)");
	c->iommu_set = true;
	r = read_info(c, err);
	if (!r)
		r = map_ram(c, err);
	return r ? r : memory_add_dirty_source(c->machine->memory, &c->dirty, err);
}

bool vfio_container_tracks_dirty(const struct vfio_container *c)
{
	return c->tracks_dirty;
}

/* ---- groups --------------------------------------------------------------------------------- */

static int tell_kvm(struct vfio_group *group, uint64_t what)
{
	int32_t fd = group->fd;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_GROUP,
		.attr = what,
		.addr = (uintptr_t)&fd,
	};

	return io_ioctl(group->container->kvm_fd, KVM_SET_DEVICE_ATTR, &attr);
}

static int join_container(struct vfio_group *group, const char *path, struct gw_error *err)
{
	struct vfio_container *c = group->container;
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int r = io_ioctl(group->fd, VFIO_GROUP_GET_STATUS, &status);

	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_GROUP_GET_STATUS", path);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return error_set(err, -EBUSY,
		                 "%s: not all devices of the IOMMU group are bound to vfio-pci",
		                 path);
	r = io_ioctl(group->fd, VFIO_GROUP_SET_CONTAINER, &c->fd);
	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_GROUP_SET_CONTAINER", path);
	r = set_iommu(c, err);
	if (r < 0)
		return r;
	r = tell_kvm(group, KVM_DEV_VFIO_GROUP_ADD);
	return r < 0 ? error_set_sys(err, r, "%s: KVM_DEV_VFIO_GROUP_ADD", path) : 0;
}

static void group_close(struct vfio_group *group)
{
	struct vfio_container *c = group->container;

	for (struct vfio_group **pp = &c->groups; *pp; pp = &(*pp)->next) {
		if (*pp == group) {
			*pp = group->next;
			break;
		}
	}
	if (group->fd >= 0) {
		tell_kvm(group, KVM_DEV_VFIO_GROUP_DEL);
		/* The last group takes the mappings with it: the container goes too. */
		io_ioctl(group->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
		close(group->fd);
	}
	free(group);
	if (!c->groups)
		container_destroy(c);
}

static int group_open(struct vfio_container *c, unsigned number, struct vfio_group **out,
                      struct gw_error *err)
{
	struct vfio_group *group = calloc(1, sizeof(*group));
	char path[32], name[32];
	int r;

	if (!group) {
		if (!c->groups)
			container_destroy(c);
		return error_set(err, -ENOMEM, "out of memory");
	}
	snprintf(path, sizeof(path), "/dev/vfio/%u", number);
	snprintf(name, sizeof(name), "vfio-group:%u", number);
	group->container = c;
	group->number = number;
	group->users = 1;
	group->next = c->groups;
	c->groups = group;
	group->fd = open_or_given(c->machine, name, path);
	r = group->fd < 0 ? error_set_sys(err, group->fd, "%s", path)
	                  : join_container(group, path, err);
	if (r < 0) {
		group_close(group);
		return r;
	}
	*out = group;
	return 0;
}

int vfio_group_get(struct machine *m, unsigned number, struct vfio_group **out,
                   struct gw_error *err)
{
	int r = m->vfio ? 0 : container_create(m, err);

	if (r < 0)
		return r;
	for (struct vfio_group *group = m->vfio->groups; group; group = group->next) {
		if (group->number == number) {
			group->users++;
			*out = group;
			return 0;
		}
	}
	return group_open(m->vfio, number, out, err);
}

void vfio_group_put(struct vfio_group *group)
{
	if (group && --group->users == 0)
		group_close(group);
}

int vfio_group_open_device(struct vfio_group *group, const char *name, int *fd,
                           struct gw_error *err)
{
	int r = io_ioctl(group->fd, VFIO_GROUP_GET_DEVICE_FD, (void *)(uintptr_t)name);

	if (r < 0)
		return error_set_sys(err, r, "/dev/vfio/%u: VFIO_GROUP_GET_DEVICE_FD (%s)",
		                     group->number, name);
	*fd = r;
	return 0;
}

struct vfio_container *vfio_group_container(struct vfio_group *group)
{
	return group->container;
}
