/* SPDX-License-Identifier: Apache-2.0 */
/* Who tells what a device writes: the device's DMA log against a stand-in that refuses at each
 * call, the address space, and nobody. */
#include "platform.h"

#include "vfio/dirty.h"
#include "vmm/memory_internal.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RAM (1 * MIB)
#define FEATURE(name) VFIO_DEVICE_FEATURE_DMA_LOGGING_##name

/* ---- a machine with three pieces of RAM, the last of them far off ------------------------- */

static int no_memslot(struct machine *m, struct kvm_userspace_memory_region *region)
{
	(void)m, (void)region;
	return 0;
}

struct world {
	struct log log;
	struct machine m;
	struct memory mem;
	struct vfio_space space;
	struct vfio_dev dev;
	struct vfio_dirty dirty;
	struct gw_error err;
};

/* What the stand-in device is, has heard, and does. Each test is a process of its own. */
static struct {
	bool none;           /* no DMA logging */
	bool no_bitmaps;     /* its kernel can report nothing */
	uint64_t page_size;  /* it chooses; 0: what is asked for */
	unsigned ranges_max; /* -E2BIG with more; 0: any number */
	int start_error, report_error;
	unsigned report_errors; /* so many reports fail */
	bool reset_ends_log, reset_breaks_log;
	bool on;
	unsigned starts, stops, reports, resets;
	unsigned range_count;
	struct vfio_device_feature_dma_logging_range ranges[16];
	uint64_t written; /* a page's address; UINT64_MAX: none */
} dev;

static struct {
	unsigned starts, stops, syncs;
	uint64_t iova[16], size[16];
} space;

static char warned[512];

static void on_log(void *opaque, enum gw_log_level level, const char *text)
{
	(void)opaque;
	if (level == GW_LOG_WARN)
		snprintf(warned, sizeof(warned), "%s", text);
}

static int do_start(struct vfio_device_feature_dma_logging_control *c)
{
	dev.starts++;
	if (dev.start_error)
		return dev.start_error;
	if (dev.on || !c->num_ranges)
		return -EINVAL;
	if (dev.ranges_max && c->num_ranges > dev.ranges_max)
		return -E2BIG;
	cr_assert_leq(c->num_ranges, ARRAY_SIZE(dev.ranges));
	dev.range_count = c->num_ranges;
	memcpy(dev.ranges, (void *)(uintptr_t)c->ranges, c->num_ranges * sizeof(dev.ranges[0]));
	if (dev.page_size)
		c->page_size = dev.page_size;
	dev.on = true;
	return 0;
}

static int do_report(const struct vfio_device_feature_dma_logging_report *r)
{
	uint64_t *bits = (void *)(uintptr_t)r->bitmap;

	if (dev.no_bitmaps)
		return -EOPNOTSUPP;
	if (!dev.on)
		return -EINVAL;
	dev.reports++;
	if (dev.report_errors && dev.report_errors--)
		return dev.report_error;
	cr_assert_eq((r->iova | r->length) % r->page_size, 0);
	for (uint64_t i = 0; i < DIV_ROUND_UP(r->length / r->page_size, 64); i++)
		cr_assert_eq(bits[i], 0, "the bitmap comes zeroed");
	if (dev.written >= r->iova && dev.written - r->iova < r->length) {
		const uint64_t bit = (dev.written - r->iova) / r->page_size;

		bits[bit / 64] |= 1ull << bit % 64;
		dev.written = UINT64_MAX;
	}
	return 0;
}

static int stand_in_feature(struct vfio_dev *d, struct vfio_device_feature *request)
{
	const uint32_t what = request->flags & VFIO_DEVICE_FEATURE_MASK;

	(void)d;
	if (dev.none)
		return -ENOTTY;
	if (request->flags & VFIO_DEVICE_FEATURE_PROBE)
		return 0;
	if (what == FEATURE(START))
		return do_start((void *)request->data);
	if (what == FEATURE(REPORT))
		return do_report((void *)request->data);
	cr_assert_eq(what, FEATURE(STOP));
	dev.stops++;
	dev.on = false;
	return 0;
}

static int stand_in_reset(struct vfio_dev *d)
{
	(void)d;
	dev.resets++;
	if (dev.reset_ends_log || dev.reset_breaks_log)
		dev.on = false;
	if (dev.reset_breaks_log)
		dev.start_error = -EIO;
	return 0;
}

static const struct vfio_host_ops stand_in_ops = { .feature = stand_in_feature,
	                                           .reset = stand_in_reset };

static int space_start(struct vfio_space *s, struct gw_error *err)
{
	(void)s, (void)err;
	space.starts++;
	return 0;
}

