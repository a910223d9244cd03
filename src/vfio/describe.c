/* SPDX-License-Identifier: Apache-2.0 */
/* What query-devices says of a passed-through device. */
#include "vfio/vfio_pci.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <string.h>

static bool add_cap(cJSON *list, const struct vfio_cap *c)
{
	cJSON *entry = cJSON_CreateObject();

	if (!cJSON_AddItemToArray(list, entry))
		return false;
	return cJSON_AddNumberToObject(entry, "id", c->id) &&
	       cJSON_AddBoolToObject(entry, "extended", c->extended) &&
	       cJSON_AddStringToObject(entry, "name", c->name) &&
	       cJSON_AddBoolToObject(entry, "shown", c->shown) &&
	       cJSON_AddStringToObject(entry, "reason", c->why);
}

/* What it raises now: "INTx", "MSI", "MSI-X", "none". */
static const char *interrupt(const struct vfio_pci *d)
{
	if (d->msix && msix_enabled(d->msix))
		return "MSI-X";
	if (d->msi && msi_enabled(d->msi))
		return "MSI";
	return d->intx.on ? "INTx" : "none";
}

bool vfio_pci_describe(struct device *device, cJSON *info)
{
	struct vfio_pci *d = container_of(device, struct vfio_pci, device);
	cJSON *list;
	bool ok;

	if (!vfio_participant_describe(d, info))
		return false;
	machine_lock(device->machine);
	ok = d->kind->describe(d, info) &&
	     cJSON_AddStringToObject(info, "backend", d->space->ops->backend) &&
	     cJSON_AddNumberToObject(info, "function", d->function.number) &&
	     cJSON_AddBoolToObject(info, "resets-alone", d->dev.can_reset) &&
	     cJSON_AddStringToObject(info, "interrupt", interrupt(d)) &&
	     cJSON_AddNumberToObject(info, "vectors", d->armed);
	list = ok ? cJSON_AddArrayToObject(info, "capabilities") : NULL;
	for (unsigned i = 0; list && i < d->cap_count && ok; i++)
		ok = add_cap(list, &d->caps[i]);
	machine_unlock(device->machine);
	return ok && list;
}
