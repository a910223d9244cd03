/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bzImage by the 64-bit boot protocol.
 * Source: Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and zero-page.rst.
 */
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/boot.h"
#include "vmm/memory.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/x86.h"

#include <asm/bootparam.h>
#include <string.h>

#define HEADER_OFFSET 0x1f1
#define HEADER_JUMP 0x201       /* the byte here plus 0x202 is the header's end */
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define MIN_VERSION 0x020c      /* the first with xloadflags */
#define ENTRY_64 0x200          /* from the protected-mode kernel's start */
#define LOADER_UNDEFINED 0xff
#define SECTOR 512

static int read_header(struct machine *m, struct setup_header *out, struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	uint8_t first[HEADER_OFFSET + sizeof(*out)] = { 0 };
	size_t end;
	int r;

	if (kernel->size < sizeof(first))
		return error_set(err, -ENOEXEC, "boot.kernel: %llu bytes are no kernel",
		                 (unsigned long long)kernel->size);
	r = io_pread_full(kernel->fd, first, sizeof(first), 0);
	if (r < 0)
		return error_set_sys(err, r, "boot.kernel");
	end = MIN(sizeof(first), 0x202u + first[HEADER_JUMP]);
	memset(out, 0, sizeof(*out));
	memcpy(out, first + HEADER_OFFSET, end - HEADER_OFFSET);
	if (out->boot_flag != 0xaa55 || out->header != HEADER_MAGIC)
		return error_set(err, -ENOEXEC, "boot.kernel: neither a bzImage nor an ELF file");
	if (out->version < MIN_VERSION || !(out->xloadflags & XLF_KERNEL_64) ||
	    !(out->loadflags & LOADED_HIGH))
		return error_set(err, -ENOEXEC,
		                 "boot.kernel: boot protocol %u.%u without a 64-bit entry",
		                 out->version >> 8, out->version & 0xff);
	return 0;
}

static void fill_e820(struct machine *m, struct boot_params *zero_page)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	unsigned n = boot_memory_map(m, map);

	for (unsigned i = 0; i < n; i++)
		zero_page->e820_table[i] =
		        (struct boot_e820_entry){ map[i].gpa, map[i].size, map[i].type };
	zero_page->e820_entries = (uint8_t)n;
}

int boot_load_linux(struct machine *m, struct boot_entry *entry, struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	struct boot_params zero_page = { 0 };
	struct setup_header *header = &zero_page.hdr;
	uint64_t setup, load, initrd;
	int r = read_header(m, header, err);

	if (r < 0)
		return r;
	setup = ((header->setup_sects ? header->setup_sects : 4) + 1ull) * SECTOR;
	if (setup >= kernel->size)
		return error_set(err, -ENOEXEC, "boot.kernel: %llu bytes end within the setup code",
		                 (unsigned long long)kernel->size);
	load = header->pref_address;
	if (load < LAYOUT_HIGH_RAM || !memory_hva(m->memory, load, header->init_size))
		return error_set(
		        err, -ENOSPC,
		        "boot.kernel: it needs 0x%x bytes at 0x%llx; the machine needs more "
		        "memory",
		        header->init_size, (unsigned long long)load);
	if (strlen(m->config.boot.cmdline) > header->cmdline_size)
		return error_set(err, -EINVAL, "boot.cmdline: longer than the kernel's %u bytes",
		                 header->cmdline_size);
	r = boot_copy(m, kernel, "boot.kernel", setup, kernel->size - setup, load, err);
	if (!r)
		r = boot_place_initrd(m, header->initrd_addr_max + 1ull, load + header->init_size,
		                      &initrd, err);
	if (r < 0)
		return r;

	header->type_of_loader = LOADER_UNDEFINED;
	header->cmd_line_ptr = LAYOUT_CMDLINE;
	header->ramdisk_image = (uint32_t)initrd;
	header->ramdisk_size = (uint32_t)boot_initrd(m->boot)->size;
	zero_page.acpi_rsdp_addr = LAYOUT_RSDP;
	fill_e820(m, &zero_page);
	memory_write(m->memory, LAYOUT_ZERO_PAGE, &zero_page, sizeof(zero_page));
	*entry = (struct boot_entry){ .rip = load + ENTRY_64,
		                      .rsi = LAYOUT_ZERO_PAGE,
		                      .long_mode = true };
	return 0;
}