static int space_sync(struct vfio_space *s, struct memory *mem, uint64_t iova, uint64_t size,
                      struct gw_error *err)
{
	(void)s, (void)mem, (void)err;
	cr_assert_lt(space.syncs, ARRAY_SIZE(space.iova));
	space.iova[space.syncs] = iova;
	space.size[space.syncs++] = size;
	return 0;
}

static void space_stop(struct vfio_space *s)
{
	(void)s;
	space.stops++;
}

static int space_map(struct vfio_space *s, const struct vfio_mapping *m, struct gw_error *err)
{
	(void)s, (void)m, (void)err;
	return 0;
}

static void space_unmap(struct vfio_space *s, uint64_t iova, uint64_t size)
{
	(void)s, (void)iova, (void)size;
}

static const struct vfio_space_ops space_ops = {
	.backend = "stand-in",
	.map = space_map,
	.unmap = space_unmap,
	.dirty_start = space_start,
	.dirty_sync = space_sync,
	.dirty_stop = space_stop,
};

/* Two pieces that touch, and one at 4 GiB. */
static struct world *world_new(bool none_ok)
{
	static const uint64_t at[] = { 4 * GIB, 0, RAM };
	struct world *w = calloc(1, sizeof(*w));

	cr_assert(w);
	dev.written = UINT64_MAX;
	w->log = (struct log){ .write = on_log };
	w->m.log = &w->log;
	w->m.vm_fd = w->m.vfio_kvm_fd = -1;
	w->m.memory = &w->mem;
	w->mem.machine = &w->m;
	w->mem.set_memslot = no_memslot;
	pthread_mutex_init(&w->mem.lock, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		w->mem.regions[i] = (struct ram_region){ .gpa = at[i], .size = RAM, .fd = -1 };
	w->mem.region_count = ARRAY_SIZE(at);
	vfio_space_init(&w->space, &space_ops, &w->m);
	cr_assert_eq(vfio_space_attach(&w->space, &w->err), 0);
	w->dev = (struct vfio_dev){ .ops = &stand_in_ops, .name = "card", .can_reset = true };
	cr_assert_eq(vfio_dirty_init(&w->dirty, &w->dev, &w->space, none_ok, &w->err), 0);
	return w;
}

static void world_free(struct world *w)
{
	vfio_dirty_fini(&w->dirty);
	cr_assert_null(w->dev.dirty);
	vfio_space_fini(&w->space);
	cr_assert_null(w->mem.sources);
	memory_dirty_fini(&w->mem);
	free(w);
}

/* Tracking on, and all that counts as dirty from the beginning taken. */
static void start(struct world *w)
{
	uint64_t bits[MEMORY_CHUNK_WORDS];

	cr_assert_eq(memory_dirty_start(&w->mem, &w->err), 0, "%s", w->err.text);
	for (size_t i = 0; i < w->mem.region_count; i++)
		for (uint64_t word = 0; word < region_words(&w->mem.regions[i]);)
			word += (uint64_t)memory_dirty_take(&w->mem, i, word, bits, &w->err);
	cr_assert_eq(memory_dirty_pages(&w->mem), 0);
}

/* KVM's part of a sync is left out. */
static int sync_device(struct world *w)
{
	w->err = (struct gw_error){ 0 };
	return w->dirty.source.sync(&w->dirty.source, &w->mem, &w->err);
}

static bool is_dirty(const struct world *w, size_t region, uint64_t page)
{
	return w->mem.regions[region].dirty[page / 64] >> page % 64 & 1;
}

/* ---- who ---------------------------------------------------------------------------------- */

Test(vfio_dirty, the_device_itself_then_the_space_then_nobody)
{
	cr_assert_eq(vfio_dirty_by(true, true), VFIO_DIRTY_BY_DEVICE);
	cr_assert_eq(vfio_dirty_by(true, false), VFIO_DIRTY_BY_DEVICE);
	cr_assert_eq(vfio_dirty_by(false, true), VFIO_DIRTY_BY_SPACE);
	cr_assert_eq(vfio_dirty_by(false, false), VFIO_DIRTY_BY_NOBODY);
	cr_assert_null(vfio_dirty_blocker(VFIO_DIRTY_BY_DEVICE, false));
	cr_assert_null(vfio_dirty_blocker(VFIO_DIRTY_BY_SPACE, false));
	cr_assert_null(vfio_dirty_blocker(VFIO_DIRTY_BY_NOBODY, true));
	cr_assert(strstr(vfio_dirty_blocker(VFIO_DIRTY_BY_NOBODY, false), "none-ok"));
}

Test(vfio_dirty, the_space_is_tracked_only_where_a_device_needs_it)
{
	struct world *w = world_new(false);

	w->space.tracks_dirty = true;
	start(w);
	cr_assert_eq(space.starts, 0, "the device logs by itself");
	memory_dirty_stop(&w->mem);
	cr_assert_eq(space.stops, 0);
	world_free(w);

	dev.none = true;
	w = world_new(false);
	w->space.tracks_dirty = true;
	w->space.piece_max = RAM / 2;
	start(w);
	cr_assert_eq(space.starts, 1);
	cr_assert_eq(w->space.dirty.sync(&w->space.dirty, &w->mem, &w->err), 0);
	cr_assert_eq(space.syncs, 6, "each mapping by itself");
	cr_assert_eq(space.iova[1], 4 * GIB + RAM / 2);
	cr_assert_eq(space.size[1], RAM / 2);
	memory_dirty_stop(&w->mem);
	cr_assert_eq(space.stops, 1);
	world_free(w);
}

Test(vfio_dirty, where_nobody_tells_it_has_to_be_allowed)
{
	struct world *w;

	dev.none = true;
	w = world_new(false);
	cr_assert_eq(memory_dirty_start(&w->mem, &w->err), -ENOTSUP);
	cr_assert(strstr(w->err.text, "card: nobody tells"), "%s", w->err.text);
	world_free(w);
}

Test(vfio_dirty, where_nobody_tells_all_is_dirty_in_the_end_and_foreseen)
{
	const uint64_t pages = 3 * RAM / PAGE_SIZE;
	struct world *w;

	dev.none = true;
	w = world_new(true);
	start(w);
	cr_assert(strstr(warned, "card: nobody tells"), "%s", warned);
	cr_assert_eq(sync_device(w), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 0, "passes stay small");
	cr_assert_eq(memory_dirty_foreseen(&w->mem), pages);
	memory_mark_dirty(&w->mem, 0, 2 * PAGE_SIZE);
	cr_assert_eq(memory_dirty_foreseen(&w->mem), pages - 2);
	memory_dirty_stop(&w->mem);
	cr_assert_eq(memory_dirty_foreseen(&w->mem), 0);
	cr_assert_not(w->dirty.source.blind);
	world_free(w);
}

/* ---- the log --------------------------------------------------------------------------------- */

Test(vfio_dirty, ranges_are_ascending_and_merged)
{
	struct world *w = world_new(false);

	start(w);
	cr_assert_eq(dev.range_count, 2);
	cr_assert_eq(dev.ranges[0].iova, 0);
	cr_assert_eq(dev.ranges[0].length, 2 * RAM);
	cr_assert_eq(dev.ranges[1].iova, 4 * GIB);
	cr_assert_eq(dev.ranges[1].length, RAM);
	memory_dirty_stop(&w->mem);
	cr_assert_not(dev.on);
	world_free(w);
}

Test(vfio_dirty, too_many_ranges_become_fewer)
{
	struct world *w = world_new(false);

	w->mem.regions[2].gpa = 16 * MIB; /* three apart; these two are nearest */
	dev.ranges_max = 2;
	start(w);
	cr_assert_eq(dev.starts, 2);
	cr_assert_eq(dev.range_count, 2);
	cr_assert_eq(dev.ranges[0].length, 16 * MIB + RAM);
	cr_assert_eq(dev.ranges[1].iova, 4 * GIB);
	memory_dirty_stop(&w->mem);
	dev.ranges_max = 1;
	start(w);
	cr_assert_eq(dev.range_count, 1);
	cr_assert_eq(dev.ranges[0].length, 4 * GIB + RAM);
	memory_dirty_stop(&w->mem);
	dev.start_error = -E2BIG;
	cr_assert_eq(memory_dirty_start(&w->mem, &w->err), -E2BIG);
	cr_assert(strstr(w->err.text, "card: VFIO_DEVICE_FEATURE_DMA_LOGGING_START"), "%s",
	          w->err.text);
	cr_assert_not(w->mem.tracking);
	world_free(w);
}

Test(vfio_dirty, a_log_that_is_on_already_begins_anew)
{
	struct world *w = world_new(false);

	dev.on = true;
	start(w);
	cr_assert_eq(dev.starts, 2);
	cr_assert_eq(dev.stops, 1);
	world_free(w);
	cr_assert_not(dev.on);
}

/* Debian's kernels without IOMMUFD: the probe is answered by the driver, reports by nobody. */
Test(vfio_dirty, a_kernel_that_cannot_report_has_no_log)
{
	struct world *w;

	dev.no_bitmaps = true;
	w = world_new(true);
	cr_assert_eq(vfio_dirty_who(&w->dirty), VFIO_DIRTY_BY_NOBODY);
	start(w);
	cr_assert_eq(dev.starts, 0);
	world_free(w);
}

Test(vfio_dirty, what_is_reported_is_dirty)
{
	struct world *w = world_new(false);

	start(w);
	dev.written = 4 * GIB + 7 * PAGE_SIZE;
	cr_assert_eq(sync_device(w), 0, "%s", w->err.text);
	cr_assert(is_dirty(w, 0, 7));
	cr_assert_eq(memory_dirty_pages(&w->mem), 1);
	cr_assert_eq(dev.reports, 3, "each mapping by itself");
	world_free(w);
}

Test(vfio_dirty, in_the_page_size_that_the_device_chose)
{
	struct world *w = world_new(false);

	dev.page_size = 64 * KIB;
	start(w);
	dev.written = RAM + 64 * KIB + PAGE_SIZE;
	cr_assert_eq(sync_device(w), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 16);
	cr_assert(is_dirty(w, 2, 16) && is_dirty(w, 2, 31));
	memory_dirty_stop(&w->mem);
	/* What is no size for us, or larger than a mapping, is asked for in pages. */
	for (dev.page_size = 512; dev.page_size; dev.page_size = dev.page_size == 512     ? 12288
	                                                         : dev.page_size == 12288 ? GIB
	                                                                                  : 0) {
		start(w);
		dev.written = RAM;
		cr_assert_eq(sync_device(w), 0);
		cr_assert_eq(memory_dirty_pages(&w->mem), 1);
		memory_dirty_stop(&w->mem);
	}
	world_free(w);
}

Test(vfio_dirty, after_any_report_error_all_is_dirty_and_it_begins_anew)
{
	static const int errors[] = { -EINVAL, -EIO, -ENOMEM, -EFAULT, -ENOTCONN };
	struct world *w = world_new(false);

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		start(w);
		dev.report_error = errors[i];
		dev.report_errors = 1;
		dev.starts = 0;
		cr_assert_eq(sync_device(w), 0, "%s", w->err.text);
		cr_assert_eq(memory_dirty_pages(&w->mem), 3 * RAM / PAGE_SIZE);
		cr_assert(strstr(warned, "began anew"), "%s", warned);
		cr_assert_eq(dev.starts, 1);
		cr_assert(dev.on);
		memory_dirty_stop(&w->mem);
	}
	world_free(w);
}

