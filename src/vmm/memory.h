/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory: RAM in memfd-backed regions, and device memory that
 * is mapped into the guest. RAM's dirty tracking is the union of what KVM and
 * every registered dirty source (an IOMMU, a device) report.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include "godwit.h"
#include "vmm/participant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct memory;

/* A piece of guest RAM; the pieces do not overlap and never move. Of one that was added while the
 * machine was there (memory_add_region) only those blocks are there that are plugged: for guest and
 * devices the rest is no RAM, and has no contents to be kept. */
struct ram_region {
	uint64_t gpa; /* MEMORY_GONE: it was taken away */
	uint64_t size;
	uint64_t block;    /* it is plugged in pieces of this size; 0: all of it is there */
	uint64_t *plugged; /* with `block`: one bit a block */
	bool take_pages;   /* with `block`: the host's pages are taken when it is plugged */
	unsigned node;     /* with `block`: the guest's NUMA node that it belongs to */
	uint8_t *hva;
	int fd;          /* memfd; not all of it is mapped after memory_map_file */
	uint64_t offset; /* where in fd it begins */
	uint32_t slot;   /* KVM memslot */
	uint64_t *dirty; /* one bit a page; once tracking was on */
};

#define MEMORY_GONE UINT64_MAX

/* Most that there can be. */
#define MEMORY_REGIONS_MAX 8

/* Bytes of RAM that the host has not given yet; pages that are reserved count as given. What is
 * added block by block does not count. */
uint64_t memory_not_taken(const struct memory *mem);

int memory_create(struct machine *m, uint64_t ram_size, struct memory **out, struct gw_error *err);
/* Of a machine with a guest elsewhere (outside.h): without regions; addresses and dirty pages are
 * the owner's. */
int memory_create_outside(struct machine *m, struct memory **out, struct gw_error *err);
void memory_destroy(struct memory *mem);

size_t memory_region_count(const struct memory *mem);
const struct ram_region *memory_region(const struct memory *mem, size_t i);
/* What the machine began with. */
uint64_t memory_size(const struct memory *mem);

/* The next stretch of region `i` that is there, from *offset on; false: there is none. */
bool memory_next_run(const struct memory *mem, size_t i, uint64_t *offset, uint64_t *len);

/* Where [gpa, gpa+len) of RAM is in this process; NULL if any of it is not RAM or it
 * crosses regions. */
void *memory_hva(const struct memory *mem, uint64_t gpa, uint64_t len);
/* Copies, with that check; -EFAULT. write marks the pages dirty. */
int memory_read(const struct memory *mem, uint64_t gpa, void *buf, size_t len);
int memory_write(struct memory *mem, uint64_t gpa, const void *buf, size_t len);

/* Device memory (a BAR that the host lets us map) shown to the guest at gpa as a KVM memslot.
 * *slot is a handle for memory_unmap_device. Page-aligned all. */
int memory_map_device(struct memory *mem, uint64_t gpa, void *hva, uint64_t size, bool readonly,
                      uint32_t *slot, struct gw_error *err);
void memory_unmap_device(struct memory *mem, uint32_t slot);

/* Who else writes to guest memory. Calls come while tracking is started, synced, stopped.
 * sync() calls memory_mark_dirty for what it finds. A source that is added while tracking is
 * on is started at once. */
struct dirty_source {
	const char *name;
	/* Set by start(): nobody can tell what it writes, so in the end all of RAM counts as
	 * dirty, once (memory_dirty_sync_last). */
	bool blind;
	int (*start)(struct dirty_source *s, struct gw_error *err);
	int (*sync)(struct dirty_source *s, struct memory *mem, struct gw_error *err);
	void (*stop)(struct dirty_source *s);
	struct dirty_source *next;
};
int memory_add_dirty_source(struct memory *mem, struct dirty_source *s, struct gw_error *err);
void memory_remove_dirty_source(struct memory *mem, struct dirty_source *s);

/* Who has to know how RAM is laid out, in most cases because it holds translations of its own (an
 * IOMMU mapping). Any call may be NULL. They must not call back into memory, but for reading. */
