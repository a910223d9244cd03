/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking of RAM: one bitmap a region, the union of KVM's log and what
 * the registered sources report.
 *
 * With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 (KVM API, 4.117 and 7.15) fetching
 * the log leaves KVM's bits and write access alone; KVM_CLEAR_DIRTY_LOG takes
 * them chunk by chunk, right before the pages are read. So a page that is
 * written again before its turn costs no further fault.
 */
#include "vmm/memory_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/outside.h"

#include <linux/kvm.h>
#include <string.h>

void memory_dirty_probe(struct memory *mem)
{
	int vm = mem->machine->vm_fd;
	int offered = io_ioctl(vm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };

	if (offered <= 0)
		return;
	cap.args[0] = (uint64_t)offered &
	              (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	mem->manual_protect = io_ioctl(vm, KVM_ENABLE_CAP, &cap) == 0;
}

static void set_all(struct ram_region *r)
{
	uint64_t pages = r->size / PAGE_SIZE;

	for (uint64_t w = 0; w < region_words(r); w++)
		r->dirty[w] = region_word_there(r, w) ? UINT64_MAX : 0;
	if (pages % 64)
		r->dirty[pages / 64] &= (1ull << (pages % 64)) - 1;
}

void memory_dirty_fini(struct memory *mem)
{
	for (size_t i = 0; i < mem->region_count; i++) {
		free(mem->regions[i].dirty);
		free(mem->log[i]);
	}
}

/* Bitmaps are kept once made: a vCPU's thread may be in memory_mark_dirty while tracking ends. */
static int alloc_bitmaps(struct memory *mem, struct gw_error *err)
{
	for (size_t i = 0; i < mem->region_count; i++) {
		struct ram_region *r = &mem->regions[i];

		if (!r->dirty)
			r->dirty = calloc(region_words(r), 8);
		if (!mem->log[i])
			mem->log[i] = calloc(region_words(r), 8);
		if (!r->dirty || !mem->log[i])
			return error_set(err, -ENOMEM, "dirty tracking: out of memory");
		set_all(r);
	}
	return 0;
}

static int log_regions(struct memory *mem, uint32_t flags)
{
	int ret = 0;

	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];

		if (r->gpa != MEMORY_GONE)
			ret = memory_set_region_flags(mem, r, flags);
		if (ret < 0 && flags)
			return ret;
	}
	return 0;
}

int memory_dirty_start(struct memory *mem, struct gw_error *err)
{
	int r;

	if (mem->tracking)
		return error_set(err, -EBUSY, "dirty tracking is on already");
	/* From here on nothing is plugged or unplugged (memory_plug.c). */
	pthread_mutex_lock(&mem->lock);
	r = alloc_bitmaps(mem, err);
	if (!r)
		__atomic_store_n(&mem->tracking, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&mem->lock);
	if (r < 0)
		return r;
	r = log_regions(mem, KVM_MEM_LOG_DIRTY_PAGES);
	if (r < 0)
		error_set_sys(err, r, "dirty tracking on: KVM_SET_USER_MEMORY_REGION");
	for (struct dirty_source *s = mem->sources; s && !r; s = s->next)
		r = s->start ? s->start(s, err) : 0;
	if (r < 0)
		memory_dirty_stop(mem);
	return r;
}

bool memory_tracking(const struct memory *mem)
{
	return __atomic_load_n(&mem->tracking, __ATOMIC_ACQUIRE);
}

void memory_dirty_stop(struct memory *mem)
{
	if (!mem->tracking)
		return;
	for (struct dirty_source *s = mem->sources; s; s = s->next)
		if (s->stop)
			s->stop(s);
	log_regions(mem, 0);
	pthread_mutex_lock(&mem->lock);
	__atomic_store_n(&mem->tracking, false, __ATOMIC_RELEASE);
	for (struct memory_listener *l = mem->listeners; l; l = l->next)
		if (l->tracking_ended)
			l->tracking_ended(l);
	pthread_mutex_unlock(&mem->lock);
}

int memory_add_dirty_source(struct memory *mem, struct dirty_source *s, struct gw_error *err)
{
	if (mem->tracking && s->start) {
		int r = s->start(s, err);

		if (r < 0)
			return r;
	}
	s->next = mem->sources;
	mem->sources = s;
	return 0;
}

void memory_remove_dirty_source(struct memory *mem, struct dirty_source *s)
{
	for (struct dirty_source **pp = &mem->sources; *pp; pp = &(*pp)->next) {
		if (*pp == s) {
			*pp = s->next;
			if (mem->tracking && s->stop)
				s->stop(s);
			return;
		}
	}
}

/* A word at a time: a device's log may tell of all memory while the guest stands. */
static void mark_pages(struct ram_region *r, uint64_t first, uint64_t last)
{
	for (uint64_t w = first / 64; w <= last / 64; w++) {
		uint64_t bits = UINT64_MAX;

		if (w == first / 64)
			bits &= UINT64_MAX << first % 64;
		if (w == last / 64)
			bits &= UINT64_MAX >> (63 - last % 64);
		if (region_word_there(r, w))
			__atomic_fetch_or(&r->dirty[w], bits, __ATOMIC_RELAXED);
	}
}

