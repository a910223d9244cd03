/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI Express: one root bus with ECAM, 32 slots of up to 8 functions, BARs
 * placed by the VMM; hotplug by ACPI; and root ports with one slot each behind
 * them, hotplug by themselves (pcie_port.h).
 *
 * What comes and goes is a slot. Slots are counted on: those of bus 0, then
 * those behind the ports (pci_place()). Functions above 0 are plugged in first, and
 * the guest sees none of a slot before function 0 is there (PCI 3.0, 3.2.2.3.4:
 * it may look for others only then); it lets go of all of them together.
 *
 * A function describes its configuration space as bytes and write masks; the
 * core does sizing, BAR decoding and the command register, and tells the
 * function by its ops. All ops run with the device lock held, and so must all
 * calls here, once anything runs.
 * Sources: PCI Local Bus 3.0, PCI Express Base 5.0 (7.5), PCI Firmware 3.2 (4.1.2: ECAM).
 */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include "base/error.h"
#include "vmm/bus.h"
#include "vmm/participant.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;
struct msi_irqfds;
struct pci_bus;
struct pci_function;

#define PCI_CONFIG_SIZE 4096u
#define PCI_BARS 6
#define PCI_ROM 6     /* the expansion ROM is one more in bars[] */
#define PCI_REGIONS 7 /* BARs and ROM */
#define PCI_SLOTS 32  /* of bus 0 */
#define PCI_PORTS_MAX 16
#define PCI_PLACES (PCI_SLOTS + 1 + PCI_PORTS_MAX) /* slots of bus 0, and behind ports 1 ... */
#define PCI_FUNCTIONS 8
#define PCI_SLOT_ANY 0xff

/* The slot that a configuration means: that behind a port, one of bus 0, or any (0 and 0). */
static inline unsigned pci_place(unsigned slot, unsigned port)
{
	return port ? PCI_SLOTS + port : slot ? slot : PCI_SLOT_ANY;
}

/* Ports, counted from 1, are functions of the highest slots of bus 0. */
#define PCI_PORT_SLOT(port) (PCI_SLOTS - 1 - ((port)-1) / PCI_FUNCTIONS)

/* And back: the port that a slot is behind, 0 on bus 0; the slot's number there, if it is. */
static inline unsigned pci_place_port(unsigned place)
{
	return place > PCI_SLOTS ? place - PCI_SLOTS : 0;
}

static inline unsigned pci_place_slot(unsigned place)
{
	return place > PCI_SLOTS ? 0 : place;
}

struct pci_bar {
	uint64_t size; /* power of two; 0: no such BAR (also the upper half of a 64-bit one) */
	bool is_io, is_64, prefetch;
	/* kept by the core: */
	uint64_t address; /* what the BAR register says */
	bool mapped;      /* decoded now: enabled in the command register, address valid */
	bool alone;       /* nothing else is mapped in its pages */
	struct bus_range range;
};

/* Part of a BAR that is plain memory: there the file behind it may be mapped instead. The file has
 * it at the same offset as the BAR. */
struct pci_bar_memory {
	int fd; /* the function's */
	uint64_t offset, size;
};

/* A place in a BAR where a write of `size` bytes, whatever the value, does nothing but signal an
 * eventfd. */
struct pci_doorbell {
	unsigned bar;
	uint64_t offset;
	unsigned size;
	int fd; /* the function's */
};

struct pci_function_ops {
	/* A read of config space; true if it filled *value, false to let the core answer from
	 * config[]. May be NULL. */
	bool (*config_read)(struct pci_function *f, unsigned offset, unsigned size,
	                    uint32_t *value);
	/* Before the core changes config[]: true if the function dealt with it wholly. NULL. */
	bool (*config_write)(struct pci_function *f, unsigned offset, unsigned size,
	                     uint32_t value);
	/* After the core changed config[] by wmask. NULL. */
	void (*config_written)(struct pci_function *f, unsigned offset, unsigned size);
	/* Trapped accesses to a BAR. */
	uint64_t (*bar_read)(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size);
	void (*bar_write)(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
	                  uint64_t value);
	/* A BAR was mapped at bars[bar].address (mapped true), or unmapped, or one smaller than a
	 * page got its page to itself (alone), or has to share it. NULL. */
	void (*bar_changed)(struct pci_function *f, unsigned bar);
	/* What of the BAR is memory; false: nothing. For a server (src/vfio/user), as is the next.
	 * NULL. */
	bool (*bar_memory)(struct pci_function *f, unsigned bar, struct pci_bar_memory *out);
	/* The function's n-th doorbell; false: it has no more. NULL. */
	bool (*doorbell)(struct pci_function *f, unsigned n, struct pci_doorbell *out);
	/* Machine reset. The core has put config[] back to its initial bytes before. NULL. */
	void (*reset)(struct pci_function *f);
	/* The same of what is behind one port, while the machine goes on. NULL: reset() will do. */
	void (*reset_alone)(struct pci_function *f);
	/* It has been unplugged: give everything back and free. The core has unmapped the BARs
	 * and taken it off the bus before. */
	void (*ejected)(struct pci_function *f);
};

