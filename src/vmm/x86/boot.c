/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From power-on to the kernel's first instruction, as a firmware would: ACPI
 * tables, the kernel by whichever protocol its image speaks, and the boot
 * vCPU in the mode that the protocol wants.
 * Sources: Linux, Documentation/arch/x86/boot.rst (64-bit boot protocol);
 * Xen, docs/misc/pvh.pandoc (PVH); Intel SDM vol. 3A, 3.4.5, 4.5, 10.8.5.
 */
#include "vmm/boot.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/gunzip.h"
#include "vmm/memory.h"
#include "vmm/ram_layout.h"
#include "vmm/x86/acpi.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/pm_ports.h"
#include "vmm/x86/x86.h"

#include <elf.h>
#include <string.h>

#define CR0_PE 0x1ull
#define CR0_ET 0x10ull
#define CR0_PG 0x80000000ull
#define CR4_PAE 0x20ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define PTE_PRESENT 0x1ull
#define PTE_WRITE 0x2ull
#define PTE_LARGE 0x80ull

/* Selectors 0x10 and 0x18 are what the Linux boot protocol asks for. */
enum { GDT_CODE = 2, GDT_DATA = 3, GDT_TSS = 4, GDT_ENTRIES };

static void put(struct machine *m, uint64_t gpa, const void *buf, size_t len)
{
	/* All of it is below 1 MiB, and a machine has at least 2 MiB. */
	memory_write(m->memory, gpa, buf, len);
}

unsigned boot_memory_map(struct machine *m, struct memory_map_entry out[MEMORY_MAP_MAX])
{
	struct arch_range ranges[ARCH_RAM_RANGES];
	const unsigned count = ram_layout(memory_size(m->memory), ranges);
	unsigned n = 0;

	out[n++] = (struct memory_map_entry){ 0, LAYOUT_EBDA, E820_RAM };
	out[n++] = (struct memory_map_entry){ LAYOUT_EBDA, LAYOUT_HIGH_RAM - LAYOUT_EBDA,
		                              E820_RESERVED };
	out[n++] = (struct memory_map_entry){ LAYOUT_HIGH_RAM, ranges[0].size - LAYOUT_HIGH_RAM,
		                              E820_RAM };
	out[n++] = (struct memory_map_entry){ LAYOUT_ECAM, LAYOUT_ECAM_SIZE, E820_RESERVED };
	for (unsigned i = 1; i < count; i++)
		out[n++] = (struct memory_map_entry){ ranges[i].gpa, ranges[i].size, E820_RAM };
	return n;
}

int boot_place_initrd(struct machine *m, uint64_t limit, uint64_t above, uint64_t *gpa,
                      struct gw_error *err)
{
	const struct boot_image *initrd = boot_initrd(m->boot);
	uint64_t top = MIN(MIN(memory_size(m->memory), (uint64_t)LAYOUT_HOLE), limit);

	*gpa = 0;
	if (!initrd->size)
		return 0;
	if (initrd->size > top || ALIGN_DOWN(top - initrd->size, PAGE_SIZE) < above)
		return error_set(
		        err, -ENOSPC,
		        "boot.initrd: %llu bytes do not fit between 0x%llx and 0x%llx; the "
		        "machine needs more memory",
		        (unsigned long long)initrd->size, (unsigned long long)above,
		        (unsigned long long)top);
	*gpa = ALIGN_DOWN(top - initrd->size, PAGE_SIZE);
	return boot_copy(m, initrd, "boot.initrd", 0, initrd->size, *gpa, err);
}

/* The first 4 GiB one to one, in pages of 2 MiB. */
static void write_page_tables(struct machine *m)
{
	uint64_t pml4 = (LAYOUT_PAGE_TABLES + PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	uint64_t table[512] = { 0 };

	put(m, LAYOUT_PAGE_TABLES, table, sizeof(table));
	put(m, LAYOUT_PAGE_TABLES, &pml4, sizeof(pml4));
	for (uint64_t i = 0; i < 4; i++)
		table[i] = (LAYOUT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	put(m, LAYOUT_PAGE_TABLES + PAGE_SIZE, table, sizeof(table));
	for (uint64_t i = 0; i < 4; i++) {
		for (uint64_t j = 0; j < 512; j++)
			table[j] = (i * GIB + j * 2 * MIB) | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
		put(m, LAYOUT_PAGE_TABLES + (2 + i) * PAGE_SIZE, table, sizeof(table));
	}
}

static struct kvm_segment segment(unsigned index, uint8_t type, bool is_long)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = (uint16_t)(index * 8),
		.type = type,
		.present = 1,
		.s = 1,
		.db = !is_long,
		.l = is_long,
		.g = 1,
	};
}

