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
#ifndef KVM_CLOCK_HOST_TSC
#define KVM_CLOCK_HOST_TSC (1 << 3)
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

static int get_clock(struct guest_clock *c, struct kvm_clock_data *data, struct gw_error *err)
{
	int r;

	memset(data, 0, sizeof(*data));
	r = io_ioctl(c->machine->vm_fd, KVM_GET_CLOCK, data);
	return r < 0 ? error_set_sys(err, r, "KVM_GET_CLOCK") : 0;
}

/* KVM tells the wall clock of the same instant where its clock goes by the host's TSC. */
static void keep_clock(struct guest_clock *c, const struct kvm_clock_data *data)
{
	c->at.ns = data->clock;
	c->at.realtime = data->flags & KVM_CLOCK_REALTIME ? data->realtime : wall_ns();
	c->held = true;
}

/* What KVM adds to the host's TSC to make the guest's. Linux 5.16. */
static int offset_attr(struct vcpu *v, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
		                        .attr = KVM_VCPU_TSC_OFFSET,
		                        .addr = (uintptr_t)offset };

	return io_ioctl(v->fd, request, &attr);
}

/*
 * The offset, if the guest's TSC is the host's plus that: not where the rate is scaled. Seen from
 * what the guest's reads at some instant between two readings of the host's.
 */
static bool tsc_offset(struct vcpu *v, uint64_t *offset)
{
	uint64_t before, guest, after;

	if (offset_attr(v, KVM_GET_DEVICE_ATTR, offset) < 0)
		return false;
	before = __builtin_ia32_rdtsc();
	if (msr_get(v, MSR_IA32_TSC, &guest) < 0)
		return false;
	after = __builtin_ia32_rdtsc();
	return guest - *offset - before <= after - before;
}

static void hold_tsc(struct vcpu *v)
{
	struct arch_vcpu *a = v->arch;

	/* The deadline first: it only ever goes from armed to 0 by itself. */
	if (msr_get(v, MSR_IA32_TSC_DEADLINE, &a->tsc_deadline) < 0)
		a->tsc_deadline = 0;
	a->time_held = msr_get(v, MSR_IA32_TSC, &a->tsc) == 0;
}

/*
 * Linux takes half a millisecond between kvmclock and TSC for a broken TSC, and we may lose our CPU
 * for longer than that between two calls. So the TSC is worked out for the instant of the clock,
 * from the host's TSC that KVM tells with it, wherever that can be.
 */
void clock_stop(struct guest_clock *c)
{
	struct machine *m = c->machine;
	struct kvm_clock_data data;
	struct gw_error err;
	uint64_t offset;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		hold_tsc(m->vcpus[i]);
	if (get_clock(c, &data, &err) < 0) {
		log_warn(m->log, "guest time does not stand still: %s", err.text);
		return;
	}
	keep_clock(c, &data);
	for (unsigned i = 0; data.flags & KVM_CLOCK_HOST_TSC && i < m->vcpu_count; i++)
		if (tsc_offset(m->vcpus[i], &offset))
			m->vcpus[i]->arch->tsc = data.host_tsc + offset;
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

/*
 * Makes the TSC what it has to be at an instant at which clock and host's TSC are known.
 *
 * By the offset, since writing the MSR does not do it: KVM takes a value less than a second from
 * the one that it expects for an attempt to synchronize vCPUs, and lets the TSC run on from what
 * was written last, through all of a short pause, while kvmclock stood.
 */
static bool release_tsc_at(struct vcpu *v, const struct kvm_clock_data *now, uint64_t since_ns)
{
	uint64_t offset;

	if (!(now->flags & KVM_CLOCK_HOST_TSC) || !tsc_offset(v, &offset))
		return false;
	offset = v->arch->tsc + tsc_ticks(v, now->clock - since_ns) - now->host_tsc;
	return offset_attr(v, KVM_SET_DEVICE_ATTR, &offset) == 0;
}

/* `missed` has been added to the clock already. */
static void release_tsc(struct vcpu *v, const struct kvm_clock_data *now, uint64_t since_ns,
                        uint64_t missed)
{
	struct arch_vcpu *a = v->arch;

	if (!a->time_held)
		return;
	if (!release_tsc_at(v, now, since_ns) &&
	    msr_set(v, MSR_IA32_TSC, a->tsc + tsc_ticks(v, missed)) < 0)
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
	struct kvm_clock_data now;
	struct gw_error err;
	uint64_t missed;

	if (!c->held)
		return;
	missed = time_missed(c);
	release_clock(c, missed);
	if (get_clock(c, &now, &err) < 0)
		log_warn(m->log, "guest time may jump: %s", err.text);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		release_tsc(m->vcpus[i], &now, c->at.ns, missed);
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
	struct kvm_clock_data data;
	/* Not held: the guest never ran. */
	int r = c->held ? 0 : get_clock(c, &data, err);

	if (r == 0 && !c->held)
		keep_clock(c, &data);
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
