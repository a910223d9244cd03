/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog of the Intel 6300ESB. A counter runs down from the first
 * preload value, then from the second; if the guest has not reloaded it by
 * then, the output fires, which here does what the configuration says.
 *
 * The first stage's interrupt is wired to nothing; it shows in its status bit.
 * The counter stands still while the guest does. Timing is by the loop's timer,
 * to the millisecond.
 * Source: Intel 6300ESB I/O Controller Hub Datasheet (300641-004), 16.
 */
#include "vmm/devices.h"

#include "vmm/device_action.h"
#include "vmm/pci_device.h"
#include "vmm/pci_internal.h"

#include "base/loop.h"
#include "base/util.h"

#include <stdio.h>

/* Configuration space (16.4). */
#define REG_CONFIG 0x60
#define CONFIG_FAST 0x04 /* counts at 1 MHz, not at 1 kHz */
#define CONFIG_NO_OUTPUT 0x20
#define CONFIG_WRITABLE 0x27 /* and the kind of the first stage's interrupt */
#define REG_LOCK 0x68
#define LOCK_LOCKED 0x01 /* until a reset */
#define LOCK_ENABLE 0x02
#define LOCK_FREE_RUN 0x04 /* one stage, over and over */
#define LOCK_WRITABLE 0x07

/* Memory-mapped (16.5). */
enum { REG_PRELOAD1 = 0x00, REG_PRELOAD2 = 0x04, REG_INTERRUPT = 0x08, REG_RELOAD = 0x0c };
#define PRELOAD_MASK 0xfffffu
#define INTERRUPT_ACTIVE 0x1u
#define RELOAD_NOW 0x100u
#define RELOAD_TIMEOUT 0x200u /* the output has fired; a written 1 clears it */
#define UNLOCK1 0x80u
#define UNLOCK2 0x86u

/* A preload value stands in the upper bits of a 35-bit counter of PCI clocks, which has 30 ns; at
 * 1 MHz ten bits lower. */
#define COUNT_SHIFT 15
#define COUNT_SHIFT_FAST 5
#define CLOCK_NS 30ull
#define REMAINING_MAX ((PRELOAD_MASK + 1ull) << COUNT_SHIFT) /* clocks */

struct i6300esb {
	struct pci_device d;
	enum device_action action; /* atomic */
	/* Guards what follows; after the device lock. The timer's handler takes it alone, since the
	 * device lock is held while the timer is destroyed. */
	pthread_mutex_t lock;
	struct loop_timer *timer;
	uint8_t config, lock_reg; /* the two registers in configuration space */
	uint32_t preload[2];
	uint8_t unlocked; /* how much of the sequence has been written: 0, 1, 2 */
	uint8_t stage;    /* the counter counts for: 1, 2; 0: it stands */
	bool interrupt, timed_out;
	bool warned;       /* since the last reset */
	bool running;      /* the guest does */
	int64_t deadline;  /* us, while running and stage */
	int64_t remaining; /* us, while stage and not running */
};

static struct i6300esb *of(struct pci_device *d)
{
	return container_of(d, struct i6300esb, d);
}

static struct i6300esb *of_function(struct pci_function *f)
{
	return container_of(f, struct i6300esb, d.function);
}

static struct i6300esb *of_device(struct device *d)
{
	return container_of(d, struct i6300esb, d.device);
}

/* ---- the counter -------------------------------------------------------------------- */

static void arm(struct i6300esb *e)
{
	if (e->stage && e->running)
		loop_timer_set(e->timer, MAX((e->deadline - now_us() + 999) / 1000, 0));
	else
		loop_timer_set(e->timer, -1);
}

static void begin_stage(struct i6300esb *e, uint8_t stage)
{
	const unsigned shift = e->config & CONFIG_FAST ? COUNT_SHIFT_FAST : COUNT_SHIFT;
	const uint64_t clocks = stage ? (uint64_t)e->preload[stage - 1] << shift : 0;

	e->stage = stage;
	e->remaining = (int64_t)(clocks * CLOCK_NS / 1000);
	e->deadline = now_us() + e->remaining;
	arm(e);
}

/* True if the output fires. */
static bool expire(struct i6300esb *e)
{
	const bool free_run = e->lock_reg & LOCK_FREE_RUN;
	const bool last = free_run || e->stage == 2;

	if (!last) {
		e->interrupt = true;
		begin_stage(e, 2);
		return false;
	}
	/* With a preload of 0 it would fire without end: once, then. */
	begin_stage(e, free_run && e->preload[0] ? 1 : 0);
	if (e->config & CONFIG_NO_OUTPUT)
		return false;
	e->timed_out = true;
	return true;
}

/* Not on the guest's word alone does the log fill up. */
static bool first_time(struct i6300esb *e)
{
	const bool first = !e->warned;

	e->warned = true;
	return first;
}

