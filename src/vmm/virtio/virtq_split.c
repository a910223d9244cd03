/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split layout: a table of descriptors, a ring of heads that the driver
 * makes available, a ring of heads that the device has used.
 *
 *      driver area: flags, idx, ring[size], used_event         (2 bytes each)
 *      device area: flags, idx, ring[size] of {id, len}, avail_event
 *
 * Source: VIRTIO 1.2, 2.7.
 */
#include "vmm/virtio/virtq_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <endian.h>
#include <string.h>

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY 1u

struct split_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

static uint64_t desc_len(const struct virtq *q)
{
	return (uint64_t)q->size * VIRTQ_DESC_SIZE;
}

static uint64_t driver_len(const struct virtq *q)
{
	return 6 + 2ull * q->size;
}

static uint64_t device_len(const struct virtq *q)
{
	return 6 + 8ull * q->size;
}

/* ---- the shared words ------------------------------------------------------------------ */

static uint16_t load16(const void *base, size_t offset, int order)
{
	const uint16_t *at = (const void *)((const char *)base + offset);

	return le16toh(order == __ATOMIC_ACQUIRE ? __atomic_load_n(at, __ATOMIC_ACQUIRE)
	                                         : __atomic_load_n(at, __ATOMIC_RELAXED));
}

static void store16(struct virtq *q, size_t offset, uint16_t value, int order)
{
	uint16_t *at = (void *)((char *)q->device_hva + offset);

	if (order == __ATOMIC_RELEASE)
		__atomic_store_n(at, htole16(value), __ATOMIC_RELEASE);
	else
		__atomic_store_n(at, htole16(value), __ATOMIC_RELAXED);
	memory_mark_dirty(q->memory, q->device + offset, sizeof(value));
}

static uint16_t avail_flags(const struct virtq *q)
{
	return load16(q->driver_hva, 0, __ATOMIC_RELAXED);
}

/* What the driver wrote before it moved idx is seen after this. */
static uint16_t avail_idx(const struct virtq *q)
{
	return load16(q->driver_hva, 2, __ATOMIC_ACQUIRE);
}

static uint16_t used_event(const struct virtq *q)
{
	return load16(q->driver_hva, 4 + 2ul * q->size, __ATOMIC_RELAXED);
}

/* ---- taking ------------------------------------------------------------------------------ */

static struct split_desc read_desc(const void *table, unsigned index)
{
	struct split_desc d;

	memcpy(&d, (const char *)table + (size_t)index * VIRTQ_DESC_SIZE, sizeof(d));
	d.addr = le64toh(d.addr);
	d.len = le32toh(d.len);
	d.flags = le16toh(d.flags);
	d.next = le16toh(d.next);
	return d;
}

/* The chain that begins with descriptor `index` of a table of `count`. A loop ends since a chain
 * has at most as many pieces as its table has descriptors. */
static int walk(struct virtq *q, struct virtq_chain *c, const void *table, unsigned count,
                unsigned index, bool indirect)
{
	for (unsigned n = 0; n < count; n++) {
		struct split_desc d;
		int r;

		if (index >= count)
			return virtq_break(q, "a descriptor's index is outside its table");
		d = read_desc(table, index);
		if (d.flags & VIRTQ_DESC_INDIRECT) {
			const uint8_t *inner;
			unsigned inner_count;

			if (indirect)
				return virtq_break(q, "an indirect table within another");
			inner = virtq_indirect(q, d.addr, d.len, d.flags, &inner_count);
			return inner ? walk(q, c, inner, inner_count, 0, true) : -EPROTO;
		}
		r = virtq_chain_add(q, c, d.addr, d.len, d.flags);
		if (r < 0)
			return r;
		if (!(d.flags & VIRTQ_DESC_NEXT))
			return 1;
		index = d.next;
	}
	return virtq_break(q, "a chain is a loop");
}

static int pop(struct virtq *q, struct virtq_chain *c)
{
	const uint16_t waiting = avail_idx(q) - q->next_avail;
	uint16_t head;
	int r;

	if (!waiting)
		return 0;
	/* Handed out and waiting together are at most the queue's size. */
	if (waiting > q->size || q->popped >= q->size)
		return virtq_break(q, "more buffers are available than the queue has");
	head = load16(q->driver_hva, 4 + 2ul * (q->next_avail & (q->size - 1u)), __ATOMIC_RELAXED);
	c->id = head;
	c->slots = 1;
	r = walk(q, c, q->desc_hva, q->size, head, false);
	if (r > 0)
		q->next_avail++;
	return r;
}

static void unpop(struct virtq *q, const struct virtq_chain *c)
{
	(void)c;
	q->next_avail--;
}

static bool has_avail(struct virtq *q)
{
	return avail_idx(q) != q->next_avail;
}

/* ---- giving back ---------------------------------------------------------------------------- */

static void fill(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	const uint16_t at = (uint16_t)(q->next_used + q->filled) & (q->size - 1u);
	const size_t offset = 4 + 8ul * at;
	const uint32_t element[2] = { htole32(c->id), htole32(written) };

	memcpy((char *)q->device_hva + offset, element, sizeof(element));
	memory_mark_dirty(q->memory, q->device + offset, sizeof(element));
}

static bool wants_interrupt(struct virtq *q, uint16_t old)
{
	const bool first = q->first_publish;

	if (!q->event_idx)
		return !(avail_flags(q) & AVAIL_NO_INTERRUPT);
	q->first_publish = false;
	return first || virtq_passed(used_event(q), q->next_used, old);
}

static bool publish(struct virtq *q)
{
	const uint16_t old = q->next_used;

	q->next_used += q->filled;
	store16(q, 2, q->next_used, __ATOMIC_RELEASE);
	/* idx is seen before the driver's wish is read; the driver does it the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return wants_interrupt(q, old);
}

/* ---- kicks ------------------------------------------------------------------------------------
 */

static void kicks_off(struct virtq *q)
{
	/* With the event index an old index is enough: the driver does not pass it again soon. */
	if (!q->event_idx)
		store16(q, 0, USED_NO_NOTIFY, __ATOMIC_RELAXED);
}

static bool kicks_on(struct virtq *q)
{
	if (q->event_idx)
		store16(q, 4 + 8ul * q->size, q->next_avail, __ATOMIC_RELAXED);
	else
		store16(q, 0, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return has_avail(q);
}

const struct virtq_layout virtq_split = {
	.desc_align = 16,
	.driver_align = 2,
	.device_align = 4,
	.desc_len = desc_len,
	.driver_len = driver_len,
	.device_len = device_len,
	.pop = pop,
	.unpop = unpop,
	.fill = fill,
	.publish = publish,
	.kicks_off = kicks_off,
	.kicks_on = kicks_on,
	.has_avail = has_avail,
};
