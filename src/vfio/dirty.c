/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/dirty.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

#define FEATURE(name) VFIO_DEVICE_FEATURE_DMA_LOGGING_##name

enum vfio_dirty_by vfio_dirty_by(bool device_logs, bool space_tracks)
{
	/* The device knows best: an IOMMU's dirty bits are of all devices behind it, and the pages
	 * that are pinned need not have been written. */
	if (device_logs)
		return VFIO_DIRTY_BY_DEVICE;
	return space_tracks ? VFIO_DIRTY_BY_SPACE : VFIO_DIRTY_BY_NOBODY;
}

const char *vfio_dirty_blocker(enum vfio_dirty_by by, bool none_ok)
{
	if (by != VFIO_DIRTY_BY_NOBODY || none_ok)
		return NULL;
	return "nobody tells which memory it writes to: neither its driver (DMA logging) nor the "
	       "host's IOMMU; give it \"dirty-tracking\": \"none-ok\", so that all memory is sent "
	       "again while the guest stands, or";
}

static bool is_set(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

void vfio_dirty_mark(struct memory *mem, uint64_t gpa, uint64_t page_size, const uint64_t *bits,
                     uint64_t pages)
{
	for (uint64_t i = 0, n; i < pages; i += n) {
		n = bits[i / 64] ? 1 : 64 - i % 64;
		if (!bits[i / 64] || !is_set(bits, i))
			continue;
		while (i + n < pages && is_set(bits, i + n))
			n++;
		memory_mark_dirty(mem, gpa + i * page_size, n * page_size);
	}
}

/* ---- what the device is asked ----------------------------------------------------------- */

/* A kernel that was built without the bitmaps for it (no IOMMUFD, and no driver that wants them)
 * says yes to the probe and EOPNOTSUPP to each report. That nothing has been started is another
 * error, or none. */
static bool can_report(struct vfio_dev *dev)
{
	uint64_t bits = 0;
	struct vfio_device_feature_dma_logging_report request = {
		.length = PAGE_SIZE,
		.page_size = PAGE_SIZE,
		.bitmap = (uintptr_t)&bits,
	};

	return vfio_dev_feature(dev, VFIO_DEVICE_FEATURE_GET | FEATURE(REPORT), &request,
	                        sizeof(request)) != -EOPNOTSUPP;
}

bool vfio_dirty_device_logs(struct vfio_dev *dev)
{
	static const uint32_t needed[] = {
		VFIO_DEVICE_FEATURE_SET | FEATURE(START),
		VFIO_DEVICE_FEATURE_SET | FEATURE(STOP),
		VFIO_DEVICE_FEATURE_GET | FEATURE(REPORT),
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (vfio_dev_feature(dev, VFIO_DEVICE_FEATURE_PROBE | needed[i], NULL, 0) < 0)
			return false;
	return can_report(dev);
}

/* ---- the ranges that are logged ----------------------------------------------------------- */

struct ranges {
	struct vfio_device_feature_dma_logging_range list[MEMORY_REGIONS_MAX];
	unsigned count;
};

static uint64_t end_of(const struct vfio_device_feature_dma_logging_range *r)
{
	return r->iova + r->length;
}

/* All of RAM, ascending; pieces that touch are one. */
static void fill_ranges(const struct memory *mem, struct ranges *out)
{
	out->count = 0;
	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);
		unsigned at = out->count;

		if (r->gpa == MEMORY_GONE)
			continue;
		for (; at && out->list[at - 1].iova > r->gpa; at--)
			out->list[at] = out->list[at - 1];
		out->list[at].iova = r->gpa;
		out->list[at].length = r->size;
		out->count++;
	}
	for (unsigned i = 1; i < out->count;) {
		if (end_of(&out->list[i - 1]) != out->list[i].iova) {
			i++;
			continue;
		}
		out->list[i - 1].length += out->list[i].length;
		memmove(&out->list[i], &out->list[i + 1],
		        (--out->count - i) * sizeof(out->list[0]));
	}
}