Test(vfio_dirty, where_it_does_not_begin_anew_the_sync_fails)
{
	struct world *w = world_new(false);

	start(w);
	dev.report_error = -EIO;
	dev.report_errors = 1;
	dev.start_error = -ENOMEM;
	cr_assert_eq(sync_device(w), -ENOMEM);
	cr_assert(strstr(w->err.text, "REPORT at 0x"), "%s", w->err.text);
	cr_assert(strstr(w->err.text, "starting it anew: Cannot allocate"), "%s", w->err.text);
	cr_assert_eq(memory_dirty_pages(&w->mem), 3 * RAM / PAGE_SIZE);
	/* It stays lost until it comes back. */
	dev.start_error = 0;
	cr_assert_eq(sync_device(w), 0);
	cr_assert(dev.on);
	world_free(w);
}

/* ---- resets -----------------------------------------------------------------------------------
 */

Test(vfio_dirty, a_reset_loses_nothing)
{
	struct world *w = world_new(false);

	start(w);
	dev.written = 5 * PAGE_SIZE;
	cr_assert_eq(vfio_dev_reset(&w->dev, &w->err), 0);
	cr_assert(is_dirty(w, 1, 5), "taken before");
	dev.written = 6 * PAGE_SIZE;
	cr_assert_eq(sync_device(w), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 2, "the log outlived the reset");

	dev.reset_ends_log = true;
	cr_assert_eq(vfio_dev_reset(&w->dev, &w->err), 0);
	cr_assert(dev.on, "and where it does not, it is on again");
	dev.written = 9 * PAGE_SIZE;
	cr_assert_eq(sync_device(w), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 3);
	world_free(w);
}

