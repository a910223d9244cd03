/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of what the device has written to guest memory: one bit a page of
 * 4 KiB for each map, for all that is mapped by descriptor. What goes by
 * message the client sees itself.
 * Source: <linux/vfio.h>, VFIO_DEVICE_FEATURE_DMA_LOGGING_*.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/util.h"

static uint64_t words_of(const struct dma_map *m)
{
	return DIV_ROUND_UP(m->size / PAGE_SIZE, 64);
}

static bool logging(const struct server_dma *dma)
{
	return __atomic_load_n(&dma->logging, __ATOMIC_ACQUIRE);
}

int server_log_attach(struct server *s, struct dma_map *map)
{
	if (!logging(&s->dma) || !map->hva)
		return 0;
	map->dirty = calloc(words_of(map), sizeof(uint64_t));
	return map->dirty ? 0 : -ENOMEM;
}

static void forget(struct server_dma *dma)
{
	pthread_rwlock_wrlock(&dma->lock);
	for (unsigned i = 0; i < dma->count; i++) {
		free(dma->maps[i].dirty);
		dma->maps[i].dirty = NULL;
	}
	pthread_rwlock_unlock(&dma->lock);
}

int server_log_start(struct server *s, struct gw_error *err)
{
	struct server_dma *dma = &s->dma;
	int r = 0;

	if (logging(dma))
		return error_set(err, -EINVAL, "logging is on already");
	__atomic_store_n(&dma->logging, true, __ATOMIC_RELEASE);
	pthread_rwlock_wrlock(&dma->lock);
	for (unsigned i = 0; i < dma->count && !r; i++)
		r = server_log_attach(s, &dma->maps[i]);
	pthread_rwlock_unlock(&dma->lock);
	if (r < 0) {
		server_log_stop(s);
		return error_set(err, r, "logging: out of memory");
	}
	return 0;
}

void server_log_stop(struct server *s)
{
	__atomic_store_n(&s->dma.logging, false, __ATOMIC_RELEASE);
	forget(&s->dma);
}

static void mark(struct dma_map *m, uint64_t from, uint64_t last)
{
	const uint64_t end = (last - m->address) / PAGE_SIZE;

	for (uint64_t page = (from - m->address) / PAGE_SIZE; page <= end; page++)
		__atomic_fetch_or(&m->dirty[page / 64], 1ull << page % 64, __ATOMIC_RELAXED);
}

void server_dma_dirty(void *opaque, uint64_t address, uint64_t len)
{
	struct server_dma *dma = &((struct server *)opaque)->dma;
	const uint64_t last = address + (len - 1);

	if (!logging(dma) || !len || last < address)
		return;
	pthread_rwlock_rdlock(&dma->lock);
	for (unsigned i = server_dma_find_after(dma, address); i < dma->count; i++) {
		struct dma_map *m = &dma->maps[i];

		if (m->address > last)
			break;
		if (m->dirty)
			mark(m, MAX(address, m->address), MIN(last, m->address + (m->size - 1)));
	}
	pthread_rwlock_unlock(&dma->lock);
}

/* Takes a map's bits from page `first` to page `last` of the map. */
static void take_bits(struct dma_map *m, uint64_t first, uint64_t last,
                      const struct wire_logging_report *range, uint64_t *bitmap)
{
	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t mask = UINT64_MAX, bits;

		if (word == first / 64)
			mask &= UINT64_MAX << first % 64;
		if (word == last / 64)
			mask &= UINT64_MAX >> (63 - last % 64);
		bits = __atomic_fetch_and(&m->dirty[word], ~mask, __ATOMIC_RELAXED) & mask;
		for (; bits; bits &= bits - 1) {
			const uint64_t page = word * 64 + (unsigned)__builtin_ctzll(bits);
			const uint64_t bit =
			        (m->address + page * PAGE_SIZE - range->iova) / range->page_size;

			bitmap[bit / 64] |= 1ull << bit % 64;
		}
	}
}

void server_log_report(struct server *s, const struct wire_logging_report *range, uint64_t *bitmap)
{
	const uint64_t range_last = range->iova + (range->length - 1);

	for (unsigned i = server_dma_find_after(&s->dma, range->iova); i < s->dma.count; i++) {
		struct dma_map *m = &s->dma.maps[i];
		const uint64_t map_last = m->address + (m->size - 1);

		if (m->address > range_last)
			break;
		if (!m->dirty)
			continue;
		take_bits(m, (MAX(range->iova, m->address) - m->address) / PAGE_SIZE,
		          (MIN(range_last, map_last) - m->address) / PAGE_SIZE, range, bitmap);
	}
}