/* A descriptor as the GDT holds it (Intel SDM vol. 3A, 3.4.5). */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t limit = s->g ? s->limit >> 12 : s->limit;

	return (limit & 0xffff) | (s->base & 0xffffff) << 16 | (uint64_t)s->type << 40 |
	       (uint64_t)s->s << 44 | (uint64_t)s->dpl << 45 | (uint64_t)s->present << 47 |
	       (limit >> 16 & 0xf) << 48 | (uint64_t)s->l << 53 | (uint64_t)s->db << 54 |
	       (uint64_t)s->g << 55 | (s->base >> 24 & 0xff) << 56;
}

static void set_segments(struct machine *m, struct kvm_sregs *sregs, bool long_mode)
{
	struct kvm_segment code = segment(GDT_CODE, 0xb, long_mode);
	struct kvm_segment data = segment(GDT_DATA, 0x3, false);
	struct kvm_segment tss = segment(GDT_TSS, 0xb, false);
	uint64_t gdt[GDT_ENTRIES] = { 0 };

	tss.s = tss.g = tss.db = 0;
	tss.limit = 0x67;
	gdt[GDT_CODE] = descriptor(&code);
	gdt[GDT_DATA] = descriptor(&data);
	gdt[GDT_TSS] = descriptor(&tss);
	put(m, LAYOUT_GDT, gdt, sizeof(gdt));
	sregs->gdt.base = LAYOUT_GDT;
	sregs->gdt.limit = sizeof(gdt) - 1;
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = tss;
}

static int set_entry(struct vcpu *v, const struct boot_entry *entry, struct gw_error *err)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsi = entry->rsi,
		.rbx = entry->rbx,
		.rflags = 0x2,
	};
	struct kvm_sregs sregs;
	int r = io_ioctl(v->fd, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_GET_SREGS", v->index);
	set_segments(v->machine, &sregs, entry->long_mode);
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (entry->long_mode) {
		write_page_tables(v->machine);
		sregs.cr3 = LAYOUT_PAGE_TABLES;
		sregs.cr4 = CR4_PAE;
		sregs.cr0 |= CR0_PG;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	r = io_ioctl(v->fd, KVM_SET_SREGS, &sregs);
	if (r < 0)
		return error_set_sys(err, r, "vcpu%u: KVM_SET_SREGS", v->index);
	r = io_ioctl(v->fd, KVM_SET_REGS, &regs);
	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_REGS", v->index) : 0;
}

/* Where a BIOS starts after a reset. Linux jumps there, in real mode, to restart a machine with
 * hardware-reduced ACPI that has no EFI. */
static void write_reset_vector(struct machine *m)
{
	static const uint8_t code[] = {
		0xba,
		(PM_PORT + PM_RESET) & 0xff,
		(PM_PORT + PM_RESET) >> 8, /* mov dx, port */
		0xb0,
		PM_RESET_VALUE, /* mov al, value */
		0xee,           /* out dx, al */
		0xf4,           /* hlt */
		0xeb,
		0xfd, /* jmp to the hlt */
	};

	put(m, LAYOUT_RESET_VECTOR, code, sizeof(code));
}

static int write_cmdline(struct machine *m, struct gw_error *err)
{
	const char *cmdline = m->config.boot.cmdline;
	size_t len = strlen(cmdline) + 1;

	if (memory_write(m->memory, LAYOUT_CMDLINE, cmdline, len) < 0)
		return error_set(err, -EINVAL, "boot.cmdline: %zu bytes do not fit", len);
	return 0;
}

/* What the kernel's file begins with. */
static int read_magic(const struct machine *m, char magic[SELFMAG], struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	const int r = io_pread_full(kernel->fd, magic, MIN((uint64_t)SELFMAG, kernel->size), 0);

	return r < 0 ? error_set_sys(err, r, "boot.kernel") : 0;
}

int x86_boot(struct machine *m, struct gw_error *err)
{
	struct boot_entry entry = { 0 };
	char magic[SELFMAG] = "";
	int r;

	if (!boot_kernel(m->boot)->size)
		return error_set(err, -ENOENT, "boot.kernel: there is no kernel image");
	r = read_magic(m, magic, err);
	if (!r && !memcmp(magic, GZIP_MAGIC, GZIP_MAGIC_LEN)) {
		r = boot_unpack_kernel(m->boot, err);
		if (!r)
			r = read_magic(m, magic, err);
	}
	if (r < 0)
		return r;
	r = acpi_build(m, err);
	write_reset_vector(m);
	if (!r)
		r = write_cmdline(m, err);
	if (!r && !memcmp(magic, ELFMAG, SELFMAG))
		r = boot_load_elf(m, &entry, err);
	else if (!r)
		r = boot_load_linux(m, &entry, err);
	return r ? r : set_entry(m->vcpus[0], &entry, err);
}
