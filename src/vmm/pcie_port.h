/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root ports: bridges on bus 0 with a slot for one device each, which the
 * guest's native hotplug driver fills and empties.
 *
 * A port has a power controller, a power indicator, an attention button and
 * tells whether its link is active; it completes its commands at once and says
 * so. A card that comes while the guest runs is told by presence, and by the
 * button, since a guest that sees one listens to nothing else. One that is to
 * go is asked for by the button. The guest blinks, lets go and cuts the power,
 * which is when the card leaves. A slot that loses its power without having
 * been asked keeps its card: it is reset and silent until power is back.
 *
 * Ports are the bus's (pci.h): saved with it, reset with it. All calls with the
 * device lock held.
 * Source: PCI Express Base 5.0, 6.7 (hot-plug), 7.5.1.3 (type 1 header), 7.5.3.
 */
#ifndef VMM_PCIE_PORT_H
#define VMM_PCIE_PORT_H

#include "vmm/pci.h"

struct pcie_port {
	struct pci_function function;
	struct pci_bus *bus;
	unsigned place;    /* of what is in its slot (pci_place()) */
	unsigned cap, msi; /* where its capabilities are */
	uint16_t control;  /* of the slot, before the last write */
	bool below_live;   /* what is in the slot was in reach */
	bool was_master;   /* and could send requests through the port */
	bool asked;        /* the guest was asked for the card, and has not answered */
	bool early;        /* while it still took the card in: it will say that it has, first */
	bool asserted;     /* an event that the guest listens to waits to be cleared */
	bool pin_high;     /* and says so by INTx */
};

/* Puts so many of them onto the bus. */
int pcie_ports_create(struct pci_bus *bus, unsigned count, struct gw_error *err);

/* The port whose slot a place is; NULL on bus 0. */
struct pcie_port *pcie_port_above(const struct pci_bus *bus, unsigned place);
/* The port that forwards configuration requests to a bus; NULL: none. */
struct pcie_port *pcie_port_to(const struct pci_bus *bus, unsigned number);
bool pcie_is_port(const struct pci_function *f);

/* The number of the bus behind it, as the guest has set it. */
unsigned pcie_port_secondary(const struct pcie_port *port);
/* Power, link and card are there: the guest reaches what is in the slot. */
bool pcie_port_is_live(const struct pcie_port *port);
/* The port forwards accesses to all of [address, address + size). */
bool pcie_port_forwards(const struct pcie_port *port, bool is_io, uint64_t address, uint64_t size);
/* If a window of any port is in [at, at + size): where that one ends. */
uint64_t pcie_ports_until(const struct pci_bus *bus, bool is_io, uint64_t at, uint64_t size);

/* Makes a function that is shown as integrated into the root the end of the port's link. */
void pcie_port_fit(struct pci_function *f);
/* A card has come (function 0; others are there), with the guest to be told or not. */
void pcie_port_filled(struct pcie_port *port, bool hot);
/* Function 0 has left, and with it what the guest sees. */
void pcie_port_emptied(struct pcie_port *port);
/* Asks the guest to let go of the card; takes that back, as far as it goes. */
void pcie_port_ask(struct pcie_port *port);
void pcie_port_keep(struct pcie_port *port);

/* For the bus's participant. */
#define PCIE_PORT_STATE_SIZE (PCI_FUNCTION_STATE_SIZE + 1)
void pcie_port_save(const struct pcie_port *port, uint8_t state[PCIE_PORT_STATE_SIZE]);
int pcie_port_load(struct pcie_port *port, const uint8_t state[PCIE_PORT_STATE_SIZE],
                   struct gw_error *err);

/* pcie_bridge.c: the type 1 header of a port. */
void pcie_bridge_init(struct pci_function *f);
/* Where its windows are: closed ones end before they begin. */
enum pcie_window { PCIE_WINDOW_IO, PCIE_WINDOW_MEMORY, PCIE_WINDOW_PREFETCH, PCIE_WINDOWS };
struct pcie_span {
	uint64_t first, last;
};
struct pcie_span pcie_bridge_window(const struct pci_function *f, enum pcie_window w);
bool pcie_bridge_decodes(const struct pci_function *f, bool is_io);

#endif
