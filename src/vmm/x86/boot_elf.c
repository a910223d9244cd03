/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF kernel (vmlinux, or a guest of one's own) by PVH.
 * Sources: Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h (layout);
 * System V ABI, ELF-64 object file format;
 * System V ABI, Intel386 supplement (the same for 32 bits).
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

/* What of a program header is needed, of either class. */
struct segment {
	uint32_t type;
	uint64_t offset, paddr, filesz, memsz;
};

struct program {
	struct segment segments[PHDRS_MAX];
	unsigned count;
};

/* A table of `count` headers of `size` bytes; `raw` has room for them. */
static int read_table(const struct boot_image *kernel, void *raw, size_t size, uint16_t entsize,
                      uint16_t count, uint64_t offset, struct gw_error *err)
{
	int r;

	if (entsize != size || count > PHDRS_MAX)
		return error_set(err, -ENOEXEC, "boot.kernel: %u program headers of %u bytes",
		                 count, entsize);
	r = offset > kernel->size || count * size > kernel->size - offset
	            ? -EPIPE
	            : io_pread_full(kernel->fd, raw, count * size, (off_t)offset);
	return r < 0 ? error_set_sys(err, r, "boot.kernel: program headers") : 0;
}

static int read_64(const struct boot_image *kernel, const Elf64_Ehdr *ehdr, struct program *out,
                   struct gw_error *err)
{
	Elf64_Phdr raw[PHDRS_MAX];
	int r = read_table(kernel, raw, sizeof(raw[0]), ehdr->e_phentsize, ehdr->e_phnum,
	                   ehdr->e_phoff, err);

	out->count = ehdr->e_phnum;
	for (unsigned i = 0; i < out->count && !r; i++)
		out->segments[i] = (struct segment){ raw[i].p_type, raw[i].p_offset, raw[i].p_paddr,
			                             raw[i].p_filesz, raw[i].p_memsz };
	return r;
}

static int read_32(const struct boot_image *kernel, const Elf32_Ehdr *ehdr, struct program *out,
                   struct gw_error *err)
{
	Elf32_Phdr raw[PHDRS_MAX];
	int r = read_table(kernel, raw, sizeof(raw[0]), ehdr->e_phentsize, ehdr->e_phnum,
	                   ehdr->e_phoff, err);

	out->count = ehdr->e_phnum;
	for (unsigned i = 0; i < out->count && !r; i++)
		out->segments[i] = (struct segment){ raw[i].p_type, raw[i].p_offset, raw[i].p_paddr,
			                             raw[i].p_filesz, raw[i].p_memsz };
	return r;
}

/* PVH enters in 32-bit mode: either class will do. */
static int read_headers(const struct boot_image *kernel, struct program *out, struct gw_error *err)
{
	union {
		Elf64_Ehdr elf64;
		Elf32_Ehdr elf32;
	} ehdr = { 0 };
	const unsigned char *ident = ehdr.elf32.e_ident;
	int r = kernel->size < sizeof(ehdr.elf32)
	                ? -EPIPE
	                : io_pread_full(kernel->fd, &ehdr, MIN(sizeof(ehdr), kernel->size), 0);

	if (r < 0)
		return error_set_sys(err, r, "boot.kernel: ELF header");
	/* Both have the machine in the same place. */
	if (ident[EI_DATA] == ELFDATA2LSB && ident[EI_CLASS] == ELFCLASS64 &&
	    ehdr.elf64.e_machine == EM_X86_64)
		return read_64(kernel, &ehdr.elf64, out, err);
	if (ident[EI_DATA] == ELFDATA2LSB && ident[EI_CLASS] == ELFCLASS32 &&
	    (ehdr.elf32.e_machine == EM_386 || ehdr.elf32.e_machine == EM_X86_64))
		return read_32(kernel, &ehdr.elf32, out, err);
	return error_set(err, -ENOEXEC, "boot.kernel: an ELF file, but not for x86");
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

static int scan_notes(const struct boot_image *kernel, const struct segment *s, uint32_t *entry,
                      bool *found, struct gw_error *err)
{
	uint64_t len = MIN(s->filesz, NOTE_SIZE_MAX);
	autofree uint8_t *notes = malloc(len + 1);
	int r;

	if (!notes)
		return error_set(err, -ENOMEM, "boot.kernel: out of memory");
	r = io_pread_full(kernel->fd, notes, len, (off_t)s->offset);
	if (r < 0)
		return error_set_sys(err, r, "boot.kernel: notes");
	*found = find_entry(notes, len, entry);
	return 0;
}

static int load_segment(struct machine *m, const struct segment *s, uint64_t *end,
                        struct gw_error *err)
{
	uint8_t *to = memory_hva(m->memory, s->paddr, s->memsz);
	int r;

	if (s->filesz > s->memsz || s->paddr < LAYOUT_HIGH_RAM || !to)
		return error_set(err, -ENOSPC,
		                 "boot.kernel: segment of 0x%llx bytes at 0x%llx does not fit",
		                 (unsigned long long)s->memsz, (unsigned long long)s->paddr);
	r = boot_copy(m, boot_kernel(m->boot), "boot.kernel", s->offset, s->filesz, s->paddr, err);
	if (r < 0)
		return r;
	memset(to + s->filesz, 0, s->memsz - s->filesz);
	memory_mark_dirty(m->memory, s->paddr, s->memsz);
	*end = MAX(*end, s->paddr + s->memsz);
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
	struct program program = { .count = 0 };
	uint64_t end = LAYOUT_HIGH_RAM, initrd;
	uint32_t address = 0;
	bool found = false;
	int r = read_headers(kernel, &program, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < program.count && !r; i++) {
		const struct segment *s = &program.segments[i];

		if (s->type == PT_LOAD && s->memsz)
			r = load_segment(m, s, &end, err);
		else if (s->type == PT_NOTE && !found)
			r = scan_notes(kernel, s, &address, &found, err);
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
