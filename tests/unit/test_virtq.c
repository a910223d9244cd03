/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues against a driver written here from the specification, for both
 * layouts: random traffic in which nothing may be lost, doubled or altered and
 * no wake-up missed; then a driver that lies.
 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory_internal.h"
#include "vmm/virtio/virtq.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define RAM (1 * MIB)
#define DESC 0x1000
#define DRIVER 0x8000
#define DEVICE 0xc000
#define TABLES 0x10000 /* indirect tables: one of 16 entries for each id */
#define DATA 0x40000
#define IDS 1024

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t a, b; /* split: flags, next; packed: id, flags */
};

struct rig {
	struct memory mem;
	uint8_t *ram;
	struct virtq q;
	bool packed, event_idx, indirect;
	uint16_t size;
	/* driver */
	uint16_t avail_idx, used_idx; /* packed: places */
	bool avail_wrap, used_wrap;
	uint16_t free_slots;
	uint16_t free_ids[IDS];
	unsigned free_id_count;
	struct {
		bool out;
		unsigned slots, in_len, out_len;
		uint32_t seed;
		uint16_t first_desc[16];
		unsigned descs;
	} chain[IDS];
	uint16_t desc_free[IDS];
	unsigned desc_free_count;
	uint32_t random;
};

static uint32_t rnd(struct rig *g, uint32_t below)
{
	g->random = g->random * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(g->random >> 4) % below);
}

static void *at(struct rig *g, uint64_t gpa)
{
	return g->ram + gpa;
}

static struct rig *rig_new(bool packed, bool event_idx, bool indirect, uint16_t size)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct gw_error err = { 0 };

	cr_assert_not_null(g);
	g->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(g->ram, MAP_FAILED);
	pthread_mutex_init(&g->mem.lock, NULL);
	g->mem.size = RAM;
	g->mem.region_count = 1;
	g->mem.regions[0] = (struct ram_region){ .size = RAM, .hva = g->ram, .fd = -1 };
	g->packed = packed;
	g->event_idx = event_idx;
	g->indirect = indirect;
	g->size = g->free_slots = size;
	g->avail_wrap = g->used_wrap = true;
	g->random = 7 + size;
	for (unsigned i = 0; i < size; i++) {
		g->free_ids[g->free_id_count++] = (uint16_t)i;
		g->desc_free[g->desc_free_count++] = (uint16_t)i;
	}
	g->q.memory = &g->mem;
	g->q.max_size = size;
	virtq_reset(&g->q);
	g->q.desc = DESC;
	g->q.driver = DRIVER;
	g->q.device = DEVICE;
	cr_assert_eq(virtq_enable(&g->q, packed, event_idx, indirect, &err), 0, "%s", err.text);
	return g;
}

static void rig_free(struct rig *g)
{
	munmap(g->ram, RAM);
	pthread_mutex_destroy(&g->mem.lock);
	free(g);
}

/* ---- the driver ------------------------------------------------------------------------- */

static struct desc *ring_desc(struct rig *g, unsigned i)
{
	return (struct desc *)at(g, DESC) + i;
}

static uint16_t *avail16(struct rig *g, unsigned word)
{
	return (uint16_t *)at(g, DRIVER) + word;
}

static uint16_t *used16(struct rig *g, unsigned word)
{
	return (uint16_t *)at(g, DEVICE) + word;
}

struct piece {
	uint64_t gpa;
	uint32_t len;
	bool in;
};

static uint16_t packed_flags(bool wrap, uint16_t flags)
{
	return flags | (wrap ? AVAIL : USED);
}

static void add_split(struct rig *g, uint16_t id, const struct piece *p, unsigned n, bool table)
{
	struct desc *t = table ? at(g, TABLES + id * 256ull) : NULL;
	uint16_t head = g->desc_free[g->desc_free_count - 1], last = 0;

	g->chain[id].descs = 0;
	for (unsigned i = 0; i < n; i++) {
		struct desc d = { p[i].gpa, p[i].len,
			          (uint16_t)((p[i].in ? WRITE : 0) | (i + 1 < n ? NEXT : 0)),
			          (uint16_t)(i + 1) };

		if (table) {
			t[i] = d;
			continue;
		}
		last = g->desc_free[--g->desc_free_count];
		g->chain[id].first_desc[g->chain[id].descs++] = last;
		if (i + 1 < n)
			d.b = g->desc_free[g->desc_free_count - 1];
		*ring_desc(g, last) = d;
	}
	if (table) {
		head = g->desc_free[--g->desc_free_count];
		g->chain[id].first_desc[g->chain[id].descs++] = head;
		*ring_desc(g, head) = (struct desc){ TABLES + id * 256ull, n * 16, INDIRECT, 0 };
	}
	g->chain[id].slots = 1;
	*avail16(g, 2 + g->avail_idx % g->size) = head;
	g->avail_idx++;
	__atomic_store_n(avail16(g, 1), g->avail_idx, __ATOMIC_RELEASE);
}

