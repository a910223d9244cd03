/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that leave: asked to, and let go by the guest. */
#include "vmm/pci_internal.h"

#include "vmm/machine.h"
#include "vmm/pm.h"

int pci_request_unplug(struct pci_bus *bus, struct pci_function *f, struct gw_error *err)
{
	if (f->bus != bus || pci_visible(bus, f->slot) != f)
		return error_set(err, -ENODEV, "%s: not on the PCI bus", f->name);
	if (f->slot == 0)
		return error_set(err, -EPERM, "%s: the host bridge stays", f->name);
	f->ejecting = true;
	pm_pci_eject_wanted(bus->machine->pm, f->slot);
	return 0;
}

int pci_let_go(struct pci_function *f, struct gw_error *err)
{
	struct machine *m = f->bus->machine;
	int r = 0;

	machine_lock(m);
	if (m->started)
		r = pci_request_unplug(m->pci, f, err);
	else
		pci_unplug_now(m->pci, f);
	machine_unlock(m);
	return r;
}

void pci_take_off(struct pci_function *f)
{
	struct machine *m = f->bus->machine;

	machine_lock(m);
	pci_unplug_now(m->pci, f);
	machine_unlock(m);
}

void pci_guest_eject(struct pci_bus *bus, unsigned slot)
{
	const struct machine_notify *n = &bus->machine->notify;
	struct pci_function *f = pci_visible(bus, slot);

	if (!f || slot == 0)
		return;
	if (!n->eject) {
		pci_unplug_now(bus, f);
		return;
	}
	pci_bar_unmap_all(bus, f);
	bus->slots[slot].left = true;
	pci_bar_update(bus, NULL);
	n->eject(n->opaque, slot);
}
