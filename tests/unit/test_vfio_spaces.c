/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's two backends as address spaces, against a kernel that is made up. */
#include "vfio_kernel.h"

#include "vfio/iommufd.h"
#include "vfio/iommufd_uapi.h"
#include "vfio/type1_internal.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

static struct gw_error err;

static const struct sysfs_device nic = { .name = "0000:03:00.0", .group = 7, .cdev = "vfio0" };
static const struct sysfs_device disk = { .name = "0000:04:00.0", .group = 8, .cdev = "vfio1" };
static const struct sysfs_device mdev = {
	.name = "83b8", .group = 9, .cdev = "vfio2", .mdev = true
};

static struct vfio_group *group(struct vk_world *w, const struct sysfs_device *d)
{
	struct vfio_group *g = NULL;

	cr_assert_eq(vfio_group_get(&w->m, &vk_sys, d, &g, &err), 0, "%s", err.text);
	return g;
}

static int container(struct vfio_group *g)
{
	return type1_of(vfio_group_space(g))->fd;
}

/* ---- type1 ---------------------------------------------------------------------------------- */

Test(vfio_type1, groups_share_a_container)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a = group(w, &nic), *b = group(w, &disk), *again = group(w, &nic);

	cr_assert_eq(a, again);
	cr_assert_eq(vfio_group_space(a), vfio_group_space(b));
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	cr_assert_str_eq(vk.order, "jkjk");
	vfio_group_put(again);
	vfio_group_put(a);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	vfio_group_put(b);
	cr_assert_str_eq(vk.order, "jkjkKlKl");
	cr_assert_eq(vk_count_maps(0), 0);
	vk_world_free(w);
}

Test(vfio_type1, a_refused_group_gets_a_container_of_its_own)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a, *b;

	vk.refused_group = 8;
	a = group(w, &nic);
	b = group(w, &disk);
	cr_assert_neq(vfio_group_space(a), vfio_group_space(b));
	cr_assert_eq(vk_count_maps(container(a)), VK_REGIONS);
	cr_assert_eq(vk_count_maps(container(b)), VK_REGIONS, "RAM is in both");
	vfio_group_put(a);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	vfio_group_put(b);
	vk_world_free(w);
}

Test(vfio_type1, devices_reach_each_other_across_containers)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a, *b, *late;

	vk.refused_group = 8;
	a = group(w, &nic);
	b = group(w, &disk);
	vfio_space_join(vfio_group_space(a));
	cr_assert_eq(vfio_space_map_device(vfio_group_space(a), 0xc0000000, 0x4000, &vk, &err), 0);
	cr_assert_eq(vk_count_maps(container(a)), VK_REGIONS, "alone in its own");
	cr_assert_eq(vk_count_maps(container(b)), VK_REGIONS + 1);
	late = group(w, &mdev);
	cr_assert_eq(vk_count_maps(container(late)), VK_REGIONS + 1, "also where it came later");
	vfio_space_unmap_device(vfio_group_space(a), 0xc0000000, 0x4000);
	cr_assert_eq(vk_count_maps(0), 3 * VK_REGIONS);
	/* What a device has not taken back goes with its space. */
	cr_assert_eq(vfio_space_map_device(vfio_group_space(a), 0xd0000000, 0x4000, &vk, &err), 0);
	vfio_group_put(a);
	cr_assert_eq(vk_count_maps(0), 2 * VK_REGIONS);
	vfio_group_put(b);
	vfio_group_put(late);
	vk_world_free(w);
}

Test(vfio_type1, a_device_alone_is_not_mapped_for_itself)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a = group(w, &nic);
	struct vfio_space *s = vfio_group_space(a);

	vfio_space_join(s);
	cr_assert_eq(vfio_space_map_device(s, 0xc0000000, 0x4000, &vk, &err), 0);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	vfio_space_join(s);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS + 1, "the second has come");
	cr_assert_eq(vfio_space_map_device(s, 0xd0000000, 0x4000, &vk, &err), 0);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS + 2, "and is there");
	vfio_space_leave(s);
	vfio_space_unmap_device(s, 0xc0000000, 0x4000);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS + 1);
	vfio_space_join(s);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS + 1, "what is mapped is not mapped again");
	vfio_space_unmap_device(s, 0xd0000000, 0x4000);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	vfio_group_put(a);
	vk_world_free(w);
}

