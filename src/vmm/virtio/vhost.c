/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel promises (Linux, include/uapi/linux/vhost.h): size and
 * position of a ring can be set while its backend is not; the log is a bitmap
 * of 4 KiB pages by guest-physical address, least significant bit first; when
 * the call that takes the backend away returns, nothing is in flight.
 */
#include "vmm/virtio/vhost.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"

#include <fcntl.h>
/* Last: it has bit numbers under the names that virtio.h gives to masks. None is used below. */
#include <linux/vhost.h>

struct vhost_ring {
	struct vhost *vhost;
	struct virtio_queue *queue;
	unsigned index;
	int call_fd; /* the kernel's interrupts come here */
	struct loop_watch *watch;
	bool handed; /* the kernel has it */
};

struct vhost {
	struct virtio *virtio;
	const struct vhost_calls *calls;
	int fd;
	int error_fd;
	struct loop_watch *error_watch;
	uint64_t features;
	struct vhost_ring rings[VHOST_RINGS];
	struct dirty_source source;
	struct memory_listener listener;
	bool source_added; /* and the listener */

	/* Against the thread that asks for dirty pages. */
	pthread_mutex_t lock;
	bool started;
	bool logging;
	uint64_t *log;
	size_t log_words;
};

static int kernel_open(const char *path)
{
	const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

const struct vhost_calls vhost_kernel = { .open = kernel_open, .ioctl = io_ioctl };

static int call(struct vhost *vh, unsigned long request, void *arg, const char *name,
                struct gw_error *err)
{
	const int r = vh->calls->ioctl(vh->fd, request, arg);

	return r < 0 ? error_set_sys(err, r, "vhost: %s", name) : 0;
}
#define CALL(vh, request, arg, err) call(vh, request, arg, #request, err)

uint64_t vhost_features(const struct vhost *vh)
{
	return vh->features;
}

/* ---- memory, features, log ---------------------------------------------------------------- */

static int set_memory(struct vhost *vh, struct gw_error *err)
{
	const struct memory *mem = vh->virtio->device.machine->memory;
	const size_t count = memory_region_count(mem);
	size_t n = 0;
	autofree struct vhost_memory *table =
	        calloc(1, sizeof(*table) + count * sizeof(table->regions[0]));

	if (!table)
		return error_set(err, -ENOMEM, "vhost: out of memory");
	for (size_t i = 0; i < count; i++) {
		const struct ram_region *r = memory_region(mem, i);

		if (r->gpa == MEMORY_GONE)
			continue;
		table->regions[n++] = (struct vhost_memory_region){
			.guest_phys_addr = r->gpa,
			.memory_size = r->size,
			.userspace_addr = (uintptr_t)r->hva,
		};
	}
	table->nregions = (uint32_t)n;
	return CALL(vh, VHOST_SET_MEM_TABLE, table, err);
}

/* The kernel takes a new table while it works (vhost_set_memory() waits for what uses the old one);
 * when it is not at work, the next start brings it. */
static int regions_changed(struct memory_listener *l, struct gw_error *err)
{
	struct vhost *vh = container_of(l, struct vhost, listener);
	int r;

	pthread_mutex_lock(&vh->lock);
	r = vh->started ? set_memory(vh, err) : 0;
	pthread_mutex_unlock(&vh->lock);
	return r;
}

static int set_features(struct vhost *vh, struct gw_error *err)
{
	const uint64_t log = 1ull << VHOST_F_LOG_ALL;
	uint64_t features = (vh->virtio->features & vh->features & ~log) | (vh->logging ? log : 0);

	return CALL(vh, VHOST_SET_FEATURES, &features, err);
}

static int set_log(struct vhost *vh, struct gw_error *err)
{
	uint64_t base = (uintptr_t)vh->log;

	return vh->logging ? CALL(vh, VHOST_SET_LOG_BASE, &base, err) : 0;
}

static int set_address(struct vhost_ring *r, struct gw_error *err)
{
	const struct virtq *q = &r->queue->ring;
	struct vhost_vring_addr addr = {
		.index = r->index,
		.flags = r->vhost->logging ? 1u << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = (uintptr_t)q->desc_hva,
		.used_user_addr = (uintptr_t)q->device_hva,
		.avail_user_addr = (uintptr_t)q->driver_hva,
		.log_guest_addr = q->device,
	};

	return CALL(r->vhost, VHOST_SET_VRING_ADDR, &addr, err);
}

/* The log may be set before the features that use it, and given up after them. */
static int apply_logging(struct vhost *vh, struct gw_error *err)
{
	int r = set_log(vh, err);

	if (!r)
		r = set_features(vh, err);
	for (unsigned i = 0; i < VHOST_RINGS && !r; i++)
		if (vh->rings[i].handed)
			r = set_address(&vh->rings[i], err);
	return r;
}

static size_t log_words(const struct memory *mem)
{
	uint64_t end = 0;

	for (size_t i = 0; i < memory_region_count(mem); i++) {
		const struct ram_region *r = memory_region(mem, i);

		if (r->gpa != MEMORY_GONE)
			end = MAX(end, r->gpa + r->size);
	}
	return MAX(DIV_ROUND_UP(end / PAGE_SIZE, 64ull), 1ull);
}

static void log_off(struct vhost *vh)
{
	struct gw_error err;

	vh->logging = false;
	/* If the kernel will not let go of the log, it stays where it is until the end. */
	if (vh->started && apply_logging(vh, &err) < 0)
		return;
	free(vh->log);
	vh->log = NULL;
}

static int source_start(struct dirty_source *s, struct gw_error *err)
{
	struct vhost *vh = container_of(s, struct vhost, source);
	int r = 0;

	if (!(vh->features & 1ull << VHOST_F_LOG_ALL))
		return error_set(err, -ENOTSUP,
		                 "device %s: the kernel's vhost does not report dirty pages",
		                 vh->virtio->device.id);
	pthread_mutex_lock(&vh->lock);
	if (!vh->log) {
		vh->log_words = log_words(vh->virtio->device.machine->memory);
		vh->log = calloc(vh->log_words, sizeof(*vh->log));
	}
	if (!vh->log)
		r = error_set(err, -ENOMEM, "device %s: out of memory", vh->virtio->device.id);
	else
		vh->logging = true;
	if (!r && vh->started)
		r = apply_logging(vh, err);
	if (r < 0 && vh->logging)
		log_off(vh);
	pthread_mutex_unlock(&vh->lock);
	return r;
}

static void mark_word(struct memory *mem, uint64_t word, uint64_t bits)
{
	while (bits) {
		const unsigned bit = (unsigned)__builtin_ctzll(bits);

		memory_mark_dirty(mem, (word * 64 + bit) * PAGE_SIZE, PAGE_SIZE);
		bits &= bits - 1;
	}
}

static int source_sync(struct dirty_source *s, struct memory *mem, struct gw_error *err)
{
	struct vhost *vh = container_of(s, struct vhost, source);

	(void)err;
	pthread_mutex_lock(&vh->lock);
	for (size_t w = 0; vh->logging && w < vh->log_words; w++)
		if (__atomic_load_n(&vh->log[w], __ATOMIC_RELAXED))
			mark_word(mem, w, __atomic_exchange_n(&vh->log[w], 0, __ATOMIC_ACQ_REL));
	pthread_mutex_unlock(&vh->lock);
	return 0;
}

static void source_stop(struct dirty_source *s)
{
	struct vhost *vh = container_of(s, struct vhost, source);

	pthread_mutex_lock(&vh->lock);
	if (vh->logging)
		log_off(vh);
	pthread_mutex_unlock(&vh->lock);
}

/* ---- rings ---------------------------------------------------------------------------------- */

static bool taken(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* Under the worker's lock, so that whoever found the eventfd signalled has raised the interrupt
 * when vhost_stop() is through. */
static void forward_call(struct vhost_ring *r)
{
	pthread_mutex_lock(&r->queue->worker->lock);
	if (taken(r->call_fd))
		virtio_interrupt(r->queue);
	pthread_mutex_unlock(&r->queue->worker->lock);
}

static void on_call(void *opaque, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	forward_call(opaque);
}

static void on_error(void *opaque, int fd, uint32_t events)
{
	struct vhost *vh = opaque;

	(void)events;
	if (taken(fd))
		virtio_break(vh->virtio, "the kernel found a fault in a ring");
}

bool vhost_has_ring(const struct vhost *vh, unsigned ring)
{
	return vh->rings[ring].handed;
}

static int set_file(struct vhost_ring *r, unsigned long request, int fd, const char *name,
                    struct gw_error *err)
{
	struct vhost_vring_file file = { .index = r->index, .fd = fd };

	return call(r->vhost, request, &file, name, err);
}

static int give_ring(struct vhost_ring *r, struct gw_error *err)
{
	struct vhost *vh = r->vhost;
	const struct virtq *q = &r->queue->ring;
	struct vhost_vring_state num = { .index = r->index, .num = q->size };
	struct vhost_vring_state base = { .index = r->index, .num = q->next_avail };
	int ret = CALL(vh, VHOST_SET_VRING_NUM, &num, err);

	if (!ret)
		ret = CALL(vh, VHOST_SET_VRING_BASE, &base, err);
	if (!ret)
		ret = set_address(r, err);
	if (!ret)
		ret = set_file(r, VHOST_SET_VRING_ERR, vh->error_fd, "VHOST_SET_VRING_ERR", err);
	if (!ret)
		ret = set_file(r, VHOST_SET_VRING_CALL, r->call_fd, "VHOST_SET_VRING_CALL", err);
	if (!ret)
		ret = set_file(r, VHOST_SET_VRING_KICK, r->queue->kick_fd, "VHOST_SET_VRING_KICK",
		               err);
	if (ret < 0)
		return error_context(err, "queue %u", r->queue->index);
	/* The kernel hears kicks by itself and never reads the eventfd: nobody need wake here. */
	if (r->queue->watch)
		loop_watch_events(r->queue->watch, 0);
	r->handed = true;
	return 0;
}

int vhost_start_ring(struct vhost *vh, unsigned ring, struct gw_error *err)
{
	struct vhost_ring *r = &vh->rings[ring];
	int ret = 0;

	pthread_mutex_lock(&vh->lock);
	if (!r->handed && r->queue->ring.enabled)
		ret = give_ring(r, err);
	pthread_mutex_unlock(&vh->lock);
	return ret;
}

int vhost_start(struct vhost *vh, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&vh->lock);
	vh->started = true;
	r = set_memory(vh, err);
	if (!r)
		r = apply_logging(vh, err);
	pthread_mutex_unlock(&vh->lock);
	for (unsigned i = 0; i < VHOST_RINGS && !r; i++)
		r = vhost_start_ring(vh, i, err);
	return r;
}

static void take_ring(struct vhost_ring *r)
{
	struct virtio_queue *q = r->queue;
	struct vhost_vring_state base = { .index = r->index };
	struct gw_error err;

	r->handed = false;
	set_file(r, VHOST_SET_VRING_KICK, VHOST_FILE_UNBIND, "VHOST_SET_VRING_KICK", &err);
	if (CALL(r->vhost, VHOST_GET_VRING_BASE, &base, &err) < 0) {
		log_error(q->virtio->device.machine->log, "device %s: queue %u: %s",
		          q->virtio->device.id, q->index, err.text);
		virtio_break(q->virtio, "the kernel does not say where a ring stands");
	}
	pthread_mutex_lock(&q->worker->lock);
	q->ring.next_avail = q->ring.next_used = (uint16_t)base.num;
	q->ring.first_publish = true;
	pthread_mutex_unlock(&q->worker->lock);
	forward_call(r);
	if (q->watch)
		loop_watch_events(q->watch, EPOLLIN);
}

void vhost_stop(struct vhost *vh)
{
	pthread_mutex_lock(&vh->lock);
	for (unsigned i = 0; i < VHOST_RINGS; i++)
		if (vh->rings[i].handed)
			take_ring(&vh->rings[i]);
	vh->started = false;
	pthread_mutex_unlock(&vh->lock);
}

/* ---- backends ------------------------------------------------------------------------------- */

int vhost_net_backend(struct vhost *vh, unsigned ring, int fd, struct gw_error *err)
{
	struct vhost_vring_file file = { .index = ring, .fd = fd };

	return CALL(vh, VHOST_NET_SET_BACKEND, &file, err);
}

int vhost_vsock_cid(struct vhost *vh, uint64_t cid, struct gw_error *err)
{
	return CALL(vh, VHOST_VSOCK_SET_GUEST_CID, &cid, err);
}

int vhost_vsock_running(struct vhost *vh, bool running, struct gw_error *err)
{
	int value = running;

	return CALL(vh, VHOST_VSOCK_SET_RUNNING, &value, err);
}

/* ---- made and gone --------------------------------------------------------------------------- */

void vhost_close(struct vhost *vh)
{
	if (!vh)
		return;
	if (vh->source_added) {
		memory_remove_dirty_source(vh->virtio->device.machine->memory, &vh->source);
		memory_remove_listener(vh->virtio->device.machine->memory, &vh->listener);
	}
	loop_unwatch(vh->error_watch);
	for (unsigned i = 0; i < VHOST_RINGS; i++) {
		loop_unwatch(vh->rings[i].watch);
		if (vh->rings[i].call_fd >= 0)
			close(vh->rings[i].call_fd);
	}
	if (vh->error_fd >= 0)
		close(vh->error_fd);
	if (vh->fd >= 0)
		close(vh->fd);
	/* After the descriptor: with it the kernel's last hold on the log has gone. */
	free(vh->log);
	pthread_mutex_destroy(&vh->lock);
	free(vh);
}

static int open_events(struct vhost *vh, struct gw_error *err)
{
	struct loop *loop = vh->rings[0].queue->worker->loop;
	int r;

	vh->error_fd = io_eventfd();
	if (vh->error_fd < 0)
		return error_set_sys(err, vh->error_fd, "vhost: eventfd");
	r = loop_watch(loop, vh->error_fd, EPOLLIN, on_error, vh, &vh->error_watch, err);
	for (unsigned i = 0; i < VHOST_RINGS && !r; i++) {
		struct vhost_ring *ring = &vh->rings[i];

		ring->call_fd = io_eventfd();
		if (ring->call_fd < 0)
			return error_set_sys(err, ring->call_fd, "vhost: eventfd");
		r = loop_watch(ring->queue->worker->loop, ring->call_fd, EPOLLIN, on_call, ring,
		               &ring->watch, err);
	}
	return r;
}

static int open_kernel(struct vhost *vh, const char *path, struct gw_error *err)
{
	int r;

	vh->fd = vh->calls->open(path);
	if (vh->fd < 0)
		return error_set_sys(err, vh->fd, "vhost: %s", path);
	r = CALL(vh, VHOST_SET_OWNER, NULL, err);
	return r ? r : CALL(vh, VHOST_GET_FEATURES, &vh->features, err);
}

int vhost_open(struct virtio *v, unsigned first, const char *path, const struct vhost_calls *calls,
               struct vhost **out, struct gw_error *err)
{
	struct vhost *vh = calloc(1, sizeof(*vh));
	int r;

	if (!vh)
		return error_set(err, -ENOMEM, "vhost: out of memory");
	vh->virtio = v;
	vh->calls = calls;
	vh->fd = vh->error_fd = -1;
	vh->source = (struct dirty_source){
		.name = v->device.id,
		.start = source_start,
		.sync = source_sync,
		.stop = source_stop,
	};
	pthread_mutex_init(&vh->lock, NULL);
	for (unsigned i = 0; i < VHOST_RINGS; i++)
		vh->rings[i] = (struct vhost_ring){
			.vhost = vh,
			.queue = &v->queues[first + i],
			.index = i,
			.call_fd = -1,
		};
	r = open_kernel(vh, path, err);
	if (!r)
		r = open_events(vh, err);
	if (!r)
		r = memory_add_dirty_source(v->device.machine->memory, &vh->source, err);
	vh->source_added = !r;
	if (r < 0) {
		vhost_close(vh);
		return r;
	}
	vh->listener.regions_changed = regions_changed;
	vh->listener.pins_nothing = true;
	memory_add_listener(v->device.machine->memory, &vh->listener);
	*out = vh;
	return 0;
}