static void add_packed(struct rig *g, uint16_t id, const struct piece *p, unsigned n, bool table)
{
	struct desc *t = table ? at(g, TABLES + id * 256ull) : NULL;
	const unsigned slots = table ? 1 : n, first = g->avail_idx;
	uint16_t first_flags = 0;

	for (unsigned i = 0; table && i < n; i++)
		t[i] = (struct desc){ p[i].gpa, p[i].len, 0, p[i].in ? WRITE : 0 };
	for (unsigned i = 0; i < slots; i++) {
		struct desc *d = ring_desc(g, g->avail_idx);
		uint16_t flags = (uint16_t)((p[i].in ? WRITE : 0) | (i + 1 < n ? NEXT : 0));

		if (table) {
			d->addr = TABLES + id * 256ull;
			d->len = n * 16;
			flags = INDIRECT;
		} else {
			d->addr = p[i].gpa;
			d->len = p[i].len;
		}
		d->a = id;
		flags = packed_flags(g->avail_wrap, flags);
		if (i)
			d->b = flags;
		else
			first_flags = flags;
		if (++g->avail_idx == g->size) {
			g->avail_idx = 0;
			g->avail_wrap = !g->avail_wrap;
		}
	}
	g->chain[id].slots = slots;
	ring_desc(g, first)->b = first_flags;
}

/* Makes a chain of `n` pieces available whose data are known by `seed`. */
static bool add_random(struct rig *g)
{
	const unsigned out = rnd(g, 3), in = rnd(g, 3) + (out ? 0 : 1), n = out + in;
	const bool table = g->indirect && rnd(g, 2);
	const unsigned need = table ? 1 : n;
	struct piece p[8];
	uint16_t id;

	if (!g->free_id_count || g->free_slots < need || (!g->packed && g->desc_free_count < need))
		return false;
	id = g->packed ? g->free_ids[--g->free_id_count] : g->desc_free[g->desc_free_count - 1];
	g->chain[id].out = true;
	g->chain[id].seed = g->random;
	g->chain[id].in_len = g->chain[id].out_len = 0;
	for (unsigned i = 0; i < n; i++) {
		p[i] = (struct piece){ DATA + id * 512ull + i * 64, 1 + rnd(g, 60), i >= out };
		if (p[i].in)
			g->chain[id].in_len += p[i].len;
		else
			g->chain[id].out_len += p[i].len;
		for (unsigned k = 0; k < p[i].len; k++)
			((uint8_t *)at(g, p[i].gpa))[k] = (uint8_t)(p[i].in ? 0 : id + k + i);
	}
	if (g->packed)
		add_packed(g, id, p, n, table);
	else
		add_split(g, id, p, n, table);
	g->free_slots -= (uint16_t)need;
	g->chain[id].slots = need;
	return true;
}

/* The next used buffer's id, or -1. */
static int take_used(struct rig *g, uint32_t *len)
{
	if (g->packed) {
		struct desc *d = ring_desc(g, g->used_idx);
		const uint16_t flags = __atomic_load_n(&d->b, __ATOMIC_ACQUIRE);
		int id = d->a;

		if (!!(flags & AVAIL) != g->used_wrap || !!(flags & USED) != g->used_wrap)
			return -1;
		*len = d->len;
		cr_assert_lt(id, g->size);
		g->used_idx = (uint16_t)(g->used_idx + g->chain[id].slots);
		if (g->used_idx >= g->size) {
			g->used_idx = (uint16_t)(g->used_idx - g->size);
			g->used_wrap = !g->used_wrap;
		}
		return id;
	}
	if (__atomic_load_n(used16(g, 1), __ATOMIC_ACQUIRE) == g->used_idx)
		return -1;
	{
		const uint32_t *e = (uint32_t *)(used16(g, 2) + 4 * (g->used_idx % g->size));

		g->used_idx++;
		*len = e[1];
		return (int)e[0];
	}
}

