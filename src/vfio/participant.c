/* SPDX-License-Identifier: Apache-2.0 */
/* A passed-through device as a participant: what blocks it, what became of it, its registration. */
#include "vfio/participant.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

static const struct participant_ops participant_ops;

/* ---- what blocks it ---- */

static const char *block(struct vfio_pci *d, const char *why)
{
	if (!why)
		return NULL;
	snprintf(d->blocker, sizeof(d->blocker),
	         "device %s: %s: %s; unplug it first (device_del id=%s)", d->device.id, d->dev.name,
	         why, d->device.id);
	return d->blocker;
}

static bool reachable_by_dma(const struct vfio_pci *d)
{
	for (unsigned i = 0; i < d->window_count; i++)
		if (d->windows[i].dma)
			return true;
	return false;
}

/* Devices are stopped one after the other. One that cannot be kept from starting DMA before that
 * may write to one that has stopped, which would be lost. */
static bool endangers_others(struct vfio_pci *d)
{
	struct participant *p = d->device.machine->participants.first;

	if (vfio_state_has(d->state, VFIO_STATE_QUIESCE))
		return false;
	for (; p; p = p->next)
		if (p->ops == &participant_ops && p != &d->participant &&
		    reachable_by_dma(vfio_pci_of_participant(p)))
			return true;
	return false;
}

static const char *blocker(struct participant *p)
{
	struct vfio_pci *d = vfio_pci_of_participant(p);
	const char *why = d->dev.ops->lost ? d->dev.ops->lost(&d->dev) : NULL;

	if (!why && !d->state)
		why = "its driver offers no migration (VFIO_DEVICE_FEATURE_MIGRATION, or a region "
		      "for it)";
	if (!why && endangers_others(d))
		why = "it could write to another device that has stopped already (it has no P2P "
		      "states)";
	return block(d, why);
}

static const char *live_blocker(struct participant *p)
{
	struct vfio_pci *d = vfio_pci_of_participant(p);

	return block(d, vfio_dirty_blocker(vfio_dirty_who(&d->dirty), d->dirty.none_ok));
}

/* ---- what became of it ---- */

static void tell(struct vfio_pci *d, const char *event, const char *const fields[][2], size_t count)
{
	struct machine *m = d->device.machine;
	cJSON *root = m->notify.event ? cJSON_CreateObject() : NULL;
	char *text = NULL;
	bool ok = root;

	for (size_t i = 0; ok && i < count; i++)
		ok = cJSON_AddStringToObject(root, fields[i][0], fields[i][1]);
	if (ok)
		text = cJSON_PrintUnformatted(root);
	if (text)
		m->notify.event(m->notify.opaque, event, text);
	free(text);
	cJSON_Delete(root);
}

void vfio_trouble(struct vfio_pci *d, enum vfio_trouble trouble, const char *why)
{
	const char *const fields[][2] = {
		{ "device", d->device.id },
		{ "state", trouble == VFIO_WAS_RESET ? "reset" : "failed" },
		{ "reason", why },
	};
	struct machine *m = d->device.machine;
	bool news;

	/* Before the guest has it there is nobody whom it fails. */
	if (d->loading.under_way)
		return;
	machine_lock(m);
	news = trouble == VFIO_WAS_RESET || trouble != d->trouble;
	d->trouble = trouble;
	snprintf(d->trouble_text, sizeof(d->trouble_text), "%s", why ? why : "");
	machine_unlock(m);
	if (trouble != VFIO_WELL && news)
		tell(d, "DEVICE_DEGRADED", fields, ARRAY_SIZE(fields));
}

void vfio_participant_was_reset(struct vfio_pci *d)
{
	vfio_state_was_reset(d->state);
	d->trouble = VFIO_WELL;
}

