/* SPDX-License-Identifier: Apache-2.0 */
/* A passed-through device is saved, or moved away. */
#include "vfio/participant.h"

#include "base/util.h"
#include "vfio/compat.h"

#include <endian.h>

#define CHUNK (256 * KIB)
/* A pass sends what the device said it has, so that one that always has more does not keep all
 * others waiting; but not less than this, and where it does not say, at most that. */
#define PASS_MIN MIB
#define PASS_UNKNOWN (256 * MIB)

static struct vfio_pci *of(struct participant *p)
{
	return vfio_pci_of_participant(p);
}

/* ---- the guest runs ------------------------------------------------------------------------ */

/* The guest may reset the device at any time, which ends its session without a word: then a new
 * one begins, and the destination forgets what came of the old one. */
static int keep_copying(struct vfio_pci *d, struct gw_error *err)
{
	if (!d->saving.live || !vfio_state_has(d->state, VFIO_STATE_PRE_COPY) ||
	    !vfio_state_runs(d->state))
		return 0;
	if (d->saving.sent)
		log_info(d->device.machine->log,
		         "device %s: it was reset while its state was copied, which begins again",
		         d->device.id);
	return vfio_state_step(d->state, VFIO_BEGIN_PRE_COPY, err);
}

static int ask_pending(struct vfio_pci *d, struct vfio_state_pending *out, struct gw_error *err)
{
	int r = keep_copying(d, err);

	if (!r)
		r = vfio_state_pending(d->state, out, err);
	if (r == -ESTALE) {
		r = keep_copying(d, err);
		if (!r)
			r = vfio_state_pending(d->state, out, err);
	}
	d->saving.estimate = out->unknown ? PASS_UNKNOWN : MAX(out->initial + out->dirty, PASS_MIN);
	return r;
}

int vfio_prepare(struct participant *p, bool live, struct gw_error *err)
{
	struct vfio_state_pending pending = { 0 };
	struct vfio_pci *d = of(p);

	d->saving = (struct vfio_saving){ .live = live };
	d->loading.under_way = false;
	if (!d->state)
		return error_set(err, -ENOTSUP, "%s offers no migration", d->dev.name);
	return live ? ask_pending(d, &pending, err) : 0;
}

int vfio_pending(struct participant *p, enum pending_effort effort, struct participant_pending *out,
                 struct gw_error *err)
{
	struct vfio_state_pending pending = { 0 };
	struct vfio_pci *d = of(p);
	int r = d->saving.live ? ask_pending(d, &pending, err) : 0;

	*out = (struct participant_pending){
		.precopy = pending.initial + pending.dirty,
		.not_yet = pending.initial || pending.unknown,
	};
	if (!r && effort == PENDING_EXACT)
		out->stop = vfio_state_stop_size(d->state);
	return r;
}

static int send_identity(struct vfio_pci *d, struct sink *sink, struct gw_error *err)
{
	struct bytes identity = { 0 };
	int r;

	if (d->saving.identity_sent)
		return 0;
	d->saving.identity_sent = true;
	vfio_identity_write(d, &identity);
	r = identity.failed ? error_set(err, -ENOMEM, "out of memory")
	                    : sink_record(sink, &d->participant, VFIO_RECORD_IDENTITY,
	                                  identity.data, identity.len, err);
	bytes_free(&identity);
	return r;
}

/* What was sent before belongs to a session that a reset has ended. */
static int note_session(struct vfio_pci *d, struct sink *sink, struct gw_error *err)
{
	const bool stale = d->saving.sent && d->saving.session != d->state->sessions;

	d->saving.session = d->state->sessions;
	if (!stale)
		return 0;
	d->saving.sent = 0;
	return sink_record(sink, &d->participant, VFIO_RECORD_RESTART, NULL, 0, err);
}

/* Sends what the session has, at most `limit` bytes but what was begun to its end. 0: no more (for
 * now); 1: the sink wants a pause. */
