/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arm64/pl031.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/layout.h"
#include "vmm/arm64/primecell.h"
#include "vmm/irq.h"

#include <stdio.h>

enum {
	RTC_DATA = 0x00,
	RTC_MATCH = 0x04,
	RTC_LOAD = 0x08,
	RTC_CONTROL = 0x0c,
	RTC_MASK = 0x10, /* 1: the interrupt is let through */
	RTC_RAW = 0x14,
	RTC_MASKED = 0x18,
	RTC_CLEAR = 0x1c,
};
#define PART 0x031

/* The timer does not sleep longer than that at once, since its argument counts milliseconds. */
#define SLEEP_MAX_S 86400

struct pl031 {
	struct machine *machine;
	struct participant participant;
	struct bus_range range;
	struct loop_timer *timer;
	uint32_t offset; /* from the host's seconds, modulo 2^32 as the counter is */
	uint32_t match, loaded;
	bool armed; /* `match` lies ahead */
	bool let_through, raised;
};

static uint32_t seconds(const struct pl031 *rtc)
{
	return (uint32_t)(wall_us() / 1000000) + rtc->offset;
}

static void update_line(struct pl031 *rtc)
{
	irq_set_line(rtc->machine->irqs, LAYOUT_RTC_GSI, rtc->raised && rtc->let_through);
}

/* Half of all values of the counter lie ahead, the other half has been. */
static bool is_due(const struct pl031 *rtc)
{
	return (int32_t)(seconds(rtc) - rtc->match) >= 0;
}

static void arm_timer(struct pl031 *rtc)
{
	const int64_t left = is_due(rtc) ? 1 : rtc->match - seconds(rtc);
	const int64_t into_second = wall_us() / 1000 % 1000;

	loop_timer_set(rtc->timer,
	               rtc->armed ? MIN(left, (int64_t)SLEEP_MAX_S) * 1000 - into_second : -1);
}

/* A second that has been is never met again (within 68 years). */
static void set_alarm(struct pl031 *rtc)
{
	rtc->armed = !is_due(rtc) || seconds(rtc) == rtc->match;
	arm_timer(rtc);
}

/* A guest that stands still is told when it goes on, here or elsewhere. */
static void on_timer(void *opaque)
{
	struct pl031 *rtc = opaque;

	machine_lock(rtc->machine);
	if (rtc->armed && machine_running(rtc->machine) && is_due(rtc)) {
		rtc->armed = false;
		rtc->raised = true;
		update_line(rtc);
	}
	arm_timer(rtc);
	machine_unlock(rtc->machine);
}

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
	const struct pl031 *rtc = opaque;

	(void)size;
	if (offset >= PRIMECELL_ID)
		return primecell_id(PART, offset);
	switch (offset) {
	case RTC_DATA:
		return seconds(rtc);
	case RTC_MATCH:
		return rtc->match;
	case RTC_LOAD:
		return rtc->loaded;
	case RTC_CONTROL:
		return 1; /* it runs and cannot be stopped */
	case RTC_MASK:
		return rtc->let_through;
	case RTC_RAW:
		return rtc->raised;
	case RTC_MASKED:
		return rtc->raised && rtc->let_through;
	default:
		return 0;
	}
}

static void rtc_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pl031 *rtc = opaque;

	(void)size;
	switch (offset) {
	case RTC_MATCH:
		rtc->match = (uint32_t)value;
		set_alarm(rtc);
		break;
	case RTC_LOAD:
		rtc->loaded = (uint32_t)value;
		rtc->offset += rtc->loaded - seconds(rtc);
		set_alarm(rtc);
		break;
	case RTC_MASK:
		rtc->let_through = value & 1;
		break;
	case RTC_CLEAR:
		rtc->raised = rtc->raised && !(value & 1);
		break;
	default: /* the others cannot be written */
		break;
	}
	update_line(rtc);
}

static const struct bus_ops rtc_ops = { .read = rtc_read, .write = rtc_write };