/* One range fewer, where that takes the least along that is no RAM. */
static void merge_nearest(struct ranges *r)
{
	unsigned best = 1;

	for (unsigned i = 2; i < r->count; i++)
		if (r->list[i].iova - end_of(&r->list[i - 1]) <
		    r->list[best].iova - end_of(&r->list[best - 1]))
			best = i;
	r->list[best - 1].length = end_of(&r->list[best]) - r->list[best - 1].iova;
	memmove(&r->list[best], &r->list[best + 1], (--r->count - best) * sizeof(r->list[0]));
}

/* ---- the log: start, report, stop ------------------------------------------------------------ */

static int request_start(struct vfio_dirty *d, struct ranges *ranges)
{
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = PAGE_SIZE,
		.num_ranges = ranges->count,
		.ranges = (uintptr_t)ranges->list,
	};
	int r = vfio_dev_feature(d->dev, VFIO_DEVICE_FEATURE_SET | FEATURE(START), &control,
	                         sizeof(control));

	if (r < 0)
		return r;
	/* The device chooses, and writes back what. It reports in any size that is asked for (a
	 * power of two), in its own with the least effort. */
	d->page_size = control.page_size;
	if (d->page_size < PAGE_SIZE || d->page_size & (d->page_size - 1))
		d->page_size = PAGE_SIZE;
	return 0;
}

/* Fewer ranges, as long as there are too many for the device (-E2BIG). */
static int start_log(struct vfio_dirty *d)
{
	struct ranges ranges;
	int r;

	fill_ranges(d->space->machine->memory, &ranges);
	while ((r = request_start(d, &ranges)) == -E2BIG && ranges.count > 1)
		merge_nearest(&ranges);
	return r;
}

static void stop_log(struct vfio_dirty *d)
{
	vfio_dev_feature(d->dev, VFIO_DEVICE_FEATURE_SET | FEATURE(STOP), NULL, 0);
	d->logging = false;
}

/* What was written to one mapping since last time. A report only ever sets bits. */
static int report(void *opaque, const struct ram_region *region, uint64_t offset, uint64_t size,
                  struct gw_error *err)
{
	struct vfio_dirty *d = opaque;
	const uint64_t gpa = region->gpa + offset;
	const uint64_t page = (gpa | size) % d->page_size ? PAGE_SIZE : d->page_size;
	const uint64_t words = DIV_ROUND_UP(size / page, 64ull);
	autofree uint64_t *bits = calloc(words, sizeof(*bits));
	struct vfio_device_feature_dma_logging_report request = {
		.iova = gpa,
		.length = size,
		.page_size = page,
		.bitmap = (uintptr_t)bits,
	};
	int r;

	if (!bits)
		return error_set(err, -ENOMEM, "out of memory");
	r = vfio_dev_feature(d->dev, VFIO_DEVICE_FEATURE_GET | FEATURE(REPORT), &request,
	                     sizeof(request));
	if (r < 0)
		return error_set_sys(err, r, "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT at 0x%llx",
		                     (unsigned long long)gpa);
	vfio_dirty_mark(d->space->machine->memory, gpa, page, bits, size / page);
	return 0;
}

static void mark_all(const struct vfio_dirty *d)
{
	struct memory *mem = d->space->machine->memory;

	for (size_t i = 0; i < memory_region_count(mem); i++)
		if (memory_region(mem, i)->gpa != MEMORY_GONE)
			memory_mark_dirty(mem, memory_region(mem, i)->gpa,
			                  memory_region(mem, i)->size);
}

/* After any error the log says nothing any more (uAPI): all may have been written, and logging
 * begins anew. */
static int begin_anew(struct vfio_dirty *d, struct gw_error *why)
{
	int r;

	mark_all(d);
	stop_log(d);
	r = start_log(d);
	d->logging = r == 0;
	d->lost = !d->logging;
	if (r < 0)
		error_append(why, "starting it anew: %s", strerror(-r));
	return r;
}

/* ---- as a source of dirty pages ---------------------------------------------------------------
 */

