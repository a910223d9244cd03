/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msi_vectors.h"

#include <stdlib.h>

int msi_vectors_init(struct msi_vectors *set, unsigned count, const struct msi_vector_ops *ops,
                     void *opaque, struct gw_error *err)
{
	*set = (struct msi_vectors){ .ops = ops, .opaque = opaque, .count = count };
	set->v = calloc(count, sizeof(*set->v));
	if (!set->v)
		return error_set(err, -ENOMEM, "no memory for %u MSI vectors", count);
	return 0;
}

void msi_vectors_fini(struct msi_vectors *set)
{
	for (unsigned i = 0; i < set->count; i++)
		msi_vector_set(set, i, MSI_VECTOR_OFF, &set->v[i].msg);
	msi_vectors_commit(set);
	free(set->v);
	*set = (struct msi_vectors){ 0 };
}

static bool same_message(const struct msi_message *a, const struct msi_message *b)
{
	return a->address == b->address && a->data == b->data;
}

/* Moves what the owner has caught while the vector was masked into the pending bit. */
static void collect(struct msi_vectors *set, unsigned vector)
{
	struct msi_vector *v = &set->v[vector];

	if (v->state == MSI_VECTOR_MASKED && v->used && set->ops->raised &&
	    set->ops->raised(set->opaque, vector))
		v->pending = true;
}

static void turn_on(struct msi_vectors *set, unsigned vector, const struct msi_message *msg)
{
	struct msi_vector *v = &set->v[vector];

	if (v->state == MSI_VECTOR_ON && same_message(&v->msg, msg))
		return;
	collect(set, vector);
	v->msg = *msg;
	v->state = MSI_VECTOR_ON;
	v->used = true;
	v->fire_due = v->pending;
	set->ops->use(set->opaque, vector, msg);
	set->uncommitted = true;
}

static void turn_off(struct msi_vectors *set, unsigned vector)
{
	struct msi_vector *v = &set->v[vector];

	if (v->state == MSI_VECTOR_OFF)
		return;
	v->state = MSI_VECTOR_OFF;
	v->pending = false;
	v->fire_due = false;
	if (!v->used)
		return;
	v->used = false;
	set->ops->release(set->opaque, vector);
	set->uncommitted = true;
}

static void turn_masked(struct msi_vectors *set, unsigned vector, const struct msi_message *msg)
{
	struct msi_vector *v = &set->v[vector];
	bool was_on = v->state == MSI_VECTOR_ON;

	v->msg = *msg;
	v->state = MSI_VECTOR_MASKED;
	v->fire_due = false;
	if (!was_on)
		return;
	set->ops->mask(set->opaque, vector);
	set->uncommitted = true;
}

void msi_vector_set(struct msi_vectors *set, unsigned vector, enum msi_vector_state state,
                    const struct msi_message *msg)
{
	switch (state) {
	case MSI_VECTOR_OFF:
		turn_off(set, vector);
		break;
	case MSI_VECTOR_MASKED:
		turn_masked(set, vector, msg);
		break;
	case MSI_VECTOR_ON:
		turn_on(set, vector, msg);
		break;
	}
}

void msi_vectors_commit(struct msi_vectors *set)
{
	if (!set->uncommitted)
		return;
	set->uncommitted = false;
	if (set->ops->commit)
		set->ops->commit(set->opaque);
	for (unsigned i = 0; i < set->count; i++) {
		struct msi_vector *v = &set->v[i];

		if (!v->fire_due)
			continue;
		v->fire_due = false;
		v->pending = false;
		set->ops->fire(set->opaque, i, &v->msg);
	}
}

void msi_vector_raise(struct msi_vectors *set, unsigned vector)
{
	if (vector >= set->count)
		return;
	if (set->v[vector].state == MSI_VECTOR_ON)
		set->ops->fire(set->opaque, vector, &set->v[vector].msg);
	else if (set->v[vector].state == MSI_VECTOR_MASKED)
		set->v[vector].pending = true;
}

bool msi_vector_pending(struct msi_vectors *set, unsigned vector)
{
	collect(set, vector);
	return set->v[vector].pending;
}

void msi_vector_set_pending(struct msi_vectors *set, unsigned vector, bool pending)
{
	set->v[vector].pending = pending;
}
