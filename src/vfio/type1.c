/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/type1.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vfio/dirty.h"
#include "vfio/uapi.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

/* More than any machine has: so that a size in bits or bytes does not overflow. */
#define PIECE_MAX (1ull << 52)

struct vfio_group {
	struct vfio_container *container;
	unsigned number;
	unsigned users;
	int fd;
	bool pins; /* of a device that pins the pages it uses (mdev), behind no IOMMU */
	struct vfio_group *next;
};

struct vfio_container {
	struct vfio_space space;
	int fd;
	int kvm_fd; /* KVM's VFIO device */
	bool iommu_set;
	bool has_bitmap; /* it tracks dirty pages at all */
	struct vfio_group *groups;
};

static struct vfio_container *of(struct vfio_space *s)
{
	return container_of(s, struct vfio_container, space);
}

/* ---- DMA mappings ---------------------------------------------------------------------- */

static int map(struct vfio_space *s, const struct vfio_mapping *mapping, struct gw_error *err)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | (mapping->readonly ? 0 : VFIO_DMA_MAP_FLAG_WRITE),
		.vaddr = (uintptr_t)mapping->hva,
		.iova = mapping->iova,
		.size = mapping->size,
	};
	int r = io_ioctl(of(s)->fd, VFIO_IOMMU_MAP_DMA, &map);

	if (r >= 0)
		return 0;
	error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_MAP_DMA of 0x%llx bytes at 0x%llx",
	              (unsigned long long)mapping->size, (unsigned long long)mapping->iova);
	if (r == -ENOMEM)
		error_append(err,
		             "is the limit on locked memory (ulimit -l) as large as the guest?");
	return r;
}

