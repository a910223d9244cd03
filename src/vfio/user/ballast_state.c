/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ballast's state, as its participant. Records:
 *
 *      1  size and seed, before all others
 *      2  a block: index and generation, then its 64 KiB
 *      3  the end: digest, configuration space, registers, memory, MSI-X
 *
 * A block may come several times, the newest last. Each is compared with what
 * seed, index and generation make of it, and all of them with the digest.
 */
#include "vfio/user/ballast.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>
#include <xxhash.h>

enum { RECORD_BEGIN = 1, RECORD_BLOCK = 2, RECORD_END = 3 };

struct block_head {
	uint32_t index, generation; /* little-endian, as is all that the record holds */
};

static struct ballast *of(struct participant *p)
{
	return container_of(p, struct ballast, d.participant);
}

/* ---- blocks ---- */

/* A sequence of 64-bit numbers by Weyl steps and a mixing function (SplitMix64). */
static void make_block(uint64_t seed, uint32_t index, uint32_t generation, uint64_t *out)
{
	uint64_t x = seed ^ ((uint64_t)index << 32 | generation) * 0xd1342543de82ef95ull;

	for (unsigned i = 0; i < BALLAST_BLOCK / sizeof(*out); i++) {
		uint64_t z = x += 0x9e3779b97f4a7c15ull;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		out[i] = z ^ z >> 31;
	}
}

uint64_t ballast_digest(const struct ballast *b, uint64_t seed, const uint32_t *generation)
{
	return XXH3_64bits_withSeed(generation, b->blocks * sizeof(*generation), seed);
}

static void mark(struct ballast *b, uint32_t block)
{
	uint64_t *word = &b->dirty[block / 64];

	b->dirty_count += !(*word >> block % 64 & 1);
	*word |= 1ull << block % 64;
}

static void mark_all(struct ballast *b)
{
	for (uint32_t i = 0; i < b->blocks; i++)
		mark(b, i);
}

void ballast_change(struct ballast *b, uint32_t blocks)
{
	for (blocks = MIN(blocks, b->blocks); blocks; blocks--) {
		b->generation[b->next_change]++;
		mark(b, b->next_change);
		b->next_change = (b->next_change + 1) % b->blocks;
	}
}

void ballast_catch_up(struct ballast *b)
{
	const int64_t now = now_us();
	double due;

	if (!b->running || !b->options.dirty_rate)
		return;
	due = (double)(now - b->changed_us) / 1e6 * (double)b->options.dirty_rate / BALLAST_BLOCK;
	if (due < 1)
		return;
	ballast_change(b, due < b->blocks ? (uint32_t)due : b->blocks);
	b->changed_us = now;
}

void ballast_reset_state(struct ballast *b)
{
	memset(b->generation, 0, b->blocks * sizeof(*b->generation));
	b->next_change = 0;
	mark_all(b);
}

/* ---- saving ---- */

static int prepare(struct participant *p, bool live, struct gw_error *err)
{
	struct ballast *b = of(p);

	(void)live;
	(void)err;
	machine_lock(b->d.device.machine);
	mark_all(b);
	b->announced = false;
	b->cursor = 0;
	machine_unlock(b->d.device.machine);
	return 0;
}

static int pending(struct participant *p, enum pending_effort effort,
                   struct participant_pending *out, struct gw_error *err)
{
	struct ballast *b = of(p);

	(void)effort;
	(void)err;
	machine_lock(b->d.device.machine);
	ballast_catch_up(b);
	*out = (struct participant_pending){
		.precopy = (uint64_t)b->dirty_count * BALLAST_BLOCK,
		.stop = BALLAST_MEMORY + PCI_FUNCTION_STATE_SIZE,
	};
	machine_unlock(b->d.device.machine);
	return 0;
}

