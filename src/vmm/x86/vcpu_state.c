/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All state of a vCPU that KVM holds: one table, a row for each pair of
 * ioctls, in the order in which KVM needs them set. It serves a reset (back to
 * what was read at power-on) and migration alike.
 *
 * Why this order: the features (CPUID) decide what the rest may hold; EFER in
 * the special registers comes before nested state; the local APIC's timer mode
 * comes before the TSC deadline, which KVM otherwise takes for 0 and drops,
 * and the TSC itself (an MSR) before both.
 * Source: Linux, Documentation/virt/kvm/api.rst, the section of each ioctl.
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

#define MSR_BATCH 128
#define HV_X64_MSR_TIME_REF_COUNT 0x40000020

struct state_row {
	const char *name; /* for messages: the ioctl that reads it */
	unsigned long get, set;
	size_t size;        /* 0: varies */
	bool optional;      /* may be absent */
	bool keep_on_reset; /* fixed once the vCPU has run */
	/* For rows that are more than one ioctl. *len 0: nothing to save. */
	int (*get_fn)(struct vcpu *v, void **blob, size_t *len, struct gw_error *err);
	int (*set_fn)(struct vcpu *v, const void *blob, size_t len, struct gw_error *err);
};

static int has_cap(struct vcpu *v, int cap)
{
	return io_ioctl(v->machine->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

static int out_of_memory(struct vcpu *v, struct gw_error *err)
{
	return error_set(err, -ENOMEM, "vcpu%u: out of memory", v->index);
}

/* ---- TSC rate ----------------------------------------------------------------- */

static int get_tsc_khz(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	int khz = io_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	uint32_t *value;

	if (khz < 0)
		return error_set_sys(err, khz, "vcpu%u: KVM_GET_TSC_KHZ", v->index);
	value = malloc(sizeof(*value));
	if (!value)
		return out_of_memory(v, err);
	*value = (uint32_t)khz;
	*blob = value;
	*len = sizeof(*value);
	return 0;
}

/* Without TSC scaling the guest's TSC runs at this host's rate. kvmclock tells the guest so,
 * and a guest that was not shown an invariant TSC goes by kvmclock; other rates would make KVM
 * correct the TSC at each entry, which is worse than a TSC that is a little off. */
static int set_tsc_khz(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	int host = io_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	uint32_t khz;
	int r;

	if (len != sizeof(khz))
		return error_set(err, -EINVAL, "vcpu%u: TSC rate: %zu bytes", v->index, len);
	memcpy(&khz, blob, sizeof(khz));
	if (host < 0 || (uint32_t)host == khz)
		return 0;
	if (has_cap(v, KVM_CAP_TSC_CONTROL) <= 0) {
		if (!v->index)
			log_info(
			        v->machine->log,
			        "TSC: %u kHz where the guest was, %d kHz here, no TSC scaling: the "
			        "guest's clock is kept right by kvmclock",
			        khz, host);
		return 0;
	}
	r = io_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_TSC_KHZ %u", v->index, khz) : 0;
}

/* ---- CPUID -------------------------------------------------------------------- */

static size_t cpuid_size(uint32_t entries)
{
	return sizeof(struct kvm_cpuid2) + entries * sizeof(struct kvm_cpuid_entry2);
}

static int get_cpuid(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	struct kvm_cpuid2 *cpuid = calloc(1, cpuid_size(CPUID_ENTRIES_MAX));
	int r;

	if (!cpuid)
		return out_of_memory(v, err);
	cpuid->nent = CPUID_ENTRIES_MAX;
	r = io_ioctl(v->fd, KVM_GET_CPUID2, cpuid);
	if (r < 0) {
		free(cpuid);
		return error_set_sys(err, r, "vcpu%u: KVM_GET_CPUID2", v->index);
	}
	*blob = cpuid;
	*len = cpuid_size(cpuid->nent);
	return 0;
}

static int set_cpuid(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	const struct kvm_cpuid2 *cpuid = blob;
	int r;

	if (len < sizeof(*cpuid) || cpuid->nent > CPUID_ENTRIES_MAX ||
	    len != cpuid_size(cpuid->nent))
		return error_set(err, -EINVAL, "vcpu%u: CPUID: %zu bytes", v->index, len);
	r = cpu_model_check(cpuid, v->machine->arch->supported, err);
	if (r < 0)
		return error_context(err, "vcpu%u", v->index);
	r = io_ioctl(v->fd, KVM_SET_CPUID2, (void *)(uintptr_t)blob);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_CPUID2", v->index) : 0;
}

/* ---- special registers ---------------------------------------------------------- */

static int get_simple(struct vcpu *v, unsigned long request, const char *name, size_t size,
                      void **blob, size_t *len, struct gw_error *err)
{
	void *buf = calloc(1, size);
	int r;

	if (!buf)
		return out_of_memory(v, err);
	r = io_ioctl(v->fd, request, buf);
	if (r < 0) {
		free(buf);
		return error_set_sys(err, r, "vcpu%u: %s", v->index, name);
	}
	*blob = buf;
	*len = size;
	return 0;
}

static int set_simple(struct vcpu *v, unsigned long request, const char *name, size_t size,
                      const void *blob, size_t len, struct gw_error *err)
{
	int r;

	if (len != size)
		return error_set(err, -EINVAL, "vcpu%u: %s: %zu bytes, not %zu", v->index, name,
		                 len, size);
	r = io_ioctl(v->fd, request, (void *)(uintptr_t)blob);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: set what %s gave", v->index, name) : 0;
}

/* The newer form carries the PAE page-directory pointers; the length tells which it is. */
static int get_sregs(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	if (has_cap(v, KVM_CAP_SREGS2) > 0)
		return get_simple(v, KVM_GET_SREGS2, "KVM_GET_SREGS2", sizeof(struct kvm_sregs2),
		                  blob, len, err);
	return get_simple(v, KVM_GET_SREGS, "KVM_GET_SREGS", sizeof(struct kvm_sregs), blob, len,
	                  err);
}

static int set_sregs(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	if (len == sizeof(struct kvm_sregs2))
		return set_simple(v, KVM_SET_SREGS2, "KVM_GET_SREGS2", len, blob, len, err);
	return set_simple(v, KVM_SET_SREGS, "KVM_GET_SREGS", sizeof(struct kvm_sregs), blob, len,
	                  err);
}

/* ---- nested virtualisation -------------------------------------------------------- */

/* Nothing to move while no nested guest runs, and none can: CPUID hides VMX and SVM. */
static int get_nested(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	int size = has_cap(v, KVM_CAP_NESTED_STATE);
	struct kvm_nested_state *state;
	int r;

	*len = 0;
	if (size <= 0)
		return 0;
	state = calloc(1, (size_t)size);
	if (!state)
		return out_of_memory(v, err);
	state->size = (uint32_t)size;
	r = io_ioctl(v->fd, KVM_GET_NESTED_STATE, state);
	if (r < 0) {
		free(state);
		return error_set_sys(err, r, "vcpu%u: KVM_GET_NESTED_STATE", v->index);
	}
	if (!(state->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING))) {
		free(state);
		return 0;
	}
	*blob = state;
	*len = state->size;
	return 0;
}

static int set_nested(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	const struct kvm_nested_state *state = blob;
	int r;

	if (len < sizeof(*state) || state->size != len)
		return error_set(err, -EINVAL, "vcpu%u: nested state: %zu bytes", v->index, len);
	r = io_ioctl(v->fd, KVM_SET_NESTED_STATE, (void *)(uintptr_t)blob);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_NESTED_STATE", v->index) : 0;
}

/* ---- FPU and vector registers ------------------------------------------------------ */

static int get_xsave(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	if (has_cap(v, KVM_CAP_XSAVE2) > 0)
		return get_simple(v, KVM_GET_XSAVE2, "KVM_GET_XSAVE2", v->arch->xsave_size, blob,
		                  len, err);
	return get_simple(v, KVM_GET_XSAVE, "KVM_GET_XSAVE", sizeof(struct kvm_xsave), blob, len,
	                  err);
}

/* KVM_SET_XSAVE reads as much as this host's KVM_CAP_XSAVE2 says: pad with zeros, which is the
 * initial state of components that were not there. */
static int set_xsave(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	autofree void *buf = calloc(1, MAX(len, v->arch->xsave_size));
	int r;

	if (!buf)
		return out_of_memory(v, err);
	if (len < sizeof(struct kvm_xsave))
		return error_set(err, -EINVAL, "vcpu%u: XSAVE area: %zu bytes", v->index, len);
	memcpy(buf, blob, len);
	r = io_ioctl(v->fd, KVM_SET_XSAVE, buf);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_XSAVE", v->index) : 0;
}

/* ---- MSRs --------------------------------------------------------------------------- */

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSR_BATCH];
};

