/* SPDX-License-Identifier: Apache-2.0 */
/* Root ports: registers, routing, windows, the slot's life, interrupts by pin, saved state. */
#include "pcie_slot.h"

#include <cjson/cJSON.h>

Test(pcie_port, is_a_bridge_with_a_slot)
{
	struct platform *p = new_ports();

	cr_assert_eq(port_read(p, 1, 0, 4), 0x000c1b36);
	cr_assert_eq(port_read(p, 1, 0x0a, 2), 0x0604);
	cr_assert_eq(port_read(p, 1, 0x0e, 1), 0x81, "a bridge of several functions");
	cr_assert_eq(port_read(p, 2, 0x0e, 1), 0x81);
	cr_assert_eq(port_read(p, 3, 0, 4), 0xffffffff, "there are two");
	cr_assert_eq(port_read(p, 1, 0x34, 1), EXP);
	cr_assert_eq(port_read(p, 1, EXP, 1), 0x10);
	cr_assert_eq(port_read(p, 1, EXP + 2, 2), 0x0142, "version 2, root port, with a slot");
	cr_assert_eq(port_read(p, 1, EXP + 0x14, 4), 0x40073 | 33u << 19);
	cr_assert_eq(port_read(p, 2, EXP + 0x14, 4) >> 19, 34);
	cr_assert(port_read(p, 1, EXP + 0x0c, 4) & 1u << 20, "tells whether its link is up");
	cr_assert_eq(port_read(p, 1, port_read(p, 1, EXP + 1, 1), 1), 5, "MSI");
	end(p);
}

Test(pcie_port, what_can_be_written)
{
	static const struct {
		uint8_t reg, size;
		uint32_t reads;
	} after_ones[] = {
		{ 0x00, 4, 0x000c1b36 }, { 0x10, 4, 0 },          { 0x14, 4, 0 },
		{ 0x18, 4, 0x00ffffff }, { 0x1c, 2, 0xf0f0 },     { 0x20, 4, 0xfff0fff0 },
		{ 0x24, 4, 0xfff1fff1 }, { 0x28, 4, 0xffffffff }, { 0x2c, 4, 0xffffffff },
		{ 0x30, 4, 0 },          { 0x38, 4, 0 },          { 0x3e, 2, 0x43 },
		{ 0x58, 2, 0x1729 },     { 0x50, 2, 0x00d0 },     { 0x54, 4, 0x40073 | 33u << 19 },
	};
	struct platform *p = new_ports();

	for (size_t i = 0; i < ARRAY_SIZE(after_ones); i++) {
		port_write(p, 1, after_ones[i].reg, after_ones[i].size, 0xffffffff);
		cr_assert_eq(port_read(p, 1, after_ones[i].reg, after_ones[i].size),
		             after_ones[i].reads, "register 0x%02x: 0x%x", after_ones[i].reg,
		             port_read(p, 1, after_ones[i].reg, after_ones[i].size));
	}
	end(p);
}

static uint32_t id_at(struct platform *p, unsigned bus, unsigned device)
{
	return (uint32_t)bus_read(&p->m.mmio, ecam(bus, device, 0, 0), 4);
}

Test(pcie_port, routes_by_the_bus_number_that_the_guest_gave)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0");

	plug(p->m.pci, c, pci_place(0, 2));
	cr_assert_eq(id_at(p, 1, 0), 0xffffffff, "nobody has given numbers");
	port_write(p, 2, 0x18, 4, 0x00070700);
	cr_assert_eq(id_at(p, 7, 0), CARD_ID);
	cr_assert_eq(id_at(p, 7, 1), 0xffffffff, "one device");
	cr_assert_eq(id_at(p, 6, 0), 0xffffffff);
	cr_assert_eq(pci_requester(&c->f), 0x0700);
	port_write(p, 2, 0x18, 4, 0x00090800);
	cr_assert_eq(id_at(p, 7, 0), 0xffffffff);
	cr_assert_eq(id_at(p, 8, 0), CARD_ID);
	cr_assert_eq(id_at(p, 9, 0), 0xffffffff, "no bridge leads there");
	cr_assert_eq(pci_requester(&c->f), 0x0800);
	cr_assert_eq(pci_intx_gsi(c->f.slot, 2), pci_intx_gsi(31, 2), "the port's pin");
	end(p);
	cr_assert_eq(c->ejected, 1);
	free(c);
}

