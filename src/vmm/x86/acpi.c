/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/x86/acpi.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/numa.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/pm_ports.h"

#include "acpi/dsdt.h"
#include "acpi/fadt.h"
#include "acpi/madt.h"
#include "acpi/mcfg.h"
#include "acpi/ssdt.h"

#include <string.h>

/* What dsdt.asl relies on, and its compiler cannot reckon. */
_Static_assert(LAYOUT_VMGENID % PAGE_SIZE == 0 && LAYOUT_VMGENID >= LAYOUT_EBDA &&
                       LAYOUT_VMGENID + PAGE_SIZE <= LAYOUT_RSDP,
               "a page that the guest is told to leave alone");
_Static_assert(LAYOUT_PIO_LAST == LAYOUT_PIO + LAYOUT_PIO_SIZE - 1, "I/O window");
_Static_assert(LAYOUT_MMIO32_LAST == LAYOUT_MMIO32 + LAYOUT_MMIO32_SIZE - 1, "32-bit window");
_Static_assert(LAYOUT_MMIO64_LAST == LAYOUT_MMIO64 + LAYOUT_MMIO64_SIZE - 1, "64-bit window");
_Static_assert(PM_PCI_UP == PM_EVENTS + 4 && PM_PCI_DOWN == PM_PCI_UP + 4 &&
                       PM_PCI_EJECT == PM_PCI_DOWN + 4,
               "event registers");

#define TABLE_ALIGN 64u
#define IMAGE_SIZE (LAYOUT_ACPI_END - LAYOUT_RSDP)
#define XSDT_TABLES 6
#define LAPIC_IDS 255u /* 8-bit local APIC IDs; 255 is for all */
#define APIC_ENABLED 1u

/* Table headers are the same for all (5.2.6). */
struct table_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct table_header) == 36, "ACPI 6.5, 5.2.6");

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.5, 5.2.5.3");
#define RSDP_V1_SIZE 20

struct xsdt {
	struct table_header header;
	uint64_t tables[XSDT_TABLES];
} __attribute__((packed));

/* In the FADT (5.2.9). */
#define FADT_DSDT 40
#define FADT_X_DSDT 140

struct madt_lapic {
	uint8_t type, length, uid, id;
	uint32_t flags;
} __attribute__((packed));
_Static_assert(sizeof(struct madt_lapic) == 8, "ACPI 6.5, 5.2.12.2");

struct madt_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t id, flags, uid;
} __attribute__((packed));
_Static_assert(sizeof(struct madt_x2apic) == 16, "ACPI 6.5, 5.2.12.12");

struct srat {
	struct table_header header;
	uint32_t one;
	uint64_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct srat) == 48, "ACPI 6.5, 5.2.16");

struct srat_lapic {
	uint8_t type, length, domain, id;
	uint32_t flags;
	uint8_t sapic_eid, domain_high[3];
	uint32_t clock_domain;
} __attribute__((packed));
_Static_assert(sizeof(struct srat_lapic) == 16, "ACPI 6.5, 5.2.16.1");

struct srat_memory {
	uint8_t type, length;
	uint32_t domain;
	uint16_t reserved;
	uint64_t base, size;
	uint32_t reserved2, flags;
	uint64_t reserved3;
} __attribute__((packed));
_Static_assert(sizeof(struct srat_memory) == 40, "ACPI 6.5, 5.2.16.2");

struct srat_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t domain, id, flags, clock_domain, reserved2;
} __attribute__((packed));
_Static_assert(sizeof(struct srat_x2apic) == 24, "ACPI 6.5, 5.2.16.3");
#define SRAT_ENABLED 1u
#define SRAT_HOTPLUG 2u

struct slit {
	struct table_header header;
	uint64_t localities;
} __attribute__((packed));
_Static_assert(sizeof(struct slit) == 44, "ACPI 6.5, 5.2.17");

/* The image while it is filled. */
struct image {
	uint8_t *bytes;
	size_t size, at;
	struct gw_error *err;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	return (uint8_t)-sum;
}

/* Room for `len` bytes; their offset, or -ENOSPC. */
static int64_t take(struct image *image, size_t len, size_t align)
{
	size_t at = ALIGN_UP(image->at, align);

	if (at > image->size || len > image->size - at)
		return error_set(image->err, -ENOSPC, "ACPI tables: no room for %zu bytes at 0x%zx",
		                 len, at);
	image->at = at + len;
	return (int64_t)at;
}

static int64_t append(struct image *image, const void *bytes, size_t len, size_t align)
{
	int64_t at = take(image, len, align);

	if (at >= 0)
		memcpy(image->bytes + at, bytes, len);
	return at;
}

/* Writes length and checksum of the table that begins at `at` and ends where the image does. */
static void finish(struct image *image, int64_t at)
{
	uint8_t *table = image->bytes + at;
	uint32_t length = (uint32_t)(image->at - (size_t)at);

	memcpy(table + offsetof(struct table_header, length), &length, sizeof(length));
	table[offsetof(struct table_header, checksum)] = 0;
	table[offsetof(struct table_header, checksum)] = checksum(table, length);
}

