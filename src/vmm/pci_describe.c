/* SPDX-License-Identifier: Apache-2.0 */
/* The bus in the form of QMP's query-pci (PciInfo, PciDeviceInfo, PciMemoryRegion). */
#include "vmm/pci_internal.h"

#include "base/util.h"

#include <cjson/cJSON.h>

/* Base class and subclass (PCI Code and ID Assignment, 1). */
static const struct {
	uint16_t class;
	const char *text;
} classes[] = {
	{ 0x0100, "SCSI controller" },
	{ 0x0106, "SATA controller" },
	{ 0x0108, "NVMe controller" },
	{ 0x0180, "Storage controller" },
	{ 0x0200, "Ethernet controller" },
	{ 0x0280, "Network controller" },
	{ 0x0300, "VGA controller" },
	{ 0x0302, "3D controller" },
	{ 0x0380, "Display controller" },
	{ 0x0403, "Audio controller" },
	{ 0x0600, "Host bridge" },
	{ 0x0604, "PCI bridge" },
	{ 0x0700, "Serial port" },
	{ 0x0c03, "USB controller" },
	{ 0x0780, "Communication controller" },
};

static const char *class_text(uint32_t class)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		if (classes[i].class == class)
			return classes[i].text;
	}
	return NULL;
}

static bool add_class(cJSON *device, const struct pci_function *f)
{
	cJSON *info = cJSON_AddObjectToObject(device, "class_info");
	uint32_t class = pci_get(f->config, PCI_REG_CLASS, 2);
	const char *text = class_text(class);

	return info && cJSON_AddNumberToObject(info, "class", class) &&
	       (!text || cJSON_AddStringToObject(info, "desc", text));
}

static bool add_id(cJSON *device, const struct pci_function *f)
{
	cJSON *id = cJSON_AddObjectToObject(device, "id");
	bool ok = id &&
	          cJSON_AddNumberToObject(id, "vendor", pci_get(f->config, PCI_REG_VENDOR, 2)) &&
	          cJSON_AddNumberToObject(id, "device", pci_get(f->config, PCI_REG_DEVICE, 2));

	if (!ok || pcie_is_port(f))
		return ok;
	return cJSON_AddNumberToObject(id, "subsystem-vendor",
	                               pci_get(f->config, PCI_REG_SUBSYSTEM_VENDOR, 2)) &&
	       cJSON_AddNumberToObject(id, "subsystem", pci_get(f->config, PCI_REG_SUBSYSTEM, 2));
}

static bool add_region(cJSON *regions, const struct pci_bar *b, unsigned bar)
{
	cJSON *region = cJSON_CreateObject();

	if (!cJSON_AddItemToArray(regions, region))
		return false;
	/* An address that is not decoded is -1, as QEMU shows it. */
	if (!cJSON_AddNumberToObject(region, "bar", bar) ||
	    !cJSON_AddStringToObject(region, "type", b->is_io ? "io" : "memory") ||
	    !cJSON_AddNumberToObject(region, "address", b->mapped ? (double)b->address : -1) ||
	    !cJSON_AddNumberToObject(region, "size", (double)b->size))
		return false;
	return b->is_io || (cJSON_AddBoolToObject(region, "mem_type_64", b->is_64) &&
	                    cJSON_AddBoolToObject(region, "prefetch", b->prefetch));
}

static bool add_regions(cJSON *device, const struct pci_function *f)
{
	cJSON *regions = cJSON_AddArrayToObject(device, "regions");

	for (unsigned i = 0; regions && i < PCI_BARS; i++) {
		if (f->bars[i].size && !add_region(regions, &f->bars[i], i))
			return false;
	}
	return regions;
}

static bool add_irq(cJSON *device, const struct pci_function *f)
{
	uint32_t pin = pci_get(f->config, PCI_REG_IRQ_PIN, 1);

	return cJSON_AddNumberToObject(device, "irq_pin", pin) &&
	       (!pin ||
	        cJSON_AddNumberToObject(device, "irq", pci_get(f->config, PCI_REG_IRQ_LINE, 1)));
}

