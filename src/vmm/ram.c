/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as a participant.
 *
 * Where RAM comes and goes in blocks (memory_plug.c), a record says for each
 * region which are there, before any page: address, size, size of a block
 * (u64 each), then one bit a block, in words of 64. Nothing is plugged or
 * unplugged while dirty pages are tracked, so it holds until the end.
 */
#include "vmm/memory_internal.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

enum { RECORD_BLOCKS = 1 };

static struct memory *memory_of(struct participant *p)
{
	return container_of(p, struct memory, participant);
}

static uint64_t ram_size(struct participant *p)
{
	struct memory *mem = memory_of(p);

	return memory_size(mem) + memory_plugged(mem);
}

static int ram_prepare(struct participant *p, bool live, struct gw_error *err)
{
	struct memory *mem = memory_of(p);

	mem->cursor.region = 0;
	mem->cursor.word = 0;
	mem->told = false;
	return live ? memory_dirty_start(mem, err) : 0;
}

static int ram_pending(struct participant *p, enum pending_effort effort,
                       struct participant_pending *out, struct gw_error *err)
{
	struct memory *mem = memory_of(p);
	int64_t pages = effort == PENDING_EXACT ? memory_dirty_sync(mem, err)
	                                        : (int64_t)memory_dirty_pages(mem);

	if (pages < 0)
		return (int)pages;
	*out = (struct participant_pending){
		.precopy = (uint64_t)pages * PAGE_SIZE,
		.stop = memory_dirty_foreseen(mem) * PAGE_SIZE,
	};
	return 0;
}

/* ---- what is there --------------------------------------------------------------------- */

static int send_blocks(struct memory *mem, const struct ram_region *r, struct sink *sink,
                       struct gw_error *err)
{
	struct bytes out = { 0 };
	int ret;

	bytes_put64(&out, r->gpa);
	bytes_put64(&out, r->size);
	bytes_put64(&out, r->block);
	for (uint64_t w = 0; w < DIV_ROUND_UP(r->size / r->block, 64ull); w++)
		bytes_put64(&out, r->plugged[w]);
	ret = out.failed
	              ? error_set(err, -ENOMEM, "out of memory")
	              : sink_record(sink, &mem->participant, RECORD_BLOCKS, out.data, out.len, err);
	bytes_free(&out);
	return ret;
}

static int tell_blocks(struct memory *mem, struct sink *sink, struct gw_error *err)
{
	for (size_t i = 0; i < mem->region_count && !mem->told; i++) {
		const struct ram_region *r = &mem->regions[i];
		int ret = r->block && r->gpa != MEMORY_GONE ? send_blocks(mem, r, sink, err) : 0;

		if (ret < 0)
			return ret;
	}
	mem->told = true;
	return 0;
}

/* ---- pages ----------------------------------------------------------------------------- */

/* Shorter runs are not worth a look for holes. */
#define RUN_WITH_HOLES 16

/* Sends pages that follow each other, without touching those that do not exist yet: their dirty
 * bits have been taken before, so one that is written after the look comes again. */
static int send_run(struct memory *mem, size_t region, uint64_t page, uint64_t count,
                    struct sink *sink, struct gw_error *err)
{
	const struct ram_region *r = &mem->regions[region];
	int ret = 0;

	while (count && !ret) {
		const uint64_t offset = page * PAGE_SIZE;
		bool hole = false;
		const uint64_t n = count < RUN_WITH_HOLES
		                           ? count
		                           : memory_alike(mem, region, page, count, &hole);

		ret = sink->ops->pages(sink, &mem->participant, r->gpa + offset,
		                       hole ? NULL : r->hva + offset, n, err);
		page += n;
		count -= n;
	}
	return ret;
}

