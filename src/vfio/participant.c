/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A passed-through device as a participant. Its records, in this order:
 *
 *     1  identity: what has to be alike on both sides; checked before anything is loaded
 *     3  device data: u64 offset, then bytes of the device's own (any number of these)
 *     4  end of the device data: u64 length
 *     2  PCI state: configuration space, then MSI's, then MSI-X's
 *
 * The device data are opaque, and some drivers do not notice when they are cut short: hence
 * the offsets and the end mark.
 */
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_IDENTITY = 1, RECORD_PCI, RECORD_DATA, RECORD_END };

#define CHUNK (256 * 1024)

/* Little-endian; only numbers, so that it can be compared field by field. */
struct identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_revision;
	uint32_t mig_flags;
	uint64_t bar_sizes[PCI_BARS];
	uint32_t msi_vectors, msix_vectors;
};

static struct vfio_pci *of(struct participant *p)
{
	return container_of(p, struct vfio_pci, participant);
}

/* ---- source ------------------------------------------------------------------------------- */

static const char *block(struct vfio_pci *d, const char *why)
{
	if (!why)
		return NULL;
	snprintf(d->blocker, sizeof(d->blocker),
	         "device %s: %s: %s; unplug it first (device_del id=%s)", d->device.id, d->dev.name,
	         why, d->device.id);
	return d->blocker;
}

static const char *blocker(struct participant *p)
{
	struct vfio_pci *d = of(p);
	const char *why = d->dev.ops->lost ? d->dev.ops->lost(&d->dev) : NULL;

	if (!why && !d->mig.flags)
		why = "its driver offers no migration (VFIO_DEVICE_FEATURE_MIGRATION)";
	return block(d, why);
}

static const char *live_blocker(struct participant *p)
{
	struct vfio_pci *d = of(p);

	return block(d, vfio_dirty_blocker(vfio_dirty_who(&d->dirty), d->dirty.none_ok));
}

static int prepare(struct participant *p, bool live, struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	d->identity_sent = false;
	d->data_sent = 0;
	if (!live || !mig_v2_has(&d->mig, VFIO_MIGRATION_PRE_COPY))
		return 0;
	return mig_v2_set(&d->mig, MIG_PRE_COPY, MIG_RUNNING, err);
}

static int pending(struct participant *p, enum pending_effort effort,
                   struct participant_pending *out, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	uint64_t initial = 0, dirty = 0;
	int r;

	*out = (struct participant_pending){ 0 };
	if (d->mig.state == MIG_PRE_COPY) {
		/* Some drivers make new increments inside this call only. */
		r = mig_v2_precopy_info(&d->mig, &initial, &dirty, err);
		if (r < 0)
			return r;
		out->precopy = initial + dirty;
		out->not_yet = initial > 0;
	}
	if (effort == PENDING_EXACT)
		out->stop = mig_v2_stop_copy_size(&d->mig);
	return 0;
}

static void fill_identity(const struct vfio_pci *d, struct identity *id)
{
	const uint8_t *c = d->function.config;

	memset(id, 0, sizeof(*id));
	id->vendor = htole16((uint16_t)pci_get(c, 0x00, 2));
	id->device = htole16((uint16_t)pci_get(c, 0x02, 2));
	id->subsystem_vendor = htole16((uint16_t)pci_get(c, 0x2c, 2));
	id->subsystem = htole16((uint16_t)pci_get(c, 0x2e, 2));
	id->class_revision = htole32(pci_get(c, 0x08, 4));
	id->mig_flags = htole32((uint32_t)d->mig.flags);
	for (unsigned i = 0; i < PCI_BARS; i++)
		id->bar_sizes[i] = htole64(d->function.bars[i].size);
	id->msi_vectors = htole32(d->msi ? d->msi_layout.vectors : 0);
	id->msix_vectors = htole32(d->msix ? d->msix_layout.vectors : 0);
}

static int send_identity(struct vfio_pci *d, struct sink *sink, struct gw_error *err)
{
	struct identity id;

	if (d->identity_sent)
		return 0;
	d->identity_sent = true;
	fill_identity(d, &id);
	return sink_record(sink, &d->participant, RECORD_IDENTITY, &id, sizeof(id), err);
}

