/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving RAM back that the guest has no use for (a balloon, free pages).
 *
 * A hole is punched into the memfd: its pages are freed, and taken out of
 * every mapping, the guest's included (mmu notifiers of KVM). The next access
 * finds a fresh page of zeros. Where a file's private mapping stands instead
 * of the memfd (a restored snapshot), the memfd is mapped again.
 *
 * What an IOMMU holds pinned would stay with the device while the guest got
 * another page: while a listener pins RAM nothing is discarded.
 */
#include "vmm/memory_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/ram_backing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

int memory_note_file(struct memory *mem, uint64_t gpa, uint64_t size)
{
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];

		if (gpa < r->gpa || gpa - r->gpa >= r->size)
			continue;
		if (!mem->from_file[i])
			mem->from_file[i] = calloc(region_words(r), 8);
		if (!mem->from_file[i])
			return -ENOMEM;
		for (uint64_t p = (gpa - r->gpa) / PAGE_SIZE, n = size / PAGE_SIZE; n; p++, n--)
			mem->from_file[i][p / 64] |= 1ull << (p % 64);
		return 0;
	}
	return -EINVAL;
}

static bool is_from_file(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> (page % 64) & 1;
}

bool memory_is_shared(const struct memory *mem, uint64_t gpa, uint64_t size)
{
	uint64_t offset = 0;
	const struct ram_region *r = region_find(mem, gpa, size, &offset);
	const uint64_t *bits = r ? mem->from_file[r - mem->regions] : NULL;

	for (uint64_t p = offset / PAGE_SIZE; bits && p < (offset + size) / PAGE_SIZE; p++)
		if (is_from_file(bits, p))
			return false;
	return r;
}

static int map_again(struct memory *mem, const struct ram_region *r, uint64_t page, uint64_t count)
{
	uint8_t *hva = r->hva + page * PAGE_SIZE;
	const size_t size = count * PAGE_SIZE;

	if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, r->fd,
	         (off_t)(r->offset + page * PAGE_SIZE)) == MAP_FAILED)
		return -errno;
	/* As the rest of the region, so that the kernel can join the mappings. */
	return ram_backing_advise(mem->machine, hva, size, NULL);
}

/* Takes file mappings away from [page, end). */
static int drop_file(struct memory *mem, uint64_t *bits, const struct ram_region *r, uint64_t page,
                     uint64_t end)
{
	while (page < end) {
		uint64_t from;
		int ret;

		if (!is_from_file(bits, page)) {
			page++;
			continue;
		}
		for (from = page; page < end && is_from_file(bits, page); page++)
			;
		ret = map_again(mem, r, from, page - from);
		if (ret < 0)
			return ret;
		for (uint64_t p = from; p < page; p++)
			bits[p / 64] &= ~(1ull << (p % 64));
	}
	return 0;
}

int region_discard(struct memory *mem, size_t i, uint64_t offset, uint64_t len)
{
	const struct ram_region *r = &mem->regions[i];
	int ret = 0;

	mem->discards++;
	mem->data[i].end = 0;
	if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	              (off_t)(r->offset + offset), (off_t)len) < 0)
		return -errno;
	if (mem->from_file[i])
		ret = drop_file(mem, mem->from_file[i], r, offset / PAGE_SIZE,
		                (offset + len) / PAGE_SIZE);
	memory_mark_dirty(mem, r->gpa + offset, len);
	return ret;
}

int memory_discard(struct memory *mem, uint64_t gpa, uint64_t len)
{
	if (!len || (gpa | len) % PAGE_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];
		int ret;

		if (gpa < r->gpa || gpa - r->gpa >= r->size)
			continue;
		if (len > r->size - (gpa - r->gpa))
			return -EINVAL;
		/* Whoever is about to pin pages waits here until none are taken away any more. */
		pthread_mutex_lock(&mem->lock);
		ret = memory_pinned(mem) ? -EBUSY : region_discard(mem, i, gpa - r->gpa, len);
		pthread_mutex_unlock(&mem->lock);
		return ret;
	}
	return -EINVAL;
}

/* How many pages from `page` to the end of the region are alike. lseek(2) tells of swapped pages as
 * data; where it cannot tell, all is data. The descriptor's position has no other use. */
static uint64_t extent_in_fd(const struct ram_region *r, uint64_t page, bool *hole)
{
	const uint64_t from = r->offset + page * PAGE_SIZE;
	off_t end = lseek(r->fd, (off_t)from, SEEK_DATA);

	*hole = end < 0 ? errno == ENXIO : (uint64_t)end >= from + PAGE_SIZE;
	if (!*hole && end >= 0)
		end = lseek(r->fd, (off_t)from, SEEK_HOLE);
	if (end < 0 || (uint64_t)end >= r->offset + r->size)
		return r->size / PAGE_SIZE - page;
	/* A hole that does not end with a page: what it has of the last one does not count. */
	end -= (off_t)from;
	return *hole ? (uint64_t)end / PAGE_SIZE : DIV_ROUND_UP((uint64_t)end, PAGE_SIZE);
}

/* An extent of data is remembered: data stay data until they are discarded. A hole is not: the
 * guest may write there at any time, and a page that is taken for a hole is not sent. */
static uint64_t alike_in_fd(struct memory *mem, size_t i, uint64_t page, bool *hole)
{
	uint64_t discards, n = 0;

	*hole = false;
	pthread_mutex_lock(&mem->lock);
	discards = mem->discards;
	if (page >= mem->data[i].from && page < mem->data[i].end)
		n = mem->data[i].end - page;
	pthread_mutex_unlock(&mem->lock);
	if (n)
		return n;
	n = extent_in_fd(&mem->regions[i], page, hole);
	pthread_mutex_lock(&mem->lock);
	if (!*hole && mem->discards == discards) {
		mem->data[i].from = page;
		mem->data[i].end = page + n;
	}
	pthread_mutex_unlock(&mem->lock);
	return n;
}

uint64_t memory_alike(struct memory *mem, size_t i, uint64_t page, uint64_t count, bool *hole)
{
	const uint64_t *bits;
	uint64_t n = 0;

	*hole = false;
	pthread_mutex_lock(&mem->lock);
	bits = mem->from_file[i];
	/* What a file's private mapping shows has nothing to do with the memfd. */
	while (bits && n < count && is_from_file(bits, page + n))
		n++;
	if (bits && !n) {
		while (n < count && !is_from_file(bits, page + n))
			n++;
		count = n;
		n = 0;
	}
	pthread_mutex_unlock(&mem->lock);
	return n ? n : MIN(count, alike_in_fd(mem, i, page, hole));
}

bool memory_pinned(const struct memory *mem)
{
	for (const struct memory_listener *l = mem->listeners; l; l = l->next)
		if (!l->pins_nothing)
			return true;
	return false;
}

bool memory_can_discard(struct memory *mem)
{
	bool can;

	pthread_mutex_lock(&mem->lock);
	can = !memory_pinned(mem);
	pthread_mutex_unlock(&mem->lock);
	return can;
}

void memory_discard_fini(struct memory *mem)
{
	for (size_t i = 0; i < mem->region_count; i++)
		free(mem->from_file[i]);
}