static bool trouble(struct participant *p, char *why, size_t size)
{
	struct vfio_pci *d = vfio_pci_of_participant(p);
	bool any;

	machine_lock(d->device.machine);
	any = d->trouble != VFIO_WELL;
	if (any)
		snprintf(why, size, "device %s %s: %s", d->device.id,
		         d->trouble == VFIO_WAS_RESET ? "was reset" : "has failed",
		         d->trouble_text);
	machine_unlock(d->device.machine);
	return any;
}

bool vfio_participant_describe(struct vfio_pci *d, cJSON *info)
{
	cJSON *state = cJSON_AddObjectToObject(info, "state");
	bool ok = state && cJSON_AddStringToObject(state, "protocol",
	                                           d->state ? d->state->ops->protocol : "none");
	char why[640];

	if (ok && d->state)
		ok = cJSON_AddStringToObject(state, "now", vfio_state_name(d->state));
	if (ok && trouble(&d->participant, why, sizeof(why)))
		ok = cJSON_AddStringToObject(state, "degraded", why);
	return ok;
}

/* ---- registration ---- */

static const struct participant_ops participant_ops = {
	.kind = "vfio-pci",
	.version = VFIO_RECORDS_VERSION,
	.class = PARTICIPANT_PASSTHROUGH,
	.blocker = blocker,
	.live_blocker = live_blocker,
	.trouble = trouble,
	.prepare = vfio_prepare,
	.pending = vfio_pending,
	.iterate = vfio_iterate,
	.quiesce = vfio_quiesce,
	.stop = vfio_stop,
	.save = vfio_save,
	.finish = vfio_finish,
	.answer_again = vfio_answer_again,
	.rollback = vfio_rollback,
	.begin_load = vfio_begin_load,
	.load = vfio_load,
	.settle = vfio_settle,
	.resume = vfio_resume,
	.discard = vfio_discard,
};

static void on_changed(void *opaque, const char *state)
{
	struct vfio_pci *d = opaque;
	const char *const fields[][2] = {
		{ "device-id", d->device.id },
		{ "device-state", state },
	};

	tell(d, "VFIO_MIGRATION", fields, ARRAY_SIZE(fields));
}

static void on_trouble(void *opaque, enum vfio_trouble trouble, const char *why)
{
	vfio_trouble(opaque, trouble, why);
}

/* A device runs when it is opened; one that does not has been left in the middle by its last user,
 * which not every driver makes good. What it offers of resets says nothing here: to offer migration
 * is to be led out of any state by VFIO_DEVICE_RESET (Linux uAPI, VFIO_DEVICE_STATE_ERROR). */
static int begin_running(struct vfio_pci *d, struct gw_error *err)
{
	const char *was = vfio_state_name(d->state);
	int r = vfio_dev_reset(&d->dev, err);

	if (!r)
		r = d->state->ops->refresh(d->state, err);
	if (!r && !vfio_state_runs(d->state))
		r = error_set(err, -EIO, "a reset leaves it in state \"%s\"",
		              vfio_state_name(d->state));
	return r < 0 ? error_context(err, "%s was left in state \"%s\"", d->dev.name, was) : 0;
}

int vfio_participant_probe(struct vfio_pci *d, struct gw_error *err)
{
	const struct vfio_state_owner owner = {
		.opaque = d,
		.changed = on_changed,
		.reset = vfio_pci_reset_keeping,
		.trouble = on_trouble,
		.without = d->without,
	};

	int r = vfio_state_create(&d->dev, &owner, &d->state, err);

	return r || !d->state || vfio_state_runs(d->state) ? r : begin_running(d, err);
}

int vfio_participant_init(struct vfio_pci *d, struct gw_error *err)
{
	d->participant.ops = &participant_ops;
	snprintf(d->participant.name, sizeof(d->participant.name), "%s", d->device.id);
	return participant_add(&d->device.machine->participants, &d->participant, err);
}

void vfio_participant_fini(struct vfio_pci *d)
{
	participant_remove(&d->device.machine->participants, &d->participant);
	vfio_state_destroy(d->state);
	d->state = NULL;
	free(d->loading.pci);
	d->loading.pci = NULL;
}
