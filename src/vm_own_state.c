/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a device of the embedder's own: one record of ours, and as many
 * as it takes of what its save() wrote.
 *
 *      core    u32 state version, u64 length of the device's bytes, u32 vectors,
 *              u32 raised and not yet signalled, configuration space,
 *              MSI-X table and pending bits
 *      data    the device's bytes, RECORD_MAX a record
 *
 * The guest stands, and with it the device.
 */
#include "vm_own_device.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>

enum { RECORD_CORE = 1, RECORD_DATA = 2 };

struct gw_state_out {
	struct bytes bytes;
	int error;
};

static struct gw_device *of(struct participant *p)
{
	return container_of(p, struct gw_device, participant);
}

/* ---- saving ---------------------------------------------------------------------------------- */

int gw_state_write(struct gw_state_out *out, const void *data, size_t len)
{
	if (!out->error && len > GW_DEVICE_STATE_MAX - out->bytes.len)
		out->error = -EFBIG;
	if (!out->error) {
		bytes_put(&out->bytes, data, len);
		out->error = out->bytes.failed ? -ENOMEM : 0;
	}
	return out->error;
}

static int save_theirs(struct gw_device *d, struct gw_state_out *out, struct gw_error *err)
{
	struct gw_error theirs = { 0 };
	int r = d->type->type.save ? d->type->type.save(d->opaque, out, &theirs) : 0;

	if (r)
		return own_failed(err, r, &theirs, "save");
	return out->error ? error_set_sys(err, out->error, "save: state of %zu bytes and more",
	                                  out->bytes.len)
	                  : 0;
}

static void put_core(struct gw_device *d, uint64_t data_len, struct bytes *core)
{
	uint8_t config[PCI_FUNCTION_STATE_SIZE];
	uint8_t msix[GW_DEVICE_VECTORS * (MSIX_ENTRY_SIZE + 4)];
	const size_t msix_len = d->msix ? msix_state_size(d->msix) : 0;
	uint32_t waiting;

	pthread_mutex_lock(&d->lock);
	waiting = d->waiting;
	pthread_mutex_unlock(&d->lock);
	bytes_put32(core, d->type->type.state_version);
	bytes_put64(core, data_len);
	bytes_put32(core, d->type->type.vectors);
	bytes_put32(core, waiting);
	pci_function_save(&d->function, config);
	bytes_put(core, config, sizeof(config));
	if (d->msix)
		msix_save(d->msix, msix);
	bytes_put(core, msix, msix_len);
}

static int send(struct participant *p, struct sink *sink, const struct bytes *core,
                const struct bytes *data, struct gw_error *err)
{
	int r = sink_record(sink, p, RECORD_CORE, core->data, core->len, err);

	for (size_t at = 0; at < data->len && !r; at += RECORD_MAX)
		r = sink_record(sink, p, RECORD_DATA, data->data + at,
		                MIN(data->len - at, (size_t)RECORD_MAX), err);
	return r;
}

static int own_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct gw_device *d = of(p);
	struct gw_state_out out = { 0 };
	struct bytes core = { 0 };
	int r;

	machine_lock(d->device.machine);
	r = save_theirs(d, &out, err);
	if (!r)
		put_core(d, out.bytes.len, &core);
	machine_unlock(d->device.machine);
	if (!r && core.failed)
		r = error_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = send(p, sink, &core, &out.bytes, err);
	bytes_free(&core);
	bytes_free(&out.bytes);
	return r;
}

/* ---- loading -----------------------------------------------------------------------------------
 */

void own_state_forget(struct gw_device *d)
{
	bytes_free(&d->core);
	bytes_free(&d->data);
	d->data_len = 0;
}

static int own_begin_load(struct participant *p, struct gw_error *err)
{
	(void)err;
	own_state_forget(of(p));
	return 0;
}

static void own_discard(struct participant *p)
{
	own_state_forget(of(p));
}

