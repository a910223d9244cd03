/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic: one register by which the guest's kernel says that it has panicked,
 * or that it has left its panic to a crash kernel. Reading gives the events
 * that are understood; writing tells of some.
 * Source: QEMU's docs/specs/pvpanic.rst (the PCI device).
 */
#include "vmm/devices.h"

#include "vmm/device_action.h"
#include "vmm/pci_device.h"
#include "vmm/pci_internal.h"

#include "base/util.h"

#include <stdio.h>

#define EVENT_PANICKED 1u
#define EVENT_CRASHLOADED 2u
#define EVENTS (EVENT_PANICKED | EVENT_CRASHLOADED)

struct pvpanic {
	struct pci_device d;
	enum device_action action; /* atomic */
	uint8_t told; /* events since the last reset: a guest in a loop is heard once */
};

/* QMP's GuestPanicAction has no word for a reset; the rest are its own. */
static const char *const action_names[] = {
	[ACTION_NONE] = "run",
	[ACTION_PAUSE] = "pause",
	[ACTION_RESET] = "reset",
	[ACTION_POWEROFF] = "poweroff",
};

static struct pvpanic *of(struct pci_function *f)
{
	return container_of(f, struct pvpanic, d.function);
}

static void emit(struct pvpanic *p, const char *event, enum device_action action)
{
	const struct machine_notify *n = &p->d.device.machine->notify;
	char data[48];

	snprintf(data, sizeof(data), "{\"action\":\"%s\"}", action_names[action]);
	if (n->event)
		n->event(n->opaque, event, data);
}

static uint64_t pvpanic_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	(void)f;
	(void)bar;
	(void)size;
	return offset ? 0 : EVENTS;
}

static void pvpanic_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                          uint64_t value)
{
	struct pvpanic *p = of(f);
	const uint8_t fresh = offset ? 0 : (uint8_t)(value & EVENTS & ~(uint64_t)p->told);

	(void)bar;
	(void)size;
	p->told |= fresh;
	/* The crash kernel goes on by itself, and resets when it is done. */
	if (fresh & EVENT_CRASHLOADED)
		emit(p, "GUEST_CRASHLOADED", ACTION_NONE);
	if (fresh & EVENT_PANICKED) {
		const enum device_action action = __atomic_load_n(&p->action, __ATOMIC_RELAXED);

		log_warn(p->d.device.machine->log, "device %s: the guest has panicked",
		         p->d.device.id);
		emit(p, "GUEST_PANICKED", action);
		device_act(p->d.device.machine, action, "guest panic");
	}
}

static void pvpanic_reset(struct pci_function *f)
{
	of(f)->told = 0;
}

static const struct pci_function_ops function_ops = {
	.bar_read = pvpanic_read,
	.bar_write = pvpanic_write,
	.reset = pvpanic_reset,
	.ejected = pci_device_ejected,
};

static void pvpanic_save(struct pci_device *d, struct bytes *out)
{
	bytes_put8(out, of(&d->function)->told);
}

static int pvpanic_load(struct pci_device *d, struct bytes_reader *in, struct gw_error *err)
{
	const uint8_t told = bytes_take8(in);

	if (told & ~EVENTS)
		return error_set(err, -EINVAL, "events 0x%x", told);
	of(&d->function)->told = told;
	return 0;
}

static const struct pci_device_ops device_ops = { .save = pvpanic_save, .load = pvpanic_load };
static const struct participant_ops participant_ops = PCI_DEVICE_PARTICIPANT("pvpanic");

static int pvpanic_create(struct machine *m, const struct config_device *config, bool hot,
                          struct device **out, struct gw_error *err)
{
	const struct device_action_options *o = (const void *)config->options;
	struct pvpanic *p = calloc(1, sizeof(*p));
	struct pci_function *f;
	int r;

	if (!p)
		return error_set(err, -ENOMEM, "out of memory");
	p->action = o->action;
	p->d.ops = &device_ops;
	f = &p->d.function;
	f->ops = &function_ops;
	pci_set(f->config, PCI_REG_VENDOR, 2, 0x1b36);
	pci_set(f->config, PCI_REG_DEVICE, 2, 0x0011);
	pci_set(f->config, PCI_REG_REVISION, 4, 0x08800001); /* a system peripheral */
	f->bars[0] = (struct pci_bar){ .size = 16 };         /* the smallest that there is */
	r = pci_device_plug(&p->d, m, config, hot, &pvpanic_driver, &participant_ops, err);
	if (!r)
		*out = &p->d.device;
	return r;
}

static int pvpanic_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                           struct gw_error *err)
{
	struct pvpanic *p = container_of(d, struct pvpanic, d.device);

	(void)ret;
	return device_action_command(d, name, args, device_action_words_no_nmi, &p->action, err);
}

static const struct config_key pvpanic_keys[] = {
	CONFIG_ROW_ENUM(NULL, "action", struct device_action_options, action, "\"none\"",
	                device_action_words_no_nmi, "what is done about a panic"),
	CONFIG_ROW_END,
};

const struct device_driver pvpanic_driver = {
	.type = "pvpanic",
	.help = "tells when the guest's kernel has panicked",
	.keys = pvpanic_keys,
	.create = pvpanic_create,
	.command = pvpanic_command,
	PCI_DEVICE_DRIVER_CALLS,
};
