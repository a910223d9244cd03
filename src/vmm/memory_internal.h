/* SPDX-License-Identifier: Apache-2.0 */
/* What memory.c, memory_dirty.c and ram.c share, and nobody else sees. */
#ifndef VMM_MEMORY_INTERNAL_H
#define VMM_MEMORY_INTERNAL_H

#include "vmm/arch.h"
#include "vmm/memory.h"

#include <pthread.h>

#define MEMORY_DEVICE_SLOTS 256

struct memory {
	struct machine *machine;
	uint64_t size;
	struct ram_region regions[ARCH_RAM_RANGES];
	size_t region_count;
	bool copy_in; /* memory_map_file() copies (struct ram_backing) */
	struct memory_listener *listeners;

	/* guards device_slot_used, the list of listeners, and what is discarded meanwhile */
	pthread_mutex_t lock;
	uint32_t device_slots; /* number of the first memslot for device memory */
	bool device_slot_used[MEMORY_DEVICE_SLOTS];

	/* dirty tracking (memory_dirty.c) */
	bool tracking;
	bool manual_protect; /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is on */
	struct dirty_source *sources;
	uint64_t *log[ARCH_RAM_RANGES]; /* room for KVM_GET_DIRTY_LOG */

	/* One bit a page: a file is mapped there instead of the memfd; NULL: nowhere */
	uint64_t *from_file[ARCH_RAM_RANGES];

	/* RAM as a participant (ram.c) */
	struct participant participant;
	struct {
		size_t region;
		uint64_t word;
	} cursor;                         /* where iterate() goes on */
	uint8_t *loaded[ARCH_RAM_RANGES]; /* one bit a page: holds data that were loaded */
};

int memory_set_region_flags(struct memory *mem, const struct ram_region *r, uint32_t flags);
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

#endif