Test(vfio_type1, only_devices_that_pin_are_tracked_and_so_stand_apart)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a, *b;

	vk.bitmap_max = 4096;
	a = group(w, &nic);
	b = group(w, &mdev);
	cr_assert_neq(vfio_group_space(a), vfio_group_space(b));
	cr_assert_not(vfio_group_space(a)->tracks_dirty);
	cr_assert(vfio_group_space(b)->tracks_dirty);
	vfio_group_put(a);
	vfio_group_put(b);
	vk_world_free(w);
}

/* An embedder without the right to open more shares the one that it was given. */
Test(vfio_type1, a_given_container_takes_all)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *a, *b;

	vk.bitmap_max = 4096;
	strcpy(vk.given, "vfio");
	b = group(w, &mdev);
	cr_assert(vfio_group_space(b)->tracks_dirty);
	a = group(w, &nic);
	cr_assert_eq(vfio_group_space(a), vfio_group_space(b));
	cr_assert_not(vfio_group_space(b)->tracks_dirty, "all counts as written now");
	vfio_group_put(a);
	cr_assert(vfio_group_space(b)->tracks_dirty);
	vfio_group_put(b);
	for (unsigned i = 0; i < vk.open_count; i++)
		cr_assert_str_neq(vk.opened[i], "/dev/vfio/vfio");
	vk_world_free(w);
}

static void refuse(unsigned long request, int error, const char *says)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;

	memset(vk.order, 0, sizeof(vk.order));
	vk.fail = request;
	vk.fail_after = 0;
	vk.error = error;
	cr_assert_eq(vfio_group_get(&w->m, &vk_sys, &nic, &g, &err), error, "%s", says);
	cr_assert(strstr(err.text, says), "%s, not %s", err.text, says);
	cr_assert_eq(vk_count_maps(0), 0);
	vk_world_free(w);
}

Test(vfio_type1, each_call_that_fails_is_named)
{
	refuse(VFIO_GROUP_GET_STATUS, -EIO, "/dev/vfio/7: VFIO_GROUP_GET_STATUS");
	refuse(VFIO_GROUP_SET_CONTAINER, -EINVAL, "/dev/vfio/7: VFIO_GROUP_SET_CONTAINER");
	refuse(VFIO_GET_API_VERSION, -ENOTTY, "/dev/vfio/vfio: VFIO_GET_API_VERSION");
	refuse(VFIO_SET_IOMMU, -ENODEV, "/dev/vfio/vfio: VFIO_SET_IOMMU");
	refuse(VFIO_IOMMU_GET_INFO, -EFAULT, "/dev/vfio/vfio: VFIO_IOMMU_GET_INFO");
	refuse(VFIO_IOMMU_MAP_DMA, -ENOMEM, "ulimit -l");
	refuse(VFIO_IOMMU_MAP_DMA, -ENOSPC, "dma_entry_limit");
	refuse(KVM_CREATE_DEVICE, -ENODEV, "KVM_CREATE_DEVICE");
	refuse(KVM_SET_DEVICE_ATTR, -EINVAL, "/dev/vfio/7: KVM_SET_DEVICE_ATTR");
}

Test(vfio_type1, a_group_with_a_device_of_the_host)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;

	vk.not_viable = true;
	cr_assert_eq(vfio_group_get(&w->m, &vk_sys, &nic, &g, &err), -EBUSY);
	cr_assert(strstr(err.text, "/dev/vfio/7: not all devices"), "%s", err.text);
	vk_world_free(w);
}

Test(vfio_type1, kvm_has_one_device_for_it_all_the_time)
{
	struct vk_world *w = vk_world_new();
	unsigned made = 0;

	for (int i = 0; i < 3; i++)
		vfio_group_put(group(w, &nic));
	for (unsigned i = 0; i < vk.open_count; i++)
		made += !strcmp(vk.opened[i], "kvm-vfio");
	cr_assert_eq(made, 1);
	vk_world_free(w);
}

