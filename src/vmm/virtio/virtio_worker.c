/* SPDX-License-Identifier: Apache-2.0 */
/* Who looks at a device's queues, and when. */
#include "vmm/virtio/virtio_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <stdio.h>

static void on_kick(void *opaque, int fd, uint32_t events)
{
	struct virtio_queue *q = opaque;
	struct virtio *v = q->virtio;

	(void)events;
	io_eventfd_drain(fd);
	pthread_mutex_lock(&q->worker->lock);
	if (v->active && q->ring.enabled)
		v->ops->kick(v, q);
	pthread_mutex_unlock(&q->worker->lock);
}

static int start_worker(struct virtio *v, struct virtio_worker *w, unsigned index, bool own,
                        struct gw_error *err)
{
	char name[16];
	int r;

	w->loop = v->device.machine->loop;
	if (!own)
		return 0;
	w->loop = NULL;
	r = loop_create(&w->loop, err);
	if (r < 0)
		return r;
	w->own = true;
	snprintf(name, sizeof(name), "%.11s/%u", v->device.id, index % 100);
	return loop_start_thread(w->loop, name, err);
}

static int add_queue(struct virtio *v, unsigned index, const struct virtio_setup *setup,
                     struct gw_error *err)
{
	struct virtio_queue *q = &v->queues[index];
	const unsigned worker = setup->worker_of ? setup->worker_of(index) : index;

	q->virtio = v;
	q->index = index;
	q->worker = &v->workers[worker % v->worker_count];
	q->ring.memory = v->device.machine->memory;
	q->ring.max_size = setup->queue_size;
	virtq_reset(&q->ring);
	q->vector = VIRTIO_NO_VECTOR;
	q->irq_fd = VIRTIO_IRQ_DEFER;
	q->kick_fd = io_eventfd();
	if (q->kick_fd < 0)
		return error_set_sys(err, q->kick_fd, "queue %u: eventfd", index);
	/* Without a kick handler it is the kernel that waits for kicks. */
	return v->ops->kick ? loop_watch(q->worker->loop, q->kick_fd, EPOLLIN, on_kick, q,
	                                 &q->watch, err)
	                    : 0;
}

int virtio_workers_create(struct virtio *v, const struct virtio_setup *setup, struct gw_error *err)
{
	const unsigned count = MAX(setup->threads, 1u);
	int r = 0;

	v->workers = calloc(count, sizeof(*v->workers));
	v->queues = calloc(setup->queues, sizeof(*v->queues));
	if (!v->workers || !v->queues)
		return error_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < count && !r; i++) {
		pthread_mutex_init(&v->workers[i].lock, NULL);
		pthread_cond_init(&v->workers[i].idle, NULL);
		v->worker_count++;
		r = start_worker(v, &v->workers[i], i, setup->threads > 0, err);
	}
	for (unsigned i = 0; i < setup->queues; i++)
		v->queues[i].kick_fd = -1;
	for (unsigned i = 0; i < setup->queues && !r; i++) {
		v->queue_count++;
		r = add_queue(v, i, setup, err);
	}
	return r;
}

void virtio_workers_destroy(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++)
		loop_unwatch(v->queues[i].watch);
	for (unsigned i = 0; i < v->worker_count; i++) {
		struct virtio_worker *w = &v->workers[i];

		if (w->own) {
			loop_stop_thread(w->loop);
			loop_destroy(w->loop);
		}
		pthread_cond_destroy(&w->idle);
		pthread_mutex_destroy(&w->lock);
	}
	for (unsigned i = 0; i < v->queue_count; i++)
		if (v->queues[i].kick_fd >= 0)
			close(v->queues[i].kick_fd);
	free(v->queues);
	free(v->workers);
	v->queues = NULL;
	v->workers = NULL;
	v->queue_count = v->worker_count = 0;
}

void virtio_set_active(struct virtio *v, bool active)
{
	for (unsigned i = 0; i < v->worker_count; i++)
		pthread_mutex_lock(&v->workers[i].lock);
	v->active = active;
	for (unsigned i = v->worker_count; i-- > 0;)
		pthread_mutex_unlock(&v->workers[i].lock);
}

void virtio_kick_all(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++)
		if (v->queues[i].ring.enabled)
			io_eventfd_signal(v->queues[i].kick_fd);
}

void virtio_push(struct virtio_queue *q, const struct virtq_chain *c, uint32_t written)
{
	if (virtq_push(&q->ring, c, written))
		virtio_interrupt(q);
}

void virtio_publish(struct virtio_queue *q)
{
	if (virtq_publish(&q->ring))
		virtio_interrupt(q);
}

void virtio_drain(struct virtio_queue *q, struct virtq_chain *chain,
                  void (*one)(struct virtio_queue *q, struct virtq_chain *chain))
{
	unsigned left = VIRTIO_TURN;
	int r = 0;

	do {
		virtq_kicks_off(&q->ring);
		while (left && (r = virtq_pop(&q->ring, chain)) > 0) {
			one(q, chain);
			left--;
		}
		virtio_publish(q);
	} while (!r && virtq_kicks_on(&q->ring) && left);
	if (r >= 0 && !left)
		io_eventfd_signal(q->kick_fd);
	if (r < 0)
		virtio_break(q->virtio, q->ring.broken ? q->ring.broken : "out of memory");
}
