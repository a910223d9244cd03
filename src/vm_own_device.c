/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the embedder's own: a PCI function whose BARs, life and state
 * are calls into the embedding program (struct gw_device_type).
 *
 * The calls are made with the device lock held. What the embedder may call at
 * any time, from any thread, takes the device's own lock alone, the last of
 * all; the embedder is never called with it held.
 *
 * While the guest stands nothing of the device may change but by load(): an
 * interrupt raised then is kept in `waiting`, which is saved, and writes to
 * guest memory are refused, since RAM may have been saved already. So it is while
 * the function is no bus master, but that the interrupt becomes pending.
 */
#include "vm_own_device.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/memory.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#define MSIX_BAR 4
#define MSIX_BAR_SIZE 0x1000
#define MSIX_PBA 0x800 /* in that BAR, behind the table's 32 * 16 bytes */
_Static_assert(GW_DEVICE_VECTORS *MSIX_ENTRY_SIZE <= MSIX_PBA, "the table fits");
_Static_assert(GW_DEVICE_BARS <= MSIX_BAR, "the MSI-X BAR is nobody else's");

static struct gw_device *of_function(struct pci_function *f)
{
	return container_of(f, struct gw_device, function);
}

static struct gw_device *of_device(struct device *d)
{
	return container_of(d, struct gw_device, device);
}

int own_failed(struct gw_error *err, int code, struct gw_error *theirs, const char *what)
{
	/* The embedder's promise is 0 or a negative errno. */
	if (code > 0)
		code = -EIO;
	theirs->text[sizeof(theirs->text) - 1] = 0;
	if (!theirs->text[0])
		return error_set_sys(err, code, "%s", what);
	return error_set_class(err, code, theirs->cls, "%s: %s", what, theirs->text);
}

/* ---- interrupts ----------------------------------------------------------------------------- */

/* Before any of the old eventfds is closed. */
static int set_vectors(void *opaque, const int *fds, unsigned count, struct gw_error *err)
{
	struct gw_device *d = opaque;

	(void)err;
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < GW_DEVICE_VECTORS; i++)
		d->fds[i] = i < count ? fds[i] : -1;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static const struct msi_irqfds_source irq_source = { .set_vectors = set_vectors };

/* What could not be signalled at once. With the device lock. */
static void deliver(struct gw_device *d)
{
	uint32_t waiting;

	pthread_mutex_lock(&d->lock);
	waiting = d->waiting;
	d->waiting = 0;
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < GW_DEVICE_VECTORS && d->msix; i++)
		if (waiting >> i & 1)
			msix_raise(d->msix, i);
}

static void own_deferred(struct device *device)
{
	struct gw_device *d = of_device(device);

	/* Otherwise it waits for the guest to run. */
	if (d->running)
		deliver(d);
}

void gw_device_raise(struct gw_device *d, unsigned vector)
{
	bool deferred = false;

	if (vector >= d->type->type.vectors)
		return;
	pthread_mutex_lock(&d->lock);
	if (d->active && d->fds[vector] >= 0) {
		io_eventfd_signal(d->fds[vector]);
	} else {
		d->waiting |= 1u << vector;
		deferred = d->active;
	}
	pthread_mutex_unlock(&d->lock);
	if (deferred)
		machine_defer(d->device.machine);
}

/* ---- guest memory ------------------------------------------------------------------------------
 */

const char *gw_device_id(const struct gw_device *d)
{
	return d->device.id;
}

int gw_device_read_memory(struct gw_device *d, uint64_t gpa, void *buf, size_t len)
{
	return memory_read(d->device.machine->memory, gpa, buf, len);
}

int gw_device_write_memory(struct gw_device *d, uint64_t gpa, const void *buf, size_t len)
{
	int r = -EAGAIN;

	pthread_mutex_lock(&d->lock);
	if (d->active)
		r = memory_write(d->device.machine->memory, gpa, buf, len);
	pthread_mutex_unlock(&d->lock);
	return r;
}

/* ---- running, or not ----------------------------------------------------------------------------
 */

/* With the device lock, as all below. */
static void update_active(struct gw_device *d)
{
	const bool active = d->running && pci_is_master(&d->function);

	pthread_mutex_lock(&d->lock);
	d->active = active;
	pthread_mutex_unlock(&d->lock);
}

static void start(struct gw_device *d)
{
	if (d->running)
		return;
	d->running = true;
	update_active(d);
	if (d->type->type.run)
		d->type->type.run(d->opaque);
	deliver(d);
}

static void stop(struct gw_device *d)
{
	if (!d->running)
		return;
	if (d->type->type.pause)
		d->type->type.pause(d->opaque);
	d->running = false;
	update_active(d);
	deliver(d);
}

