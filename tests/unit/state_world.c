/* SPDX-License-Identifier: Apache-2.0 */
#include "state_world.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define V1_LEN 0x30001

static const char v2_data[] =
        "what a device of the other protocol has to say, of which it has more "
        "than can be read in one piece";

static int on_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                     size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct state_world *w = container_of(sink, struct state_world, sink);
	struct world_record *r;

	(void)err;
	cr_assert_leq(head_len + body_len, RECORD_MAX);
	w->records = realloc(w->records, (w->record_count + 1) * sizeof(*r));
	r = &w->records[w->record_count++];
	snprintf(r->name, sizeof(r->name), "%s", p->name);
	r->type = type;
	r->len = head_len + body_len;
	r->bytes = malloc(r->len + 1);
	if (head_len)
		memcpy(r->bytes, head, head_len);
	if (body_len)
		memcpy(r->bytes + head_len, body, body_len);
	return 0;
}

static const struct sink_ops sink_ops = { .record = on_record };

static void on_event(void *opaque, const char *name, const char *data)
{
	struct state_world *w = opaque;

	if (strcmp(name, "DEVICE_DEGRADED"))
		return;
	w->degraded_count++;
	snprintf(w->degraded, sizeof(w->degraded), "%s", data);
}

static void add(struct state_world *w, unsigned i, uint64_t kind)
{
	struct vfio_pci *d = calloc(1, sizeof(*d));
	struct gw_error err;

	w->pci[i] = d;
	d->device.machine = &w->m;
	snprintf(d->device.id, sizeof(d->device.id), "dev%u", i);
	d->intx.fd = d->intx.resample_fd = d->intx.line_fd = -1;
	if (kind == WORLD_V1) {
		w->v1[i] = v1_new(i % 2 ? V1_MIXED : V1_TRAPPED);
		w->v1[i]->len = V1_LEN;
		w->v1[i]->chunk = 0x12345;
		d->dev = w->v1[i]->dev;
	} else {
		w->v2[i] = calloc(1, sizeof(*w->v2[i]));
		v2_start(w->v2[i], kind);
		w->v2[i]->initial = w->v2[i]->dirty = 0;
		w->v2[i]->data = v2_data;
		w->v2[i]->data_len = sizeof(v2_data);
		d->dev = w->v2[i]->dev;
	}
	cr_assert_eq(vfio_participant_probe(d, &err), 0, "%s", err.text);
	cr_assert_eq(vfio_participant_init(d, &err), 0, "%s", err.text);
}

struct state_world *world_new(const uint64_t kinds[WORLD_DEVICES])
{
	struct state_world *w = calloc(1, sizeof(*w));

	pthread_mutex_init(&w->m.device_lock, NULL);
	w->m.notify = (struct machine_notify){ .opaque = w, .event = on_event };
	w->sink.ops = &sink_ops;
	for (unsigned i = 0; i < WORLD_DEVICES; i++)
		add(w, i, kinds[i]);
	w->sequence =
	        (struct sequence){ .list = &w->m.participants, .sink = &w->sink, .live = true };
	return w;
}

void world_free(struct state_world *w)
{
	sequence_end(&w->sequence);
	for (unsigned i = 0; i < WORLD_DEVICES; i++) {
		vfio_participant_fini(w->pci[i]);
		free(w->pci[i]);
		if (w->v1[i])
			v1_free(w->v1[i]);
		if (w->v2[i])
			v2_end(w->v2[i]);
		free(w->v2[i]);
	}
	for (size_t i = 0; i < w->record_count; i++)
		free(w->records[i].bytes);
	free(w->records);
	pthread_mutex_destroy(&w->m.device_lock);
	free(w);
}

int world_run(struct state_world *w, enum phase phase, struct gw_error *err)
{
	w->phase = phase;
	return sequence_run(&w->sequence, phase, err);
}

int world_send(struct state_world *w, enum phase last, struct gw_error *err)
{
	struct participant_pending pending;
	int r = 0;

	for (enum phase phase = PHASE_PREPARE; !r && phase <= last; phase++) {
		r = world_run(w, phase, err);
		if (!r && phase == PHASE_ITERATE)
			r = sequence_pending(&w->sequence, PENDING_EXACT, &pending, err);
	}
	return r;
}

int world_take(struct state_world *w, const struct state_world *from, struct gw_error *err)
{
	int r = world_run(w, PHASE_BEGIN_LOAD, err);

	for (size_t i = 0; !r && i < from->record_count; i++) {
		const struct world_record *rec = &from->records[i];
		struct participant *p = participant_find(&w->m.participants, rec->name);

		w->phase = PHASE_LOAD;
		r = p->ops->load(p, p->ops->version, rec->type, rec->bytes, rec->len, err);
		if (r < 0)
			error_context(err, "%s: load", p->name);
	}
	return r ? r : world_run(w, PHASE_SETTLE, err);
}

void world_undo(struct state_world *w, struct gw_error *err)
{
	sequence_undo(&w->sequence, w->phase, err);
}

unsigned world_running(const struct state_world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WORLD_DEVICES; i++)
		n += w->v1[i] ? (w->v1[i]->value & 7) == 1 : w->v2[i]->in == MIG_RUNNING;
	return n;
}

unsigned world_resets(const struct state_world *w, unsigned i)
{
	return w->v1[i] ? w->v1[i]->resets : w->v2[i]->resets;
}

bool world_has(const struct state_world *w, const struct state_world *from, unsigned i)
{
	if (w->v1[i])
		return w->v1[i]->settled && w->v1[i]->loaded_len == from->v1[i]->len &&
		       !memcmp(w->v1[i]->loaded, from->v1[i]->data, from->v1[i]->len);
	return w->v2[i]->written_len == sizeof(v2_data) &&
	       !memcmp(w->v2[i]->written, v2_data, sizeof(v2_data));
}

void world_reset(struct state_world *w, unsigned i)
{
	if (w->v1[i]) {
		w->v1[i]->value = V1_RESERVED | 1;
		w->v1[i]->at = w->v1[i]->open = 0;
	} else {
		w->v2[i]->in = MIG_RUNNING;
	}
	machine_lock(&w->m);
	vfio_participant_was_reset(w->pci[i]);
	machine_unlock(&w->m);
}

unsigned world_count(const struct state_world *w, unsigned i, uint16_t type)
{
	unsigned n = 0;

	for (size_t k = 0; k < w->record_count; k++)
		n += !strcmp(w->records[k].name, w->pci[i]->participant.name) &&
		     w->records[k].type == type;
	return n;
}