Test(vfio_dirty, a_log_that_a_reset_broke_counts_as_lost)
{
	struct world *w = world_new(false);

	start(w);
	dev.reset_breaks_log = true;
	cr_assert_eq(vfio_dev_reset(&w->dev, &w->err), 0);
	cr_assert_eq(sync_device(w), -EIO);
	cr_assert(strstr(w->err.text, "ended with a reset"), "%s", w->err.text);
	dev.start_error = 0;
	cr_assert_eq(sync_device(w), 0);
	cr_assert_eq(memory_dirty_pages(&w->mem), 3 * RAM / PAGE_SIZE);
	world_free(w);
}

Test(vfio_dirty, resets_without_tracking_do_not_touch_the_log)
{
	struct world *w = world_new(false);

	cr_assert_eq(vfio_dev_reset(&w->dev, &w->err), 0);
	cr_assert_eq(dev.starts + dev.stops + dev.reports, 0);
	world_free(w);
}

/* A device that comes while tracking is on is started at once; one that goes is stopped. */
Test(vfio_dirty, in_the_middle_of_tracking)
{
	struct world *w = world_new(false);
	struct vfio_dirty second;

	start(w);
	dev.on = false;
	dev.starts = 0;
	cr_assert_eq(vfio_dirty_init(&second, &w->dev, &w->space, false, &w->err), 0);
	cr_assert_eq(dev.starts, 1);
	vfio_dirty_fini(&second);
	cr_assert_not(dev.on);
	dev.start_error = -EIO;
	cr_assert_eq(vfio_dirty_init(&second, &w->dev, &w->space, false, &w->err), -EIO);
	vfio_dirty_fini(&second);
	world_free(w);
}

