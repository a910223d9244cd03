/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root ports in the hands of a guest that writes anything anywhere into configuration space, an
 * owner who plugs and unplugs at any time, and a stream that brings any state. After each step
 * what is mapped is where the bus may map it, and the slots say of themselves what is true.
 */
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/outside.h"
#include "vmm/pci_internal.h"

#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 3
#define CARDS 6
#define RECORDS 8
#define RECORD_ROOM 16384
#define EXP 0x40 /* the capability of ports */

struct card {
	struct pci_function f;
	bool in_use;
};

struct record {
	uint16_t type;
	size_t len;
	uint8_t bytes[RECORD_ROOM];
};

static struct world {
	struct machine m;
	struct machine_outside outside;
	struct card cards[CARDS];
	struct sink sink;
	struct record records[RECORDS];
	unsigned count;
	uint64_t left; /* slots that the guest has let go of */
} w;

struct input {
	const uint8_t *at;
	size_t left;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t take(struct input *in, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size && in->left; i++, in->left--)
		value |= (uint32_t)*in->at++ << i * 8;
	return value;
}

/* ---- cards ---- */

/* Wholly in one of the windows that there are for it. */
static bool is_inside(const struct pci_bar *b)
{
	const struct arch_range *windows[] = { &arch_pci.io, &arch_pci.mmio32, &arch_pci.mmio64 };
	bool inside = false;

	for (unsigned i = 0; i < 3; i++)
		inside |= (i == 0) == b->is_io && b->address >= windows[i]->gpa &&
		          b->address - windows[i]->gpa <= windows[i]->size - b->size;
	return inside;
}

static void ejected(struct pci_function *f)
{
	container_of(f, struct card, f)->in_use = false;
}

static const struct pci_function_ops card_ops = { .ejected = ejected };

static void plug(struct input *in)
{
	const uint32_t what = take(in, 1), where = take(in, 1);
	const bool behind = where & 1;
	const unsigned place = behind ? pci_place(0, 1 + (where >> 1) % PORTS)
	                              : pci_place(1 + (where >> 1) % 4, 0);
	struct card *c = &w.cards[what % CARDS];
	struct pci_function *f = &c->f;
	struct gw_error err;

	if (c->in_use)
		return;
	memset(f, 0, sizeof(*f));
	f->ops = &card_ops;
	f->number = what >> 4 & 1;
	snprintf(f->name, sizeof(f->name), "card%u", what % CARDS);
	pci_set(f->config, 0, 4, 0x10d38086);
	f->bars[0] = (struct pci_bar){ .size = 0x1000u << (where >> 4),
		                       .prefetch = true,
		                       .is_64 = true };
	f->bars[2] = (struct pci_bar){ .size = 0x20u << (what >> 6), .is_io = true };
	f->bars[3] = (struct pci_bar){ .size = 0x10u << (where >> 4) };
	c->in_use = pci_plug(w.m.pci, f, place, behind && (what & 8), &err) == 0;
	for (unsigned i = 0; i < PCI_BARS && c->in_use && !behind; i++)
		if (f->bars[i].size && !is_inside(&f->bars[i]))
			abort();
}

static struct pci_function *behind_a_port(struct input *in)
{
	struct card *c = &w.cards[take(in, 1) % CARDS];

	return c->in_use && c->f.slot > PCI_SLOTS ? &c->f : NULL;
}

/* ---- state ---- */

static int keep_record(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                       size_t head_len, const void *body, size_t body_len, struct gw_error *err)
{
	struct record *r = &w.records[w.count++ % RECORDS];

	(void)sink;
	(void)p;
	(void)err;
	if (head_len + body_len > RECORD_ROOM)
		abort();
	r->type = type;
	r->len = head_len + body_len;
	if (head_len)
		memcpy(r->bytes, head, head_len);
	if (body_len)
		memcpy(r->bytes + head_len, body, body_len);
	return 0;
}