static void fire(struct i6300esb *e, bool first)
{
	static const char *const names[] = {
		[ACTION_NONE] = "none",      [ACTION_PAUSE] = "pause",
		[ACTION_RESET] = "reset",    [ACTION_POWEROFF] = "poweroff",
		[ACTION_NMI] = "inject-nmi",
	};
	const enum device_action action = __atomic_load_n(&e->action, __ATOMIC_RELAXED);
	struct machine *m = e->d.device.machine;
	char data[48];

	if (first)
		log_warn(m->log, "device %s: the guest has not reloaded its watchdog",
		         e->d.device.id);
	snprintf(data, sizeof(data), "{\"action\":\"%s\"}", names[action]);
	if (m->notify.event)
		m->notify.event(m->notify.opaque, "WATCHDOG", data);
	device_act(m, action, "watchdog");
}

static void on_timer(void *opaque)
{
	struct i6300esb *e = opaque;
	bool fires = false, first = false;

	pthread_mutex_lock(&e->lock);
	if (e->stage && e->running) {
		/* It may have been reloaded just before. */
		if (now_us() < e->deadline)
			arm(e);
		else
			fires = expire(e);
		first = fires && first_time(e);
	}
	pthread_mutex_unlock(&e->lock);
	if (fires)
		fire(e, first);
}

static void i6300esb_run(struct device *d)
{
	struct i6300esb *e = of_device(d);

	pthread_mutex_lock(&e->lock);
	e->running = true;
	e->deadline = now_us() + e->remaining;
	arm(e);
	pthread_mutex_unlock(&e->lock);
}

static void i6300esb_pause(struct device *d)
{
	struct i6300esb *e = of_device(d);

	pthread_mutex_lock(&e->lock);
	e->remaining = e->running ? MAX(e->deadline - now_us(), 0) : e->remaining;
	e->running = false;
	arm(e);
	pthread_mutex_unlock(&e->lock);
}

/* ---- memory-mapped registers -------------------------------------------------------- */

static uint64_t i6300esb_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	struct i6300esb *e = of_function(f);
	uint64_t value = 0;

	(void)bar;
	(void)size;
	pthread_mutex_lock(&e->lock);
	if (offset == REG_INTERRUPT)
		value = e->interrupt ? INTERRUPT_ACTIVE : 0;
	else if (offset == REG_RELOAD)
		value = e->timed_out ? RELOAD_TIMEOUT : 0;
	else if (offset == REG_RELOAD + 1)
		value = e->timed_out ? RELOAD_TIMEOUT >> 8 : 0;
	/* The preload registers can only be written. */
	pthread_mutex_unlock(&e->lock);
	return value;
}

/* A write after the unlocking sequence, of which only one is let through. */
static void write_unlocked(struct i6300esb *e, uint64_t offset, uint32_t value)
{
	if (offset == REG_PRELOAD1 || offset == REG_PRELOAD2)
		e->preload[offset / 4] = value & PRELOAD_MASK;
	if (offset != REG_RELOAD)
		return;
	if (value & RELOAD_TIMEOUT)
		e->timed_out = false;
	if ((value & RELOAD_NOW) && (e->lock_reg & LOCK_ENABLE))
		begin_stage(e, 1);
}

