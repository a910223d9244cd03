/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: a VFIO device becomes a PCI function of the machine, and goes back to the host. */
#include "vfio/options.h"
#include "vfio/reset.h"
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

/* Everything back to the host, in the reverse order of create(). */
static void release(struct vfio_pci *d)
{
	vfio_wanted_fini(d);
	vfio_participant_fini(d);
	vfio_dirty_fini(&d->dirty);
	vfio_intr_fini(d);
	vfio_rom_fini(d);
	vfio_bars_fini(d);
	vfio_dev_fini(&d->dev);
	if (d->joined)
		vfio_space_leave(d->space);
	d->kind->close(d);
	free(d);
}

static void on_ejected(struct pci_function *f)
{
	struct vfio_pci *d = vfio_pci_of(f);
	struct machine *m = d->device.machine;
	bool quiet = d->quiet;
	char id[sizeof(d->device.id)];

	strcpy(id, d->device.id);
	vfio_intr_reset(d);
	/* The next user gets no traces of this one. */
	vfio_pci_reset_any(d, VFIO_RESETS_IT);
	machine_forget_device(m, &d->device);
	release(d);
	if (!quiet && m->notify.device_gone)
		m->notify.device_gone(m->notify.opaque, id);
}

static const struct pci_function_ops function_ops = {
	.config_read = vfio_config_read,
	.config_write = vfio_config_write,
	.config_written = vfio_config_written,
	.bar_read = vfio_bar_read,
	.bar_write = vfio_bar_write,
	.bar_changed = vfio_bar_changed,
	.reset = vfio_pci_reset_with_machine,
	.reset_alone = vfio_pci_reset_alone,
	.ejected = on_ejected,
};

/* ---- making it ----------------------------------------------------------------------------- */

static int take_options(struct vfio_pci *d, const struct vfio_options *o, struct gw_error *err)
{
	int r = vfio_compat_parse(o->compat_ignore, &d->compat_ignored, err);

	d->dirty_none_ok = o->dirty_tracking == VFIO_DIRTY_NONE_OK;
	d->device.give_back_ms = o->request_timeout * 1000;
	memcpy(d->rom, o->rom, sizeof(d->rom));
	return r ? r : vfio_state_without(o->without, &d->without, err);
}

static int init_parts(struct vfio_pci *d, struct gw_error *err)
{
	int (*const parts[])(struct vfio_pci * d, struct gw_error * err) = {
		vfio_config_init, vfio_bars_init, vfio_rom_init, vfio_intr_init, vfio_wanted_init,
	};
	int r = vfio_pci_reset_first(d, err);

	if (!r)
		r = vfio_participant_probe(d, err);
	if (!r)
		r = vfio_dirty_init(&d->dirty, &d->dev, d->space, d->dirty_none_ok, err);
	vfio_intr_probe(d);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && !r; i++)
		r = parts[i](d, err);
	return r;
}

static int plug(struct vfio_pci *d, const struct config_device *config, bool hot,
                struct gw_error *err)
{
	struct machine *m = d->device.machine;
	int r = vfio_participant_init(d, err);

	if (r < 0)
		return r;
	d->function.number = (uint8_t)config->function;
	machine_lock(m);
	r = pci_plug(m->pci, &d->function, pci_place(config->slot, config->port), hot, err);
	if (!r) {
		d->plugged = true;
		d->device.slot = d->function.slot;
		vfio_config_push_command(d);
		vfio_intx_update(d);
	}
	machine_unlock(m);
	return r;
}

int vfio_pci_create(const struct vfio_pci_kind *kind, struct machine *m,
                    const struct config_device *config, bool hot, struct device **out,
                    struct gw_error *err)
{
	struct vfio_pci *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	d->kind = kind;
	d->device.driver = kind->driver;
	d->device.machine = m;
	snprintf(d->device.id, sizeof(d->device.id), "%s", config->id);
	snprintf(d->function.name, sizeof(d->function.name), "%s", config->id);
	d->function.ops = &function_ops;
	pthread_mutex_init(&d->intx.lock, NULL);
	d->dev.fd = d->intx.fd = d->intx.resample_fd = d->intx.line_fd = -1;
	d->wanted.fd = d->in_error.fd = -1;
	r = take_options(d, (const void *)config->options, err);
	if (!r)
		r = kind->open(d, config->options, err);
	if (!r) {
		vfio_space_join(d->space);
		d->joined = true;
		r = init_parts(d, err);
	}
	if (!r)
		r = plug(d, config, hot, err);
	if (kind->made)
		kind->made(d, r, err);
	if (r < 0) {
		release(d);
		return r;
	}
	*out = &d->device;
	return 0;
}

static struct vfio_pci *of_device(struct device *device)
{
	return container_of(device, struct vfio_pci, device);
}

int vfio_pci_request_unplug(struct device *device, struct gw_error *err)
{
	return pci_let_go(&of_device(device)->function, err);
}

void vfio_pci_destroy(struct device *device)
{
	struct vfio_pci *d = of_device(device);

	d->quiet = true;
	pci_take_off(&d->function);
}
