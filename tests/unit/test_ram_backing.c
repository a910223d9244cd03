/* SPDX-License-Identifier: Apache-2.0 */
/* What RAM is made of: given descriptors, page sizes, locks, nodes; data copied in from files. */
#include "vmm/memory.h"
#include "vmm/ram_backing.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE (4 * MIB)

static struct machine *machine;
static int given = -1;
static struct ram_backing b;
static struct gw_error err;

static int give(void *opaque, const char *name)
{
	(void)opaque;
	return strcmp(name, "memory") || given < 0 ? -ENOENT : fcntl(given, F_DUPFD_CLOEXEC, 0);
}

static void setup(void)
{
	machine = calloc(1, sizeof(*machine));
	cr_assert_not_null(machine);
	machine->notify.fd = give;
	b = (struct ram_backing){ .fd = -1 };
}

static void teardown(void)
{
	if (b.hva)
		munmap(b.hva, SIZE);
	if (b.fd >= 0)
		close(b.fd);
	if (given >= 0)
		close(given);
	free(machine);
}

TestSuite(ram_backing, .init = setup, .fini = teardown);

static void create(uint64_t before)
{
	cr_assert_eq(ram_backing_create(machine, before, SIZE, &b, &err), 0, "%s", err.text);
}

/* Pages of the mapping that are in memory. */
static unsigned resident(void)
{
	unsigned char in[SIZE / PAGE_SIZE];
	unsigned n = 0;

	cr_assert_eq(mincore(b.hva, SIZE, in), 0);
	for (size_t i = 0; i < sizeof(in); i++)
		n += in[i] & 1;
	return n;
}

/* A line of the mapping's part of /proc/self/smaps. */
static bool smaps(const char *key, char *line, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool here = false, found = false;

	cr_assert_not_null(f);
	while (!found && fgets(line, (int)size, f)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from <= (uintptr_t)b.hva && (uintptr_t)b.hva < to;
		else
			found = here && !strncmp(line, key, strlen(key));
	}
	fclose(f);
	return found;
}

Test(ram_backing, transparent_is_zeros_taken_when_touched)
{
	create(0);
	cr_assert_eq((uintptr_t)b.hva % (2 * MIB), 0);
	cr_assert_eq(b.page, PAGE_SIZE);
	cr_assert_eq(resident(), 0);
	cr_assert(!b.copy_in);
	for (size_t i = 0; i < SIZE; i += PAGE_SIZE)
		cr_assert_eq(b.hva[i], 0);
}

Test(ram_backing, prealloc_takes_all)
{
	machine->config.backing.prealloc = true;
	create(0);
	cr_assert_eq(resident(), SIZE / PAGE_SIZE);
	cr_assert(b.copy_in);
}

Test(ram_backing, small_pages_are_asked_for)
{
	char line[256];

	machine->config.backing.pages = CONFIG_PAGES_4K;
	create(0);
	cr_assert(smaps("VmFlags:", line, sizeof(line)));
	cr_assert(strstr(line, " nh"), "no huge pages: %s", line);
	cr_assert(strstr(line, " dd"), "not in core dumps: %s", line);
}

Test(ram_backing, locked)
{
	char line[256];

	if (geteuid())
		cr_skip_test("RLIMIT_MEMLOCK does not bind root alone");
	machine->config.backing.lock = true;
	create(0);
	cr_assert(smaps("VmFlags:", line, sizeof(line)));
	cr_assert(strstr(line, " lo"), "locked: %s", line);
	cr_assert_eq(resident(), 0, "only what is used is locked");
}

Test(ram_backing, the_limit_of_locked_memory_is_named)
{
	const struct rlimit small = { 65536, 65536 };

	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	if (!geteuid() && seteuid(65534))
		cr_skip_test("cannot become somebody else");
	prctl(PR_SET_DUMPABLE, 1); /* as the leak checker needs it */
	machine->config.backing.lock = true;
	cr_assert_lt(ram_backing_create(machine, 0, SIZE, &b, &err), 0);
	cr_assert(strstr(err.text, "backing.lock:") && strstr(err.text, "65536 bytes"), "%s",
	          err.text);
}

