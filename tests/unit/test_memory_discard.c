/* SPDX-License-Identifier: Apache-2.0 */
/* RAM that is given back, and RAM that was never there. */
#include "virtio_driver.h"

#include "vmm/memory_internal.h"

#include <sys/mman.h>

#define RAM (8 * MIB)

Test(memory_discard, bounds)
{
	struct vmachine *vm = vmachine_new(RAM);
	struct memory *mem = vm->m->memory;
	static const struct {
		uint64_t gpa, len;
	} bad[] = {
		{ 0, 0 },
		{ 1, PAGE_SIZE },
		{ 0, 100 },
		{ RAM, PAGE_SIZE },
		{ RAM - PAGE_SIZE, 2 * PAGE_SIZE },
		{ 0, RAM + PAGE_SIZE },
		{ PAGE_SIZE, UINT64_MAX - PAGE_SIZE + 1 },
		{ UINT64_MAX - PAGE_SIZE + 1, PAGE_SIZE },
	};

	memset(vmachine_at(vm, 0), 1, RAM);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(memory_discard(mem, bad[i].gpa, bad[i].len), -EINVAL, "%zu", i);
	for (uint64_t at = 0; at < RAM; at += PAGE_SIZE)
		cr_assert_eq(*(uint8_t *)vmachine_at(vm, at), 1);
	cr_assert_eq(memory_discard(mem, RAM - PAGE_SIZE, PAGE_SIZE), 0);
	cr_assert_eq(*(uint8_t *)vmachine_at(vm, RAM - 1), 0);
	cr_assert_eq(memory_discard(mem, 0, RAM), 0);
	cr_assert_eq(*(uint8_t *)vmachine_at(vm, 0), 0);
	vmachine_free(vm);
}

Test(memory_discard, a_file_behind_it_does_not_come_back)
{
	struct vmachine *vm = vmachine_new(RAM);
	struct memory *mem = vm->m->memory;
	struct gw_error err = { 0 };
	int fd = memfd_create("snapshot", 0);
	uint8_t *ram = vmachine_at(vm, 0), page[PAGE_SIZE];

	memset(ram, 0x11, RAM); /* the memfd holds something else beneath */
	cr_assert_eq(ftruncate(fd, MIB), 0);
	memset(page, 0x77, sizeof(page));
	for (unsigned i = 0; i < MIB / PAGE_SIZE; i++)
		cr_assert_eq(pwrite(fd, page, sizeof(page), (off_t)(i * PAGE_SIZE)),
		             (ssize_t)sizeof(page));
	cr_assert_eq(memory_map_file(mem, MIB, MIB, fd, 0, &err), 0, "%s", err.text);
	cr_assert_eq(ram[MIB], 0x77);
	ram[MIB + PAGE_SIZE] = 0x99;
	cr_assert_eq(memory_discard(mem, MIB - PAGE_SIZE, 3 * PAGE_SIZE), 0);
	cr_assert_eq(ram[MIB - PAGE_SIZE], 0);
	cr_assert_eq(ram[MIB], 0);
	cr_assert_eq(ram[MIB + PAGE_SIZE], 0);
	cr_assert_eq(ram[MIB + 2 * PAGE_SIZE], 0x77);
	cr_assert_eq(ram[2 * MIB - 1], 0x77);
	/* It is the memfd again, and can be written, and freed once more. */
	ram[MIB] = 5;
	cr_assert_eq(pread(memory_region(mem, 0)->fd, page, 1, MIB), 1);
	cr_assert_eq(page[0], 5);
	cr_assert_eq(memory_discard(mem, MIB, MIB), 0);
	cr_assert_eq(ram[MIB], 0);
	cr_assert_eq(ram[2 * MIB - 1], 0);
	cr_assert_eq(ram[2 * MIB], 0x11);
	close(fd);
	vmachine_free(vm);
}

/* Puts together what a destination would have. */
struct copy {
	struct sink sink;
	uint8_t *ram;
	uint64_t end;   /* where the next pages have to begin */
	uint64_t holes; /* pages that came without contents */
};

static int copy_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                      size_t count, struct gw_error *err)
{
	struct copy *c = container_of(sink, struct copy, sink);

	(void)p;
	(void)err;
	cr_assert_eq(gpa, c->end);
	cr_assert_gt(count, 0);
	if (hva)
		memcpy(c->ram + gpa, hva, count * PAGE_SIZE);
	else
		c->holes += count;
	c->end += count * PAGE_SIZE;
	return 0;
}

static const struct sink_ops copy_ops = { .pages = copy_pages };

