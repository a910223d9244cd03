/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the test's own with a guest that checks every answer (tests/guests/doorbell.S):
 * saved, restored and migrated in the middle of it.
 */
#include "harness.h"

#include "base/util.h"
#include "vm_own_device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Far more than the guest gets to while it is saved and moved. */
#define LIMIT 30000
#define RAM_END (64ull << 20)

/* What the tests see of all devices of a VM. */
struct book {
	struct bell *last;
	unsigned created, destroyed, saved, loaded, resets;
	unsigned inside; /* calls that are under way: never more than one */
	uint32_t version;
	int fail_create, fail_load;
};

struct bell {
	struct book *book;
	struct gw_device *handle;
	uint64_t count, limit;
	bool may_act;
};

static void enter(struct bell *b)
{
	cr_assert_eq(__atomic_fetch_add(&b->book->inside, 1, __ATOMIC_SEQ_CST), 0);
}

static void leave(struct bell *b)
{
	__atomic_fetch_sub(&b->book->inside, 1, __ATOMIC_SEQ_CST);
}

static int bell_create(void *opaque, struct gw_device *handle, const char *options, void **device,
                       struct gw_error *err)
{
	struct book *book = opaque;
	struct bell *b;

	if (book->fail_create) {
		strcpy(err->text, "not today");
		return book->fail_create;
	}
	b = calloc(1, sizeof(*b));
	cr_assert(b);
	cr_assert_eq(sscanf(options, "{\"limit\":%lu}", &b->limit), 1, "options %s", options);
	b->book = book;
	b->handle = handle;
	book->last = b;
	book->created++;
	*device = b;
	return 0;
}

static void bell_destroy(void *device)
{
	struct bell *b = device;

	enter(b);
	cr_assert(!b->may_act, "destroyed while it may act");
	leave(b);
	b->book->destroyed++;
	b->book->last = NULL;
	free(b);
}

static void bell_reset(void *device)
{
	struct bell *b = device;

	enter(b);
	b->count = 0;
	b->book->resets++;
	leave(b);
}

static uint64_t bell_read(void *device, unsigned bar, uint64_t offset, unsigned size)
{
	struct bell *b = device;
	uint64_t value;

	enter(b);
	cr_assert(bar == 0 && offset + size <= 4096);
	/* Too much of it on purpose: the guest gets what it asked for. */
	value = offset == 0 ? b->count : offset == 0x10 ? b->limit : UINT64_MAX;
	leave(b);
	return value;
}

static void bell_write(void *device, unsigned bar, uint64_t offset, unsigned size, uint64_t value)
{
	struct bell *b = device;
	uint64_t before;

	(void)bar;
	enter(b);
	cr_assert(b->may_act, "a guest that stands has written");
	if (offset == 8 && size == 8) {
		cr_assert_eq(gw_device_read_memory(b->handle, value, &before, 8), 0);
		cr_assert_eq(before, b->count, "%lu and %lu", before, b->count);
		b->count++;
		cr_assert_eq(gw_device_write_memory(b->handle, value, &b->count, 8), 0);
		cr_assert_eq(gw_device_write_memory(b->handle, RAM_END - 4, &before, 8), -EFAULT);
		gw_device_raise(b->handle, 0);
		gw_device_raise(b->handle, 1); /* there is none */
	}
	leave(b);
}

static void bell_run(void *device)
{
	struct bell *b = device;

	enter(b);
	cr_assert(!b->may_act);
	b->may_act = true;
	leave(b);
}

static void bell_pause(void *device)
{
	struct bell *b = device;

	enter(b);
	cr_assert(b->may_act);
	b->may_act = false;
	leave(b);
}

static int bell_save(void *device, struct gw_state_out *out, struct gw_error *err)
{
	static const uint8_t padding[3 << 20]; /* more than one record */
	struct bell *b = device;
	uint64_t state[2] = { b->count, b->limit };

	enter(b);
	(void)err;
	cr_assert(!b->may_act, "saved while it may act");
	cr_assert_eq(gw_device_write_memory(b->handle, 0, state, 8), -EAGAIN);
	cr_assert_eq(gw_state_write(out, state, sizeof(state)), 0);
	cr_assert_eq(gw_state_write(out, padding, sizeof(padding)), 0);
	b->book->saved++;
	leave(b);
	return 0;
}

static int bell_load(void *device, uint32_t version, const void *data, size_t len,
                     struct gw_error *err)
{
	struct bell *b = device;
	uint64_t state[2];

	enter(b);
	b->book->version = version;
	cr_assert_eq(len, sizeof(state) + (3 << 20));
	memcpy(state, data, sizeof(state));
	b->count = state[0];
	b->limit = state[1];
	b->book->loaded++;
	if (b->book->fail_load)
		strcpy(err->text, "does not look right");
	leave(b);
	return b->book->fail_load;
}