struct pci_function {
	const struct pci_function_ops *ops;
	char name[32];
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t wmask[PCI_CONFIG_SIZE]; /* bits that the guest can write */
	uint8_t w1c[PCI_CONFIG_SIZE];   /* bits that a written 1 clears */
	struct pci_bar bars[PCI_REGIONS];
	uint8_t number; /* of the function in its slot */
	uint8_t pm_cap; /* where its power management capability is; 0: it has none */
	/* kept by the core: */
	struct pci_bus *bus;
	uint8_t slot; /* as pci_place() counts */
	uint8_t initial[PCI_CONFIG_SIZE];
	bool ejecting;                             /* the guest has been asked to let it go */
	uint8_t capability_last, capabilities_end; /* pci_add_capability() */
	struct msi_irqfds *irqfds;                 /* messages that it sends (msi_irqfds.c) */
};

int pci_create(struct machine *m, struct pci_bus **out, struct gw_error *err);
void pci_destroy(struct pci_bus *bus);

/* Puts a function into a slot (or PCI_SLOT_ANY, for function 0 only); places its BARs, which behind
 * a port is the guest's business. The caller has filled number, config, masks and bars; the core
 * adds BAR registers' and command's masks, and the header's multi-function bit. With `hot` the
 * guest is told as soon as function 0 is there: those above come before it. Any slot is one of bus
 * 0, or if that is full, or its slots cannot be filled now, one behind a port. Errors: -EBUSY slot
 * taken, -ENOSPC, -ENOTSUP. */
int pci_plug(struct pci_bus *bus, struct pci_function *f, unsigned slot, bool hot,
             struct gw_error *err);
/* Asks the guest to eject its slot, with all functions; ops->ejected() of each follows. */
int pci_request_unplug(struct pci_bus *bus, struct pci_function *f, struct gw_error *err);
/* Takes that back. The guest may have heard of it already, and eject the slot all the same. */
void pci_keep(struct pci_bus *bus, unsigned slot);
/* Takes it off at once, without the guest; ops->ejected() is called. */
void pci_unplug_now(struct pci_bus *bus, struct pci_function *f);
/* The same for all functions of a slot. */
void pci_unplug_slot(struct pci_bus *bus, unsigned slot);
/* The two for struct device_driver, which take the device lock. A guest that never ran holds
 * nothing; another one is asked. */
int pci_let_go(struct pci_function *f, struct gw_error *err);
void pci_take_off(struct pci_function *f);
/* The guest has written the slot's eject register (pm.c): its functions are unmapped and out of
 * sight at once. They leave when the machine's owner, told by notify.eject, calls
 * pci_unplug_slot(); without an owner who listens, right here. Nothing is saved in between. */
void pci_guest_eject(struct pci_bus *bus, unsigned slot);
/* Functions whose ejection was asked for are unplugged; all others go back to their initial
 * configuration. */
void pci_reset(struct pci_bus *bus);

struct pci_function *pci_slot(const struct pci_bus *bus, unsigned slot, unsigned function);
/* A bit for each slot that holds something in the guest's eyes, the host bridge's included. */
uint32_t pci_present(const struct pci_bus *bus);

/* Puts a capability at the end of the list, before anybody has looked at it. `body` has `len`
 * bytes, the two bytes of id and next pointer included (filled here). Returns its place. */
unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body, unsigned len);

/* Its requester ID, once it is plugged in. Behind a port it changes with the bus's number. */
uint32_t pci_requester(const struct pci_function *f);
/* What it sends upwards gets through: it is a bus master, and so is the port above it. Of a change
 * of the port's it hears as of a write to its own command register. */
bool pci_is_master(const struct pci_function *f);
/* The GSI of an INTx pin (1 = A ... 4 = D) of a slot. A port passes pins on as they are: its one
 * device is number 0. */
uint32_t pci_intx_gsi(unsigned slot, unsigned pin);

/* Little-endian access to config[] and masks. */
uint32_t pci_get(const uint8_t *config, unsigned offset, unsigned size);
void pci_set(uint8_t *config, unsigned offset, unsigned size, uint32_t value);

/* What the guest would read and write (ECAM ends here; also used by tests). */
uint32_t pci_config_read(struct pci_function *f, unsigned offset, unsigned size);
void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);

/* For saving and loading a function with its own participant: config[], BAR addresses and
 * mappings. Load takes the bits that the guest can write, and remaps BARs. Refused, with the
 * offset: another device, or another set of capabilities. */
#define PCI_FUNCTION_STATE_SIZE PCI_CONFIG_SIZE
void pci_function_save(const struct pci_function *f, uint8_t state[PCI_FUNCTION_STATE_SIZE]);
int pci_function_load(struct pci_function *f, const uint8_t state[PCI_FUNCTION_STATE_SIZE],
                      struct gw_error *err);

/* The function itself has changed its config[]: BARs are mapped where that says. */
void pci_refresh(struct pci_function *f);

/* QMP's query-pci as JSON; released with free(). */
char *pci_describe(const struct pci_bus *bus);

/* The bus itself as a participant: hotplug registers, slots. */
struct participant *pci_participant(struct pci_bus *bus);

#endif