Test(pcie_port, bus_numbers_that_make_no_sense)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0"), *d = new_card("net1");

	pci_set(d->f.config, 0, 4, 0x12348086);
	plug(p->m.pci, c, pci_place(0, 1));
	plug(p->m.pci, d, pci_place(0, 2));
	port_write(p, 1, 0x18, 4, 0x00030300);
	port_write(p, 2, 0x18, 4, 0x00030300);
	cr_assert_eq(id_at(p, 3, 0), CARD_ID, "the first has it");
	port_write(p, 1, 0x18, 4, 0x00020300);
	cr_assert_eq(id_at(p, 3, 0), 0x12348086, "a range that ends before it begins has none");
	port_write(p, 2, 0x18, 4, 0x00ff0000);
	cr_assert_eq(id_at(p, 3, 0), 0xffffffff);
	cr_assert_eq(id_at(p, 0, 0), 0x00081b36, "bus 0 is bus 0");
	port_write(p, 2, 0x18, 4, 0xffffffff);
	for (unsigned bus = 1; bus < ARCH_PCI_BUSES; bus++)
		cr_assert_eq(id_at(p, bus, 0), 0xffffffff);
	end(p);
	free(c);
	free(d);
}

Test(pcie_port, forwards_what_its_windows_say)
{
	const uint32_t at = (uint32_t)arch_pci.mmio32.gpa + 0x1000000;
	struct platform *p = new_ports();
	struct card *c = new_card("net0");

	c->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	c->f.bars[1] = (struct pci_bar){ .size = 0x20, .is_io = true };
	c->f.bars[2] = (struct pci_bar){ .size = 0x1000, .is_64 = true, .prefetch = true };
	plug(p->m.pci, c, pci_place(0, 1));
	port_write(p, 1, 0x18, 4, 0x00010100);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(1, 0, 0, 0x10), 4), 0, "the guest places it");
	bus_write(&p->m.mmio, ecam(1, 0, 0, 0x10), 4, at);
	bus_write(&p->m.mmio, ecam(1, 0, 0, 0x14), 4, 0x3000);
	bus_write(&p->m.mmio, ecam(1, 0, 0, 0x18), 4, (uint32_t)arch_pci.mmio64.gpa);
	bus_write(&p->m.mmio, ecam(1, 0, 0, 0x1c), 4, arch_pci.mmio64.gpa >> 32);
	bus_write(&p->m.mmio, ecam(1, 0, 0, 4), 2, 3);
	cr_assert_not(c->f.bars[0].mapped, "its windows are closed");
	port_write(p, 1, 4, 2, 3);
	cr_assert_not(c->f.bars[0].mapped || c->f.bars[1].mapped || c->f.bars[2].mapped);
	port_write(p, 1, 0x20, 4, at | at >> 16);
	cr_assert_eq(bus_read(&p->m.mmio, at + 8, 4), (uint64_t)33 << 16 | 8);
	port_write(p, 1, 0x1c, 2, 0x3030);
	cr_assert_eq(bus_read(&p->m.pio, 0x3004, 4), (uint64_t)33 << 16 | 1 << 12 | 4);
	port_write(p, 1, 0x28, 4, arch_pci.mmio64.gpa >> 32);
	port_write(p, 1, 0x2c, 4, arch_pci.mmio64.gpa >> 32);
	port_write(p, 1, 0x24, 4, 0);
	cr_assert_eq(bus_read(&p->m.mmio, arch_pci.mmio64.gpa, 4), (uint64_t)33 << 16 | 2 << 12);
	port_write(p, 1, 0x2c, 4, 0);
	cr_assert_not(c->f.bars[2].mapped, "the limit is below the base");
	port_write(p, 1, 0x20, 4, (at | at >> 16) + 0x00100010);
	cr_assert_not(c->f.bars[0].mapped, "the window has moved on");
	port_write(p, 1, 0x20, 4, at | at >> 16);
	port_write(p, 1, 4, 2, 1);
	cr_assert(!c->f.bars[0].mapped && c->f.bars[1].mapped, "I/O alone");
	port_write(p, 1, 4, 2, 0);
	cr_assert_not(c->f.bars[1].mapped);
	end(p);
	free(c);
}

