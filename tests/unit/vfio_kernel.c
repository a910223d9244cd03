/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio_kernel.h"

#include "vfio/iommufd_uapi.h"
#include "vfio/uapi.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

#define FDS 256
#define IDS 32

struct vk vk = { .written = UINT64_MAX };

/* What is behind a descriptor, and in which container a group is. */
static struct {
	char path[48];
	int container;
	unsigned groups;
	bool iommu;
} fds[FDS];

static struct {
	bool tracking;
	int device;
} ids[IDS];

static void note(char what)
{
	const size_t n = strlen(vk.order);

	cr_assert_lt(n + 1, sizeof(vk.order));
	vk.order[n] = what;
}

static int fake_open(const char *path)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert(fd >= 0 && fd < FDS && vk.open_count < ARRAY_SIZE(vk.opened));
	memset(&fds[fd], 0, sizeof(fds[fd]));
	snprintf(fds[fd].path, sizeof(fds[fd].path), "%s", path);
	snprintf(vk.opened[vk.open_count++], sizeof(vk.opened[0]), "%s", path);
	return fd;
}

/* ---- mappings ------------------------------------------------------------------------------ */

static int add_map(int space, uint64_t iova, uint64_t size, bool writeable)
{
	if (vk.max_maps && vk.map_count == vk.max_maps)
		return -ENOSPC;
	cr_assert_lt(vk.map_count, ARRAY_SIZE(vk.maps));
	for (unsigned i = 0; i < vk.map_count; i++)
		if (vk.maps[i].space == space && iova < vk.maps[i].iova + vk.maps[i].size &&
		    vk.maps[i].iova < iova + size)
			return -EEXIST;
	vk.maps[vk.map_count++] = (struct vk_mapping){ space, iova, size, writeable };
	return 0;
}

static int find_map(int space, uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < vk.map_count; i++)
		if (vk.maps[i].space == space && vk.maps[i].iova == iova && vk.maps[i].size == size)
			return (int)i;
	return -1;
}

static int remove_map(int space, uint64_t iova, uint64_t size)
{
	int i = find_map(space, iova, size);

	if (i < 0)
		return -ENOENT;
	vk.maps[i] = vk.maps[--vk.map_count];
	return 0;
}

unsigned vk_count_maps(int space)
{
	unsigned n = 0;

	for (unsigned i = 0; i < vk.map_count; i++)
		n += !space || vk.maps[i].space == space;
	return n;
}

static void set_bit(uint64_t *bits, uint64_t iova, uint64_t size)
{
	if (vk.written < iova || vk.written - iova >= size)
		return;
	bits[(vk.written - iova) / PAGE_SIZE / 64] |= 1ull << (vk.written - iova) / PAGE_SIZE % 64;
	vk.written = UINT64_MAX;
}

/* ---- groups and containers --------------------------------------------------------------------
 */

static int set_container(int fd, int container)
{
	const int number = atoi(fds[fd].path + strlen("/dev/vfio/"));

	if (number == vk.refused_group && fds[container].groups)
		return -EINVAL;
	fds[fd].container = container;
	fds[container].groups++;
	note('j');
	return 0;
}

static int unset_container(int fd)
{
	const int container = fds[fd].container;

	if (!container)
		return -EINVAL;
	fds[fd].container = 0;
	fds[container].groups--;
	for (unsigned i = 0; i < vk.map_count && !fds[container].groups;) {
		if (vk.maps[i].space == container)
			vk.maps[i] = vk.maps[--vk.map_count];
		else
			i++;
	}
	note('l');
	return 0;
}

/* What there is of: ranges, migration, mappings that are left. */
static int get_info(struct vfio_iommu_type1_info *out)
{
	struct {
		struct vfio_iommu_type1_info head;
		struct vfio_iommu_type1_info_cap_iova_range ranges;
		struct vfio_iova_range range[2];
		struct vfio_iommu_type1_info_cap_migration migration;
		struct vfio_iommu_type1_info_dma_avail avail;
	} info = {
		.head = { .argsz = sizeof(info),
		          .flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
		          .iova_pgsizes = PAGE_SIZE | 2 * MIB },
		.ranges = { .header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1 },
		            .nr_iovas = 2 },
		.range = { { 0, 0xfedfffff }, { 0xfef00000, (1ull << 39) - 1 } },
		.migration = { .header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
		                           .version = 1 },
		               .pgsize_bitmap = PAGE_SIZE,
		               .max_dirty_bitmap_size = vk.bitmap_max },
		.avail = { .header = { .id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .version = 1 },
		           .avail = (uint32_t)(vk.max_maps - vk.map_count) },
	};
	const uint32_t room = out->argsz;
	const uint32_t avail = vk.max_maps ? offsetof(__typeof__(info), avail) : 0;
	const uint32_t migration = vk.bitmap_max ? offsetof(__typeof__(info), migration) : avail;

	info.head.cap_offset = vk.ranges ? offsetof(__typeof__(info), ranges) : migration;
	info.ranges.header.next = migration;
	info.migration.header.next = avail;
	memcpy(out, &info, MIN((size_t)room, sizeof(info)));
	return 0;
}