static uint64_t gpa_of(int64_t at)
{
	return LAYOUT_RSDP + (uint64_t)at;
}

static int64_t add_fadt(struct image *image)
{
	int64_t dsdt = append(image, acpi_dsdt, sizeof(acpi_dsdt), TABLE_ALIGN);
	uint64_t gpa = gpa_of(dsdt);
	uint32_t gpa32 = (uint32_t)gpa;
	int64_t at;

	if (dsdt < 0)
		return dsdt;
	at = append(image, acpi_fadt, sizeof(acpi_fadt), TABLE_ALIGN);
	if (at < 0)
		return at;
	memcpy(image->bytes + at + FADT_DSDT, &gpa32, sizeof(gpa32));
	memcpy(image->bytes + at + FADT_X_DSDT, &gpa, sizeof(gpa));
	finish(image, at);
	return at;
}

static int64_t add_cpu(struct image *image, uint32_t uid, uint32_t id)
{
	struct madt_lapic lapic = {
		.type = 0,
		.length = sizeof(lapic),
		.uid = (uint8_t)uid,
		.id = (uint8_t)id,
		.flags = APIC_ENABLED,
	};
	struct madt_x2apic x2apic = {
		.type = 9,
		.length = sizeof(x2apic),
		.id = id,
		.flags = APIC_ENABLED,
		.uid = uid,
	};

	return id < LAPIC_IDS ? append(image, &lapic, sizeof(lapic), 1)
	                      : append(image, &x2apic, sizeof(x2apic), 1);
}

static int64_t add_madt(struct image *image, const uint32_t *apic_ids, unsigned cpus)
{
	int64_t at = append(image, acpi_madt, sizeof(acpi_madt), TABLE_ALIGN), r = 0;

	if (at < 0)
		return at;
	for (unsigned i = 0; i < cpus && r >= 0; i++)
		r = add_cpu(image, i, apic_ids[i]);
	if (r < 0)
		return r;
	finish(image, at);
	return at;
}

static int64_t add_mcfg(struct image *image)
{
	return append(image, acpi_mcfg, sizeof(acpi_mcfg), TABLE_ALIGN);
}

static struct table_header new_header(const char *signature, uint8_t revision)
{
	struct table_header header = {
		.revision = revision,
		.oem_id = "GODWIT",
		.oem_table_id = "GODWITPC",
		.oem_revision = 1,
		.creator_id = "GDWT",
		.creator_revision = 1,
	};

	memcpy(header.signature, signature, sizeof(header.signature));
	return header;
}

/* NameOp (it is before `name`), BytePrefix, the value (20.2.5.1, 20.2.3). */
static int64_t add_pci_domain(struct image *image, unsigned domain)
{
	static const uint8_t name[] = { '_', 'P', 'X', 'M', 0x0a };
	int64_t at = append(image, acpi_ssdt, sizeof(acpi_ssdt), TABLE_ALIGN);
	uint8_t *found =
	        at < 0 ? NULL : memmem(image->bytes + at, sizeof(acpi_ssdt), name, sizeof(name));

	if (!found)
		return at;
	found[sizeof(name)] = (uint8_t)domain;
	finish(image, at);
	return at;
}

static int64_t add_affinity_of_cpu(struct image *image, uint32_t id, unsigned node)
{
	const struct srat_lapic lapic = {
		.type = 0,
		.length = sizeof(lapic),
		.domain = (uint8_t)node,
		.id = (uint8_t)id,
		.flags = SRAT_ENABLED,
	};
	const struct srat_x2apic x2apic = {
		.type = 2,
		.length = sizeof(x2apic),
		.domain = node,
		.id = id,
		.flags = SRAT_ENABLED,
	};

	return id < LAPIC_IDS ? append(image, &lapic, sizeof(lapic), 1)
	                      : append(image, &x2apic, sizeof(x2apic), 1);
}

static int64_t add_affinity_of_memory(struct image *image, const struct numa_part *part,
                                      const struct acpi_memory *in)
{
	const struct srat_memory memory = {
		.type = 1,
		.length = sizeof(memory),
		.domain = part->node,
		.base = in->gpa + part->offset,
		.size = part->size,
		.flags = SRAT_ENABLED | (in->hotplug ? SRAT_HOTPLUG : 0),
	};

	return append(image, &memory, sizeof(memory), 1);
}

/* Where memory may come tells a guest how high its addresses may get one day: Linux keeps bounce
 * buffers only if some may be out of a device's reach. */
