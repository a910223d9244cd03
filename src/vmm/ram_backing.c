/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram_backing.h"

#include "base/cpulist.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/host_memory.h"
#include "vmm/machine.h"
#include "vmm/numa.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

/* A multiple of which RAM is mapped at, so that the kernel can put huge pages there. */
#define MAP_ALIGN (2 * MIB)

/* By enum config_pages. `page` 0: not reserved beforehand, the kernel chooses. */
static const struct {
	const char *name;
	uint64_t page;
	unsigned memfd_flags;
	int advice;
} kinds[] = {
	[CONFIG_PAGES_TRANSPARENT] = { "transparent", 0, 0, MADV_HUGEPAGE },
	[CONFIG_PAGES_4K] = { "4K", 0, 0, MADV_NOHUGEPAGE },
	[CONFIG_PAGES_2M] = { "2M", 2 * MIB, MFD_HUGETLB | 21u << MFD_HUGE_SHIFT, MADV_NORMAL },
	[CONFIG_PAGES_1G] = { "1G", GIB, MFD_HUGETLB | 30u << MFD_HUGE_SHIFT, MADV_NORMAL },
};

static uint64_t free_pages(uint64_t page)
{
	char path[96], line[32];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
	         (unsigned long long)(page / KIB));
	return io_read_line(path, line, sizeof(line), NULL) < 0 ? 0 : strtoull(line, NULL, 10);
}

static int too_few_pages(uint64_t page, uint64_t size, int code, struct gw_error *err)
{
	const char *name = kinds[page == GIB ? CONFIG_PAGES_1G : CONFIG_PAGES_2M].name;

	return error_set(err, code,
	                 "backing.pages: %llu pages of %s are needed and %llu are free on this "
	                 "host; reserve more of them by writing their number to "
	                 "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
	                 (unsigned long long)(size / page), name,
	                 (unsigned long long)free_pages(page), (unsigned long long)(page / KIB));
}

/* ---- the descriptor ---- */

static int open_own(unsigned pages, uint64_t size, struct ram_backing *b, struct gw_error *err)
{
	b->page = MAX(kinds[pages].page, PAGE_SIZE);
	b->offset = 0;
	b->fd = memfd_create("godwit-ram",
	                     MFD_CLOEXEC | MFD_ALLOW_SEALING | kinds[pages].memfd_flags);
	if (b->fd < 0 && kinds[pages].page)
		return error_set_sys(err, -errno,
		                     "backing.pages: this host has no huge pages of %s",
		                     kinds[pages].name);
	if (b->fd < 0)
		return error_set_sys(err, -errno, "guest RAM: memfd_create");
	if (ftruncate(b->fd, (off_t)size) < 0)
		return error_set_sys(err, -errno, "guest RAM: %llu bytes",
		                     (unsigned long long)size);
	/* A process that it is given to could cut it short, and us down with it (SIGBUS). */
	if (fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_set_sys(err, -errno, "guest RAM: sealing it");
	return 0;
}

/* The descriptor "memory" that the owner gave. What is in it goes: RAM begins as zeros. */
static int take_given(unsigned pages, uint64_t before, uint64_t size, struct ram_backing *b,
                      struct gw_error *err)
{
	uint64_t end = before + size;
	struct statfs fs;
	struct stat st;

	if (fstat(b->fd, &st) < 0 || fstatfs(b->fd, &fs) < 0)
		return error_set_sys(err, -errno, "descriptor \"memory\"");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "descriptor \"memory\" is no memfd and no file");
	b->page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : PAGE_SIZE;
	b->offset = before;
	if (kinds[pages].page && b->page != kinds[pages].page)
		return error_set(err, -EINVAL,
		                 "descriptor \"memory\" has pages of %llu bytes, and backing.pages "
		                 "is %s",
		                 (unsigned long long)b->page, kinds[pages].name);
	if ((uint64_t)st.st_size < end && ftruncate(b->fd, (off_t)end) < 0)
		return error_set_sys(err, -errno, "descriptor \"memory\": growing it to %llu bytes",
		                     (unsigned long long)end);
	if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)before,
	              (off_t)size) < 0)
		return error_set_sys(err, -errno, "descriptor \"memory\": emptying it");
	return 0;
}

/* ---- the mapping ---- */

/* Pages that are not reserved are taken when they are touched, and a host that has none left then
 * kills somebody; huge pages are reserved here or refused. */
