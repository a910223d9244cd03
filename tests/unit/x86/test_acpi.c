/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/numa.h"
#include "vmm/pci.h"
#include "vmm/x86/pm_ports.h"
#include "vmm/x86/acpi.h"
#include "vmm/x86/layout.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SIZE (LAYOUT_ACPI_END - LAYOUT_RSDP)

static uint8_t image[SIZE];
static unsigned tables = 3;

static uint64_t get(uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	cr_assert(gpa >= LAYOUT_RSDP && gpa + size <= LAYOUT_ACPI_END);
	memcpy(&value, image + (gpa - LAYOUT_RSDP), size);
	return value;
}

static uint8_t sum(uint64_t gpa, uint64_t len)
{
	uint8_t s = 0;

	for (uint64_t i = 0; i < len; i++)
		s += (uint8_t)get(gpa + i, 1);
	return s;
}

static bool is(uint64_t gpa, const char *signature)
{
	return memcmp(image + (gpa - LAYOUT_RSDP), signature, 4) == 0;
}

/* Walks from the RSDP as a guest does, checking each sum. */
static uint64_t find(const char *signature)
{
	uint64_t xsdt = get(LAYOUT_RSDP + 24, 8), found = 0;
	uint64_t entries = (get(xsdt + 4, 4) - 36) / 8;

	cr_assert(memcmp(image, "RSD PTR ", 8) == 0);
	cr_assert_eq(sum(LAYOUT_RSDP, 20), 0);
	cr_assert_eq(sum(LAYOUT_RSDP, 36), 0);
	cr_assert(is(xsdt, "XSDT"));
	cr_assert_eq(sum(xsdt, get(xsdt + 4, 4)), 0);
	cr_assert_eq(entries, tables);
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t table = get(xsdt + 36 + i * 8, 8);

		cr_assert_eq(sum(table, get(table + 4, 4)), 0, "table %llu", (unsigned long long)i);
		if (is(table, signature))
			found = table;
	}
	cr_assert_neq(found, 0, "%s", signature);
	return found;
}

static const uint32_t *first_ids(unsigned cpus)
{
	static uint32_t ids[100000];

	cr_assert_leq(cpus, ARRAY_SIZE(ids));
	for (unsigned i = 0; i < cpus; i++)
		ids[i] = i;
	return ids;
}

static void build(unsigned cpus)
{
	struct gw_error err = { 0 };
	const struct acpi_contents c = { .apic_ids = first_ids(cpus), .cpus = cpus };
	size_t used;

	memset(image, 0, sizeof(image));
	cr_assert_eq(acpi_image(&c, image, SIZE, &used, &err), 0, "%s", err.text);
	cr_assert_leq(used, SIZE);
}

Test(acpi, fadt_is_hardware_reduced)
{
	uint64_t fadt, dsdt;

	build(1);
	fadt = find("FACP");
	cr_assert_eq(get(fadt + 4, 4), 276);
	cr_assert_eq(get(fadt + 8, 1), 6);
	cr_assert_eq(get(fadt + 112, 4) & (1u << 20 | 1u << 10), 1u << 20 | 1u << 10);
	cr_assert_eq(get(fadt + 109, 2), 0x34);
	cr_assert_eq(get(fadt + 116, 1), 1, "reset register is I/O");
	cr_assert_eq(get(fadt + 120, 8), PM_PORT + PM_RESET);
	cr_assert_eq(get(fadt + 128, 1), PM_RESET_VALUE);
	cr_assert_eq(get(fadt + 248, 8), PM_PORT + PM_SLEEP_CONTROL);
	cr_assert_eq(get(fadt + 260, 8), PM_PORT + PM_SLEEP_STATUS);
	dsdt = get(fadt + 140, 8);
	cr_assert_eq(dsdt, get(fadt + 40, 4));
	cr_assert(is(dsdt, "DSDT"));
	cr_assert_eq(sum(dsdt, get(dsdt + 4, 4)), 0);
}

