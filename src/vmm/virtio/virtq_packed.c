/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed layout: one ring of descriptors that driver and device take
 * turns to write; two flag bits and a counter of wraps on each side tell
 * whose turn it is. Two small areas hold the wishes for notifications.
 *
 * Source: VIRTIO 1.2, 2.8.
 */
#include "vmm/virtio/virtq_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <endian.h>
#include <string.h>

#define FLAG_AVAIL (1u << 7)
#define FLAG_USED (1u << 15)

/* 2.8.10: the event suppression structure, {offset and wrap, flags}. */
#define EVENT_ENABLE 0
#define EVENT_DISABLE 1
#define EVENT_DESC 2
#define EVENT_WRAP (1u << 15)

struct packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

static uint64_t desc_len(const struct virtq *q)
{
	return (uint64_t)q->size * VIRTQ_DESC_SIZE;
}

static uint64_t event_len(const struct virtq *q)
{
	(void)q;
	return 4;
}

static uint8_t *slot_at(const struct virtq *q, uint16_t slot)
{
	return (uint8_t *)q->desc_hva + (size_t)slot * VIRTQ_DESC_SIZE;
}

static uint16_t *flags_at(const struct virtq *q, uint16_t slot)
{
	return (void *)(slot_at(q, slot) + offsetof(struct packed_desc, flags));
}

/* ---- taking -------------------------------------------------------------------------------- */

static struct packed_desc read_desc(const void *at)
{
	struct packed_desc d;

	memcpy(&d, at, sizeof(d));
	d.addr = le64toh(d.addr);
	d.len = le32toh(d.len);
	d.id = le16toh(d.id);
	d.flags = le16toh(d.flags);
	return d;
}

/* 2.8.1: available when its AVAIL bit is the driver's wrap counter and its USED bit is not. What
 * the driver wrote before it set the flags is seen after this. */
static bool is_avail(const struct virtq *q)
{
	const uint16_t flags =
	        le16toh(__atomic_load_n(flags_at(q, q->next_avail), __ATOMIC_ACQUIRE));

	return !!(flags & FLAG_AVAIL) == q->avail_wrap && !!(flags & FLAG_USED) != q->avail_wrap;
}

static void step(const struct virtq *q, uint16_t *slot, bool *wrap, uint16_t by)
{
	*slot += by;
	if (*slot >= q->size) {
		*slot -= q->size;
		*wrap = !*wrap;
	}
}

