/* SPDX-License-Identifier: Apache-2.0 */
#include "pci_card.h"

#include <cjson/cJSON.h>
#include <stdio.h>

Test(pci, ecam_addresses)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");

	plug(bus, c, 31);
	cr_assert_eq(cfg_read(p, 31, 0), 0x10d38086);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31, 0, 2), 2), 0x10d3);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31, 0, 3), 1), 0x10);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31, 1, 0), 4), 0xffffffff, "function 1");
	cr_assert_eq(cfg_read(p, 30, 0), 0xffffffff, "empty slot");
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31, 0, 2), 4), 0xffffffff, "unaligned");
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31, 0, 0), 8), UINT64_MAX, "too wide");
	cr_assert_eq(cfg_read(p, 31, 0xffc), 0, "the last register");
	cr_assert_eq(cfg_read(p, 0, 0), 0x00081b36, "host bridge");
	cr_assert_eq(cfg_read(p, 0, 8), 0x06000000);
	cr_assert_eq(pci_present(bus), 1u << 31 | 1u);
	end(p);
	cr_assert_eq(c->ejected, 1);
	free(c);
}

Test(pci, masks)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");

	pci_set(c->f.wmask, 0x50, 4, 0x00ff00ff);
	pci_set(c->f.config, 0x50, 4, 0x12345678);
	pci_set(c->f.w1c, 0x54, 1, 0x0f);
	c->f.config[0x54] = 0xff;
	plug(bus, c, PCI_SLOT_ANY);
	cr_assert_eq(c->f.slot, 1);
	cfg_write(p, 1, 0x50, 0xaabbccdd);
	cr_assert_eq(cfg_read(p, 1, 0x50), 0x12bb56dd);
	bus_write(&p->m.mmio, ecam(0, 1, 0, 0x54), 1, 0x35);
	cr_assert_eq(c->f.config[0x54], 0xfa);
	cfg_write(p, 1, 0, 0);
	cr_assert_eq(cfg_read(p, 1, 0), 0x10d38086);
	cr_assert_eq(c->written, 3);
	cfg_write(p, 1, 0x3c, 0xffffffff);
	cr_assert_eq(cfg_read(p, 1, 0x3c), 0xff, "interrupt line is the guest's");
	cfg_write(p, 1, 4, 0xffffffff);
	cr_assert_eq(cfg_read(p, 1, 4) & 0xffff, 0x0547);
	end(p);
	free(c);
}

Test(pci, bar_sizing)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");

	c->f.bars[0] = (struct pci_bar){ .size = 0x20000 };
	c->f.bars[1] = (struct pci_bar){ .size = 0x20, .is_io = true };
	c->f.bars[2] = (struct pci_bar){ .size = 8 * GIB, .is_64 = true, .prefetch = true };
	c->f.bars[4] = (struct pci_bar){ .size = 0x4000, .is_64 = true };
	plug(bus, c, 1);
	for (unsigned bar = 0; bar < 6; bar++)
		cfg_write(p, 1, 0x10 + bar * 4, 0xffffffff);
	cr_assert_eq(cfg_read(p, 1, 0x10), 0xfffe0000);
	cr_assert_eq(cfg_read(p, 1, 0x14), 0xffffffe1);
	cr_assert_eq(cfg_read(p, 1, 0x18), 0x0000000c);
	cr_assert_eq(cfg_read(p, 1, 0x1c), 0xfffffffe);
	cr_assert_eq(cfg_read(p, 1, 0x20), 0xffffc004);
	cr_assert_eq(cfg_read(p, 1, 0x24), 0xffffffff);
	cr_assert_eq(c->changes, 0, "decoding is off");
	end(p);
	free(c);
}

Test(pci, bars_are_placed_apart_in_their_windows)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *cards[31];
	struct bus seen[2];

	bus_init(&seen[0]);
	bus_init(&seen[1]);
	for (unsigned i = 0; i < 31; i++) {
		struct card *c = cards[i] = new_card("x");

		c->f.bars[0] = (struct pci_bar){ .size = 16u << i % 12 };
		c->f.bars[1] = (struct pci_bar){ .size = 0x20, .is_io = true };
		c->f.bars[2] =
		        (struct pci_bar){ .size = 1 * MIB, .is_64 = true, .prefetch = i % 2 };
		c->f.bars[4] = (struct pci_bar){ .size = 64 * MIB, .is_64 = true };
		plug(bus, c, PCI_SLOT_ANY);
		for (unsigned b = 0; b < 6; b++) {
			struct pci_bar *bar = &c->f.bars[b];
			uint64_t at = bar->address;

			if (!bar->size)
				continue;
			cr_assert_eq(at % bar->size, 0);
			bar->range =
			        (struct bus_range){ .base = at, .size = bar->size, .name = "x" };
			if (!bar->is_io)
				bar->range.size = MAX(bar->size, PAGE_SIZE);
			cr_assert_eq(bus_add(&seen[bar->is_io], &bar->range, NULL), 0);
			if (bar->is_io)
				cr_assert(within(at, arch_pci.io));
			else if (b == 4 || bar->prefetch)
				cr_assert(within(at, arch_pci.mmio64));
			else
				cr_assert(within(at, arch_pci.mmio32));
		}
	}
	bus_fini(&seen[0]);
	bus_fini(&seen[1]);
	end(p);
	for (unsigned i = 0; i < 31; i++)
		free(cards[i]);
}

