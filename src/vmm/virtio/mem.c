/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem: a range of addresses above RAM whose blocks the guest plugs, up
 * to the size that was requested, and unplugs again.
 *
 * Plugging and freeing take a while, so requests are carried out on a thread of its own, one at a
 * time. Their answers are given on the machine's loop, with the device lock: plugged_size in
 * configuration space changes before the driver sees the answer.
 *
 * While dirty pages are tracked nothing changes: the driver hears "busy", and
 * of a configuration change when it may try again.
 * Source: VIRTIO 1.2, 5.15.
 */
#include "vmm/virtio/devices.h"
#include "vmm/virtio/mem_place.h"
#include "vmm/virtio/virtio.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define QUEUE_SIZE 64
/* Where regions begin: memory blocks of a guest, up to 2 GiB each, lie whole in one. */

/* 5.15.3 */
#define MEM_F_ACPI_PXM (1ull << 0)
#define MEM_F_UNPLUGGED_INACCESSIBLE (1ull << 1)

/* 5.15.4 */
enum {
	CONFIG_BLOCK = 0,
	CONFIG_NODE = 8,
	CONFIG_ADDR = 16,
	CONFIG_REGION = 24,
	CONFIG_USABLE = 32,
	CONFIG_PLUGGED = 40,
	CONFIG_REQUESTED = 48,
	CONFIG_SIZE_ALL = 56
};

/* 5.15.6 */
enum { REQUEST_PLUG, REQUEST_UNPLUG, REQUEST_UNPLUG_ALL, REQUEST_STATE, REQUESTS };
enum { ANSWER_ACK, ANSWER_NACK, ANSWER_BUSY, ANSWER_ERROR };
enum { STATE_PLUGGED, STATE_UNPLUGGED, STATE_MIXED };

struct request {
	uint16_t type;
	uint8_t padding[6];
	uint64_t addr;
	uint16_t blocks;
	uint8_t padding2[6];
} __attribute__((packed));
_Static_assert(sizeof(struct request) == 24, "VIRTIO 1.2, 5.15.6");

struct answer {
	uint16_t type;
	uint8_t padding[6];
	uint16_t state;
} __attribute__((packed));
_Static_assert(sizeof(struct answer) == 10, "VIRTIO 1.2, 5.15.6");

struct mem_options {
	uint64_t size, requested, block, address;
	uint32_t node;
};

struct mem {
	struct virtio v;
	struct memory_listener listener;
	uint64_t gpa, size, block;
	unsigned node;
	bool added;         /* the region is there */
	uint64_t requested; /* as in configuration space; atomic */
	/* Under the worker's lock: */
	uint64_t plugged;
	bool answered; /* `chain` waits for `answer` to be given */
	bool put_off;  /* the driver was told "busy", and not yet that it may try again */
	bool refused;  /* the log has said that the host has no more */
	struct answer answer;
	struct virtq_chain chain;
};

static const struct virtio_feature_name feature_names[] = {
	{ MEM_F_ACPI_PXM, "VIRTIO_MEM_F_ACPI_PXM" },
	{ MEM_F_UNPLUGGED_INACCESSIBLE, "VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE" },
	{ 0, NULL },
};

static struct mem *of(struct virtio *v)
{
	return container_of(v, struct mem, v);
}

static struct mem *of_device(struct device *d)
{
	return container_of(d, struct mem, v.device);
}

static struct memory *memory_of(const struct mem *m)
{
	return m->v.device.machine->memory;
}

static pthread_mutex_t *lock_of(const struct mem *m)
{
	return &m->v.workers[0].lock;
}

/* ---- requests: on the worker's thread ------------------------------------------------ */

/* 5.15.6: blocks of the usable region, which is all of it. */
static bool blocks_of(const struct mem *m, const struct request *q, uint64_t *len)
{
	const uint64_t addr = le64toh(q->addr);

	*len = le16toh(q->blocks) * m->block;
	return *len && addr >= m->gpa && (addr - m->gpa) % m->block == 0 &&
	       addr - m->gpa <= m->size && *len <= m->size - (addr - m->gpa);
}

