/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mem with its memory: saved, loaded, moved. */
#include "virtio_mem_driver.h"

static void both_ram(struct vdriver *from, struct vmachine *to, struct kept *records,
                     struct gw_error *err, int expected)
{
	struct participant *p = memory_participant(to->m->memory);
	int r;

	(void)from;
	ram_participant_init(to->m->memory);
	cr_assert_eq(p->ops->begin_load(p, err), 0);
	r = kept_load(records, p, err);
	if (!r)
		r = p->ops->settle(p, err);
	cr_assert_eq(r, expected, "%s", err->text);
}

/* What a destination would have of it. */
struct copy {
	struct kept kept;
	struct participant *to; /* NULL: only counted */
	uint64_t pages, above;
	unsigned calls_above;
	uint64_t end;
};

static int copy_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                      size_t count, struct gw_error *err)
{
	struct copy *c = container_of(sink, struct copy, kept.sink);

	(void)p;
	c->pages += count;
	if (gpa >= AT) {
		c->above += count;
		c->calls_above += gpa != c->end;
		c->end = gpa + count * PAGE_SIZE;
	}
	return c->to ? c->to->ops->load_pages(c->to, gpa, hva, count, err) : 0;
}

static const struct sink_ops copy_ops = { .record = kept_record, .pages = copy_pages };

static void save_ram(struct vdriver *d, struct copy *c, struct participant *to)
{
	struct participant *p = memory_participant(memory_of(d));
	struct gw_error err = { 0 };

	*c = (struct copy){ .kept.sink.ops = &copy_ops, .to = to };
	cr_assert_eq(p->ops->prepare(p, false, &err), 0);
	cr_assert_eq(p->ops->save(p, &c->kept.sink, &err), 0, "%s", err.text);
}

Test(virtio_mem_moved, only_what_is_there_is_saved)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver d;

	begin(&d);
	cr_assert_eq(ask(&d, PLUG, AT, 2), ACK);
	cr_assert_eq(ask(&d, PLUG, AT + 8 * BLOCK, 1), ACK);
	memset(at(&d, AT), 7, BLOCK);
	memset(at(&d, AT + 20 * BLOCK), 7, BLOCK); /* a guest that does what it may not */
	save_ram(&d, c, NULL);
	cr_assert_eq(c->kept.count, 1);
	cr_assert_eq(c->kept.records[0].len, 24 + 8);
	cr_assert_eq(c->kept.records[0].bytes[24], 3);
	cr_assert_eq(c->kept.records[0].bytes[25], 1);
	cr_assert_eq(c->above, 3 * BLOCK / PAGE_SIZE);
	cr_assert_eq(c->pages - c->above, RAM / PAGE_SIZE);
	cr_assert_eq(c->calls_above, 2);
	/* With many gaps they are filled: a snapshot has not as many ranges. */
	cr_assert_eq(request_size(&d, "{\"size\":67108864}", &err), 0);
	for (unsigned i = 10; i < 32; i += 2)
		cr_assert_eq(ask(&d, PLUG, AT + i * BLOCK, 1), ACK);
	save_ram(&d, c, NULL);
	cr_assert_eq(c->calls_above, 1);
	cr_assert_eq(c->above, 31 * BLOCK / PAGE_SIZE);
	free(c);
	vmachine_free(d.vm);
}

static struct vdriver arrive(struct vdriver *a, const struct options *o, struct kept *ram,
                             int expected, struct gw_error *err)
{
	struct vmachine *there = vmachine_new(RAM);
	struct device *device = vmachine_add(there, &virtio_mem_driver, o, sizeof(*o));
	struct kept *kept = malloc(sizeof(*kept));
	struct vdriver b;

	vdriver_save(a, kept);
	both_ram(a, there, ram, err, 0);
	cr_assert_eq(vdriver_load(&b, there, device, a, kept, err), expected, "%s", err->text);
	free(kept);
	return b;
}

Test(virtio_mem_moved, moves)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b;
	struct participant *p;
	uint8_t page[PAGE_SIZE];

	begin(&a);
	request_size(&a, "{\"size\":33554432}", &err);
	cr_assert_eq(ask(&a, PLUG, AT + BLOCK, 3), ACK);
	save_ram(&a, c, NULL);
	b = arrive(&a, &usual, &c->kept, 0, &err);
	vmachine_run(b.vm);
	cr_assert_eq(plugged(&b), 3 * BLOCK);
	cr_assert_eq(vdriver_config(&b, 48, 4), 32 * MIB);
	cr_assert_eq(state_of(&b, AT + BLOCK, 3), PLUGGED);
	cr_assert_eq(state_of(&b, AT + 4 * BLOCK, 5), UNPLUGGED);
	cr_assert_eq(ask(&b, PLUG, AT + 8 * BLOCK, 13), ACK);
	vmachine_free(b.vm);
	/* Pages of blocks that are there, and of others. */
	b.vm = vmachine_new(RAM);
	cr_assert_not_null(vmachine_add(b.vm, &virtio_mem_driver, &usual, sizeof(usual)));
	ram_participant_init(b.vm->m->memory);
	p = memory_participant(b.vm->m->memory);
	memset(page, 9, sizeof(page));
	cr_assert_eq(p->ops->begin_load(p, &err), 0);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, page, 1, &err), -EINVAL, "too early");
	cr_assert_eq(kept_load(&c->kept, p, &err), 0, "%s", err.text);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, page, 1, &err), 0);
	cr_assert_eq(p->ops->load_pages(p, AT, page, 1, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT, NULL, 1, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + 3 * BLOCK, NULL, 513, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + 3 * BLOCK, NULL, SIZE_MAX, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, NULL, 0, &err), -EINVAL);
	cr_assert_eq(at(&b, AT + BLOCK)[77], 9);
	cr_assert_eq(kept_load(&c->kept, p, &err), -EINVAL, "a second time");
	p->ops->discard(p);
	vmachine_free(b.vm);
	free(c);
	vmachine_free(a.vm);
}

