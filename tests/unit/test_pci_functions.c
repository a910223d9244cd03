/* SPDX-License-Identifier: Apache-2.0 */
/* Slots with several functions, expansion ROMs, power states, BARs of unusual sizes. */
#include "pci_card.h"

static uint32_t fn_read(struct platform *p, unsigned slot, unsigned function, unsigned reg)
{
	return (uint32_t)bus_read(&p->m.mmio, ecam(0, slot, function, reg), 4);
}

static void plug_as(struct pci_bus *bus, struct card *c, unsigned slot, unsigned number)
{
	c->f.number = (uint8_t)number;
	plug(bus, c, slot);
}

Test(pci_functions, several_functions_in_a_slot)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b"), *c = new_card("c");

	b->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug_as(bus, b, 6, 1);
	cr_assert_eq(fn_read(p, 6, 1, 0), 0xffffffff, "none before function 0");
	cr_assert_eq(pci_present(bus), 1);
	cr_assert_eq(b->f.config[0x0e], 0, "alone so far");
	plug_as(bus, a, 6, 0);
	cr_assert_eq(pci_present(bus), 1u << 6 | 1);
	cr_assert_eq(fn_read(p, 6, 0, 0), 0x10d38086);
	cr_assert_eq(fn_read(p, 6, 1, 0), 0x10d38086);
	cr_assert_eq(fn_read(p, 6, 2, 0), 0xffffffff);
	cr_assert_eq(fn_read(p, 6, 0, 0x0c) >> 16 & 0x80, 0x80, "the header tells");
	cr_assert_eq(fn_read(p, 6, 1, 0x0c) >> 16 & 0x80, 0x80);
	bus_write(&p->m.mmio, ecam(0, 6, 1, 4), 4, 2);
	cr_assert_eq(bus_read(&p->m.mmio, b->f.bars[0].address + 8, 4), 0x60008);
	plug_as(bus, c, 6, 7);
	pci_guest_eject(bus, 6);
	cr_assert(a->ejected && b->ejected && c->ejected, "together");
	cr_assert_eq(pci_present(bus), 1);
	end(p);
	free(a);
	free(b);
	free(c);
}

Test(pci_functions, functions_are_refused_where_the_guest_would_not_find_them)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");
	struct gw_error err = { 0 };

	b->f.number = 1;
	cr_assert_eq(pci_plug(bus, &b->f, PCI_SLOT_ANY, false, &err), -EINVAL);
	cr_assert(strstr(err.text, "function 1 needs a slot"), "%s", err.text);
	b->f.number = 8;
	cr_assert_eq(pci_plug(bus, &b->f, 3, false, &err), -EINVAL);
	plug_as(bus, a, 3, 0);
	p->m.started = true;
	b->f.number = 1;
	cr_assert_eq(pci_plug(bus, &b->f, 3, false, &err), -EBUSY);
	cr_assert(strstr(err.text, "come first"), "%s", err.text);
	end(p);
	free(a);
	free(b);
}

Test(pci_functions, functions_hide_when_function_0_is_gone)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");
	uint64_t at;

	b->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug_as(bus, a, 6, 0);
	plug_as(bus, b, 6, 2);
	at = b->f.bars[0].address;
	bus_write(&p->m.mmio, ecam(0, 6, 2, 4), 4, 2);
	cr_assert(b->f.bars[0].mapped);
	pci_unplug_now(bus, &a->f);
	cr_assert_eq(fn_read(p, 6, 2, 0), 0xffffffff);
	cr_assert_eq(bus_read(&p->m.mmio, at, 4), 0xffffffff);
	cr_assert_eq(pci_slot(bus, 6, 2), &b->f);
	cr_assert_eq(b->f.config[0x0e], 0, "the only one again");
	end(p);
	cr_assert_eq(b->ejected, 1);
	free(a);
	free(b);
}

Test(pci_functions, state_of_functions)
{
	struct platform *p = platform_new(), *q = platform_new();
	struct card *c[4] = { new_card("a"), new_card("b"), new_card("a"), new_card("b") };
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	plug_as(new_bus(p), c[0], 5, 0);
	plug_as(p->m.pci, c[1], 5, 3);
	c[1]->f.ejecting = true;
	kept_save(kept, pci_participant(p->m.pci));
	plug_as(new_bus(q), c[2], 5, 0);
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	cr_assert(strstr(err.text, "slot 5.3: b in the state, empty here"), "%s", err.text);
	plug_as(q->m.pci, c[3], 5, 3);
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), 0, "%s", err.text);
	cr_assert(c[3]->f.ejecting);
	cr_assert_eq(kept->records[1].len, 36);
	kept->records[1].bytes[0] = 32; /* no such slot */
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	kept->records[1].bytes[0] = 5;
	kept->records[1].bytes[1] = 8;
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	kept->records[1].len = 35;
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	end(p);
	end(q);
	for (unsigned i = 0; i < 4; i++)
		free(c[i]);
	free(kept);
}

