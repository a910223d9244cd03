/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images that are none, or that lie. */
#include "harness.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

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
	refused(&image, sizeof(image), "not for x86");
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

/* ---- what boots ----------------------------------------------------------------------------- */

#define MIXER_MAX 65536

static size_t read_mixer(uint8_t *out)
{
	char path[256];
	size_t len;
	FILE *f;

	guest_image("mixer", path, sizeof(path));
	f = fopen(path, "r");
	cr_assert(f, "%s", path);
	len = fread(out, 1, MIXER_MAX, f);
	cr_assert(len > sizeof(Elf64_Ehdr) && len < MIXER_MAX);
	fclose(f);
	return len;
}

/* The guest named "mixer" is what is in this file from now on. */
static void install(const void *image, size_t len, bool packed)
{
	char dir[] = "/tmp/godwit-guests-XXXXXX", path[64];
	gzFile f;

	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/mixer.elf", dir);
	f = gzopen(path, packed ? "w" : "wT"); /* T: as it is */
	cr_assert(f && gzwrite(f, image, (unsigned)len) == (int)len && gzclose(f) == Z_OK);
	setenv("GODWIT_GUESTS", dir, 1);
}

static void uninstall(void)
{
	const char *dir = getenv("GODWIT_GUESTS");
	char path[64];

	snprintf(path, sizeof(path), "%s/mixer.elf", dir);
	unlink(path);
	rmdir(dir);
}

static void boots(const void *image, size_t len, bool packed)
{
	struct gw_error err;
	struct guest *g;

	install(image, len, packed);
	g = guest_boot("mixer", 1, 32);
	uninstall();
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	guest_await_end(g);
	cr_assert(strstr(guest_output(g), "S\n"), "output \"%s\"", guest_output(g));
	/* The file is gone. */
	guest_free(g);
}

Test(boot, a_packed_elf_file)
{
	static uint8_t image[MIXER_MAX];

	boots(image, read_mixer(image), true);
}

/* The same program with the headers of the other class. */
Test(boot, an_elf_file_of_32_bits)
{
	static uint8_t image[MIXER_MAX], other[MIXER_MAX + 4096];
	const size_t len = read_mixer(image);
	const Elf64_Ehdr *from = (const void *)image;
	const Elf64_Phdr *headers = (const void *)(image + from->e_phoff);
	Elf32_Ehdr to = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT },
		          .e_type = ET_EXEC,
		          .e_machine = EM_386,
		          .e_version = EV_CURRENT,
		          .e_phoff = sizeof(to),
		          .e_ehsize = sizeof(to),
		          .e_phentsize = sizeof(Elf32_Phdr),
		          .e_phnum = from->e_phnum };

	/* The headers, and behind them the old file. */
	memcpy(other + 4096, image, len);
	memcpy(other, &to, sizeof(to));
	for (unsigned i = 0; i < from->e_phnum; i++) {
		const Elf32_Phdr ph = { .p_type = headers[i].p_type,
			                .p_offset = (Elf32_Off)headers[i].p_offset + 4096,
			                .p_paddr = (Elf32_Addr)headers[i].p_paddr,
			                .p_vaddr = (Elf32_Addr)headers[i].p_vaddr,
			                .p_filesz = (Elf32_Word)headers[i].p_filesz,
			                .p_memsz = (Elf32_Word)headers[i].p_memsz };

		memcpy(other + sizeof(to) + i * sizeof(ph), &ph, sizeof(ph));
	}
	boots(other, len + 4096, false);
}