struct memory_listener {
	/* What is behind a guest-physical range has been replaced. */
	int (*remapped)(struct memory_listener *l, uint64_t gpa, uint64_t size, void *hva,
	                struct gw_error *err);
	/* Whole blocks of a region, each of `block` bytes, are about to be there; are not any more
	 * (or were not to be, after all). Once memory_follow() was called. */
	int (*plugged)(struct memory_listener *l, uint64_t gpa, uint64_t size, uint64_t block,
	               void *hva, struct gw_error *err);
	void (*unplugged)(struct memory_listener *l, uint64_t gpa, uint64_t size);
	/* A region was added, or is gone. */
	int (*regions_changed)(struct memory_listener *l, struct gw_error *err);
	/* Dirty tracking is off: memory_plug() and memory_unplug() work again. */
	void (*tracking_ended)(struct memory_listener *l);
	bool pins_nothing; /* pages may be taken from under it (memory_discard) */
	bool follows;      /* kept by memory */
	struct memory_listener *next;
};
void memory_add_listener(struct memory *mem, struct memory_listener *l);
void memory_remove_listener(struct memory *mem, struct memory_listener *l);
/* Calls plugged() for all blocks that are there, and from now on for those that come. */
int memory_follow(struct memory *mem, struct memory_listener *l, struct gw_error *err);

/* Marks RAM in [gpa, gpa+len) dirty; what is not RAM is passed over. Any thread. Does nothing
 * while tracking is off. */
void memory_mark_dirty(struct memory *mem, uint64_t gpa, uint64_t len);

/* Tracking, as RAM's participant uses it. After start() every page counts as dirty. sync()
 * fetches all logs; it returns the number of pages now dirty. */
int memory_dirty_start(struct memory *mem, struct gw_error *err);
int64_t memory_dirty_sync(struct memory *mem, struct gw_error *err);
/* As that, when nothing writes any more. */
int64_t memory_dirty_sync_last(struct memory *mem, struct gw_error *err);
/* Pages that are not dirty now and will be in the last sync, whatever is written. */
uint64_t memory_dirty_foreseen(const struct memory *mem);
void memory_dirty_stop(struct memory *mem);
uint64_t memory_dirty_pages(const struct memory *mem);

/* Takes the dirty bits of up to MEMORY_CHUNK_WORDS words of region `i` from word `word` on:
 * they are cleared here and in KVM, so that a write after this call is reported again and the
 * pages may now be read. Returns the number of words taken. */
#define MEMORY_CHUNK_WORDS 32
int memory_dirty_take(struct memory *mem, size_t i, uint64_t word,
                      uint64_t bits[MEMORY_CHUNK_WORDS], struct gw_error *err);

/* Replaces RAM in [gpa, gpa+size) by a private mapping of fd at offset; or copies the data, where
 * RAM is to be of certain pages or is shared. */
int memory_map_file(struct memory *mem, uint64_t gpa, uint64_t size, int fd, uint64_t offset,
                    struct gw_error *err);

/* RAM in [gpa, gpa+size) is what is in its region's descriptor: nothing stands in for it. A
 * listener may ask. */
bool memory_is_shared(const struct memory *mem, uint64_t gpa, uint64_t size);

/* Gives whole pages of RAM back to the host: they read as zeros afterwards, and are marked dirty.
 * Any thread. -EBUSY: a listener holds translations, nothing is done; -EINVAL: not whole pages of
 * one region; else the host's error, and the contents are undefined (src/vmm/memory_discard.c). */
int memory_discard(struct memory *mem, uint64_t gpa, uint64_t len);
/* False while listeners forbid it. */
bool memory_can_discard(struct memory *mem);

/* ---- RAM that comes and goes (src/vmm/memory_plug.c) ------------------------------------- */

/* A region of NUMA node `node` of which nothing is there yet, in `block`s of a power of two of at
 * least 2 MiB.
 * Everything page-aligned. -EEXIST: something is there; -EBUSY: memory is being moved. */
int memory_add_region(struct memory *mem, uint64_t gpa, uint64_t size, uint64_t block,
                      unsigned node, struct gw_error *err);
/* Takes it away with all that is plugged. What was in flight there leads nowhere: the mapping in
 * this process stays, for a region of the same size and node to come. */
void memory_remove_region(struct memory *mem, uint64_t gpa);

/* Whole blocks of such a region come, or go and are given back to the host. Any thread.
 * -EINVAL: not blocks of one region, or some of them are there already (are not there); -EBUSY:
 * dirty tracking is on; else what the host or a listener says, and nothing has changed. */
int memory_plug(struct memory *mem, uint64_t gpa, uint64_t len, struct gw_error *err);
int memory_unplug(struct memory *mem, uint64_t gpa, uint64_t len, struct gw_error *err);
/* All blocks of the region at `gpa` that are there. */
int memory_unplug_all(struct memory *mem, uint64_t gpa, struct gw_error *err);
/* Dirty tracking is on, so they are refused. */
bool memory_tracking(const struct memory *mem);
/* How much of [gpa, gpa+len) is there, and of all such regions together. */
uint64_t memory_plugged_within(const struct memory *mem, uint64_t gpa, uint64_t len);
uint64_t memory_plugged(const struct memory *mem);

/* RAM as a participant, "ram" (src/vmm/ram.c). */
struct participant *memory_participant(struct memory *mem);

#endif
