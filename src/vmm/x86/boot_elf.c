/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF kernel (vmlinux, or a guest of one's own) by PVH.
 * Sources: Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h (layout);
 * System V ABI, ELF-64 object file format.
 */
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/boot.h"
#include "vmm/memory.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/x86.h"

#include <elf.h>
#include <string.h>

#define NOTE_PHYS32_ENTRY 18
#define NOTE_SIZE_MAX (64 * KIB)
#define START_INFO_MAGIC 0x336ec578
#define PHDRS_MAX 64

struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, cmdline, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};

struct pvh_module {
	uint64_t address, size, cmdline, reserved;
};

struct pvh_memory {
	uint64_t address, size;
	uint32_t type, reserved;
};

static int read_headers(const struct boot_image *kernel, Elf64_Ehdr *ehdr,
                        Elf64_Phdr phdrs[PHDRS_MAX], struct gw_error *err)
{
	int r = kernel->size < sizeof(*ehdr) ? -EPIPE
	                                     : io_pread_full(kernel->fd, ehdr, sizeof(*ehdr), 0);

	if (r < 0)
		return error_set_sys(err, r, "boot.kernel: ELF header");
	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64 || ehdr->e_ident[EI_DATA] != ELFDATA2LSB ||
	    ehdr->e_machine != EM_X86_64)
		return error_set(err, -ENOEXEC, "boot.kernel: an ELF file, but not for x86-64");
	if (ehdr->e_phentsize != sizeof(phdrs[0]) || ehdr->e_phnum > PHDRS_MAX)
		return error_set(err, -ENOEXEC, "boot.kernel: %u program headers of %u bytes",
		                 ehdr->e_phnum, ehdr->e_phentsize);
	r = io_pread_full(kernel->fd, phdrs, ehdr->e_phnum * sizeof(phdrs[0]),
	                  (off_t)ehdr->e_phoff);
	return r < 0 ? error_set_sys(err, r, "boot.kernel: program headers") : 0;
}

/* Looks through a PT_NOTE for Xen's PHYS32_ENTRY. */
static bool find_entry(const uint8_t *notes, size_t len, uint32_t *entry)
{
	size_t at = 0;

	while (len - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		size_t name, desc;

		memcpy(&n, notes + at, sizeof(n));
		at += sizeof(n);
		name = ALIGN_UP((size_t)n.n_namesz, 4u);
		desc = ALIGN_UP((size_t)n.n_descsz, 4u);
		if (name > len - at || desc > len - at - name)
			return false;
		if (n.n_type == NOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
		    !memcmp(notes + at, "Xen", 4) && n.n_descsz >= sizeof(*entry)) {
			memcpy(entry, notes + at + name, sizeof(*entry));
			return true;
		}
		at += name + desc;
	}
	return false;
}

static int scan_notes(const struct boot_image *kernel, const Elf64_Phdr *ph, uint32_t *entry,
                      bool *found, struct gw_error *err)
{
	uint64_t len = MIN(ph->p_filesz, NOTE_SIZE_MAX);
	autofree uint8_t *notes = malloc(len + 1);
	int r;

	if (!notes)
		return error_set(err, -ENOMEM, "boot.kernel: out of memory");
	r = io_pread_full(kernel->fd, notes, len, (off_t)ph->p_offset);
	if (r < 0)
		return error_set_sys(err, r, "boot.kernel: notes");
	*found = find_entry(notes, len, entry);
	return 0;
}

static int load_segment(struct machine *m, const Elf64_Phdr *ph, uint64_t *end,
                        struct gw_error *err)
{
	uint8_t *to = memory_hva(m->memory, ph->p_paddr, ph->p_memsz);
	int r;

	if (ph->p_filesz > ph->p_memsz || ph->p_paddr < LAYOUT_HIGH_RAM || !to)
		return error_set(err, -ENOSPC,
		                 "boot.kernel: segment of 0x%llx bytes at 0x%llx does not fit",
		                 (unsigned long long)ph->p_memsz, (unsigned long long)ph->p_paddr);
	r = boot_copy(m, boot_kernel(m->boot), "boot.kernel", ph->p_offset, ph->p_filesz,
	              ph->p_paddr, err);
	if (r < 0)
		return r;
	memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	memory_mark_dirty(m->memory, ph->p_paddr, ph->p_memsz);
	*end = MAX(*end, ph->p_paddr + ph->p_memsz);
	return 0;
}

static void write_start_info(struct machine *m, uint64_t initrd)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	struct pvh_memory memory[MEMORY_MAP_MAX];
	struct pvh_module module = { .address = initrd, .size = boot_initrd(m->boot)->size };
	struct pvh_start_info info = {
		.magic = START_INFO_MAGIC,
		.version = 1,
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = LAYOUT_RSDP,
	};
	uint64_t at = LAYOUT_PVH_INFO + sizeof(info);

	info.memory_map_entries = boot_memory_map(m, map);
	for (unsigned i = 0; i < info.memory_map_entries; i++)
		memory[i] = (struct pvh_memory){ map[i].gpa, map[i].size, map[i].type, 0 };
	info.memory_map = at;
	memory_write(m->memory, at, memory, info.memory_map_entries * sizeof(memory[0]));
	at += sizeof(memory);
	if (module.size) {
		info.nr_modules = 1;
		info.modules = at;
		memory_write(m->memory, at, &module, sizeof(module));
	}
	memory_write(m->memory, LAYOUT_PVH_INFO, &info, sizeof(info));
}

int boot_load_elf(struct machine *m, struct boot_entry *entry, struct gw_error *err)
{
	const struct boot_image *kernel = boot_kernel(m->boot);
	Elf64_Phdr phdrs[PHDRS_MAX];
	Elf64_Ehdr ehdr;
	uint64_t end = LAYOUT_HIGH_RAM, initrd;
	uint32_t address = 0;
	bool found = false;
	int r = read_headers(kernel, &ehdr, phdrs, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < ehdr.e_phnum && !r; i++) {
		if (phdrs[i].p_type == PT_LOAD && phdrs[i].p_memsz)
			r = load_segment(m, &phdrs[i], &end, err);
		else if (phdrs[i].p_type == PT_NOTE && !found)
			r = scan_notes(kernel, &phdrs[i], &address, &found, err);
	}
	if (r < 0)
		return r;
	if (!found)
		return error_set(err, -ENOEXEC,
		                 "boot.kernel: an ELF file without a PVH entry (Xen note %u)",
		                 NOTE_PHYS32_ENTRY);
	r = boot_place_initrd(m, LAYOUT_4G, ALIGN_UP(end, PAGE_SIZE), &initrd, err);
	if (r < 0)
		return r;
	write_start_info(m, initrd);
	*entry = (struct boot_entry){ .rip = address, .rbx = LAYOUT_PVH_INFO };
	return 0;
}
