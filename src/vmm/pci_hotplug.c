/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that leave: asked to, and let go by the guest. */
#include "vmm/pci_internal.h"

#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/pm.h"

int pci_request_unplug(struct pci_bus *bus, struct pci_function *f, struct gw_error *err)
{
	struct pcie_port *port = pcie_port_above(bus, f->slot);

	if (f->bus != bus || bus->slots[f->slot].left)
		return error_set(err, -ENODEV, "%s: not on the PCI bus", f->name);
	if (f->slot == 0)
		return error_set(err, -EPERM, "%s: the host bridge stays", f->name);
	/* The guest never saw it. */
	if (!bus->slots[f->slot].f[0]) {
		pci_unplug_now(bus, f);
		return 0;
	}
	/* A slot without power: the guest holds nothing of it. */
	if (port && !pcie_port_is_live(port)) {
		pci_unplug_slot(bus, f->slot);
		return 0;
	}
	if (!port && !arch_pci.hotplug)
		return error_set(err, -ENOTSUP,
		                 "%s: slot %u of bus 0 stays as it is while the guest runs; slots "
		                 "behind root ports need not",
		                 f->name, f->slot);
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[f->slot].f[i])
			bus->slots[f->slot].f[i]->ejecting = true;
	if (port)
		pcie_port_ask(port);
	else
		pm_pci_eject_wanted(bus->machine->pm, f->slot);
	return 0;
}

void pci_keep(struct pci_bus *bus, unsigned slot)
{
	struct pcie_port *port = pcie_port_above(bus, slot);

	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->slots[slot].f[i])
			bus->slots[slot].f[i]->ejecting = false;
	if (port)
		pcie_port_keep(port);
	else
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
	struct pci_slot *s = &bus->slots[slot];

	if (slot == 0 || !s->f[0] || s->left || pcie_is_port(s->f[0]))
		return;
	if (!n->eject) {
		pci_unplug_slot(bus, slot);
		return;
	}
	for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
		if (s->f[i])
			pci_bar_unmap_all(bus, s->f[i]);
	s->left = true;
	pci_bar_update(bus, NULL);
	n->eject(n->opaque, slot);
}