static const struct sink_ops sink_ops = { .record = keep_record };

static void save(void)
{
	struct participant *p = pci_participant(w.m.pci);
	struct gw_error err;

	w.count = 0;
	w.sink.ops = &sink_ops;
	p->ops->save(p, &w.sink, &err);
}

/* One record of the last state, with some bytes of it changed. */
static void load(struct input *in)
{
	struct participant *p = pci_participant(w.m.pci);
	struct record *r = &w.records[take(in, 1) % RECORDS];
	struct gw_error err;

	for (unsigned n = take(in, 1) % 16; n && r->len; n--)
		r->bytes[take(in, 2) % r->len] ^= (uint8_t)take(in, 1);
	p->ops->load(p, 1, r->type, r->bytes, r->len, &err);
}

/* ---- what has to be true ---- */

static void check_bar(const struct pci_function *f, const struct pci_bar *b)
{
	const struct pcie_port *port = pcie_port_above(w.m.pci, f->slot);

	if (!is_inside(b) || bus_find(b->is_io ? &w.m.pio : &w.m.mmio, b->address, 1) != &b->range)
		abort();
	if (port &&
	    !(pcie_port_is_live(port) && pcie_port_forwards(port, b->is_io, b->address, b->size)))
		abort();
}

static void check(void)
{
	for (const struct pci_function *f = NULL; (f = pci_next(w.m.pci, f));)
		for (unsigned i = 0; i < PCI_REGIONS; i++)
			if (f->bars[i].mapped)
				check_bar(f, &f->bars[i]);
	for (unsigned i = 1; i <= PORTS; i++) {
		const struct pcie_port *port = pcie_port_above(w.m.pci, pci_place(0, i));
		const uint8_t *config = port->function.config;
		const bool live = pcie_port_is_live(port);

		if (!!(pci_get(config, EXP + PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS) !=
		    !!w.m.pci->slots[port->place].f[0])
			abort();
		if (!!(pci_get(config, EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA) != live ||
		    port->below_live != live)
			abort();
		if (port->pin_high && !port->asserted)
			abort();
	}
}

/* ---- steps ---- */

static void guest_writes(struct input *in)
{
	const uint32_t where = take(in, 4);
	const uint64_t at = arch_pci.ecam.gpa + ((where & 3) << 20 | where >> 12);

	bus_write(&w.m.mmio, at, 1u << (where >> 2 & 3), take(in, 4));
	bus_read(&w.m.mmio, at, 1u << (where >> 4 & 3));
}

/* Registers of a port that would seldom be hit by chance: command, bus numbers, windows, bridge
 * control, and what makes up a slot. */
static const uint8_t registers[] = {
	0x04,
	0x18,
	0x1c,
	0x20,
	0x24,
	0x26,
	0x28,
	0x2c,
	0x3e,
	EXP + PCI_EXP_LNKCTL,
	EXP + PCI_EXP_SLTCTL,
	EXP + PCI_EXP_SLTSTA,
};

static void guest_writes_port(struct input *in)
{
	const uint32_t what = take(in, 1);
	const uint64_t function = arch_pci.ecam.gpa + ((31u << 3 | what % PORTS) << 12);
	const uint32_t reg = registers[take(in, 1) % ARRAY_SIZE(registers)];

	bus_write(&w.m.mmio, function + reg, what & 0x10 ? 4 : 2,
	          what & 0x40 ? UINT32_MAX : take(in, 4));
}

/* A window of a port's between addresses where something happens, and BARs of what is behind it. */
static void guest_sets_window(struct input *in)
{
	const uint64_t marks[] = { 0, arch_pci.mmio32.gpa, arch_pci.mmio64.gpa, UINT64_MAX << 21,
		                   UINT64_MAX };
	const uint32_t what = take(in, 1), ends = take(in, 1);
	const uint64_t first = marks[ends % 5] + (uint64_t)take(in, 1) * MIB;
	const uint64_t last = marks[(ends >> 4) % 5] + (uint64_t)take(in, 1) * MIB;
	const uint64_t port = arch_pci.ecam.gpa + ((31u << 3 | what % PORTS) << 12);
	const uint64_t card = arch_pci.ecam.gpa + ((1 + what % PORTS) << 20);

	bus_write(&w.m.mmio, port + 0x20 + (what & 4), 4,
	          (first >> 16 & 0xfff0) | (last & 0xfff00000));
	bus_write(&w.m.mmio, port + 0x28, 4, first >> 32);
	bus_write(&w.m.mmio, port + 0x2c, 4, last >> 32);
	bus_write(&w.m.mmio, port + 0x18, 4, (1 + what % PORTS) * 0x10100);
	bus_write(&w.m.mmio, port + 0x04, 2, what >> 3);
	bus_write(&w.m.mmio, card + 0x10, 4, (uint32_t)first);
	bus_write(&w.m.mmio, card + 0x14, 4, first >> 32);
	bus_write(&w.m.mmio, card + 0x1c, 4, (uint32_t)first);
	bus_write(&w.m.mmio, card + 0x04, 2, 3);
}

static void owner_takes(void)
{
	const uint64_t left = w.left;

	w.left = 0;
	for (unsigned slot = 0; slot < PCI_PLACES; slot++)
		if (left >> slot & 1)
			pci_unplug_slot(w.m.pci, slot);
}

static void owner_asks(struct input *in)
{
	struct pci_function *f = behind_a_port(in);
	struct gw_error err;

	if (f)
		pci_request_unplug(w.m.pci, f, &err);
}

static void owner_keeps(struct input *in)
{
	struct pci_function *f = behind_a_port(in);

	if (f)
		pci_keep(w.m.pci, f->slot);
}

/* As a device that is destroyed leaves: by itself, whatever else is in its slot. */
static void owner_destroys(struct input *in)
{
	struct card *c = &w.cards[take(in, 1) % CARDS];

	if (c->in_use)
		pci_unplug_now(w.m.pci, &c->f);
}

static void step(struct input *in)
{
	switch (take(in, 1) % 11) {
	case 0:
		plug(in);
		break;
	case 1:
		owner_asks(in);
		break;
	case 2:
		owner_keeps(in);
		break;
	case 3:
		owner_destroys(in);
		break;
	case 4:
		save();
		break;
	case 5:
		load(in);
		break;
	case 6:
		owner_takes();
		break;
	case 7:
		pci_reset(w.m.pci);
		break;
	case 8:
		guest_writes(in);
		break;
	case 9:
		guest_sets_window(in);
		break;
	default:
		guest_writes_port(in);
	}
}

static void note_eject(void *opaque, unsigned slot)
{
	(void)opaque;
	w.left |= 1ull << slot;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct log log;
	struct input in = { data, size };
	struct gw_error err;

	memset(&w, 0, sizeof(w));
	w.m.kvm_fd = w.m.vm_fd = w.m.vfio_kvm_fd = -1;
	w.m.log = &log;
	w.m.config.pci.root_ports = PORTS;
	pthread_mutex_init(&w.m.device_lock, NULL);
	/* There is no KVM to tell of interrupts, and BARs are mapped all the same. */
	w.m.outside = &w.outside;
	if (irqs_create(&w.m, &w.m.irqs, &err) < 0)
		abort();
	w.m.outside = NULL;
	if (take(&in, 1) & 1)
		w.m.notify.eject = note_eject;
	if (pci_create(&w.m, &w.m.pci, &err) < 0)
		abort();
	while (in.left) {
		step(&in);
		check();
	}
	pci_destroy(w.m.pci);
	irqs_destroy(w.m.irqs);
	bus_fini(&w.m.mmio);
	bus_fini(&w.m.pio);
	pthread_mutex_destroy(&w.m.device_lock);
	return 0;
}