/* Reads the batch's MSRs; those that KVM lists but does not give are dropped from it. */
static int read_batch(struct vcpu *v, struct msr_batch *batch, struct gw_error *err)
{
	uint32_t count = batch->head.nmsrs, done = 0;

	while (done < count) {
		struct msr_batch part = { .head.nmsrs = count - done };
		int r;

		memcpy(part.entries, &batch->entries[done],
		       (count - done) * sizeof(part.entries[0]));
		r = io_ioctl(v->fd, KVM_GET_MSRS, &part);
		if (r < 0)
			return error_set_sys(err, r, "vcpu%u: KVM_GET_MSRS", v->index);
		memcpy(&batch->entries[done], part.entries, (size_t)r * sizeof(part.entries[0]));
		done += (uint32_t)r;
		if (done < count) {
			memmove(&batch->entries[done], &batch->entries[done + 1],
			        (count - done - 1) * sizeof(batch->entries[0]));
			count--;
		}
	}
	batch->head.nmsrs = count;
	return 0;
}

/* The TSC deadline has a row of its own; Hyper-V's reference counter is read from kvmclock. */
static bool is_saved(uint32_t index)
{
	return index != MSR_IA32_TSC_DEADLINE && index != HV_X64_MSR_TIME_REF_COUNT;
}

