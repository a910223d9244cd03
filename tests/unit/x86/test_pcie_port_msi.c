/* SPDX-License-Identifier: Apache-2.0 */
/* A root port's own interrupt by message, as it reaches a local APIC. */
#include "pcie_slot.h"
#include "pins.h"

#define MSI 0x7c
#define VECTOR 0x51

Test(pcie_port_msi, one_message_when_the_first_event_comes)
{
	struct platform *p = platform_new_kvm();
	struct card *c = new_card("net0");
	struct gw_error err = { 0 };

	p->m.config.pci.root_ports = 1;
	new_bus(p);
	cr_assert_eq(port_read(p, 1, MSI, 1), 5);
	port_write(p, 1, MSI + 4, 4, 0xfee00000);
	port_write(p, 1, MSI + 12, 2, VECTOR);
	port_write(p, 1, MSI + 2, 2, 1);
	port_write(p, 1, SLTCTL, 2, POWER_OFF | IND_OFF | ABPE | HPIE);
	cr_assert_eq(platform_requested(p, VECTOR, 0), 0);
	cr_assert_eq(pci_plug(p->m.pci, &c->f, pci_place(0, 1), true, &err), 0, "%s", err.text);
	cr_assert_eq(platform_requested(p, VECTOR, patience_ms()), 1);
	port_write(p, 1, MSI + 12, 2, VECTOR + 0x10);
	port_write(p, 1, SLTSTA, 2, PDC);
	pcie_port_ask(pcie_port_above(p->m.pci, pci_place(0, 1)));
	cr_assert_eq(platform_requested(p, VECTOR + 0x10, 0), 0, "the first still waits");
	port_write(p, 1, SLTSTA, 2, ABP);
	pcie_port_ask(pcie_port_above(p->m.pci, pci_place(0, 1)));
	cr_assert_eq(platform_requested(p, VECTOR + 0x10, patience_ms()), 1);
	end(p);
	free(c);
}