/* ---- the last sync ----------------------------------------------------------------------------
 */

static int blind_start(struct dirty_source *s, struct gw_error *err)
{
	(void)err;
	s->blind = true;
	return 0;
}

static int blind_sync(struct dirty_source *s, struct memory *mem, struct gw_error *err)
{
	(void)s, (void)mem, (void)err;
	return 0;
}

Test(vfio_dirty, the_last_sync_has_all_that_a_blind_device_reaches)
{
	struct dirty_source blind = { .name = "blind", .start = blind_start, .sync = blind_sync };
	struct platform *p = platform_new_kvm();
	const int64_t pages = 2 * MIB / PAGE_SIZE;
	uint64_t bits[MEMORY_CHUNK_WORDS];
	struct participant_pending left;
	struct participant *ram;
	struct gw_error err = { 0 };
	struct memory *mem;

	cr_assert_eq(memory_create(&p->m, 2 * MIB, &mem, &err), 0, "%s", err.text);
	p->m.memory = mem;
	ram = memory_participant(mem);
	cr_assert_eq(memory_add_dirty_source(mem, &blind, &err), 0);
	cr_assert_eq(memory_dirty_start(mem, &err), 0, "%s", err.text);
	for (uint64_t word = 0; word < region_words(&mem->regions[0]);)
		word += (uint64_t)memory_dirty_take(mem, 0, word, bits, &err);
	/* Once KVM has told what it took for written from the beginning. */
	cr_assert_geq(memory_dirty_sync(mem, &err), 0, "%s", err.text);
	for (uint64_t word = 0; word < region_words(&mem->regions[0]);)
		word += (uint64_t)memory_dirty_take(mem, 0, word, bits, &err);
	cr_assert_eq(memory_dirty_sync(mem, &err), 0);
	cr_assert_eq(ram->ops->pending(ram, PENDING_EXACT, &left, &err), 0);
	cr_assert_eq(left.precopy, 0);
	cr_assert_eq(left.stop, 2 * MIB, "the estimate has it");
	cr_assert_eq(memory_dirty_sync_last(mem, &err), pages);
	memory_dirty_stop(mem);
	memory_remove_dirty_source(mem, &blind);
	memory_destroy(mem);
	platform_free(p);
}

/* Of random bits, in runs: those pages and no others. */
Test(vfio_dirty, each_bit_is_a_page)
{
	struct world *w = world_new(false);
	const uint64_t gpa = w->mem.regions[0].gpa;
	uint64_t bits[4];

	start(w);
	for (unsigned round = 0; round < 200; round++) {
		const unsigned pages = 1 + (unsigned)rand() % 256;
		const unsigned run = 1 + (unsigned)rand() % 130;

		memset(w->mem.regions[0].dirty, 0, sizeof(bits));
		for (unsigned i = 0, on = 0; i < 256; i++) {
			on ^= i % run == 0 || rand() % 40 == 0;
			bits[i / 64] = (bits[i / 64] & ~(1ull << i % 64)) | (uint64_t)on << i % 64;
		}
		vfio_dirty_mark(&w->mem, gpa, PAGE_SIZE, bits, pages);
		for (unsigned i = 0; i < 256; i++)
			cr_assert_eq(is_dirty(w, 0, i), i < pages && bits[i / 64] >> i % 64 & 1);
	}
	memory_dirty_stop(&w->mem);
	world_free(w);
}