static int get_msrs(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	const struct arch *arch = v->machine->arch;
	autofree struct kvm_msr_entry *all = calloc(arch->msr_count + 1, sizeof(*all));
	size_t count = 0;

	if (!all)
		return out_of_memory(v, err);
	for (unsigned i = 0; i < arch->msr_count;) {
		struct msr_batch batch = { .head.nmsrs = 0 };
		int r;

		for (; i < arch->msr_count && batch.head.nmsrs < MSR_BATCH; i++)
			if (is_saved(arch->msrs[i]))
				batch.entries[batch.head.nmsrs++].index = arch->msrs[i];
		r = read_batch(v, &batch, err);
		if (r < 0)
			return r;
		memcpy(&all[count], batch.entries, batch.head.nmsrs * sizeof(all[0]));
		count += batch.head.nmsrs;
	}
	for (size_t i = 0; i < count && v->arch->time_held; i++)
		if (all[i].index == MSR_IA32_TSC)
			all[i].data = v->arch->tsc;
	*len = count * sizeof(all[0]);
	*blob = take_ptr(&all);
	return 0;
}

/* An MSR that KVM refuses to set is fine if it holds that value already. */
static int check_refused(struct vcpu *v, const struct kvm_msr_entry *e, struct gw_error *err)
{
	struct msr_batch now = { .head.nmsrs = 1, .entries[0].index = e->index };
	int r = io_ioctl(v->fd, KVM_GET_MSRS, &now);

	if (r == 1 && now.entries[0].data == e->data)
		return 0;
	return error_set(err, -EINVAL, "vcpu%u: KVM_SET_MSRS: KVM refuses 0x%llx for MSR 0x%x",
	                 v->index, (unsigned long long)e->data, e->index);
}