/* Takes all that is used; each must be out, once, with the length and bytes that were written. */
static unsigned collect(struct rig *g)
{
	unsigned count = 0;
	uint32_t len;
	int id;

	while ((id = take_used(g, &len)) >= 0) {
		cr_assert(g->chain[id].out, "buffer %d came back twice", id);
		cr_assert_eq(len, g->chain[id].in_len);
		g->chain[id].out = false;
		g->free_slots += (uint16_t)g->chain[id].slots;
		if (g->packed)
			g->free_ids[g->free_id_count++] = (uint16_t)id;
		for (unsigned i = g->packed ? 0 : g->chain[id].descs; i > 0; i--)
			g->desc_free[g->desc_free_count++] = g->chain[id].first_desc[i - 1];
		for (uint32_t k = 0, done = 0; done < len && k < 512; k++) {
			/* Pieces lie 64 bytes apart; what was written is 0xa5 and never 0. */
			if (*(uint8_t *)at(g, DATA + (uint64_t)id * 512 + k) == 0xa5)
				done++;
			cr_assert(k < 511 || done + 1 >= len);
		}
		count++;
	}
	return count;
}

/* 2.7.7, 2.8.10: the driver wants to hear when `ahead` places more than it has seen were used, and
 * the next one; without the event index, of the next one. */
static void driver_waits(struct rig *g, unsigned ahead)
{
	unsigned place = g->used_idx + ahead;

	if (g->packed) {
		const bool wrap = g->used_wrap != (place >= g->size);

		avail16(g, 0)[0] = (uint16_t)(place % g->size | (wrap ? 1u << 15 : 0));
		avail16(g, 0)[1] = g->event_idx ? 2 : 0;
	} else if (g->event_idx) {
		*avail16(g, 2u + g->size) = (uint16_t)place;
	} else {
		*avail16(g, 0) = 0;
	}
}

/* Must the driver kick, having added from `old` on? 2.7.10, 2.8.10. */
static bool must_kick(struct rig *g, uint16_t old, bool old_wrap)
{
	uint16_t off, flags;

	if (!g->packed && !g->event_idx)
		return !(*used16(g, 0) & 1);
	if (!g->packed) {
		off = *used16(g, 2u + 4u * g->size);
		return (uint16_t)(g->avail_idx - off - 1) < (uint16_t)(g->avail_idx - old);
	}
	off = used16(g, 0)[0];
	flags = used16(g, 0)[1];
	if (flags < 2)
		return flags == 0;
	{
		const bool wrap = off >> 15;
		int event = off & 0x7fff, now = g->avail_idx;

		if (wrap != g->avail_wrap)
			event -= g->size;
		(void)old_wrap;
		(void)old;
		return (uint16_t)(now - event - 1) <
		       (uint16_t)(now - (old_wrap != g->avail_wrap ? old - g->size : old));
	}
}

/* ---- the device -------------------------------------------------------------------------- */

struct held {
	struct virtq_chain c;
	bool used;
};

static void work_on(struct virtq_chain *c)
{
	uint8_t data[512];
	const size_t n = virtq_chain_read(c, 0, data, sizeof(data));

	cr_assert_eq(n, c->out_len);
	memset(data, 0xa5, sizeof(data));
	cr_assert_eq(virtq_chain_write(c, 0, data, c->in_len), c->in_len);
}

