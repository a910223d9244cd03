/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/virtio/devices.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define QUEUES_MAX 16

#define BLOCK_MAX 65536

static const char *const formats[] = { [BLK_FORMAT_AUTO] = "auto", [BLK_FORMAT_RAW] = "raw", NULL };

static const struct config_key keys[] = {
	CONFIG_ROW_TEXT(NULL, "file", CONFIG_OF_HOST, struct blk_options, file,
	                "raw image or block device"),
	CONFIG_ROW_TEXT(NULL, "fd", CONFIG_OF_HOST, struct blk_options, fd,
	                "instead of file: the name of a descriptor that was given (getfd)"),
	CONFIG_ROW_ENUM(
	        NULL, "format", struct blk_options, format, "\"auto\"", formats,
	        "raw: whatever is in it is the disk; auto: an image that is known not to be raw "
	        "(qcow2, VMDK, ...) is refused"),
	CONFIG_ROW_TEXT(NULL, "serial", 0, struct blk_options, serial,
	                "serial number that the guest sees"),
	CONFIG_ROW_BOOL(NULL, "read-only", struct blk_options, read_only, NULL,
	                "the guest cannot write"),
	CONFIG_ROW_BOOL(NULL, "direct", struct blk_options, direct, NULL,
	                "without the host's page cache (O_DIRECT)"),
	CONFIG_ROW_NUMBER(
	        NULL, "logical-block-size", CONFIG_UINT, 0, struct blk_options, logical, BLK_SECTOR,
	        BLOCK_MAX, "512",
	        "what the guest takes for a sector, in bytes, a power of two; whatever the "
	        "host's is"),
	CONFIG_ROW_NUMBER(NULL, "physical-block-size", CONFIG_UINT, 0, struct blk_options, physical,
	                  BLK_SECTOR, BLOCK_MAX, NULL,
	                  "what it should align its writes to; without it the logical one"),
	CONFIG_ROW_NUMBER(NULL, "queues", CONFIG_UINT, 0, struct blk_options, queues, 1, QUEUES_MAX,
	                  "1", "queues, each with a thread"),
	CONFIG_ROW_NUMBER(NULL, "queue-size", CONFIG_UINT, 0, struct blk_options, queue_size, 16,
	                  VIRTQ_SIZE_MAX, "256", "entries of each queue, a power of two"),
	CONFIG_ROW_END,
};

static struct blk *of(struct virtio *v)
{
	return container_of(v, struct blk, virtio);
}

/* ---- active -------------------------------------------------------------------------------- */

static int take_disk(struct blk *b, struct gw_error *err)
{
	int r = blk_file_lock(&b->file, err);

	return r < 0 ? error_context(err, "%s", b->path) : 0;
}

static int claim(struct device *d, struct gw_error *err)
{
	return take_disk(of(container_of(d, struct virtio, device)), err);
}

static void unclaim(struct device *d)
{
	blk_file_unlock(&of(container_of(d, struct virtio, device))->file);
}

/* The disk is this machine's from its start until its guest is handed over, paused or not. A server
 * of devices does not know whose the guest is: the disk is its own while the device is active. */
static bool locks_while_active(const struct machine *m)
{
	return m->outside;
}

static int start(struct virtio *v, struct gw_error *err)
{
	struct blk *b = of(v);
	int r = take_disk(b, err);

	if (r < 0)
		return r;
	/* Another host may have written what is cached here. */
	if (b->arrived && !b->file.direct)
		posix_fadvise(b->file.fd, 0, 0, POSIX_FADV_DONTNEED);
	b->arrived = false;
	return 0;
}