Test(virtio_mem_moved, a_put_off_driver_hears_of_it_where_it_arrives)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b;

	begin(&a);
	vmachine_track(a.vm);
	memory_of(&a)->regions[1].dirty = calloc(region_words(&memory_of(&a)->regions[1]), 8);
	cr_assert_eq(ask(&a, PLUG, AT, 1), BUSY);
	vmachine_pause(a.vm);
	memory_of(&a)->tracking = false;
	save_ram(&a, c, NULL);
	b = arrive(&a, &usual, &c->kept, 0, &err);
	vdriver_isr(&b);
	vmachine_run(b.vm);
	vmachine_turn(b.vm);
	cr_assert_eq(vdriver_isr(&b) & 2, 2);
	cr_assert_eq(ask(&b, PLUG, AT, 1), ACK);
	free(c);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}

Test(virtio_mem_moved, state_that_does_not_fit)
{
	struct options o = usual;
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct kept *kept = malloc(sizeof(*kept));
	struct vmachine *there;
	struct device *device;
	struct vdriver a, b;
	uint8_t *bytes;

	begin(&a);
	cr_assert_eq(ask(&a, PLUG, AT, 2), ACK);
	save_ram(&a, c, NULL);
	vdriver_save(&a, kept);
	bytes = c->kept.records[0].bytes;
	/* RAM says something else than the device. */
	bytes[24] = 7;
	b = arrive(&a, &usual, &c->kept, -EINVAL, &err);
	cr_assert(strstr(err.text, "4194304 bytes plugged there, and 6291456 came"), "%s",
	          err.text);
	vmachine_free(b.vm);
	bytes[24] = 3;
	/* Another size, block, address; bits beyond the end; too long, too short, none. */
	for (unsigned i = 0; i < 7; i++) {
		struct kept_record r = c->kept.records[0];

		there = vmachine_new(RAM);
		o = usual;
		if (i == 0)
			o.size = 128 * MIB;
		else if (i == 1)
			o.block = 4 * MIB;
		else if (i == 2)
			o.address = 8 * GIB;
		else if (i == 3)
			bytes[28] = 1;
		else if (i == 4)
			c->kept.records[0].len -= 8;
		else if (i == 5)
			c->kept.records[0].len += 8;
		else
			c->kept.count = 0;
		cr_assert_not_null(vmachine_add(there, &virtio_mem_driver, &o, sizeof(o)));
		both_ram(&a, there, &c->kept, &err, -EINVAL);
		vmachine_free(there);
		c->kept.records[0] = r;
	}
	/* The device's: as large, elsewhere. */
	c->kept.count = 1;
	there = vmachine_new(RAM);
	o = (struct options){ .size = 64 * MIB, .address = 8 * GIB };
	device = vmachine_add(there, &virtio_mem_driver, &o, sizeof(o));
	cr_assert_eq(vdriver_load(&b, there, device, &a, kept, &err), -EINVAL);
	cr_assert(strstr(err.text, "address"), "%s", err.text);
	vmachine_free(there);
	free(kept);
	free(c);
	vmachine_free(a.vm);
}

Test(virtio_mem_moved, a_file_leaves_nothing_where_nothing_is_plugged)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b = { 0 };
	struct participant *p;
	int fd = memfd_create("snapshot", 0);
	uint8_t byte = 0x66;

	begin(&a);
	cr_assert_eq(ask(&a, PLUG, AT, 1), ACK);
	save_ram(&a, c, NULL);
	b.vm = vmachine_new(RAM);
	cr_assert_not_null(vmachine_add(b.vm, &virtio_mem_driver, &usual, sizeof(usual)));
	ram_participant_init(b.vm->m->memory);
	p = memory_participant(b.vm->m->memory);
	cr_assert_eq(ftruncate(fd, 3 * BLOCK), 0);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)(i * BLOCK)), 1);
	cr_assert_eq(p->ops->begin_load(p, &err), 0);
	cr_assert_eq(p->ops->map_file(p, AT, 3 * BLOCK, fd, 0, &err), 0, "%s", err.text);
	cr_assert_eq(at(&b, AT + 2 * BLOCK)[0], 0x66);
	cr_assert_eq(kept_load(&c->kept, p, &err), 0, "%s", err.text);
	cr_assert_eq(p->ops->settle(p, &err), 0, "%s", err.text);
	cr_assert_eq(at(&b, AT)[0], 0x66);
	cr_assert_eq(at(&b, AT + BLOCK)[0], 0);
	cr_assert_eq(at(&b, AT + 2 * BLOCK)[0], 0);
	cr_assert_eq(p->ops->map_file(p, AT + 63 * MIB, BLOCK, fd, 0, &err), -EINVAL);
	close(fd);
	free(c);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}
