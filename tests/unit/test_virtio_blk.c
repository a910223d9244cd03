/* SPDX-License-Identifier: Apache-2.0 */
#include "blk_rig.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void read_write_flush(struct rig *g)
{
	uint8_t data[8192], back[8192], first[512];

	rig_fill(data, sizeof(data), 77);
	rig_fill(first, sizeof(first), 1);
	cr_assert_eq(rig_request(g, IN, 0, back, 512), OK);
	cr_assert_eq(memcmp(back, first, 512), 0);
	cr_assert_eq(rig_request(g, OUT, 24, data, sizeof(data)), OK);
	rig_expect(g, 24 * 512, data, sizeof(data));
	cr_assert_eq(rig_request(g, FLUSH, 0, NULL, 0), OK);
	cr_assert_eq(rig_request(g, IN, 24, back, sizeof(back)), OK);
	cr_assert_eq(memcmp(back, data, sizeof(data)), 0);
	/* The last sector, and what is behind it. */
	cr_assert_eq(rig_request(g, OUT, DISK / 512 - 1, data, 512), OK);
	cr_assert_eq(rig_request(g, OUT, DISK / 512 - 1, data, 1024), IOERR);
	cr_assert_eq(rig_request(g, IN, DISK / 512, back, 512), IOERR);
	cr_assert_eq(rig_request(g, IN, UINT64_MAX / 512, back, 1024), IOERR);
	cr_assert_eq(rig_request(g, IN, UINT64_MAX, back, 512), IOERR);
	cr_assert_eq(rig_request(g, IN, 0, back, 511), IOERR);
	cr_assert_eq(rig_request(g, IN, 0, NULL, 0), IOERR);
	cr_assert_eq(rig_request(g, 99, 0, NULL, 0), UNSUPP);
}

Test(virtio_blk, reads_and_writes)
{
	const struct blk_options o = rig_disk("rw", DISK);
	struct rig g;

	rig_begin(&g, &o, OWN);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_CAPACITY, 8), DISK / 512);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_SEG_MAX, 4), 62);
	read_write_flush(&g);
	rig_end(&g);
}

Test(virtio_blk, direct_io_takes_any_buffer)
{
	struct blk_options o = rig_disk("direct", DISK);
	uint8_t data[4096], back[4096];
	struct vbuf bufs[3];
	struct rig g;
	uint64_t at;

	o.direct = true;
	rig_begin(&g, &o, OWN);
	rig_fill(data, sizeof(data), 5);
	cr_assert_eq(rig_request(&g, OUT, 8, data, sizeof(data)), OK);
	/* Header, data and status in one odd place, cut in the middle of the header. */
	at = vmachine_alloc(g.d.vm, 3 * 4096, 4096) + 7;
	memcpy(vmachine_at(g.d.vm, at), (uint32_t[]){ IN, 0, 8, 0 }, 16);
	bufs[0] = (struct vbuf){ at, 5, false };
	bufs[1] = (struct vbuf){ at + 5, 11, false };
	bufs[2] = (struct vbuf){ at + 16, 4097, true };
	vdriver_add(&g.d, 0, bufs, 3);
	vdriver_kick(&g.d, 0);
	cr_assert_eq(rig_used(&g).len, 4097);
	memcpy(back, vmachine_at(g.d.vm, at + 16), sizeof(back));
	cr_assert_eq(memcmp(back, data, sizeof(data)), 0);
	cr_assert_eq(*(uint8_t *)vmachine_at(g.d.vm, at + 16 + 4096), OK);
	rig_end(&g);
}

