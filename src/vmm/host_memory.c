/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/host_memory.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CGROUPS "/sys/fs/cgroup"

/* The number behind a name at the begin of a line; false: there is none. */
static bool find_number(const char *path, const char *name, uint64_t *out)
{
	const size_t len = strlen(name);
	char line[256];
	FILE *f = fopen(path, "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		char *end;

		if (strncmp(line, name, len) || !strchr(" \t:", line[len]))
			continue;
		*out = strtoull(line + len + strspn(line + len, " \t:"), &end, 10);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

/* A file that holds a number; false: it does not, "max" say. */
static bool read_number(const char *dir, const char *name, uint64_t *out)
{
	char path[768], line[32], *end;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (io_read_line(path, line, sizeof(line), NULL) < 0)
		return false;
	*out = strtoull(line, &end, 10);
	return end != line;
}

/* ---- the host's -------------------------------------------------------------------------------
 */

static int check_host(const char *root, uint64_t size, uint64_t *swap, struct gw_error *err)
{
	uint64_t available, kib = 0;
	char path[512];

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	*swap = find_number(path, "SwapFree", &kib) ? kib * KIB : 0;
	if (!find_number(path, "MemAvailable", &kib))
		return 0;
	available = kib * KIB;
	if (size <= available + *swap)
		return 0;
	return error_set(
	        err, -ENOMEM,
	        "%llu MiB of this host's memory are needed, and %llu MiB are available, with "
	        "%llu MiB of swap (/proc/meminfo)",
	        (unsigned long long)(size / MIB), (unsigned long long)(available / MIB),
	        (unsigned long long)(*swap / MIB));
}

/* ---- its cgroups' ------------------------------------------------------------------------------
 */

/* What may be dropped makes room. */
static uint64_t droppable(const char *dir)
{
	uint64_t active = 0, inactive = 0;
	char path[768];

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	find_number(path, "active_file", &active);
	find_number(path, "inactive_file", &inactive);
	return active + inactive;
}

static uint64_t swap_left(const char *dir, uint64_t host)
{
	uint64_t most, used = 0;

	if (!read_number(dir, "memory.swap.max", &most))
		return host;
	read_number(dir, "memory.swap.current", &used);
	return MIN(host, most > used ? most - used : 0);
}

static int check_cgroup(const char *dir, const char *name, uint64_t size, uint64_t swap,
                        struct gw_error *err)
{
	uint64_t most, used = 0, left;

	if (!read_number(dir, "memory.max", &most))
		return 0;
	read_number(dir, "memory.current", &used);
	used -= MIN(used, droppable(dir));
	left = (most > used ? most - used : 0) + swap_left(dir, swap);
	if (size <= left)
		return 0;
	return error_set(err, -ENOMEM,
	                 "%llu MiB of memory are needed, and cgroup %s may have %llu MiB, of which "
	                 "%llu MiB are left, with swap (memory.max)",
	                 (unsigned long long)(size / MIB), *name ? name : "/",
	                 (unsigned long long)(most / MIB), (unsigned long long)(left / MIB));
}

/* The line "0::/path" of /proc/self/cgroup (cgroups(7)). */
static bool own_cgroup(const char *root, char *out, size_t size)
{
	char path[512], line[256];

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	if (io_read_line(path, line, sizeof(line), NULL) < 0 || strncmp(line, "0::/", 4) != 0)
		return false;
	snprintf(out, size, "%s", strcmp(line, "0::/") ? line + 3 : "");
	return true;
}

static int check_cgroups(const char *root, uint64_t size, uint64_t swap, struct gw_error *err)
{
	char name[256], dir[640], *slash;
	int r;

	if (!own_cgroup(root, name, sizeof(name)))
		return 0;
	for (;;) {
		snprintf(dir, sizeof(dir), "%s" CGROUPS "%s", root, name);
		r = check_cgroup(dir, name, size, swap, err);
		slash = strrchr(name, '/');
		if (r < 0 || !slash)
			return r;
		*slash = 0;
	}
}

int host_memory_check(const char *root, uint64_t size, struct gw_error *err)
{
	uint64_t swap;
	int r = check_host(root, size, &swap, err);

	return r < 0 ? r : check_cgroups(root, size, swap, err);
}

/* ---- pinned -----------------------------------------------------------------------------------
 */

static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return !syscall(SYS_capget, &header, data) && (data[0].effective >> CAP_IPC_LOCK & 1);
}

int host_memory_may_lock(uint64_t size, struct gw_error *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || size <= limit.rlim_cur || may_lock_all())
		return 0;
	return error_set(err, -EPERM,
	                 "%llu MiB of memory are pinned, and RLIMIT_MEMLOCK is %llu KiB: raise it "
	                 "(ulimit -l; LimitMEMLOCK= of a service), or give CAP_IPC_LOCK",
	                 (unsigned long long)(size / MIB),
	                 (unsigned long long)(limit.rlim_cur / KIB));
}
