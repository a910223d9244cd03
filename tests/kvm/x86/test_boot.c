/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images that are none, or that lie. */
#include "harness.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is said of this image. */
static void refused(const void *image, size_t size, const char *says)
{
	struct guest *g = guest_new();
	char path[96], json[256];
	struct gw_error err = { 0 };
	FILE *f;

	snprintf(path, sizeof(path), "%s/kernel", g->dir);
	f = fopen(path, "w");
	cr_assert(f && fwrite(image, 1, size, f) == size && fclose(f) == 0);
	snprintf(json, sizeof(json), "{\"memory\":\"32M\",\"boot\":{\"kernel\":\"%s\"}}", path);
	cr_assert_lt(gw_vm_configure(g->vm, json, "c", &err), 0, "%s", says);
	cr_assert(strstr(err.text, says), "\"%s\", not \"%s\"", err.text, says);
	cr_assert_eq(gw_vm_state(g->vm), GW_STATE_EMPTY, "something is left");
	guest_free(g);
}

Test(boot, images_that_are_none)
{
	static unsigned char image[8192];

	refused(image, 100, "are no kernel");
	refused(image, sizeof(image), "neither a bzImage nor an ELF file");
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	memcpy(image + 0x202, "HdrS", 4);
	image[0x201] = 0x66;
	refused(image, sizeof(image), "without a 64-bit entry");
	image[0x206] = 0x0c; /* 2.12, 64-bit, high */
	image[0x207] = 2;
	image[0x236] = 1;
	image[0x211] = 1;
	refused(image, sizeof(image), "boot.kernel: it needs");
	image[0x1f1] = 200; /* setup code longer than the file */
	refused(image, sizeof(image), "end within the setup code");
}

Test(boot, elf_files_that_lie)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr;
		char rest[4096];
	} image = { 0 };

	memcpy(image.ehdr.e_ident, ELFMAG, SELFMAG);
	refused(&image, sizeof(image), "not for x86-64");
	image.ehdr.e_ident[EI_CLASS] = ELFCLASS64;
	image.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
	image.ehdr.e_machine = EM_X86_64;
	refused(&image, sizeof(image), "program headers");
	image.ehdr.e_phentsize = sizeof(image.phdr);
	image.ehdr.e_phnum = 1;
	image.ehdr.e_phoff = 1 << 20;
	refused(&image, sizeof(image), "program headers");
	image.ehdr.e_phoff = sizeof(image.ehdr);
	refused(&image, sizeof(image), "without a PVH entry");
	image.phdr =
	        (Elf64_Phdr){ .p_type = PT_LOAD, .p_paddr = 0x100000, .p_filesz = 2, .p_memsz = 1 };
	refused(&image, sizeof(image), "does not fit");
	image.phdr.p_filesz = 1;
	image.phdr.p_memsz = UINT64_MAX;
	refused(&image, sizeof(image), "does not fit");
	image.phdr.p_memsz = 4096;
	image.phdr.p_paddr = 0x1000; /* over our own tables */
	refused(&image, sizeof(image), "does not fit");
	image.phdr.p_paddr = UINT64_MAX - 100;
	refused(&image, sizeof(image), "does not fit");
}
