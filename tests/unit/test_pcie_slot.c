/* SPDX-License-Identifier: Apache-2.0 */
/* The slot behind a root port: cards that come, are asked for, go; in the middle of it reset and
 * saved. */
#include "pcie_slot.h"

#define PORT 1
#define PLACE pci_place(0, PORT)

static uint32_t status(struct platform *p)
{
	return port_read(p, PORT, SLTSTA, 2);
}

static void clear(struct platform *p)
{
	port_write(p, PORT, SLTSTA, 2, 0xffff);
}

static void control(struct platform *p, uint32_t value)
{
	port_write(p, PORT, SLTCTL, 2, value);
}

static bool is_there(struct platform *p)
{
	return bus_read(&p->m.mmio, ecam(1, 0, 0, 0), 4) == CARD_ID;
}

static void plug_hot(struct platform *p, struct card *c)
{
	struct gw_error err = { 0 };

	cr_assert_eq(pci_plug(p->m.pci, &c->f, PLACE, true, &err), 0, "%s", err.text);
}

static void ask(struct platform *p, struct card *c)
{
	struct gw_error err = { 0 };

	cr_assert_eq(pci_request_unplug(p->m.pci, &c->f, &err), 0, "%s", err.text);
}

/* Ports, and a card in use in the first one's slot. */
static struct platform *with_card(struct card **c)
{
	struct platform *p = new_ports();

	*c = new_card("net0");
	plug(p->m.pci, *c, PLACE);
	port_write(p, PORT, 0x18, 4, 0x00010100);
	cr_assert(is_there(p));
	return p;
}

static void done(struct platform *p, struct card *c)
{
	end(p);
	free(c);
}

Test(pcie_slot, power_on)
{
	struct card *c;
	struct platform *p = with_card(&c);

	cr_assert_eq(status(p), PDS, "no event");
	cr_assert_eq(port_read(p, PORT, SLTCTL, 2), IND_ON);
	cr_assert(port_read(p, PORT, LNKSTA, 2) & LINK_ACTIVE);
	cr_assert_eq(port_read(p, 2, SLTSTA, 2), 0);
	cr_assert_eq(port_read(p, 2, SLTCTL, 2), IND_OFF | POWER_OFF);
	cr_assert_not(port_read(p, 2, LNKSTA, 2) & LINK_ACTIVE);
	done(p, c);
}

Test(pcie_slot, a_card_comes)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0");

	port_write(p, PORT, 0x18, 4, 0x00010100);
	plug_hot(p, c);
	cr_assert_eq(status(p), ABP | PDC | PDS);
	cr_assert_not(is_there(p), "without power");
	clear(p);
	cr_assert_eq(status(p), PDS);
	control(p, IND_BLINK);
	cr_assert_eq(status(p), PDS | DLLSC);
	cr_assert(port_read(p, PORT, LNKSTA, 2) & LINK_ACTIVE);
	cr_assert(is_there(p));
	control(p, IND_ON);
	cr_assert(is_there(p));
	cr_assert_eq(c->resets, 0);
	done(p, c);
}

Test(pcie_slot, functions_above_0_come_first)
{
	struct platform *p = new_ports();
	struct card *c = new_card("a0"), *d = new_card("a1");

	p->m.started = true;
	d->f.number = 1;
	plug_hot(p, d);
	cr_assert_eq(status(p), 0, "not before function 0");
	plug_hot(p, c);
	cr_assert_eq(status(p), ABP | PDC | PDS);
	control(p, IND_ON);
	port_write(p, PORT, 0x18, 4, 0x00010100);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(1, 0, 1, 0), 4), CARD_ID);
	cr_assert_eq(pci_requester(&d->f), 0x0101);
	ask(p, c);
	control(p, IND_BLINK);
	control(p, IND_BLINK | POWER_OFF);
	cr_assert(c->ejected == 1 && d->ejected == 1, "they go together");
	cr_assert_eq(status(p) & PDS, 0);
	done(p, c);
	free(d);
}

Test(pcie_slot, a_card_is_asked_for_and_goes)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	cr_assert_eq(status(p), ABP | PDS);
	clear(p);
	control(p, IND_BLINK);
	cr_assert(is_there(p), "the guest still uses it");
	ask(p, c);
	cr_assert_eq(status(p), PDS, "a second press would be a change of mind");
	cr_assert_eq(c->ejected, 0);
	control(p, IND_BLINK | POWER_OFF);
	cr_assert_eq(c->ejected, 1);
	cr_assert_eq(c->resets, 0);
	cr_assert_eq(status(p), PDC | DLLSC);
	cr_assert_not(is_there(p));
	cr_assert_not(port_read(p, PORT, LNKSTA, 2) & LINK_ACTIVE);
	plug_hot(p, c);
	control(p, IND_ON);
	cr_assert(is_there(p), "the slot can be filled again");
	done(p, c);
}

