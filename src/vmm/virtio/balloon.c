/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon: the guest hands pages back, on request (inflation) or of its
 * own accord (free page reporting), and the host takes their memory away.
 *
 * A page that was taken away is there again, zeroed, as soon as the guest
 * touches it: so deflation needs nothing of us, and a guest that lies about
 * its pages loses only what it had in them. While a passthrough device has the
 * RAM pinned nothing is taken away, and the balloon is a promise by the guest
 * alone.
 *
 * The queues have a thread of their own, since freeing gigabytes takes a while.
 * Source: VIRTIO 1.2, 5.5.
 */
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/devices.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define QUEUE_SIZE 128
#define TURN_PAGES 16384u /* that are looked at before the lock is given up */
#define PFN_CHUNK 256u

/* 5.5.2; which queues behind the statistics' exist depends on features, and drivers number them
 * without gaps or with: whatever comes there is free page reporting. */
enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_STATS, QUEUES = 5 };

/* 5.5.4 */
enum { CONFIG_TARGET = 0, CONFIG_ACTUAL = 4, CONFIG_POISON = 12, CONFIG_SIZE_ALL = 16 };

struct balloon_options {
	bool deflate_on_oom, reporting;
};

static const struct virtio_feature_name feature_names[] = {
	{ BALLOON_F_STATS_VQ, "VIRTIO_BALLOON_F_STATS_VQ" },
	{ BALLOON_F_DEFLATE_ON_OOM, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM" },
	{ BALLOON_F_PAGE_POISON, "VIRTIO_BALLOON_F_PAGE_POISON" },
	{ BALLOON_F_PAGE_REPORTING, "VIRTIO_BALLOON_F_PAGE_REPORTING" },
	{ 0, NULL },
};

static struct balloon *of(struct virtio *v)
{
	return container_of(v, struct balloon, v);
}

static struct balloon *of_device(struct device *d)
{
	return container_of(d, struct balloon, v.device);
}

static struct memory *memory_of(const struct balloon *b)
{
	return b->v.device.machine->memory;
}

/* ---- taking pages away -------------------------------------------------------------- */

static bool may_discard(struct balloon *b)
{
	if (memory_can_discard(memory_of(b))) {
		b->inhibited = false;
		return true;
	}
	if (!b->inhibited)
		log_info(b->v.device.machine->log,
		         "device %s: a passthrough device has guest memory pinned, no page of the "
		         "balloon is freed",
		         b->v.device.id);
	b->inhibited = true;
	return false;
}

static int compare_pfns(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Runs of pages at once. What is not RAM is passed over. */
static void discard_pfns(struct balloon *b, uint32_t *pfns, unsigned count)
{
	unsigned from = 0;

	qsort(pfns, count, sizeof(pfns[0]), compare_pfns);
	for (unsigned i = 1; i <= count; i++) {
		if (i < count && pfns[i] - pfns[i - 1] <= 1)
			continue;
		memory_discard(memory_of(b), (uint64_t)pfns[from] << PAGE_SHIFT,
		               ((uint64_t)pfns[i - 1] - pfns[from] + 1) << PAGE_SHIFT);
		from = i;
	}
}

/* The buffer is a list of page numbers, 32 bits each. A balloon of more pages than a turn has
 * comes in several buffers; what is more in one is left to the guest. */
static void inflate(struct balloon *b)
{
	uint32_t pfns[PFN_CHUNK];
	size_t offset = 0;

	while (may_discard(b) && b->turn) {
		const size_t n = virtq_chain_read(&b->chain, offset, pfns, sizeof(pfns));
		const unsigned count = (unsigned)(n / sizeof(pfns[0]));

		for (unsigned i = 0; i < count; i++)
			pfns[i] = le32toh(pfns[i]);
		if (count)
			discard_pfns(b, pfns, count);
		b->turn -= MIN(b->turn, count);
		offset += n;
		if (n < sizeof(pfns))
			break;
	}
}

/* 5.5.6.7: while the guest relies on what it fills free pages with, they must keep it. With the
 * device lock held. */
static void update_poison(struct balloon *b)
{
	pthread_mutex_lock(balloon_lock(b));
	b->poisoned = virtio_has(&b->v, BALLOON_F_PAGE_POISON) &&
	              virtio_config_get(&b->v, CONFIG_POISON, 4) != 0;
	pthread_mutex_unlock(balloon_lock(b));
}

/* The pieces to write are the free pages themselves. */
static void take_reported(struct balloon *b)
{
	const struct virtq_chain *c = &b->chain;

	for (unsigned i = c->out; i < c->out + c->in && !b->poisoned && may_discard(b); i++) {
		const uint64_t from = ALIGN_UP(c->gpa[i], PAGE_SIZE);
		const uint64_t to = ALIGN_DOWN(c->gpa[i] + c->iov[i].iov_len, PAGE_SIZE);

		if (from < to)
			memory_discard(memory_of(b), from, to - from);
	}
	b->turn -= MIN(b->turn, PFN_CHUNK);
}

static void give_back(struct balloon *b)
{
	b->turn -= MIN(b->turn, 1u);
}

static void serve(struct balloon *b, struct virtio_queue *q, void (*one)(struct balloon *b))
{
	int r = 0;

	b->turn = TURN_PAGES;
	do {
		virtq_kicks_off(&q->ring);
		while (b->turn && (r = virtq_pop(&q->ring, &b->chain)) > 0) {
			one(b);
			virtq_fill(&q->ring, &b->chain, 0);
		}
		virtio_publish(q);
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		virtio_break(&b->v, q->ring.broken ? q->ring.broken : "out of memory");
	else if (r)
		io_eventfd_signal(q->kick_fd);
}

static void balloon_kick(struct virtio *v, struct virtio_queue *q)
{
	struct balloon *b = of(v);

	if (q->index == QUEUE_INFLATE)
		serve(b, q, inflate);
	else if (q->index == QUEUE_DEFLATE)
		serve(b, q, give_back);
	else if (q->index == QUEUE_STATS && virtio_has(v, BALLOON_F_STATS_VQ))
		balloon_stats_kick(b, q);
	else if (virtio_has(v, BALLOON_F_PAGE_REPORTING))
		serve(b, q, take_reported);
}

/* ---- size --------------------------------------------------------------------------- */

static uint64_t ram_pages(const struct balloon *b)
{
	return memory_size(memory_of(b)) >> PAGE_SHIFT;
}

/* What the guest has left, in bytes, as it says itself. */
static uint64_t actual(const struct balloon *b)
{
	const uint64_t pages = virtio_config_get(&b->v, CONFIG_ACTUAL, 4);

	return (ram_pages(b) - MIN(pages, ram_pages(b))) << PAGE_SHIFT;
}

static void balloon_config_written(struct virtio *v, unsigned offset, unsigned size)
{
	struct balloon *b = of(v);
	const struct machine_notify *notify = &v->device.machine->notify;
	char data[48];

	(void)offset;
	(void)size;
	update_poison(b);
	if (actual(b) == b->told || !notify->event)
		return;
	b->told = actual(b);
	snprintf(data, sizeof(data), "{\"actual\":%llu}", (unsigned long long)b->told);
	notify->event(notify->opaque, "BALLOON_CHANGE", data);
}

/* {"value": bytes that the guest is to have}: more than there is means all. */
static int set_target(struct balloon *b, const cJSON *args, struct gw_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(args, "value");
	struct machine *m = b->v.device.machine;
	uint64_t pages;

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1))
		return error_set(err, -EINVAL, "value: not a number of bytes");
	machine_lock(m);
	pages = ram_pages(b);
	if (item->valuedouble < (double)(pages << PAGE_SHIFT))
		pages = (uint64_t)item->valuedouble >> PAGE_SHIFT;
	virtio_config_set(&b->v, CONFIG_TARGET, 4, ram_pages(b) - pages);
	virtio_config_changed(&b->v);
	machine_unlock(m);
	return 0;
}

static int query(struct balloon *b, cJSON **ret, struct gw_error *err)
{
	struct machine *m = b->v.device.machine;
	cJSON *root = cJSON_CreateObject();
	uint64_t bytes;

	machine_lock(m);
	bytes = actual(b);
	machine_unlock(m);
	if (!cJSON_AddNumberToObject(root, "actual", (double)bytes)) {
		cJSON_Delete(root);
		return error_set(err, -ENOMEM, "out of memory");
	}
	*ret = root;
	return 0;
}

static int balloon_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                           struct gw_error *err)
{
	struct balloon *b = of_device(d);

	if (!strcmp(name, "balloon"))
		return set_target(b, args, err);
	if (!strcmp(name, "query-balloon"))
		return query(b, ret, err);
	if (!strcmp(name, "stats"))
		return balloon_stats_command(b, ret, err);
	if (!strcmp(name, "set-polling-interval"))
		return balloon_interval_command(b, args, err);
	return -EOPNOTSUPP;
}