/* What memory says, as an answer. */
static uint16_t outcome(struct mem *m, int r, const struct gw_error *err)
{
	if (!r)
		return ANSWER_ACK;
	if (r == -EINVAL)
		return ANSWER_ERROR;
	if (r == -EBUSY)
		m->put_off = true;
	else if (!m->refused)
		log_warn(m->v.device.machine->log, "device %s: no more memory is plugged: %s",
		         m->v.device.id, err->text);
	m->refused |= r != -EBUSY;
	return ANSWER_BUSY;
}

static void do_plug(struct mem *m, const struct request *q)
{
	struct gw_error err;
	uint64_t len;

	if (!blocks_of(m, q, &len)) {
		m->answer.type = ANSWER_ERROR;
	} else if (m->plugged + len > __atomic_load_n(&m->requested, __ATOMIC_ACQUIRE)) {
		m->answer.type = ANSWER_NACK;
	} else {
		m->answer.type =
		        outcome(m, memory_plug(memory_of(m), le64toh(q->addr), len, &err), &err);
		m->refused &= m->answer.type != ANSWER_ACK;
	}
}

static void do_unplug(struct mem *m, const struct request *q)
{
	struct gw_error err;
	uint64_t len;

	m->answer.type = ANSWER_ERROR;
	if (blocks_of(m, q, &len))
		m->answer.type =
		        outcome(m, memory_unplug(memory_of(m), le64toh(q->addr), len, &err), &err);
}

static void do_unplug_all(struct mem *m, const struct request *q)
{
	struct gw_error err;

	(void)q;
	m->answer.type = outcome(m, memory_unplug_all(memory_of(m), m->gpa, &err), &err);
}

static void do_state(struct mem *m, const struct request *q)
{
	uint64_t len, there;

	m->answer.type = ANSWER_ERROR;
	if (!blocks_of(m, q, &len))
		return;
	there = memory_plugged_within(memory_of(m), le64toh(q->addr), len);
	m->answer.type = ANSWER_ACK;
	m->answer.state = there == len ? STATE_PLUGGED : there ? STATE_MIXED : STATE_UNPLUGGED;
}

static void (*const requests[REQUESTS])(struct mem *m, const struct request *q) = {
	[REQUEST_PLUG] = do_plug,
	[REQUEST_UNPLUG] = do_unplug,
	[REQUEST_UNPLUG_ALL] = do_unplug_all,
	[REQUEST_STATE] = do_state,
};

/* What is not there of a request that is too short reads as zeros, which no request holds. */
static void carry_out(struct mem *m)
{
	struct request q = { .type = htole16(REQUESTS) };

	virtq_chain_read(&m->chain, 0, &q, sizeof(q));
	m->answer = (struct answer){ .type = ANSWER_ERROR };
	if (le16toh(q.type) < REQUESTS)
		requests[le16toh(q.type)](m, &q);
	m->plugged = memory_plugged_within(memory_of(m), m->gpa, m->size);
	m->answered = true;
	machine_defer(m->v.device.machine);
}