static int dirty_pages(int fd, struct vfio_iommu_type1_dirty_bitmap *req)
{
	struct vfio_iommu_type1_dirty_bitmap_get *get = (void *)req->data;

	if (req->flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
		vk.tracking++;
	if (req->flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)
		vk.tracking--;
	if (!(req->flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP))
		return 0;
	if (find_map(fd, get->iova, get->size) < 0 || get->bitmap.size > vk.bitmap_max)
		return -EINVAL;
	set_bit((void *)get->bitmap.data, get->iova, get->size);
	return 0;
}

static int unmap_dma(int fd, struct vfio_iommu_type1_dma_unmap *u)
{
	if (u->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
		const struct vfio_bitmap *bitmap = (void *)u->data;

		if (!vk.tracking || bitmap->size > vk.bitmap_max)
			return -EINVAL;
		vk.unmaps_with_bitmap++;
		set_bit((void *)bitmap->data, u->iova, u->size);
	}
	return remove_map(fd, u->iova, u->size);
}

static int type1_ioctl(int fd, unsigned long request, void *arg)
{
	const struct vfio_iommu_type1_dma_map *map = arg;

	switch (request) {
	case VFIO_GET_API_VERSION:
		return VFIO_API_VERSION;
	case VFIO_CHECK_EXTENSION:
		return (uintptr_t)arg == VFIO_TYPE1v2_IOMMU;
	case VFIO_SET_IOMMU:
		return fds[fd].groups ? 0 : -EINVAL;
	case VFIO_IOMMU_GET_INFO:
		return get_info(arg);
	case VFIO_IOMMU_MAP_DMA:
		return add_map(fd, map->iova, map->size, map->flags & VFIO_DMA_MAP_FLAG_WRITE);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(fd, arg);
	case VFIO_IOMMU_DIRTY_PAGES:
		return dirty_pages(fd, arg);
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)arg)->flags =
		        vk.not_viable ? 0 : VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		return set_container(fd, *(int *)arg);
	case VFIO_GROUP_UNSET_CONTAINER:
		return unset_container(fd);
	case VFIO_GROUP_GET_DEVICE_FD:
		return fake_open(arg);
	default:
		return -ENOTTY;
	}
}

/* ---- iommufd
 * -------------------------------------------------------------------------------------
 */

static int give_ranges(struct iommufd_ioas_iova_ranges *r)
{
	static const struct vfio_iova_range list[] = { { 0, 0xfedfffff },
		                                       { 0xfef00000, (1ull << 39) - 1 } };

	if (r->num_iovas < ARRAY_SIZE(list) || vk.many_ranges) {
		r->num_iovas = MAX(vk.many_ranges, (unsigned)ARRAY_SIZE(list));
		return -EMSGSIZE;
	}
	memcpy((void *)(uintptr_t)r->allowed_iovas, list, sizeof(list));
	r->num_iovas = ARRAY_SIZE(list);
	r->out_iova_alignment = vk.no_page ? vk.no_page : 1;
	return 0;
}

static int attach(int fd, uint32_t id)
{
	const int device = fds[fd].container;

	cr_assert(device, "bound before");
	if (ids[id].device && device != ids[id].device &&
	    (device == vk.other_iommu || ids[id].device == vk.other_iommu))
		return -EINVAL;
	note('a');
	return 0;
}

static int set_tracking(const struct iommufd_hwpt_set_dirty_tracking *set)
{
	if (ids[set->hwpt_id].tracking != (set->flags & 1))
		vk.tracking += set->flags & 1 ? 1 : -1;
	ids[set->hwpt_id].tracking = set->flags & 1;
	return 0;
}

static int get_bitmap(const struct iommufd_hwpt_get_dirty_bitmap *get)
{
	cr_assert(ids[get->hwpt_id].tracking);
	cr_assert_eq(get->page_size, PAGE_SIZE);
	cr_assert_geq(find_map(1, get->iova, get->length), 0, "one mapping a call");
	set_bit((void *)(uintptr_t)get->data, get->iova, get->length);
	return 0;
}

/* The address space goes last. */
static int destroy(uint32_t id)
{
	if (id != 1) {
		vk.tables--;
		return 0;
	}
	if (vk.tables)
		return -EBUSY;
	vk.spaces--;
	vk.map_count = 0;
	return 0;
}