static void i6300esb_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                           uint64_t value)
{
	struct i6300esb *e = of_function(f);
	uint8_t unlocked;

	(void)bar;
	(void)size;
	pthread_mutex_lock(&e->lock);
	unlocked = e->unlocked;
	if (offset == REG_INTERRUPT) {
		e->interrupt = e->interrupt && !(value & INTERRUPT_ACTIVE);
	} else if (offset == REG_RELOAD && value == UNLOCK1) {
		e->unlocked = 1;
	} else if (offset == REG_RELOAD && value == UNLOCK2 && unlocked == 1) {
		e->unlocked = 2;
	} else {
		e->unlocked = 0;
		if (unlocked == 2)
			write_unlocked(e, offset, (uint32_t)value);
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- configuration space ------------------------------------------------------------ */

static void write_lock_reg(struct i6300esb *e, uint8_t value)
{
	const uint8_t was = e->lock_reg;

	if (was & LOCK_LOCKED)
		return;
	e->lock_reg = value & LOCK_WRITABLE;
	if ((value & LOCK_ENABLE) && !(was & LOCK_ENABLE))
		begin_stage(e, 1);
	else if (!(value & LOCK_ENABLE))
		begin_stage(e, 0);
}

/* Both registers are the core's bytes; here is what follows from them. */
static void i6300esb_config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct i6300esb *e = of_function(f);

	pthread_mutex_lock(&e->lock);
	e->config = f->config[REG_CONFIG];
	if (offset <= REG_LOCK && REG_LOCK < offset + size)
		write_lock_reg(e, f->config[REG_LOCK]);
	f->config[REG_LOCK] = e->lock_reg;
	pthread_mutex_unlock(&e->lock);
}

/* That it has fired is remembered: the guest that comes up again asks. */
static void i6300esb_reset(struct pci_function *f)
{
	struct i6300esb *e = of_function(f);

	pthread_mutex_lock(&e->lock);
	e->config = e->lock_reg = 0;
	e->preload[0] = e->preload[1] = PRELOAD_MASK;
	e->unlocked = 0;
	e->interrupt = e->warned = false;
	begin_stage(e, 0);
	pthread_mutex_unlock(&e->lock);
}

static const struct pci_function_ops function_ops = {
	.config_written = i6300esb_config_written,
	.bar_read = i6300esb_read,
	.bar_write = i6300esb_write,
	.reset = i6300esb_reset,
	.ejected = pci_device_ejected,
};

/* ---- state -------------------------------------------------------------------------- */

static void i6300esb_save(struct pci_device *d, struct bytes *out)
{
	struct i6300esb *e = of(d);

	pthread_mutex_lock(&e->lock);
	bytes_put32(out, e->preload[0]);
	bytes_put32(out, e->preload[1]);
	bytes_put8(out, e->unlocked);
	bytes_put8(out, e->stage);
	bytes_put8(out, (uint8_t)(e->interrupt | e->timed_out << 1));
	bytes_put64(out, (uint64_t)e->remaining);
	pthread_mutex_unlock(&e->lock);
}

static int i6300esb_load(struct pci_device *d, struct bytes_reader *in, struct gw_error *err)
{
	struct i6300esb *e = of(d);
	const uint32_t preload1 = bytes_take32(in), preload2 = bytes_take32(in);
	const uint8_t unlocked = bytes_take8(in), stage = bytes_take8(in), flags = bytes_take8(in);
	const uint64_t remaining = bytes_take64(in);

	if (preload1 > PRELOAD_MASK || preload2 > PRELOAD_MASK || unlocked > 2 || stage > 2 ||
	    flags > 3 || remaining > REMAINING_MAX * CLOCK_NS / 1000)
		return error_set(err, -EINVAL, "preload 0x%x 0x%x, stage %u, %llu us left",
		                 preload1, preload2, stage, (unsigned long long)remaining);
	pthread_mutex_lock(&e->lock);
	e->config = d->function.config[REG_CONFIG];
	e->lock_reg = d->function.config[REG_LOCK];
	e->preload[0] = preload1;
	e->preload[1] = preload2;
	e->unlocked = unlocked;
	e->stage = e->lock_reg & LOCK_ENABLE ? stage : 0;
	e->interrupt = flags & 1;
	e->timed_out = flags >> 1;
	e->remaining = (int64_t)remaining;
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static void i6300esb_release(struct pci_device *d)
{
	struct i6300esb *e = of(d);

	loop_timer_destroy(e->timer);
	pthread_mutex_destroy(&e->lock);
}

static const struct pci_device_ops device_ops = {
	.save = i6300esb_save,
	.load = i6300esb_load,
	.release = i6300esb_release,
};
static const struct participant_ops participant_ops = PCI_DEVICE_PARTICIPANT("i6300esb");

/* ---- made --------------------------------------------------------------------------- */

static void describe_function(struct pci_function *f)
{
	f->ops = &function_ops;
	pci_set(f->config, PCI_REG_VENDOR, 2, 0x8086);
	pci_set(f->config, PCI_REG_DEVICE, 2, 0x25ab);
	pci_set(f->config, PCI_REG_REVISION, 4, 0x08800001); /* a system peripheral */
	f->wmask[REG_CONFIG] = CONFIG_WRITABLE;
	f->wmask[REG_LOCK] = LOCK_WRITABLE;
	f->bars[0] = (struct pci_bar){ .size = 16 };
}

static int i6300esb_create(struct machine *m, const struct config_device *config, bool hot,
                           struct device **out, struct gw_error *err)
{
	const struct device_action_options *o = (const void *)config->options;
	struct i6300esb *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return error_set(err, -ENOMEM, "out of memory");
	r = loop_timer_create(m->loop, on_timer, e, &e->timer, err);
	if (r < 0) {
		free(e);
		return r;
	}
	pthread_mutex_init(&e->lock, NULL);
	e->action = o->action;
	e->running = machine_running(m);
	e->preload[0] = e->preload[1] = PRELOAD_MASK;
	e->d.ops = &device_ops;
	describe_function(&e->d.function);
	r = pci_device_plug(&e->d, m, config, hot, &i6300esb_driver, &participant_ops, err);
	if (!r)
		*out = &e->d.device;
	return r;
}

static int i6300esb_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                            struct gw_error *err)
{
	struct i6300esb *e = container_of(d, struct i6300esb, d.device);

	(void)ret;
	return device_action_command(d, name, args, device_action_words, &e->action, err);
}

static const struct config_key i6300esb_keys[] = {
	CONFIG_ROW_ENUM(NULL, "action", struct device_action_options, action, "\"reset\"",
	                device_action_words, "what is done about a guest that hangs"),
	CONFIG_ROW_END,
};

const struct device_driver i6300esb_driver = {
	.type = "i6300esb",
	.help = "a watchdog: acts when the guest has not been heard of for a while",
	.keys = i6300esb_keys,
	.create = i6300esb_create,
	.command = i6300esb_command,
	PCI_DEVICE_DRIVER_CALLS,
	.run = i6300esb_run,
	.pause = i6300esb_pause,
};