/* Sends what the session has. 0: no more (for now); 1: the sink wants a pause. */
static int send_data(struct vfio_pci *d, struct sink *sink, bool may_pause, struct gw_error *err)
{
	autofree void *buf = malloc(CHUNK);

	if (!buf)
		return error_set(err, -ENOMEM, "out of memory");
	for (;;) {
		uint64_t offset = htole64(d->data_sent);
		ssize_t n = mig_v2_read(&d->mig, buf, CHUNK, err);
		int r;

		if (n <= 0)
			return (int)n;
		r = sink->ops->record(sink, &d->participant, RECORD_DATA, &offset, sizeof(offset),
		                      buf, (size_t)n, err);
		if (r < 0)
			return r;
		d->data_sent += (uint64_t)n;
		if (may_pause && sink->ops->pause_wanted && sink->ops->pause_wanted(sink))
			return 1;
	}
}

static int iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	int r = send_identity(d, sink, err);

	if (r || d->mig.state != MIG_PRE_COPY)
		return r;
	return send_data(d, sink, true, err);
}

static int quiesce(struct participant *p, struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	if (!mig_v2_has(&d->mig, VFIO_MIGRATION_P2P))
		return 0;
	return mig_v2_set(&d->mig,
	                  d->mig.state == MIG_PRE_COPY ? MIG_PRE_COPY_P2P : MIG_RUNNING_P2P,
	                  MIG_RUNNING, err);
}

static int stop(struct participant *p, struct gw_error *err)
{
	return mig_v2_set(&of(p)->mig, MIG_STOP_COPY, MIG_STOP, err);
}

static int send_pci(struct vfio_pci *d, struct sink *sink, struct gw_error *err)
{
	size_t msix_len = d->msix ? msix_state_size(d->msix) : 0;
	size_t len = PCI_FUNCTION_STATE_SIZE + (d->msi ? MSI_STATE_SIZE : 0) + msix_len;
	autofree uint8_t *state = calloc(1, len);
	uint8_t *at = state;

	if (!state)
		return error_set(err, -ENOMEM, "out of memory");
	machine_lock(d->device.machine);
	pci_function_save(&d->function, at);
	at += PCI_FUNCTION_STATE_SIZE;
	if (d->msi) {
		msi_save(d->msi, at);
		at += MSI_STATE_SIZE;
	}
	if (d->msix)
		msix_save(d->msix, at);
	machine_unlock(d->device.machine);
	return sink_record(sink, &d->participant, RECORD_PCI, state, len, err);
}

static int save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	uint64_t total;
	int r = send_identity(d, sink, err);

	if (!r)
		r = send_data(d, sink, false, err);
	if (r < 0)
		return r;
	total = htole64(d->data_sent);
	r = sink_record(sink, p, RECORD_END, &total, sizeof(total), err);
	return r ? r : send_pci(d, sink, err);
}

/* From wherever it is; only a reset leads out of the error state. */
static int back_to_running(struct vfio_pci *d, struct gw_error *err)
{
	int r;

	if (!d->mig.flags || d->mig.state == MIG_RUNNING)
		return 0;
	if (d->mig.state != MIG_ERROR)
		return mig_v2_set(&d->mig, MIG_RUNNING, MIG_RUNNING, err);
	r = vfio_pci_reset_keeping(d, err);
	return r ? r : mig_v2_refresh(&d->mig, err);
}

static void finish(struct participant *p, bool goes_on)
{
	struct vfio_pci *d = of(p);
	struct gw_error err;
	int r = goes_on ? back_to_running(d, &err) : mig_v2_set(&d->mig, MIG_STOP, MIG_STOP, &err);

	if (r < 0)
		log_error(d->device.machine->log, "device %s: after saving: %s", d->device.id,
		          err.text);
}

static int rollback(struct participant *p, struct gw_error *err)
{
	return back_to_running(of(p), err);
}

/* ---- destination ---------------------------------------------------------------------------- */

