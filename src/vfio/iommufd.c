/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/iommufd.h"

#include "base/error.h"
#include "base/util.h"
#include "vfio/dirty.h"
#include "vfio/iommufd_uapi.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* A page table that devices share, with dirty bits. */
struct hwpt {
	uint32_t id;
	unsigned users;
	struct hwpt *next;
};

struct iommufd {
	struct vfio_space space;
	const struct vfio_sys *sys;
	int fd;
	uint32_t ioas; /* 0: none yet */
	struct hwpt *tables;
};

struct vfio_cdev {
	struct iommufd *io;
	int fd; /* a duplicate, which outlives the owner's: KVM is told by it, and lets go by it */
	bool kvm_knows;
	uint32_t id;
	struct hwpt *table; /* NULL: the kernel's own for this address space */
	char path[64];
};

static struct iommufd *of(struct vfio_space *s)
{
	return container_of(s, struct iommufd, space);
}

/* ---- mappings ----------------------------------------------------------------------------- */

static int map(struct vfio_space *s, const struct vfio_mapping *m, struct gw_error *err)
{
	struct iommufd *io = of(s);
	struct iommufd_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMUFD_MAP_FIXED | IOMMUFD_MAP_READABLE |
		         (m->readonly ? 0 : IOMMUFD_MAP_WRITEABLE),
		.ioas_id = io->ioas,
		.user_va = (uintptr_t)m->hva,
		.length = m->size,
		.iova = m->iova,
	};
	int r = io->sys->ioctl(io->fd, IOMMUFD_IOAS_MAP, &map);

	if (r >= 0)
		return 0;
	error_set_sys(err, r, IOMMUFD_PATH ": IOMMU_IOAS_MAP of 0x%llx bytes at 0x%llx",
	              (unsigned long long)m->size, (unsigned long long)m->iova);
	if (r == -ENOMEM)
		error_append(err,
		             "is the limit on locked memory (ulimit -l) as large as the guest?");
	/* Linux 6.12, iopt_map_user_pages: ordinary memory only. */
	if (r == -EFAULT && m->device)
		error_append(err, "this kernel maps no device's memory by iommufd");
	return r;
}

static void unmap(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	struct iommufd *io = of(s);
	struct iommufd_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = io->ioas,
		.iova = iova,
		.length = size,
	};

	io->sys->ioctl(io->fd, IOMMUFD_IOAS_UNMAP, &unmap);
	/* Between a look at the bits and the end of the mapping more could be written. */
	if (s->tracking)
		memory_mark_dirty(s->machine->memory, iova, size);
}

/* ---- dirty bits ----------------------------------------------------------------------------- */

static int set_tracking(struct iommufd *io, const struct hwpt *table, bool on)
{
	struct iommufd_hwpt_set_dirty_tracking set = {
		.size = sizeof(set),
		.flags = on,
		.hwpt_id = table->id,
	};

	return io->sys->ioctl(io->fd, IOMMUFD_HWPT_SET_DIRTY_TRACKING, &set);
}

static void dirty_stop(struct vfio_space *s)
{
	for (const struct hwpt *t = of(s)->tables; t; t = t->next)
		set_tracking(of(s), t, false);
}

static int dirty_start(struct vfio_space *s, struct gw_error *err)
{
	for (const struct hwpt *t = of(s)->tables; t; t = t->next) {
		int r = set_tracking(of(s), t, true);

		if (r < 0) {
			dirty_stop(s);
			return error_set_sys(err, r,
			                     IOMMUFD_PATH ": IOMMU_HWPT_SET_DIRTY_TRACKING");
		}
	}
	return 0;
}

