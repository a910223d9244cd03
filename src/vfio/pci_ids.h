/* SPDX-License-Identifier: Apache-2.0 */
/* Names for PCI's numbers, from the file that Debian's pci.ids and hwdata packages install. */
#ifndef VFIO_PCI_IDS_H
#define VFIO_PCI_IDS_H

#include <stddef.h>

/* All zero: no file; names are empty then. */
struct pci_ids {
	char *text;
};

/* From the first of the usual places that has it. */
void pci_ids_load(struct pci_ids *ids);
/* From this file; does nothing if it cannot be read. */
void pci_ids_load_file(struct pci_ids *ids, const char *path);
void pci_ids_free(struct pci_ids *ids);

/* "" where there is none. */
void pci_ids_vendor(const struct pci_ids *ids, unsigned vendor, char *out, size_t size);
void pci_ids_device(const struct pci_ids *ids, unsigned vendor, unsigned device, char *out,
                    size_t size);
/* Of base class and subclass (the upper two bytes of `class`), or of the base class alone. */
void pci_ids_class(const struct pci_ids *ids, unsigned class, char *out, size_t size);

#endif
