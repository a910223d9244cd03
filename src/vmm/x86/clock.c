/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest time: kvmclock and each vCPU's TSC, participant "clock".
 *
 * Both stand still while the vCPUs are stopped: they are read when these stop
 * and set again when they go on, here or elsewhere. They move together, since
 * a guest that sees one run ahead of the other takes its TSC for broken. The
 * TSC deadline is an instant of the TSC, and is armed again after it.
 * Source: KVM API, 4.29 and 4.30 (clock), 4.67 (KVMCLOCK_CTRL); Linux, x86/kvm/timekeeping.rst.
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

struct guest_clock {
	struct participant participant;
	struct machine *machine;
	uint64_t ns; /* kvmclock while `held` */
	bool held;
	bool loaded;
};

static int read_clock(struct guest_clock *c, struct gw_error *err)
{
	struct kvm_clock_data data = { 0 };
	int r = io_ioctl(c->machine->vm_fd, KVM_GET_CLOCK, &data);

	if (r < 0)
		return error_set_sys(err, r, "KVM_GET_CLOCK");
	c->ns = data.clock;
	c->held = true;
	return 0;
}

static void hold_tsc(struct vcpu *v)
{
	struct arch_vcpu *a = v->arch;

	/* The deadline first: it only ever goes from armed to 0 by itself. */
	if (msr_get(v, MSR_IA32_TSC_DEADLINE, &a->tsc_deadline) < 0)
		a->tsc_deadline = 0;
	a->time_held = msr_get(v, MSR_IA32_TSC, &a->tsc) == 0;
}

void clock_stop(struct guest_clock *c)
{
	struct machine *m = c->machine;
	struct gw_error err;

	if (read_clock(c, &err) < 0)
		log_warn(m->log, "guest time does not stand still: %s", err.text);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		hold_tsc(m->vcpus[i]);
}

static void release_tsc(struct vcpu *v)
{
	struct arch_vcpu *a = v->arch;

	if (!a->time_held)
		return;
	if (msr_set(v, MSR_IA32_TSC, a->tsc) < 0)
		log_warn(v->machine->log, "vcpu%u: TSC jumps: KVM_SET_MSRS", v->index);
	if (a->tsc_deadline)
		msr_set(v, MSR_IA32_TSC_DEADLINE, a->tsc_deadline);
	a->time_held = false;
}

/* KVM_KVMCLOCK_CTRL tells a guest that it was stopped, so that its watchdogs take no offence;
 * EINVAL: this guest uses no kvmclock. */
void clock_continue(struct guest_clock *c)
{
	struct machine *m = c->machine;
	struct kvm_clock_data data = { .clock = c->ns };
	int r;

	if (!c->held)
		return;
	for (unsigned i = 0; i < m->vcpu_count; i++)
		release_tsc(m->vcpus[i]);
	r = io_ioctl(m->vm_fd, KVM_SET_CLOCK, &data);
	if (r < 0)
		log_warn(m->log, "guest time jumps: KVM_SET_CLOCK: %s", strerror(-r));
	c->held = false;
	for (unsigned i = 0; i < m->vcpu_count; i++)
		io_ioctl(m->vcpus[i]->fd, KVM_KVMCLOCK_CTRL, NULL);
}

/* ---- as a participant ------------------------------------------------------------- */

static struct guest_clock *clock_of(struct participant *p)
{
	return container_of(p, struct guest_clock, participant);
}

static int clock_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct guest_clock *c = clock_of(p);
	/* Not held: the guest never ran. */
	int r = c->held ? 0 : read_clock(c, err);

	return r < 0 ? r : sink_record(sink, p, 1, &c->ns, sizeof(c->ns), err);
}

static int clock_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                      size_t len, struct gw_error *err)
{
	struct guest_clock *c = clock_of(p);

	(void)version;
	if (type != 1 || len != sizeof(c->ns))
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no clock", type,
		                 len);
	memcpy(&c->ns, buf, len);
	c->held = true;
	c->loaded = true;
	return 0;
}

static int clock_settle(struct participant *p, struct gw_error *err)
{
	return clock_of(p)->loaded ? 0 : error_set(err, -EINVAL, "guest time did not come");
}

static const struct participant_ops clock_ops = {
	.kind = "kvmclock",
	.version = 1,
	.class = PARTICIPANT_CLOCK,
	.save = clock_save,
	.load = clock_load,
	.settle = clock_settle,
};

int clock_create(struct machine *m, struct guest_clock **out, struct gw_error *err)
{
	struct guest_clock *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "clock: out of memory");
	c->machine = m;
	c->participant.ops = &clock_ops;
	snprintf(c->participant.name, sizeof(c->participant.name), "clock");
	r = participant_add(&m->participants, &c->participant, err);
	if (r < 0) {
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

void clock_destroy(struct guest_clock *c)
{
	free(c);
}