Test(acpi, madt_has_every_vcpu)
{
	static const unsigned counts[] = { 1, 2, 255, 300 };

	for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
		unsigned cpus = 0, ioapics = 0;
		uint64_t madt, at;

		build(counts[c]);
		madt = find("APIC");
		cr_assert_eq(get(madt + 36, 4), LAYOUT_LAPIC);
		cr_assert_eq(get(madt + 40, 4), 0, "no 8259s");
		for (at = madt + 44; at < madt + get(madt + 4, 4); at += get(at + 1, 1)) {
			cr_assert_neq(get(at + 1, 1), 0);
			if (get(at, 1) == 0) {
				cr_assert_eq(get(at + 3, 1), cpus);
				cr_assert_eq(get(at + 4, 4), 1);
				cpus++;
			} else if (get(at, 1) == 9) {
				cr_assert_eq(get(at + 4, 4), cpus);
				cr_assert_eq(get(at + 8, 4), 1);
				cpus++;
			} else if (get(at, 1) == 1) {
				cr_assert_eq(get(at + 4, 4), LAYOUT_IOAPIC);
				cr_assert_eq(get(at + 8, 4), 0);
				ioapics++;
			}
		}
		cr_assert_eq(at, madt + get(madt + 4, 4), "entries end where the table does");
		cr_assert_eq(cpus, counts[c]);
		cr_assert_eq(ioapics, 1);
	}
}

/* Three cores of two threads in each of two sockets: the third core's ids are followed by a gap. */
Test(acpi, madt_has_the_ids_of_the_topology)
{
	static const uint32_t ids[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
	struct gw_error err = { 0 };
	unsigned cpus = 0;
	uint64_t madt;
	const struct acpi_contents c = { .apic_ids = ids, .cpus = ARRAY_SIZE(ids) };
	size_t used;

	memset(image, 0, sizeof(image));
	cr_assert_eq(acpi_image(&c, image, SIZE, &used, &err), 0, "%s", err.text);
	madt = find("APIC");
	for (uint64_t at = madt + 44; at < madt + get(madt + 4, 4); at += get(at + 1, 1)) {
		if (get(at, 1) != 0)
			continue;
		cr_assert_eq(get(at + 2, 1), cpus, "the processor's number");
		cr_assert_eq(get(at + 3, 1), ids[cpus], "its APIC id");
		cpus++;
	}
	cr_assert_eq(cpus, ARRAY_SIZE(ids));
}

/* In AML: NameOp "ADDR", PackageOp, its length, two elements, DWordPrefix and the address. */
Test(acpi, dsdt_says_where_the_generation_id_is)
{
	static const uint8_t aml[] = { 0x08,
		                       'A',
		                       'D',
		                       'D',
		                       'R',
		                       0x12,
		                       0x08,
		                       0x02,
		                       0x0c,
		                       LAYOUT_VMGENID & 0xff,
		                       LAYOUT_VMGENID >> 8 & 0xff,
		                       LAYOUT_VMGENID >> 16 & 0xff,
		                       LAYOUT_VMGENID >> 24,
		                       0x00 };

	build(1);
	cr_assert(memmem(image, SIZE, aml, sizeof(aml)));
	cr_assert(memmem(image, SIZE, "VM_Gen_Counter", 15));
}

Test(acpi, mcfg_is_the_ecam)
{
	uint64_t mcfg;

	build(1);
	mcfg = find("MCFG");
	cr_assert_eq(get(mcfg + 44, 8), LAYOUT_ECAM);
	cr_assert_eq(get(mcfg + 54, 1), 0);
	cr_assert_eq(get(mcfg + 55, 1), (LAYOUT_ECAM_SIZE >> 20) - 1);
}

/* In AML: PackageOp PkgLength 4, DWordPrefix address, pin, source 0, GSI in one byte. */
Test(acpi, dsdt_routes_intx_as_the_bus_does)
{
	unsigned found = 0;

	build(1);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			uint8_t aml[] = { 0x0c,
				          0xff,
				          0xff,
				          (uint8_t)slot,
				          0,
				          0x0a,
				          (uint8_t)pin,
				          0,
				          0x0a,
				          (uint8_t)pci_intx_gsi(slot, pin + 1) };
			size_t len = sizeof(aml);

			/* 0 and 1 are an opcode without a prefix. */
			if (pin < 2) {
				memmove(aml + 5, aml + 6, 4);
				len--;
			}
			found += memmem(image, SIZE, aml, len) != NULL;
		}
	}
	cr_assert_eq(found, 31 * 4);
}