static void own_run(struct device *device)
{
	machine_lock(device->machine);
	start(of_device(device));
	machine_unlock(device->machine);
}

static void own_pause(struct device *device)
{
	machine_lock(device->machine);
	stop(of_device(device));
	machine_unlock(device->machine);
}

/* ---- the PCI function
 * ------------------------------------------------------------------------------ */

static uint64_t bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	struct gw_device *d = of_function(f);
	uint64_t value = 0;

	if (bar != MSIX_BAR)
		value = d->type->type.read ? d->type->type.read(d->opaque, bar, offset, size) : 0;
	else if (offset < MSIX_PBA)
		value = msix_table_read(d->msix, offset, size);
	else
		value = msix_pba_read(d->msix, offset - MSIX_PBA, size);
	return size < 8 ? value & ((1ull << 8 * size) - 1) : value;
}

static void bar_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                      uint64_t value)
{
	struct gw_device *d = of_function(f);

	if (bar == MSIX_BAR && offset < MSIX_PBA)
		msix_table_write(d->msix, offset, size, value);
	else if (bar != MSIX_BAR && d->type->type.write)
		d->type->type.write(d->opaque, bar, offset, size, value);
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct gw_device *d = of_function(f);

	(void)offset;
	(void)size;
	update_active(d);
	if (d->msix)
		msix_update_of(d->msix, f, d->msix_cap);
	if (d->running)
		deliver(d);
}

static void on_reset(struct pci_function *f)
{
	struct gw_device *d = of_function(f);

	pthread_mutex_lock(&d->lock);
	d->waiting = 0;
	pthread_mutex_unlock(&d->lock);
	update_active(d);
	if (d->msix)
		msix_reset(d->msix);
	if (d->type->type.reset)
		d->type->type.reset(d->opaque);
}

