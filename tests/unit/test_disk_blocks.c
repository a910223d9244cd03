/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on a host whose blocks are larger than the guest's sectors. That host is
 * a stand-in: the file system says of itself that direct I/O goes by 4096 bytes
 * only, and what is not so is counted. The lab has a real one (scenario disks).
 */
#include "blk_rig.h"
#include "fake_statx.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define BLOCK 4096u

static unsigned odd_ones;    /* I/O that such a host would refuse */
static unsigned slow_writes; /* us that each write takes at least */

static void judge(const struct iovec *iov, int count, off_t offset)
{
	bool odd = offset % BLOCK;

	for (int i = 0; i < count; i++)
		odd |= ((uintptr_t)iov[i].iov_base | iov[i].iov_len) % BLOCK;
	__atomic_fetch_add(&odd_ones, odd, __ATOMIC_RELAXED);
}

/* In place of the C library's, as the next. */
ssize_t preadv_here(int fd, const struct iovec *iov, int count, off_t offset) __asm__("preadv64");
ssize_t preadv_here(int fd, const struct iovec *iov, int count, off_t offset)
{
	judge(iov, count, offset);
	return syscall(SYS_preadv, fd, iov, count, offset, 0);
}

ssize_t pwritev2_here(int fd, const struct iovec *iov, int count, off_t offset,
                      int flags) __asm__("pwritev64v2");
ssize_t pwritev2_here(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	judge(iov, count, offset);
	usleep(slow_writes);
	/* As the C library does where there is no pwritev2 (an emulator of user programs). */
	return flags ? syscall(SYS_pwritev2, fd, iov, count, offset, 0, flags)
	             : syscall(SYS_pwritev, fd, iov, count, offset, 0);
}

static struct blk_options coarse_disk(const char *name, unsigned queues)
{
	struct blk_options o = rig_disk(name, DISK);

	fake_statx.direct_align = BLOCK;
	o.direct = true;
	o.queues = queues;
	/* What io_uring is given nobody here sees. */
	rig_forbid(SYS_io_uring_setup, EPERM);
	return o;
}

Test(disk_blocks, a_guest_sees_sectors_whatever_the_host_has)
{
	const struct blk_options o = coarse_disk("sectors", 1);
	uint8_t all[DISK], back[DISK];
	unsigned random = 1;
	struct rig g;

	rig_fill(all, sizeof(all), 1);
	rig_begin(&g, &o, OWN);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_BLK_SIZE, 4), 512);
	cr_assert_not(virtio_has(g.d.v, BLK_F_TOPOLOGY));
	for (unsigned i = 0; i < 200; i++) {
		const unsigned at = (random = random * 1103515245 + 12345) / 65536 % 1000;
		const unsigned count = 1 + i % 9 * (i % 40 ? 1 : 70);
		uint8_t *there = all + (size_t)at * 512;
		const uint32_t len = MIN(count, DISK / 512 - at) * 512;

		if (i % 2) {
			cr_assert_eq(rig_request(&g, IN, at, back, len), OK);
			cr_assert_eq(memcmp(back, there, len), 0, "%u sectors at %u", count, at);
			continue;
		}
		rig_fill(there, len, i << 24);
		cr_assert_eq(rig_request(&g, OUT, at, there, len), OK);
	}
	cr_assert_eq(rig_request(&g, FLUSH, 0, NULL, 0), OK);
	rig_expect(&g, 0, all, sizeof(all));
	cr_assert_eq(odd_ones, 0);
	rig_end(&g);
}

Test(disk_blocks, parts_of_blocks_are_zeroed_and_discarded)
{
	const struct blk_options o = coarse_disk("zeroes", 1);
	const struct {
		uint64_t sector;
		uint32_t count, flags;
	} zero = { 3, 21, 0 }, unmap = { 43, 5, 1 }, discard = { 101, 3, 0 };
	uint8_t all[DISK];
	struct rig g;

	rig_fill(all, sizeof(all), 1);
	memset(all + 3 * 512, 0, 21 * 512);
	memset(all + 43 * 512, 0, 5 * 512);
	rig_begin(&g, &o, OWN);
	/* As a block device has it, which takes no others. */
	container_of(g.d.v, struct blk, virtio)->file.range_align = BLOCK;
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&zero, 16), OK);
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&unmap, 16), OK);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&discard, 16), OK);
	rig_expect(&g, 0, all, sizeof(all));
	cr_assert_eq(odd_ones, 0);
	rig_end(&g);
}

