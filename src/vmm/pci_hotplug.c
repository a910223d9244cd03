/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that leave: asked to, and let go by the guest. */
#include "vmm/pci_internal.h"

#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/pm.h"

int pci_request_unplug(struct pci_bus *bus, struct pci_function *f, struct gw_error *err)
{
	if (f->bus != bus || bus->slots[f->slot].left)
		return error_set(err, -ENODEV, "%s: not on the PCI bus", f->name);
	if (f->slot == 0)
		return error_set(err, -EPERM, "%s: the host bridge stays", f->name);
	/* The guest never saw it. */
	if (!bus->slots[f->slot].f[0]) {
		pci_unplug_now(bus, f);
		return 0;
	}
	if (!arch_pci.hotplug)
		return error_set(err, -ENOTSUP,
		                 "%s: this machine's PCI slots stay as they are while the guest "
		                 "runs",
		                 f->name);
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[f->slot].f[i])
			bus->slots[f->slot].f[i]->ejecting = true;
	pm_pci_eject_wanted(bus->machine->pm, f->slot);
	return 0;
}

void pci_keep(struct pci_bus *bus, unsigned slot)
{
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[slot].f[i])
			bus->slots[slot].f[i]->ejecting = false;
	pm_pci_eject_unwanted(bus->machine->pm, slot);
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

	if (slot == 0 || !pci_visible(bus, slot, 0))
		return;
	if (!n->eject) {
		pci_unplug_slot(bus, slot);
		return;
	}
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[slot].f[i])
			pci_bar_unmap_all(bus, bus->slots[slot].f[i]);
	bus->slots[slot].left = true;
	pci_bar_update(bus, NULL);
	n->eject(n->opaque, slot);
}