static uint8_t *map_aligned(const struct ram_backing *b, uint64_t size, bool in_blocks)
{
	uint64_t align = MAX(b->page, MAP_ALIGN);
	int flags = b->page > PAGE_SIZE && !in_blocks ? 0 : MAP_NORESERVE;
	uint8_t *room = mmap(NULL, size + align, PROT_NONE,
	                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *hva;
	size_t before;

	if (room == MAP_FAILED)
		return NULL;
	hva = (uint8_t *)ALIGN_UP((uintptr_t)room, align);
	before = (size_t)(hva - room);
	if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, b->fd,
	         (off_t)b->offset) == MAP_FAILED) {
		int code = errno;

		munmap(room, size + align);
		errno = code;
		return NULL;
	}
	if (before)
		munmap(room, before);
	munmap(hva + size, align - before);
	return hva;
}

static int map(struct ram_backing *b, uint64_t size, bool in_blocks, struct gw_error *err)
{
	b->hva = map_aligned(b, size, in_blocks);
	if (b->hva)
		return 0;
	if (b->page > PAGE_SIZE && errno == ENOMEM)
		return too_few_pages(b->page, size, -ENOMEM, err);
	return error_set_sys(err, -errno, "guest RAM: mmap of %llu bytes",
	                     (unsigned long long)size);
}

/* ---- what is asked of the pages ---- */

/* On the mapping of a shared file this is the file's policy, so that it holds for whoever else
 * touches a page first (set_mempolicy(2), mbind(2)). */
static int bind_part(const struct config *config, const struct numa_part *part, uint8_t *hva,
                     struct gw_error *err)
{
	const bool own = config->numa[part->node].host_nodes[0];
	const char *nodes = own ? config->numa[part->node].host_nodes : config->backing.nodes;
	char key[32] = "backing.nodes";
	struct cpulist list;

	if (own)
		snprintf(key, sizeof(key), "numa[%u].host-nodes", part->node);
	if (!nodes[0])
		return 0;
	if (!cpulist_parse(nodes, &list))
		return error_set(err, -EINVAL, "%s: \"%s\" is no list of nodes", key, nodes);
	if (syscall(SYS_mbind, hva + part->offset, part->size, MPOL_BIND, list.bits,
	            CPULIST_MAX + 1ul, 0) < 0)
		return error_set_sys(err, -errno, "%s: mbind to %s", key, nodes);
	return 0;
}

static int bind_nodes(const struct machine *m, uint64_t before, uint64_t size, uint8_t *hva,
                      struct gw_error *err)
{
	struct numa_part parts[CONFIG_NODES_MAX];
	struct numa numa;
	unsigned n;
	int r = 0;

	numa_make(&m->config, &numa);
	n = numa_cut(&numa, before, size, parts);
	for (unsigned i = 0; i < n && !r; i++)
		r = bind_part(&m->config, &parts[i], hva, err);
	return r;
}

static bool is_bound(const struct config *config)
{
	bool bound = config->backing.nodes[0];

	for (unsigned i = 0; i < config->node_count; i++)
		bound |= config->numa[i].host_nodes[0] != 0;
	return bound;
}

static int populate(const struct ram_backing *b, uint64_t size, struct gw_error *err)
{
	int r;

	do {
		r = madvise(b->hva, size, MADV_POPULATE_WRITE);
	} while (r < 0 && (errno == EINTR || errno == EAGAIN));
	if (!r)
		return 0;
	if (b->page > PAGE_SIZE && (errno == EFAULT || errno == ENOMEM))
		return too_few_pages(b->page, size, -ENOMEM, err);
	return error_set_sys(err, -errno, "backing.prealloc: %llu bytes of this host's memory",
	                     (unsigned long long)size);
}

static int lock_pages(uint8_t *hva, uint64_t size, struct gw_error *err)
{
	struct rlimit limit = { 0 };
	int code;

	if (mlock2(hva, size, MLOCK_ONFAULT) == 0)
		return 0;
	code = -errno;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	return error_set_sys(err, code,
	                     "backing.lock: %llu bytes cannot be locked; RLIMIT_MEMLOCK is %llu "
	                     "bytes, and CAP_IPC_LOCK would lift it",
	                     (unsigned long long)size, (unsigned long long)limit.rlim_cur);
}

int ram_backing_advise(const struct machine *m, uint8_t *hva, uint64_t size, struct gw_error *err)
{
	const int advice = kinds[m->config.backing.pages].advice;

	/* Both are hints: guest memory is the guest's, not a core dump's. */
	if (advice != MADV_NORMAL)
		madvise(hva, size, advice);
	madvise(hva, size, MADV_DONTDUMP);
	return m->config.backing.lock ? lock_pages(hva, size, err) : 0;
}

/* Huge pages are reserved without regard to nodes: only taking them at once shows whether the
 * nodes have as many. */