/* ---- as a participant ---- */

enum { RECORD_REGISTERS = 1 };

static struct pl031 *rtc_of(struct participant *p)
{
	return container_of(p, struct pl031, participant);
}

static int rtc_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct pl031 *rtc = rtc_of(p);
	struct bytes record = { 0 };
	int r;

	machine_lock(rtc->machine);
	bytes_put32(&record, rtc->offset);
	bytes_put32(&record, rtc->match);
	bytes_put32(&record, rtc->loaded);
	bytes_put8(&record, rtc->armed);
	bytes_put8(&record, rtc->let_through);
	bytes_put8(&record, rtc->raised);
	machine_unlock(rtc->machine);
	r = record.failed ? error_set(err, -ENOMEM, "out of memory")
	                  : sink_record(sink, p, RECORD_REGISTERS, record.data, record.len, err);
	bytes_free(&record);
	return r;
}

static int rtc_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct pl031 *rtc = rtc_of(p);

	(void)version;
	machine_lock(rtc->machine);
	rtc->offset = bytes_take32(&in);
	rtc->match = bytes_take32(&in);
	rtc->loaded = bytes_take32(&in);
	rtc->armed = bytes_take8(&in) & 1;
	rtc->let_through = bytes_take8(&in) & 1;
	rtc->raised = bytes_take8(&in) & 1;
	machine_unlock(rtc->machine);
	if (type != RECORD_REGISTERS || !bytes_all_taken(&in))
		return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
	return 0;
}

/* By now the interrupt controller has its state too. */
static int rtc_settle(struct participant *p, struct gw_error *err)
{
	struct pl031 *rtc = rtc_of(p);

	(void)err;
	machine_lock(rtc->machine);
	update_line(rtc);
	arm_timer(rtc);
	machine_unlock(rtc->machine);
	return 0;
}

static const struct participant_ops participant_ops = {
	.kind = "pl031",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = rtc_save,
	.load = rtc_load,
	.settle = rtc_settle,
};

/* ---- making and unmaking ---- */

int pl031_create(struct machine *m, struct pl031 **out, struct gw_error *err)
{
	struct pl031 *rtc = calloc(1, sizeof(*rtc));
	int r;

	if (!rtc)
		return error_set(err, -ENOMEM, "rtc: out of memory");
	rtc->machine = m;
	rtc->range = (struct bus_range){
		.base = LAYOUT_RTC,
		.size = PRIMECELL_SIZE,
		.ops = &rtc_ops,
		.opaque = rtc,
		.name = "rtc",
	};
	rtc->participant.ops = &participant_ops;
	snprintf(rtc->participant.name, sizeof(rtc->participant.name), "rtc");
	r = loop_timer_create(m->loop, on_timer, rtc, &rtc->timer, err);
	if (r < 0)
		goto fail;
	r = bus_add(&m->mmio, &rtc->range, err);
	if (r < 0)
		goto fail_timer;
	r = participant_add(&m->participants, &rtc->participant, err);
	if (r < 0)
		goto fail_bus;
	*out = rtc;
	return 0;
fail_bus:
	bus_remove(&m->mmio, &rtc->range);
fail_timer:
	loop_timer_destroy(rtc->timer);
fail:
	free(rtc);
	return r;
}

void pl031_destroy(struct pl031 *rtc)
{
	if (!rtc)
		return;
	loop_timer_destroy(rtc->timer);
	participant_remove(&rtc->machine->participants, &rtc->participant);
	bus_remove(&rtc->machine->mmio, &rtc->range);
	free(rtc);
}

/* The time stays: it has a battery. */
void pl031_reset(struct pl031 *rtc)
{
	machine_lock(rtc->machine);
	rtc->match = rtc->loaded = 0;
	rtc->armed = rtc->let_through = rtc->raised = false;
	update_line(rtc);
	arm_timer(rtc);
	machine_unlock(rtc->machine);
}