static int begin_load(struct participant *p, struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	(void)err;
	d->identity_checked = d->data_ended = d->state_loaded = false;
	d->data_loaded = 0;
	return 0;
}

static int differs(const char *what, uint64_t theirs, uint64_t ours, struct gw_error *err)
{
	return error_set(err, -EINVAL, "another device: %s 0x%llx there, 0x%llx here", what,
	                 (unsigned long long)theirs, (unsigned long long)ours);
}

static int check_identity(struct vfio_pci *d, const void *buf, size_t len, struct gw_error *err)
{
	struct identity theirs, ours;

	if (len != sizeof(theirs))
		return error_set(err, -EINVAL, "identity of %zu bytes", len);
	memcpy(&theirs, buf, len);
	fill_identity(d, &ours);
#define CHECK(field, what)                                                                         \
	if (theirs.field != ours.field)                                                            \
	return differs(what, theirs.field, ours.field, err)
	CHECK(vendor, "vendor");
	CHECK(device, "device");
	CHECK(subsystem_vendor, "subsystem vendor");
	CHECK(subsystem, "subsystem");
	CHECK(class_revision, "class and revision");
	CHECK(mig_flags, "migration features");
	for (unsigned i = 0; i < PCI_BARS; i++)
		CHECK(bar_sizes[i], "BAR size");
	CHECK(msi_vectors, "MSI vectors");
	CHECK(msix_vectors, "MSI-X vectors");
#undef CHECK
	if (!d->mig.flags)
		return error_set(err, -ENOTSUP, "%s offers no migration here", d->dev.name);
	d->identity_checked = true;
	return mig_v2_set(&d->mig, MIG_RESUMING, MIG_RUNNING, err);
}

static int load_data(struct vfio_pci *d, const uint8_t *buf, size_t len, struct gw_error *err)
{
	uint64_t offset;
	int r;

	if (len < sizeof(offset) || d->data_ended)
		return error_set(err, -EINVAL, "device data of %zu bytes%s", len,
		                 d->data_ended ? " after their end" : "");
	memcpy(&offset, buf, sizeof(offset));
	if (le64toh(offset) != d->data_loaded)
		return error_set(err, -EINVAL, "device data at %llu, not at %llu",
		                 (unsigned long long)le64toh(offset),
		                 (unsigned long long)d->data_loaded);
	len -= sizeof(offset);
	r = mig_v2_write(&d->mig, buf + sizeof(offset), len, err);
	d->data_loaded += len;
	return r;
}

static int load_end(struct vfio_pci *d, const uint8_t *buf, size_t len, struct gw_error *err)
{
	uint64_t total;

	if (len != sizeof(total))
		return error_set(err, -EINVAL, "end mark of %zu bytes", len);
	memcpy(&total, buf, sizeof(total));
	if (le64toh(total) != d->data_loaded)
		return error_set(err, -EINVAL, "%llu bytes of device data came, not %llu",
		                 (unsigned long long)d->data_loaded,
		                 (unsigned long long)le64toh(total));
	d->data_ended = true;
	return 0;
}

static int keep_pci(struct vfio_pci *d, const void *buf, size_t len, struct gw_error *err)
{
	free(d->loaded_state);
	d->loaded_state = malloc(len + 1);
	if (!d->loaded_state)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(d->loaded_state, buf, len);
	d->loaded_len = len;
	return 0;
}

static int load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
                struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	(void)version;
	if (type == RECORD_IDENTITY)
		return check_identity(d, buf, len, err);
	if (!d->identity_checked)
		return error_set(err, -EINVAL, "a record of type %u before its identity", type);
	switch (type) {
	case RECORD_DATA:
		return load_data(d, buf, len, err);
	case RECORD_END:
		return load_end(d, buf, len, err);
	case RECORD_PCI:
		return keep_pci(d, buf, len, err);
	default:
		return error_set(err, -EINVAL, "a record of type %u, which is none", type);
	}
}