/* Longer than the buffer that stands in for it, with a rest that is no whole one. */
Test(virtio_blk, direct_io_takes_long_buffers_in_odd_places)
{
	enum { LEN = 600 * KIB };
	struct blk_options o = rig_disk("long", DISK);
	uint8_t *data = malloc(LEN), *there;
	struct vbuf bufs[3];
	struct rig g;
	uint64_t at;

	o.direct = true;
	rig_begin(&g, &o, OWN);
	rig_fill(data, LEN, 21);
	at = vmachine_alloc(g.d.vm, LEN + 4096, 4096) + 7;
	there = vmachine_at(g.d.vm, at);
	memcpy(there, (uint32_t[]){ OUT, 0, 8, 0 }, 16);
	memcpy(there + 16, data, LEN);
	bufs[0] = (struct vbuf){ at, 16 + 100001, false };
	bufs[1] = (struct vbuf){ at + 16 + 100001, LEN - 100001, false };
	bufs[2] = (struct vbuf){ at + 16 + LEN, 1, true };
	vdriver_add(&g.d, 0, bufs, 3);
	vdriver_kick(&g.d, 0);
	rig_used(&g);
	cr_assert_eq(there[16 + LEN], OK);
	rig_expect(&g, 8ull * 512, data, LEN);
	memset(there + 16, 0, LEN + 1);
	memcpy(there, (uint32_t[]){ IN, 0, 8, 0 }, 16);
	bufs[0].len = 16;
	bufs[1] = (struct vbuf){ at + 16, 300001, true };
	bufs[2] = (struct vbuf){ at + 16 + 300001, LEN - 300001 + 1, true };
	vdriver_add(&g.d, 0, bufs, 3);
	vdriver_kick(&g.d, 0);
	cr_assert_eq(rig_used(&g).len, LEN + 1);
	cr_assert_eq(there[16 + LEN], OK);
	cr_assert_eq(memcmp(there + 16, data, LEN), 0);
	free(data);
	rig_end(&g);
}

static long peak(void)
{
	struct rusage usage;

	cr_assert_eq(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_maxrss / 1024;
}

/* The same 4 MiB of RAM, over and over. */
Test(virtio_blk, a_request_costs_the_host_no_memory_of_its_length)
{
	enum { PIECES = 60, PIECE = 4 * MIB };
	struct blk_options o = rig_disk("huge", DISK);
	struct vbuf bufs[PIECES + 2];
	struct rig g;
	uint64_t at;
	long before;

	cr_assert_eq(truncate(o.file, GIB), 0);
	o.direct = true;
	rig_begin(&g, &o, OWN);
	at = vmachine_alloc(g.d.vm, PIECE + 4096, 4096) + 7;
	bufs[0] = (struct vbuf){ vmachine_alloc(g.d.vm, 16, 16), 16, false };
	for (unsigned i = 0; i < PIECES; i++)
		bufs[1 + i] = (struct vbuf){ at, PIECE, true };
	bufs[PIECES + 1] = (struct vbuf){ vmachine_alloc(g.d.vm, 1, 1), 1, true };
	before = peak();
	vdriver_add(&g.d, 0, bufs, PIECES + 2);
	vdriver_kick(&g.d, 0);
	/* 240 MiB, which an emulated CPU copies in its own time. */
	cr_assert(vmachine_wait(g.d.vm, rig_one_is_used, &g, patience_ms()), "no answer");
	cr_assert_eq(rig_used(&g).len, PIECES * PIECE + 1);
	cr_assert_eq(*(uint8_t *)vmachine_at(g.d.vm, bufs[PIECES + 1].gpa), OK);
	cr_assert_lt(peak() - before, 64, "%ld MiB, before %ld", peak(), before);
	rig_end(&g);
}

/* The flush may have been carried out before the write beside it; whoever stops the disk has to
 * flush again. */
Test(virtio_blk, a_flush_beside_a_write_is_not_enough)
{
	const struct blk_options o = rig_disk("beside", DISK);
	struct blk_queue *bq;
	struct rig g;
	uint64_t at;
	uint8_t *p;

	rig_begin(&g, &o, OWN);
	bq = container_of(g.d.v, struct blk, virtio)->queues;
	at = vmachine_alloc(g.d.vm, 4096, 4096);
	p = vmachine_at(g.d.vm, at);
	memcpy(p, (uint32_t[]){ OUT, 0, 0, 0 }, 16);
	memcpy(p + 1024, (uint32_t[]){ FLUSH, 0, 0, 0 }, 16);
	vdriver_add(&g.d, 0, (struct vbuf[]){ { at, 16 + 512, false }, { at + 1000, 1, true } }, 2);
	vdriver_add(&g.d, 0, (struct vbuf[]){ { at + 1024, 16, false }, { at + 1001, 1, true } },
	            2);
	vdriver_kick(&g.d, 0);
	rig_used(&g);
	rig_used(&g);
	cr_assert_eq(p[1000] | p[1001], OK);
	pthread_mutex_lock(&bq->queue->worker->lock);
	cr_assert(bq->unflushed);
	pthread_mutex_unlock(&bq->queue->worker->lock);
	cr_assert_eq(rig_request(&g, FLUSH, 0, NULL, 0), OK);
	pthread_mutex_lock(&bq->queue->worker->lock);
	cr_assert_not(bq->unflushed);
	pthread_mutex_unlock(&bq->queue->worker->lock);
	rig_end(&g);
}

Test(virtio_blk, works_without_io_uring)
{
	const struct blk_options o = rig_disk("sync", DISK);
	struct rig g;

	/* As under many containers' seccomp rules. */
	rig_forbid(SYS_io_uring_setup, EPERM);
	rig_begin(&g, &o, OWN);
	cr_assert_str_eq(blk_aio_name(container_of(g.d.v, struct blk, virtio)->queues[0].aio),
	                 "sync");
	read_write_flush(&g);
	rig_end(&g);
}

Test(virtio_blk, discards_and_zeroes)
{
	const struct blk_options o = rig_disk("discard", DISK);
	const struct {
		uint64_t sector;
		uint32_t count, flags;
	} range = { 16, 16, 0 }, unmap = { 64, 8, 1 }, odd = { 0, 8, 2 },
	  outside = { DISK / 512 - 4, 8, 0 }, none = { 0, 0, 0 };
	uint8_t zero[8192] = { 0 };
	struct rig g;

	rig_begin(&g, &o, OWN);
	cr_assert(virtio_has(g.d.v, BLK_F_DISCARD) && virtio_has(g.d.v, BLK_F_WRITE_ZEROES));
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&range, 16), OK);
	rig_expect(&g, 16 * 512, zero, 8192);
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&unmap, 16), OK);
	rig_expect(&g, 64 * 512, zero, 4096);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&range, 16), OK);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&unmap, 16), UNSUPP);
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&odd, 16), UNSUPP);
	cr_assert_eq(rig_request(&g, ZEROES, 0, (void *)&outside, 16), IOERR);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&none, 16), IOERR);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)&range, 12), IOERR);
	rig_end(&g);
}

