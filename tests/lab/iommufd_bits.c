/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An iommufd as an address space with dirty bits, on a real kernel: one with CONFIG_IOMMUFD_TEST
 * has devices that are made up, and with them an IOMMU that keeps dirty bits, in which pages can be
 * marked as a device would. Memory, page tables and bits are the kernel's; a character device of
 * VFIO's is the only thing missing, so that bind and attach are put as the test's own calls.
 * Source: Linux, drivers/iommu/iommufd/iommufd_test.h and selftest.c (6.12).
 */
#include "../unit/vfio_kernel.h"

#include "vfio/iommufd.h"
#include "vfio/iommufd_uapi.h"

#include "base/io.h"
#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>

/* ---- the kernel's test call ----------------------------------------------------------------- */

enum { OP_DEVICE_REPLACE = 10, OP_DEVICE = 12, OP_DIRTY = 13 };
enum { DEVICE_NO_DIRTY_BITS = 1, DEVICE_LARGE_PAGES = 2 };

#define IO_PAGE (PAGE_SIZE / 2)    /* of the IOMMU that is made up */
#define LARGE_PAGE (512 * IO_PAGE) /* and its large ones */
#define APERTURE (16 * MIB)        /* what it reaches begins here */

struct test_call {
	uint32_t size, op, id, reserved;
	union {
		struct {
			uint32_t out_device, out_table, out_id, flags;
		} device;
		struct {
			uint32_t table;
		} replace;
		struct {
			uint32_t flags, pad;
			uint64_t iova, length, page_size, bits, out_count;
		} dirty;
	};
	uint32_t last, pad;
};
#define TEST_CALL IOMMUFD_CALL(32)

/* What the calls below have seen. */
static struct {
	int iommufd;
	uint32_t flags; /* of the next device */
	uint32_t table; /* the page table that was made last */
	unsigned tables;
	struct {
		int fd;
		uint32_t device;
	} devices[4];
	unsigned count;
} seen = { .iommufd = -1 };

static int open_real(const char *path)
{
	int fd;

	/* Its number is a device's all the same. */
	if (strcmp(path, IOMMUFD_PATH) != 0)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	fd = open(path, O_RDWR | O_CLOEXEC);
	seen.iommufd = fd;
	return fd < 0 ? -errno : fd;
}

/* A device is made in an address space, so it gets one of its own until it is attached. */
static int bind_made_up(int fd, struct iommufd_bind *bind)
{
	struct iommufd_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct test_call call = { .size = sizeof(call), .op = OP_DEVICE };
	int r = io_ioctl(seen.iommufd, IOMMUFD_IOAS_ALLOC, &ioas);

	cr_assert_eq(r, 0);
	call.id = ioas.out_ioas_id;
	call.device.flags = seen.flags;
	r = io_ioctl(seen.iommufd, TEST_CALL, &call);
	if (r < 0)
		return r;
	cr_assert_lt(seen.count, ARRAY_SIZE(seen.devices));
	seen.devices[seen.count].fd = fd;
	seen.devices[seen.count++].device = call.device.out_device;
	bind->out_devid = call.device.out_id;
	return 0;
}

static uint32_t made_up(int fd)
{
	for (unsigned i = 0; i < seen.count; i++)
		if (seen.devices[i].fd == fd)
			return seen.devices[i].device;
	cr_assert_fail("no device by this descriptor");
	return 0;
}

static int attach_made_up(int fd, const struct iommufd_attach *attach)
{
	struct test_call call = {
		.size = sizeof(call),
		.op = OP_DEVICE_REPLACE,
		.id = made_up(fd),
		.replace.table = attach->pt_id,
	};

	return io_ioctl(seen.iommufd, TEST_CALL, &call);
}

static int ioctl_real(int fd, unsigned long request, void *arg)
{
	int r;

	switch (request) {
	case KVM_CREATE_DEVICE: /* there is no VM */
	case KVM_SET_DEVICE_ATTR:
		return 0;
	case IOMMUFD_VFIO_BIND:
		return bind_made_up(fd, arg);
	case IOMMUFD_VFIO_ATTACH:
		return attach_made_up(fd, arg);
	default:
		break;
	}
	cr_assert_eq(fd, seen.iommufd);
	r = io_ioctl(fd, request, arg);
	if (request == IOMMUFD_HWPT_ALLOC && r >= 0) {
		seen.table = ((struct iommufd_hwpt_alloc *)arg)->out_hwpt_id;
		seen.tables++;
	}
	return r;
}

static const struct vfio_sys real = { .open = open_real, .ioctl = ioctl_real };