/* The only one that needs two enable bits (PCI 3.0, 6.2.5.2). */
Test(pci_functions, expansion_rom)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");
	struct gw_error err = { 0 };
	uint32_t at;

	c->f.bars[PCI_ROM] = (struct pci_bar){ .size = 1024 };
	cr_assert_eq(pci_plug(bus, &c->f, 1, false, &err), -EINVAL);
	cr_assert(strstr(err.text, "expansion ROM"), "%s", err.text);
	c->f.bars[PCI_ROM].size = 0x10000;
	plug(bus, c, 1);
	at = cfg_read(p, 1, 0x30);
	cr_assert(within(at, arch_pci.mmio32) && !(at & 1));
	cfg_write(p, 1, 0x30, 0xfffff800);
	cr_assert_eq(cfg_read(p, 1, 0x30), 0xffff0000);
	cfg_write(p, 1, 0x30, at | 1);
	cr_assert_eq(bus_read(&p->m.mmio, at + 4, 4), 0xffffffff, "memory decoding is off");
	cfg_write(p, 1, 4, 2);
	cr_assert_eq(bus_read(&p->m.mmio, at + 4, 4), 0x16004);
	cfg_write(p, 1, 0x30, at);
	cr_assert_eq(bus_read(&p->m.mmio, at + 4, 4), 0xffffffff);
	end(p);
	free(c);
}

Test(pci_functions, nothing_is_decoded_outside_of_D0)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");
	uint64_t at;

	c->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	c->f.pm_cap = 0x40;
	pci_set(c->f.wmask, 0x44, 2, 3);
	plug(bus, c, 1);
	at = c->f.bars[0].address;
	cfg_write(p, 1, 4, 2);
	cr_assert_eq(bus_read(&p->m.mmio, at, 4), 0x10000);
	cfg_write(p, 1, 0x44, 3);
	cr_assert_eq(bus_read(&p->m.mmio, at, 4), 0xffffffff);
	cr_assert_eq(cfg_read(p, 1, 0), 0x10d38086, "but configuration space is");
	cfg_write(p, 1, 0x44, 0);
	cr_assert_eq(bus_read(&p->m.mmio, at, 4), 0x10000);
	end(p);
	free(c);
}

Test(pci_functions, a_small_bar_knows_whether_its_page_is_its_own)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");

	a->f.bars[0] = (struct pci_bar){ .size = 0x100 };
	b->f.bars[0] = (struct pci_bar){ .size = 0x100 };
	plug(bus, a, 1);
	plug(bus, b, 2);
	cfg_write(p, 1, 4, 2);
	cfg_write(p, 2, 4, 2);
	cr_assert(a->f.bars[0].alone && b->f.bars[0].alone);
	cfg_write(p, 2, 0x10, (uint32_t)a->f.bars[0].address + 0x200);
	cr_assert(!a->f.bars[0].alone && !b->f.bars[0].alone);
	cr_assert(a->f.bars[0].mapped && b->f.bars[0].mapped);
	cr_assert_eq(a->changes, 3, "mapped, alone, not alone");
	cfg_write(p, 2, 4, 0);
	cr_assert(a->f.bars[0].alone);
	end(p);
	free(a);
	free(b);
}

Test(pci_functions, room_for_large_bars)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c[5];
	struct gw_error err = { 0 };

	for (unsigned i = 0; i < 5; i++) {
		c[i] = new_card("gpu");
		c[i]->f.bars[2] =
		        (struct pci_bar){ .size = 64 * GIB, .is_64 = true, .prefetch = true };
	}
	for (unsigned i = 0; i < 4; i++) {
		plug(bus, c[i], i + 1);
		cr_assert_eq(c[i]->f.bars[2].address % (64 * GIB), 0);
	}
	cr_assert_eq(pci_plug(bus, &c[4]->f, 5, false, &err), -ENOSPC);
	cr_assert(strstr(err.text, "gpu: no room for BAR 2 (0x1000000000 bytes)"), "%s", err.text);
	end(p);
	for (unsigned i = 0; i < 5; i++)
		free(c[i]);
}