/* One mapping: over a hole Linux 6.12 stops without a word. */
static int dirty_sync(struct vfio_space *s, struct memory *mem, uint64_t gpa, uint64_t size,
                      struct gw_error *err)
{
	const uint64_t words = DIV_ROUND_UP(size / PAGE_SIZE, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	struct iommufd *io = of(s);

	if (!bits)
		return error_set(err, -ENOMEM, "out of memory");
	/* Bits are only ever set, so that those of several tables come together. */
	for (const struct hwpt *t = io->tables; t; t = t->next) {
		struct iommufd_hwpt_get_dirty_bitmap get = {
			.size = sizeof(get),
			.hwpt_id = t->id,
			.iova = gpa,
			.length = size,
			.page_size = PAGE_SIZE,
			.data = (uintptr_t)bits,
		};
		int r = io->sys->ioctl(io->fd, IOMMUFD_HWPT_GET_DIRTY_BITMAP, &get);

		if (r < 0)
			return error_set_sys(err, r,
			                     IOMMUFD_PATH ": IOMMU_HWPT_GET_DIRTY_BITMAP at 0x%llx",
			                     (unsigned long long)gpa);
	}
	vfio_dirty_mark(mem, gpa, PAGE_SIZE, bits, size / PAGE_SIZE);
	return 0;
}

/* ---- the address space ------------------------------------------------------------------------
 */

static void destroy_object(struct iommufd *io, uint32_t id)
{
	struct iommufd_destroy destroy = { .size = sizeof(destroy), .id = id };

	io->sys->ioctl(io->fd, IOMMUFD_DESTROY, &destroy);
}

/* An iommufd that an embedder has given lives on: what is mapped must not stay in it. */
static void destroy(struct vfio_space *s)
{
	struct iommufd *io = of(s);

	vfio_space_fini(s);
	if (io->ioas)
		destroy_object(io, io->ioas);
	if (io->fd >= 0)
		close(io->fd);
	free(io);
}

static const struct vfio_space_ops space_ops = {
	.backend = "iommufd",
	.map = map,
	.unmap = unmap,
	.dirty_start = dirty_start,
	.dirty_sync = dirty_sync,
	.dirty_stop = dirty_stop,
	.destroy = destroy,
};

static int alloc_ioas(struct iommufd *io, struct gw_error *err)
{
	struct iommufd_ioas_alloc alloc = { .size = sizeof(alloc) };
	int r = io->sys->ioctl(io->fd, IOMMUFD_IOAS_ALLOC, &alloc);

	if (r < 0)
		return error_set_sys(err, r, IOMMUFD_PATH ": IOMMU_IOAS_ALLOC");
	io->ioas = alloc.out_ioas_id;
	return 0;
}

static int iommufd_create(struct machine *m, const struct vfio_sys *sys, struct iommufd **out,
                          struct gw_error *err)
{
	struct iommufd *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return error_set(err, -ENOMEM, "out of memory");
	vfio_space_init(&io->space, &space_ops, m);
	io->sys = sys;
	io->fd = vfio_open_or_given(m, sys, "iommufd", IOMMUFD_PATH, NULL);
	if (io->fd < 0)
		r = error_set_sys(err, io->fd, IOMMUFD_PATH " (is the module iommufd loaded?)");
	else
		r = alloc_ioas(io, err);
	if (r < 0) {
		vfio_space_put(&io->space);
		return r;
	}
	*out = io;
	return 0;
}

static int iommufd_get(struct machine *m, const struct vfio_sys *sys, struct iommufd **out,
                       struct gw_error *err)
{
	for (struct vfio_space *s = m->vfio; s; s = s->next) {
		if (s->ops != &space_ops)
			continue;
		vfio_space_get(s);
		*out = of(s);
		return 0;
	}
	return iommufd_create(m, sys, out, err);
}

/* They get fewer with each device that is attached. */
static int read_ranges(struct iommufd *io, struct gw_error *err)
{
	struct iommufd_ioas_iova_ranges ask = {
		.size = sizeof(ask),
		.ioas_id = io->ioas,
		.num_iovas = VFIO_IOVA_RANGES_MAX,
		.allowed_iovas = (uintptr_t)io->space.ranges,
	};
	int r = io->sys->ioctl(io->fd, IOMMUFD_IOAS_IOVA_RANGES, &ask);

	/* With more than that the kernel checks alone. */
	if (r == -EMSGSIZE)
		ask.num_iovas = 0;
	else if (r < 0)
		return error_set_sys(err, r, IOMMUFD_PATH ": IOMMU_IOAS_IOVA_RANGES");
	io->space.range_count = MIN(ask.num_iovas, (uint32_t)VFIO_IOVA_RANGES_MAX);
	io->space.page_min = ask.out_iova_alignment & -ask.out_iova_alignment;
	return 0;
}

/* ---- devices ------------------------------------------------------------------------------------
 */

static int bind(const struct vfio_sys *sys, int iommufd, int fd, uint32_t *id)
{
	struct iommufd_bind bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	int r = sys->ioctl(fd, IOMMUFD_VFIO_BIND, &bind);

	*id = bind.out_devid;
	return MIN(r, 0);
}

/* A device without an IOMMU of its own (mdev) has nothing to tell: ENOENT. */
static bool keeps_dirty_bits(const struct vfio_sys *sys, int iommufd, uint32_t id)
{
	struct iommufd_hw_info info = { .size = sizeof(info), .dev_id = id };

	return sys->ioctl(iommufd, IOMMUFD_GET_HW_INFO, &info) >= 0 &&
	       info.out_capabilities & IOMMUFD_HW_CAP_DIRTY_TRACKING;
}

int vfio_cdev_ask(const struct vfio_sys *sys, int iommufd, int fd, bool *tracked)
{
	uint32_t id;
	int r = bind(sys, iommufd, fd, &id);

	*tracked = !r && keeps_dirty_bits(sys, iommufd, id);
	return r;
}

static int attach(const struct vfio_sys *sys, int fd, uint32_t table)
{
	struct iommufd_attach attach = { .argsz = sizeof(attach), .pt_id = table };

	return MIN(sys->ioctl(fd, IOMMUFD_VFIO_ATTACH, &attach), 0);
}

static void table_put(struct iommufd *io, struct hwpt *table)
{
	if (--table->users)
		return;
	for (struct hwpt **pp = &io->tables; *pp; pp = &(*pp)->next) {
		if (*pp == table) {
			*pp = table->next;
			break;
		}
	}
	destroy_object(io, table->id);
	free(table);
}

static int alloc_table(struct vfio_cdev *c, struct gw_error *err)
{
	struct iommufd *io = c->io;
	struct iommufd_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = IOMMUFD_HWPT_DIRTY_TRACKING,
		.dev_id = c->id,
		.pt_id = io->ioas,
	};
	struct hwpt *table = calloc(1, sizeof(*table));
	int r = table ? io->sys->ioctl(io->fd, IOMMUFD_HWPT_ALLOC, &alloc) : -ENOMEM;

