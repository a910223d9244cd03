/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is lines of a key and a name: a vendor's at the margin, its
 * devices' below it behind one tab; classes begin with "C ", their subclasses
 * stand behind one tab likewise. Comments begin with #.
 */
#include "vfio/pci_ids.h"

#include "base/io.h"
#include "base/util.h"

#include <stdio.h>
#include <string.h>

#define FILE_MAX (16 * MIB)

void pci_ids_load_file(struct pci_ids *ids, const char *path)
{
	if (!ids->text)
		io_read_file(path, FILE_MAX, &ids->text, NULL, NULL);
}

void pci_ids_load(struct pci_ids *ids)
{
	static const char *const places[] = { "/usr/share/misc/pci.ids",
		                              "/usr/share/hwdata/pci.ids" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		pci_ids_load_file(ids, places[i]);
}

void pci_ids_free(struct pci_ids *ids)
{
	free(ids->text);
	ids->text = NULL;
}

static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end ? end + 1 : line + strlen(line);
}

/* The name that follows `key` on its line; `line` is the one that begins with it. */
static void take_name(const char *line, const char *key, char *out, size_t size)
{
	const char *name = line + strlen(key);

	name += strspn(name, " ");
	snprintf(out, size, "%.*s", (int)strcspn(name, "\r\n"), name);
}

/* The line of a top entry; NULL: there is none. */
static const char *find_top(const struct pci_ids *ids, const char *key)
{
	for (const char *line = ids->text; line && *line; line = next_line(line))
		if (!strncmp(line, key, strlen(key)))
			return line;
	return NULL;
}

/* The line below it, up to the next top entry. */
static const char *find_below(const char *top, const char *key)
{
	for (const char *line = next_line(top); *line == '\t' || *line == '#';
	     line = next_line(line))
		if (!strncmp(line, key, strlen(key)))
			return line;
	return NULL;
}

void pci_ids_vendor(const struct pci_ids *ids, unsigned vendor, char *out, size_t size)
{
	const char *top;
	char key[8];

	out[0] = 0;
	snprintf(key, sizeof(key), "%04x ", vendor & 0xffff);
	top = find_top(ids, key);
	if (top)
		take_name(top, key, out, size);
}

void pci_ids_device(const struct pci_ids *ids, unsigned vendor, unsigned device, char *out,
                    size_t size)
{
	const char *top, *below;
	char key[8];

	out[0] = 0;
	snprintf(key, sizeof(key), "%04x ", vendor & 0xffff);
	top = find_top(ids, key);
	snprintf(key, sizeof(key), "\t%04x ", device & 0xffff);
	below = top ? find_below(top, key) : NULL;
	if (below)
		take_name(below, key, out, size);
}

/* PCI Code and ID Assignment Specification, 1: base classes, for hosts without the file. */
static const char *const base_classes[] = {
	"unclassified device",
	"mass storage",
	"network controller",
	"display controller",
	"multimedia device",
	"memory controller",
	"bridge",
	"communication controller",
	"system peripheral",
	"input device",
	"docking station",
	"processor",
	"serial bus",
	"wireless controller",
	"intelligent I/O",
	"satellite",
	"encryption",
	"signal processing",
	"processing accelerator",
	"instrumentation",
};

void pci_ids_class(const struct pci_ids *ids, unsigned class, char *out, size_t size)
{
	const unsigned base = class >> 16 & 0xff;
	const char *top, *below;
	char top_key[8], key[8];

	out[0] = 0;
	snprintf(top_key, sizeof(top_key), "C %02x ", base);
	top = find_top(ids, top_key);
	snprintf(key, sizeof(key), "\t%02x ", class >> 8 & 0xff);
	below = top ? find_below(top, key) : NULL;
	if (below)
		take_name(below, key, out, size);
	else if (top)
		take_name(top, top_key, out, size);
	else if (base < ARRAY_SIZE(base_classes))
		snprintf(out, size, "%s", base_classes[base]);
}