void memory_mark_dirty(struct memory *mem, uint64_t gpa, uint64_t len)
{
	const struct machine_outside *outside = mem->outside;

	if (outside)
		outside->dirty(outside->opaque, gpa, len);
	if (!__atomic_load_n(&mem->tracking, __ATOMIC_ACQUIRE) || !len)
		return;
	for (size_t i = 0; i < mem->region_count; i++) {
		struct ram_region *r = &mem->regions[i];
		uint64_t from = MAX(gpa, r->gpa);
		uint64_t to =
		        MIN(len > UINT64_MAX - gpa ? UINT64_MAX : gpa + len, r->gpa + r->size);

		if (from < to)
			mark_pages(r, (from - r->gpa) >> PAGE_SHIFT,
			           (to - 1 - r->gpa) >> PAGE_SHIFT);
	}
}

static int fetch_kvm_log(struct memory *mem, size_t i, struct gw_error *err)
{
	struct ram_region *r = &mem->regions[i];
	struct kvm_dirty_log log = { .slot = r->slot, .dirty_bitmap = mem->log[i] };
	int ret =
	        r->gpa == MEMORY_GONE ? 0 : io_ioctl(mem->machine->vm_fd, KVM_GET_DIRTY_LOG, &log);

	if (ret < 0)
		return error_set_sys(err, ret, "RAM at 0x%llx: KVM_GET_DIRTY_LOG",
		                     (unsigned long long)r->gpa);
	for (uint64_t w = 0; w < region_words(r); w++)
		if (mem->log[i][w] && region_word_there(r, w))
			__atomic_fetch_or(&r->dirty[w], mem->log[i][w], __ATOMIC_RELAXED);
	return 0;
}

uint64_t memory_dirty_pages(const struct memory *mem)
{
	uint64_t pages = 0;

	if (!mem->tracking)
		return 0;
	for (size_t i = 0; i < mem->region_count; i++)
		for (uint64_t w = 0; w < region_words(&mem->regions[i]); w++)
			pages += (unsigned)__builtin_popcountll(mem->regions[i].dirty[w]);
	return pages;
}

int64_t memory_dirty_sync(struct memory *mem, struct gw_error *err)
{
	int r;

	for (size_t i = 0; i < mem->region_count; i++) {
		r = fetch_kvm_log(mem, i, err);
		if (r < 0)
			return r;
	}
	for (struct dirty_source *s = mem->sources; s; s = s->next) {
		r = s->sync(s, mem, err);
		if (r < 0)
			return error_context(err, "dirty pages of %s", s->name);
	}
	return (int64_t)memory_dirty_pages(mem);
}

static bool any_blind(const struct memory *mem)
{
	for (const struct dirty_source *s = mem->sources; s; s = s->next)
		if (s->blind)
			return true;
	return false;
}

int64_t memory_dirty_sync_last(struct memory *mem, struct gw_error *err)
{
	int64_t pages = memory_dirty_sync(mem, err);

	if (pages < 0 || !any_blind(mem))
		return pages;
	for (size_t i = 0; i < mem->region_count; i++)
		set_all(&mem->regions[i]);
	return (int64_t)memory_dirty_pages(mem);
}

uint64_t memory_dirty_foreseen(const struct memory *mem)
{
	uint64_t pages = 0;

	if (!mem->tracking || !any_blind(mem))
		return 0;
	for (size_t i = 0; i < mem->region_count; i++) {
		uint64_t at = 0, len;

		for (; memory_next_run(mem, i, &at, &len); at += len)
			pages += len / PAGE_SIZE;
	}
	return pages - MIN(pages, memory_dirty_pages(mem));
}

int memory_dirty_take(struct memory *mem, size_t i, uint64_t word,
                      uint64_t bits[MEMORY_CHUNK_WORDS], struct gw_error *err)
{
	struct ram_region *r = &mem->regions[i];
	uint64_t words = MIN((uint64_t)MEMORY_CHUNK_WORDS, region_words(r) - word);
	uint64_t pages = MIN(words * 64, r->size / PAGE_SIZE - word * 64);
	struct kvm_clear_dirty_log clear = {
		.slot = r->slot,
		.num_pages = (uint32_t)pages,
		.first_page = word * 64,
		.dirty_bitmap = bits,
	};
	uint64_t any = 0;
	int ret;

	for (uint64_t w = 0; w < words; w++) {
		bits[w] = __atomic_exchange_n(&r->dirty[word + w], 0, __ATOMIC_RELAXED);
		any |= bits[w];
	}
	if (!any || !mem->manual_protect)
		return (int)words;
	ret = io_ioctl(mem->machine->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
	if (ret < 0)
		return error_set_sys(err, ret, "RAM at 0x%llx: KVM_CLEAR_DIRTY_LOG",
		                     (unsigned long long)(r->gpa + word * 64 * PAGE_SIZE));
	return (int)words;
}