	if (r >= 0) {
		*table = (struct hwpt){ .id = alloc.out_hwpt_id, .users = 1, .next = io->tables };
		io->tables = c->table = table;
		/* Tracking that is on is on for this one too. */
		r = io->space.tracking ? set_tracking(io, table, true) : 0;
		return r < 0 ? error_set_sys(err, r, IOMMUFD_PATH ": IOMMU_HWPT_SET_DIRTY_TRACKING")
		             : 0;
	}
	free(table);
	return error_set_sys(err, r, IOMMUFD_PATH ": IOMMU_HWPT_ALLOC (%s)", c->path);
}

/* To a page table with dirty bits that is there already, or to a new one. */
static int attach_tracked(struct vfio_cdev *c, int fd, struct gw_error *err)
{
	struct iommufd *io = c->io;
	int r;

	for (struct hwpt *t = io->tables; t; t = t->next) {
		if (attach(io->sys, fd, t->id) < 0)
			continue; /* of another IOMMU */
		t->users++;
		c->table = t;
		return 0;
	}
	r = alloc_table(c, err);
	if (r < 0)
		return r;
	r = attach(io->sys, fd, c->table->id);
	return r < 0 ? error_set_sys(err, r, "%s: VFIO_DEVICE_ATTACH_IOMMUFD_PT", c->path) : 0;
}