/* Sends the runs of set bits; `first` is the page number of bits[0]'s lowest bit. */
static int send_runs(struct memory *mem, size_t region, uint64_t first, const uint64_t *bits,
                     unsigned words, struct sink *sink, struct gw_error *err)
{
	unsigned end = words * 64;

	for (unsigned b = 0; b < end;) {
		unsigned from;
		int ret;

		if (!(b % 64) && !bits[b / 64]) {
			b += 64;
			continue;
		}
		if (!(bits[b / 64] >> (b % 64) & 1)) {
			b++;
			continue;
		}
		for (from = b; b < end && (bits[b / 64] >> (b % 64) & 1); b++)
			;
		ret = send_run(mem, region, first + from, b - from, sink, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* One pass over the dirty bitmaps from the cursor on. 1: the sink wants a pause. */
static int send_dirty(struct memory *mem, struct sink *sink, bool may_pause, struct gw_error *err)
{
	uint64_t bits[MEMORY_CHUNK_WORDS];

	for (; mem->cursor.region < mem->region_count; mem->cursor.region++, mem->cursor.word = 0) {
		const struct ram_region *r = &mem->regions[mem->cursor.region];

		while (mem->cursor.word < region_words(r)) {
			uint64_t word = mem->cursor.word;
			int n, ret;

			if (may_pause && sink->ops->pause_wanted && sink->ops->pause_wanted(sink))
				return 1;
			n = memory_dirty_take(mem, mem->cursor.region, word, bits, err);
			if (n < 0)
				return n;
			mem->cursor.word += (unsigned)n;
			ret = send_runs(mem, mem->cursor.region, word * 64, bits, (unsigned)n, sink,
			                err);
			if (ret < 0)
				return ret;
		}
	}
	mem->cursor.region = 0;
	mem->cursor.word = 0;
	return 0;
}

static int ram_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	int ret = tell_blocks(memory_of(p), sink, err);

	return ret ? ret : send_dirty(memory_of(p), sink, true, err);
}

/* A snapshot has room for so many ranges: in a region with more gaps they are sent as zeros. */
#define RUNS_APART 8

static unsigned count_runs(const struct memory *mem, size_t i)
{
	uint64_t offset = 0, len;
	unsigned n = 0;

	for (; n <= RUNS_APART && memory_next_run(mem, i, &offset, &len); offset += len)
		n++;
	return n;
}

static int save_region(struct memory *mem, size_t i, struct sink *sink, struct gw_error *err)
{
	const bool fill = count_runs(mem, i) > RUNS_APART;
	uint64_t offset = 0, end = 0, len;
	int ret = 0;

	for (; !ret && memory_next_run(mem, i, &offset, &len); end = offset += len) {
		if (fill && end && offset > end)
			ret = sink->ops->pages(sink, &mem->participant, mem->regions[i].gpa + end,
			                       NULL, (offset - end) / PAGE_SIZE, err);
		if (!ret)
			ret = send_run(mem, i, offset / PAGE_SIZE, len / PAGE_SIZE, sink, err);
	}
	return ret;
}

static int ram_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct memory *mem = memory_of(p);
	int64_t pages;
	int ret = tell_blocks(mem, sink, err);

	if (ret < 0)
		return ret;
	if (!mem->tracking) {
		for (size_t i = 0; i < mem->region_count && !ret; i++)
			ret = save_region(mem, i, sink, err);
		return ret;
	}
	/* Nothing writes any more: this sync is the last. The pass starts at the beginning, since
	 * bits may lie behind where an interrupted iterate() stood. */
	pages = memory_dirty_sync_last(mem, err);
	if (pages < 0)
		return (int)pages;
	if (sink->ops->last_pass)
		sink->ops->last_pass(sink, (uint64_t)pages);
	mem->cursor.region = 0;
	mem->cursor.word = 0;
	return send_dirty(mem, sink, false, err);
}

static void ram_finish(struct participant *p, bool goes_on)
{
	(void)goes_on;
	memory_dirty_stop(memory_of(p));
}

static int ram_rollback(struct participant *p, struct gw_error *err)
{
	(void)err;
	memory_dirty_stop(memory_of(p));
	return 0;
}

/* ---- destination -------------------------------------------------------------------- */

static int ram_begin_load(struct participant *p, struct gw_error *err)
{
	struct memory *mem = memory_of(p);

	mem->heard = 0;
	for (size_t i = 0; i < mem->region_count; i++) {
		free(mem->loaded[i]);
		mem->loaded[i] = calloc(region_words(&mem->regions[i]), 8);
		if (!mem->loaded[i])
			return error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* One bit a block, as they came; what lies behind the last block is no block. */
static int plug_blocks(struct memory *mem, const struct ram_region *r, struct bytes_reader *in,
                       struct gw_error *err)
{
	const uint64_t blocks = r->size / r->block;

	for (uint64_t b = 0; b < blocks; b += 64) {
		const uint64_t word = bytes_take64(in), n = MIN(blocks - b, 64ull);

		if (n < 64 && word >> n)
			return error_set(err, -EINVAL, "blocks at 0x%llx: more than there are",
			                 (unsigned long long)r->gpa);
		for (uint64_t i = 0, end; i < n; i = end + 1) {
			int ret = 0;

			for (end = i; end < n && word >> end & 1; end++)
				;
			if (end > i)
				ret = memory_plug(mem, r->gpa + (b + i) * r->block,
				                  (end - i) * r->block, err);
			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

static int ram_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct memory *mem = memory_of(p);
	struct bytes_reader in = { .data = buf, .len = len };
	const uint64_t gpa = bytes_take64(&in), size = bytes_take64(&in), block = bytes_take64(&in);
	uint64_t offset;
	const struct ram_region *r = region_find(mem, gpa, 1, &offset);
	int ret;

	(void)version;
	if (type != RECORD_BLOCKS || in.failed)
		return error_set(err, -EINVAL, "a record of type %u, %zu bytes", type, len);
	if (!r || !r->block || offset || r->size != size || r->block != block)
		return error_set(err, -EINVAL,
		                 "no memory at 0x%llx of 0x%llx bytes in blocks of 0x%llx",
		                 (unsigned long long)gpa, (unsigned long long)size,
		                 (unsigned long long)block);
	if (len != 24 + DIV_ROUND_UP(size / block, 64ull) * 8 ||
	    mem->heard & 1u << (r - mem->regions))
		return error_set(err, -EINVAL, "blocks at 0x%llx: %zu bytes, or a second time",
		                 (unsigned long long)gpa, len);
	mem->heard |= 1u << (r - mem->regions);
	ret = plug_blocks(mem, r, &in, err);
	return ret < 0 ? error_context(err, "memory at 0x%llx", (unsigned long long)gpa) : 0;
}

/* Fresh RAM reads as zeros, so a zero page needs work only where data came before. */
static void load_page(struct memory *mem, size_t i, uint64_t page, const uint8_t *data)
{
	uint8_t *hva = mem->regions[i].hva + page * PAGE_SIZE;
	uint8_t *byte = &mem->loaded[i][page / 8];
	uint8_t bit = (uint8_t)(1u << (page % 8));

	if (data) {
		memcpy(hva, data, PAGE_SIZE);
		*byte |= bit;
	} else if (*byte & bit) {
		memset(hva, 0, PAGE_SIZE);
	}
}

static int ram_load_pages(struct participant *p, uint64_t gpa, const void *data, size_t count,
                          struct gw_error *err)
{
	struct memory *mem = memory_of(p);

	if (gpa % PAGE_SIZE)
		goto outside;
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];
		uint64_t first = (gpa - r->gpa) / PAGE_SIZE;

		if (gpa < r->gpa || first >= r->size / PAGE_SIZE)
			continue;
		if (!count || count > r->size / PAGE_SIZE - first ||
		    (r->block && !region_all_there(r, first * PAGE_SIZE, count * PAGE_SIZE)))
			break;
		for (size_t n = 0; n < count; n++)
			load_page(mem, i, first + n,
			          data ? (const uint8_t *)data + n * PAGE_SIZE : NULL);
		return 0;
	}
outside:
	return error_set(err, -EINVAL, "%zu pages at 0x%llx are not guest RAM", count,
	                 (unsigned long long)gpa);
}

static int ram_map_file(struct participant *p, uint64_t gpa, uint64_t size, int fd, uint64_t offset,
                        struct gw_error *err)
{
	return memory_map_file(memory_of(p), gpa, size, fd, offset, err);
}

static void free_loaded(struct memory *mem)
{
	for (size_t i = 0; i < mem->region_count; i++) {
		free(mem->loaded[i]);
		mem->loaded[i] = NULL;
	}
}

static int ram_settle(struct participant *p, struct gw_error *err)
{
	struct memory *mem = memory_of(p);

	free_loaded(mem);
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];

		if (r->block && r->gpa != MEMORY_GONE && !(mem->heard >> i & 1))
			return error_set(err, -EINVAL, "it does not say what is there at 0x%llx",
			                 (unsigned long long)r->gpa);
	}
	memory_discard_unplugged(mem);
	return 0;
}

static void ram_discard(struct participant *p)
{
	free_loaded(memory_of(p));
}

static const struct participant_ops ram_ops = {
	.kind = "ram",
	.version = 1,
	.class = PARTICIPANT_RAM,
	.ram_size = ram_size,
	.prepare = ram_prepare,
	.pending = ram_pending,
	.iterate = ram_iterate,
	.save = ram_save,
	.finish = ram_finish,
	.rollback = ram_rollback,
	.begin_load = ram_begin_load,
	.load = ram_load,
	.load_pages = ram_load_pages,
	.map_file = ram_map_file,
	.settle = ram_settle,
	.discard = ram_discard,
};

void ram_participant_init(struct memory *mem)
{
	mem->participant.ops = &ram_ops;
	snprintf(mem->participant.name, sizeof(mem->participant.name), "ram");
}

void ram_participant_fini(struct memory *mem)
{
	free_loaded(mem);
}

struct participant *memory_participant(struct memory *mem)
{
	return &mem->participant;
}
