/* SPDX-License-Identifier: Apache-2.0 */
/* A passed-through device takes the state of one that was elsewhere. */
#include "vfio/participant.h"

#include "base/util.h"
#include "vfio/compat.h"

#include <endian.h>
#include <string.h>

static struct vfio_pci *of(struct participant *p)
{
	return vfio_pci_of_participant(p);
}

static void forget(struct vfio_pci *d)
{
	free(d->loading.pci);
	d->loading = (struct vfio_loading){ 0 };
}

int vfio_begin_load(struct participant *p, struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	if (!d->state)
		return error_set(err, -ENOTSUP, "%s offers no migration here", d->dev.name);
	forget(d);
	d->loading.under_way = true;
	return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

static int load_identity(struct vfio_pci *d, const void *buf, size_t len, struct gw_error *err)
{
	int r = vfio_identity_check(d, buf, len, err);

	if (r < 0)
		return r;
	d->loading.identity_checked = true;
	return vfio_state_step(d->state, VFIO_BEGIN_LOAD, err);
}

static int load_data(struct vfio_pci *d, const uint8_t *buf, size_t len, struct gw_error *err)
{
	uint64_t offset;
	int r;

	if (len < sizeof(offset) || d->loading.ended)
		return error_set(err, -EINVAL, "device data of %zu bytes%s", len,
		                 d->loading.ended ? " after their end" : "");
	memcpy(&offset, buf, sizeof(offset));
	if (le64toh(offset) != d->loading.loaded)
		return error_set(err, -EINVAL, "device data at %llu, not at %llu",
		                 (unsigned long long)le64toh(offset),
		                 (unsigned long long)d->loading.loaded);
	len -= sizeof(offset);
	r = vfio_state_write(d->state, buf + sizeof(offset), len, err);
	d->loading.loaded += len;
	return r < 0 ? error_context(err, "%s does not take its data", d->dev.name) : 0;
}

static int load_end(struct vfio_pci *d, const uint8_t *buf, size_t len, struct gw_error *err)
{
	uint64_t total;

	if (len != sizeof(total))
		return error_set(err, -EINVAL, "end mark of %zu bytes", len);
	memcpy(&total, buf, sizeof(total));
	if (le64toh(total) != d->loading.loaded)
		return error_set(err, -EINVAL, "%llu bytes of device data came, not %llu",
		                 (unsigned long long)d->loading.loaded,
		                 (unsigned long long)le64toh(total));
	d->loading.ended = true;
	return 0;
}

/* A reset is the only way to be rid of what was written: leaving RESUMING would take it. */
static int load_restart(struct vfio_pci *d, size_t len, struct gw_error *err)
{
	int r;

	if (len || d->loading.ended)
		return error_set(err, -EINVAL, "a new beginning of %zu bytes%s", len,
		                 d->loading.ended ? " after the end" : "");
	r = vfio_state_discard(d->state, err);
	if (!r)
		r = vfio_state_step(d->state, VFIO_BEGIN_LOAD, err);
	d->loading.loaded = 0;
	return r < 0 ? error_context(err, "beginning again after a reset at the source") : 0;
}

static int keep_pci(struct vfio_pci *d, const void *buf, size_t len, struct gw_error *err)
{
	free(d->loading.pci);
	d->loading.pci = malloc(len + 1);
	if (!d->loading.pci)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(d->loading.pci, buf, len);
	d->loading.pci_len = len;
	return 0;
}

int vfio_load(struct participant *p, uint32_t version, uint16_t type, const void *buf, size_t len,
              struct gw_error *err)
{
	struct vfio_pci *d = of(p);

	(void)version;
	if ((type == VFIO_RECORD_IDENTITY) == d->loading.identity_checked)
		return error_set(err, -EINVAL, "a record of type %u %s", type,
		                 d->loading.identity_checked ? "once more" : "before its identity");
	switch (type) {
	case VFIO_RECORD_IDENTITY:
		return load_identity(d, buf, len, err);
	case VFIO_RECORD_DATA:
		return load_data(d, buf, len, err);
	case VFIO_RECORD_END:
		return load_end(d, buf, len, err);
	case VFIO_RECORD_RESTART:
		return load_restart(d, len, err);
	case VFIO_RECORD_PCI:
		return keep_pci(d, buf, len, err);
	default:
		return error_set(err, -EINVAL, "a record of type %u, which is none", type);
	}
}

/* ---- all has come ---- */

/* BARs, MSI and the command register are in place before the device takes its state. */
static int settle_pci(struct vfio_pci *d, struct gw_error *err)
{
	size_t msix_len = d->msix ? msix_state_size(d->msix) : 0;
	size_t msi_len = d->msi ? MSI_STATE_SIZE : 0;
	const uint8_t *at;
	int r;

	if (!d->loading.pci || d->loading.pci_len != PCI_FUNCTION_STATE_SIZE + msi_len + msix_len)
		return error_set(err, -EINVAL, "PCI state of %zu bytes", d->loading.pci_len);
	at = d->loading.pci + PCI_FUNCTION_STATE_SIZE;
	vfio_compat_adopt(d, d->loading.pci);
	r = pci_function_load(&d->function, d->loading.pci, err);
	if (!r && d->msi)
		msi_load(d->msi, at);
	if (!r && d->msix)
		r = msix_load(d->msix, at + msi_len, msix_len, err);
	if (r < 0)
		return r;
	vfio_config_push_command(d);
	if (d->msi)
		msi_update(d->msi, d->function.config + d->msi_cap);
	if (d->msix)
		msix_update(d->msix, d->function.config + d->msix_cap);
	vfio_intx_update(d);
	return 0;
}

int vfio_settle(struct participant *p, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	int r;

	if (!d->loading.identity_checked || !d->loading.ended)
		return error_set(err, -EINVAL, "its state is incomplete");
	machine_lock(d->device.machine);
	r = settle_pci(d, err);
	machine_unlock(d->device.machine);
	if (r < 0)
		return r;
	free(d->loading.pci);
	d->loading.pci = NULL;
	r = vfio_state_step(d->state, VFIO_FINISH_LOAD, err);
	return r < 0 ? error_context(err, "%s refuses the state", d->dev.name) : 0;
}

/* ---- the guest is about to run ---- */

int vfio_resume(struct participant *p, int pass, struct gw_error *err)
{
	struct vfio_pci *d = of(p);
	struct gw_error own;
	int r;

	/* From here on the guest has it, in whatever state. */
	d->loading.under_way = false;
	r = vfio_state_step(d->state, pass == 0 ? VFIO_ANSWER_DMA : VFIO_RUN, &own);
	if (!r && pass == 1)
		vfio_intx_kick(d);
	if (r < 0 && pass == 1 && !vfio_state_runs(d->state))
		vfio_trouble(d, VFIO_HAS_FAILED, own.text);
	if (r < 0 && err)
		*err = own;
	return r;
}

void vfio_discard(struct participant *p)
{
	struct vfio_pci *d = of(p);
	struct gw_error err;

	/* What was half loaded must not come alive: a reset, not a transition. */
	if (d->state && vfio_state_discard(d->state, &err) < 0)
		log_warn(d->device.machine->log, "device %s: %s", d->device.id, err.text);
	forget(d);
}