static void traffic(bool packed, bool event_idx, bool indirect, uint16_t size, unsigned steps)
{
	struct rig *g = rig_new(packed, event_idx, indirect, size);
	struct held held[8] = { 0 };
	bool device_sleeps = false, driver_sleeps = false;
	unsigned added = 0, returned = 0, awaited = 0, used = 0;

	for (unsigned step = 0; step < steps; step++) {
		const uint16_t old = g->avail_idx;
		const bool old_wrap = g->avail_wrap;
		unsigned what = rnd(g, 4);

		if (what == 0) {
			unsigned n = 0;

			while (n < 1 + rnd(g, 3) && add_random(g))
				n++;
			added += n;
			if (n && must_kick(g, old, old_wrap))
				device_sleeps = false;
			cr_assert(!(n && device_sleeps), "step %u: the device sleeps on", step);
		} else if (what == 1 && !device_sleeps) {
			struct held *h = &held[rnd(g, ARRAY_SIZE(held))];
			int r = h->used ? 0 : virtq_pop(&g->q, &h->c);

			cr_assert_geq(r, 0, "%s", g->q.broken);
			if (r > 0 && rnd(g, 8) == 0) {
				virtq_unpop(&g->q, &h->c);
			} else if (r > 0) {
				work_on(&h->c);
				h->used = true;
			} else if (!h->used) {
				device_sleeps = !virtq_kicks_on(&g->q);
			} else {
				virtq_kicks_off(&g->q);
			}
		} else if (what == 2) {
			for (unsigned i = 0; i < ARRAY_SIZE(held); i++) {
				if (!held[i].used || rnd(g, 2))
					continue;
				virtq_fill(&g->q, &held[i].c, (uint32_t)held[i].c.in_len);
				held[i].used = false;
				used += held[i].c.slots;
			}
			if (virtq_publish(&g->q))
				driver_sleeps = false;
			cr_assert(!(used > awaited && driver_sleeps),
			          "step %u: the driver sleeps on", step);
		} else if (what == 3 && !driver_sleeps) {
			returned += collect(g);
			awaited = packed ? (unsigned)(size - g->free_slots) : added - returned;
			awaited = event_idx && awaited ? rnd(g, awaited) : 0;
			driver_waits(g, awaited);
			used = 0;
			driver_sleeps = true;
		}
	}
	cr_assert_gt(returned, steps / 50, "%u of %u buffers came back", returned, added);
	for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
		virtq_chain_free(&held[i].c);
	rig_free(g);
}

Test(virtq, split_traffic)
{
	for (unsigned bits = 0; bits < 4; bits++)
		for (uint16_t size = 1; size <= 256; size = (uint16_t)(size * 4))
			traffic(false, bits & 1, bits & 2, MAX(size, (uint16_t)4), 40000);
}

Test(virtq, packed_traffic)
{
	static const uint16_t sizes[] = { 4, 5, 7, 64, 256 };

	for (unsigned bits = 0; bits < 4; bits++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			traffic(true, bits & 1, bits & 2, sizes[i], 40000);
}

/* ---- a position goes elsewhere ------------------------------------------------------------- */

static void move(bool packed)
{
	struct rig *g = rig_new(packed, true, true, 8);
	struct virtq_chain c = { 0 };
	struct bytes state = { 0 };
	struct bytes_reader in;
	struct gw_error err = { 0 };

	for (unsigned i = 0; i < 1000; i++) {
		struct virtq old = g->q;

		while (add_random(g))
			;
		for (unsigned n = rnd(g, 4); n > 0 && virtq_pop(&g->q, &c) > 0; n--) {
			work_on(&c);
			virtq_push(&g->q, &c, (uint32_t)c.in_len);
		}
		collect(g);
		old = g->q;
		virtq_save(&g->q, &state);
		virtq_reset(&g->q);
		g->q.desc = old.desc;
		g->q.driver = old.driver;
		g->q.device = old.device;
		cr_assert_eq(virtq_enable(&g->q, packed, true, true, &err), 0);
		in = (struct bytes_reader){ .data = state.data, .len = state.len };
		cr_assert_eq(virtq_load(&g->q, &in, &err), 0, "%s", err.text);
		cr_assert(bytes_all_taken(&in));
		cr_assert_eq(g->q.next_avail, old.next_avail);
		cr_assert_eq(g->q.avail_wrap, old.avail_wrap);
		bytes_free(&state);
	}
	virtq_chain_free(&c);
	rig_free(g);
}

Test(virtq, split_moves)
{
	move(false);
}

Test(virtq, packed_moves)
{
	move(true);
}

Test(virtq, positions_that_cannot_be)
{
	static const struct {
		bool packed;
		uint8_t bytes[5];
	} wrong[] = {
		{ false, { 1, 0, 2, 0, 3 } }, { false, { 0, 0, 0, 0, 7 } },
		{ true, { 8, 0, 8, 0, 3 } },  { true, { 1, 0, 2, 0, 3 } },
		{ true, { 0, 0, 0, 0, 1 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct rig *g = rig_new(wrong[i].packed, true, true, 8);
		struct bytes_reader in = { .data = wrong[i].bytes, .len = 5 };
		struct gw_error err = { 0 };

		cr_assert_eq(virtq_load(&g->q, &in, &err), -EINVAL, "row %zu", i);
		rig_free(g);
	}
}

/* ---- a driver that lies ---------------------------------------------------------------------- */

struct lie {
	const char *what;
	bool packed;
	const char *text; /* part of the reason */
	void (*tell)(struct rig *g);
};

static void offer_split(struct rig *g, uint16_t head)
{
	*avail16(g, 2) = head;
	*avail16(g, 1) = 1;
}

static void offer_packed(struct rig *g, struct desc d)
{
	d.b |= AVAIL;
	*ring_desc(g, 0) = d;
}

static void head_outside(struct rig *g)
{
	offer_split(g, 8);
}

static void next_outside(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ DATA, 16, NEXT, 999 };
	offer_split(g, 0);
}

static void loop_of_two(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ DATA, 16, NEXT, 1 };
	*ring_desc(g, 1) = (struct desc){ DATA, 16, NEXT, 0 };
	offer_split(g, 0);
}

static void loop_in_table(struct rig *g)
{
	struct desc *t = at(g, TABLES);

	t[0] = (struct desc){ DATA, 16, NEXT, 0 };
	*ring_desc(g, 0) = (struct desc){ TABLES, 64, INDIRECT, 0 };
	offer_split(g, 0);
}

static void table_in_table(struct rig *g)
{
	struct desc *t = at(g, TABLES);

	t[0] = (struct desc){ TABLES, 16, INDIRECT, 0 };
	*ring_desc(g, 0) = (struct desc){ TABLES, 64, INDIRECT, 0 };
	offer_split(g, 0);
}

static void table_odd(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ TABLES, 17, INDIRECT, 0 };
	offer_split(g, 0);
}