static int attach_plainly(struct vfio_cdev *c, int fd, struct gw_error *err)
{
	int r = attach(c->io->sys, fd, c->io->ioas);

	if (r < 0)
		error_set_sys(err, r, "%s: VFIO_DEVICE_ATTACH_IOMMUFD_PT", c->path);
	/* Linux, iopt_table_enforce_dev_resv_regions. */
	if (r == -EADDRINUSE)
		error_append(err, "addresses that the device keeps for itself are guest memory");
	return r;
}

static int put_into_space(struct vfio_cdev *c, int fd, struct gw_error *err)
{
	struct iommufd *io = c->io;
	int r = bind(io->sys, io->fd, fd, &c->id);

	if (r < 0)
		return error_set_sys(err, r, "%s: VFIO_DEVICE_BIND_IOMMUFD", c->path);
	r = keeps_dirty_bits(io->sys, io->fd, c->id) ? attach_tracked(c, fd, err) : -EOPNOTSUPP;
	if (r == -EOPNOTSUPP)
		r = attach_plainly(c, fd, err);
	if (!r)
		r = read_ranges(io, err);
	return r ? r : vfio_space_attach(&io->space, err);
}

static int open_cdev(struct vfio_cdev *c, struct machine *m, const struct sysfs_device *device,
                     int *fd, struct gw_error *err)
{
	char name[sizeof(device->name) + 16];

	snprintf(name, sizeof(name), "vfio-device:%s", device->name);
	snprintf(c->path, sizeof(c->path), "/dev/vfio/devices/%s",
	         device->cdev[0] ? device->cdev : "?");
	*fd = vfio_open_or_given(m, c->io->sys, name, c->path, NULL);
	if (*fd >= 0)
		return 0;
	return error_set_sys(err, *fd, "%s%s", c->path,
	                     device->cdev[0] ? ""
	                                     : " (this kernel has no character devices of VFIO: "
	                                       "CONFIG_VFIO_DEVICE_CDEV)");
}

static int tell_kvm(struct vfio_cdev *c, struct machine *m, int fd, struct gw_error *err)
{
	int r;

	c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c->fd < 0)
		return error_set_sys(err, -errno, "%s: a second descriptor", c->path);
	r = vfio_kvm_add(m, c->io->sys, c->fd, err);
	c->kvm_knows = !r;
	return r < 0 ? error_context(err, "%s", c->path) : 0;
}

int vfio_cdev_get(struct machine *m, const struct vfio_sys *sys, const struct sysfs_device *device,
                  struct vfio_cdev **out, int *fd, struct gw_error *err)
{
	struct vfio_cdev *c = calloc(1, sizeof(*c));
	int r;

	*fd = -1;
	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	c->fd = -1;
	r = iommufd_get(m, sys, &c->io, err);
	if (!r)
		r = open_cdev(c, m, device, fd, err);
	/* Before it is bound, when the driver may ask for the VM. */
	if (!r)
		r = tell_kvm(c, m, *fd, err);
	if (!r)
		r = put_into_space(c, *fd, err);
	if (r < 0) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		vfio_cdev_put(c);
		return r;
	}
	*out = c;
	return 0;
}

/* With its last descriptor the device leaves the address space, and its page table can go. */
void vfio_cdev_put(struct vfio_cdev *c)
{
	if (!c)
		return;
	if (c->kvm_knows)
		vfio_kvm_remove(c->io->space.machine, c->io->sys, c->fd);
	if (c->fd >= 0)
		close(c->fd);
	if (c->table)
		table_put(c->io, c->table);
	if (c->io)
		vfio_space_put(&c->io->space);
	free(c);
}

struct vfio_space *vfio_cdev_space(struct vfio_cdev *c)
{
	return &c->io->space;
}

bool vfio_cdev_is_tracked(const struct vfio_cdev *c)
{
	return c->table;
}
