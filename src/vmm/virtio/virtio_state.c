/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device's state: one record of four sections, each with its length
 * before it (u32).
 *
 *      core    identity, features, status, queues, configuration space
 *      device  what the device itself has (struct virtio_ops: save, load)
 *      pci     configuration space of the PCI function
 *      msix    table and pending bits
 *
 * Nothing is in flight when it is saved: the guest stands, and with it the device.
 */
#include "vmm/virtio/virtio_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <string.h>

enum { RECORD_STATE = 1 };

static struct virtio *of(struct participant *p)
{
	return container_of(p, struct virtio, participant);
}

const char *virtio_blocker(struct participant *p)
{
	struct virtio *v = of(p);

	return v->ops->blocker ? v->ops->blocker(v) : NULL;
}

/* ---- saving -------------------------------------------------------------------------------- */

static void put_section(struct bytes *out, const void *data, size_t len)
{
	bytes_put32(out, (uint32_t)len);
	bytes_put(out, data, len);
}

static void put_queue(const struct virtio_queue *q, struct bytes *out)
{
	bytes_put16(out, q->ring.size);
	bytes_put8(out, q->ring.enabled);
	bytes_put64(out, q->ring.desc);
	bytes_put64(out, q->ring.driver);
	bytes_put64(out, q->ring.device);
	bytes_put16(out, q->vector);
	virtq_save(&q->ring, out);
}

static void put_core(const struct virtio *v, struct bytes *out)
{
	bytes_put16(out, v->ops->id);
	bytes_put16(out, (uint16_t)v->queue_count);
	bytes_put16(out, (uint16_t)v->config_size);
	bytes_put64(out, v->driver_features);
	bytes_put32(out, v->device_feature_select);
	bytes_put32(out, v->driver_feature_select);
	bytes_put16(out, v->queue_select);
	bytes_put16(out, v->config_vector);
	bytes_put8(out, v->status);
	bytes_put8(out, v->config_generation);
	bytes_put8(out, v->isr);
	bytes_put(out, v->config, v->config_size);
	for (unsigned i = 0; i < v->queue_count; i++)
		put_queue(&v->queues[i], out);
}

static void put_pci(const struct virtio *v, struct bytes *out)
{
	uint8_t config[PCI_FUNCTION_STATE_SIZE];
	const size_t msix_len = msix_state_size(v->msix);
	autofree uint8_t *msix = malloc(msix_len);

	pci_function_save(&v->function, config);
	put_section(out, config, sizeof(config));
	if (msix)
		msix_save(v->msix, msix);
	else
		out->failed = true;
	put_section(out, msix, msix ? msix_len : 0);
}

int virtio_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct virtio *v = of(p);
	struct bytes part = { 0 }, all = { 0 };
	const char *unfit = v->ops->unfit ? v->ops->unfit(v) : NULL;
	int r;

	if (unfit)
		return error_set(err, -EIO, "%s", unfit);
	machine_lock(v->device.machine);
	put_core(v, &part);
	put_section(&all, part.data, part.len);
	all.failed |= part.failed;
	bytes_free(&part);
	if (v->ops->save)
		v->ops->save(v, &part);
	put_section(&all, part.data, part.len);
	all.failed |= part.failed;
	put_pci(v, &all);
	machine_unlock(v->device.machine);
	r = all.failed ? error_set(err, -ENOMEM, "out of memory")
	               : sink_record(sink, p, RECORD_STATE, all.data, all.len, err);
	bytes_free(&part);
	bytes_free(&all);
	return r;
}

/* ---- loading ----------------------------------------------------------------------------------
 */

int virtio_begin_load(struct participant *p, struct gw_error *err)
{
	(void)err;
	virtio_discard(p);
	return 0;
}

void virtio_discard(struct participant *p)
{
	struct virtio *v = of(p);

	free(v->loaded);
	v->loaded = NULL;
	v->loaded_len = 0;
}

int virtio_load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
                struct gw_error *err)
{
	struct virtio *v = of(p);

	(void)version;
	if (type != RECORD_STATE || v->loaded)
		return error_set(err, -EINVAL, "a record of type %u%s", type,
		                 v->loaded ? ", a second one" : ", which is none");
	v->loaded = malloc(len + 1);
	if (!v->loaded)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(v->loaded, buf, len);
	v->loaded_len = len;
	return 0;
}

static struct bytes_reader section(struct bytes_reader *in)
{
	const uint32_t len = bytes_take32(in);

	return (struct bytes_reader){ .data = bytes_take_view(in, len),
		                      .len = in->failed ? 0 : len,
		                      .failed = in->failed };
}

static int take_queue(struct virtio *v, struct virtio_queue *q, struct bytes_reader *in,
                      struct gw_error *err)
{
	struct virtq *ring = &q->ring;
	bool enabled;
	int r = 0;