static int set_msrs(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	const struct kvm_msr_entry *all = blob;
	size_t count = len / sizeof(*all), done = 0;

	if (len % sizeof(*all))
		return error_set(err, -EINVAL, "vcpu%u: MSRs: %zu bytes", v->index, len);
	while (done < count) {
		struct msr_batch batch = { .head.nmsrs =
			                           (uint32_t)MIN(count - done, (size_t)MSR_BATCH) };
		int r;

		memcpy(batch.entries, &all[done], batch.head.nmsrs * sizeof(all[0]));
		r = io_ioctl(v->fd, KVM_SET_MSRS, &batch);
		if (r < 0)
			return error_set_sys(err, r, "vcpu%u: KVM_SET_MSRS", v->index);
		done += (size_t)r;
		if ((uint32_t)r < batch.head.nmsrs) {
			r = check_refused(v, &all[done], err);
			if (r < 0)
				return r;
			done++;
		}
	}
	return 0;
}

/* Time stands still while the vCPU is stopped, but in KVM it goes on (clock.c): what counts is
 * what was read then. */
static int get_tsc_deadline(struct vcpu *v, void **blob, size_t *len, struct gw_error *err)
{
	struct kvm_msr_entry *e;
	uint64_t now;

	*len = 0;
	if (msr_get(v, MSR_IA32_TSC_DEADLINE, &now) < 0)
		return 0; /* there is no TSC-deadline timer */
	e = calloc(1, sizeof(*e));
	if (!e)
		return out_of_memory(v, err);
	e->index = MSR_IA32_TSC_DEADLINE;
	e->data = v->arch->time_held ? v->arch->tsc_deadline : now;
	*blob = e;
	*len = sizeof(*e);
	return 0;
}

/* ---- events --------------------------------------------------------------------------- */

/* A KVM that does not know of triple faults that wait refuses the flag; where there is none nothing
 * is lost without it. */
static int set_events(struct vcpu *v, const void *blob, size_t len, struct gw_error *err)
{
	struct kvm_vcpu_events events = { 0 };

	memcpy(&events, blob, MIN(len, sizeof(events)));
	if (has_cap(v, KVM_CAP_X86_TRIPLE_FAULT_EVENT) <= 0) {
		if (events.triple_fault.pending)
			return error_set(err, -ENOTSUP,
			                 "vcpu%u: a triple fault waits for it, which this host's "
			                 "KVM cannot take over (KVM_CAP_X86_TRIPLE_FAULT_EVENT)",
			                 v->index);
		events.flags &= ~KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	return set_simple(v, KVM_SET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", sizeof(events), &events,
	                  len, err);
}

/* ---- the table ------------------------------------------------------------------------ */

#define SIMPLE(name, what, type)                                                                   \
	{                                                                                          \
		"KVM_GET_" name, KVM_GET_##what, KVM_SET_##what, sizeof(type), false, false, NULL, \
		        NULL                                                                       \
	}
#define SPECIAL(name, opt, keep, get, set)                                                         \
	{                                                                                          \
		name, 0, 0, 0, opt, keep, get, set                                                 \
	}

/* A record's type is the row's number plus one; a change of the rows is a change of the
 * participant's version. */
static const struct state_row rows[] = {
	SPECIAL("TSC rate", false, true, get_tsc_khz, set_tsc_khz),
	SPECIAL("CPUID", false, true, get_cpuid, set_cpuid),
	SPECIAL("special registers", false, false, get_sregs, set_sregs),
	SPECIAL("nested state", true, false, get_nested, set_nested),
	SIMPLE("REGS", REGS, struct kvm_regs),
	SPECIAL("XSAVE area", false, false, get_xsave, set_xsave),
	SIMPLE("XCRS", XCRS, struct kvm_xcrs),
	SPECIAL("MSRs", false, false, get_msrs, set_msrs),
	SIMPLE("LAPIC", LAPIC, struct kvm_lapic_state),
	{ "KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, 0, sizeof(struct kvm_vcpu_events), false,
	  false, NULL, set_events },
	SIMPLE("MP_STATE", MP_STATE, struct kvm_mp_state),
	SPECIAL("TSC deadline", true, false, get_tsc_deadline, set_msrs),
	SIMPLE("DEBUGREGS", DEBUGREGS, struct kvm_debugregs),
};
_Static_assert(ARRAY_SIZE(rows) <= VCPU_STATE_ROWS, "room for each row");

int vcpu_state_get(struct vcpu *v, struct vcpu_state *out, struct gw_error *err)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct state_row *row = &rows[i];
		int r = row->get_fn ? row->get_fn(v, &out->blob[i], &out->len[i], err)
		                    : get_simple(v, row->get, row->name, row->size, &out->blob[i],
		                                 &out->len[i], err);

		if (r < 0) {
			vcpu_state_free(out);
			return r;
		}
	}
	return 0;
}