static unsigned resident(const uint8_t *ram)
{
	unsigned char in_core[RAM / PAGE_SIZE];
	unsigned n = 0;

	cr_assert_eq(mincore((void *)ram, RAM, in_core), 0);
	for (unsigned i = 0; i < RAM / PAGE_SIZE; i++)
		n += in_core[i] & 1;
	return n;
}

static void save_and_compare(struct vmachine *vm, uint64_t holes)
{
	struct copy c = { .sink.ops = &copy_ops, .ram = calloc(1, RAM) };
	struct participant *p = memory_participant(vm->m->memory);
	struct gw_error err = { 0 };

	cr_assert_eq(p->ops->save(p, &c.sink, &err), 0, "%s", err.text);
	cr_assert_eq(c.end, RAM);
	cr_assert_eq(c.holes, holes, "%llu", (unsigned long long)c.holes);
	cr_assert_eq(memcmp(c.ram, vmachine_at(vm, 0), RAM), 0);
	free(c.ram);
}

Test(memory_discard, saving_does_not_make_what_is_not_there)
{
	struct vmachine *vm = vmachine_new(RAM);
	uint8_t *ram = vmachine_at(vm, 0);
	struct copy c = { .sink.ops = &copy_ops, .ram = calloc(1, RAM) };
	struct participant *p;
	struct gw_error err = { 0 };

	ram_participant_init(vm->m->memory);
	p = memory_participant(vm->m->memory);
	madvise(ram, RAM, MADV_NOHUGEPAGE);
	memset(ram + 3 * PAGE_SIZE, 1, 5 * PAGE_SIZE);
	memset(ram + 4 * MIB, 2, 2 * MIB);
	cr_assert_eq(memory_discard(vm->m->memory, 5 * MIB, 512 * KIB), 0);
	cr_assert_eq(resident(ram), 5 + 384);
	cr_assert_eq(p->ops->save(p, &c.sink, &err), 0);
	cr_assert_eq(resident(ram), 5 + 384, "the same as before");
	cr_assert_eq(c.holes, 2048 - 5 - 384);
	cr_assert_eq(memcmp(c.ram, ram, RAM), 0);
	free(c.ram);
	vmachine_free(vm);
}

Test(memory_discard, files_are_saved_although_the_memfd_beneath_is_empty)
{
	struct vmachine *vm = vmachine_new(RAM);
	struct gw_error err = { 0 };
	int fd = memfd_create("snapshot", 0);
	uint8_t page[PAGE_SIZE];

	ram_participant_init(vm->m->memory);
	madvise(vmachine_at(vm, 0), RAM, MADV_NOHUGEPAGE);
	cr_assert_eq(ftruncate(fd, 2 * MIB), 0);
	memset(page, 0x77, sizeof(page));
	for (unsigned i = 0; i < 2 * MIB / PAGE_SIZE; i += 2)
		cr_assert_eq(pwrite(fd, page, sizeof(page), (off_t)(i * PAGE_SIZE)),
		             (ssize_t)sizeof(page));
	cr_assert_eq(memory_map_file(vm->m->memory, 2 * MIB, 2 * MIB, fd, 0, &err), 0);
	save_and_compare(vm, 6 * MIB / PAGE_SIZE);
	vmachine_free(vm);
	/* And where a part of the file has been given back. */
	vm = vmachine_new(RAM);
	ram_participant_init(vm->m->memory);
	madvise(vmachine_at(vm, 0), RAM, MADV_NOHUGEPAGE);
	cr_assert_eq(memory_map_file(vm->m->memory, 2 * MIB, 2 * MIB, fd, 0, &err), 0);
	cr_assert_eq(memory_discard(vm->m->memory, 3 * MIB, 256 * KIB), 0);
	save_and_compare(vm, (6 * MIB + 256 * KIB) / PAGE_SIZE);
	vmachine_free(vm);
	close(fd);
}

Test(memory_discard, what_was_found_once_is_found_as_it_is_now)
{
	struct vmachine *vm = vmachine_new(RAM);
	uint8_t *ram = vmachine_at(vm, 0);

	ram_participant_init(vm->m->memory);
	madvise(ram, RAM, MADV_NOHUGEPAGE);
	memset(ram, 1, RAM);
	save_and_compare(vm, 0);
	/* Data that were discarded are a hole (it is none any more when it has been compared), */
	cr_assert_eq(memory_discard(vm->m->memory, 4 * MIB, MIB), 0);
	save_and_compare(vm, MIB / PAGE_SIZE);
	/* and a hole that the guest writes to is none any more. */
	cr_assert_eq(memory_discard(vm->m->memory, 0, 2 * MIB), 0);
	memset(ram + MIB / 2, 3, MIB / 2);
	save_and_compare(vm, MIB / PAGE_SIZE * 3 / 2);
	vmachine_free(vm);
}