Test(ram_backing, nodes)
{
	machine->config.backing.prealloc = true;
	strcpy(machine->config.backing.nodes, "0");
	if (ram_backing_create(machine, 0, SIZE, &b, &err) == -ENOSYS)
		cr_skip_test("a kernel without NUMA");
	cr_assert_not_null(b.hva, "%s", err.text);
	cr_assert_eq(resident(), SIZE / PAGE_SIZE);
}

Test(ram_backing, a_node_that_is_not_there)
{
	strcpy(machine->config.backing.nodes, "1000");
	cr_assert_lt(ram_backing_create(machine, 0, SIZE, &b, &err), 0);
	cr_assert(strstr(err.text, "backing.nodes: mbind to 1000"), "%s", err.text);
}

/* Which pages the kernel is to take for an address (get_mempolicy(2)). */
static int policy(uint64_t offset, uint64_t *nodes)
{
	uint64_t mask[1024 / 64] = { 0 };
	int mode = -1;

	cr_assert_eq(syscall(SYS_get_mempolicy, &mode, mask, 1024ul, b.hva + offset, MPOL_F_ADDR),
	             0);
	*nodes = mask[0];
	return mode;
}

/* 1 MiB comes before; so the first of these 4 MiB is the first node's, and three are the second's.
 */
Test(ram_backing, each_nodes_part_is_bound)
{
	struct config *c = &machine->config;
	uint64_t nodes;

	c->node_count = 2;
	c->numa[0].memory = 2 * MIB;
	c->numa[1].memory = 3 * MIB;
	strcpy(c->numa[1].host_nodes, "0");
	if (ram_backing_create(machine, MIB, SIZE, &b, &err) == -ENOSYS)
		cr_skip_test("a kernel without NUMA");
	cr_assert_not_null(b.hva, "%s", err.text);
	cr_assert(b.copy_in, "a file's pages could be on any node");
	cr_assert_eq(policy(MIB - PAGE_SIZE, &nodes), MPOL_DEFAULT);
	cr_assert_eq(policy(MIB, &nodes), MPOL_BIND);
	cr_assert_eq(nodes, 1);
	cr_assert_eq(policy(SIZE - PAGE_SIZE, &nodes), MPOL_BIND);
}

Test(ram_backing, memory_that_may_come_is_bound_as_its_nodes)
{
	struct config *c = &machine->config;
	uint64_t nodes;

	c->node_count = 2;
	c->numa[0].memory = 2 * MIB;
	strcpy(c->numa[1].host_nodes, "0");
	if (ram_backing_create_blocks(machine, 2 * MIB, SIZE, 1, &b, &err) == -ENOSYS)
		cr_skip_test("a kernel without NUMA");
	cr_assert_not_null(b.hva, "%s", err.text);
	cr_assert_eq(policy(0, &nodes), MPOL_BIND);
	cr_assert_eq(policy(SIZE - PAGE_SIZE, &nodes), MPOL_BIND);
}

Test(ram_backing, the_node_that_cannot_be_bound_is_named)
{
	struct config *c = &machine->config;

	c->node_count = 2;
	c->numa[0].memory = MIB;
	c->numa[1].memory = SIZE - MIB;
	strcpy(c->numa[1].host_nodes, "1000");
	cr_assert_lt(ram_backing_create(machine, 0, SIZE, &b, &err), 0);
	cr_assert(strstr(err.text, "numa[1].host-nodes: mbind to 1000"), "%s", err.text);
}