Test(pcie_slot, asked_again_when_the_guest_has_not_listened)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	clear(p);
	ask(p, c);
	cr_assert_eq(status(p), ABP | PDS);
	done(p, c);
}

/* It still takes the card in when it is asked: what it says next is about that. */
Test(pcie_slot, asked_while_the_card_is_being_taken_in)
{
	struct platform *p = new_ports(), *q = new_ports();
	struct card *c = new_card("net0"), *d = new_card("net0");
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	port_write(p, PORT, 0x18, 4, 0x00010100);
	plug_hot(p, c);
	plug(q->m.pci, d, PLACE);
	clear(p);
	control(p, IND_OFF);
	ask(p, c);
	control(p, IND_BLINK);
	clear(p);
	kept_save(kept, pci_participant(p->m.pci));
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), 0, "%s", err.text);
	control(p, IND_ON);
	control(q, IND_ON);
	cr_assert(is_there(p) && is_there(q));
	control(p, IND_BLINK);
	control(q, IND_BLINK);
	control(p, IND_BLINK | POWER_OFF);
	cr_assert_eq(c->ejected, 1);
	control(q, IND_ON);
	control(q, IND_ON | POWER_OFF);
	cr_assert_eq(d->ejected, 0, "and then it has a change of mind");
	free(kept);
	done(p, c);
	done(q, d);
}

Test(pcie_slot, kept_before_the_guest_has_heard)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	pci_keep(p->m.pci, PLACE);
	cr_assert_eq(status(p), PDS);
	control(p, IND_ON | POWER_OFF);
	cr_assert_eq(c->ejected, 0, "nobody wants it any more");
	done(p, c);
}

Test(pcie_slot, kept_while_the_guest_blinks)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	clear(p);
	control(p, IND_BLINK);
	pci_keep(p->m.pci, PLACE);
	cr_assert_eq(status(p), ABP | PDS, "pressed again");
	clear(p);
	control(p, IND_ON);
	control(p, IND_ON | POWER_OFF);
	cr_assert_eq(c->ejected, 0);
	done(p, c);
}

Test(pcie_slot, kept_too_late)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	clear(p);
	control(p, IND_BLINK);
	pci_keep(p->m.pci, PLACE);
	control(p, IND_BLINK | POWER_OFF);
	cr_assert_eq(c->ejected, 1, "the guest has let go of it");
	done(p, c);
}

Test(pcie_slot, power_that_nobody_asked_for_keeps_the_card)
{
	struct card *c;
	struct platform *p = with_card(&c);

	bus_write(&p->m.mmio, ecam(1, 0, 0, 0x3c), 1, 0x55);
	control(p, IND_OFF | POWER_OFF);
	cr_assert_eq(c->ejected, 0);
	cr_assert_eq(c->resets, 1);
	cr_assert_eq(status(p), PDS | DLLSC);
	cr_assert_not(is_there(p));
	control(p, IND_ON);
	cr_assert(is_there(p));
	cr_assert_eq(bus_read(&p->m.mmio, ecam(1, 0, 0, 0x3c), 1), 0, "it begins anew");
	cr_assert_eq(c->resets, 1);
	control(p, IND_OFF | POWER_OFF);
	ask(p, c);
	cr_assert_eq(c->ejected, 1, "the guest holds nothing of a card without power");
	done(p, c);
}

Test(pcie_slot, link_off_and_bus_reset)
{
	struct card *c;
	struct platform *p = with_card(&c);

	port_write(p, PORT, LNKCTL, 2, 0x10);
	cr_assert_not(is_there(p));
	cr_assert_eq(status(p), PDS | DLLSC);
	port_write(p, PORT, LNKCTL, 2, 0);
	cr_assert(is_there(p));
	cr_assert_eq(c->resets, 1);
	port_write(p, PORT, 0x3e, 2, 0x40);
	cr_assert_not(is_there(p));
	cr_assert_eq(c->resets, 2);
	port_write(p, PORT, 0x3e, 2, 0);
	cr_assert(is_there(p));
	done(p, c);
}

Test(pcie_slot, taken_by_force)
{
	struct card *c;
	struct platform *p = with_card(&c);

	pci_unplug_slot(p->m.pci, PLACE);
	cr_assert_eq(c->ejected, 1);
	cr_assert_eq(status(p), PDC | DLLSC);
	cr_assert_not(is_there(p));
	done(p, c);
}

