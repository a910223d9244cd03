/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device's life: made, negotiated with, active, reset, gone. */
#include "vmm/virtio/virtio_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

static struct virtio *of_device(struct device *d)
{
	return container_of(d, struct virtio, device);
}

/* ---- active, or not ------------------------------------------------------------------------ */

/* Memory of a guest elsewhere comes and goes; a device whose rings have gone stands still until
 * they are back. Not active, so no worker looks at them. */
static bool rings_there(struct virtio *v)
{
	for (unsigned i = 0; v->device.machine->outside && i < v->queue_count; i++)
		if (v->queues[i].ring.enabled && !virtq_find_again(&v->queues[i].ring))
			return false;
	return true;
}

void virtio_update_active(struct virtio *v)
{
	const uint8_t stops = VIRTIO_NEEDS_RESET | VIRTIO_FAILED;
	const bool want = v->running && (v->status & VIRTIO_DRIVER_OK) && !(v->status & stops) &&
	                  !v->broken && pci_is_master(&v->function);
	struct gw_error err;

	if (want == v->active || (want && !rings_there(v)))
		return;
	if (!want) {
		virtio_set_active(v, false);
		if (v->ops->stop)
			v->ops->stop(v);
		return;
	}
	if (v->ops->start && v->ops->start(v, &err) < 0) {
		log_error(v->device.machine->log, "device %s: %s", v->device.id, err.text);
		virtio_break(v, "it could not start");
		return;
	}
	virtio_set_active(v, true);
	virtio_kick_all(v);
}

void virtio_run(struct device *d)
{
	struct virtio *v = of_device(d);

	machine_lock(d->machine);
	v->running = true;
	virtio_update_active(v);
	machine_unlock(d->machine);
}

void virtio_pause(struct device *d)
{
	struct virtio *v = of_device(d);

	machine_lock(d->machine);
	v->running = false;
	virtio_update_active(v);
	/* What it still had to say is said now: nothing changes while it is paused. */
	virtio_deferred(d);
	machine_unlock(d->machine);
}

/* ---- the driver's doing ---------------------------------------------------------------------- */

static void forget_queue(struct virtio_queue *q)
{
	pthread_mutex_lock(&q->worker->lock);
	virtq_reset(&q->ring);
	q->vector = VIRTIO_NO_VECTOR;
	q->irq_fd = VIRTIO_IRQ_DEFER;
	q->irq_waiting = false;
	pthread_mutex_unlock(&q->worker->lock);
}

void virtio_reset(struct virtio *v)
{
	v->status = 0;
	virtio_update_active(v);
	for (unsigned i = 0; i < v->queue_count; i++)
		forget_queue(&v->queues[i]);
	v->features = v->driver_features = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->queue_select = 0;
	v->config_vector = VIRTIO_NO_VECTOR;
	__atomic_store_n(&v->broken, NULL, __ATOMIC_RELEASE);
	virtio_irq_set_isr(v, 0);
	if (v->ops->reset)
		v->ops->reset(v);
}

/* 3.1.1: what the driver wants must be offered, and VERSION_1 among it. */
static bool features_fit(const struct virtio *v)
{
	return !(v->driver_features & ~v->offered) && (v->driver_features & VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
	const uint8_t kept = v->status & VIRTIO_NEEDS_RESET;

	if (!status) {
		virtio_reset(v);
		return;
	}
	/* 2.1.1: no bit is taken back but by a reset. What rings and device were set up with stays
	 * so; and NEEDS_RESET is the device's to say. */
	status |= v->status & VIRTIO_FEATURES_OK;
	status &= (uint8_t)~VIRTIO_NEEDS_RESET;
	if ((status & VIRTIO_FEATURES_OK) && !(v->status & VIRTIO_FEATURES_OK)) {
		if (features_fit(v))
			v->features = v->driver_features;
		else
			status &= (uint8_t)~VIRTIO_FEATURES_OK;
	}
	/* 3.1.1, 5 and 8: no driver is ready before its features were taken. */
	if (!(status & VIRTIO_FEATURES_OK))
		status &= (uint8_t)~VIRTIO_DRIVER_OK;
	v->status = status | kept;
	virtio_update_active(v);
}

int virtio_enable_queue(struct virtio *v, struct virtio_queue *q, struct gw_error *err)
{
	int r;

	pthread_mutex_lock(&q->worker->lock);
	r = virtq_enable(&q->ring, virtio_has(v, VIRTIO_F_RING_PACKED),
	                 virtio_has(v, VIRTIO_F_EVENT_IDX), virtio_has(v, VIRTIO_F_INDIRECT_DESC),
	                 err);
	pthread_mutex_unlock(&q->worker->lock);
	return r < 0 ? error_context(err, "queue %u", q->index) : 0;
}

void virtio_reset_queue(struct virtio *v, struct virtio_queue *q)
{
	const bool active = v->active;
	const uint8_t ready = v->status & VIRTIO_DRIVER_OK;

	if (!q->ring.enabled) {
		forget_queue(q);
		return;
	}
	if (active && v->ops->stop_queue) {
		pthread_mutex_lock(&q->worker->lock);
		q->ring.enabled = false;
		pthread_mutex_unlock(&q->worker->lock);
		v->ops->stop_queue(v, q);
		forget_queue(q);
		return;
	}
	/* The whole device stands still for a moment. */
	v->status &= (uint8_t)~VIRTIO_DRIVER_OK;
	virtio_update_active(v);
	forget_queue(q);
	v->status |= ready;
	virtio_update_active(v);
}

/* ---- configuration space --------------------------------------------------------------------- */

void virtio_config_set(struct virtio *v, unsigned offset, unsigned size, uint64_t value)
{
	value = htole64(value);
	memcpy(&v->config[offset], &value, size);
}

uint64_t virtio_config_get(const struct virtio *v, unsigned offset, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, &v->config[offset], size);
	return le64toh(value);
}

