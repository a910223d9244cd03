/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory and registers as a core file. */
#include "harness.h"

#include "guest.h"
#include "vmm/memory.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A core file's headers describe exactly what follows, and its memory is the guest's. */
Test(dump, memory_is_a_core_file)
{
	struct guest *g = guest_boot("dirtier", 1, 128);
	int fd = memfd_create("core", 0);
	uint8_t head[4096], mine[4096];
	struct gw_error err;
	uint16_t phnum, machine;
	uint64_t phoff, offset, paddr, size;
	uint32_t type;

	guest_run_us(g, 3000);
	cr_assert_eq(gw_vm_dump_memory(g->vm, fd, &err), 0, "%s", err.text);
	cr_assert_eq(pread(fd, head, sizeof(head), 0), 4096);
	cr_assert_eq(memcmp(head, "\177ELF\2\1\1", 7), 0);
	memcpy(&machine, head + 18, 2);
	cr_assert_eq(machine, GUEST_MACHINE);
	memcpy(&phoff, head + 32, 8);
	memcpy(&phnum, head + 56, 2);
	cr_assert_eq(phnum, 2);
	memcpy(&type, head + phoff, 4);
	cr_assert_eq(type, 4, "PT_NOTE");
	memcpy(&offset, head + phoff + 56 + 8, 8);
	memcpy(&paddr, head + phoff + 56 + 24, 8);
	memcpy(&size, head + phoff + 56 + 32, 8);
	cr_assert_eq(paddr, GUEST_RAM);
	cr_assert_eq(size, 128ull << 20);
	cr_assert_eq(lseek(fd, 0, SEEK_END), (off_t)(offset + size));
	/* The guest's code. */
	cr_assert_eq(pread(fd, mine, sizeof(mine), (off_t)(offset + GUEST_CODE - GUEST_RAM)), 4096);
	cr_assert_eq(memcmp(mine, memory_hva(g->vm->machine->memory, GUEST_CODE, 4096), 4096), 0);
	close(fd);
	guest_free(g);
}