Test(vfio_type1, ram_outside_of_what_the_iommu_reaches)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;

	vk.ranges = true;
	w->mem.regions[0].gpa = (1ull << 39) - VK_RAM / 2;
	cr_assert_eq(vfio_group_get(&w->m, &vk_sys, &nic, &g, &err), -ERANGE);
	cr_assert(strstr(err.text, "RAM at 0x7ffff80000-0x800007ffff"), "%s", err.text);
	cr_assert(strstr(err.text, "0x0-0xfedfffff, 0xfef00000-0x7fffffffff"), "%s", err.text);
	cr_assert(strstr(err.text, "less memory"), "%s", err.text);
	vk_world_free(w);
}

Test(vfio_type1, nothing_is_mapped_where_msis_go)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;
	struct vfio_space *s;

	vk.ranges = true;
	g = group(w, &nic);
	s = vfio_group_space(g);
	vfio_space_join(s);
	vfio_space_join(s);
	cr_assert_eq(vfio_space_map_device(s, 0xfee00000, 0x1000, &vk, &err), -ERANGE);
	cr_assert_eq(vfio_space_map_device(s, 0xfedff000, 0x2000, &vk, &err), -ERANGE);
	cr_assert_eq(vfio_space_map_device(s, 0xfef00000, 0x1000, &vk, &err), 0);
	cr_assert_eq(vfio_space_map_device(s, 0xd0000800, 0x1000, &vk, &err), -EINVAL);
	cr_assert(strstr(err.text, "whole pages of 0x1000"), "%s", err.text);
	cr_assert_eq(vfio_space_map_device(s, UINT64_MAX, 0x1000, &vk, &err), -EINVAL);
	vfio_space_unmap_device(s, 0xfef00000, 0x1000);
	vfio_group_put(g);
	vk_world_free(w);
}

Test(vfio_type1, no_more_mappings_leaves_none)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;

	vk.max_maps = 2;
	cr_assert_eq(vfio_group_get(&w->m, &vk_sys, &nic, &g, &err), -ENOSPC);
	cr_assert(strstr(err.text, "takes 2 mappings"), "%s", err.text);
	cr_assert(strstr(err.text, "dma_entry_limit"), "%s", err.text);
	cr_assert_eq(vk_count_maps(0), 0);
	vk_world_free(w);
}

/* A bitmap tells of so many pages, and of whole mappings: so no mapping is larger. */
Test(vfio_type1, pieces_are_no_larger_than_a_bitmap)
{
	struct vk_world *w = vk_world_new();
	struct vfio_group *g;
	struct vfio_space *s;

	vk.bitmap_max = 8; /* 64 pages */
	g = group(w, &mdev);
	s = vfio_group_space(g);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS * 4);
	cr_assert_eq(vfio_space_track(s, &err), 0);
	cr_assert_eq(vk.tracking, 1);
	vk_track(w);
	vk.written = VK_RAM + 130 * PAGE_SIZE;
	cr_assert_eq(s->dirty.sync(&s->dirty, &w->mem, &err), 0, "%s", err.text);
	cr_assert(vk_is_dirty(w, 2, 130));
	cr_assert_eq(memory_dirty_pages(&w->mem), 1);
	vk.fail = VFIO_IOMMU_DIRTY_PAGES;
	vk.error = -EIO;
	cr_assert_eq(s->dirty.sync(&s->dirty, &w->mem, &err), -EIO);
	cr_assert(strstr(err.text, "VFIO_IOMMU_DIRTY_PAGES (get) at 0x100000000"), "%s", err.text);
	vk.fail = 0;
	memory_dirty_stop(&w->mem);
	cr_assert_eq(vk.tracking, 0);
	vfio_group_put(g);
	vk_world_free(w);
}