Test(acpi, no_room_is_an_error)
{
	struct gw_error err = { 0 };
	struct acpi_contents c = { .apic_ids = first_ids(100000), .cpus = 1 };
	size_t used;

	cr_assert_eq(acpi_image(&c, image, 4096, &used, &err), -ENOSPC);
	c.cpus = 100000;
	cr_assert_eq(acpi_image(&c, image, SIZE, &used, &err), -ENOSPC);
}

Test(acpi, srat_has_memory_that_may_come)
{
	static const struct acpi_memory memory[] = {
		{ 0, 1ull << 30, false, 0 },
		{ 4ull << 30, 8ull << 30, true, 0 },
	};
	const struct acpi_contents c = { .apic_ids = first_ids(300),
		                         .cpus = 300,
		                         .memory = memory,
		                         .memory_count = ARRAY_SIZE(memory) };
	struct gw_error err = { 0 };
	unsigned cpus = 0, pieces = 0;
	uint64_t srat, at;
	size_t used;

	memset(image, 0, sizeof(image));
	cr_assert_eq(acpi_image(&c, image, SIZE, &used, &err), 0, "%s", err.text);
	tables = 4;
	srat = find("SRAT");
	cr_assert_eq(get(srat + 8, 1), 3, "revision");
	cr_assert_eq(get(srat + 36, 4), 1);
	for (at = srat + 48; at < srat + get(srat + 4, 4); at += get(at + 1, 1)) {
		cr_assert_neq(get(at + 1, 1), 0);
		if (get(at, 1) == 1) {
			cr_assert_eq(get(at + 1, 1), 40);
			cr_assert_eq(get(at + 8, 8), memory[pieces].gpa);
			cr_assert_eq(get(at + 16, 8), memory[pieces].size);
			cr_assert_eq(get(at + 28, 4), memory[pieces].hotplug ? 3 : 1);
			pieces++;
		} else {
			const bool x2apic = get(at, 1) == 2;

			cr_assert_eq(get(at + 1, 1), x2apic ? 24 : 16);
			cr_assert_eq(x2apic, cpus >= 255);
			cr_assert_eq(x2apic ? get(at + 8, 4) : get(at + 3, 1), cpus);
			cr_assert_eq(get(at + (x2apic ? 12 : 4), 4), 1);
			cpus++;
		}
	}
	cr_assert_eq(at, srat + get(srat + 4, 4), "entries end where the table does");
	cr_assert_eq(cpus, 300);
	cr_assert_eq(pieces, 2);
}

/* ---- nodes ---- */

/* Three CPUs and 4 GiB in two nodes, of which the first has 1 GiB: the second's is on both sides of
 * the hole. Memory may come to the first. */
static const struct acpi_memory shared[] = {
	{ 0, 3ull << 30, false, 0 },
	{ 4ull << 30, 1ull << 30, false, 0 },
	{ 8ull << 30, 2ull << 30, true, 1 },
};

static void build_nodes(bool distances)
{
	static const uint32_t ids[] = { 0, 2, 300 };
	const struct numa numa = {
		.nodes = 2,
		.cpu = { 0, 1, 1 },
		.memory = { 1ull << 30, 3ull << 30 },
		.distances = distances,
		.distance = { { 10, 21 }, { 31, 10 } },
		.pci = 1,
	};
	const struct acpi_contents c = {
		.apic_ids = ids,
		.cpus = 3,
		.memory = shared,
		.memory_count = ARRAY_SIZE(shared),
		.numa = &numa,
	};
	struct gw_error err = { 0 };
	size_t used;

	memset(image, 0, sizeof(image));
	cr_assert_eq(acpi_image(&c, image, SIZE, &used, &err), 0, "%s", err.text);
	tables = distances ? 6 : 5;
}