static int start_device(struct vfio_dirty *d, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&d->lock);
	d->lost = false;
	r = start_log(d);
	/* On already: somebody was cut short before. What that log knows is of no use. */
	if (r == -EINVAL) {
		stop_log(d);
		r = start_log(d);
	}
	d->logging = r == 0;
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? error_set_sys(err, r, "%s: VFIO_DEVICE_FEATURE_DMA_LOGGING_START",
	                             d->dev->name)
	             : 0;
}

static int source_start(struct dirty_source *source, struct gw_error *err)
{
	struct vfio_dirty *d = container_of(source, struct vfio_dirty, source);
	const struct log *log = d->space->machine->log;
	const char *why;

	source->blind = false;
	switch (vfio_dirty_who(d)) {
	case VFIO_DIRTY_BY_DEVICE:
		return start_device(d, err);
	case VFIO_DIRTY_BY_SPACE:
		return vfio_space_track(d->space, err);
	case VFIO_DIRTY_BY_NOBODY:
		break;
	}
	why = vfio_dirty_blocker(VFIO_DIRTY_BY_NOBODY, d->none_ok);
	if (why)
		return error_set(err, -ENOTSUP, "%s: %s", d->dev->name, why);
	source->blind = true;
	log_warn(log,
	         "%s: nobody tells which memory it writes to: all of it is sent again while the "
	         "guest stands, for which downtime-limit has to be long enough",
	         d->dev->name);
	return 0;
}

static int source_sync(struct dirty_source *source, struct memory *mem, struct gw_error *err)
{
	struct vfio_dirty *d = container_of(source, struct vfio_dirty, source);
	struct gw_error own = { 0 };
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (d->lost)
		r = error_set(&own, -EIO, "the log ended with a reset of the device");
	else if (d->logging)
		r = vfio_space_each_piece(d->space, mem, report, d, &own);
	if (r < 0) {
		r = begin_anew(d, &own);
		if (!r)
			log_warn(d->space->machine->log,
			         "%s: %s; all memory counts as dirty, and logging began anew",
			         d->dev->name, own.text);
	}
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? error_set(err, r, "%s", own.text) : 0;
}

static void source_stop(struct dirty_source *source)
{
	struct vfio_dirty *d = container_of(source, struct vfio_dirty, source);

	pthread_mutex_lock(&d->lock);
	if (d->logging)
		stop_log(d);
	d->lost = false;
	pthread_mutex_unlock(&d->lock);
	source->blind = false;
}

/* ---- resets
 * --------------------------------------------------------------------------------------
 */

void vfio_dirty_before_reset(struct vfio_dirty *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->logging &&
	    vfio_space_each_piece(d->space, d->space->machine->memory, report, d, NULL) < 0)
		mark_all(d);
	pthread_mutex_unlock(&d->lock);
}

/* The uAPI does not say what becomes of the log. A second start of one that is on is refused with
 * EINVAL. */
void vfio_dirty_after_reset(struct vfio_dirty *d)
{
	int r;

	pthread_mutex_lock(&d->lock);
	r = d->logging ? start_log(d) : 0;
	d->lost = r < 0 && r != -EINVAL;
	pthread_mutex_unlock(&d->lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

int vfio_dirty_init(struct vfio_dirty *d, struct vfio_dev *dev, struct vfio_space *space,
                    bool none_ok, struct gw_error *err)
{
	int r;

	*d = (struct vfio_dirty){
		.source = { .name = dev->name,
		            .start = source_start,
		            .sync = source_sync,
		            .stop = source_stop },
		.dev = dev,
		.space = space,
		.none_ok = none_ok,
		.logs = vfio_dirty_device_logs(dev),
		.page_size = PAGE_SIZE,
	};
	pthread_mutex_init(&d->lock, NULL);
	r = memory_add_dirty_source(space->machine->memory, &d->source, err);
	if (r < 0)
		return r;
	d->added = true;
	dev->dirty = d;
	return 0;
}

void vfio_dirty_fini(struct vfio_dirty *d)
{
	if (!d->added)
		return;
	d->dev->dirty = NULL;
	d->added = false;
	memory_remove_dirty_source(d->space->machine->memory, &d->source);
	pthread_mutex_destroy(&d->lock);
}