static void release(struct gw_device *d)
{
	if (d->created)
		d->type->type.destroy(d->opaque);
	participant_remove(&d->device.machine->participants, &d->participant);
	own_state_forget(d);
	msix_destroy(d->msix);
	msi_irqfds_destroy(d->irqfds);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* On the way out, by the guest's leave or without. */
static void on_ejected(struct pci_function *f)
{
	struct gw_device *d = of_function(f);
	struct machine *m = d->device.machine;
	const bool quiet = d->quiet;
	char id[sizeof(d->device.id)];

	strcpy(id, d->device.id);
	stop(d);
	machine_forget_device(m, &d->device);
	release(d);
	if (!quiet && m->notify.device_gone)
		m->notify.device_gone(m->notify.opaque, id);
}

static const struct pci_function_ops function_ops = {
	.config_written = config_written,
	.bar_read = bar_read,
	.bar_write = bar_write,
	.reset = on_reset,
	.ejected = on_ejected,
};

static int add_msix(struct gw_device *d, struct gw_error *err)
{
	const unsigned vectors = d->type->type.vectors;
	uint8_t cap[MSIX_CAP_SIZE] = { 0 };
	int r;

	if (!vectors)
		return 0;
	r = msi_irqfds_create(d->device.machine, &d->function, d->device.id, vectors, &irq_source,
	                      d, &d->irqfds, err);
	if (!r)
		r = msix_create(vectors, &msi_irqfds_ops, d->irqfds, &d->msix, err);
	if (r < 0)
		return r;
	pci_set(cap, 2, 2, vectors - 1);
	pci_set(cap, 4, 4, MSIX_BAR);
	pci_set(cap, 8, 4, MSIX_PBA | MSIX_BAR);
	d->msix_cap = (uint8_t)pci_add_capability(&d->function, PCI_CAP_ID_MSIX, cap, sizeof(cap));
	msix_wmask(d->function.wmask + d->msix_cap);
	d->function.bars[MSIX_BAR] = (struct pci_bar){ .size = MSIX_BAR_SIZE };
	return 0;
}

static void fill_function(struct gw_device *d)
{
	const struct gw_device_type *t = &d->type->type;
	struct pci_function *f = &d->function;

	f->ops = &function_ops;
	pci_set(f->config, PCI_VENDOR_ID, 2, t->vendor);
	pci_set(f->config, PCI_DEVICE_ID, 2, t->device);
	pci_set(f->config, PCI_REVISION_ID, 4, t->class_code << 8 | t->revision);
	pci_set(f->config, PCI_SUBSYSTEM_VENDOR_ID, 2, t->subsystem_vendor);
	pci_set(f->config, PCI_SUBSYSTEM_ID, 2, t->subsystem);
	for (unsigned i = 0; i < GW_DEVICE_BARS; i++)
		f->bars[i] = (struct pci_bar){ .size = t->bars[i].size,
			                       .prefetch = t->bars[i].prefetch };
}

/* ---- the driver
 * -------------------------------------------------------------------------------------- */

static void begin(struct gw_device *d, struct machine *m, const struct own_type *type,
                  const struct config_device *config)
{
	d->type = type;
	d->device.driver = &type->driver;
	d->device.machine = m;
	snprintf(d->device.id, sizeof(d->device.id), "%s", config->id);
	snprintf(d->function.name, sizeof(d->function.name), "%s", config->id);
	snprintf(d->participant.name, sizeof(d->participant.name), "%s", config->id);
	d->participant.ops = &type->participant;
	pthread_mutex_init(&d->lock, NULL);
	for (unsigned i = 0; i < GW_DEVICE_VECTORS; i++)
		d->fds[i] = -1;
}

static int create_theirs(struct gw_device *d, const struct config_device *config,
                         struct gw_error *err)
{
	const struct own_options *options = (const void *)config->options;
	struct gw_error theirs = { 0 };
	int r = d->type->type.create(d->type->opaque, d, options->text, &d->opaque, &theirs);

	if (r)
		return own_failed(err, r, &theirs, "create");
	d->created = true;
	return 0;
}

static int plug(struct gw_device *d, const struct config_device *config, bool hot,
                struct gw_error *err)
{
	struct machine *m = d->device.machine;
	int r;

	d->function.number = (uint8_t)config->function;
	machine_lock(m);
	r = pci_plug(m->pci, &d->function, pci_place(config->slot, config->port), hot, err);
	if (!r && machine_running(m))
		start(d);
	machine_unlock(m);
	return r;
}

static int own_create(struct machine *m, const struct config_device *config, bool hot,
                      struct device **out, struct gw_error *err)
{
	const struct device_driver *driver =
	        config_find_driver(vm_drivers_of(vm_of(m)), config->type);
	struct gw_device *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return error_set(err, -ENOMEM, "out of memory");
	begin(d, m, container_of(driver, struct own_type, driver), config);
	fill_function(d);
	r = add_msix(d, err);
	if (!r)
		r = create_theirs(d, config, err);
	if (!r)
		r = participant_add(&m->participants, &d->participant, err);
	if (!r)
		r = plug(d, config, hot, err);
	if (r < 0) {
		release(d);
		return r;
	}
	d->device.slot = d->function.slot;
	*out = &d->device;
	return 0;
}

static int own_request_unplug(struct device *device, struct gw_error *err)
{
	return pci_let_go(&of_device(device)->function, err);
}

static void own_destroy(struct device *device)
{
	struct gw_device *d = of_device(device);

	d->quiet = true;
	pci_take_off(&d->function);
}

static bool own_describe(struct device *device, cJSON *info)
{
	struct gw_device *d = of_device(device);
	autofree char *text = NULL;
	cJSON *theirs, *item;

	if (!d->type->type.describe)
		return true;
	machine_lock(device->machine);
	text = d->type->type.describe(d->opaque);
	machine_unlock(device->machine);
	theirs = text ? cJSON_Parse(text) : NULL;
	while (cJSON_IsObject(theirs) && (item = theirs->child) != NULL)
		cJSON_AddItemToObject(info, item->string, cJSON_DetachItemViaPointer(theirs, item));
	if (text && !cJSON_IsObject(theirs))
		log_warn(device->machine->log,
		         "device %s: what it says of itself is no JSON object", device->id);
	cJSON_Delete(theirs);
	return true;
}

static int own_command(struct device *device, const char *name, const cJSON *args, cJSON **ret,
                       struct gw_error *err)
{
	struct gw_device *d = of_device(device);
	autofree char *text = args ? cJSON_PrintUnformatted(args) : strdup("{}");
	autofree char *answer = NULL;
	struct gw_error theirs = { 0 };
	int r = -EOPNOTSUPP;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	if (d->type->type.command) {
		machine_lock(device->machine);
		r = d->type->type.command(d->opaque, name, text, &answer, &theirs);
		machine_unlock(device->machine);
	}
	if (r == -EOPNOTSUPP)
		return r;
	if (r)
		return own_failed(err, r, &theirs, "command");
	if (answer && !(*ret = cJSON_Parse(answer)))
		return error_set(err, -EPROTO, "what it answers is no JSON");
	return 0;
}

const struct device_driver own_device_driver = {
	.create = own_create,
	.request_unplug = own_request_unplug,
	.destroy = own_destroy,
	.run = own_run,
	.pause = own_pause,
	.deferred = own_deferred,
	.describe = own_describe,
	.command = own_command,
};
