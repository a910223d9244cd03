/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include "vmm/virtio/balloon.h"
#include "vmm/virtio/devices.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <sys/mman.h>

#define RAM (8 * MIB)

enum { INFLATE, DEFLATE, STATS, REPORTING };

struct options {
	bool deflate_on_oom, reporting;
};

static void begin(struct vdriver *d, uint64_t features)
{
	static const struct options o = { .deflate_on_oom = true, .reporting = true };
	struct vmachine *vm = vmachine_new(RAM);

	vdriver_begin(d, vm, vmachine_add(vm, &virtio_balloon_driver, &o, sizeof(o)), features);
}

struct wait {
	struct vdriver *d;
	unsigned queue;
	struct vused used;
};

static bool was_used(void *opaque)
{
	struct wait *w = opaque;

	return vdriver_used(w->d, w->queue, &w->used);
}

/* The device has a thread of its own. */
static void await(struct vdriver *d, unsigned queue)
{
	struct wait w = { .d = d, .queue = queue };

	cr_assert(vmachine_wait(d->vm, was_used, &w, patience_ms()));
	cr_assert_eq(w.used.len, 0);
}

static bool resident(struct vdriver *d, uint64_t gpa)
{
	unsigned char in_core = 0;

	cr_assert_eq(mincore(vmachine_at(d->vm, gpa), PAGE_SIZE, &in_core), 0);
	return in_core & 1;
}

static void touch(struct vdriver *d, uint64_t gpa, uint64_t len)
{
	memset(vmachine_at(d->vm, gpa), 0x5a, len);
}

static int command(struct vdriver *d, const char *name, const char *args, char **text,
                   struct gw_error *err)
{
	cJSON *parsed = cJSON_Parse(args), *ret = NULL;
	int r = virtio_balloon_driver.command(&d->v->device, name, parsed, &ret, err);

	*text = ret ? cJSON_PrintUnformatted(ret) : NULL;
	cJSON_Delete(ret);
	cJSON_Delete(parsed);
	return r;
}

Test(virtio_balloon, the_target_reaches_the_guest)
{
	struct gw_error err = { 0 };
	struct vdriver d;
	char *text;

	begin(&d, 0);
	cr_assert_eq(vdriver_offered(&d) & 63, 2 | 4 | 16 | 32);
	cr_assert_eq(vdriver_config(&d, 0, 4), 0);
	cr_assert_eq(command(&d, "balloon", "{\"value\":6291456}", &text, &err), 0);
	cr_assert_eq(vdriver_config(&d, 0, 4), 512);
	cr_assert_eq(vdriver_isr(&d) & 2, 2, "the configuration has changed");
	cr_assert_null(vmachine_event(d.vm, "BALLOON_CHANGE"));
	vdriver_config_write(&d, 4, 4, 100);
	cr_assert_str_eq(vmachine_event(d.vm, "BALLOON_CHANGE"), "{\"actual\":7979008}");
	cr_assert_eq(d.vm->event_count, 1);
	vdriver_config_write(&d, 4, 4, 100);
	cr_assert_eq(d.vm->event_count, 1, "told once");
	cr_assert_eq(command(&d, "query-balloon", "{}", &text, &err), 0);
	cr_assert_str_eq(text, "{\"actual\":7979008}");
	free(text);
	vdriver_config_write(&d, 4, 4, 0xffffffff);
	command(&d, "query-balloon", "{}", &text, &err);
	cr_assert_str_eq(text, "{\"actual\":0}", "no less than nothing");
	free(text);
	cr_assert_eq(command(&d, "balloon", "{\"value\":1e300}", &text, &err), 0);
	cr_assert_eq(vdriver_config(&d, 0, 4), 0);
	cr_assert_eq(command(&d, "balloon", "{\"value\":0}", &text, &err), -EINVAL);
	cr_assert_eq(command(&d, "balloon", "{\"value\":\"1\"}", &text, &err), -EINVAL);
	cr_assert_eq(command(&d, "balloon", "{}", &text, &err), -EINVAL);
	cr_assert_eq(command(&d, "deflate", "{}", &text, &err), -EOPNOTSUPP);
	vdriver_config_write(&d, 0, 4, 77);
	cr_assert_eq(vdriver_config(&d, 0, 4), 0, "the target is not the guest's");
	vmachine_free(d.vm);
}