static int add_indirect(struct virtq *q, struct virtq_chain *c, const struct packed_desc *outer)
{
	unsigned count;
	const uint8_t *table = virtq_indirect(q, outer->addr, outer->len, outer->flags, &count);

	if (!table)
		return -EPROTO;
	for (unsigned i = 0; i < count; i++) {
		const struct packed_desc d = read_desc(table + (size_t)i * VIRTQ_DESC_SIZE);
		int r;

		if (d.flags & VIRTQ_DESC_INDIRECT)
			return virtq_break(q, "an indirect table within another");
		r = virtq_chain_add(q, c, d.addr, d.len, d.flags);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pop(struct virtq *q, struct virtq_chain *c)
{
	uint16_t slot = q->next_avail;
	bool wrap = q->avail_wrap;
	struct packed_desc d;

	if (!is_avail(q))
		return 0;
	do {
		int r;

		/* Places handed out and not given back are the device's; the driver has the rest.
		 */
		if (q->popped + c->slots == q->size)
			return virtq_break(q, "more descriptors are available than the ring has");
		d = read_desc(slot_at(q, slot));
		if (d.flags & VIRTQ_DESC_INDIRECT && c->slots)
			return virtq_break(q, "an indirect descriptor within a chain");
		r = d.flags & VIRTQ_DESC_INDIRECT ? add_indirect(q, c, &d)
		                                  : virtq_chain_add(q, c, d.addr, d.len, d.flags);
		if (r < 0)
			return r;
		c->slots++;
		step(q, &slot, &wrap, 1);
	} while (d.flags & VIRTQ_DESC_NEXT && !(d.flags & VIRTQ_DESC_INDIRECT));

	c->id = d.id; /* 2.8.6: the last one's */
	q->next_avail = slot;
	q->avail_wrap = wrap;
	return 1;
}

static void unpop(struct virtq *q, const struct virtq_chain *c)
{
	if (q->next_avail < c->slots) {
		q->next_avail += q->size;
		q->avail_wrap = !q->avail_wrap;
	}
	q->next_avail -= c->slots;
}

/* ---- giving back ------------------------------------------------------------------------------
 */

/* Where the next used descriptor goes: behind those that are filled and not yet shown. */
static void used_place(const struct virtq *q, uint16_t *slot, bool *wrap)
{
	*slot = q->next_used;
	*wrap = q->used_wrap;
	step(q, slot, wrap, q->filled);
}

static void fill(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	const uint32_t len = htole32(written);
	const uint16_t id = htole16(c->id);
	uint16_t slot, flags;
	bool wrap;

	used_place(q, &slot, &wrap);
	memcpy(slot_at(q, slot) + offsetof(struct packed_desc, len), &len, sizeof(len));
	memcpy(slot_at(q, slot) + offsetof(struct packed_desc, id), &id, sizeof(id));
	flags = (uint16_t)((wrap ? FLAG_AVAIL | FLAG_USED : 0) | (written ? VIRTQ_DESC_WRITE : 0));
	if (!q->filled) {
		/* The driver looks at this one first: its flags come last. */
		q->first_slot = slot;
		q->first_flags = flags;
	} else {
		__atomic_store_n(flags_at(q, slot), htole16(flags), __ATOMIC_RELEASE);
	}
	memory_mark_dirty(q->memory, q->desc + (uint64_t)slot * VIRTQ_DESC_SIZE, VIRTQ_DESC_SIZE);
}

static bool wants_interrupt(const struct virtq *q, uint16_t old, bool old_wrap)
{
	const uint16_t *event = q->driver_hva;
	const uint16_t off_wrap = le16toh(__atomic_load_n(&event[0], __ATOMIC_RELAXED));
	const uint16_t flags = le16toh(__atomic_load_n(&event[1], __ATOMIC_RELAXED)) & 3;
	uint16_t off = off_wrap & (uint16_t)~EVENT_WRAP;
	uint16_t now = q->next_used;

	if (flags == EVENT_ENABLE || flags == EVENT_DISABLE)
		return flags == EVENT_ENABLE;
	if (!q->event_idx || off >= q->size)
		return true;
	/* Places on one line: `old` as it is, what lies a wrap further by one size more. */
	if (q->used_wrap != old_wrap)
		now += q->size;
	if (!!(off_wrap & EVENT_WRAP) != old_wrap)
		off += q->size;
	return off >= old && off < now;
}

static bool publish(struct virtq *q)
{
	const uint16_t old = q->next_used;
	const bool old_wrap = q->used_wrap;

	__atomic_store_n(flags_at(q, q->first_slot), htole16(q->first_flags), __ATOMIC_RELEASE);
	memory_mark_dirty(q->memory, q->desc + (uint64_t)q->first_slot * VIRTQ_DESC_SIZE,
	                  VIRTQ_DESC_SIZE);
	step(q, &q->next_used, &q->used_wrap, q->filled);
	/* The flags are seen before the driver's wish is read; it does it the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return wants_interrupt(q, old, old_wrap);
}

/* ---- kicks --------------------------------------------------------------------------------------
 */

static void set_event(struct virtq *q, uint16_t off_wrap, uint16_t flags)
{
	uint16_t *event = q->device_hva;

	__atomic_store_n(&event[0], htole16(off_wrap), __ATOMIC_RELAXED);
	__atomic_store_n(&event[1], htole16(flags), __ATOMIC_RELEASE);
	memory_mark_dirty(q->memory, q->device, 4);
}

static void kicks_off(struct virtq *q)
{
	set_event(q, 0, EVENT_DISABLE);
}

static bool kicks_on(struct virtq *q)
{
	if (q->event_idx)
		set_event(q, (uint16_t)(q->next_avail | (q->avail_wrap ? EVENT_WRAP : 0)),
		          EVENT_DESC);
	else
		set_event(q, 0, EVENT_ENABLE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return is_avail(q);
}

static bool has_avail(struct virtq *q)
{
	return is_avail(q);
}

const struct virtq_layout virtq_packed = {
	.desc_align = 16,
	.driver_align = 4,
	.device_align = 4,
	.desc_len = desc_len,
	.driver_len = event_len,
	.device_len = event_len,
	.pop = pop,
	.unpop = unpop,
	.fill = fill,
	.publish = publish,
	.kicks_off = kicks_off,
	.kicks_on = kicks_on,
	.has_avail = has_avail,
};