Test(vfio_type1, what_is_unmapped_loses_no_bit)
{
	struct vk_world *w = vk_world_new();
	struct memory_listener *l;
	struct vfio_group *g;
	struct vfio_space *s;

	vk.bitmap_max = 4096;
	g = group(w, &mdev);
	s = vfio_group_space(g);
	l = &s->listener;
	cr_assert_eq(vfio_space_track(s, &err), 0);
	vk_track(w);
	vk.written = 3 * PAGE_SIZE;
	cr_assert_eq(l->remapped(l, 0, VK_RAM, NULL, &err), 0, "%s", err.text);
	cr_assert_eq(vk.unmaps_with_bitmap, 1);
	cr_assert(vk_is_dirty(w, 1, 3));
	cr_assert_eq(memory_dirty_pages(&w->mem), 1);
	/* Where the kernel does not tell, all of it counts. */
	vk.fail = VFIO_IOMMU_UNMAP_DMA;
	vk.error = -EINVAL;
	cr_assert_eq(l->remapped(l, 0, VK_RAM, NULL, &err), 0, "%s", err.text);
	cr_assert_eq(memory_dirty_pages(&w->mem), VK_RAM / PAGE_SIZE);
	cr_assert_eq(vk_count_maps(0), VK_REGIONS);
	memory_dirty_stop(&w->mem);
	vfio_group_put(g);
	vk_world_free(w);
}

static void parse(struct vfio_container *c, const void *info, size_t len)
{
	memset(c, 0, sizeof(*c));
	type1_parse_info(c, info, len);
}

Test(vfio_type1, hostile_info_ends)
{
	struct vfio_container *c = malloc(sizeof(*c));
	struct {
		struct vfio_iommu_type1_info head;
		struct vfio_iommu_type1_info_cap_iova_range ranges;
		struct vfio_iova_range range;
	} info = {
		.head = { .flags = VFIO_IOMMU_INFO_CAPS, .cap_offset = sizeof(info.head) },
		.ranges = { .header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE },
		            .nr_iovas = UINT32_MAX },
		.range = { 1, 2 },
	};
	const uint8_t *bytes = (const void *)&info;

	info.head.cap_offset = (uint32_t)((uint8_t *)&info.ranges - bytes);
	info.ranges.header.next = info.head.cap_offset; /* leads to itself */
	parse(c, &info, sizeof(info));
	cr_assert_eq(c->space.range_count, 1);
	cr_assert_eq(c->space.ranges[0].end, 2);
	for (size_t len = 0; len < sizeof(info); len++) {
		uint8_t *cut = malloc(len ? len : 1);

		memcpy(cut, &info, len);
		parse(c, cut, len);
		cr_assert_eq(c->space.range_count, 0);
		free(cut);
	}
	info.head.cap_offset = UINT32_MAX;
	parse(c, &info, sizeof(info));
	cr_assert_eq(c->space.range_count, 0);
	free(c);
}

/* ---- iommufd -----------------------------------------------------------------------------------
 */

static struct vfio_cdev *cdev(struct vk_world *w, const struct sysfs_device *d, int *fd)
{
	struct vfio_cdev *c = NULL;

	cr_assert_eq(vfio_cdev_get(&w->m, &vk_sys, d, &c, fd, &err), 0, "%s", err.text);
	return c;
}

static void put(struct vfio_cdev *c, int fd)
{
	close(fd);
	vfio_cdev_put(c);
}

Test(vfio_iommufd, told_to_kvm_bound_and_attached_in_that_order)
{
	struct vk_world *w = vk_world_new();
	int fd, fd2;
	struct vfio_cdev *a = cdev(w, &nic, &fd), *b = cdev(w, &disk, &fd2);

	cr_assert_str_eq(vk.opened[0], "/dev/iommu");
	cr_assert_str_eq(vk.opened[1], "/dev/vfio/devices/vfio0");
	cr_assert_str_eq(vk.order, "kbakba");
	cr_assert_eq(vfio_cdev_space(a), vfio_cdev_space(b));
	cr_assert_eq(vk_count_maps(1), VK_REGIONS);
	cr_assert_not(vfio_cdev_is_tracked(a));
	cr_assert_eq(vfio_cdev_space(a)->range_count, 2);
	put(a, fd);
	put(b, fd2);
	cr_assert_str_eq(vk.order, "kbakbaKK");
	vk_world_free(w);
}