Test(virtio_blk, needs_the_feature_that_a_request_belongs_to)
{
	const struct blk_options o = rig_disk("features", DISK);
	const uint32_t range[4] = { 0, 0, 8, 0 };
	struct rig g;

	rig_begin(&g, &o, 0);
	cr_assert_eq(rig_request(&g, FLUSH, 0, NULL, 0), UNSUPP);
	cr_assert_eq(rig_request(&g, DISCARD, 0, (void *)range, 16), UNSUPP);
	rig_end(&g);
}

Test(virtio_blk, read_only)
{
	struct blk_options o = rig_disk("ro", DISK);
	uint8_t data[512], first[512];
	struct rig g;

	o.read_only = true;
	rig_begin(&g, &o, OWN);
	cr_assert(virtio_has(g.d.v, BLK_F_RO));
	cr_assert_not(virtio_has(g.d.v, BLK_F_DISCARD));
	rig_fill(data, sizeof(data), 9);
	rig_fill(first, sizeof(first), 1);
	cr_assert_eq(rig_request(&g, OUT, 0, data, 512), IOERR);
	rig_expect(&g, 0, first, 512);
	cr_assert_eq(rig_request(&g, IN, 0, data, 512), OK);
	cr_assert_eq(memcmp(data, first, 512), 0);
	rig_end(&g);
}

Test(virtio_blk, tells_its_serial_number)
{
	const struct blk_options o = rig_disk("serial", DISK);
	char id[20] = { 0 };
	struct rig g;

	rig_begin(&g, &o, OWN);
	cr_assert_eq(rig_request(&g, GET_ID, 0, id, sizeof(id)), OK);
	cr_assert_str_eq(id, "godwit-0001");
	rig_end(&g);
}