	ring->size = bytes_take16(in);
	enabled = bytes_take8(in);
	ring->desc = bytes_take64(in);
	ring->driver = bytes_take64(in);
	ring->device = bytes_take64(in);
	q->vector = bytes_take16(in);
	if (q->vector != VIRTIO_NO_VECTOR && q->vector > v->queue_count)
		return error_set(err, -EINVAL, "queue %u: vector %u", q->index, q->vector);
	/* A driver may break its queue; then there is no position that could be wrong. */
	if (enabled && !(v->status & VIRTIO_NEEDS_RESET))
		r = virtio_enable_queue(v, q, err);
	if (r < 0)
		return r;
	r = virtq_load(ring, in, err);
	return r < 0 ? error_context(err, "queue %u", q->index) : 0;
}

static int check_features(const struct virtio *v, uint64_t features, struct gw_error *err)
{
	const uint64_t missing = features & ~v->offered;
	char buf[16];

	for (unsigned bit = 0; bit < 64; bit++)
		if (missing >> bit & 1)
			return error_set(err, -ENOTSUP,
			                 "the guest uses %s, which is not offered here",
			                 virtio_feature_name(v, bit, buf));
	return 0;
}

static int take_identity(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	const uint16_t id = bytes_take16(in), queues = bytes_take16(in), size = bytes_take16(in);

	if (id != v->ops->id)
		return error_set(err, -EINVAL, "virtio device type %u there, %u here", id,
		                 v->ops->id);
	if (queues != v->queue_count)
		return error_set(err, -EINVAL, "%u queues there, %u here", queues, v->queue_count);
	if (size != v->config_size)
		return error_set(err, -EINVAL, "%u bytes of configuration there, %u here", size,
		                 v->config_size);
	return 0;
}

/* What no driver can have brought a device to (virtio_set_status). */
static int check_status(const struct virtio *v, struct gw_error *err)
{
	const bool taken = v->status & VIRTIO_FEATURES_OK;

	if ((v->status & VIRTIO_DRIVER_OK) && !taken)
		return error_set(err, -EINVAL, "status 0x%02x: ready without features", v->status);
	if (taken && !(v->driver_features & VIRTIO_F_VERSION_1))
		return error_set(err, -EINVAL, "features 0x%llx are without VIRTIO_F_VERSION_1",
		                 (unsigned long long)v->driver_features);
	return 0;
}

static int take_core(struct virtio *v, struct bytes_reader in, struct gw_error *err)
{
	const uint8_t *config;
	uint8_t isr;
	int r = take_identity(v, &in, err);

	if (r < 0)
		return r;
	v->driver_features = bytes_take64(&in);
	v->device_feature_select = bytes_take32(&in);
	v->driver_feature_select = bytes_take32(&in);
	v->queue_select = bytes_take16(&in);
	v->config_vector = bytes_take16(&in);
	v->status = bytes_take8(&in);
	v->config_generation = bytes_take8(&in);
	isr = bytes_take8(&in);
	if (v->config_vector != VIRTIO_NO_VECTOR && v->config_vector > v->queue_count)
		return error_set(err, -EINVAL, "configuration vector %u", v->config_vector);
	r = check_status(v, err);
	if (!r && (v->status & VIRTIO_FEATURES_OK)) {
		v->features = v->driver_features;
		r = check_features(v, v->features, err);
	}
	config = bytes_take_view(&in, v->config_size);
	if (!r && config && v->ops->load_config)
		r = v->ops->load_config(v, config, err);
	else if (!r && config)
		memcpy(v->config, config, v->config_size);
	for (unsigned i = 0; i < v->queue_count && !r; i++)
		r = take_queue(v, &v->queues[i], &in, err);
	if (!r && !bytes_all_taken(&in))
		r = error_set(err, -EINVAL, "core state is too %s", in.failed ? "short" : "long");
	v->isr = isr;
	return r;
}

static int take_device(struct virtio *v, struct bytes_reader in, struct gw_error *err)
{
	int r = v->ops->load ? v->ops->load(v, &in, err) : 0;

	if (!r && !bytes_all_taken(&in))
		r = error_set(err, -EINVAL, "device state is too %s", in.failed ? "short" : "long");
	return r;
}

static int take_all(struct virtio *v, struct gw_error *err)
{
	struct bytes_reader in = { .data = v->loaded, .len = v->loaded_len };
	const struct bytes_reader core = section(&in), device = section(&in);
	const struct bytes_reader pci = section(&in), msix = section(&in);
	int r;

	if (!bytes_all_taken(&in) || pci.len != PCI_FUNCTION_STATE_SIZE)
		return error_set(err, -EINVAL, "state of %zu bytes is not whole", v->loaded_len);
	r = pci_function_load(&v->function, pci.data, err);
	if (!r)
		r = take_core(v, core, err);
	if (!r)
		r = msix_load(v->msix, msix.data, msix.len, err);
	if (r < 0)
		return r;
	msix_update_of(v->msix, &v->function, v->msix_cap);
	virtio_irq_update(v);
	return take_device(v, device, err);
}

int virtio_settle(struct participant *p, struct gw_error *err)
{
	struct virtio *v = of(p);
	int r;

	if (!v->loaded)
		return error_set(err, -EINVAL, "its state is missing");
	machine_lock(v->device.machine);
	r = take_all(v, err);
	machine_unlock(v->device.machine);
	virtio_discard(p);
	return r;
}