static int send_data(struct vfio_pci *d, struct sink *sink, uint64_t *limit, struct gw_error *err)
{
	autofree void *buf = malloc(CHUNK);

	if (!buf)
		return error_set(err, -ENOMEM, "out of memory");
	while (*limit || vfio_state_midway(d->state)) {
		uint64_t offset;
		ssize_t n = vfio_state_read(d->state, buf, CHUNK, err);
		int r;

		if (n <= 0)
			return (int)n;
		r = note_session(d, sink, err);
		offset = htole64(d->saving.sent);
		if (!r)
			r = sink->ops->record(sink, &d->participant, VFIO_RECORD_DATA, &offset,
			                      sizeof(offset), buf, (size_t)n, err);
		if (r < 0)
			return r;
		d->saving.sent += (uint64_t)n;
		*limit -= MIN(*limit, (uint64_t)n);
		if (d->saving.in_pass && sink->ops->pause_wanted && sink->ops->pause_wanted(sink))
			return 1;
	}
	return 0;
}

int vfio_iterate(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	int r = send_identity(d, sink, err);

	if (!r)
		r = keep_copying(d, err);
	if (r || !vfio_state_copies(d->state))
		return r;
	if (!d->saving.in_pass)
		d->saving.pass_left = d->saving.estimate;
	d->saving.in_pass = true;
	r = send_data(d, sink, &d->saving.pass_left, err);
	d->saving.in_pass = r == 1;
	return r == -ESTALE ? 0 : r; /* the next pass begins again */
}

/* ---- it is stopped --------------------------------------------------------------------------- */

int vfio_quiesce(struct participant *p, struct gw_error *err)
{
	return vfio_state_step(of(p)->state, VFIO_QUIESCE, err);
}

int vfio_stop(struct participant *p, struct gw_error *err)
{
	return vfio_state_step(of(p)->state, VFIO_STOP, err);
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
	return sink_record(sink, &d->participant, VFIO_RECORD_PCI, state, len, err);
}

int vfio_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	uint64_t limit = UINT64_MAX, total;
	int r = send_identity(d, sink, err);

	d->saving.in_pass = false;
	if (!r)
		r = send_data(d, sink, &limit, err);
	if (!r)
		r = note_session(d, sink, err);
	if (r < 0)
		return r;
	total = htole64(d->saving.sent);
	r = sink_record(sink, p, VFIO_RECORD_END, &total, sizeof(total), err);
	return r ? r : send_pci(d, sink, err);
}

/* ---- the end ---- */

static int back_to_running(struct vfio_pci *d, struct gw_error *err)
{
	struct gw_error own;
	int r = d->state ? vfio_state_run_again(d->state, &own) : 0;

	if (r < 0) {
		vfio_trouble(d, VFIO_HAS_FAILED, own.text);
		if (err)
			*err = own;
	} else if (d->trouble == VFIO_HAS_FAILED) {
		vfio_trouble(d, VFIO_WELL, NULL);
	}
	return r;
}

void vfio_finish(struct participant *p, bool goes_on)
{
	struct vfio_pci *d = of(p);
	struct gw_error err;
	int r = goes_on ? back_to_running(d, &err) : vfio_state_step(d->state, VFIO_END_SAVE, &err);

	if (r < 0)
		log_error(d->device.machine->log, "device %s: after saving: %s", d->device.id,
		          err.text);
}

int vfio_answer_again(struct participant *p, struct gw_error *err)
{
	struct vfio_state *s = of(p)->state;
	int r;

	/* One that runs answers; one in the error state is led out of it by going back. */
	if (!s || vfio_state_runs(s) || s->now == s->ops->error)
		return 0;
	r = vfio_state_step(s, VFIO_ANSWER_DMA, err);
	/* One that does not run after that is tried once more, and told of, when it goes back. */
	return vfio_state_runs(s) ? r : 0;
}

int vfio_rollback(struct participant *p, struct gw_error *err)
{
	return back_to_running(of(p), err);
}