static void table_outside(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ RAM - 16, 32, INDIRECT, 0 };
	offer_split(g, 0);
}

static void table_huge(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ TABLES, 0xfffffff0u, INDIRECT, 0 };
	offer_split(g, 0);
}

static void table_and_next(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ TABLES, 16, INDIRECT | NEXT, 1 };
	offer_split(g, 0);
}

static void buffer_outside(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ RAM - 8, 16, 0, 0 };
	offer_split(g, 0);
}

static void buffer_wraps(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ UINT64_MAX - 7, 16, WRITE, 0 };
	offer_split(g, 0);
}

static void buffer_empty(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ DATA, 0, 0, 0 };
	offer_split(g, 0);
}

static void out_after_in(struct rig *g)
{
	*ring_desc(g, 0) = (struct desc){ DATA, 8, WRITE | NEXT, 1 };
	*ring_desc(g, 1) = (struct desc){ DATA, 8, 0, 0 };
	offer_split(g, 0);
}

static void too_many_avail(struct rig *g)
{
	*avail16(g, 1) = 9;
}

static void packed_loop(struct rig *g)
{
	for (unsigned i = 0; i < 8; i++)
		*ring_desc(g, i) = (struct desc){ DATA, 8, 0, NEXT | AVAIL };
}

static void packed_table_within(struct rig *g)
{
	*ring_desc(g, 1) = (struct desc){ TABLES, 16, 0, INDIRECT };
	offer_packed(g, (struct desc){ DATA, 8, 0, NEXT });
}

static void packed_table_in_table(struct rig *g)
{
	struct desc *t = at(g, TABLES);

	t[0] = (struct desc){ TABLES, 16, 0, INDIRECT };
	offer_packed(g, (struct desc){ TABLES, 16, 0, INDIRECT });
}

static void packed_outside(struct rig *g)
{
	offer_packed(g, (struct desc){ RAM, 1, 0, WRITE });
}

