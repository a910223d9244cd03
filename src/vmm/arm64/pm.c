/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power button, a key at a pin of a PL061, and the interrupt of the
 * generation id, which is an edge. Sleep and reset are PSCI's, which KVM does
 * (arch.c). The PCI slots of bus 0 are filled once and for all (arch_pci.hotplug).
 */
#include "vmm/pm.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/layout.h"
#include "vmm/arm64/pl061.h"
#include "vmm/arm64/pm.h"
#include "vmm/arm64/primecell.h"
#include "vmm/irq.h"

#include <stdio.h>

/* The key is held down so long: a guest looks at its level when the interrupt of the press comes,
 * and Linux waits for it to stay so for 5 ms and more. */
#define PRESS_MS 200

struct pm {
	struct machine *machine;
	struct pl061 gpio;
	struct loop_timer *release;
	struct bus_range range;
	struct participant participant;
};

static void update_line(struct pm *pm)
{
	irq_set_line(pm->machine->irqs, LAYOUT_GPIO_GSI, pl061_line(&pm->gpio));
}

static uint64_t gpio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pm *pm = opaque;

	(void)size;
	return pl061_read(&pm->gpio, offset);
}

static void gpio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pm *pm = opaque;

	(void)size;
	pl061_write(&pm->gpio, offset, (uint8_t)value);
	update_line(pm);
}

static const struct bus_ops gpio_ops = { .read = gpio_read, .write = gpio_write };

static void set_key(struct pm *pm, bool down)
{
	pl061_set_pin(&pm->gpio, PM_POWER_PIN, down);
	update_line(pm);
}

/* While the guest stands still the key stays down: it has to see both edges. */
static void on_release(void *opaque)
{
	struct pm *pm = opaque;

	machine_lock(pm->machine);
	if (machine_running(pm->machine))
		set_key(pm, false);
	else
		loop_timer_set(pm->release, PRESS_MS);
	machine_unlock(pm->machine);
}

void pm_power_button(struct pm *pm)
{
	set_key(pm, true);
	loop_timer_set(pm->release, PRESS_MS);
}

void pm_generation_changed(struct pm *pm)
{
	irq_set_line(pm->machine->irqs, LAYOUT_VMGENID_GSI, 1);
	irq_set_line(pm->machine->irqs, LAYOUT_VMGENID_GSI, 0);
}

void pm_pci_inserted(struct pm *pm, unsigned slot)
{
	(void)pm;
	(void)slot;
}

void pm_pci_eject_wanted(struct pm *pm, unsigned slot)
{
	(void)pm;
	(void)slot;
}

void pm_pci_eject_unwanted(struct pm *pm, unsigned slot)
{
	(void)pm;
	(void)slot;
}

/* ---- as a participant ---- */

enum { RECORD_GPIO = 1 };

static struct pm *pm_of(struct participant *p)
{
	return container_of(p, struct pm, participant);
}

static int pm_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct pm *pm = pm_of(p);
	struct pl061 gpio;
	uint8_t record[9];

	machine_lock(pm->machine);
	gpio = pm->gpio;
	machine_unlock(pm->machine);
	record[0] = gpio.inputs;
	record[1] = gpio.outputs;
	record[2] = gpio.direction;
	record[3] = gpio.level;
	record[4] = gpio.both;
	record[5] = gpio.high;
	record[6] = gpio.enable;
	record[7] = gpio.edges;
	record[8] = gpio.mode;
	return sink_record(sink, p, RECORD_GPIO, record, sizeof(record), err);
}

static int pm_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                   size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct pm *pm = pm_of(p);
	struct pl061 gpio;

	(void)version;
	gpio.inputs = bytes_take8(&in);
	gpio.outputs = bytes_take8(&in);
	gpio.direction = bytes_take8(&in);
	gpio.level = bytes_take8(&in);
	gpio.both = bytes_take8(&in);
	gpio.high = bytes_take8(&in);
	gpio.enable = bytes_take8(&in);
	gpio.edges = bytes_take8(&in);
	gpio.mode = bytes_take8(&in);
	if (type != RECORD_GPIO || !bytes_all_taken(&in))
		return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
	machine_lock(pm->machine);
	pm->gpio = gpio;
	machine_unlock(pm->machine);
	return 0;
}

/* By now the interrupt controller has its state too. A key that was down is let go here. */
static int pm_settle(struct participant *p, struct gw_error *err)
{
	struct pm *pm = pm_of(p);

	(void)err;
	machine_lock(pm->machine);
	update_line(pm);
	if (pm->gpio.inputs)
		loop_timer_set(pm->release, PRESS_MS);
	machine_unlock(pm->machine);
	return 0;
}

static const struct participant_ops participant_ops = {
	.kind = "pm-arm64",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = pm_save,
	.load = pm_load,
	.settle = pm_settle,
};

/* ---- making and unmaking ---- */

int pm_create(struct machine *m, struct pm **out, struct gw_error *err)
{
	struct pm *pm = calloc(1, sizeof(*pm));
	int r;

	if (!pm)
		return error_set(err, -ENOMEM, "pm: out of memory");
	pm->machine = m;
	pm->range = (struct bus_range){
		.base = LAYOUT_GPIO,
		.size = PRIMECELL_SIZE,
		.ops = &gpio_ops,
		.opaque = pm,
		.name = "gpio",
	};
	pm->participant.ops = &participant_ops;
	snprintf(pm->participant.name, sizeof(pm->participant.name), "pm");
	r = loop_timer_create(m->loop, on_release, pm, &pm->release, err);
	if (r < 0)
		goto fail;
	r = bus_add(&m->mmio, &pm->range, err);
	if (r < 0)
		goto fail_timer;
	r = participant_add(&m->participants, &pm->participant, err);
	if (r < 0)
		goto fail_bus;
	*out = pm;
	return 0;
fail_bus:
	bus_remove(&m->mmio, &pm->range);
fail_timer:
	loop_timer_destroy(pm->release);
fail:
	free(pm);
	return r;
}

void pm_destroy(struct pm *pm)
{
	if (!pm)
		return;
	loop_timer_destroy(pm->release);
	participant_remove(&pm->machine->participants, &pm->participant);
	bus_remove(&pm->machine->mmio, &pm->range);
	free(pm);
}

void pm_reset(struct pm *pm)
{
	loop_timer_set(pm->release, -1);
	pm->gpio.inputs = 0;
	pl061_reset(&pm->gpio);
	update_line(pm);
}