static void mem_kick(struct virtio *v, struct virtio_queue *q)
{
	struct mem *m = of(v);
	int r;

	if (m->answered)
		return;
	do {
		virtq_kicks_off(&q->ring);
		r = virtq_pop(&q->ring, &m->chain);
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		virtio_break(v, q->ring.broken ? q->ring.broken : "out of memory");
	else if (r && m->chain.in_len < sizeof(m->answer))
		virtio_break(v, "a request has no room for its answer");
	else if (r)
		carry_out(m);
}

/* ---- answers: with the device lock ---------------------------------------------------- */

static void tell_size(struct mem *m)
{
	const struct machine_notify *notify = &m->v.device.machine->notify;
	const char *id = m->v.device.id;
	char data[160];

	virtio_config_set(&m->v, CONFIG_PLUGGED, 8, m->plugged);
	if (!notify->event)
		return;
	snprintf(data, sizeof(data), "{\"id\":\"%s\",\"size\":%llu,\"qom-path\":\"/machine/%s\"}",
	         id, (unsigned long long)m->plugged, id);
	notify->event(notify->opaque, "MEMORY_DEVICE_SIZE_CHANGE", data);
}

static void give_answer(struct mem *m)
{
	struct virtio_queue *q = &m->v.queues[0];
	const struct answer a = { .type = htole16(m->answer.type),
		                  .state = htole16(m->answer.state) };

	if (!m->answered)
		return;
	m->answered = false;
	if (m->plugged != virtio_config_get(&m->v, CONFIG_PLUGGED, 8))
		tell_size(m);
	virtq_chain_write(&m->chain, 0, &a, sizeof(a));
	virtio_push(q, &m->chain, sizeof(a));
	io_eventfd_signal(q->kick_fd);
}

static void mem_deferred(struct device *d)
{
	struct mem *m = of_device(d);
	bool again;

	virtio_deferred(d);
	pthread_mutex_lock(lock_of(m));
	give_answer(m);
	again = m->put_off && m->v.active && !memory_tracking(memory_of(m));
	if (again)
		m->put_off = false;
	pthread_mutex_unlock(lock_of(m));
	if (again)
		virtio_config_changed(&m->v);
}

static void on_tracking_ended(struct memory_listener *l)
{
	machine_defer(container_of(l, struct mem, listener)->v.device.machine);
}

/* ---- active or not ------------------------------------------------------------------ */

/* Where a guest arrives that was put off, it may try again. */
static int mem_start(struct virtio *v, struct gw_error *err)
{
	(void)err;
	machine_defer(v->device.machine);
	return 0;
}

static void mem_stop(struct virtio *v)
{
	pthread_mutex_lock(lock_of(of(v)));
	give_answer(of(v));
	pthread_mutex_unlock(lock_of(of(v)));
}

/* 5.15.5: a driver finds what the one before it had plugged; a machine that is reset (it does not
 * run then) begins without. */
static void mem_reset(struct virtio *v)
{
	struct mem *m = of(v);
	struct gw_error err;

	pthread_mutex_lock(lock_of(m));
	m->put_off = false;
	if (!machine_running(v->device.machine) && m->plugged) {
		if (memory_unplug_all(memory_of(m), m->gpa, &err) < 0)
			log_error(v->device.machine->log, "device %s: reset: %s", v->device.id,
			          err.text);
		m->plugged = memory_plugged_within(memory_of(m), m->gpa, m->size);
		tell_size(m);
	}
	pthread_mutex_unlock(lock_of(m));
}

static void mem_save(struct virtio *v, struct bytes *out)
{
	pthread_mutex_lock(lock_of(of(v)));
	bytes_put8(out, of(v)->put_off);
	pthread_mutex_unlock(lock_of(of(v)));
}

static int mem_load(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	const uint8_t put_off = bytes_take8(in);

	if (put_off > 1)
		return error_set(err, -EINVAL, "state of virtio-mem: %u", put_off);
	pthread_mutex_lock(lock_of(of(v)));
	of(v)->put_off = put_off;
	pthread_mutex_unlock(lock_of(of(v)));
	return 0;
}

/* RAM has come before: what is plugged is what it says. */
static int mem_load_config(struct virtio *v, const uint8_t *theirs, struct gw_error *err)
{
	struct mem *m = of(v);
	uint64_t requested, plugged;

	memcpy(&requested, theirs + CONFIG_REQUESTED, sizeof(requested));
	memcpy(&plugged, theirs + CONFIG_PLUGGED, sizeof(plugged));
	requested = le64toh(requested);
	plugged = le64toh(plugged);
	if (memcmp(theirs, v->config, CONFIG_PLUGGED))
		return error_set(err, -EINVAL,
		                 "another block size, node, address or size than here");
	if (requested > m->size || requested % m->block)
		return error_set(err, -EINVAL, "%llu bytes requested",
		                 (unsigned long long)requested);
	pthread_mutex_lock(lock_of(m));
	m->plugged = memory_plugged_within(memory_of(m), m->gpa, m->size);
	pthread_mutex_unlock(lock_of(m));
	if (plugged != m->plugged)
		return error_set(err, -EINVAL, "%llu bytes plugged there, and %llu came",
		                 (unsigned long long)plugged, (unsigned long long)m->plugged);
	memcpy(v->config, theirs, CONFIG_SIZE_ALL);
	__atomic_store_n(&m->requested, requested, __ATOMIC_RELEASE);
	return 0;
}

/* ---- what the owner asks ------------------------------------------------------------ */

/* {"size": bytes that the guest is to have plugged} */
static int mem_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                       struct gw_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(args, "size");
	struct mem *m = of_device(d);
	const double size = cJSON_IsNumber(item) ? item->valuedouble : -1;

	(void)ret;
	if (strcmp(name, "requested-size"))
		return -EOPNOTSUPP;
	if (!(size >= 0 && size <= (double)m->size) || (uint64_t)size % m->block ||
	    size != (double)(uint64_t)size)
		return error_set(err, -EINVAL,
		                 "size: must be a number of bytes up to %llu, a multiple of %llu",
		                 (unsigned long long)m->size, (unsigned long long)m->block);
	machine_lock(d->machine);
	__atomic_store_n(&m->requested, (uint64_t)size, __ATOMIC_RELEASE);
	virtio_config_set(&m->v, CONFIG_REQUESTED, 8, (uint64_t)size);
	virtio_config_changed(&m->v);
	machine_unlock(d->machine);
	return 0;
}