static void unmap_plainly(struct vfio_container *c, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	io_ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

/* What was written up to this moment goes with the mapping, so it is asked for along with it. */
static int unmap_with_bitmap(struct vfio_container *c, uint64_t iova, uint64_t size)
{
	const uint64_t words = DIV_ROUND_UP(size / PAGE_SIZE, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	union {
		struct vfio_iommu_type1_dma_unmap head;
		uint8_t room[sizeof(struct vfio_iommu_type1_dma_unmap) +
		             sizeof(struct vfio_bitmap)];
	} req = {
		.head = {
			.argsz = sizeof(req),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = iova,
			.size = size,
		},
	};
	const struct vfio_bitmap bitmap = {
		.pgsize = PAGE_SIZE,
		.size = words * sizeof(*bits),
		.data = (void *)bits,
	};
	int r;

	if (!bits)
		return -ENOMEM;
	memcpy(req.room + sizeof(req.head), &bitmap, sizeof(bitmap));
	r = io_ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &req);
	if (r >= 0)
		vfio_dirty_mark(c->space.machine->memory, iova, PAGE_SIZE, bits, size / PAGE_SIZE);
	return r;
}

static void unmap(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	if (s->tracking && unmap_with_bitmap(of(s), iova, size) >= 0)
		return;
	unmap_plainly(of(s), iova, size);
	if (s->tracking)
		memory_mark_dirty(s->machine->memory, iova, size);
}

/* ---- dirty pages ----------------------------------------------------------------------- */

static int dirty_request(struct vfio_container *c, uint32_t flag)
{
	struct vfio_iommu_type1_dirty_bitmap req = { .argsz = sizeof(req), .flags = flag };

	return io_ioctl(c->fd, VFIO_IOMMU_DIRTY_PAGES, &req);
}

static int dirty_start(struct vfio_space *s, struct gw_error *err)
{
	int r = dirty_request(of(s), VFIO_IOMMU_DIRTY_PAGES_FLAG_START);

	return r < 0 ? error_set_sys(err, r, "/dev/vfio/vfio: VFIO_IOMMU_DIRTY_PAGES (start)") : 0;
}

static void dirty_stop(struct vfio_space *s)
{
	dirty_request(of(s), VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

/* The bits of [iova, iova + size): whole mappings (Linux, vfio_iova_dirty_bitmap). */
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

static int dirty_sync(struct vfio_space *s, struct memory *mem, uint64_t gpa, uint64_t size,
                      struct gw_error *err)
{
	const uint64_t words = DIV_ROUND_UP(size / PAGE_SIZE, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	int r;

	if (!bits)
		return error_set(err, -ENOMEM, "out of memory");
	r = fetch_bitmap(of(s), gpa, size, bits, words * sizeof(*bits));
	if (r < 0)
		return error_set_sys(err, r,
		                     "/dev/vfio/vfio: VFIO_IOMMU_DIRTY_PAGES (get) at 0x%llx",
		                     (unsigned long long)gpa);
	vfio_dirty_mark(mem, gpa, PAGE_SIZE, bits, size / PAGE_SIZE);
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
			c->has_bitmap = mig.pgsize_bitmap & PAGE_SIZE;
			c->space.piece_max =
			        MIN(mig.max_dirty_bitmap_size, PIECE_MAX / 8 / PAGE_SIZE) * 8 *
			        PAGE_SIZE;
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

static void destroy(struct vfio_space *s)
{
	struct vfio_container *c = of(s);

	vfio_space_fini(s);
	if (c->kvm_fd >= 0)
		close(c->kvm_fd);
	if (c->fd >= 0)
		close(c->fd); /* and with it all mappings */
	free(c);
}

static const struct vfio_space_ops space_ops = {
	.backend = "type1",
	.map = map,
	.unmap = unmap,
	.dirty_start = dirty_start,
	.dirty_sync = dirty_sync,
	.dirty_stop = dirty_stop,
	.destroy = destroy,
};

/* What the embedder has given under this name, or else what is at `path`. */
static int open_or_given(struct machine *m, const char *name, const char *path)
{
	int fd = machine_fd(m, name);

	if (fd != -ENOENT)
		return fd;
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int container_create(struct machine *m, struct vfio_container **out, struct gw_error *err)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };
	struct vfio_container *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	vfio_space_init(&c->space, &space_ops, m);
	c->kvm_fd = -1;
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
		vfio_space_put(&c->space);
		return r;
	}
	*out = c;
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
	return r ? r : vfio_space_attach(&c->space, err);
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

/* As soon as one group is behind an IOMMU, all of it counts as written every time (Linux,
 * vfio_iommu_type1: pinned_page_dirty_scope). */
static void judge_tracking(struct vfio_container *c)
{
	bool tracks = c->has_bitmap;

	for (const struct vfio_group *group = c->groups; group; group = group->next)
		tracks = tracks && group->pins;
	c->space.tracks_dirty = tracks;
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
	judge_tracking(c);
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
	judge_tracking(c);
	if (group->fd >= 0) {
		tell_kvm(group, KVM_DEV_VFIO_GROUP_DEL);
		/* The last group takes the mappings with it: the container goes too. */
		io_ioctl(group->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
		close(group->fd);
	}
	free(group);
	vfio_space_put(&c->space);
}

static int group_open(struct vfio_container *c, const struct sysfs_device *device,
                      struct vfio_group **out, struct gw_error *err)
{
	struct vfio_group *group = calloc(1, sizeof(*group));
	char path[32], name[32];
	int r;

	if (!group)
		return error_set(err, -ENOMEM, "out of memory");
	vfio_space_get(&c->space);
	snprintf(path, sizeof(path), "/dev/vfio/%u", device->group);
	snprintf(name, sizeof(name), "vfio-group:%u", device->group);
	group->container = c;
	group->number = device->group;
	group->pins = device->mdev;
	group->users = 1;
	group->next = c->groups;
	c->groups = group;
	group->fd = open_or_given(c->space.machine, name, path);
	r = group->fd < 0 ? error_set_sys(err, group->fd, "%s", path)
	                  : join_container(group, path, err);
	if (r < 0) {
		group_close(group);
		return r;
	}
	*out = group;
	return 0;
}

static struct vfio_container *container_of_machine(struct machine *m)
{
	for (struct vfio_space *s = m->vfio; s; s = s->next)
		if (s->ops == &space_ops)
			return of(s);
	return NULL;
}

static struct vfio_group *find_group(const struct vfio_container *c, unsigned number)
{
	for (struct vfio_group *group = c->groups; group; group = group->next)
		if (group->number == number)
			return group;
	return NULL;
}

int vfio_group_fd(const struct machine *m, unsigned number)
{
	for (struct vfio_space *s = m->vfio; s; s = s->next) {
		const struct vfio_group *group =
		        s->ops == &space_ops ? find_group(of(s), number) : NULL;

		if (group)
			return group->fd;
	}
	return -1;
}

int vfio_group_get(struct machine *m, const struct sysfs_device *device, struct vfio_group **out,
                   struct gw_error *err)
{
	struct vfio_container *c = container_of_machine(m);
	struct vfio_group *group = c ? find_group(c, device->group) : NULL;
	int r = 0;

	if (group) {
		group->users++;
		*out = group;
		return 0;
	}
	if (c)
		vfio_space_get(&c->space);
	else
		r = container_create(m, &c, err);
	if (r < 0)
		return r;
	r = group_open(c, device, out, err);
	vfio_space_put(&c->space);
	return r;
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

struct vfio_space *vfio_group_space(struct vfio_group *group)
{
	return &group->container->space;
}