Test(pcie_slot, function_0_taken_by_force)
{
	struct platform *p = new_ports();
	struct card *c = new_card("a0"), *d = new_card("a1");

	d->f.number = 1;
	plug(p->m.pci, d, PLACE);
	plug(p->m.pci, c, PLACE);
	port_write(p, PORT, 0x18, 4, 0x00010100);
	cr_assert(is_there(p));
	pci_unplug_now(p->m.pci, &c->f);
	cr_assert_eq(status(p), PDC | DLLSC, "the guest sees none without it, and is told");
	cr_assert_not(port_read(p, PORT, LNKSTA, 2) & LINK_ACTIVE);
	cr_assert_eq(d->resets, 1);
	clear(p);
	pci_unplug_now(p->m.pci, &d->f);
	cr_assert_eq(status(p), 0);
	done(p, c);
	free(d);
}

static unsigned eject_slot;
static void note_eject(void *opaque, unsigned slot)
{
	(void)opaque;
	eject_slot = slot;
}

Test(pcie_slot, the_owner_takes_what_the_guest_has_let_go)
{
	struct card *c;
	struct platform *p = with_card(&c);
	struct gw_error err = { 0 };
	struct kept *kept = calloc(1, sizeof(*kept));

	p->m.notify.eject = note_eject;
	ask(p, c);
	control(p, IND_BLINK);
	control(p, IND_BLINK | POWER_OFF);
	cr_assert_eq(eject_slot, PLACE);
	cr_assert_eq(c->ejected, 0);
	cr_assert_eq(c->resets, 0, "it is the owner's");
	cr_assert(status(p) & PDS);
	kept->sink.ops = &kept_ops;
	cr_assert_lt(
	        pci_participant(p->m.pci)->ops->save(pci_participant(p->m.pci), &kept->sink, &err),
	        0, "nothing is saved in between");
	control(p, IND_ON);
	cr_assert_not(is_there(p), "it does not come back");
	pci_unplug_slot(p->m.pci, PLACE);
	cr_assert_eq(c->ejected, 1);
	cr_assert_not(status(p) & PDS);
	free(kept);
	done(p, c);
}

Test(pcie_slot, a_reset_completes_what_was_asked)
{
	struct card *c;
	struct platform *p = with_card(&c);

	ask(p, c);
	control(p, IND_BLINK);
	pci_reset(p->m.pci);
	cr_assert_eq(c->ejected, 1);
	cr_assert_eq(status(p), 0);
	cr_assert_eq(port_read(p, PORT, SLTCTL, 2), IND_OFF | POWER_OFF);
	cr_assert_eq(port_read(p, PORT, 0x18, 4), 0);
	plug(p->m.pci, c, PLACE);
	control(p, IND_OFF | POWER_OFF);
	pci_reset(p->m.pci);
	cr_assert_eq(c->ejected, 1, "one that nobody asked for stays");
	cr_assert_eq(port_read(p, PORT, SLTCTL, 2), IND_ON);
	cr_assert_eq(status(p), PDS);
	done(p, c);
}

Test(pcie_slot, ports_stay)
{
	struct platform *p = new_ports();

	pci_guest_eject(p->m.pci, 31);
	cr_assert_eq(port_read(p, 1, 0, 4), 0x000c1b36);
	end(p);
}

Test(pcie_slot, refusals)
{
	struct platform *p = new_ports();
	struct card *c = new_card("net0"), *d = new_card("net1");
	struct gw_error err = { 0 };

	plug(p->m.pci, c, PLACE);
	cr_assert_eq(pci_plug(p->m.pci, &d->f, PLACE, true, &err), -EBUSY);
	cr_assert_str_eq(err.text, "net1: the slot of root port 1 is taken by net0");
	cr_assert_eq(pci_plug(p->m.pci, &d->f, pci_place(0, 3), true, &err), -EINVAL);
	cr_assert_str_eq(err.text, "net1: no root port 3 (pci.root-ports: 2)");
	cr_assert_eq(pci_plug(p->m.pci, &d->f, PCI_SLOTS, true, &err), -EINVAL);
	cr_assert_eq(pci_plug(p->m.pci, &d->f, 31, false, &err), -EBUSY);
	done(p, c);
	free(d);
}

/* ---- saved and moved ---- */