static unsigned long free_huge(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long n = 0;

	if (!f || fscanf(f, "%lu", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

Test(ram_backing, huge_pages)
{
	machine->config.backing.pages = CONFIG_PAGES_2M;
	if (free_huge() < 2) {
		cr_assert_lt(ram_backing_create(machine, 0, SIZE, &b, &err), 0);
		cr_assert(strstr(err.text, "backing.pages: 2 pages of 2M are needed") ||
		                  strstr(err.text, "no huge pages of 2M"),
		          "%s", err.text);
		return;
	}
	create(0);
	cr_assert_eq(b.page, 2 * MIB);
	cr_assert(b.copy_in);
	memset(b.hva, 1, SIZE);
}

Test(ram_backing, pieces_are_whole_huge_pages)
{
	machine->config.backing.pages = CONFIG_PAGES_1G;
	cr_assert_lt(ram_backing_create(machine, 0, SIZE, &b, &err), 0);
	cr_assert(strstr(err.text, "not whole pages of 1073741824") ||
	                  strstr(err.text, "no huge pages of 1G") || strstr(err.text, "guest RAM"),
	          "%s", err.text);
}

Test(ram_backing, a_given_descriptor_is_grown_emptied_and_shared)
{
	static const char old[] = "old";
	struct stat st;
	char byte;

	given = memfd_create("given", MFD_CLOEXEC);
	cr_assert_eq(pwrite(given, old, sizeof(old), 2 * MIB + 5), (ssize_t)sizeof(old));
	create(2 * MIB);
	cr_assert_eq(fstat(given, &st), 0);
	cr_assert_eq(st.st_size, 2 * MIB + SIZE);
	cr_assert_eq(b.offset, 2 * MIB);
	cr_assert_eq(b.hva[5], 0, "RAM begins as zeros");
	b.hva[7] = 42;
	cr_assert_eq(pread(given, &byte, 1, 2 * MIB + 7), 1);
	cr_assert_eq(byte, 42);
	cr_assert(b.copy_in, "a file's private mapping would not be shared");
}

Test(ram_backing, a_given_descriptor_that_will_not_do)
{
	given = open("/dev/zero", O_RDWR | O_CLOEXEC);
	cr_assert_eq(ram_backing_create(machine, 0, SIZE, &b, &err), -EINVAL);
	cr_assert(strstr(err.text, "descriptor \"memory\""), "%s", err.text);
	close(given);
	given = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert_eq(fcntl(given, F_ADD_SEALS, F_SEAL_GROW), 0);
	cr_assert_eq(ram_backing_create(machine, 0, SIZE, &b, &err), -EPERM);
	cr_assert(strstr(err.text, "growing it"), "%s", err.text);
	machine->config.backing.pages = CONFIG_PAGES_2M;
	cr_assert_eq(ram_backing_create(machine, 0, SIZE, &b, &err), -EINVAL);
	cr_assert(strstr(err.text, "backing.pages is 2M"), "%s", err.text);
}

Test(ram_backing, data_are_copied_in_and_holes_left)
{
	int file = memfd_create("file", MFD_CLOEXEC);
	uint64_t offset = MIB;

	cr_assert_eq(ftruncate(file, (off_t)(offset + SIZE)), 0);
	cr_assert_eq(pwrite(file, "before", 6, (off_t)(offset - 6)), 6);
	cr_assert_eq(pwrite(file, "first", 5, (off_t)offset), 5);
	cr_assert_eq(pwrite(file, "last", 4, (off_t)(offset + SIZE - 4)), 4);
	machine->config.backing.pages = CONFIG_PAGES_4K;
	create(0);
	cr_assert_eq(ram_backing_copy_in(b.hva, SIZE, file, offset, &err), 0, "%s", err.text);
	cr_assert_arr_eq(b.hva, "first", 5);
	cr_assert_arr_eq(b.hva + SIZE - 4, "last", 4);
	cr_assert_eq(resident(), 2);
	cr_assert_eq(ram_backing_copy_in(b.hva, SIZE, file, offset + PAGE_SIZE, &err), -EINVAL);
	cr_assert_eq(ram_backing_copy_in(b.hva, SIZE, file, UINT64_MAX - PAGE_SIZE, &err), -EINVAL);
	close(file);
}