Test(pcie_port, places_on_bus_0_stay_clear_of_windows)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0");
	const uint32_t at = (uint32_t)arch_pci.mmio32.gpa;

	port_write(p, 1, 0x20, 4, at | at >> 16);
	c->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug(p->m.pci, c, 1);
	cr_assert_eq(c->f.bars[0].address, at + MIB);
	end(p);
	free(c);
}

/* A window up to where the next multiple of a BAR's size would be 0. */
Test(pcie_port, windows_without_end_leave_room_or_none)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0");
	struct gw_error err = { 0 };

	c->f.bars[0] = (struct pci_bar){ .size = 4 * MIB, .is_64 = true, .prefetch = true };
	port_write(p, 1, 0x24, 4, 0xffe00000 | ((uint32_t)arch_pci.mmio64.gpa >> 16));
	port_write(p, 1, 0x28, 4, arch_pci.mmio64.gpa >> 32);
	port_write(p, 1, 0x2c, 4, 0xffffffff);
	plug(p->m.pci, c, 1);
	cr_assert(within(c->f.bars[0].address, arch_pci.mmio32), "0x%llx",
	          (unsigned long long)c->f.bars[0].address);
	pci_unplug_slot(p->m.pci, 1);
	port_write(p, 1, 0x24, 4, 0xffe00000);
	port_write(p, 1, 0x28, 4, 0);
	cr_assert_eq(pci_plug(p->m.pci, &c->f, 1, false, &err), -ENOSPC);
	port_write(p, 1, 0x24, 4, 0xfff00000);
	cr_assert_eq(pci_plug(p->m.pci, &c->f, 1, false, &err), -ENOSPC);
	end(p);
	free(c);
}

Test(pcie_port, a_card_is_at_the_end_of_its_link)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0"), *d = new_card("net1");

	pci_set(c->f.config, 0x40, 4, 0x00920010);
	memcpy(d->f.config, c->f.config, sizeof(d->f.config));
	plug(p->m.pci, c, pci_place(0, 1));
	plug(p->m.pci, d, 2);
	cr_assert_eq(pci_get(c->f.config, 0x42, 2), 0x0002, "no integrated endpoint");
	cr_assert_eq(pci_get(c->f.config, 0x4c, 4), 0x11);
	cr_assert_eq(pci_get(c->f.config, 0x52, 2), 0x11);
	cr_assert_eq(pci_get(d->f.config, 0x42, 2), 0x0092);
	cr_assert_eq(pci_get(d->f.config, 0x4c, 4), 0);
	end(p);
	free(c);
	free(d);
}

static double number(const cJSON *json, const char *name)
{
	const cJSON *item = cJSON_GetObjectItem(json, name);

	cr_assert(cJSON_IsNumber(item), "%s", name);
	return item->valuedouble;
}