static bool is_broken(void *opaque)
{
	struct rig *g = opaque;

	return vdriver_status(&g->d) & VIRTIO_NEEDS_RESET;
}

Test(virtio_blk, a_driver_that_lies_breaks_the_device_until_it_resets_it)
{
	const struct blk_options o = rig_disk("lies", DISK);
	struct vbuf bufs[2];
	uint8_t data[512];
	struct rig g;

	rig_begin(&g, &o, OWN);
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t at = vmachine_alloc(g.d.vm, 4096, 16);
		static const struct vbuf wrong[3][2] = {
			{ { 0, 15, false }, { 64, 1, true } },  /* half a header */
			{ { 0, 16, false }, { 64, 8, false } }, /* no status */
			{ { 0, 16, false }, { 1ull << 40, 8, true } },
		};
		struct vdriver fresh;

		memcpy(bufs, wrong[i], sizeof(bufs));
		bufs[0].gpa += at;
		bufs[1].gpa += at;
		vdriver_add(&g.d, 0, bufs, 2);
		vdriver_kick(&g.d, 0);
		cr_assert(vmachine_wait(g.d.vm, is_broken, &g, patience_ms()), "row %u", i);
		vdriver_begin(&fresh, g.d.vm, &g.d.v->device, OWN);
		g.d = fresh;
		cr_assert_eq(rig_request(&g, IN, 0, data, 512), OK);
	}
	rig_end(&g);
}

Test(virtio_blk, grows)
{
	const struct blk_options o = rig_disk("grow", DISK);
	cJSON *args = cJSON_Parse("{\"size\": 2097152}"), *ret = NULL;
	struct gw_error err = { 0 };
	uint8_t data[512];
	struct rig g;

	rig_begin(&g, &o, OWN);
	vdriver_isr(&g.d);
	cr_assert_eq(virtio_blk_driver.command(&g.d.v->device, "resize", args, &ret, &err), 0, "%s",
	             err.text);
	cr_assert_eq(vdriver_config(&g.d, BLK_CONFIG_CAPACITY, 8), 4096);
	cr_assert_eq(vdriver_isr(&g.d), 2);
	cr_assert_eq(rig_request(&g, IN, 4095, data, 512), OK);
	cJSON_Delete(args);
	args = cJSON_Parse("{\"size\": 512}");
	cr_assert_eq(virtio_blk_driver.command(&g.d.v->device, "resize", args, &ret, &err),
	             -EINVAL);
	cr_assert_eq(virtio_blk_driver.command(&g.d.v->device, "melt", args, &ret, &err),
	             -EOPNOTSUPP);
	cJSON_Delete(args);
	rig_end(&g);
}