Test(pci, plug_refuses)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");
	struct gw_error err = { 0 };

	plug(bus, a, 3);
	cr_assert_eq(pci_plug(bus, &b->f, 3, false, &err), -EBUSY);
	cr_assert(strstr(err.text, "taken by a"), "%s", err.text);
	cr_assert_eq(pci_plug(bus, &b->f, 0, false, &err), -EBUSY);
	cr_assert_eq(pci_plug(bus, &b->f, 32, false, &err), -EINVAL);
	b->f.bars[0].size = 3000;
	cr_assert_eq(pci_plug(bus, &b->f, 4, false, &err), -EINVAL);
	b->f.bars[0].size = 1 * GIB;
	cr_assert_eq(pci_plug(bus, &b->f, 4, false, &err), -ENOSPC);
	b->f.bars[0].size = 0;
	b->f.bars[5] = (struct pci_bar){ .size = 0x1000, .is_64 = true };
	cr_assert_eq(pci_plug(bus, &b->f, 4, false, &err), -EINVAL);
	b->f.bars[5].size = 0;
	b->f.bars[0] = (struct pci_bar){ .size = 0x1000, .is_64 = true };
	b->f.bars[1] = (struct pci_bar){ .size = 0x1000 };
	cr_assert_eq(pci_plug(bus, &b->f, 4, false, &err), -EINVAL);
	cr_assert_null(pci_slot(bus, 4, 0));
	end(p);
	free(a);
	free(b);
}

Test(pci, decoding_follows_the_command_register)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");
	uint64_t mem, io;

	c->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	c->f.bars[1] = (struct pci_bar){ .size = 0x20, .is_io = true };
	plug(bus, c, 2);
	mem = c->f.bars[0].address;
	io = c->f.bars[1].address;
	cr_assert_eq(bus_read(&p->m.mmio, mem, 4), 0xffffffff);
	cfg_write(p, 2, 4, 2);
	cr_assert(c->f.bars[0].mapped);
	cr_assert_eq(c->changes, 1);
	cr_assert_eq(bus_read(&p->m.mmio, mem + 0x123, 4), 0x20123);
	cr_assert_eq(bus_read(&p->m.pio, io, 2), 0xffff);
	cfg_write(p, 2, 4, 1);
	cr_assert(!c->f.bars[0].mapped);
	cr_assert_eq(c->changes, 3);
	cr_assert_eq(bus_read(&p->m.pio, io + 4, 4), 0x21004);
	bus_write(&p->m.pio, io, 1, 0x77);
	cr_assert_eq(c->stored, 0x77);
	cr_assert_eq(bus_read(&p->m.mmio, mem, 4), 0xffffffff);
	end(p);
	cr_assert_eq(c->changes, 4, "unmapped before it goes");
	free(c);
}

Test(pci, bars_move)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");
	uint64_t a_home, b_home;

	a->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	b->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug(bus, a, 1);
	plug(bus, b, 2);
	a_home = a->f.bars[0].address;
	b_home = b->f.bars[0].address;
	cfg_write(p, 1, 4, 2);
	cfg_write(p, 2, 4, 2);
	cfg_write(p, 1, 0x10, arch_pci.mmio32.gpa + 0x1000000);
	cr_assert_eq(bus_read(&p->m.mmio, arch_pci.mmio32.gpa + 0x1000000, 4), 0x10000);
	cr_assert_eq(bus_read(&p->m.mmio, a_home, 4), 0xffffffff);
	/* Onto another: not mapped, until that one goes away. */
	cfg_write(p, 1, 0x10, (uint32_t)b_home);
	cr_assert(!a->f.bars[0].mapped);
	cr_assert_eq(bus_read(&p->m.mmio, b_home, 4), 0x20000);
	cfg_write(p, 2, 0x10, (uint32_t)a_home);
	cr_assert_eq(bus_read(&p->m.mmio, b_home, 4), 0x10000);
	cr_assert_eq(bus_read(&p->m.mmio, a_home, 4), 0x20000);
	/* Out of the windows. */
	cfg_write(p, 1, 0x10, 0xfee00000);
	cr_assert(!a->f.bars[0].mapped);
	cr_assert_eq(cfg_read(p, 1, 0x10), 0xfee00000, "but it reads back");
	cfg_write(p, 1, 0x10, arch_pci.ecam.gpa);
	cr_assert(!a->f.bars[0].mapped);
	cr_assert_eq(cfg_read(p, 1, 0), 0x10d38086, "the ECAM is not shadowed");
	cfg_write(p, 1, 0x10, (uint32_t)b_home);
	cr_assert(a->f.bars[0].mapped);
	end(p);
	free(a);
	free(b);
}