static int bell_command(void *device, const char *name, const char *args, char **ret,
                        struct gw_error *err)
{
	struct bell *b = device;
	int r = 0;

	enter(b);
	if (!strcmp(name, "echo"))
		*ret = strdup(args);
	else if (!strcmp(name, "fail"))
		r = -EINVAL;
	else if (!strcmp(name, "lie"))
		*ret = strdup("no json");
	else
		r = -EOPNOTSUPP;
	if (r == -EINVAL)
		strcpy(err->text, "as you wish");
	leave(b);
	return r;
}

static char *bell_describe(void *device)
{
	struct bell *b = device;
	char *text = malloc(64);

	enter(b);
	snprintf(text, 64, "{\"count\":%lu}", b->count);
	leave(b);
	return text;
}

static struct gw_device_type bell_type(void)
{
	return (struct gw_device_type){
		.size = sizeof(struct gw_device_type),
		.name = "bell",
		.state_version = 2,
		.vendor = 0x1234,
		.device = 0x6777,
		.class_code = 0xff0000,
		.bars = { { .size = 4096 }, { .size = 16, .prefetch = true } },
		.vectors = 1,
		.create = bell_create,
		.destroy = bell_destroy,
		.reset = bell_reset,
		.read = bell_read,
		.write = bell_write,
		.run = bell_run,
		.pause = bell_pause,
		.save = bell_save,
		.load = bell_load,
		.command = bell_command,
		.describe = bell_describe,
	};
}

static struct guest *empty(struct book *book)
{
	const struct gw_device_type type = bell_type();
	struct guest *g = guest_new();
	struct gw_error err_;

	cr_assert(gw_vm_register_device_type(g->vm, &type, book, &err_) == 0, "%s", err_.text);
	return g;
}

static int configure(struct guest *g, unsigned limit, struct gw_error *err)
{
	char more[128];

	snprintf(more, sizeof(more),
	         "\"devices\":[{\"type\":\"bell\",\"id\":\"b0\",\"slot\":3,"
	         "\"options\":{\"limit\":%u}}]",
	         limit);
	return guest_configure(g, "doorbell", 1, 64, more, err);
}

static struct guest *boot(struct book *book, unsigned limit)
{
	struct guest *g = empty(book);
	struct gw_error err_;

	cr_assert(configure(g, limit, &err_) == 0, "%s", err_.text);
	return g;
}

/* Where it is now, it has never begun anew. */
static void expect_end(struct guest *g, unsigned limit)
{
	char want[32];

	guest_await_end(g);
	snprintf(want, sizeof(want), "%016x\n", limit);
	cr_assert(strstr(guest_output(g), want), "output \"%s\"", guest_output(g));
	cr_assert(!strchr(guest_output(g), 'E'), "output \"%s\"", guest_output(g));
	cr_assert(!strstr(g->events, "RESET"), "events %s", g->events);
}

Test(own_device, every_ring_is_answered_once)
{
	struct book book = { 0 };
	struct guest *g = boot(&book, 3000);
	struct gw_error err_;
	char *json;

	cr_assert(book.created == 1 && !strcmp(gw_device_id(book.last->handle), "b0"));
	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	expect_end(g, 3000);
	cr_assert(gw_vm_query_devices(g->vm, &json, &err_) == 0);
	cr_assert_str_eq(
	        json, "[{\"id\":\"b0\",\"type\":\"bell\",\"slot\":3,\"info\":{\"count\":3000}}]");
	gw_free(json);
	cr_assert(gw_vm_query_config(g->vm, &json, &err_) == 0);
	cr_assert(strstr(json, "\"options\":{\"limit\":3000}"), "%s", json);
	gw_free(json);
	guest_free(g);
	cr_assert_eq(book.destroyed, 1);
}

Test(own_device, reset_puts_it_back)
{
	struct book book = { 0 };
	struct guest *g = boot(&book, 500);
	struct gw_error err_;
	unsigned resets;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	usleep(20000);
	cr_assert(gw_vm_stop(g->vm, &err_) == 0);
	resets = book.resets;
	gw_device_raise(book.last->handle, 0); /* is forgotten, or would be one too many */
	cr_assert(gw_vm_reset(g->vm, &err_) == 0, "%s", err_.text);
	cr_assert_eq(book.resets, resets + 1);
	guest_await_event(g, "RESET ");
	g->events[0] = 0;
	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	expect_end(g, 500);
	guest_free(g);
}

static struct guest *restore(struct guest *from, struct book *book)
{
	struct guest *g = empty(book);
	struct gw_map map = { "serial.log", NULL };
	struct gw_error err_;
	char dir[128], log[128];

	snprintf(dir, sizeof(dir), "%s/snap", from->dir);
	snprintf(log, sizeof(log), "%s/out", g->dir);
	map.value = log;
	cr_assert(gw_vm_restore(g->vm, dir, &map, 1, false, &err_) == 0, "%s", err_.text);
	return g;
}