Test(acpi, srat_has_each_nodes_cpus_and_pieces)
{
	static const struct {
		uint64_t base, size, domain, flags;
	} pieces[] = {
		{ 0, 1ull << 30, 0, 1 },
		{ 1ull << 30, 2ull << 30, 1, 1 },
		{ 4ull << 30, 1ull << 30, 1, 1 },
		{ 8ull << 30, 2ull << 30, 1, 3 },
	};
	static const unsigned domains[] = { 0, 1, 1 };
	unsigned cpu = 0, piece = 0;
	uint64_t srat, at;

	build_nodes(true);
	srat = find("SRAT");
	for (at = srat + 48; at < srat + get(srat + 4, 4); at += get(at + 1, 1)) {
		switch (get(at, 1)) {
		case 0:
			cr_assert_eq(get(at + 2, 1), domains[cpu++]);
			cr_assert_eq(get(at + 9, 3), 0);
			break;
		case 2:
			cr_assert_eq(get(at + 8, 4), 300);
			cr_assert_eq(get(at + 4, 4), domains[cpu++]);
			break;
		default:
			cr_assert_lt(piece, ARRAY_SIZE(pieces));
			cr_assert_eq(get(at + 2, 4), pieces[piece].domain, "piece %u", piece);
			cr_assert_eq(get(at + 8, 8), pieces[piece].base);
			cr_assert_eq(get(at + 16, 8), pieces[piece].size);
			cr_assert_eq(get(at + 28, 4), pieces[piece].flags);
			piece++;
		}
	}
	cr_assert_eq(cpu, 3);
	cr_assert_eq(piece, ARRAY_SIZE(pieces));
}

Test(acpi, slit_has_the_distances)
{
	static const uint8_t rows[] = { 10, 21, 31, 10 };
	uint64_t slit;

	build_nodes(true);
	slit = find("SLIT");
	cr_assert_eq(get(slit + 8, 1), 1, "revision");
	cr_assert_eq(get(slit + 4, 4), 44 + 4);
	cr_assert_eq(get(slit + 36, 8), 2);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(get(slit + 44 + i, 1), rows[i]);
}

/* In AML: NameOp "_PXM", BytePrefix, the value. */
Test(acpi, the_root_bus_has_its_node)
{
	static const uint8_t aml[] = { 0x08, '_', 'P', 'X', 'M', 0x0a, 1 };
	uint64_t ssdt;

	build_nodes(false);
	ssdt = find("SSDT");
	cr_assert(memmem(image + (ssdt - LAYOUT_RSDP), get(ssdt + 4, 4), aml, sizeof(aml)));
	build(2);
	cr_assert_not(memmem(image, SIZE, "_PXM", 4), "none without nodes");
}

/* What iasl makes of a table goes to `said`. */
static void disassemble(const char *signature, char *said, size_t size)
{
	const uint64_t table = find(signature);
	char folder[] = "/tmp/acpi-XXXXXX", command[256];
	FILE *file;

	cr_assert_not_null(mkdtemp(folder));
	snprintf(command, sizeof(command), "%s/t.dat", folder);
	file = fopen(command, "we");
	cr_assert_not_null(file);
	cr_assert_eq(fwrite(image + (table - LAYOUT_RSDP), 1, get(table + 4, 4), file),
	             get(table + 4, 4));
	fclose(file);
	snprintf(command, sizeof(command), "cd %s && iasl -d t.dat >log 2>&1 && cat log t.dsl",
	         folder);
	file = popen(command, "re");
	cr_assert_not_null(file);
	said[fread(said, 1, size - 1, file)] = 0;
	cr_assert_eq(pclose(file), 0, "%s: %s", signature, said);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_assert_eq(system(command), 0);
}

Test(acpi, iasl_reads_the_same)
{
	static const struct {
		const char *table, *has[4];
	} expected[] = {
		{ "SRAT",
		  { "[Memory Affinity]", "Base Address : 0000000100000000",
		    "Address Length : 0000000040000000", "Hot Pluggable : 1" } },
		{ "SLIT", { "Localities : 0000000000000002", "0A 15", "1F 0A", "" } },
		{ "SSDT", { "Scope (\\_SB.PCI0)", "Name (_PXM, 0x01)", "", "" } },
	};
	static char said[64 * 1024];

	if (system("iasl -v >/dev/null 2>&1"))
		cr_skip_test("there is no iasl");
	build_nodes(true);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		disassemble(expected[i].table, said, sizeof(said));
		for (size_t t = 0; t < 4; t++)
			cr_assert(strstr(said, expected[i].has[t]), "%s: no \"%s\" in %s",
			          expected[i].table, expected[i].has[t], said);
		cr_assert_not(strstr(said, "rror") || strstr(said, "nvalid"), "%s", said);
	}
}
