/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest time: kvmclock and each vCPU's TSC, participant "clock".
 *
 * Both stand still while the vCPUs are stopped: they are read when these stop
 * and set again when they go on, here or elsewhere. With `clock: realtime`
 * they are moved on by the wall-clock time that has passed meanwhile. They move
 * together, since a guest that sees one run ahead of the other takes its TSC
 * for broken. The TSC deadline is an instant of the TSC, and is armed again
 * after it.
 * Source: KVM API, 4.29 and 4.30 (clock), 4.67 (KVMCLOCK_CTRL); Linux, x86/kvm/timekeeping.rst.
 */
#include "vmm/x86/x86.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

#ifndef KVM_CLOCK_REALTIME
#define KVM_CLOCK_REALTIME (1 << 2) /* Linux 5.15 */
#endif

enum { RECORD_CLOCK = 1 };

struct clock_record {
	uint64_t ns;       /* kvmclock */
	uint64_t realtime; /* host's wall clock at that instant, ns since the epoch */
};

struct guest_clock {
	struct participant participant;
	struct machine *machine;
	struct clock_record at; /* while `held` */
	bool held;
	bool loaded;
	bool knows_realtime; /* KVM_SET_CLOCK moves the clock on by itself */
};

static uint64_t wall_ns(void)
{
	return (uint64_t)wall_us() * 1000;
}

/* KVM tells the wall clock of the same instant where its clock goes by the host's TSC. */
static int read_clock(struct guest_clock *c, struct gw_error *err)
{
	struct kvm_clock_data data = { 0 };
	int r = io_ioctl(c->machine->vm_fd, KVM_GET_CLOCK, &data);

	if (r < 0)
		return error_set_sys(err, r, "KVM_GET_CLOCK");
	c->at.ns = data.clock;
	c->at.realtime = data.flags & KVM_CLOCK_REALTIME ? data.realtime : wall_ns();
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

/* How far time has to jump. A wall clock that went back, or that of a host that is behind, moves
 * nothing: guest time never runs backwards. */
static uint64_t time_missed(const struct guest_clock *c)
{
	uint64_t now = wall_ns();

	if (c->machine->config.clock != CONFIG_CLOCK_REALTIME || now <= c->at.realtime)
		return 0;
	return now - c->at.realtime;
}

static uint64_t tsc_ticks(struct vcpu *v, uint64_t ns)
{
	int khz = ns ? io_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL) : 0;

	return khz > 0 ? (uint64_t)((unsigned __int128)ns * (unsigned)khz / 1000000) : 0;
}

static void release_tsc(struct vcpu *v, uint64_t missed)
{
	struct arch_vcpu *a = v->arch;

	if (!a->time_held)
		return;
	if (msr_set(v, MSR_IA32_TSC, a->tsc + tsc_ticks(v, missed)) < 0)
		log_warn(v->machine->log, "vcpu%u: TSC jumps: KVM_SET_MSRS", v->index);
	if (a->tsc_deadline)
		msr_set(v, MSR_IA32_TSC_DEADLINE, a->tsc_deadline);
	a->time_held = false;
}

/* With KVM_CLOCK_REALTIME KVM adds what has passed since `realtime`, as late as can be. */
static void release_clock(struct guest_clock *c, uint64_t missed)
{
	struct kvm_clock_data data = { .clock = c->at.ns };
	int r;

	if (missed && c->knows_realtime) {
		data.realtime = c->at.realtime;
		data.flags = KVM_CLOCK_REALTIME;
	} else {
		data.clock += missed;
	}
	r = io_ioctl(c->machine->vm_fd, KVM_SET_CLOCK, &data);
	if (r < 0)
		log_warn(c->machine->log, "guest time jumps: KVM_SET_CLOCK: %s", strerror(-r));
	c->held = false;
}

/* KVM_KVMCLOCK_CTRL tells a guest that it was stopped, so that its watchdogs take no offence;
 * EINVAL: this guest uses no kvmclock. */
void clock_continue(struct guest_clock *c)
{
	struct machine *m = c->machine;
	uint64_t missed;

	if (!c->held)
		return;
	missed = time_missed(c);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		release_tsc(m->vcpus[i], missed);
	release_clock(c, missed);
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

	return r < 0 ? r : sink_record(sink, p, RECORD_CLOCK, &c->at, sizeof(c->at), err);
}

static int clock_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                      size_t len, struct gw_error *err)
{
	struct guest_clock *c = clock_of(p);

	(void)version;
	if (type != RECORD_CLOCK || len != sizeof(c->at))
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no clock", type,
		                 len);
	memcpy(&c->at, buf, len);
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
	.version = 2,
	.class = PARTICIPANT_CLOCK,
	.save = clock_save,
	.load = clock_load,
	.settle = clock_settle,
};

int clock_create(struct machine *m, struct guest_clock **out, struct gw_error *err)
{
	int flags = io_ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ADJUST_CLOCK);
	struct guest_clock *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "clock: out of memory");
	c->machine = m;
	c->knows_realtime = flags > 0 && (flags & KVM_CLOCK_REALTIME);
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