Test(vfio_iommufd, what_the_embedder_gives_is_used)
{
	struct vk_world *w = vk_world_new();
	int fd;

	strcpy(vk.given, "vfio-device:0000:03:00.0");
	put(cdev(w, &nic, &fd), fd);
	cr_assert_str_eq(vk.opened[1], vk.given);
	strcpy(vk.given, "iommufd");
	vk.open_count = 0;
	put(cdev(w, &nic, &fd), fd);
	cr_assert_str_eq(vk.opened[0], "iommufd");
	vk_world_free(w);
}

static void refuse_cdev(unsigned long request, int error, const char *says)
{
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	memset(vk.order, 0, sizeof(vk.order));
	vk.open_count = 0;
	vk.dirty_bits = true;
	vk.fail = request;
	vk.fail_after = 0;
	vk.error = error;
	cr_assert_eq(vfio_cdev_get(&w->m, &vk_sys, &nic, &c, &fd, &err), error, "%s", says);
	cr_assert(strstr(err.text, says), "%s, not %s", err.text, says);
	cr_assert_eq(fd, -1);
	vk_world_free(w);
	cr_assert_eq(vk.map_count, 0);
}

Test(vfio_iommufd, each_call_that_fails_is_named)
{
	refuse_cdev(IOMMUFD_IOAS_ALLOC, -ENOMEM, "/dev/iommu: IOMMU_IOAS_ALLOC");
	refuse_cdev(KVM_SET_DEVICE_ATTR, -EINVAL, "/dev/vfio/devices/vfio0: KVM_SET_DEVICE_ATTR");
	refuse_cdev(IOMMUFD_VFIO_BIND, -EBUSY, "/dev/vfio/devices/vfio0: VFIO_DEVICE_BIND_IOMMUFD");
	refuse_cdev(IOMMUFD_HWPT_ALLOC, -ENOMEM, "/dev/iommu: IOMMU_HWPT_ALLOC");
	refuse_cdev(IOMMUFD_VFIO_ATTACH, -EINVAL,
	            "/dev/vfio/devices/vfio0: VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	refuse_cdev(IOMMUFD_IOAS_IOVA_RANGES, -EINVAL, "/dev/iommu: IOMMU_IOAS_IOVA_RANGES");
	refuse_cdev(IOMMUFD_IOAS_MAP, -ENOMEM, "ulimit -l");
}

Test(vfio_iommufd, a_device_without_character_device)
{
	static const struct sysfs_device old = { .name = "0000:03:00.0", .group = 7 };
	const struct vfio_sys none = { .open = vfio_sys.open, .ioctl = vk_sys.ioctl };
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	strcpy(vk.given, "iommufd");
	cr_assert_eq(vfio_cdev_get(&w->m, &none, &old, &c, &fd, &err), -ENOENT);
	cr_assert(strstr(err.text, "CONFIG_VFIO_DEVICE_CDEV"), "%s", err.text);
	vk_world_free(w);
}

Test(vfio_iommufd, addresses_that_the_device_keeps)
{
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	vk.fail = IOMMUFD_VFIO_ATTACH;
	vk.error = -EADDRINUSE;
	cr_assert_eq(vfio_cdev_get(&w->m, &vk_sys, &nic, &c, &fd, &err), -EADDRINUSE);
	cr_assert(strstr(err.text, "are guest memory"), "%s", err.text);
	vk_world_free(w);
}

Test(vfio_iommufd, more_ranges_than_room_are_the_kernels_to_check)
{
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	vk.many_ranges = 1000;
	c = cdev(w, &nic, &fd);
	cr_assert_eq(vfio_cdev_space(c)->range_count, 0);
	put(c, fd);
	cr_assert_eq(vk.map_count, 0);
	vk_world_free(w);
}

Test(vfio_iommufd, no_device_memory_in_it)
{
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	c = cdev(w, &nic, &fd);
	vfio_space_join(vfio_cdev_space(c));
	vfio_space_join(vfio_cdev_space(c));
	vk.fail = IOMMUFD_IOAS_MAP;
	vk.error = -EFAULT;
	cr_assert_eq(vfio_space_map_device(vfio_cdev_space(c), 0xd0000000, 4096, &vk, &err),
	             -EFAULT);
	cr_assert(strstr(err.text, "no device's memory"), "%s", err.text);
	put(c, fd);
	cr_assert_eq(vk.map_count, 0);
	vk_world_free(w);
}

Test(vfio_iommufd, dirty_bits_of_one_mapping_at_a_time)
{
	struct vk_world *w = vk_world_new();
	struct vfio_space *s;
	struct vfio_cdev *a, *b;
	int fd, fd2;

	vk.dirty_bits = true;
	a = cdev(w, &nic, &fd);
	b = cdev(w, &disk, &fd2);
	s = vfio_cdev_space(a);
	cr_assert(vfio_cdev_is_tracked(a) && vfio_cdev_is_tracked(b));
	cr_assert_eq(vk.tables, 1, "of one IOMMU, so they share");
	cr_assert_eq(vfio_space_track(s, &err), 0);
	cr_assert_eq(vk.tracking, 1);
	vk_track(w);
	vk.written = 4 * GIB + 200 * PAGE_SIZE;
	cr_assert_eq(s->dirty.sync(&s->dirty, &w->mem, &err), 0, "%s", err.text);
	cr_assert(vk_is_dirty(w, 0, 200));
	cr_assert_eq(memory_dirty_pages(&w->mem), 1);
	cr_assert_eq(s->listener.remapped(&s->listener, 0, VK_RAM, NULL, &err), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 1 + VK_RAM / PAGE_SIZE, "none is lost");
	memory_dirty_stop(&w->mem);
	cr_assert_eq(vk.tracking, 0);
	put(a, fd);
	cr_assert_eq(vk.tables, 1);
	put(b, fd2);
	vk_world_free(w);
}

Test(vfio_iommufd, another_iommu_has_a_page_table_of_its_own)
{
	struct vk_world *w = vk_world_new();
	struct vfio_space *s;
	struct vfio_cdev *a, *b, *c;
	int fd, fd2, fd3;

	vk.dirty_bits = true;
	vk.other_iommu = 4; /* ids: 1 the space, 2 the first device, 3 its table */
	a = cdev(w, &nic, &fd);
	b = cdev(w, &disk, &fd2);
	s = vfio_cdev_space(a);
	cr_assert_eq(vk.tables, 2);
	cr_assert_eq(vfio_space_track(s, &err), 0);
	cr_assert_eq(vk.tracking, 2);
	vk_track(w);
	vk.written = 9 * PAGE_SIZE;
	cr_assert_eq(s->dirty.sync(&s->dirty, &w->mem, &err), 0, "%s", err.text);
	cr_assert(vk_is_dirty(w, 1, 9));
	vk.fail = IOMMUFD_HWPT_GET_DIRTY_BITMAP;
	vk.error = -EINVAL;
	cr_assert_eq(s->dirty.sync(&s->dirty, &w->mem, &err), -EINVAL);
	cr_assert(strstr(err.text, "IOMMU_HWPT_GET_DIRTY_BITMAP at 0x"), "%s", err.text);
	vk.fail = 0;
	memory_dirty_stop(&w->mem);
	/* All of them, or none. */
	vk.fail = IOMMUFD_HWPT_SET_DIRTY_TRACKING;
	vk.fail_after = 1;
	vk.error = -EIO;
	cr_assert_eq(vfio_space_track(s, &err), -EIO);
	cr_assert_eq(vk.tracking, 0);
	vk.fail = 0;
	/* A device that comes while they track. */
	cr_assert_eq(vfio_space_track(s, &err), 0);
	vk.other_iommu = (int)vk.next_id;
	c = cdev(w, &mdev, &fd3);
	cr_assert_eq(vk.tables, 3);
	cr_assert_eq(vk.tracking, 3);
	put(c, fd3);
	put(a, fd);
	put(b, fd2);
	vk_world_free(w);
}

Test(vfio_iommufd, page_tables_without_dirty_bits_after_all)
{
	struct vk_world *w = vk_world_new();
	struct vfio_cdev *c;
	int fd;

	vk.dirty_bits = true;
	vk.fail = IOMMUFD_HWPT_ALLOC;
	vk.error = -EOPNOTSUPP;
	c = cdev(w, &nic, &fd);
	cr_assert_not(vfio_cdev_is_tracked(c));
	put(c, fd);
	vk_world_free(w);
}