static int take_core(struct gw_device *d, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };

	bytes_take32(&in);
	d->data_len = bytes_take64(&in);
	if (in.failed || d->data_len > GW_DEVICE_STATE_MAX)
		return error_set(err, -EINVAL, "a record of %zu bytes announces %llu of state", len,
		                 (unsigned long long)d->data_len);
	bytes_put(&d->core, buf, len);
	return d->core.failed ? error_set(err, -ENOMEM, "out of memory") : 0;
}

static int take_data(struct gw_device *d, const void *buf, size_t len, struct gw_error *err)
{
	if (len > d->data_len - d->data.len)
		return error_set(err, -EINVAL, "more state than the %llu bytes announced",
		                 (unsigned long long)d->data_len);
	bytes_put(&d->data, buf, len);
	return d->data.failed ? error_set(err, -ENOMEM, "out of memory") : 0;
}

static int own_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct gw_device *d = of(p);

	(void)version;
	if (type == RECORD_CORE && !d->core.len)
		return take_core(d, buf, len, err);
	if (type == RECORD_DATA && d->core.len)
		return take_data(d, buf, len, err);
	return error_set(err, -EINVAL, "a record of type %u %s", type,
	                 d->core.len ? "behind the first" : "first");
}

static int settle_core(struct gw_device *d, uint32_t *version, struct gw_error *err)
{
	struct bytes_reader in = { .data = d->core.data, .len = d->core.len };
	uint32_t vectors, waiting;
	const uint8_t *config;
	int r;

	*version = bytes_take32(&in);
	bytes_take64(&in);
	vectors = bytes_take32(&in);
	waiting = bytes_take32(&in);
	config = bytes_take_view(&in, PCI_FUNCTION_STATE_SIZE);
	if (!config)
		return error_set(err, -EINVAL, "state of %zu bytes is not whole", d->core.len);
	if (!*version || *version > d->type->type.state_version)
		return error_set(err, -EPROTONOSUPPORT,
		                 "state of version %u, and version %u is the newest known here",
		                 *version, d->type->type.state_version);
	if (vectors != d->type->type.vectors || (uint64_t)waiting >> vectors)
		return error_set(err, -EINVAL, "%u vectors there, %u here (raised: 0x%x)", vectors,
		                 d->type->type.vectors, waiting);
	r = pci_function_load(&d->function, config, err);
	if (!r && d->msix)
		r = msix_load(d->msix, in.data, in.len, err);
	else if (!r && in.len)
		r = error_set(err, -EINVAL, "state is too long");
	if (r < 0)
		return r;
	if (d->msix)
		msix_update_of(d->msix, &d->function, d->msix_cap);
	pthread_mutex_lock(&d->lock);
	d->waiting = waiting;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int settle_theirs(struct gw_device *d, uint32_t version, struct gw_error *err)
{
	struct gw_error theirs = { 0 };
	int r;

	if (d->data.len != d->data_len)
		return error_set(err, -EINVAL, "%zu bytes of state, %llu announced", d->data.len,
		                 (unsigned long long)d->data_len);
	if (!d->type->type.load)
		return d->data_len ? error_set(err, -EINVAL, "it has no state here") : 0;
	r = d->type->type.load(d->opaque, version, d->data.data, d->data.len, &theirs);
	return r ? own_failed(err, r, &theirs, "load") : 0;
}

static int own_settle(struct participant *p, struct gw_error *err)
{
	struct gw_device *d = of(p);
	uint32_t version = 0;
	int r;

	if (!d->core.len)
		return error_set(err, -EINVAL, "its state is missing");
	machine_lock(d->device.machine);
	r = settle_core(d, &version, err);
	if (!r)
		r = settle_theirs(d, version, err);
	machine_unlock(d->device.machine);
	own_state_forget(d);
	return r;
}

const struct participant_ops own_device_participant = {
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = own_save,
	.begin_load = own_begin_load,
	.load = own_load,
	.settle = own_settle,
	.discard = own_discard,
};
