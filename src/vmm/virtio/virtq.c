/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/virtq.h"
#include "vmm/virtio/virtq_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <string.h>

static const struct virtq_layout *layout_of(const struct virtq *q)
{
	return q->packed ? &virtq_packed : &virtq_split;
}

/* ---- chains ----------------------------------------------------------------------------- */

void virtq_chain_free(struct virtq_chain *c)
{
	free(c->iov);
	free(c->gpa);
	*c = (struct virtq_chain){ 0 };
}

static int chain_grow(struct virtq_chain *c)
{
	unsigned room = c->room ? c->room * 2 : 8;
	struct iovec *iov = realloc(c->iov, room * sizeof(*iov));
	uint64_t *gpa;

	if (!iov)
		return -ENOMEM;
	c->iov = iov;
	gpa = realloc(c->gpa, room * sizeof(*gpa));
	if (!gpa)
		return -ENOMEM;
	c->gpa = gpa;
	c->room = room;
	return 0;
}

void virtq_chain_begin(struct virtq_chain *c)
{
	c->out = c->in = 0;
	c->out_len = c->in_len = 0;
	c->slots = 0;
}

int virtq_chain_add(struct virtq *q, struct virtq_chain *c, uint64_t gpa, uint32_t len,
                    uint16_t flags)
{
	const unsigned n = c->out + c->in;
	void *hva;

	if (n == VIRTQ_CHAIN_MAX)
		return virtq_break(q, "a chain is longer than the largest queue, or a loop");
	if (!len)
		return virtq_break(q, "a descriptor's length is 0");
	if (!(flags & VIRTQ_DESC_WRITE) && c->in)
		return virtq_break(q, "a descriptor to read follows one to write");
	hva = memory_hva(q->memory, gpa, len);
	if (!hva)
		return virtq_break(q, "a descriptor's buffer is not guest RAM");
	if (n == c->room && chain_grow(c) < 0)
		return -ENOMEM;
	c->iov[n] = (struct iovec){ .iov_base = hva, .iov_len = len };
	c->gpa[n] = gpa;
	if (flags & VIRTQ_DESC_WRITE) {
		c->in++;
		c->in_len += len;
	} else {
		c->out++;
		c->out_len += len;
	}
	/* 2.6.5.3.1: more than 2^32 bytes in all are forbidden, and used lengths have 32 bits. */
	if (c->out_len + c->in_len > UINT32_MAX)
		return virtq_break(q, "a chain has more than 2^32 bytes");
	return 0;
}

const uint8_t *virtq_indirect(struct virtq *q, uint64_t gpa, uint32_t len, uint16_t flags,
                              unsigned *count)
{
	const uint8_t *table = NULL;

	*count = len / VIRTQ_DESC_SIZE;
	if (!q->indirect)
		virtq_break(q, "an indirect descriptor, which was not negotiated");
	else if (flags & VIRTQ_DESC_NEXT)
		virtq_break(q, "an indirect descriptor with a next one");
	else if (!len || len % VIRTQ_DESC_SIZE)
		virtq_break(q, "an indirect table's length is no multiple of 16");
	else if (!(table = memory_hva(q->memory, gpa, len)))
		virtq_break(q, "an indirect table is not in guest RAM");
	return table;
}

/* memcpy between a part of a chain and a buffer; `skip` bytes of the part are passed over. */
static size_t copy_part(const struct iovec *iov, unsigned count, size_t skip, void *buf, size_t len,
                        bool into_chain)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t n;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		n = MIN(iov[i].iov_len - skip, len - done);
		if (into_chain)
			memcpy((char *)iov[i].iov_base + skip, (char *)buf + done, n);
		else
			memcpy((char *)buf + done, (char *)iov[i].iov_base + skip, n);
		done += n;
		skip = 0;
	}
	return done;
}

size_t virtq_chain_read(const struct virtq_chain *c, size_t offset, void *buf, size_t len)
{
	return copy_part(c->iov, c->out, offset, buf, len, false);
}

size_t virtq_chain_write(const struct virtq_chain *c, size_t offset, const void *buf, size_t len)
{
	return copy_part(c->iov + c->out, c->in, offset, (void *)buf, len, true);
}

/* ---- queues ------------------------------------------------------------------------------ */

int virtq_break(struct virtq *q, const char *why)
{
	if (!q->broken)
		q->broken = why;
	return -EPROTO;
}

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){
		.memory = q->memory,
		.max_size = q->max_size,
		.size = q->max_size,
	};
}