static bool balloon_describe(struct device *d, cJSON *info)
{
	struct balloon *b = of_device(d);
	uint64_t now, target;

	machine_lock(d->machine);
	now = actual(b);
	target = (ram_pages(b) - MIN(virtio_config_get(&b->v, CONFIG_TARGET, 4), ram_pages(b)))
	         << PAGE_SHIFT;
	machine_unlock(d->machine);
	return cJSON_AddNumberToObject(info, "actual", (double)now) &&
	       cJSON_AddNumberToObject(info, "target", (double)target);
}

/* ---- active or not ------------------------------------------------------------------ */

static int balloon_start(struct virtio *v, struct gw_error *err)
{
	(void)err;
	update_poison(of(v));
	pthread_mutex_lock(balloon_lock(of(v)));
	balloon_stats_schedule(of(v));
	pthread_mutex_unlock(balloon_lock(of(v)));
	return 0;
}

/* Buffers are dealt with at once: nothing is in flight. */
static void balloon_stop(struct virtio *v)
{
	loop_timer_set(of(v)->timer, -1);
}

static void balloon_stop_queue(struct virtio *v, struct virtio_queue *q)
{
	pthread_mutex_lock(balloon_lock(of(v)));
	if (q->index == QUEUE_STATS)
		of(v)->stats_seen = false;
	pthread_mutex_unlock(balloon_lock(of(v)));
}

