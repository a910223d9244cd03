/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest time: the generic timer's counter, one for all vCPUs, participant
 * "clock". It stands still while the vCPUs are stopped: it is read when these
 * stop and set again when they go on, here or elsewhere. With `clock:
 * realtime` it is moved on by the wall-clock time that has passed meanwhile.
 * The timers compare with it, so they go with it.
 *
 * Where KVM can (KVM_CAP_COUNTER_OFFSET) the physical counter gets the same
 * offset as the virtual one; elsewhere a guest that reads the physical one
 * sees the host's. Linux reads the virtual one.
 *
 * The counter's rate is the hardware's and cannot be changed for a guest, who
 * learns it once: a host with another one is refused.
 * Sources: KVM API, 4.68 (KVM_REG_ARM_TIMER_CNT), 4.139 (KVM_ARM_SET_COUNTER_OFFSET);
 * Arm Architecture Reference Manual (DDI 0487), D12 (generic timer).
 */
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/uapi.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

enum { RECORD_CLOCK = 1 };

struct guest_clock {
	struct participant participant;
	struct machine *machine;
	uint64_t frequency; /* of the counter, Hz */
	bool has_offset;    /* KVM_ARM_SET_COUNTER_OFFSET */
	uint64_t offset;    /* what KVM takes from the host's counter, with has_offset */
	/* while `held` */
	uint64_t count;
	uint64_t realtime; /* host's wall clock at that instant, ns since the epoch */
	bool held;
	bool loaded;
};

static uint64_t wall_ns(void)
{
	return (uint64_t)wall_us() * 1000;
}

static uint64_t counter_frequency(void)
{
	uint64_t hz;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz;
}

static int get_count(struct guest_clock *c, uint64_t *count)
{
	return reg_get(c->machine->vcpus[0], KVM_REG_ARM_TIMER_CNT, count);
}

static int set_offset(struct guest_clock *c, uint64_t offset)
{
	struct kvm_arm_counter_offset arg = { .counter_offset = offset };
	int r = io_ioctl(c->machine->vm_fd, KVM_ARM_SET_COUNTER_OFFSET, &arg);

	if (!r)
		c->offset = offset;
	return r;
}

/* The guest's counter is to be `count` now. What it is by the offset in force tells the host's. */
static int set_count(struct guest_clock *c, uint64_t count)
{
	uint64_t now;
	int r;

	if (!c->has_offset)
		return reg_set(c->machine->vcpus[0], KVM_REG_ARM_TIMER_CNT, &count);
	r = get_count(c, &now);
	return r < 0 ? r : set_offset(c, now + c->offset - count);
}

int clock_begin(struct guest_clock *c, struct gw_error *err)
{
	int r = 0;

	/* An offset that is known, for set_count(). */
	if (c->has_offset)
		r = set_offset(c, 0);
	if (!r)
		r = set_count(c, 0);
	return r < 0 ? error_set_sys(err, r, "guest time: setting the counter") : 0;
}

void clock_stop(struct guest_clock *c)
{
	int r = get_count(c, &c->count);

	if (r < 0) {
		log_warn(c->machine->log, "guest time does not stand still: %s", strerror(-r));
		return;
	}
	c->realtime = wall_ns();
	c->held = true;
}

/* A wall clock that went back, or that of a host that is behind, moves nothing: guest time never
 * runs backwards. */
static uint64_t ticks_missed(const struct guest_clock *c)
{
	const uint64_t now = wall_ns();

	if (c->machine->config.clock != CONFIG_CLOCK_REALTIME || now <= c->realtime)
		return 0;
	return (uint64_t)((unsigned __int128)(now - c->realtime) * c->frequency / 1000000000u);
}

void clock_continue(struct guest_clock *c)
{
	int r;

	if (!c->held)
		return;
	r = set_count(c, c->count + ticks_missed(c));
	if (r < 0)
		log_warn(c->machine->log, "guest time jumps: %s", strerror(-r));
	c->held = false;
}

/* ---- as a participant ------------------------------------------------------------- */

static struct guest_clock *clock_of(struct participant *p)
{
	return container_of(p, struct guest_clock, participant);
}

static int clock_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct guest_clock *c = clock_of(p);
	struct bytes record = { 0 };
	int r;

	/* Not held: the guest never ran. */
	if (!c->held)
		clock_stop(c);
	if (!c->held)
		return error_set(err, -EIO, "the counter cannot be read");
	bytes_put64(&record, c->count);
	bytes_put64(&record, c->frequency);
	bytes_put64(&record, c->realtime);
	r = record.failed ? error_set(err, -ENOMEM, "out of memory")
	                  : sink_record(sink, p, RECORD_CLOCK, record.data, record.len, err);
	bytes_free(&record);
	return r;
}

static int clock_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                      size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct guest_clock *c = clock_of(p);
	uint64_t count = bytes_take64(&in), frequency = bytes_take64(&in);
	uint64_t realtime = bytes_take64(&in);

	(void)version;
	if (type != RECORD_CLOCK || !bytes_all_taken(&in))
		return error_set(err, -EINVAL, "record of type %u, %zu bytes, is no clock", type,
		                 len);
	if (frequency != c->frequency)
		return error_set(err, -ENOTSUP,
		                 "the guest's counter runs at %llu Hz, this host's at %llu Hz",
		                 (unsigned long long)frequency, (unsigned long long)c->frequency);
	c->count = count;
	c->realtime = realtime;
	c->held = true;
	c->loaded = true;
	return 0;
}

static int clock_settle(struct participant *p, struct gw_error *err)
{
	return clock_of(p)->loaded ? 0 : error_set(err, -EINVAL, "guest time did not come");
}

static const struct participant_ops clock_ops = {
	.kind = "clock-arm64",
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
	c->frequency = counter_frequency();
	c->has_offset = io_ioctl(m->vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_COUNTER_OFFSET) > 0;
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
