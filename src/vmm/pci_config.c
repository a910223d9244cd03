/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space: bytes, masks, and the ECAM window in front of them. */
#include "vmm/pci_internal.h"

uint32_t pci_get(const uint8_t *config, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)config[offset + i] << i * 8;
	return value;
}

void pci_set(uint8_t *config, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++)
		config[offset + i] = (uint8_t)(value >> i * 8);
}

/* What can be read or written at once: inside one aligned doubleword (PCI 3.0, 3.2.2.3.2). */
static bool access_ok(unsigned offset, unsigned size)
{
	return (size == 1 || size == 2 || size == 4) && offset < PCI_CONFIG_SIZE &&
	       offset % size == 0;
}

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
	return offset < reg + reg_size && reg < offset + size;
}

uint32_t pci_config_read(struct pci_function *f, unsigned offset, unsigned size)
{
	uint32_t value;

	if (!access_ok(offset, size))
		return UINT32_MAX;
	if (f->ops->config_read && f->ops->config_read(f, offset, size, &value))
		return value;
	return pci_get(f->config, offset, size);
}

static void write_bytes(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = offset; i < offset + size; i++, value >>= 8) {
		uint8_t byte = (uint8_t)value;
		uint8_t kept = f->config[i] & (uint8_t)~f->wmask[i];

		f->config[i] = (kept | (byte & f->wmask[i])) & (uint8_t) ~(byte & f->w1c[i]);
	}
}

void pci_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value)
{
	if (!access_ok(offset, size))
		return;
	if (f->ops->config_write && f->ops->config_write(f, offset, size, value))
		return;
	write_bytes(f, offset, size, value);
	if (f->bus && (touches(offset, size, PCI_REG_COMMAND, 2) ||
	               touches(offset, size, PCI_REG_BAR, PCI_BARS * 4) ||
	               touches(offset, size, PCI_REG_ROM, 4) ||
	               (f->pm_cap && touches(offset, size, f->pm_cap + PCI_PM_CONTROL, 2u))))
		pci_bar_update(f->bus, f);
	if (f->ops->config_written)
		f->ops->config_written(f, offset, size);
}

/* ECAM: bus in bits 20 to 27, device in 15 to 19, function in 12 to 14, register in 0 to 11
 * (PCI Express Base 5.0, 7.2.2). Behind a port there is device 0 alone (7.3.1). */
static struct pci_function *ecam_function(struct pci_bus *bus, uint64_t offset)
{
	const unsigned number = offset >> 20 & 0xff, device = offset >> 15 & 31;
	const struct pcie_port *port = number ? pcie_port_to(bus, number) : NULL;

	if (number && (!port || device))
		return NULL;
	return pci_visible(bus, port ? port->place : device, offset >> 12 & 7);
}

static uint64_t ecam_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_function *f = ecam_function(opaque, offset);

	if (!f || size > 4)
		return UINT64_MAX;
	return pci_config_read(f, offset & (PCI_CONFIG_SIZE - 1), size);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = ecam_function(opaque, offset);

	if (f)
		pci_config_write(f, offset & (PCI_CONFIG_SIZE - 1), size, (uint32_t)value);
}

const struct bus_ops pci_ecam_ops = { .read = ecam_read, .write = ecam_write };