static int set_row(struct vcpu *v, size_t i, const struct vcpu_state *state, struct gw_error *err)
{
	const struct state_row *row = &rows[i];

	if (row->set_fn)
		return row->set_fn(v, state->blob[i], state->len[i], err);
	return set_simple(v, row->set, row->name, row->size, state->blob[i], state->len[i], err);
}

static int set_rows(struct vcpu *v, const struct vcpu_state *state, bool reset,
                    struct gw_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r;

		if (!state->blob[i] || (reset && rows[i].keep_on_reset))
			continue;
		r = set_row(v, i, state, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int vcpu_state_set(struct vcpu *v, const struct vcpu_state *state, struct gw_error *err)
{
	v->arch->tsc_deadline = 0;
	return set_rows(v, state, true, err);
}

void vcpu_state_free(struct vcpu_state *state)
{
	for (size_t i = 0; i < VCPU_STATE_ROWS; i++)
		free(state->blob[i]);
	memset(state, 0, sizeof(*state));
}

/* ---- as a participant -------------------------------------------------------------------- */

static struct vcpu *vcpu_of(struct participant *p)
{
	return container_of(p, struct vcpu, participant);
}

static int vcpu_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vcpu_state state;
	int r = vcpu_state_get(vcpu_of(p), &state, err);

	for (size_t i = 0; i < ARRAY_SIZE(rows) && !r; i++)
		if (state.blob[i])
			r = sink_record(sink, p, (uint16_t)(i + 1), state.blob[i], state.len[i],
			                err);
	vcpu_state_free(&state);
	return r;
}

static int vcpu_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                     size_t len, struct gw_error *err)
{
	struct vcpu *v = vcpu_of(p);
	size_t i = type - 1u;
	void *copy;

	(void)version;
	if (i >= ARRAY_SIZE(rows) || !len)
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no vCPU state",
		                 type, len);
	if (v->arch->loaded.blob[i])
		return error_set(err, -EINVAL, "%s came twice", rows[i].name);
	copy = malloc(len);
	if (!copy)
		return out_of_memory(v, err);
	memcpy(copy, buf, len);
	v->arch->loaded.blob[i] = copy;
	v->arch->loaded.len[i] = len;
	return 0;
}

/* The clock sets it again when the guest goes on. */
static void hold_loaded_time(struct vcpu *v)
{
	const struct vcpu_state *state = &v->arch->loaded;

	v->arch->tsc_deadline = 0;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct kvm_msr_entry *e = state->blob[i];

		if (rows[i].set_fn != set_msrs || !e)
			continue;
		for (size_t n = 0; n < state->len[i] / sizeof(*e); n++) {
			if (e[n].index == MSR_IA32_TSC)
				v->arch->tsc = e[n].data;
			else if (e[n].index == MSR_IA32_TSC_DEADLINE)
				v->arch->tsc_deadline = e[n].data;
		}
	}
	v->arch->time_held = true;
}

static int vcpu_settle(struct participant *p, struct gw_error *err)
{
	struct vcpu *v = vcpu_of(p);
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!v->arch->loaded.blob[i] && !rows[i].optional)
			return error_set(err, -EINVAL, "%s did not come", rows[i].name);
	r = set_rows(v, &v->arch->loaded, false, err);
	if (!r)
		hold_loaded_time(v);
	vcpu_state_free(&v->arch->loaded);
	return r;
}

static void vcpu_discard(struct participant *p)
{
	vcpu_state_free(&vcpu_of(p)->arch->loaded);
}

const struct participant_ops vcpu_participant_ops = {
	.kind = "vcpu-x86",
	.version = 1,
	.class = PARTICIPANT_VCPU,
	.save = vcpu_save,
	.load = vcpu_load,
	.settle = vcpu_settle,
	.discard = vcpu_discard,
};
