/* SPDX-License-Identifier: Apache-2.0 */
/* What memory*.c and ram.c share, and nobody else sees. */
#ifndef VMM_MEMORY_INTERNAL_H
#define VMM_MEMORY_INTERNAL_H

#include "vmm/arch.h"
#include "vmm/memory.h"

#include <pthread.h>

#define MEMORY_DEVICE_SLOTS 256

_Static_assert(MEMORY_REGIONS_MAX > ARCH_RAM_RANGES, "room for RAM, and more");
/* A block is so many pages at least that a word of the dirty bitmap belongs to one block. */
#define MEMORY_BLOCK_MIN (2ull << 20)

struct memory {
	struct machine *machine;
	const struct machine_outside *outside; /* the machine's: memory is elsewhere */
	uint64_t size;
	struct ram_region regions[MEMORY_REGIONS_MAX];
	size_t region_count; /* grows only, so that other threads need no lock to look */
	/* KVM_SET_USER_MEMORY_REGION, so that it can be done without in tests. */
	int (*set_memslot)(struct machine *m, struct kvm_userspace_memory_region *region);
	bool copy_in; /* memory_map_file() copies (struct ram_backing) */
	struct memory_listener *listeners;

	/* guards device_slot_used, the list of listeners, what is discarded meanwhile, which
	 * regions there are and what is plugged in them */
	pthread_mutex_t lock;
	uint32_t device_slots; /* number of the first memslot for device memory */
	bool device_slot_used[MEMORY_DEVICE_SLOTS];

	/* dirty tracking (memory_dirty.c) */
	bool tracking;
	bool manual_protect; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is on */
	struct dirty_source *sources;
	uint64_t *log[MEMORY_REGIONS_MAX]; /* room for KVM_GET_DIRTY_LOG */

	/* One bit a page: a file is mapped there instead of the memfd; NULL: nowhere */
	uint64_t *from_file[MEMORY_REGIONS_MAX];
	/* The last extent of data that was found in each memfd, in pages (memory_discard.c). Where
	 * it ends the kernel knows only by walking all of it. */
	struct {
		uint64_t from, end;
	} data[MEMORY_REGIONS_MAX];
	uint64_t discards; /* how often pages were discarded: what was found before may be gone */

	/* RAM as a participant (ram.c) */
	struct participant participant;
	struct {
		size_t region;
		uint64_t word;
	} cursor;                            /* where iterate() goes on */
	uint8_t *loaded[MEMORY_REGIONS_MAX]; /* one bit a page: holds data that were loaded */
	bool told;                           /* what is plugged has been sent */
	uint32_t heard;                      /* one bit a region: what is plugged there has come */
};

int memory_set_region_flags(struct memory *mem, const struct ram_region *r, uint32_t flags);
/* Makes what is behind a region and shows it to the guest: regions[index], with gpa and size,
 * block and node. Its other fields are undone by region_destroy(). */
int region_create(struct memory *mem, unsigned index, struct gw_error *err);
void region_destroy(struct memory *mem, struct ram_region *r);
/* The region that [gpa, gpa+len) lies in, whether it is plugged or not, and where there; NULL. */
struct ram_region *region_find(const struct memory *mem, uint64_t gpa, uint64_t len,
                               uint64_t *offset);
/* Does somebody hold translations to RAM? With `lock`. */
bool memory_pinned(const struct memory *mem);
/* Is all of it plugged? Any thread. */
bool region_all_there(const struct ram_region *r, uint64_t offset, uint64_t len);
/* The part of memory_discard() that does it; with `lock`. */
int region_discard(struct memory *mem, size_t i, uint64_t offset, uint64_t len);
/* Whatever a file has put where nothing is plugged goes again. */
void memory_discard_unplugged(struct memory *mem);
void memory_dirty_probe(struct memory *mem);
void memory_dirty_fini(struct memory *mem);
/* memory_discard.c */
/* Of the `count` pages of region `i` from `page` on, how many at the beginning are alike: never
 * touched or discarded (*hole), so zero without looking, or not. Looking would make them. */
uint64_t memory_alike(struct memory *mem, size_t i, uint64_t page, uint64_t count, bool *hole);
int memory_note_file(struct memory *mem, uint64_t gpa, uint64_t size);
void memory_discard_fini(struct memory *mem);
void ram_participant_init(struct memory *mem);
void ram_participant_fini(struct memory *mem);

/* 64-bit words that a region's dirty bitmap has. */
static inline uint64_t region_words(const struct ram_region *r)
{
	return (r->size / 4096 + 63) / 64;
}

/* Does RAM that is there belong to this word of the dirty bitmap? */
static inline bool region_word_there(const struct ram_region *r, uint64_t word)
{
	const uint64_t b = r->block ? word / (r->block / 4096 / 64) : 0;

	return !r->block ||
	       (__atomic_load_n(&r->plugged[b / 64], __ATOMIC_RELAXED) >> (b % 64) & 1);
}

#endif
