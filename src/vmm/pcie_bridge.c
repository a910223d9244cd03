/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge that a root port is: bus numbers, windows, what is forwarded where.
 * Every register is the guest's to write and may say anything.
 * Source: PCI Express Base 5.0, 7.5.1.3.
 */
#include "vmm/pci_internal.h"
#include "vmm/pcie_port.h"

#include "base/util.h"

#define HEADER_BRIDGE 1

/* More registers of a type 1 header. */
#define REG_IO_BASE 0x1c
#define REG_IO_LIMIT 0x1d
#define REG_SECONDARY_STATUS 0x1e
#define REG_MEMORY_BASE 0x20
#define REG_MEMORY_LIMIT 0x22
#define REG_PREFETCH_BASE 0x24
#define REG_PREFETCH_LIMIT 0x26
#define REG_PREFETCH_BASE_HIGH 0x28
#define REG_PREFETCH_LIMIT_HIGH 0x2c

#define PREFETCH_64 1u        /* the lowest bit of both registers: the upper halves are there */
#define CONTROL_WRITABLE 0x43 /* parity, SERR#, secondary bus reset */

static const struct {
	uint8_t reg, size;
	uint32_t bits;
} writable[] = {
	{ PCI_REG_PRIMARY, 1, 0xff },
	{ PCI_REG_SECONDARY, 1, 0xff },
	{ PCI_REG_SUBORDINATE, 1, 0xff },
	{ REG_IO_BASE, 1, 0xf0 },
	{ REG_IO_LIMIT, 1, 0xf0 },
	{ REG_MEMORY_BASE, 2, 0xfff0 },
	{ REG_MEMORY_LIMIT, 2, 0xfff0 },
	{ REG_PREFETCH_BASE, 2, 0xfff0 },
	{ REG_PREFETCH_LIMIT, 2, 0xfff0 },
	{ REG_PREFETCH_BASE_HIGH, 4, 0xffffffff },
	{ REG_PREFETCH_LIMIT_HIGH, 4, 0xffffffff },
	{ PCI_REG_BRIDGE_CONTROL, 2, CONTROL_WRITABLE },
};

void pcie_bridge_init(struct pci_function *f)
{
	f->config[PCI_REG_HEADER_TYPE] = HEADER_BRIDGE;
	for (size_t i = 0; i < ARRAY_SIZE(writable); i++)
		pci_set(f->wmask, writable[i].reg, writable[i].size, writable[i].bits);
	pci_set(f->w1c, REG_SECONDARY_STATUS, 2, PCI_STATUS_W1C);
	/* Windows begin closed; nobody has given out bus numbers. */
	pci_set(f->config, REG_IO_BASE, 1, 0xf0);
	pci_set(f->config, REG_MEMORY_BASE, 2, 0xfff0);
	pci_set(f->config, REG_PREFETCH_BASE, 2, 0xfff0 | PREFETCH_64);
	pci_set(f->config, REG_PREFETCH_LIMIT, 2, PREFETCH_64);
}

/* A window's two registers have the upper bits of its first and last address, with 4 KiB of I/O
 * or 1 MiB of memory as the unit. */
static const struct {
	uint8_t base, limit, size, shift;
	uint8_t base_high, limit_high; /* 0: none */
	uint64_t unit;
} windows[PCIE_WINDOWS] = {
	[PCIE_WINDOW_IO] = { REG_IO_BASE, REG_IO_LIMIT, 1, 8, 0, 0, 0x1000 },
	[PCIE_WINDOW_MEMORY] = { REG_MEMORY_BASE, REG_MEMORY_LIMIT, 2, 16, 0, 0, MIB },
	[PCIE_WINDOW_PREFETCH] = { REG_PREFETCH_BASE, REG_PREFETCH_LIMIT, 2, 16,
	                           REG_PREFETCH_BASE_HIGH, REG_PREFETCH_LIMIT_HIGH, MIB },
};

static uint64_t address_of(const struct pci_function *f, enum pcie_window w, unsigned reg,
                           unsigned high)
{
	uint64_t address = (uint64_t)pci_get(f->config, reg, windows[w].size) << windows[w].shift;

	address &= ~(windows[w].unit - 1);
	return high ? address | (uint64_t)pci_get(f->config, high, 4) << 32 : address;
}

struct pcie_span pcie_bridge_window(const struct pci_function *f, enum pcie_window w)
{
	return (struct pcie_span){
		.first = address_of(f, w, windows[w].base, windows[w].base_high),
		.last = address_of(f, w, windows[w].limit, windows[w].limit_high) +
		        (windows[w].unit - 1),
	};
}

bool pcie_bridge_decodes(const struct pci_function *f, bool is_io)
{
	return pci_get(f->config, PCI_REG_COMMAND, 2) & (is_io ? PCI_CMD_IO : PCI_CMD_MEMORY);
}

bool pcie_port_forwards(const struct pcie_port *port, bool is_io, uint64_t address, uint64_t size)
{
	for (enum pcie_window w = 0; w < PCIE_WINDOWS; w++) {
		const struct pcie_span s = pcie_bridge_window(&port->function, w);

		if ((w == PCIE_WINDOW_IO) == is_io && s.first <= address && address <= s.last &&
		    size - 1 <= s.last - address)
			return pcie_bridge_decodes(&port->function, is_io);
	}
	return false;
}

uint64_t pcie_ports_until(const struct pci_bus *bus, bool is_io, uint64_t at, uint64_t size)
{
	for (unsigned i = 0; i < bus->port_count; i++) {
		for (enum pcie_window w = 0; w < PCIE_WINDOWS; w++) {
			const struct pcie_span s = pcie_bridge_window(&bus->ports[i].function, w);

			if ((w == PCIE_WINDOW_IO) == is_io && s.first <= s.last &&
			    s.first <= at + (size - 1) && at <= s.last)
				return s.last + (s.last < UINT64_MAX);
		}
	}
	return 0;
}

unsigned pcie_port_secondary(const struct pcie_port *port)
{
	return port->function.config[PCI_REG_SECONDARY];
}

/* There is no bridge behind a port, so of the buses that it may forward to there is but the
 * first. Of several that claim the same one the first has it. */
struct pcie_port *pcie_port_to(const struct pci_bus *bus, unsigned number)
{
	for (unsigned i = 0; number && i < bus->port_count; i++) {
		const uint8_t *config = bus->ports[i].function.config;

		if (config[PCI_REG_SECONDARY] == number && config[PCI_REG_SUBORDINATE] >= number)
			return &bus->ports[i];
	}
	return NULL;
}