static int iommufd_ioctl(int fd, unsigned long request, void *arg)
{
	const struct iommufd_ioas_map *map = arg;
	const struct iommufd_ioas_unmap *unmap = arg;

	switch (request) {
	case IOMMUFD_IOAS_ALLOC:
		/* What the last one had went with its descriptor. */
		vk.map_count = 0;
		((struct iommufd_ioas_alloc *)arg)->out_ioas_id = 1;
		vk.next_id = 2;
		vk.spaces++;
		return 0;
	case IOMMUFD_IOAS_MAP:
		cr_assert(map->flags & IOMMUFD_MAP_FIXED);
		return add_map((int)map->ioas_id, map->iova, map->length,
		               map->flags & IOMMUFD_MAP_WRITEABLE);
	case IOMMUFD_IOAS_UNMAP:
		return remove_map((int)unmap->ioas_id, unmap->iova, unmap->length);
	case IOMMUFD_IOAS_IOVA_RANGES:
		return give_ranges(arg);
	case IOMMUFD_VFIO_BIND:
		note('b');
		fds[fd].container = (int)vk.next_id;
		((struct iommufd_bind *)arg)->out_devid = vk.next_id++;
		return 0;
	case IOMMUFD_GET_HW_INFO:
		((struct iommufd_hw_info *)arg)->out_capabilities = vk.dirty_bits;
		return 0;
	case IOMMUFD_HWPT_ALLOC:
		ids[vk.next_id].device = (int)((struct iommufd_hwpt_alloc *)arg)->dev_id;
		((struct iommufd_hwpt_alloc *)arg)->out_hwpt_id = vk.next_id++;
		vk.tables++;
		return 0;
	case IOMMUFD_DESTROY:
		return destroy(((struct iommufd_destroy *)arg)->id);
	case IOMMUFD_VFIO_ATTACH:
		return attach(fd, ((struct iommufd_attach *)arg)->pt_id);
	case IOMMUFD_HWPT_SET_DIRTY_TRACKING:
		return set_tracking(arg);
	case IOMMUFD_HWPT_GET_DIRTY_BITMAP:
		return get_bitmap(arg);
	default:
		return -ENOTTY;
	}
}

static int kvm_ioctl(unsigned long request, void *arg)
{
	const struct kvm_device_attr *attr = arg;

	if (request == KVM_CREATE_DEVICE)
		((struct kvm_create_device *)arg)->fd = (uint32_t)fake_open("kvm-vfio");
	else if (request == KVM_SET_DEVICE_ATTR)
		note(attr->attr == KVM_DEV_VFIO_GROUP_ADD ? 'k' : 'K');
	else
		return -ENOTTY;
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	cr_assert_lt(fd, FDS);
	if (request == vk.fail && !vk.fail_after--)
		return vk.error;
	r = kvm_ioctl(request, arg);
	if (r == -ENOTTY)
		r = iommufd_ioctl(fd, request, arg);
	return r == -ENOTTY ? type1_ioctl(fd, request, arg) : r;
}

const struct vfio_sys vk_sys = { .open = fake_open, .ioctl = fake_ioctl };

/* ---- the machine -------------------------------------------------------------------------------
 */

static int no_memslot(struct machine *m, struct kvm_userspace_memory_region *region)
{
	(void)m, (void)region;
	return 0;
}

static int give(void *opaque, const char *name)
{
	(void)opaque;
	return vk.given[0] && !strcmp(name, vk.given) ? fake_open(name) : -ENOENT;
}

struct vk_world *vk_world_new(void)
{
	static const uint64_t at[VK_REGIONS] = { 4 * GIB, 0, VK_RAM };
	struct vk_world *w = calloc(1, sizeof(*w));

	cr_assert(w);
	w->m.vm_fd = w->m.vfio_kvm_fd = -1;
	w->m.notify.fd = give;
	w->m.memory = &w->mem;
	w->mem.machine = &w->m;
	w->mem.set_memslot = no_memslot;
	pthread_mutex_init(&w->mem.lock, NULL);
	pthread_mutex_init(&w->m.vfio_lock, NULL);
	for (size_t i = 0; i < VK_REGIONS; i++)
		w->mem.regions[i] = (struct ram_region){ .gpa = at[i], .size = VK_RAM, .fd = -1 };
	w->mem.region_count = VK_REGIONS;
	return w;
}

void vk_world_free(struct vk_world *w)
{
	memory_dirty_stop(&w->mem);
	cr_assert_null(w->m.vfio, "no address space is left");
	cr_assert_null(w->mem.sources);
	cr_assert_null(w->mem.listeners);
	cr_assert_eq(vk.tables, 0);
	cr_assert_eq(vk.spaces, 0, "an embedder's iommufd keeps nothing");
	memory_dirty_fini(&w->mem);
	free(w);
}

void vk_track(struct vk_world *w)
{
	uint64_t bits[MEMORY_CHUNK_WORDS];
	struct gw_error err;

	cr_assert_eq(memory_dirty_start(&w->mem, &err), 0);
	for (size_t i = 0; i < w->mem.region_count; i++)
		for (uint64_t word = 0; word < region_words(&w->mem.regions[i]);)
			word += (uint64_t)memory_dirty_take(&w->mem, i, word, bits, &err);
}

bool vk_is_dirty(const struct vk_world *w, size_t region, uint64_t page)
{
	return w->mem.regions[region].dirty[page / 64] >> page % 64 & 1;
}