/* The areas' addresses come from the guest, at any time before. */
static int find_area(struct virtq *q, const char *name, uint64_t gpa, uint64_t len, unsigned align,
                     void **hva, struct gw_error *err)
{
	if (gpa % align)
		return error_set(err, -EFAULT, "%s area at 0x%llx is not aligned to %u bytes", name,
		                 (unsigned long long)gpa, align);
	*hva = memory_hva(q->memory, gpa, len);
	if (!*hva)
		return error_set(err, -EFAULT, "%s area at 0x%llx, of %llu bytes, is not guest RAM",
		                 name, (unsigned long long)gpa, (unsigned long long)len);
	return 0;
}

static int find_areas(struct virtq *q, struct gw_error *err)
{
	const struct virtq_layout *layout = layout_of(q);
	int r = find_area(q, "descriptor", q->desc, layout->desc_len(q), layout->desc_align,
	                  &q->desc_hva, err);

	if (!r)
		r = find_area(q, "driver", q->driver, layout->driver_len(q), layout->driver_align,
		              &q->driver_hva, err);
	if (!r)
		r = find_area(q, "device", q->device, layout->device_len(q), layout->device_align,
		              &q->device_hva, err);
	return r;
}

bool virtq_find_again(struct virtq *q)
{
	return find_areas(q, NULL) == 0;
}

int virtq_enable(struct virtq *q, bool packed, bool event_idx, bool indirect, struct gw_error *err)
{
	int r;

	q->packed = packed;
	q->event_idx = event_idx;
	q->indirect = indirect;
	if (!q->size || q->size > q->max_size || (!packed && (q->size & (q->size - 1))))
		return error_set(err, -EINVAL, "size %u is not possible", q->size);
	r = find_areas(q, err);
	if (r < 0)
		return r;
	q->next_avail = q->next_used = q->popped = q->filled = 0;
	q->avail_wrap = q->used_wrap = true;
	q->first_publish = true;
	q->broken = NULL;
	q->enabled = true;
	return 0;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	int r;

	if (q->broken)
		return -EPROTO;
	virtq_chain_begin(c);
	r = layout_of(q)->pop(q, c);
	if (r > 0)
		q->popped += c->slots;
	return r;
}

void virtq_unpop(struct virtq *q, const struct virtq_chain *c)
{
	q->popped -= c->slots;
	layout_of(q)->unpop(q, c);
}

static void mark_written(const struct virtq *q, const struct virtq_chain *c, uint64_t written)
{
	for (unsigned i = c->out; i < c->out + c->in && written; i++) {
		const uint64_t n = MIN((uint64_t)c->iov[i].iov_len, written);

		memory_mark_dirty(q->memory, c->gpa[i], n);
		written -= n;
	}
}

void virtq_fill(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	mark_written(q, c, written);
	if (q->broken)
		return;
	layout_of(q)->fill(q, c, written);
	q->filled += c->slots;
}

bool virtq_publish(struct virtq *q)
{
	bool interrupt;

	if (!q->filled || q->broken)
		return false;
	interrupt = layout_of(q)->publish(q);
	q->popped -= q->filled;
	q->filled = 0;
	return interrupt;
}

bool virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	virtq_fill(q, c, written);
	return virtq_publish(q);
}

void virtq_kicks_off(struct virtq *q)
{
	if (!q->broken)
		layout_of(q)->kicks_off(q);
}

bool virtq_kicks_on(struct virtq *q)
{
	return !q->broken && layout_of(q)->kicks_on(q);
}

bool virtq_has_avail(struct virtq *q)
{
	return !q->broken && layout_of(q)->has_avail(q);
}

/* ---- state --------------------------------------------------------------------------------- */

void virtq_save(const struct virtq *q, struct bytes *out)
{
	bytes_put16(out, q->next_avail);
	bytes_put16(out, q->next_used);
	bytes_put8(out, (uint8_t)(q->avail_wrap | q->used_wrap << 1));
}

int virtq_load(struct virtq *q, struct bytes_reader *in, struct gw_error *err)
{
	const uint16_t next_avail = bytes_take16(in), next_used = bytes_take16(in);
	const uint8_t wraps = bytes_take8(in);

	/* A disabled queue stands nowhere. */
	if (!q->enabled)
		return 0;
	if (next_avail != next_used || (wraps != 0 && wraps != 3) ||
	    (q->packed && next_avail >= q->size))
		return error_set(err, -EINVAL, "position %u, %u, %u is not possible", next_avail,
		                 next_used, wraps);
	q->next_avail = next_avail;
	q->next_used = next_used;
	q->avail_wrap = wraps & 1;
	q->used_wrap = wraps >> 1;
	return 0;
}