/* The target stays: the next driver inflates anew. */
static void balloon_reset(struct virtio *v)
{
	virtio_config_set(v, CONFIG_ACTUAL, 4, 0);
	virtio_config_set(v, CONFIG_POISON, 4, 0);
	of(v)->told = actual(of(v));
	pthread_mutex_lock(balloon_lock(of(v)));
	balloon_stats_forget(of(v));
	pthread_mutex_unlock(balloon_lock(of(v)));
}

static void balloon_save(struct virtio *v, struct bytes *out)
{
	pthread_mutex_lock(balloon_lock(of(v)));
	balloon_stats_save(of(v), out);
	pthread_mutex_unlock(balloon_lock(of(v)));
}

static int balloon_load(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(balloon_lock(of(v)));
	r = balloon_stats_load(of(v), in, err);
	pthread_mutex_unlock(balloon_lock(of(v)));
	return r;
}

/* ---- made and gone ------------------------------------------------------------------ */

static int balloon_open(struct virtio *v, struct gw_error *err)
{
	struct balloon *b = of(v);

	balloon_stats_forget(b);
	b->told = actual(b);
	return loop_timer_create(v->workers[0].loop, balloon_stats_due, b, &b->timer, err);
}

static void balloon_release(struct virtio *v)
{
	loop_timer_destroy(of(v)->timer);
	virtq_chain_free(&of(v)->chain);
}

static const struct virtio_ops balloon_ops = {
	.id = 5,
	.class_code = 0x00ff00, /* nothing that PCI has a class for */
	.feature_names = feature_names,
	.kick = balloon_kick,
	.start = balloon_start,
	.stop = balloon_stop,
	.stop_queue = balloon_stop_queue,
	.reset = balloon_reset,
	.config_written = balloon_config_written,
	.save = balloon_save,
	.load = balloon_load,
	.open = balloon_open,
	.release = balloon_release,
};

static const struct participant_ops balloon_participant = VIRTIO_PARTICIPANT("virtio-balloon");

static int balloon_create(struct machine *m, const struct config_device *config, bool hot,
                          struct device **out, struct gw_error *err)
{
	const struct balloon_options *o = virtio_options(config);
	const struct virtio_setup setup = {
		.ops = &balloon_ops,
		.participant = &balloon_participant,
		.driver = &virtio_balloon_driver,
		.queues = QUEUES,
		.queue_size = QUEUE_SIZE,
		.threads = 1,
	};
	struct balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_set(err, -ENOMEM, "out of memory");
	b->v.offered = BALLOON_F_STATS_VQ | (o->deflate_on_oom ? BALLOON_F_DEFLATE_ON_OOM : 0);
	if (o->reporting)
		b->v.offered |= BALLOON_F_PAGE_REPORTING | BALLOON_F_PAGE_POISON;
	b->v.config_size = CONFIG_SIZE_ALL;
	virtio_config_allow_write(&b->v, CONFIG_ACTUAL, 4);
	virtio_config_allow_write(&b->v, CONFIG_POISON, 4);
	r = virtio_plug(&b->v, m, config, hot, &setup, err);
	if (!r)
		*out = &b->v.device;
	return r;
}

static const struct config_key balloon_keys[] = {
	CONFIG_ROW_BOOL(NULL, "deflate-on-oom", struct balloon_options, deflate_on_oom, "false",
	                "the guest may take pages back before it runs out of memory"),
	CONFIG_ROW_BOOL(NULL, "free-page-reporting", struct balloon_options, reporting, "true",
	                "the guest tells of free pages, whose memory goes back to the host"),
	CONFIG_ROW_END,
};

const struct device_driver virtio_balloon_driver = {
	.type = "virtio-balloon",
	.help = "memory that the guest lends back to the host",
	.keys = balloon_keys,
	.create = balloon_create,
	VIRTIO_DRIVER_CALLS,
	.describe = balloon_describe,
	.command = balloon_command,
};
