/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pm.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/pci.h"
#include "vmm/x86/pm_ports.h"

#include <stdio.h>
#include <string.h>

/* Sleep control (ACPI 6.5, 4.8.3.7): the state to enter in bits 2 to 4, the trigger in bit 5. S5
 * is type 5 in the DSDT's \_S5. */
#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK 7u
#define SLEEP_TYPE_S5 5
#define SLEEP_ENABLE 0x20u

#define EVENTS_KNOWN (PM_EVENT_POWER_BUTTON | PM_EVENT_PCI | PM_EVENT_GENERATION)

struct pm {
	struct machine *machine;
	uint32_t events, up, down;
	struct bus_range range;
	struct participant participant;
};

/* The interrupt is level-triggered and stays up until the guest has read the events, so that
 * none is lost that comes before the guest listens. */
static void update_line(struct pm *pm)
{
	irq_set_line(pm->machine->irqs, PM_GSI, pm->events != 0);
}

static void raise_event(struct pm *pm, uint32_t event)
{
	pm->events |= event;
	update_line(pm);
}

static uint32_t fetch(uint32_t *bits)
{
	uint32_t value = *bits;

	*bits = 0;
	return value;
}

static uint32_t read_events(struct pm *pm)
{
	uint32_t events = fetch(&pm->events);

	update_line(pm);
	return events;
}

static uint32_t read_up(struct pm *pm)
{
	return fetch(&pm->up);
}

static uint32_t read_down(struct pm *pm)
{
	return fetch(&pm->down);
}

static uint32_t read_present(struct pm *pm)
{
	return pci_present(pm->machine->pci);
}

static void write_sleep(struct pm *pm, uint32_t value)
{
	const struct machine_notify *n = &pm->machine->notify;

	if (!(value & SLEEP_ENABLE))
		return;
	if ((value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) != SLEEP_TYPE_S5) {
		log_warn(pm->machine->log,
		         "pm: the guest wants to sleep (0x%02x), which only S5 can", value);
		return;
	}
	if (n->powered_off)
		n->powered_off(n->opaque);
}

static void write_reset(struct pm *pm, uint32_t value)
{
	const struct machine_notify *n = &pm->machine->notify;

	if (value == PM_RESET_VALUE && n->reset_requested)
		n->reset_requested(n->opaque, "the guest wrote ACPI's reset register");
}

static void write_eject(struct pm *pm, uint32_t value)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		if (value >> slot & 1)
			pci_guest_eject(pm->machine->pci, slot);
	}
}

static uint32_t read_zero(struct pm *pm)
{
	(void)pm;
	return 0;
}

/* Accesses are of the register's own size. */
static const struct {
	uint8_t offset, size;
	uint32_t (*read)(struct pm *pm);
	void (*write)(struct pm *pm, uint32_t value);
} registers[] = {
	{ PM_SLEEP_CONTROL, 1, read_zero, write_sleep },
	{ PM_SLEEP_STATUS, 1, read_zero, NULL },
	{ PM_RESET, 1, read_zero, write_reset },
	{ PM_EVENTS, 4, read_events, NULL },
	{ PM_PCI_UP, 4, read_up, NULL },
	{ PM_PCI_DOWN, 4, read_down, NULL },
	{ PM_PCI_EJECT, 4, read_zero, write_eject },
	{ PM_PCI_PRESENT, 4, read_present, NULL },
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
		if (registers[i].offset == offset && registers[i].size == size)
			return registers[i].read(opaque);
	}
	return UINT64_MAX;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
		if (registers[i].offset == offset && registers[i].size == size &&
		    registers[i].write)
			registers[i].write(opaque, (uint32_t)value);
	}
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write };

void pm_power_button(struct pm *pm)
{
	raise_event(pm, PM_EVENT_POWER_BUTTON);
}

void pm_generation_changed(struct pm *pm)
{
	raise_event(pm, PM_EVENT_GENERATION);
}

/* The last word about a slot counts: one that is filled again is not to be emptied. */
void pm_pci_inserted(struct pm *pm, unsigned slot)
{
	pm->up |= 1u << slot;
	pm->down &= ~(1u << slot);
	raise_event(pm, PM_EVENT_PCI);
}

void pm_pci_eject_wanted(struct pm *pm, unsigned slot)
{
	pm->down |= 1u << slot;
	raise_event(pm, PM_EVENT_PCI);
}

void pm_pci_eject_unwanted(struct pm *pm, unsigned slot)
{
	pm->down &= ~(1u << slot);
}

/* ---- as a participant ---- */

enum { RECORD_REGISTERS = 1 };

struct pm_record {
	uint32_t events, up, down; /* little-endian, as all of x86's */
};

static struct pm *pm_of(struct participant *p)
{
	return container_of(p, struct pm, participant);
}

static int pm_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct pm *pm = pm_of(p);
	struct pm_record record;

	machine_lock(pm->machine);
	record = (struct pm_record){ .events = pm->events, .up = pm->up, .down = pm->down };
	machine_unlock(pm->machine);
	return sink_record(sink, p, RECORD_REGISTERS, &record, sizeof(record), err);
}

static int pm_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                   size_t len, struct gw_error *err)
{
	struct pm *pm = pm_of(p);
	struct pm_record record;

	(void)version;
	if (type != RECORD_REGISTERS || len != sizeof(record))
		return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
	memcpy(&record, buf, sizeof(record));
	machine_lock(pm->machine);
	pm->events = record.events & EVENTS_KNOWN;
	pm->up = record.up;
	pm->down = record.down;
	machine_unlock(pm->machine);
	return 0;
}

/* By now the interrupt controller has its state too. */
static int pm_settle(struct participant *p, struct gw_error *err)
{
	struct pm *pm = pm_of(p);

	(void)err;
	machine_lock(pm->machine);
	update_line(pm);
	machine_unlock(pm->machine);
	return 0;
}

static const struct participant_ops participant_ops = {
	.kind = "pm",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = pm_save,
	.load = pm_load,
	.settle = pm_settle,
};

int pm_create(struct machine *m, struct pm **out, struct gw_error *err)
{
	struct pm *pm = calloc(1, sizeof(*pm));
	int r;

	if (!pm)
		return error_set(err, -ENOMEM, "no memory");
	pm->machine = m;
	pm->range = (struct bus_range){
		.base = PM_PORT,
		.size = PM_PORT_SIZE,
		.ops = &port_ops,
		.opaque = pm,
		.name = "pm",
	};
	pm->participant.ops = &participant_ops;
	snprintf(pm->participant.name, sizeof(pm->participant.name), "pm");
	r = bus_add(&m->pio, &pm->range, err);
	if (r < 0)
		goto fail;
	r = participant_add(&m->participants, &pm->participant, err);
	if (r < 0)
		goto fail_bus;
	*out = pm;
	return 0;
fail_bus:
	bus_remove(&m->pio, &pm->range);
fail:
	free(pm);
	return r;
}

void pm_destroy(struct pm *pm)
{
	if (!pm)
		return;
	participant_remove(&pm->machine->participants, &pm->participant);
	bus_remove(&pm->machine->pio, &pm->range);
	free(pm);
}

void pm_reset(struct pm *pm)
{
	pm->events = pm->up = pm->down = 0;
	update_line(pm);
}