static int64_t add_srat(struct image *image, const struct acpi_contents *c)
{
	struct srat srat = { .header = new_header("SRAT", 3), .one = 1 };
	uint64_t before = 0;
	int64_t at = append(image, &srat, sizeof(srat), TABLE_ALIGN), r = 0;

	if (at < 0)
		return at;
	for (unsigned i = 0; i < c->cpus && r >= 0; i++)
		r = add_affinity_of_cpu(image, c->apic_ids[i], c->numa ? c->numa->cpu[i] : 0);
	for (unsigned i = 0; i < c->memory_count && r >= 0; i++) {
		const struct acpi_memory *memory = &c->memory[i];
		struct numa_part parts[CONFIG_NODES_MAX] = { { 0, memory->size, memory->node } };
		unsigned n = 1;

		if (!memory->hotplug)
			n = numa_cut(c->numa, before, memory->size, parts);
		for (unsigned p = 0; p < n && r >= 0; p++)
			r = add_affinity_of_memory(image, &parts[p], memory);
		before += memory->size;
	}
	if (r < 0)
		return r;
	finish(image, at);
	return at;
}

static int64_t add_slit(struct image *image, const struct numa *numa)
{
	struct slit slit = { .header = new_header("SLIT", 1), .localities = numa->nodes };
	int64_t at = append(image, &slit, sizeof(slit), TABLE_ALIGN), r = 0;

	if (at < 0)
		return at;
	for (unsigned i = 0; i < numa->nodes && r >= 0; i++)
		r = append(image, numa->distance[i], numa->nodes, 1);
	if (r < 0)
		return r;
	finish(image, at);
	return at;
}

static int64_t add_xsdt(struct image *image, const int64_t *tables, unsigned count)
{
	struct xsdt xsdt = { .header = new_header("XSDT", 1) };
	int64_t at;

	for (unsigned i = 0; i < count; i++)
		xsdt.tables[i] = gpa_of(tables[i]);
	at = append(image, &xsdt, offsetof(struct xsdt, tables[count]), TABLE_ALIGN);
	if (at >= 0)
		finish(image, at);
	return at;
}

static void write_rsdp(struct image *image, int64_t xsdt)
{
	struct rsdp rsdp = {
		.signature = "RSD PTR ",
		.oem_id = "GODWIT",
		.revision = 2,
		.length = sizeof(rsdp),
		.xsdt = gpa_of(xsdt),
	};

	rsdp.checksum = checksum((const uint8_t *)&rsdp, RSDP_V1_SIZE);
	rsdp.extended_checksum = checksum((const uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(image->bytes, &rsdp, sizeof(rsdp));
}

int acpi_image(const struct acpi_contents *c, uint8_t *bytes, size_t size, size_t *used,
               struct gw_error *err)
{
	struct image image = {
		.bytes = bytes,
		.size = size,
		.at = LAYOUT_ACPI - LAYOUT_RSDP,
		.err = err,
	};
	int64_t tables[XSDT_TABLES] = { add_fadt(&image), add_madt(&image, c->apic_ids, c->cpus),
		                        add_mcfg(&image) };
	unsigned count = 3;
	int64_t xsdt;

	if (c->memory_count)
		tables[count++] = add_srat(&image, c);
	if (c->numa)
		tables[count++] = add_pci_domain(&image, c->numa->pci);
	if (c->numa && c->numa->distances)
		tables[count++] = add_slit(&image, c->numa);
	for (unsigned i = 0; i < count; i++) {
		if (tables[i] < 0)
			return (int)tables[i];
	}
	xsdt = add_xsdt(&image, tables, count);
	if (xsdt < 0)
		return (int)xsdt;
	write_rsdp(&image, xsdt);
	*used = image.at;
	return 0;
}

/* None where no memory can come and there are no nodes: then nobody looks for it here. What the
 * machine began with comes first, in the order in which the nodes share it. */
static unsigned collect_memory(const struct machine *m, struct acpi_memory *out)
{
	bool hotplug = false;
	unsigned n = 0;

	for (size_t i = 0; i < memory_region_count(m->memory); i++) {
		const struct ram_region *r = memory_region(m->memory, i);

		if (r->gpa == MEMORY_GONE)
			continue;
		hotplug |= r->block != 0;
		out[n++] = (struct acpi_memory){ r->gpa, r->size, r->block != 0, r->node };
	}
	return hotplug || m->config.node_count ? n : 0;
}

int acpi_build(struct machine *m, struct gw_error *err)
{
	autofree uint8_t *image = calloc(1, IMAGE_SIZE);
	autofree uint32_t *ids = calloc(m->vcpu_count + 1, sizeof(*ids));
	struct acpi_memory memory[MEMORY_REGIONS_MAX];
	struct acpi_contents c = { .apic_ids = ids, .cpus = m->vcpu_count, .memory = memory };
	struct numa numa;
	size_t used;
	int r;

	if (!image || !ids)
		return error_set(err, -ENOMEM, "ACPI tables: no memory");
	for (unsigned i = 0; i < m->vcpu_count; i++)
		ids[i] = arch_vcpu_id(m, i);
	c.memory_count = collect_memory(m, memory);
	numa_make(&m->config, &numa);
	c.numa = numa.nodes ? &numa : NULL;
	r = acpi_image(&c, image, IMAGE_SIZE, &used, err);
	if (r < 0)
		return r;
	r = memory_write(m->memory, LAYOUT_RSDP, image, used);
	return r < 0 ? error_set_sys(err, r, "ACPI tables at 0x%x", LAYOUT_RSDP) : 0;
}