/* Where the file system can neither punch holes nor zero, the guest has both all the same. */
Test(disk_blocks, a_host_that_cannot_zero_writes_zeros)
{
	const struct {
		uint64_t sector;
		uint32_t count, flags;
	} zero = { 3, 1500, 0 }, unmap = { 1600, 8, 1 }, discard = { 1700, 8, 0 };
	struct blk_options o = rig_disk("cannot", DISK);
	uint8_t all[DISK];
	struct rig g;

	rig_forbid(SYS_io_uring_setup, EPERM);
	rig_forbid(SYS_fallocate, EOPNOTSUPP);
	rig_fill(all, sizeof(all), 1);
	memset(all + 3 * 512, 0, 1500 * 512);
	memset(all + 1600 * 512, 0, 8 * 512);
	rig_begin(&g, &o, OWN);
	cr_assert(virtio_has(g.d.v, BLK_F_DISCARD) && virtio_has(g.d.v, BLK_F_WRITE_ZEROES));
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&zero, 16), OK);
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&unmap, 16), OK);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&discard, 16), OK);
	rig_expect(&g, 0, all, sizeof(all));
	rig_end(&g);
}

/* ---- several at a time ---------------------------------------------------------------------- */

#define QUEUES 2u
#define ROUNDS 40u

static bool all_are_used(void *opaque)
{
	struct rig *g = opaque;

	for (unsigned q = 0; q < QUEUES; q++) {
		struct vused used;

		while (rig_is_used(g, q) && vdriver_used(&g->d, q, &used))
			g->answered++;
	}
	return g->answered == 8;
}

/* Each queue writes every second sector of the same two blocks. */
static void write_beside_each_other(struct rig *g)
{
	static uint8_t all[2 * BLOCK];
	struct vmachine *vm = g->d.vm;
	const uint64_t at = vmachine_alloc(vm, 8 * 4096, 4096);

	for (unsigned round = 0; round < ROUNDS; round++) {
		rig_fill(all, sizeof(all), round << 24);
		g->answered = 0;
		for (unsigned i = 0; i < 8; i++) {
			const uint64_t head = at + i * 4096;
			const struct vbuf bufs[] = { { head, 16 + 1024, false },
				                     { head + 2048, 1, true } };
			const uint32_t header[4] = { OUT, 0, i * 2, 0 };

			memcpy(vmachine_at(vm, head), header, 16);
			memcpy(vmachine_at(vm, head + 16), all + i * 1024, 1024);
			*(uint8_t *)vmachine_at(vm, head + 2048) = 0xee;
			vdriver_add(&g->d, i % QUEUES, bufs, 2);
		}
		for (unsigned q = 0; q < QUEUES; q++)
			vdriver_kick(&g->d, q);
		cr_assert(vmachine_wait(vm, all_are_used, g, patience_ms()), "round %u: %u answers",
		          round, g->answered);
		for (unsigned i = 0; i < 8; i++)
			cr_assert_eq(*(uint8_t *)vmachine_at(vm, at + i * 4096 + 2048), OK);
		rig_expect(g, 0, all, sizeof(all));
	}
}

Test(disk_blocks, writes_to_one_block_do_not_undo_each_other)
{
	const struct blk_options o = coarse_disk("order", QUEUES);
	struct rig g;

	slow_writes = 200;
	rig_begin(&g, &o, OWN);
	write_beside_each_other(&g);
	cr_assert_eq(odd_ones, 0);
	rig_end(&g);
}

Test(disk_blocks, nor_by_io_uring)
{
	struct blk_options o = rig_disk("uring", DISK);
	struct rig g;

	fake_statx.direct_align = BLOCK;
	o.direct = true;
	o.queues = QUEUES;
	rig_begin(&g, &o, OWN);
	write_beside_each_other(&g);
	rig_end(&g);
}

/* ---- what is configured --------------------------------------------------------------------- */

static const char *refused(const struct blk_options *o)
{
	static char error[1024];
	struct vmachine *vm = vmachine_new(8 * MIB);

	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, o, sizeof(*o)));
	snprintf(error, sizeof(error), "%s", vm->error);
	vmachine_free(vm);
	return error;
}

Test(disk_blocks, sizes_that_are_set)
{
	struct blk_options o = rig_disk("sizes", DISK), bad = o;
	struct rig g;

	o.logical = 1024;
	o.physical = 4096;
	rig_begin(&g, &o, OWN);
	cr_assert(virtio_has(g.d.v, BLK_F_TOPOLOGY));
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_BLK_SIZE, 4), 1024);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_TOPOLOGY, 1), 2);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_TOPOLOGY + 2, 2), 4);
	rig_end(&g);
	bad.logical = 1000;
	cr_assert(strstr(refused(&bad), "logical-block-size: 1000 is no power of two"));
	bad.logical = 4096;
	bad.physical = 512;
	cr_assert(strstr(refused(&bad),
	                 "physical-block-size: 512 is less than the logical one, 4096"));
	bad = rig_disk("rest", DISK + 512);
	bad.logical = 4096;
	cr_assert(strstr(refused(&bad), "is no multiple of logical-block-size, 4096"));
	fake_statx.direct_align = BLOCK;
	bad.direct = true;
	bad.logical = 512;
	cr_assert(strstr(refused(&bad), "no multiple of 4096, as direct I/O needs it here"));
	unlink(bad.file);
}

