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

	return id && cJSON_AddNumberToObject(id, "vendor", pci_get(f->config, PCI_REG_VENDOR, 2)) &&
	       cJSON_AddNumberToObject(id, "device", pci_get(f->config, PCI_REG_DEVICE, 2)) &&
	       cJSON_AddNumberToObject(id, "subsystem-vendor",
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

static bool add_device(cJSON *devices, const struct pci_function *f)
{
	cJSON *device = cJSON_CreateObject();

	if (!cJSON_AddItemToArray(devices, device))
		return false;
	return cJSON_AddNumberToObject(device, "bus", 0) &&
	       cJSON_AddNumberToObject(device, "slot", f->slot) &&
	       cJSON_AddNumberToObject(device, "function", f->number) && add_class(device, f) &&
	       add_id(device, f) && add_irq(device, f) &&
	       cJSON_AddStringToObject(device, "qdev_id", f->slot ? f->name : "") &&
	       add_regions(device, f);
}

static bool add_bus(cJSON *buses, const struct pci_bus *bus)
{
	cJSON *info = cJSON_CreateObject(), *devices;

	if (!cJSON_AddItemToArray(buses, info) || !cJSON_AddNumberToObject(info, "bus", 0))
		return false;
	devices = cJSON_AddArrayToObject(info, "devices");
	for (const struct pci_function *f = NULL; devices && (f = pci_next(bus, f));)
		if (pci_visible(bus, f->slot, f->number) && !add_device(devices, f))
			return false;
	return devices;
}

char *pci_describe(const struct pci_bus *bus)
{
	cJSON *buses = cJSON_CreateArray();
	char *text = buses && add_bus(buses, bus) ? cJSON_PrintUnformatted(buses) : NULL;

	cJSON_Delete(buses);
	return text;
}