void virtio_config_allow_write(struct virtio *v, unsigned offset, unsigned size)
{
	for (unsigned i = offset; i < offset + size; i++)
		v->config_writable[i / 8] |= (uint8_t)(1u << (i % 8));
}

const char *virtio_feature_name(const struct virtio *v, unsigned bit, char buf[16])
{
	static const struct virtio_feature_name core[] = {
		{ VIRTIO_F_INDIRECT_DESC, "VIRTIO_F_INDIRECT_DESC" },
		{ VIRTIO_F_EVENT_IDX, "VIRTIO_F_EVENT_IDX" },
		{ VIRTIO_F_VERSION_1, "VIRTIO_F_VERSION_1" },
		{ VIRTIO_F_RING_PACKED, "VIRTIO_F_RING_PACKED" },
		{ VIRTIO_F_RING_RESET, "VIRTIO_F_RING_RESET" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(core); i++)
		if (core[i].bit == 1ull << bit)
			return core[i].name;
	for (const struct virtio_feature_name *n = v->ops->feature_names; n && n->bit; n++)
		if (n->bit == 1ull << bit)
			return n->name;
	snprintf(buf, 16, "bit %u", bit);
	return buf;
}

/* ---- made and gone ------------------------------------------------------------------------------
 */

static void release(struct virtio *v)
{
	if (v->ops->release)
		v->ops->release(v);
	participant_remove(&v->device.machine->participants, &v->participant);
	virtio_pci_destroy(v);
	virtio_workers_destroy(v);
	virtio_irq_destroy(v);
	free(v->loaded);
	free(v);
}

static void begin(struct virtio *v, struct machine *m, const struct config_device *config,
                  const struct virtio_setup *setup)
{
	v->device.driver = setup->driver;
	v->device.machine = m;
	snprintf(v->device.id, sizeof(v->device.id), "%s", config->id);
	snprintf(v->function.name, sizeof(v->function.name), "%s", config->id);
	snprintf(v->participant.name, sizeof(v->participant.name), "%s", config->id);
	v->participant.ops = setup->participant;
	v->ops = setup->ops;
	v->offered |= VIRTIO_CORE_FEATURES;
	v->config_vector = VIRTIO_NO_VECTOR;
	v->running = machine_running(m);
}

int virtio_plug(struct virtio *v, struct machine *m, const struct config_device *config, bool hot,
                const struct virtio_setup *setup, struct gw_error *err)
{
	int r;

	begin(v, m, config, setup);
	r = virtio_workers_create(v, setup, err);
	if (!r)
		r = virtio_irq_create(v, err);
	if (!r)
		r = virtio_pci_create(v, err);
	if (!r && v->ops->open)
		r = v->ops->open(v, err);
	if (!r)
		r = participant_add(&m->participants, &v->participant, err);
	if (!r) {
		v->function.number = (uint8_t)config->function;
		machine_lock(m);
		r = pci_plug(m->pci, &v->function, pci_place(config->slot, config->port), hot, err);
		machine_unlock(m);
	}
	if (r < 0) {
		release(v);
		return r;
	}
	v->device.slot = v->function.slot;
	return 0;
}

/* On the way out, by the guest's leave or without, with the device lock held. */
void virtio_ejected(struct pci_function *f)
{
	struct virtio *v = container_of(f, struct virtio, function);
	struct machine *m = v->device.machine;
	const bool quiet = v->quiet;
	char id[sizeof(v->device.id)];

	strcpy(id, v->device.id);
	v->running = false;
	virtio_update_active(v);
	machine_forget_device(m, &v->device);
	release(v);
	if (!quiet && m->notify.device_gone)
		m->notify.device_gone(m->notify.opaque, id);
}

int virtio_request_unplug(struct device *d, struct gw_error *err)
{
	return pci_let_go(&of_device(d)->function, err);
}

void virtio_destroy(struct device *d)
{
	struct virtio *v = of_device(d);

	v->quiet = true;
	pci_take_off(&v->function);
}