static const struct lie lies[] = {
	{ "head outside", false, "index is outside", head_outside },
	{ "next outside", false, "index is outside", next_outside },
	{ "loop", false, "loop", loop_of_two },
	{ "loop in a table", false, "loop", loop_in_table },
	{ "table in a table", false, "within another", table_in_table },
	{ "odd table", false, "multiple of 16", table_odd },
	{ "table outside", false, "not in guest RAM", table_outside },
	{ "huge table", false, "not in guest RAM", table_huge },
	{ "table with next", false, "with a next one", table_and_next },
	{ "buffer outside", false, "not guest RAM", buffer_outside },
	{ "buffer wraps", false, "not guest RAM", buffer_wraps },
	{ "empty buffer", false, "length is 0", buffer_empty },
	{ "out after in", false, "follows one to write", out_after_in },
	{ "too many available", false, "more buffers are available", too_many_avail },
	{ "packed loop", true, "more descriptors are available", packed_loop },
	{ "packed table in a chain", true, "within a chain", packed_table_within },
	{ "packed table in a table", true, "within another", packed_table_in_table },
	{ "packed outside", true, "not guest RAM", packed_outside },
};

Test(virtq, lies_break_the_queue)
{
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct rig *g = rig_new(lies[i].packed, true, true, 8);
		struct virtq_chain c = { 0 };

		lies[i].tell(g);
		cr_assert_eq(virtq_pop(&g->q, &c), -EPROTO, "%s", lies[i].what);
		cr_assert_not_null(strstr(g->q.broken, lies[i].text), "%s: %s", lies[i].what,
		                   g->q.broken);
		/* And so it stays. */
		cr_assert_eq(virtq_pop(&g->q, &c), -EPROTO);
		cr_assert_not(virtq_kicks_on(&g->q));
		virtq_chain_free(&c);
		rig_free(g);
	}
}

Test(virtq, indirect_only_if_negotiated)
{
	struct rig *g = rig_new(false, true, false, 8);
	struct virtq_chain c = { 0 };

	table_odd(g);
	cr_assert_eq(virtq_pop(&g->q, &c), -EPROTO);
	cr_assert_not_null(strstr(g->q.broken, "not negotiated"));
	virtq_chain_free(&c);
	rig_free(g);
}

Test(virtq, places_that_are_handed_out_are_not_handed_out_again)
{
	struct rig *g = rig_new(true, false, false, 4);
	struct virtq_chain c = { 0 };

	for (unsigned i = 0; i < 4; i++)
		*ring_desc(g, i) = (struct desc){ DATA, 8, (uint16_t)i, AVAIL };
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(virtq_pop(&g->q, &c), 1);
	/* The guest makes them available for the next wrap, though it never got them back. */
	for (unsigned i = 0; i < 4; i++)
		*ring_desc(g, i) = (struct desc){ DATA, 8, (uint16_t)i, USED };
	cr_assert_eq(virtq_pop(&g->q, &c), -EPROTO);
	virtq_chain_free(&c);
	rig_free(g);
}

Test(virtq, areas_must_be_in_ram)
{
	static const struct {
		uint64_t desc, driver, device;
		uint16_t size;
		bool packed;
		int result;
	} rows[] = {
		{ DESC, DRIVER, DEVICE, 8, false, 0 },
		{ DESC + 8, DRIVER, DEVICE, 8, false, -EFAULT },
		{ DESC, DRIVER + 1, DEVICE, 8, false, -EFAULT },
		{ DESC, DRIVER, DEVICE + 2, 8, false, -EFAULT },
		{ RAM - 64, DRIVER, DEVICE, 8, false, -EFAULT },
		{ DESC, RAM - 8, DEVICE, 8, false, -EFAULT },
		{ DESC, DRIVER, UINT64_MAX - 3, 8, false, -EFAULT },
		{ DESC, DRIVER, DEVICE, 0, false, -EINVAL },
		{ DESC, DRIVER, DEVICE, 6, false, -EINVAL },
		{ DESC, DRIVER, DEVICE, 6, true, 0 },
		{ DESC, DRIVER, DEVICE, 9, true, -EINVAL },
		{ DESC, RAM - 2, DEVICE, 8, true, -EFAULT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rig *g = rig_new(false, true, true, 8);
		struct gw_error err = { 0 };

		virtq_reset(&g->q);
		g->q.desc = rows[i].desc;
		g->q.driver = rows[i].driver;
		g->q.device = rows[i].device;
		g->q.size = rows[i].size;
		cr_assert_eq(virtq_enable(&g->q, rows[i].packed, true, true, &err), rows[i].result,
		             "row %zu: %s", i, err.text);
		cr_assert_eq(g->q.enabled, rows[i].result == 0);
		rig_free(g);
	}
}