/* ---- bridges, and what is behind them ---- */

static bool add_devices(cJSON *to, const struct pci_bus *bus, const struct pcie_port *above);

static const char *const window_names[PCIE_WINDOWS] = {
	[PCIE_WINDOW_IO] = "io_range",
	[PCIE_WINDOW_MEMORY] = "memory_range",
	[PCIE_WINDOW_PREFETCH] = "prefetchable_range",
};

static bool add_windows(cJSON *info, const struct pci_function *f)
{
	bool ok = true;

	for (enum pcie_window w = 0; w < PCIE_WINDOWS && ok; w++) {
		const struct pcie_span s = pcie_bridge_window(f, w);
		cJSON *range = cJSON_AddObjectToObject(info, window_names[w]);

		ok = range && cJSON_AddNumberToObject(range, "base", (double)s.first) &&
		     cJSON_AddNumberToObject(range, "limit", (double)s.last);
	}
	return ok;
}

/* PciBridgeInfo, with what is in the port's slot. */
static bool add_bridge(cJSON *device, const struct pci_bus *bus, const struct pci_function *f)
{
	const struct pcie_port *port = container_of(f, const struct pcie_port, function);
	cJSON *bridge = cJSON_AddObjectToObject(device, "pci_bridge");
	cJSON *info = cJSON_AddObjectToObject(bridge, "bus");

	return info && cJSON_AddNumberToObject(info, "number", f->config[PCI_REG_PRIMARY]) &&
	       cJSON_AddNumberToObject(info, "secondary", pcie_port_secondary(port)) &&
	       cJSON_AddNumberToObject(info, "subordinate", f->config[PCI_REG_SUBORDINATE]) &&
	       add_windows(info, f) && add_devices(bridge, bus, port);
}

static bool add_device(cJSON *devices, const struct pci_bus *bus, const struct pci_function *f)
{
	const struct pcie_port *above = pcie_port_above(bus, f->slot);
	cJSON *device = cJSON_CreateObject();

	if (!cJSON_AddItemToArray(devices, device))
		return false;
	return cJSON_AddNumberToObject(device, "bus", above ? pcie_port_secondary(above) : 0) &&
	       cJSON_AddNumberToObject(device, "slot", pci_place_slot(f->slot)) &&
	       cJSON_AddNumberToObject(device, "function", f->number) && add_class(device, f) &&
	       add_id(device, f) && add_irq(device, f) &&
	       cJSON_AddStringToObject(device, "qdev_id", f->slot ? f->name : "") &&
	       add_regions(device, f) && (!pcie_is_port(f) || add_bridge(device, bus, f));
}

/* Those on bus 0 (`above` NULL) or behind a port. */
static bool add_devices(cJSON *to, const struct pci_bus *bus, const struct pcie_port *above)
{
	cJSON *devices = cJSON_AddArrayToObject(to, "devices");

	for (const struct pci_function *f = NULL; devices && (f = pci_next(bus, f));)
		if (pcie_port_above(bus, f->slot) == above &&
		    pci_visible(bus, f->slot, f->number) && !add_device(devices, bus, f))
			return false;
	return devices;
}

static bool add_bus(cJSON *buses, const struct pci_bus *bus)
{
	cJSON *info = cJSON_CreateObject();

	return cJSON_AddItemToArray(buses, info) && cJSON_AddNumberToObject(info, "bus", 0) &&
	       add_devices(info, bus, NULL);
}

char *pci_describe(const struct pci_bus *bus)
{
	cJSON *buses = cJSON_CreateArray();
	char *text = buses && add_bus(buses, bus) ? cJSON_PrintUnformatted(buses) : NULL;

	cJSON_Delete(buses);
	return text;
}