Test(pci, bars_of_64_bits_move_in_halves)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("a");

	c->f.bars[2] = (struct pci_bar){ .size = 0x10000, .is_64 = true, .prefetch = true };
	plug(bus, c, 1);
	cr_assert_geq(c->f.bars[2].address, arch_pci.mmio64.gpa);
	cfg_write(p, 1, 4, 2);
	cr_assert(c->f.bars[2].mapped);
	cfg_write(p, 1, 0x1c, 0x50);
	cr_assert_eq(bus_read(&p->m.mmio, 0x5000000000 + (c->f.bars[2].address & 0xffffffff), 4),
	             0x12000);
	cfg_write(p, 1, 0x18, 0x12340000);
	cr_assert_eq(bus_read(&p->m.mmio, 0x5012340004, 4), 0x12004);
	cfg_write(p, 1, 0x1c, 0xffffffff);
	cr_assert(!c->f.bars[2].mapped);
	end(p);
	free(c);
}

Test(pci, reset)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *a = new_card("a"), *b = new_card("b");
	uint64_t home;

	a->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug(bus, a, 1);
	plug(bus, b, 2);
	home = a->f.bars[0].address;
	cfg_write(p, 1, 4, 2);
	cfg_write(p, 1, 0x10, arch_pci.mmio32.gpa + 0x1000000);
	cfg_write(p, 0, 4, 7);
	b->f.ejecting = true;
	pci_reset(bus);
	cr_assert_eq(a->resets, 1);
	cr_assert(!a->f.bars[0].mapped);
	cr_assert_eq(a->f.bars[0].address, home);
	cr_assert_eq(cfg_read(p, 1, 4) & 0xffff, 0);
	cr_assert_eq(cfg_read(p, 0, 4) & 0xffff, 0);
	cr_assert_eq(b->ejected, 1);
	cr_assert_eq(b->resets, 0);
	cr_assert_null(pci_slot(bus, 2, 0));
	end(p);
	free(a);
	free(b);
}

static void on_eject(void *opaque, unsigned slot)
{
	*(uint32_t *)opaque |= 1u << slot;
}

Test(pci, the_guest_ejects)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("a"), *d = new_card("d");
	struct gw_error err = { 0 };
	struct kept *kept = calloc(1, sizeof(*kept));
	uint32_t told = 0;

	c->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug(bus, c, 1);
	plug(bus, d, 2);
	pci_guest_eject(bus, 2);
	cr_assert_eq(d->ejected, 1, "nobody to tell");
	p->m.notify = (struct machine_notify){ .opaque = &told, .eject = on_eject };
	pci_guest_eject(bus, 0);
	pci_guest_eject(bus, 9);
	cr_assert_eq(told, 0);
	cfg_write(p, 1, 4, 2);
	pci_guest_eject(bus, 1);
	cr_assert_eq(told, 2);
	cr_assert_eq(c->ejected, 0);
	cr_assert_eq(c->changes, 2, "unmapped at once");
	cr_assert_eq(cfg_read(p, 1, 0), 0xffffffff, "gone for the guest");
	cr_assert_eq(pci_present(bus), 1);
	cr_assert_eq(pci_slot(bus, 1, 0), &c->f, "but not for the owner");
	cr_assert_eq(pci_request_unplug(bus, &c->f, &err), -ENODEV);
	kept->sink.ops = &kept_ops;
	cr_assert_eq(pci_participant(bus)->ops->save(pci_participant(bus), &kept->sink, &err),
	             -EBUSY);
	cr_assert(strstr(err.text, "a from slot 1"), "%s", err.text);
	told = 0;
	pci_guest_eject(bus, 1);
	cr_assert_eq(told, 0, "once");
	pci_unplug_now(bus, &c->f);
	cr_assert_eq(c->ejected, 1);
	cr_assert_null(pci_slot(bus, 1, 0));
	/* A reset comes before the owner. */
	plug(bus, d, 1);
	pci_guest_eject(bus, 1);
	pci_reset(bus);
	cr_assert_eq(d->ejected, 2);
	free(kept);
	end(p);
	free(c);
	free(d);
}

