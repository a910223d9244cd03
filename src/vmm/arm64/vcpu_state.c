/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU as a participant: what it was made with, its registers, what it is
 * about to take (a pending SError), whether it runs.
 * Source: KVM API, 4.31 (KVM_GET_VCPU_EVENTS), 4.38 (KVM_GET_MP_STATE).
 */
#include "vmm/arm64/arm64.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

/* A record's type is its place here plus one; a change is a change of the participant's version. */
enum { FEATURES, REGISTERS, EVENTS, MP_STATE, RECORDS };

static const char *const record_names[RECORDS] = {
	[FEATURES] = "features",
	[REGISTERS] = "registers",
	[EVENTS] = "pending events",
	[MP_STATE] = "running state",
};

struct vcpu_records {
	struct bytes r[RECORDS];
};

void vcpu_records_free(struct vcpu_records *records)
{
	for (unsigned i = 0; records && i < RECORDS; i++)
		bytes_free(&records->r[i]);
	free(records);
}

static struct vcpu *vcpu_of(struct participant *p)
{
	return container_of(p, struct vcpu, participant);
}

/* ---- each record ---- */

static int get_features(struct vcpu *v, struct bytes *out, struct gw_error *err)
{
	(void)err;
	bytes_put32(out, v->machine->arch->init.features[0]);
	return 0;
}

/* The configuration came along and chose the same here, unless the stream contradicts itself. */
static int set_features(struct vcpu *v, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	const uint32_t came = bytes_take32(&in), here = v->machine->arch->init.features[0];
	char names[128];

	if (!bytes_all_taken(&in))
		return error_set(err, -EINVAL, "vcpu%u: features: %zu bytes", v->index, len);
	if (came == here)
		return 0;
	vcpu_features_name(came ^ here, names, sizeof(names));
	return error_set(err, -ENOTSUP, "vcpu%u: the guest's CPU and this machine's differ in: %s",
	                 v->index, names);
}

static int get_events(struct vcpu *v, struct bytes *out, struct gw_error *err)
{
	struct kvm_vcpu_events events = { 0 };
	int r = io_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events);

	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_GET_VCPU_EVENTS", v->index);
	bytes_put(out, &events, sizeof(events));
	return 0;
}

static int set_events(struct vcpu *v, const void *buf, size_t len, struct gw_error *err)
{
	struct kvm_vcpu_events events;
	int r;

	if (len != sizeof(events))
		return error_set(err, -EINVAL, "vcpu%u: pending events: %zu bytes", v->index, len);
	memcpy(&events, buf, sizeof(events));
	r = io_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_VCPU_EVENTS", v->index) : 0;
}

static int get_mp_state(struct vcpu *v, struct bytes *out, struct gw_error *err)
{
	struct kvm_mp_state state = { 0 };
	int r = io_ioctl(v->fd, KVM_GET_MP_STATE, &state);

	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_GET_MP_STATE", v->index);
	bytes_put32(out, state.mp_state);
	return 0;
}

static int set_mp_state(struct vcpu *v, const void *buf, size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct kvm_mp_state state = { .mp_state = bytes_take32(&in) };
	int r;

	if (!bytes_all_taken(&in))
		return error_set(err, -EINVAL, "vcpu%u: running state: %zu bytes", v->index, len);
	r = io_ioctl(v->fd, KVM_SET_MP_STATE, &state);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_MP_STATE", v->index) : 0;
}

static const struct {
	int (*get)(struct vcpu *v, struct bytes *out, struct gw_error *err);
	int (*set)(struct vcpu *v, const void *buf, size_t len, struct gw_error *err);
} rows[RECORDS] = {
	[FEATURES] = { get_features, set_features },
	[REGISTERS] = { vcpu_regs_get, vcpu_regs_set },
	[EVENTS] = { get_events, set_events },
	[MP_STATE] = { get_mp_state, set_mp_state },
};

/* ---- the participant ---- */

static int vcpu_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < RECORDS && !r; i++) {
		struct bytes record = { 0 };

		r = rows[i].get(vcpu_of(p), &record, err);
		if (!r && record.failed)
			r = error_set(err, -ENOMEM, "out of memory");
		if (!r)
			r = sink_record(sink, p, (uint16_t)(i + 1), record.data, record.len, err);
		bytes_free(&record);
	}
	return r;
}

static int vcpu_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                     size_t len, struct gw_error *err)
{
	struct arch_vcpu *a = vcpu_of(p)->arch;
	const unsigned i = type - 1u;

	(void)version;
	if (i >= RECORDS || !len)
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no vCPU state",
		                 type, len);
	if (!a->loaded)
		a->loaded = calloc(1, sizeof(*a->loaded));
	if (!a->loaded)
		return error_set(err, -ENOMEM, "out of memory");
	if (a->loaded->r[i].len)
		return error_set(err, -EINVAL, "%s came twice", record_names[i]);
	bytes_put(&a->loaded->r[i], buf, len);
	return a->loaded->r[i].failed ? error_set(err, -ENOMEM, "out of memory") : 0;
}

static void forget_loaded(struct vcpu *v)
{
	vcpu_records_free(v->arch->loaded);
	v->arch->loaded = NULL;
}

static int vcpu_settle(struct participant *p, struct gw_error *err)
{
	struct vcpu *v = vcpu_of(p);
	int r = 0;

	for (unsigned i = 0; i < RECORDS && !r; i++) {
		const struct bytes *record = v->arch->loaded ? &v->arch->loaded->r[i] : NULL;

		if (!record || !record->len)
			r = error_set(err, -EINVAL, "%s did not come", record_names[i]);
		else
			r = rows[i].set(v, record->data, record->len, err);
	}
	forget_loaded(v);
	return r;
}

static void vcpu_discard(struct participant *p)
{
	forget_loaded(vcpu_of(p));
}

const struct participant_ops vcpu_participant_ops = {
	.kind = "vcpu-arm64",
	.version = 1,
	.class = PARTICIPANT_VCPU,
	.save = vcpu_save,
	.load = vcpu_load,
	.settle = vcpu_settle,
	.discard = vcpu_discard,
};