Test(pcie_slot, moves_while_the_guest_thinks_it_over)
{
	struct card *a, *b;
	struct platform *p = with_card(&a), *q = new_ports();
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	b = new_card("net0");
	plug(q->m.pci, b, PLACE);
	ask(p, a);
	control(p, IND_BLINK | ABPE);
	kept_save(kept, pci_participant(p->m.pci));
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), 0, "%s", err.text);
	cr_assert(is_there(q), "the bus has its number");
	cr_assert_eq(status(q), ABP | PDS, "the button is still pressed");
	cr_assert_eq(port_read(q, PORT, SLTCTL, 2), IND_BLINK | ABPE);
	ask(q, b);
	clear(q);
	control(q, IND_BLINK | POWER_OFF);
	cr_assert_eq(b->ejected, 1);
	free(kept);
	done(p, a);
	done(q, b);
}

Test(pcie_slot, a_machine_that_arrives_has_all_its_ports)
{
	struct platform *p = platform_new();

	p->m.started = true;
	p->m.config.pci.root_ports = PCI_PORTS_MAX;
	new_bus(p);
	for (unsigned i = 0; i < PCI_PORTS_MAX; i++)
		cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 31 - i / 8, i % 8, 0), 4), 0x000c1b36);
	cr_assert_eq(bus_read(&p->m.mmio, ecam(0, 30, 7, EXP + 0x16), 2) >> 3, 48, "its number");
	end(p);
}

Test(pcie_slot, moves_without_power)
{
	struct card *a, *b;
	struct platform *p = with_card(&a), *q = new_ports();
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	b = new_card("net0");
	plug(q->m.pci, b, PLACE);
	control(p, IND_OFF | POWER_OFF);
	clear(p);
	kept_save(kept, pci_participant(p->m.pci));
	cr_assert_eq(kept_load(kept, pci_participant(q->m.pci), &err), 0, "%s", err.text);
	cr_assert_not(is_there(q));
	cr_assert_eq(status(q), PDS, "no event comes of moving");
	control(q, IND_ON);
	cr_assert(is_there(q));
	free(kept);
	done(p, a);
	done(q, b);
}

Test(pcie_slot, states_that_do_not_fit)
{
	struct card *c;
	struct platform *p = with_card(&c), *q = new_ports();
	struct participant *there = pci_participant(q->m.pci);
	uint8_t record[1 + PCIE_PORT_STATE_SIZE] = { 1 };
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	kept_save(kept, pci_participant(p->m.pci));
	cr_assert_eq(kept_load(kept, there, &err), -EINVAL, "the slot is empty there");
	pcie_port_save(pcie_port_above(q->m.pci, PLACE), record + 1);
	cr_assert_eq(there->ops->load(there, 1, 4, record, sizeof(record), &err), 0);
	cr_assert_eq(there->ops->load(there, 1, 4, record, sizeof(record) - 1, &err), -EINVAL);
	cr_assert_eq(there->ops->load(there, 1, 4, record, 0, &err), -EINVAL);
	record[0] = 0;
	cr_assert_eq(there->ops->load(there, 1, 4, record, sizeof(record), &err), -EINVAL);
	record[0] = 3;
	cr_assert_eq(there->ops->load(there, 1, 4, record, sizeof(record), &err), -EINVAL);
	record[0] = 1;
	record[1] ^= 1;
	cr_assert_eq(there->ops->load(there, 1, 4, record, sizeof(record), &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "vendor"), "%s", err.text);
	free(kept);
	end(q);
	done(p, c);
}

/* Records of slots: 34 bytes each, the second says that what is there is to leave. */
Test(pcie_slot, no_state_makes_ports_leave)
{
	struct platform *p = new_ports();
	struct participant *bus = pci_participant(p->m.pci);
	struct kept *kept = calloc(1, sizeof(*kept));
	struct gw_error err = { 0 };

	kept_save(kept, bus);
	cr_assert_eq(kept->records[0].type, 1);
	cr_assert_eq(kept->records[0].bytes[31 * 34], 1);
	cr_assert_eq(kept_load(kept, bus, &err), 0, "%s", err.text);
	kept->records[0].bytes[31 * 34 + 1] = 1;
	cr_assert_eq(kept_load(kept, bus, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "root-port1 is to leave"), "%s", err.text);
	kept->records[0].bytes[31 * 34 + 1] = 0;
	cr_assert_eq(kept->records[1].type, 3);
	cr_assert_eq(kept->records[1].bytes[0], 31);
	kept->records[1].bytes[3] = 1;
	cr_assert_eq(kept_load(kept, bus, &err), -EINVAL);
	pci_reset(p->m.pci);
	cr_assert_eq(port_read(p, 1, 0, 4), 0x000c1b36);
	free(kept);
	end(p);
}