/* As a device writes: one of the IOMMU's pages is dirty. */
static int written_to(uint64_t iova)
{
	uint64_t bit = 1;
	struct test_call call = {
		.size = sizeof(call),
		.op = OP_DIRTY,
		.id = seen.table,
		.dirty = { .iova = iova,
		           .length = IO_PAGE,
		           .page_size = IO_PAGE,
		           .bits = (uintptr_t)&bit },
	};
	int r = io_ioctl(seen.iommufd, TEST_CALL, &call);

	return r < 0 ? r : (int)call.dirty.out_count;
}

/* ---- a machine with such a device -------------------------------------------------------------
 */

#define LARGE (160 * MIB) /* its bits take more than a page */
#define SMALL (2 * MIB)

struct world {
	struct vk_world *w;
	struct vfio_cdev *cdev;
	struct vfio_space *space;
	int fd;
	struct gw_error err;
};

static void *memory_of(uint64_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
	               0);

	cr_assert_neq(p, MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

/* Two pieces of RAM that touch, and a large one behind a hole. */
static struct vk_world *new_machine(void)
{
	static const struct {
		uint64_t gpa, size;
	} ram[VK_REGIONS] = { { 2 * APERTURE, SMALL },
		              { 2 * APERTURE + SMALL, SMALL },
		              { 256 * MIB, LARGE } };
	struct vk_world *w = vk_world_new();

	for (size_t i = 0; i < VK_REGIONS; i++) {
		w->mem.regions[i].gpa = ram[i].gpa;
		w->mem.regions[i].size = ram[i].size;
		w->mem.regions[i].hva = memory_of(ram[i].size, 0);
	}
	return w;
}

static struct vfio_cdev *plug(struct vk_world *w, uint32_t flags, int *fd)
{
	static const struct sysfs_device device = { .name = "made-up", .cdev = "made-up" };
	struct vfio_cdev *c = NULL;
	struct gw_error err = { 0 };

	seen.flags = flags;
	cr_assert_eq(vfio_cdev_get(&w->m, &real, &device, &c, fd, &err), 0, "%s", err.text);
	return c;
}

/* The device goes with its descriptor, as a real one would. */
static void unplug(struct vfio_cdev *c, int fd)
{
	struct iommufd_destroy destroy = { .size = sizeof(destroy), .id = made_up(fd) };

	cr_assert_eq(io_ioctl(seen.iommufd, IOMMUFD_DESTROY, &destroy), 0);
	close(fd);
	vfio_cdev_put(c);
}

static struct world *track(struct vk_world *w, uint32_t flags)
{
	struct world *t = calloc(1, sizeof(*t));

	cr_assert(t);
	t->w = w;
	t->cdev = plug(w, flags, &t->fd);
	t->space = vfio_cdev_space(t->cdev);
	cr_assert(vfio_cdev_is_tracked(t->cdev));
	cr_assert_eq(vfio_space_track(t->space, &t->err), 0, "%s", t->err.text);
	vk_track(w);
	return t;
}

static void end(struct world *t)
{
	memory_dirty_stop(&t->w->mem);
	unplug(t->cdev, t->fd);
	vk_world_free(t->w);
	free(t);
}

/* How many pages are dirty after the bits have been read; then none is. */
static uint64_t sync_bits(struct world *t)
{
	struct vfio_space *s = t->space;

	cr_assert_eq(s->dirty.sync(&s->dirty, &t->w->mem, &t->err), 0, "%s", t->err.text);
	return memory_dirty_pages(&t->w->mem);
}

static void forget(struct world *t)
{
	struct memory *mem = &t->w->mem;

	for (size_t i = 0; i < mem->region_count; i++)
		memset(mem->regions[i].dirty, 0, region_words(&mem->regions[i]) * 8);
}

/* ---- tests
 * ---------------------------------------------------------------------------------------
 */

Test(iommufd, each_page_that_is_written_is_told_once)
{
	/* At the ends, at a word's, and at a bitmap's page's, which has bits of 128 MiB. */
	static const uint64_t pages[] = { 0, 63, 64, 4095, 32767, 32768, LARGE / PAGE_SIZE - 1 };
	struct world *t = track(new_machine(), 0);

	cr_assert_eq(sync_bits(t), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		cr_assert_eq(written_to(256 * MIB + pages[i] * PAGE_SIZE + i % 2 * IO_PAGE), 1);
	cr_assert_eq(sync_bits(t), ARRAY_SIZE(pages));
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		cr_assert(vk_is_dirty(t->w, 2, pages[i]), "page %llu",
		          (unsigned long long)pages[i]);
	forget(t);
	cr_assert_eq(sync_bits(t), 0, "once");
	cr_assert_eq(written_to(256 * MIB + 64 * PAGE_SIZE), 1);
	cr_assert_eq(sync_bits(t), 1, "and again when it is written again");
	cr_assert(vk_is_dirty(t->w, 2, 64));
	end(t);
}

Test(iommufd, over_several_mappings_and_a_hole)
{
	struct world *t = track(new_machine(), 0);

	cr_assert_eq(written_to(2 * APERTURE + SMALL - IO_PAGE), 1);
	cr_assert_eq(written_to(2 * APERTURE + SMALL), 1);
	cr_assert_eq(written_to(256 * MIB), 1);
	cr_assert_eq(written_to(128 * MIB), 0, "nothing is mapped there");
	cr_assert_eq(sync_bits(t), 3);
	cr_assert(vk_is_dirty(t->w, 0, SMALL / PAGE_SIZE - 1));
	cr_assert(vk_is_dirty(t->w, 1, 0));
	cr_assert(vk_is_dirty(t->w, 2, 0));
	end(t);
}

Test(iommufd, what_is_unmapped_loses_no_bit)
{
	struct world *t = track(new_machine(), 0);
	struct memory_listener *l = &t->space->listener;
	const struct ram_region *r = &t->w->mem.regions[1];

	cr_assert_eq(written_to(r->gpa + 5 * PAGE_SIZE), 1);
	cr_assert_eq(l->remapped(l, r->gpa, PAGE_SIZE, r->hva, &t->err), 0, "%s", t->err.text);
	cr_assert(vk_is_dirty(t->w, 1, 5));
	forget(t);
	/* What is mapped anew begins clean, and is tracked. */
	cr_assert_eq(sync_bits(t), 0);
	cr_assert_eq(written_to(r->gpa + 7 * PAGE_SIZE), 1);
	cr_assert_eq(sync_bits(t), 1);
	cr_assert(vk_is_dirty(t->w, 1, 7));
	end(t);
}

/* Of a large page the IOMMU knows no more than that it was written. */
Test(iommufd, all_of_a_large_page)
{
	struct vk_world *w = new_machine();
	struct world *t;

	w->mem.regions[0].hva = memory_of(SMALL, MAP_HUGETLB | MAP_POPULATE);
	t = track(w, DEVICE_LARGE_PAGES);
	cr_assert_eq(written_to(2 * APERTURE + LARGE_PAGE + 3 * IO_PAGE), 1);
	cr_assert_eq(sync_bits(t), LARGE_PAGE / PAGE_SIZE);
	for (uint64_t i = 0; i < LARGE_PAGE / PAGE_SIZE; i++)
		cr_assert(vk_is_dirty(w, 0, LARGE_PAGE / PAGE_SIZE + i));
	forget(t);
	cr_assert_eq(sync_bits(t), 0);
	end(t);
}

Test(iommufd, tracking_off_and_on_begins_clean)
{
	struct world *t = track(new_machine(), 0);

	cr_assert_eq(written_to(2 * APERTURE), 1);
	memory_dirty_stop(&t->w->mem);
	cr_assert_eq(written_to(2 * APERTURE), -EINVAL, "the IOMMU tracks nothing");
	cr_assert_eq(vfio_space_track(t->space, &t->err), 0, "%s", t->err.text);
	vk_track(t->w);
	cr_assert_eq(sync_bits(t), 0);
	cr_assert_eq(written_to(2 * APERTURE), 1);
	cr_assert_eq(sync_bits(t), 1);
	end(t);
}

Test(iommufd, devices_share_a_page_table)
{
	struct world *t = track(new_machine(), 0);
	struct vfio_cdev *other;
	int fd;

	other = plug(t->w, 0, &fd);
	cr_assert(vfio_cdev_is_tracked(other));
	cr_assert_eq(vfio_cdev_space(other), t->space);
	cr_assert_eq(seen.tables, 1);
	unplug(other, fd);
	cr_assert_eq(written_to(2 * APERTURE), 1, "it is there as long as one needs it");
	cr_assert_eq(sync_bits(t), 1);
	end(t);
}

Test(iommufd, a_device_whose_iommu_keeps_no_bits)
{
	struct vk_world *w = new_machine();
	struct vfio_cdev *c;
	int fd;

	c = plug(w, DEVICE_NO_DIRTY_BITS, &fd);
	cr_assert_not(vfio_cdev_is_tracked(c));
	cr_assert_eq(seen.tables, 0);
	unplug(c, fd);
	vk_world_free(w);
}

Test(iommufd, ram_that_it_does_not_reach)
{
	static const struct sysfs_device device = { .name = "made-up", .cdev = "made-up" };
	struct vk_world *w = new_machine();
	struct vfio_cdev *c;
	struct gw_error err;
	int fd;

	w->mem.regions[0].gpa = APERTURE - PAGE_SIZE;
	cr_assert_eq(vfio_cdev_get(&w->m, &real, &device, &c, &fd, &err), -ERANGE);
	cr_assert(strstr(err.text, "reaches 0x1000000-0x7fffffff only"), "%s", err.text);
	vk_world_free(w);
}