Test(virtio_balloon, inflation_frees_pages)
{
	struct vdriver d;
	uint32_t pfns[300];
	const uint64_t base = 4 * MIB;

	begin(&d, 0);
	touch(&d, base, 2 * MIB);
	/* As Linux hands them over: in no order, some not RAM at all. */
	for (unsigned i = 0; i < 300; i++)
		pfns[i] = (uint32_t)((base >> 12) + 299 - i);
	pfns[7] = 0xffffffff;
	pfns[8] = RAM >> 12;
	vmachine_track(d.vm);
	vdriver_add_out(&d, INFLATE, pfns, sizeof(pfns));
	vdriver_kick(&d, INFLATE);
	await(&d, INFLATE);
	cr_assert(!resident(&d, base));
	cr_assert(!resident(&d, base + 299 * PAGE_SIZE));
	cr_assert(resident(&d, base + 300 * PAGE_SIZE));
	cr_assert(resident(&d, base + 292 * PAGE_SIZE), "not named");
	cr_assert(vmachine_dirty(d.vm, base), "the zeros have to be moved too");
	cr_assert(!vmachine_dirty(d.vm, base + 300 * PAGE_SIZE));
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base + 5 * PAGE_SIZE), 0);
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base + 300 * PAGE_SIZE), 0x5a);
	vdriver_add_out(&d, DEFLATE, pfns, sizeof(pfns));
	vdriver_kick(&d, DEFLATE);
	await(&d, DEFLATE);
	/* Odd lengths, and nothing at all to read. */
	vdriver_add_out(&d, INFLATE, pfns, 3);
	vdriver_add_in(&d, INFLATE, 64);
	vdriver_kick(&d, INFLATE);
	await(&d, INFLATE);
	await(&d, INFLATE);
	vmachine_free(d.vm);
}

Test(virtio_balloon, reported_pages_are_freed)
{
	struct vdriver d;
	const uint64_t base = 4 * MIB;

	begin(&d, BALLOON_F_PAGE_REPORTING | BALLOON_F_STATS_VQ);
	touch(&d, base, 2 * MIB);
	vdriver_add(&d, REPORTING,
	            (struct vbuf[]){ { base, 512 * KIB, true },
	                             { base + MIB + 100, 3 * PAGE_SIZE, true } },
	            2);
	vdriver_kick(&d, REPORTING);
	await(&d, REPORTING);
	cr_assert(!resident(&d, base));
	cr_assert(!resident(&d, base + 127 * PAGE_SIZE));
	cr_assert(resident(&d, base + 128 * PAGE_SIZE));
	cr_assert(resident(&d, base + MIB), "whole pages only");
	cr_assert(!resident(&d, base + MIB + PAGE_SIZE));
	cr_assert(!resident(&d, base + MIB + 2 * PAGE_SIZE));
	cr_assert(resident(&d, base + MIB + 3 * PAGE_SIZE));
	/* Drivers that count queues with gaps have it one further on. */
	vdriver_add(&d, 4, (struct vbuf[]){ { base + 512 * KIB, PAGE_SIZE, true } }, 1);
	vdriver_kick(&d, 4);
	await(&d, 4);
	cr_assert(!resident(&d, base + 128 * PAGE_SIZE));
	vmachine_free(d.vm);
}

Test(virtio_balloon, poisoned_pages_keep_their_contents)
{
	struct vdriver d;
	const uint64_t base = 4 * MIB;

	begin(&d, BALLOON_F_PAGE_REPORTING | BALLOON_F_STATS_VQ | BALLOON_F_PAGE_POISON);
	touch(&d, base, 2 * PAGE_SIZE);
	vdriver_config_write(&d, 12, 4, 0xaaaaaaaa);
	vdriver_add(&d, REPORTING, (struct vbuf[]){ { base, PAGE_SIZE, true } }, 1);
	vdriver_kick(&d, REPORTING);
	await(&d, REPORTING);
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base), 0x5a);
	vdriver_config_write(&d, 12, 4, 0);
	vdriver_add(&d, REPORTING, (struct vbuf[]){ { base, PAGE_SIZE, true } }, 1);
	vdriver_kick(&d, REPORTING);
	await(&d, REPORTING);
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base), 0);
	vmachine_free(d.vm);
}

Test(virtio_balloon, nothing_is_freed_while_memory_is_pinned)
{
	struct memory_listener pin = { 0 };
	struct vdriver d;
	const uint64_t base = 4 * MIB;
	uint32_t pfn = base >> 12;

	begin(&d, BALLOON_F_PAGE_REPORTING | BALLOON_F_STATS_VQ);
	touch(&d, base, 2 * PAGE_SIZE);
	memory_add_listener(d.vm->m->memory, &pin);
	cr_assert_eq(memory_discard(d.vm->m->memory, base, PAGE_SIZE), -EBUSY);
	vdriver_add_out(&d, INFLATE, &pfn, 4);
	vdriver_kick(&d, INFLATE);
	await(&d, INFLATE);
	vdriver_add(&d, REPORTING, (struct vbuf[]){ { base, PAGE_SIZE, true } }, 1);
	vdriver_kick(&d, REPORTING);
	await(&d, REPORTING);
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base), 0x5a);
	memory_remove_listener(d.vm->m->memory, &pin);
	vdriver_add_out(&d, INFLATE, &pfn, 4);
	vdriver_kick(&d, INFLATE);
	await(&d, INFLATE);
	cr_assert_eq(*(uint8_t *)vmachine_at(d.vm, base), 0);
	vmachine_free(d.vm);
}

struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

static bool has_stats(void *opaque)
{
	struct balloon *b = container_of(((struct vdriver *)opaque)->v, struct balloon, v);
	bool seen;

	pthread_mutex_lock(balloon_lock(b));
	seen = b->stats_seen;
	pthread_mutex_unlock(balloon_lock(b));
	return seen;
}