static int announce(struct ballast *b, struct sink *sink, struct gw_error *err)
{
	struct bytes begin = { 0 };
	int r;

	if (b->announced)
		return 0;
	bytes_put64(&begin, b->options.size);
	bytes_put64(&begin, b->seed);
	r = begin.failed ? error_set(err, -ENOMEM, "out of memory")
	                 : sink_record(sink, &b->d.participant, RECORD_BEGIN, begin.data, begin.len,
	                               err);
	bytes_free(&begin);
	b->announced = !r;
	return r;
}

/* The next block that is to be sent, from the cursor on; false: there is none. */
static bool take_dirty(struct ballast *b, uint32_t *index, uint32_t *generation)
{
	bool found = false;

	machine_lock(b->d.device.machine);
	for (uint32_t n = 0; n < b->blocks && b->dirty_count && !found; n++) {
		const uint32_t i = b->cursor;

		b->cursor = (b->cursor + 1) % b->blocks;
		if (!(b->dirty[i / 64] >> i % 64 & 1))
			continue;
		b->dirty[i / 64] &= ~(1ull << i % 64);
		b->dirty_count--;
		*index = i;
		*generation = b->generation[i];
		found = true;
	}
	machine_unlock(b->d.device.machine);
	return found;
}

/* 1: the sink has enough for now; 0: there is no more. */
static int send_blocks(struct ballast *b, struct sink *sink, bool all, struct gw_error *err)
{
	autofree uint64_t *block = malloc(BALLAST_BLOCK);
	uint32_t index, generation;
	int r = announce(b, sink, err);

	if (!block)
		return error_set(err, -ENOMEM, "out of memory");
	while (!r) {
		struct block_head head;

		if (!all && sink->ops->pause_wanted(sink))
			return 1;
		if (!take_dirty(b, &index, &generation))
			return 0;
		make_block(b->seed, index, generation, block);
		head = (struct block_head){ index, generation };
		r = sink->ops->record(sink, &b->d.participant, RECORD_BLOCK, &head, sizeof(head),
		                      block, BALLAST_BLOCK, err);
	}
	return r;
}

static int iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct ballast *b = of(p);

	machine_lock(b->d.device.machine);
	ballast_catch_up(b);
	machine_unlock(b->d.device.machine);
	return send_blocks(b, sink, false, err);
}

static int save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct ballast *b = of(p);
	uint8_t config[PCI_FUNCTION_STATE_SIZE];
	struct bytes end = { 0 };
	int r = send_blocks(b, sink, true, err);

	if (r < 0)
		return r;
	machine_lock(b->d.device.machine);
	bytes_put64(&end, ballast_digest(b, b->seed, b->generation));
	bytes_put64(&end, b->loads);
	pci_function_save(&b->d.function, config);
	bytes_put(&end, config, sizeof(config));
	ballast_save_device(b, &end);
	machine_unlock(b->d.device.machine);
	r = end.failed ? error_set(err, -ENOMEM, "out of memory")
	               : sink_record(sink, p, RECORD_END, end.data, end.len, err);
	bytes_free(&end);
	return r;
}

/* ---- loading ---- */

void ballast_drop_load(struct ballast *b)
{
	if (!b->load)
		return;
	free(b->load->generation);
	free(b->load->rest);
	free(b->load);
	b->load = NULL;
}

static void discard(struct participant *p)
{
	ballast_drop_load(of(p));
}

static int begin_load(struct participant *p, struct gw_error *err)
{
	struct ballast *b = of(p);

	ballast_drop_load(b);
	b->load = calloc(1, sizeof(*b->load));
	if (b->load)
		b->load->generation = malloc(b->blocks * sizeof(uint32_t));
	if (!b->load || !b->load->generation) {
		ballast_drop_load(b);
		return error_set(err, -ENOMEM, "out of memory");
	}
	/* No block has this one as long as it has not come. */
	memset(b->load->generation, 0xff, b->blocks * sizeof(uint32_t));
	return 0;
}

static int take_begin(struct ballast *b, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	const uint64_t size = bytes_take64(&in);

	b->load->seed = bytes_take64(&in);
	if (!bytes_all_taken(&in) || b->load->begun)
		return error_set(err, -EINVAL, "a beginning of %zu bytes", len);
	if (size != b->options.size)
		return error_set(err, -EINVAL, "size: %llu bytes there, %llu here",
		                 (unsigned long long)size, (unsigned long long)b->options.size);
	b->load->begun = true;
	return 0;
}