static bool mem_describe(struct device *d, cJSON *info)
{
	const struct mem *m = of_device(d);
	uint64_t plugged;

	machine_lock(d->machine);
	plugged = virtio_config_get(&m->v, CONFIG_PLUGGED, 8);
	machine_unlock(d->machine);
	if (d->machine->config.node_count && !cJSON_AddNumberToObject(info, "node", m->node))
		return false;
	return cJSON_AddNumberToObject(info, "address", (double)m->gpa) &&
	       cJSON_AddNumberToObject(info, "size", (double)m->size) &&
	       cJSON_AddNumberToObject(info, "block", (double)m->block) &&
	       cJSON_AddNumberToObject(info, "requested", (double)m->requested) &&
	       cJSON_AddNumberToObject(info, "plugged", (double)plugged);
}

/* A guest that has memory here does not let go of it with the device. */
static int mem_request_unplug(struct device *d, struct gw_error *err)
{
	struct mem *m = of_device(d);
	uint64_t plugged;

	machine_lock(d->machine);
	plugged = virtio_config_get(&m->v, CONFIG_PLUGGED, 8);
	machine_unlock(d->machine);
	if (d->machine->started && (plugged || m->requested))
		return error_set(err, -EBUSY,
		                 "the guest has %llu bytes of it, and %llu are requested: "
		                 "requested-size has to be 0 first",
		                 (unsigned long long)plugged, (unsigned long long)m->requested);
	return virtio_request_unplug(d, err);
}

/* ---- made and gone ------------------------------------------------------------------ */

static int mem_open(struct virtio *v, struct gw_error *err)
{
	struct mem *m = of(v);
	int r = memory_add_region(memory_of(m), m->gpa, m->size, m->block, m->node, err);

	if (r < 0)
		return r;
	m->added = true;
	m->listener.tracking_ended = on_tracking_ended;
	m->listener.pins_nothing = true;
	memory_add_listener(memory_of(m), &m->listener);
	return 0;
}

static void mem_release(struct virtio *v)
{
	struct mem *m = of(v);

	if (m->added) {
		memory_remove_listener(memory_of(m), &m->listener);
		memory_remove_region(memory_of(m), m->gpa);
	}
	virtq_chain_free(&m->chain);
}

static const struct virtio_ops mem_ops = {
	.id = 24,
	.class_code = 0x050000, /* RAM */
	.feature_names = feature_names,
	.kick = mem_kick,
	.start = mem_start,
	.stop = mem_stop,
	.reset = mem_reset,
	.save = mem_save,
	.load = mem_load,
	.load_config = mem_load_config,
	.open = mem_open,
	.release = mem_release,
};

static const struct participant_ops mem_participant = VIRTIO_PARTICIPANT("virtio-mem");

static uint64_t default_block(const struct machine *m)
{
	return m->config.backing.pages == CONFIG_PAGES_1G ? GIB : 2 * MIB;
}