Test(pci, function_state)
{
	struct platform *p = platform_new(), *q = platform_new();
	struct card *a = new_card("a"), *b = new_card("a");
	uint8_t state[PCI_FUNCTION_STATE_SIZE], bad[PCI_FUNCTION_STATE_SIZE];
	struct gw_error err = { 0 };

	a->f.bars[0] = b->f.bars[0] = (struct pci_bar){ .size = 0x1000 };
	plug(new_bus(p), a, 1);
	plug(new_bus(q), b, 1);
	cfg_write(p, 1, 0x10, arch_pci.mmio32.gpa + 0x5000000);
	cfg_write(p, 1, 4, 2);
	pci_function_save(&a->f, state);
	cr_assert_eq(pci_function_load(&b->f, state, &err), 0, "%s", err.text);
	cr_assert_eq(bus_read(&q->m.mmio, arch_pci.mmio32.gpa + 0x5000000, 4), 0x10000);
	cr_assert_eq(b->changes, 1);
	static const struct {
		unsigned offset;
		uint8_t flip;
		const char *names;
	} faults[] = {
		{ 0x02, 1, "device" },       { 0x0b, 1, "class" },
		{ 0x10, 4, "BAR" },          { 0x40, 1, "capability" },
		{ 0x34, 4, "capabilities" }, { 0x100, 1, "extended capability" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		memcpy(bad, state, sizeof(bad));
		bad[faults[i].offset] ^= faults[i].flip;
		cr_assert_eq(pci_function_load(&b->f, bad, &err), -EINVAL, "%s", faults[i].names);
		cr_assert(strstr(err.text, faults[i].names), "%s", err.text);
	}
	memcpy(bad, state, sizeof(bad));
	bad[0x90] = 0x55; /* what the guest cannot write does not come from the state */
	cr_assert_eq(pci_function_load(&b->f, bad, &err), 0);
	cr_assert_eq(b->f.config[0x90], 0);
	end(p);
	end(q);
	free(a);
	free(b);
}

Test(pci, bus_state)
{
	struct platform *p = platform_new(), *q = platform_new();
	struct card *a = new_card("net0"), *b = new_card("net0"), *c = new_card("tty0");
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	plug(new_bus(p), a, 5);
	a->f.ejecting = true;
	cfg_write(p, 0, 4, 6);
	kept_save(kept, pci_participant(p->m.pci));
	plug(new_bus(q), c, 7);
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	cr_assert(strstr(err.text, "slot 5.0: net0"), "%s", err.text);
	plug(q->m.pci, b, 5);
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	cr_assert(strstr(err.text, "slot 7.0") && strstr(err.text, "tty0"), "%s", err.text);
	pci_unplug_now(q->m.pci, &c->f);
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), 0, "%s", err.text);
	cr_assert(b->f.ejecting);
	cr_assert_eq(cfg_read(q, 0, 4) & 0xffff, 6);
	snprintf(b->f.name, sizeof(b->f.name), "other");
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	kept->records[0].len--;
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	kept->records[0].type = 77;
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), -EINVAL);
	end(p);
	end(q);
	free(kept);
	free(a);
	free(b);
	free(c);
}

Test(pci, intx)
{
	cr_assert_eq(pci_intx_gsi(0, 1), 16);
	cr_assert_eq(pci_intx_gsi(3, 2), 20);
	cr_assert_eq(pci_intx_gsi(31, 4), 18);
}

Test(pci, describe)
{
	struct platform *p = platform_new();
	struct pci_bus *bus = new_bus(p);
	struct card *c = new_card("net0");
	char *text;
	cJSON *json, *device, *region;

	c->f.bars[2] = (struct pci_bar){ .size = 0x10000, .is_64 = true, .prefetch = true };
	c->f.config[0x3d] = 1;
	plug(bus, c, 4);
	cfg_write(p, 4, 4, 2);
	text = pci_describe(bus);
	cr_assert_not_null(text);
	json = cJSON_Parse(text);
	cr_assert_not_null(json);
	device = cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetArrayItem(json, 0), "devices"), 1);
	cr_assert_str_eq(cJSON_GetObjectItem(device, "qdev_id")->valuestring, "net0");
	cr_assert_eq(cJSON_GetObjectItem(device, "slot")->valueint, 4);
	cr_assert_eq(cJSON_GetObjectItem(cJSON_GetObjectItem(device, "id"), "vendor")->valueint,
	             0x8086);
	cr_assert_str_eq(
	        cJSON_GetObjectItem(cJSON_GetObjectItem(device, "class_info"), "desc")->valuestring,
	        "Ethernet controller");
	region = cJSON_GetArrayItem(cJSON_GetObjectItem(device, "regions"), 0);
	cr_assert_eq(cJSON_GetObjectItem(region, "bar")->valueint, 2);
	cr_assert_eq(cJSON_GetObjectItem(region, "address")->valuedouble,
	             (double)c->f.bars[2].address);
	cJSON_Delete(json);
	free(text);
	end(p);
	free(c);
}