static void send_stats(struct vdriver *d, uint64_t free_memory)
{
	const struct stat_entry entries[] = { { 4, free_memory }, { 5, 777 }, { 99, 1 } };

	vdriver_add_out(d, STATS, entries, sizeof(entries));
	vdriver_kick(d, STATS);
	cr_assert(vmachine_wait(d->vm, has_stats, d, patience_ms()));
}

static bool is_at(void *opaque)
{
	struct wait *w = opaque;

	return vdriver_used(w->d, STATS, &w->used);
}

Test(virtio_balloon, statistics)
{
	struct gw_error err = { 0 };
	struct vdriver d;
	struct wait w = { .d = &d };
	char *text;

	begin(&d, BALLOON_F_STATS_VQ | VIRTIO_F_EVENT_IDX);
	cr_assert_eq(command(&d, "stats", "{}", &text, &err), 0);
	cr_assert_str_eq(text, "{\"stats\":{},\"last-update\":0}");
	free(text);
	send_stats(&d, 12345);
	cr_assert(!is_at(&w), "the buffer stays until new numbers are wanted");
	cr_assert_eq(command(&d, "stats", "{}", &text, &err), 0);
	cr_assert(strstr(text, "\"stat-free-memory\":12345,\"stat-total-memory\":777}"), "%s",
	          text);
	cr_assert_null(strstr(text, "\"last-update\":0"));
	free(text);
	cr_assert(is_at(&w), "which asking for them does");
	send_stats(&d, 22222);
	cr_assert_eq(command(&d, "set-polling-interval", "{\"interval\":1}", &text, &err), 0);
	cr_assert(vmachine_wait(d.vm, is_at, &w, patience_ms()), "by itself after a second");
	send_stats(&d, 33333);
	command(&d, "stats", "{}", &text, &err);
	cr_assert(strstr(text, "33333"), "%s", text);
	free(text);
	cr_assert_eq(command(&d, "set-polling-interval", "{\"interval\":0}", &text, &err), 0);
	cr_assert_eq(command(&d, "set-polling-interval", "{\"interval\":-1}", &text, &err),
	             -EINVAL);
	cr_assert_eq(command(&d, "set-polling-interval", "{\"interval\":1.5}", &text, &err),
	             -EINVAL);
	cr_assert_eq(command(&d, "set-polling-interval", "{\"interval\":1e9}", &text, &err),
	             -EINVAL);
	vmachine_free(d.vm);
}

Test(virtio_balloon, moves)
{
	static const struct options o = { .deflate_on_oom = true, .reporting = true };
	struct kept *kept = calloc(1, sizeof(*kept));
	struct vmachine *there = vmachine_new(RAM);
	struct gw_error err = { 0 };
	struct vdriver a, b;
	struct wait w = { .d = &b };
	char *text;

	begin(&a, BALLOON_F_STATS_VQ | BALLOON_F_DEFLATE_ON_OOM);
	command(&a, "balloon", "{\"value\":4194304}", &text, &err);
	vdriver_config_write(&a, 4, 4, 1000);
	send_stats(&a, 12345);
	vdriver_save(&a, kept);
	cr_assert_eq(vdriver_load(&b, there,
	                          vmachine_add(there, &virtio_balloon_driver, &o, sizeof(o)), &a,
	                          kept, &err),
	             0, "%s", err.text);
	vmachine_run(there);
	cr_assert_eq(vdriver_config(&b, 0, 4), 1024);
	cr_assert_eq(vdriver_config(&b, 4, 4), 1000);
	cr_assert(!is_at(&w));
	command(&b, "stats", "{}", &text, &err);
	cr_assert(strstr(text, "12345"), "%s", text);
	free(text);
	cr_assert(is_at(&w), "the buffer has come along");
	vmachine_free(there);
	/* And not where less is offered. */
	there = vmachine_new(RAM);
	cr_assert_eq(vdriver_load(&b, there,
	                          vmachine_add(there, &virtio_balloon_driver,
	                                       &(struct options){ 0 }, sizeof(o)),
	                          &a, kept, &err),
	             -ENOTSUP);
	cr_assert(strstr(err.text, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM"), "%s", err.text);
	vmachine_free(a.vm);
	vmachine_free(there);
	free(kept);
}

Test(virtio_balloon, hostile_state)
{
	struct gw_error err = { 0 };
	struct vdriver d;
	uint8_t bad[13 + 8 * BALLOON_STATS] = { 2 };
	struct bytes_reader in = { .data = bad, .len = sizeof(bad) };

	begin(&d, 0);
	vmachine_pause(d.vm);
	cr_assert_eq(d.v->ops->load(d.v, &in, &err), -EINVAL);
	bad[0] = 1;
	bad[4] = 1; /* the interval's highest byte */
	in = (struct bytes_reader){ .data = bad, .len = sizeof(bad) };
	cr_assert_eq(d.v->ops->load(d.v, &in, &err), -EINVAL);
	bad[4] = 0;
	in = (struct bytes_reader){ .data = bad, .len = sizeof(bad) };
	cr_assert_eq(d.v->ops->load(d.v, &in, &err), 0);
	cr_assert(bytes_all_taken(&in));
	vmachine_free(d.vm);
}