/* What was left open is decided here and kept in the options, which go with the guest. */
static int decide(const struct machine *m, struct mem_options *o, struct gw_error *err)
{
	if (o->node && o->node >= m->config.node_count)
		return error_set(err, -EINVAL, "node: %u, and there are %u (numa)", o->node,
		                 m->config.node_count);
	if (!o->block)
		o->block = default_block(m);
	if (o->block & (o->block - 1))
		return error_set(err, -EINVAL, "block: not a power of two");
	if (o->size % o->block)
		return error_set(err, -EINVAL, "size: not a multiple of %llu, the block",
		                 (unsigned long long)o->block);
	if (o->requested % o->block || o->requested > o->size)
		return error_set(err, -EINVAL,
		                 "requested: not a multiple of %llu, the block, or more than size",
		                 (unsigned long long)o->block);
	if (!o->address)
		o->address = mem_place_find(m, o->size);
	return mem_place_check(m, o->address, o->size, err);
}

static int mem_create(struct machine *machine, const struct config_device *config, bool hot,
                      struct device **out, struct gw_error *err)
{
	struct mem_options *o = virtio_options(config);
	const struct virtio_setup setup = {
		.ops = &mem_ops,
		.participant = &mem_participant,
		.driver = &virtio_mem_driver,
		.queues = 1,
		.queue_size = QUEUE_SIZE,
		.threads = 1,
	};
	struct mem *m;
	int r = decide(machine, o, err);

	if (r < 0)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(err, -ENOMEM, "out of memory");
	m->gpa = o->address;
	m->size = o->size;
	m->block = o->block;
	m->requested = o->requested;
	m->node = o->node;
	m->v.offered = MEM_F_UNPLUGGED_INACCESSIBLE;
	if (machine->config.node_count)
		m->v.offered |= MEM_F_ACPI_PXM;
	m->v.config_size = CONFIG_SIZE_ALL;
	virtio_config_set(&m->v, CONFIG_BLOCK, 8, m->block);
	virtio_config_set(&m->v, CONFIG_NODE, 2, m->node);
	virtio_config_set(&m->v, CONFIG_ADDR, 8, m->gpa);
	virtio_config_set(&m->v, CONFIG_REGION, 8, m->size);
	virtio_config_set(&m->v, CONFIG_USABLE, 8, m->size);
	virtio_config_set(&m->v, CONFIG_REQUESTED, 8, m->requested);
	r = virtio_plug(&m->v, machine, config, hot, &setup, err);
	if (!r)
		*out = &m->v.device;
	return r;
}

#define SIZE_MAX_ALL (1024 * GIB)

static const struct config_key mem_keys[] = {
	CONFIG_ROW_NUMBER(NULL, "size", CONFIG_SIZE, CONFIG_REQUIRED, struct mem_options, size,
	                  2 * MIB, SIZE_MAX_ALL, NULL,
	                  "the most that the guest can have of it; a multiple of block"),
	CONFIG_ROW_NUMBER(NULL, "requested", CONFIG_SIZE, 0, struct mem_options, requested, 0,
	                  SIZE_MAX_ALL, NULL, "how much of it the guest is to have at first"),
	CONFIG_ROW_NUMBER(
	        NULL, "block", CONFIG_SIZE, 0, struct mem_options, block, 2 * MIB, GIB, NULL,
	        "pieces that it comes in, a power of two; 2M, or the size of reserved huge "
	        "pages, where it is left out"),
	CONFIG_ROW_NUMBER(NULL, "address", CONFIG_SIZE, 0, struct mem_options, address, 4 * GIB,
	                  SIZE_MAX_ALL, NULL,
	                  "where the guest sees it, a multiple of 4G; the lowest free place above "
	                  "its memory where it is left out"),
	CONFIG_ROW_NUMBER(NULL, "node", CONFIG_UINT, 0, struct mem_options, node, 0,
	                  CONFIG_NODES_MAX - 1, NULL,
	                  "NUMA node that it belongs to; 0 where it is left out"),
	CONFIG_ROW_END,
};

const struct device_driver virtio_mem_driver = {
	.type = "virtio-mem",
	.help = "memory that is given to the guest, and taken from it, while it runs",
	.keys = mem_keys,
	.create = mem_create,
	.request_unplug = mem_request_unplug,
	.destroy = virtio_destroy,
	.run = virtio_run,
	.pause = virtio_pause,
	.deferred = mem_deferred,
	.describe = mem_describe,
	.command = mem_command,
};