static int take_block(struct ballast *b, const uint8_t *buf, size_t len, struct gw_error *err)
{
	autofree uint64_t *expected = malloc(BALLAST_BLOCK);
	struct ballast_load *load = b->load;
	struct block_head head;

	if (len != sizeof(head) + BALLAST_BLOCK)
		return error_set(err, -EINVAL, "a block of %zu bytes", len);
	memcpy(&head, buf, sizeof(head));
	if (head.index >= b->blocks || head.generation == UINT32_MAX)
		return error_set(err, -EINVAL, "block %u of %u", head.index, b->blocks);
	if (!expected)
		return error_set(err, -ENOMEM, "out of memory");
	make_block(load->seed, head.index, head.generation, expected);
	if (memcmp(expected, buf + sizeof(head), BALLAST_BLOCK) != 0)
		return error_set(err, -EBADMSG, "block %u, generation %u: other contents",
		                 head.index, head.generation);
	load->have += load->generation[head.index] == UINT32_MAX;
	load->generation[head.index] = head.generation;
	return 0;
}

static int take_end(struct ballast *b, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct ballast_load *load = b->load;

	load->digest = bytes_take64(&in);
	load->loads = bytes_take64(&in);
	bytes_take(&in, load->config, sizeof(load->config));
	if (in.failed)
		return error_set(err, -EINVAL, "an end of %zu bytes", len);
	load->rest = malloc(in.len + 1);
	if (!load->rest)
		return error_set(err, -ENOMEM, "out of memory");
	load->rest_len = in.len;
	bytes_take(&in, load->rest, in.len);
	load->ended = true;
	return 0;
}

static int load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
                struct gw_error *err)
{
	struct ballast *b = of(p);

	(void)version;
	if (!b->load || b->load->ended || (type != RECORD_BEGIN && !b->load->begun))
		return error_set(err, -EINVAL, "a record of type %u out of turn", type);
	switch (type) {
	case RECORD_BEGIN:
		return take_begin(b, buf, len, err);
	case RECORD_BLOCK:
		return take_block(b, buf, len, err);
	case RECORD_END:
		return take_end(b, buf, len, err);
	default:
		return error_set(err, -EINVAL, "no record of type %u", type);
	}
}

static int take_all(struct ballast *b, struct gw_error *err)
{
	struct ballast_load *l = b->load;
	struct bytes_reader in = { .data = l->rest, .len = l->rest_len };
	int r;

	if (!l->ended || l->have != b->blocks)
		return error_set(err, -EINVAL, "%u of %u blocks have come, and %s end", l->have,
		                 b->blocks, l->ended ? "the" : "no");
	if (l->digest != ballast_digest(b, l->seed, l->generation))
		return error_set(err, -EBADMSG, "its digest is another");
	r = pci_function_load(&b->d.function, l->config, err);
	if (!r)
		r = ballast_load_device(b, &in, err);
	if (r < 0)
		return r;
	b->seed = l->seed;
	b->loads = l->loads + 1;
	memcpy(b->generation, l->generation, b->blocks * sizeof(*b->generation));
	mark_all(b);
	return 0;
}

static int settle(struct participant *p, struct gw_error *err)
{
	struct ballast *b = of(p);
	int r = b->load ? 0 : error_set(err, -EINVAL, "its state is missing");

	machine_lock(b->d.device.machine);
	if (!r)
		r = take_all(b, err);
	machine_unlock(b->d.device.machine);
	ballast_drop_load(b);
	return r;
}

const struct participant_ops ballast_participant = {
	.kind = "ballast",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.prepare = prepare,
	.pending = pending,
	.iterate = iterate,
	.save = save,
	.begin_load = begin_load,
	.load = load,
	.settle = settle,
	.discard = discard,
};