/* Lets it run for that many rings, and some more, however long they take. */
static void run_rings(struct guest *g, struct book *book, uint64_t rings)
{
	const uint64_t end = book->last->count + rings;

	cr_assert_eq(gw_vm_cont(g->vm, false, NULL), 0);
	wait_turning(__atomic_load_n(&book->last->count, __ATOMIC_RELAXED) >= end, usleep(100),
	             "nobody rings");
	cr_assert_eq(gw_vm_stop(g->vm, NULL), 0, "it ended early: %s", guest_output(g));
}

Test(own_device, saved_and_restored_while_in_use)
{
	const unsigned limit = 6000;
	struct book books[6] = { 0 };
	struct guest *g = boot(&books[0], limit);
	unsigned seed = 3;

	for (unsigned i = 1; i < ARRAY_SIZE(books); i++) {
		struct guest *h;

		run_rings(g, &books[i - 1], 100 + next_random(&seed, 1000));
		guest_save(g);
		h = restore(g, &books[i]);
		cr_assert(books[i].last->count == books[i - 1].last->count &&
		          books[i].version == 2);
		guest_free(g);
		g = h;
	}
	cr_assert(gw_vm_cont(g->vm, false, NULL) == 0);
	expect_end(g, limit);
	guest_free(g);
	for (unsigned i = 0; i < ARRAY_SIZE(books); i++)
		cr_assert(books[i].created == 1 && books[i].destroyed == 1, "%u", i);
}

Test(own_device, an_interrupt_raised_while_the_guest_stands_comes_along)
{
	struct book books[2] = { 0 };
	struct guest *g = boot(&books[0], LIMIT), *h;

	guest_run_us(g, 10000);
	gw_device_raise(books[0].last->handle, 0);
	guest_save(g);
	h = restore(g, &books[1]);
	cr_assert(books[0].last->handle->waiting == 1 && books[1].last->handle->waiting == 1);
	cr_assert(gw_vm_cont(h->vm, false, NULL) == 0);
	cr_assert_eq(books[1].last->handle->waiting, 0);
	guest_free(g);
	guest_free(h);
}

static void begin_migration(struct guest *from, struct guest *to)
{
	struct gw_map map = { "serial.log", NULL };
	struct gw_error err_;
	char uri[128], log[128];

	snprintf(uri, sizeof(uri), "unix:%s/mig", to->dir);
	snprintf(log, sizeof(log), "%s/out", to->dir);
	map.value = log;
	cr_assert(gw_vm_incoming(to->vm, uri, &map, 1, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_migrate(from->vm, uri, &err_) == 0, "%s", err_.text);
}

Test(own_device, moved_while_in_use)
{
	struct book books[5] = { 0 };
	struct guest *g = boot(&books[0], LIMIT);
	char said[2048];

	cr_assert(gw_vm_cont(g->vm, false, NULL) == 0);
	guest_await(g, "S\n");
	for (unsigned i = 1; i < ARRAY_SIZE(books); i++) {
		struct guest *h = empty(&books[i]);

		usleep(5000);
		begin_migration(g, h);
		guest_await_migrated(g, said, sizeof(said));
		cr_assert(strstr(said, "completed"), "%s", said);
		cr_assert_eq(books[i].loaded, 1);
		guest_free(g);
		g = h;
	}
	expect_end(g, LIMIT);
	guest_free(g);
}

Test(own_device, a_refused_state_leaves_the_guest_where_it_is)
{
	struct book here = { 0 }, there = { .fail_load = -EBADMSG };
	struct guest *g = boot(&here, LIMIT), *h = empty(&there);
	char said[2048];

	cr_assert(gw_vm_cont(g->vm, false, NULL) == 0);
	guest_await(g, "S\n");
	begin_migration(g, h);
	guest_await_behind(g, "STOP ", "RESUME ");
	wait_until(gw_vm_state(g->vm) == GW_STATE_RUNNING);
	guest_await_migrated(g, said, sizeof(said));
	cr_assert(strstr(said, "b0") && strstr(said, "does not look right"), "%s", said);
	expect_end(g, LIMIT);
	cr_assert_eq(there.destroyed, there.created);
	guest_free(g);
	guest_free(h);
}

Test(own_device, plugged_and_unplugged)
{
	struct book book = { 0 };
	struct guest *g = boot(&book, 100);
	const char *second = "{\"type\":\"bell\",\"id\":\"b1\",\"options\":{\"limit\":7}}";
	struct bell *first = book.last;
	struct gw_error err_;

	cr_assert(gw_vm_device_add(g->vm, second, &err_) == 0, "%s", err_.text);
	cr_assert_eq(gw_vm_device_add(g->vm, second, &err_), -EEXIST);
	cr_assert(gw_vm_device_del(g->vm, "b1", &err_) == 0 && book.destroyed == 1);
	guest_await_event(g, "DEVICE_DELETED");
	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0);
	cr_assert(gw_vm_device_add(g->vm, second, &err_) == 0, "%s", err_.text);
	cr_assert(book.last != first && book.last->may_act, "the guest runs already");
	guest_await_end(g);
	guest_free(g);
	cr_assert_eq(book.destroyed, book.created);
}