static bool takes_at_once(const struct machine *m, const struct ram_backing *b)
{
	return m->config.backing.prealloc || (b->page > PAGE_SIZE && is_bound(&m->config));
}

int ram_backing_take(int fd, uint64_t offset, uint64_t len, struct gw_error *err)
{
	int r;

	do {
		r = fallocate(fd, 0, (off_t)offset, (off_t)len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? error_set_sys(err, -errno, "taking %llu bytes of this host's memory",
	                             (unsigned long long)len)
	             : 0;
}

/* All that is still to come, so that nothing is taken in vain. Pages that are reserved have their
 * own count (too_few_pages). */
static int check_host(const struct machine *m, const struct ram_backing *b, uint64_t before,
                      struct gw_error *err)
{
	int r = b->page > PAGE_SIZE ? 0 : host_memory_check("", m->config.memory - before, err);

	return r < 0 ? error_context(err, "backing.prealloc") : 0;
}

/* `node`: in blocks, all of that node; -1: what the machine begins with. */
static int create(struct machine *m, uint64_t before, uint64_t size, int node,
                  struct ram_backing *b, struct gw_error *err)
{
	const unsigned pages = m->config.backing.pages;
	const bool in_blocks = node >= 0;
	const struct numa_part all = { 0, size, in_blocks ? (unsigned)node : 0 };
	int r;

	b->copy_in = b->fd >= 0 || kinds[pages].page || m->config.backing.prealloc ||
	             m->config.backing.shared || is_bound(&m->config);
	r = b->fd >= 0 ? take_given(pages, before, size, b, err) : open_own(pages, size, b, err);
	if (!r && (size % b->page || b->offset % b->page))
		r = error_set(err, -EINVAL,
		              "memory: a piece of %llu bytes is not whole pages of %llu bytes",
		              (unsigned long long)size, (unsigned long long)b->page);
	if (!r)
		r = map(b, size, in_blocks, err);
	if (!r)
		r = in_blocks ? bind_part(&m->config, &all, b->hva, err)
		              : bind_nodes(m, before, size, b->hva, err);
	if (!r)
		r = ram_backing_advise(m, b->hva, size, err);
	b->take_pages = in_blocks && (b->page > PAGE_SIZE || m->config.backing.prealloc);
	if (r < 0 || in_blocks || !takes_at_once(m, b))
		return r;
	r = check_host(m, b, before, err);
	return r < 0 ? r : populate(b, size, err);
}

static int create_or_undo(struct machine *m, uint64_t before, uint64_t size, int node,
                          struct ram_backing *out, struct gw_error *err)
{
	struct ram_backing b = { .fd = machine_fd(m, "memory"), .page = PAGE_SIZE };
	int r = create(m, before, size, node, &b, err);

	if (!r) {
		*out = b;
		return 0;
	}
	if (b.hva)
		munmap(b.hva, size);
	if (b.fd >= 0)
		close(b.fd);
	return r;
}

int ram_backing_create(struct machine *m, uint64_t before, uint64_t size, struct ram_backing *out,
                       struct gw_error *err)
{
	return create_or_undo(m, before, size, -1, out, err);
}

int ram_backing_create_blocks(struct machine *m, uint64_t before, uint64_t size, unsigned node,
                              struct ram_backing *out, struct gw_error *err)
{
	return create_or_undo(m, before, size, (int)node, out, err);
}

/* ---- data from files ---- */

/* Where data begin at or behind `at`, and where they end; false: there are none any more. A file
 * system that cannot tell has data everywhere (lseek(2)). */
static bool next_data(int fd, uint64_t at, uint64_t end, uint64_t *from, uint64_t *to)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

	if (data < 0 && errno != ENXIO) {
		*from = at;
		*to = end;
		return at < end;
	}
	if (data < 0 || (uint64_t)data >= end)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (uint64_t)data;
	*to = hole < 0 ? end : MIN((uint64_t)hole, end);
	return true;
}

int ram_backing_copy_in(uint8_t *hva, uint64_t size, int fd, uint64_t offset, struct gw_error *err)
{
	const uint64_t end = offset + size;
	uint64_t from, to;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "guest RAM's file");
	if (end < offset || (uint64_t)st.st_size < end)
		return error_set(err, -EINVAL, "guest RAM's file ends at %llu, not %llu",
		                 (unsigned long long)st.st_size, (unsigned long long)end);
	for (uint64_t at = offset; next_data(fd, at, end, &from, &to); at = to) {
		int r = io_pread_full(fd, hva + (from - offset), to - from, (off_t)from);

		if (r < 0)
			return error_set_sys(err, r, "reading guest RAM at offset 0x%llx",
			                     (unsigned long long)from);
	}
	return 0;
}