static void wait_for_queue(struct blk_queue *bq)
{
	struct virtio_worker *w = bq->queue->worker;

	pthread_mutex_lock(&w->lock);
	while (bq->in_flight)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

/* What was written is on the disk before anybody else, another host for instance, uses it. */
static void flush(struct blk *b)
{
	bool unflushed = false;

	for (unsigned i = 0; i < b->virtio.queue_count; i++) {
		unflushed |= b->queues[i].unflushed;
		b->queues[i].unflushed = false;
	}
	if (unflushed && fdatasync(b->file.fd) < 0) {
		log_error(b->virtio.device.machine->log, "device %s: %s: fdatasync: %s",
		          b->virtio.device.id, b->path, strerror(errno));
		/* The kernel reports it once, and may have dropped the pages. */
		b->lost = true;
	}
}

/* A guest that goes on elsewhere must find there what it has written here. */
static const char *unfit(struct virtio *v)
{
	return of(v)->lost ? "what the guest has written did not reach the disk (fdatasync failed)"
	                   : NULL;
}

static void stop(struct virtio *v)
{
	struct blk *b = of(v);

	for (unsigned i = 0; i < v->queue_count; i++)
		wait_for_queue(&b->queues[i]);
	flush(b);
	if (locks_while_active(v->device.machine))
		blk_file_unlock(&b->file);
}

static void stop_queue(struct virtio *v, struct virtio_queue *q)
{
	wait_for_queue(&of(v)->queues[q->index]);
}

static bool is_block_size(uint32_t size)
{
	return size >= BLK_SECTOR && size <= BLOCK_MAX && !(size & (size - 1));
}

/* ---- configuration space -------------------------------------------------------------------- */

static void fill_topology(struct blk *b, const struct blk_options *o)
{
	struct virtio *v = &b->virtio;
	const uint32_t ratio = MAX(o->physical / o->logical, 1u);

	v->offered |= BLK_F_BLK_SIZE;
	virtio_config_set(v, BLK_CONFIG_BLK_SIZE, 4, o->logical);
	if (ratio == 1)
		return;
	v->offered |= BLK_F_TOPOLOGY;
	virtio_config_set(v, BLK_CONFIG_TOPOLOGY, 1, (uint64_t)__builtin_ctz(ratio));
	virtio_config_set(v, BLK_CONFIG_TOPOLOGY + 2, 2, ratio);
}

/* Nothing of what the host can: where the file lies is none of the guest's business, and may be
 * elsewhere tomorrow. */
static void fill_config(struct blk *b, const struct blk_options *o)
{
	struct virtio *v = &b->virtio;

	v->config_size = BLK_CONFIG_SIZE;
	v->offered = BLK_F_SEG_MAX | BLK_F_FLUSH | BLK_F_CONFIG_WCE | BLK_F_MQ;
	virtio_config_set(v, BLK_CONFIG_CAPACITY, 8, b->file.size / BLK_SECTOR);
	/* Header and status take a descriptor each. */
	virtio_config_set(v, BLK_CONFIG_SEG_MAX, 4, o->queue_size - 2);
	fill_topology(b, o);
	virtio_config_set(v, BLK_CONFIG_WRITEBACK, 1, 1);
	virtio_config_allow_write(v, BLK_CONFIG_WRITEBACK, 1);
	virtio_config_set(v, BLK_CONFIG_NUM_QUEUES, 2, o->queues);
	if (b->file.read_only) {
		v->offered |= BLK_F_RO;
		return;
	}
	v->offered |= BLK_F_DISCARD | BLK_F_WRITE_ZEROES;
	virtio_config_set(v, BLK_CONFIG_DISCARD, 4, BLK_DISCARD_SECTORS_MAX);
	virtio_config_set(v, BLK_CONFIG_DISCARD + 4, 4, 1);
	virtio_config_set(v, BLK_CONFIG_DISCARD + 8, 4, o->logical / BLK_SECTOR);
	virtio_config_set(v, BLK_CONFIG_WRITE_ZEROES, 4, BLK_DISCARD_SECTORS_MAX);
	virtio_config_set(v, BLK_CONFIG_WRITE_ZEROES + 4, 4, 1);
	virtio_config_set(v, BLK_CONFIG_WRITE_ZEROES + 8, 1, 1);
}

/* Any value but 0 counts as 1, and reads so. */
static void config_written(struct virtio *v, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	v->config[BLK_CONFIG_WRITEBACK] = v->config[BLK_CONFIG_WRITEBACK] != 0;
}

static void reset(struct virtio *v)
{
	v->config[BLK_CONFIG_WRITEBACK] = 1;
}

static int load_config(struct virtio *v, const uint8_t *theirs, struct gw_error *err)
{
	struct blk *b = of(v);
	uint64_t capacity;
	uint32_t block;

	memcpy(&block, theirs + BLK_CONFIG_BLK_SIZE, sizeof(block));
	block = le32toh(block);
	if (!is_block_size(block))
		return error_set(err, -EINVAL, "a disk with blocks of %u bytes", block);
	memcpy(&capacity, theirs + BLK_CONFIG_CAPACITY, sizeof(capacity));
	capacity = le64toh(capacity);
	if (capacity != b->file.size / BLK_SECTOR)
		return error_set(err, -EINVAL, "the disk had %llu sectors, %s has %llu",
		                 (unsigned long long)capacity, b->path,
		                 (unsigned long long)(b->file.size / BLK_SECTOR));
	memcpy(v->config, theirs, BLK_CONFIG_SIZE);
	b->arrived = true;
	return 0;
}

/* ---- made and gone --------------------------------------------------------------------------- */

static int open_queues(struct virtio *v, struct gw_error *err)
{
	struct blk *b = of(v);

	b->queues = calloc(v->queue_count, sizeof(*b->queues));
	if (!b->queues)
		return error_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct blk_queue *bq = &b->queues[i];
		int r;

		bq->blk = b;
		bq->queue = &v->queues[i];
		r = blk_aio_create(bq->queue->worker->loop, &blk_request_calls, bq, &bq->aio, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void release(struct virtio *v)
{
	struct blk *b = of(v);

	for (unsigned i = 0; b->queues && i < v->queue_count; i++) {
		blk_aio_destroy(b->queues[i].aio);
		blk_requests_free(&b->queues[i]);
	}
	free(b->queues);
	pthread_mutex_destroy(&b->order.lock);
	blk_file_close(&b->file);
}

static const struct virtio_feature_name feature_names[] = {
	{ BLK_F_SEG_MAX, "VIRTIO_BLK_F_SEG_MAX" },
	{ BLK_F_RO, "VIRTIO_BLK_F_RO" },
	{ BLK_F_BLK_SIZE, "VIRTIO_BLK_F_BLK_SIZE" },
	{ BLK_F_FLUSH, "VIRTIO_BLK_F_FLUSH" },
	{ BLK_F_TOPOLOGY, "VIRTIO_BLK_F_TOPOLOGY" },
	{ BLK_F_CONFIG_WCE, "VIRTIO_BLK_F_CONFIG_WCE" },
	{ BLK_F_MQ, "VIRTIO_BLK_F_MQ" },
	{ BLK_F_DISCARD, "VIRTIO_BLK_F_DISCARD" },
	{ BLK_F_WRITE_ZEROES, "VIRTIO_BLK_F_WRITE_ZEROES" },
	{ 0, NULL },
};

static const struct virtio_ops ops = {
	.id = 2,
	.class_code = 0x018000, /* mass storage, other */
	.feature_names = feature_names,
	.kick = blk_kick,
	.start = start,
	.stop = stop,
	.stop_queue = stop_queue,
	.reset = reset,
	.config_written = config_written,
	.unfit = unfit,
	.load_config = load_config,
	.open = open_queues,
	.release = release,
};

static const struct participant_ops participant = VIRTIO_PARTICIPANT("virtio-blk");

static int check_options(const struct blk_options *o, struct gw_error *err)
{
	if (!o->file[0] == !o->fd[0])
		return error_set(err, -EINVAL, "file: either file or fd is needed");
	if (o->queue_size & (o->queue_size - 1))
		return error_set(err, -EINVAL, "queue-size: %u is no power of two", o->queue_size);
	if (!is_block_size(o->logical))
		return error_set(err, -EINVAL, "logical-block-size: %u is no power of two",
		                 o->logical);
	if (o->physical && !is_block_size(o->physical))
		return error_set(err, -EINVAL, "physical-block-size: %u is no power of two",
		                 o->physical);
	if (o->physical && o->physical < o->logical)
		return error_set(err, -EINVAL,
		                 "physical-block-size: %u is less than the logical one, %u",
		                 o->physical, o->logical);
	return 0;
}

static int check_host(const void *options, struct gw_error *err)
{
	const struct blk_options *o = options;
	struct blk_file file;
	int r = check_options(o, err);

	if (r < 0 || !o->file[0])
		return r;
	r = blk_file_open(o->file, -1, o->read_only, o->direct, &file, err);
	if (r < 0)
		return error_context(err, "file");
	blk_file_close(&file);
	return 0;
}

/* What the guest would not take for its disk. */
static int check_content(const struct blk_file *file, const struct blk_options *o,
                         struct gw_error *err)
{
	const char *path = o->file[0] ? o->file : o->fd;

	if (file->size % o->logical)
		return error_set(
		        err, -EINVAL,
		        "%s: its size, %llu bytes, is no multiple of logical-block-size, %u", path,
		        (unsigned long long)file->size, o->logical);
	return o->format == BLK_FORMAT_RAW ? 0 : blk_file_check_raw(file, path, err);
}

/* Two of them would each have their own idea of what is on the disk. */
static int check_alone(const struct blk *b, const struct machine *m, struct gw_error *err)
{
	for (struct device *d = m->devices; d; d = d->next) {
		const struct blk *other = container_of(d, struct blk, virtio.device);

		if (d->driver == &virtio_blk_driver && blk_file_same(&b->file, &other->file) &&
		    !(b->file.read_only && other->file.read_only))
			return error_set(err, -EBUSY,
			                 "%s is the disk of device \"%s\" already: two have to be "
			                 "read-only to share one",
			                 b->path, d->id);
	}
	return 0;
}

/* A guest that arrives has made of its disk what it likes, the begin of an image for instance. */
static int check_disk(const struct blk *b, const struct blk_options *o, const struct machine *m,
                      struct gw_error *err)
{
	int r = check_alone(b, m, err);

	return r < 0 || m->incoming ? r : check_content(&b->file, o, err);
}

/* A disk that another process uses is found out when the machine is made. Where a guest arrives it
 * may be the source that still does. */
static int first_lock(struct blk *b, const struct machine *m, struct gw_error *err)
{
	int r = m->incoming ? 0 : take_disk(b, err);

	if (!r && locks_while_active(m))
		blk_file_unlock(&b->file);
	b->virtio.device.claimed = !r && !m->incoming && !locks_while_active(m);
	return r;
}

static int create(struct machine *m, const struct config_device *config, bool hot,
                  struct device **out, struct gw_error *err)
{
	const struct blk_options *o = virtio_options(config);
	struct virtio_setup setup = {
		.ops = &ops,
		.participant = &participant,
		.driver = &virtio_blk_driver,
		.queues = o->queues,
		.queue_size = (uint16_t)o->queue_size,
		.threads = o->queues,
	};
	autoclose int fd = -1;
	struct blk *b;
	int r = check_options(o, err);

	if (!r && o->fd[0] && (fd = machine_fd(m, o->fd)) < 0)
		r = error_set(err, fd, "fd: no descriptor \"%s\" was given", o->fd);
	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return error_set(err, -ENOMEM, "out of memory");
	snprintf(b->path, sizeof(b->path), "%.*s", CONFIG_PATH_MAX - 1,
	         o->file[0] ? o->file : o->fd);
	snprintf(b->serial, sizeof(b->serial), "%.*s", BLK_SERIAL_SIZE, o->serial);
	r = blk_file_open(b->path, take_fd(&fd), o->read_only, o->direct, &b->file, err);
	if (!r) {
		r = check_disk(b, o, m, err);
		if (!r)
			r = first_lock(b, m, err);
		if (r < 0)
			blk_file_close(&b->file);
	}
	if (r < 0) {
		free(b);
		return r;
	}
	pthread_mutex_init(&b->order.lock, NULL);
	fill_config(b, o);
	r = virtio_plug(&b->virtio, m, config, hot, &setup, err);
	if (!r)
		*out = &b->virtio.device;
	return r;
}

/* ---- asked -------------------------------------------------------------------------------------
 */

static bool describe(struct device *d, cJSON *info)
{
	struct blk *b = container_of(d, struct blk, virtio.device);
	const struct {
		const char *name;
		const uint64_t *value;
	} counters[] = {
		{ "size", &b->file.size },
		{ "rd_operations", &b->stats.reads },
		{ "wr_operations", &b->stats.writes },
		{ "flush_operations", &b->stats.flushes },
		{ "rd_bytes", &b->stats.bytes_read },
		{ "wr_bytes", &b->stats.bytes_written },
		{ "failed_operations", &b->stats.failed },
	};
	bool ok = cJSON_AddStringToObject(info, "file", b->path) &&
	          cJSON_AddBoolToObject(info, "ro", b->file.read_only) &&
	          cJSON_AddBoolToObject(info, "direct", b->file.direct) &&
	          cJSON_AddStringToObject(info, "serial", b->serial) &&
	          cJSON_AddStringToObject(info, "aio", blk_aio_name(b->queues[0].aio));

	for (size_t i = 0; i < ARRAY_SIZE(counters) && ok; i++)
		ok = cJSON_AddNumberToObject(
		        info, counters[i].name,
		        (double)__atomic_load_n(counters[i].value, __ATOMIC_RELAXED));
	return ok;
}

static int resize(struct blk *b, const cJSON *args, struct gw_error *err)
{
	const cJSON *size = cJSON_GetObjectItemCaseSensitive(args, "size");
	const uint32_t block = (uint32_t)virtio_config_get(&b->virtio, BLK_CONFIG_BLK_SIZE, 4);
	struct machine *m = b->virtio.device.machine;
	int r;

	if (!cJSON_IsNumber(size) || size->valuedouble < 0 || size->valuedouble > 0x1p53)
		return error_set(err, -EINVAL, "size: must be a number of bytes");
	if ((uint64_t)size->valuedouble % block)
		return error_set(err, -EINVAL,
		                 "size: %.0f is no multiple of logical-block-size, %u",
		                 size->valuedouble, block);
	machine_lock(m);
	r = blk_file_resize(&b->file, (uint64_t)size->valuedouble, err);
	if (!r) {
		virtio_config_set(&b->virtio, BLK_CONFIG_CAPACITY, 8, b->file.size / BLK_SECTOR);
		virtio_config_changed(&b->virtio);
	}
	machine_unlock(m);
	return r;
}

static int command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                   struct gw_error *err)
{
	(void)ret;
	if (strcmp(name, "resize"))
		return -EOPNOTSUPP;
	return resize(container_of(d, struct blk, virtio.device), args, err);
}

const struct device_driver virtio_blk_driver = {
	.type = "virtio-blk",
	.help = "a disk in a raw file or on a block device",
	.keys = keys,
	.check_host = check_host,
	.create = create,
	.describe = describe,
	.command = command,
	.claim = claim,
	.unclaim = unclaim,
	VIRTIO_DRIVER_CALLS,
};