Test(own_device, a_device_that_cannot_be_made_is_named)
{
	struct book book = { .fail_create = -ENODEV };
	struct guest *g = empty(&book);
	struct gw_error err_;

	cr_assert_eq(configure(g, 1, &err_), -ENODEV);
	cr_assert(strstr(err_.text, "device b0: create: not today"), "%s", err_.text);
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_EMPTY);
	guest_free(g);
	cr_assert_eq(book.destroyed, 0);
}

Test(own_device, commands)
{
	struct book book = { 0 };
	struct guest *g = boot(&book, 100);
	struct gw_error err_;
	char *ret = NULL;

	cr_assert(gw_vm_device_command(g->vm, "b0", "echo", "{\"a\":1}", &ret, &err_) == 0, "%s",
	          err_.text);
	cr_assert_str_eq(ret, "{\"a\":1}");
	gw_free(ret);
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "fail", NULL, NULL, &err_), -EINVAL);
	cr_assert(strstr(err_.text, "as you wish"), "%s", err_.text);
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "lie", NULL, NULL, &err_), -EPROTO);
	cr_assert_eq(gw_vm_device_command(g->vm, "b0", "what", NULL, NULL, &err_), -EOPNOTSUPP);
	guest_free(g);
}

/* ---- a state that means harm ---------------------------------------------------------------- */

struct kept {
	struct sink sink;
	unsigned count;
	uint16_t type[8];
	size_t len[8];
	uint8_t *data[8];
};

static int keep(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct kept *k = container_of(sink, struct kept, sink);

	(void)p;
	(void)body;
	(void)err;
	cr_assert(k->count < 8 && !body_len && head_len <= RECORD_MAX);
	k->type[k->count] = type;
	k->len[k->count] = head_len;
	k->data[k->count] = malloc(head_len);
	memcpy(k->data[k->count++], head, head_len);
	return 0;
}

/* The records as they are now, into a device that stands. */
static int take(struct participant *p, const struct kept *k, struct gw_error *err)
{
	int r = p->ops->begin_load(p, err);

	for (unsigned i = 0; i < k->count && !r; i++)
		r = p->ops->load(p, 1, k->type[i], k->data[i], k->len[i], err);
	if (!r)
		r = p->ops->settle(p, err);
	p->ops->discard(p);
	return r;
}

Test(own_device, a_spoilt_state_is_refused)
{
	static const struct sink_ops ops = { .record = keep };
	static const struct {
		unsigned at;
		uint8_t value;
		const char *word;
	} rows[] = {
		{ 0, 3, "version 3" },  { 0, 0, "version 0" },  { 4, 0xff, "announced" },
		{ 11, 1, "announces" }, { 12, 2, "2 vectors" }, { 16, 2, "raised: 0x2" },
		{ 20, 1, "0x0" },
	};
	struct kept k = { .sink.ops = &ops };
	struct book book = { 0 };
	struct guest *g = boot(&book, 100);
	struct participant *p = participant_find(&g->vm->machine->participants, "b0");
	struct gw_error err_;
	unsigned loads;

	cr_assert(p && p->ops->save(p, &k.sink, &err_) == 0, "%s", err_.text);
	cr_assert_eq(k.count, 5, "the core, and 3 MiB and a bit");
	cr_assert(take(p, &k, &err_) == 0, "%s", err_.text);
	loads = book.loaded;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint8_t before = k.data[0][rows[i].at];

		k.data[0][rows[i].at] = rows[i].value;
		cr_assert(take(p, &k, &err_) < 0, "%u", i);
		cr_assert(strstr(err_.text, rows[i].word), "%u: %s", i, err_.text);
		k.data[0][rows[i].at] = before;
	}
	k.len[0]--;
	cr_assert_eq(take(p, &k, &err_), -EINVAL, "a byte of MSI-X is missing");
	k.len[0] = 3;
	cr_assert_eq(take(p, &k, &err_), -EINVAL);
	k.type[0] = 2;
	cr_assert_eq(take(p, &k, &err_), -EINVAL, "data come first");
	k.count = 0;
	cr_assert_eq(take(p, &k, &err_), -EINVAL, "nothing comes");
	cr_assert_eq(book.loaded, loads, "the device itself was never asked");
	for (unsigned i = 0; i < 5; i++)
		free(k.data[i]);
	guest_free(g);
}
