/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci_device.h"

#include "base/util.h"
#include "vmm/machine.h"

#include <stdio.h>
#include <string.h>

enum { RECORD_STATE = 1 };

static struct pci_device *of_device(struct device *d)
{
	return container_of(d, struct pci_device, device);
}

static struct pci_device *of_participant(struct participant *p)
{
	return container_of(p, struct pci_device, participant);
}

/* ---- made and gone ------------------------------------------------------------------ */

static void release(struct pci_device *d)
{
	participant_remove(&d->device.machine->participants, &d->participant);
	if (d->ops->release)
		d->ops->release(d);
	free(d);
}

int pci_device_plug(struct pci_device *d, struct machine *m, const struct config_device *config,
                    bool hot, const struct device_driver *driver,
                    const struct participant_ops *participant, struct gw_error *err)
{
	int r;

	d->device.driver = driver;
	d->device.machine = m;
	snprintf(d->device.id, sizeof(d->device.id), "%s", config->id);
	snprintf(d->function.name, sizeof(d->function.name), "%s", config->id);
	snprintf(d->participant.name, sizeof(d->participant.name), "%s", config->id);
	d->participant.ops = participant;
	d->function.number = (uint8_t)config->function;
	r = participant_add(&m->participants, &d->participant, err);
	machine_lock(m);
	if (!r)
		r = pci_plug(m->pci, &d->function, pci_place(config->slot, config->port), hot, err);
	d->device.slot = d->function.slot;
	if (r < 0)
		release(d);
	machine_unlock(m);
	return r;
}

void pci_device_ejected(struct pci_function *f)
{
	struct pci_device *d = container_of(f, struct pci_device, function);
	struct machine *m = d->device.machine;
	const bool quiet = d->quiet;
	char id[sizeof(d->device.id)];

	strcpy(id, d->device.id);
	machine_forget_device(m, &d->device);
	release(d);
	if (!quiet && m->notify.device_gone)
		m->notify.device_gone(m->notify.opaque, id);
}

int pci_device_request_unplug(struct device *device, struct gw_error *err)
{
	return pci_let_go(&of_device(device)->function, err);
}

void pci_device_destroy(struct device *device)
{
	struct pci_device *d = of_device(device);

	d->quiet = true;
	pci_take_off(&d->function);
}

/* ---- state: configuration space, then the device's own ------------------------------ */

int pci_device_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct pci_device *d = of_participant(p);
	uint8_t config[PCI_FUNCTION_STATE_SIZE];
	struct bytes out = { 0 };
	int r;

	machine_lock(d->device.machine);
	pci_function_save(&d->function, config);
	bytes_put(&out, config, sizeof(config));
	d->ops->save(d, &out);
	machine_unlock(d->device.machine);
	r = out.failed ? error_set(err, -ENOMEM, "out of memory")
	               : sink_record(sink, p, RECORD_STATE, out.data, out.len, err);
	bytes_free(&out);
	return r;
}

static int take(struct pci_device *d, struct bytes_reader *in, struct gw_error *err)
{
	const uint8_t *config = bytes_take_view(in, PCI_FUNCTION_STATE_SIZE);
	int r;

	if (!config)
		return error_set(err, -EINVAL, "%zu bytes of state", in->len);
	r = pci_function_load(&d->function, config, err);
	if (!r)
		r = d->ops->load(d, in, err);
	if (!r && !bytes_all_taken(in))
		r = error_set(err, -EINVAL, "its state is too %s", in->failed ? "short" : "long");
	return r;
}

int pci_device_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct pci_device *d = of_participant(p);
	struct bytes_reader in = { .data = buf, .len = len };
	int r;

	(void)version;
	if (type != RECORD_STATE)
		return error_set(err, -EINVAL, "no record of type %u", type);
	machine_lock(d->device.machine);
	r = take(d, &in, err);
	machine_unlock(d->device.machine);
	return r;
}