/* A guest goes on with the sectors that it knows, on whatever file system its disk is there. */
Test(disk_blocks, move_with_the_guest)
{
	struct blk_options o = rig_disk("moves", DISK), there_o = o;
	struct vmachine *there = vmachine_new(8 * MIB);
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	struct device *device;
	uint8_t data[512];
	struct rig g, h;

	o.logical = there_o.logical = 4096;
	rig_begin(&g, &o, OWN);
	vdriver_save(&g.d, &kept);
	there->m->incoming = true;
	fake_statx.direct_align = BLOCK;
	there_o.direct = true;
	there_o.logical = 512; /* as a configuration from before had it */
	device = vmachine_add(there, &virtio_blk_driver, &there_o, sizeof(there_o));
	cr_assert_not_null(device, "%s", there->error);
	machine_unclaim(g.d.vm->m);
	cr_assert_eq(machine_claim(there->m, &err), 0, "%s", err.text);
	h = g;
	cr_assert_eq(vdriver_load(&h.d, there, device, &g.d, &kept, &err), 0, "%s", err.text);
	vmachine_run(there);
	cr_assert_eq(vdriver_config(&h.d, BLK_CONFIG_BLK_SIZE, 4), 4096);
	cr_assert_eq(rig_request(&h, IN, 5, data, 512), OK);
	vmachine_free(there);
	rig_end(&g);
}

/* ---- what is no raw disk -------------------------------------------------------------------- */

static void put(const struct blk_options *o, off_t offset, const void *what, size_t len)
{
	const int fd = open(o->file, O_WRONLY | O_CLOEXEC);

	cr_assert_eq(pwrite(fd, what, len, offset), (ssize_t)len);
	close(fd);
}

Test(disk_blocks, images_that_are_not_raw_are_refused_by_name)
{
	static const struct {
		const char *magic;
		size_t len;
		off_t offset;
		const char *said;
	} images[] = {
		{ "QFI\xfb\0\0\0\3", 8, 0,
		  "is a qcow2 image, and a disk has to be raw: convert it "
		  "(qemu-img convert -O raw " },
		{ "KDMV", 4, 0, "a VMDK image" },
		{ "# Disk DescriptorFile\n", 22, 0, "a VMDK descriptor" },
		{ "conectix", 8, 0, "a VHD image" },
		{ "conectix", 8, DISK - 512, "a VHD image" },
		{ "vhdxfile", 8, 0, "a VHDX image" },
		{ "\x7f\x10\xda\xbe", 4, 64, "a VDI image" },
		{ "QED\0", 4, 0, "a QED image" },
		{ "WithouFreSpacExt", 16, 0, "a Parallels image" },
		{ "\x1f\x8b\x08", 3, 0,
		  "is compressed (gzip), and a disk has to be raw: unpack it (gunzip)" },
		{ "\xfd"
		  "7zXZ\0",
		  6, 0, "compressed (xz)" },
		{ "\x28\xb5\x2f\xfd", 4, 0, "compressed (zstd)" },
		{ "BZh9", 4, 0, "compressed (bzip2)" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		struct vmachine *vm = vmachine_new(8 * MIB);
		struct blk_options o = rig_disk("image", DISK);
		struct gw_error err;

		put(&o, images[i].offset, images[i].magic, images[i].len);
		o.direct = i % 2;
		fake_statx.direct_align = o.direct ? BLOCK : 0;
		cr_assert(strstr(refused(&o), images[i].said), "row %zu: %s", i, refused(&o));
		cr_assert(strstr(refused(&o), o.file));
		/* What a guest has made of its own disk is its business. */
		cr_assert_eq(virtio_blk_driver.check_host(&o, &err), 0, "%s", err.text);
		vm->m->incoming = true;
		cr_assert_not_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)), "%s",
		                   vm->error);
		vmachine_free(vm);
		vm = vmachine_new(8 * MIB);
		o.format = BLK_FORMAT_RAW;
		cr_assert_not_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)), "%s",
		                   vm->error);
		vmachine_free(vm);
		unlink(o.file);
	}
}

Test(disk_blocks, a_disk_twice_in_one_machine_is_refused)
{
	struct blk_options o = rig_disk("twice", DISK), link = o;
	struct vmachine *vm = vmachine_new(8 * MIB);
	struct device *first;

	strcat(link.file, "-link");
	cr_assert_eq(symlink(o.file, link.file), 0);
	vm->m->incoming = true; /* where no lock says so */
	first = vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o));
	cr_assert_not_null(first, "%s", vm->error);
	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, &link, sizeof(link)));
	cr_assert(strstr(vm->error, "-link is the disk of device \""), "%s", vm->error);
	cr_assert(strstr(vm->error, first->id), "%s", vm->error);
	vmachine_free(vm);
	vm = vmachine_new(8 * MIB);
	o.read_only = link.read_only = true;
	cr_assert_not_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)), "%s", vm->error);
	cr_assert_not_null(vmachine_add(vm, &virtio_blk_driver, &link, sizeof(link)), "%s",
	                   vm->error);
	vmachine_free(vm);
	unlink(o.file);
	unlink(link.file);
}