Test(pcie_port, query_pci_shows_what_is_behind)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0");
	const cJSON *port, *bridge, *bus, *behind;
	cJSON *json;
	char *text;

	plug(p->m.pci, c, pci_place(0, 2));
	port_write(p, 2, 0x18, 4, 0x00070700);
	port_write(p, 2, 0x20, 4, 0xc020c010);
	text = pci_describe(p->m.pci);
	json = cJSON_Parse(text);
	cr_assert_eq(cJSON_GetArraySize(json), 1);
	port = cJSON_GetObjectItem(cJSON_GetArrayItem(json, 0), "devices");
	cr_assert_eq(cJSON_GetArraySize(port), 3, "%s", text);
	port = cJSON_GetArrayItem(port, 2);
	cr_assert_eq(number(port, "slot"), 31);
	cr_assert_eq(number(port, "function"), 1);
	bridge = cJSON_GetObjectItem(port, "pci_bridge");
	bus = cJSON_GetObjectItem(bridge, "bus");
	cr_assert_eq(number(bus, "secondary"), 7);
	cr_assert_eq(number(cJSON_GetObjectItem(bus, "memory_range"), "base"), 0xc0100000);
	cr_assert_eq(number(cJSON_GetObjectItem(bus, "memory_range"), "limit"), 0xc02fffff);
	behind = cJSON_GetObjectItem(bridge, "devices");
	cr_assert_eq(cJSON_GetArraySize(behind), 1);
	behind = cJSON_GetArrayItem(behind, 0);
	cr_assert_eq(number(behind, "bus"), 7);
	cr_assert_eq(number(behind, "slot"), 0);
	cr_assert_str_eq(cJSON_GetObjectItem(behind, "qdev_id")->valuestring, "net0");
	cJSON_Delete(json);
	free(text);
	end(p);
	free(c);
}

Test(pcie_port, pins_are_high_while_an_event_waits)
{
	struct pins pins = { 0 };
	struct platform *p = new_ports_with_pins(&pins);
	struct card *c = new_card("net0");
	struct gw_error err;

	port_write(p, 1, SLTCTL, 2, 0x0700 | ABPE | HPIE);
	cr_assert_eq(pci_plug(p->m.pci, &c->f, pci_place(0, 1), true, &err), 0);
	cr_assert_eq(pins.level, 1);
	cr_assert(port_read(p, 1, 6, 2) & 8, "and the status says so");
	port_write(p, 1, 4, 2, 0x400);
	cr_assert_eq(pins.level, 0, "INTx disabled");
	port_write(p, 1, 4, 2, 0);
	cr_assert_eq(pins.level, 1);
	port_write(p, 1, SLTSTA, 2, PDC);
	cr_assert_eq(pins.level, 1, "the button still");
	port_write(p, 1, SLTSTA, 2, ABP);
	cr_assert_eq(pins.level, 0);
	port_write(p, 1, SLTCTL, 2, 0x0700 | ABPE);
	pcie_port_ask(pcie_port_above(p->m.pci, pci_place(0, 1)));
	cr_assert_eq(pins.level, 0, "not without the interrupt's own bit");
	port_write(p, 1, SLTCTL, 2, 0x0700 | ABPE | HPIE);
	cr_assert_eq(pins.level, 1);
	pci_reset(p->m.pci);
	cr_assert_eq(pins.level, 0);
	end(p);
	free(c);
}

Test(pcie_port, no_port_interrupts_by_the_pin_that_devices_behind_ports_have)
{
	struct platform *p = platform_new();

	p->m.config.pci.root_ports = PCI_PORTS_MAX;
	new_bus(p);
	for (unsigned port = 1; port <= PCI_PORTS_MAX; port++) {
		const unsigned slot = PCI_PORT_SLOT(port), function = (port - 1) % PCI_FUNCTIONS;
		const unsigned pin =
		        (unsigned)bus_read(&p->m.mmio, ecam(0, slot, function, 0x3d), 1);

		cr_assert(pin >= 1 && pin <= 4, "port %u: pin %u", port, pin);
		for (unsigned other = 1; other <= PCI_PORTS_MAX; other++)
			cr_assert_neq(pci_intx_gsi(slot, pin), pci_intx_gsi(pci_place(0, other), 1),
			              "ports %u, %u", port, other);
	}
	end(p);
}