/* BARs, MSI and the command register are in place before the device takes its state. */
static int settle_pci(struct vfio_pci *d, struct gw_error *err)
{
	const uint8_t *at = d->loaded_state + PCI_FUNCTION_STATE_SIZE;
	size_t msix_len = d->msix ? msix_state_size(d->msix) : 0;
	size_t msi_len = d->msi ? MSI_STATE_SIZE : 0;
	int r;

	if (!d->loaded_state || d->loaded_len != PCI_FUNCTION_STATE_SIZE + msi_len + msix_len)
		return error_set(err, -EINVAL, "PCI state of %zu bytes", d->loaded_len);
	r = pci_function_load(&d->function, d->loaded_state, err);
	if (!r && d->msi)
		msi_load(d->msi, at);
	if (!r && d->msix)
		r = msix_load(d->msix, at + msi_len, msix_len, err);
	if (r < 0)
		return r;
	vfio_config_push_command(d);
	if (d->msi)
		msi_update(d->msi, d->function.config + d->msi_cap);
	if (d->msix)
		msix_update(d->msix, d->function.config + d->msix_cap);
	vfio_intx_update(d);
	return 0;
}

static int settle(struct participant *p, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	int r;

	if (!d->identity_checked || !d->data_ended)
		return error_set(err, -EINVAL, "its state is incomplete");
	machine_lock(d->device.machine);
	r = settle_pci(d, err);
	machine_unlock(d->device.machine);
	free(d->loaded_state);
	d->loaded_state = NULL;
	return r ? r : mig_v2_set(&d->mig, MIG_STOP, MIG_STOP, err);
}

static int resume(struct participant *p, int pass, struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	int r;

	if (pass == 0 && !mig_v2_has(&d->mig, VFIO_MIGRATION_P2P))
		return 0;
	r = mig_v2_set(&d->mig, pass == 0 ? MIG_RUNNING_P2P : MIG_RUNNING, MIG_RUNNING, err);
	if (!r && pass == 1)
		vfio_intx_kick(d);
	return r;
}

static void discard(struct participant *p)
{
	struct vfio_pci *d = of(p);
	struct gw_error err;

	free(d->loaded_state);
	d->loaded_state = NULL;
	/* What was half loaded must not come alive: a reset, not a transition. */
	if (d->mig.state != MIG_RUNNING && vfio_pci_reset_keeping(d, &err) < 0)
		log_warn(d->device.machine->log, "device %s: %s", d->device.id, err.text);
	if (d->mig.flags)
		mig_v2_refresh(&d->mig, NULL);
}

static const struct participant_ops participant_ops = {
	.kind = "vfio-pci",
	.version = 1,
	.class = PARTICIPANT_PASSTHROUGH,
	.blocker = blocker,
	.live_blocker = live_blocker,
	.prepare = prepare,
	.pending = pending,
	.iterate = iterate,
	.quiesce = quiesce,
	.stop = stop,
	.save = save,
	.finish = finish,
	.rollback = rollback,
	.begin_load = begin_load,
	.load = load,
	.settle = settle,
	.resume = resume,
	.discard = discard,
};

/* ---- life ---------------------------------------------------------------------------------------
 */

static void on_changed(void *opaque, enum mig_state state)
{
	struct vfio_pci *d = opaque;
	struct machine *m = d->device.machine;
	char data[128];

	snprintf(data, sizeof(data), "{\"device-id\":\"%s\",\"device-state\":\"%s\"}", d->device.id,
	         mig_state_name(state));
	if (m->notify.event)
		m->notify.event(m->notify.opaque, "VFIO_MIGRATION", data);
}

int vfio_participant_init(struct vfio_pci *d, struct gw_error *err)
{
	d->participant.ops = &participant_ops;
	snprintf(d->participant.name, sizeof(d->participant.name), "%s", d->device.id);
	d->mig.opaque = d;
	d->mig.changed = on_changed;
	d->mig.reset = vfio_pci_reset_keeping;
	return participant_add(&d->device.machine->participants, &d->participant, err);
}

void vfio_participant_fini(struct vfio_pci *d)
{
	participant_remove(&d->device.machine->participants, &d->participant);
}