Test(virtio_blk, a_disk_in_use_is_refused)
{
	const struct blk_options o = rig_disk("lock", DISK);
	struct vmachine *other = vmachine_new(8 * MIB);
	struct gw_error err = { 0 };
	struct rig g;

	rig_begin(&g, &o, OWN);
	cr_assert_null(vmachine_add(other, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_not_null(strstr(other->error, "in use"), "%s", other->error);
	/* A guest that is paused keeps it, */
	vmachine_pause(g.d.vm);
	cr_assert_null(vmachine_add(other, &virtio_blk_driver, &o, sizeof(o)));
	/* one that was handed over does not, and comes too late for it then. */
	machine_unclaim(g.d.vm->m);
	cr_assert_not_null(vmachine_add(other, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_eq(machine_claim(g.d.vm->m, &err), -EBUSY);
	cr_assert_not_null(strstr(err.text, "in use"), "%s", err.text);
	vmachine_free(other);
	cr_assert_eq(machine_claim(g.d.vm->m, &err), 0);
	rig_end(&g);
}

Test(virtio_blk, refuses_what_is_no_disk)
{
	struct vmachine *vm = vmachine_new(8 * MIB);
	struct blk_options o = rig_disk("odd", 1000);

	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_not_null(strstr(vm->error, "no multiple of 512"), "%s", vm->error);
	unlink(o.file);
	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_not_null(strstr(vm->error, "No such file"), "%s", vm->error);
	strcpy(o.file, "/dev/null");
	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_not_null(strstr(vm->error, "is a character device, not a file or a block device"),
	                   "%s", vm->error);
	/* Without a writer at its other end, which an open() would wait for. */
	snprintf(o.file, sizeof(o.file), "/tmp/godwit-no-disk-%d", getpid());
	cr_assert_eq(mkfifo(o.file, 0600), 0);
	o.read_only = true;
	cr_assert_null(vmachine_add(vm, &virtio_blk_driver, &o, sizeof(o)));
	cr_assert_not_null(strstr(vm->error, "is a FIFO, not a file"), "%s", vm->error);
	unlink(o.file);
	vmachine_free(vm);
}

Test(virtio_blk, moves_to_another_machine)
{
	const struct blk_options o = rig_disk("move", DISK);
	struct vmachine *there = vmachine_new(8 * MIB);
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	uint8_t data[512], back[512];
	struct device *device;
	struct rig g;

	rig_begin(&g, &o, OWN);
	rig_fill(data, sizeof(data), 3);
	cr_assert_eq(rig_request(&g, OUT, 5, data, 512), OK);
	vdriver_config_write(&g.d, BLK_CONFIG_WRITEBACK, 1, 0);
	vdriver_save(&g.d, &kept);
	there->m->incoming = true;
	device = vmachine_add(there, &virtio_blk_driver, &o, sizeof(o));
	cr_assert_not_null(device, "%s", there->error);
	cr_assert_eq(machine_claim(there->m, &err), -EBUSY);
	machine_unclaim(g.d.vm->m);
	cr_assert_eq(machine_claim(there->m, &err), 0, "%s", err.text);
	{
		struct rig h = g;

		cr_assert_eq(vdriver_load(&h.d, there, device, &g.d, &kept, &err), 0, "%s",
		             err.text);
		vmachine_run(there);
		cr_assert_eq(vdriver_config(&h.d, BLK_CONFIG_WRITEBACK, 1), 0);
		cr_assert_eq(rig_request(&h, IN, 5, back, 512), OK);
		cr_assert_eq(memcmp(back, data, 512), 0);
	}
	vmachine_free(there);
	rig_end(&g);
}

Test(virtio_blk, what_did_not_reach_the_disk_is_not_moved)
{
	const struct blk_options o = rig_disk("lost", DISK);
	struct gw_error err = { 0 };
	uint8_t data[512] = { 1 };
	struct participant *p;
	struct sink nowhere;
	struct rig g;

	rig_begin(&g, &o, OWN);
	p = &g.d.v->participant;
	cr_assert_eq(rig_request(&g, OUT, 0, data, 512), OK);
	rig_forbid(SYS_fdatasync, EIO);
	vmachine_pause(g.d.vm);
	cr_assert_eq(p->ops->save(p, &nowhere, &err), -EIO);
	cr_assert_not_null(strstr(err.text, "did not reach the disk"), "%s", err.text);
	rig_end(&g);
}

Test(virtio_blk, another_size_of_disk_is_refused)
{
	const struct blk_options o = rig_disk("from", DISK), small = rig_disk("to", DISK / 2);
	struct vmachine *there = vmachine_new(8 * MIB);
	struct gw_error err = { 0 };
	struct kept kept = { 0 };
	struct vdriver h;
	struct rig g;

	rig_begin(&g, &o, OWN);
	vdriver_save(&g.d, &kept);
	there->m->incoming = true;
	cr_assert_eq(vdriver_load(&h, there,
	                          vmachine_add(there, &virtio_blk_driver, &small, sizeof(small)),
	                          &g.d, &kept, &err),
	             -EINVAL);
	cr_assert_not_null(strstr(err.text, "2048 sectors"), "%s", err.text);
	vmachine_free(there);
	unlink(small.file);
	rig_end(&g);
}
