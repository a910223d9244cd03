/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: a VFIO device becomes a PCI function of the machine, and goes back to the host. */
#include "vfio/options.h"
#include "vfio/vfio.h"
#include "vfio/vfio_pci.h"

#include "base/error.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

static void forget_migration(struct vfio_pci *d)
{
	/* A reset takes the device to RUNNING and ends its session (Linux uAPI, RESET). */
	if (d->mig.flags && mig_v2_refresh(&d->mig, NULL) < 0)
		log_warn(d->device.machine->log, "device %s: its migration state cannot be read",
		         d->device.id);
}

int vfio_pci_reset_keeping(void *opaque, struct gw_error *err)
{
	struct vfio_pci *d = opaque;
	int r = vfio_dev_reset(&d->dev, err);

	if (r < 0)
		return r;
	machine_lock(d->device.machine);
	vfio_config_push_command(d);
	vfio_intr_rearm(d);
	machine_unlock(d->device.machine);
	return 0;
}

/* Machine reset, and the guest's function-level reset. */
static void on_reset(struct pci_function *f)
{
	struct vfio_pci *d = vfio_pci_of(f);
	struct gw_error err;

	vfio_intr_reset(d);
	if (d->dev.can_reset && vfio_dev_reset(&d->dev, &err) < 0)
		log_warn(d->device.machine->log, "device %s: %s", d->device.id, err.text);
	forget_migration(d);
	vfio_config_push_command(d);
	vfio_intx_update(d);
}

/* Everything back to the host, in the reverse order of create(). */
static void release(struct vfio_pci *d)
{
	vfio_participant_fini(d);
	vfio_dirty_fini(&d->dirty);
	vfio_intr_fini(d);
	vfio_bars_fini(d);
	mig_v2_fini(&d->mig);
	vfio_dev_fini(&d->dev);
	d->kind->close(d);
	free(d->loaded_state);
	free(d);
}

static void on_ejected(struct pci_function *f)
{
	struct vfio_pci *d = vfio_pci_of(f);
	struct machine *m = d->device.machine;
	bool quiet = d->quiet;
	char id[sizeof(d->device.id)];
	struct gw_error err;

	strcpy(id, d->device.id);
	vfio_intr_reset(d);
	/* The next user gets no traces of this one. */
	if (d->dev.can_reset && vfio_dev_reset(&d->dev, &err) < 0)
		log_warn(m->log, "device %s: %s", id, err.text);
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
	.reset = on_reset,
	.ejected = on_ejected,
};

/* ---- making it ----------------------------------------------------------------------------- */

static int open_device(struct vfio_pci *d, const void *opaque, struct gw_error *err)
{
	const struct vfio_options *options = opaque;
	int fd, r;

	memcpy(d->host, options->host, sizeof(d->host));
	d->dirty_none_ok = options->dirty_tracking == VFIO_DIRTY_NONE_OK;
	r = sysfs_find(SYSFS_ROOT, d->host, &d->sysfs, err);

	if (r < 0)
		error_context(err, "host");
	if (!r)
		r = vfio_group_get(d->device.machine, &d->sysfs, &d->group, err);
	if (!r)
		d->space = vfio_group_space(d->group);
	if (!r)
		r = vfio_group_open_device(d->group, d->sysfs.name, &fd, err);
	if (!r)
		r = vfio_dev_init(&d->dev, fd, d->sysfs.name, err);
	return r;
}

static void close_device(struct vfio_pci *d)
{
	vfio_group_put(d->group);
}

static int init_parts(struct vfio_pci *d, struct gw_error *err)
{
	struct machine *m = d->device.machine;
	int r;

	/* What the last user left must not reach this guest. */
	if (!d->dev.can_reset)
		log_warn(m->log, "device %s: %s cannot be reset; it starts as it was left",
		         d->device.id, d->dev.name);
	else if ((r = vfio_dev_reset(&d->dev, err)) < 0)
		return r;
	r = mig_v2_init(&d->mig, &d->dev, err);
	if (!r)
		r = vfio_dirty_init(&d->dirty, &d->dev, d->space, d->dirty_none_ok, err);
	if (!r)
		r = vfio_config_init(d, err);
	if (!r)
		r = vfio_bars_init(d, err);
	if (!r)
		r = vfio_intr_init(d, err);
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
	r = pci_plug(m->pci, &d->function, config->slot ? config->slot : PCI_SLOT_ANY, hot, err);
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
	d->dev.fd = d->mig.session = d->intx.fd = d->intx.resample_fd = d->intx.line_fd = -1;
	r = kind->open(d, config->options, err);
	if (!r)
		r = init_parts(d, err);
	if (!r)
		r = plug(d, config, hot, err);
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

static const struct vfio_pci_kind kernel_kind = {
	.driver = &vfio_pci_driver,
	.open = open_device,
	.close = close_device,
};

static int create(struct machine *m, const struct config_device *config, bool hot,
                  struct device **out, struct gw_error *err)
{
	return vfio_pci_create(&kernel_kind, m, config, hot, out, err);
}

const struct device_driver vfio_pci_driver = {
	.type = "vfio-pci",
	.help = "a device of the host, passed through by VFIO",
	.keys = vfio_keys,
	.check_host = vfio_check_host,
	.address = vfio_address,
	.create = create,
	.request_unplug = vfio_pci_request_unplug,
	.destroy = vfio_pci_destroy,
};
