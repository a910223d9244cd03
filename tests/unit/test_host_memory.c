/* SPDX-License-Identifier: Apache-2.0 */
/* What a host can give, and the words for what it cannot; hosts are folders here. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "vmm/host_memory.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char root[] = "/tmp/godwit-host-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[256], command[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, name);
	snprintf(command, sizeof(command), "mkdir -p $(dirname %s)", path);
	cr_assert_eq(system(command), 0);
	f = fopen(path, "w");
	cr_assert(f && fputs(text, f) != EOF && !fclose(f));
}

static void begin(void)
{
	cr_assert(mkdtemp(root));
	put("/proc/meminfo", "MemTotal:        4194304 kB\nMemFree:          100 kB\n"
	                     "MemAvailable:    2097152 kB\nSwapTotal: 9 kB\nSwapFree: 524288 kB\n");
}

static void end(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", root);
	cr_assert_eq(system(command), 0);
}

TestSuite(host_memory, .init = begin, .fini = end);

static void refused(uint64_t size, const char *says)
{
	struct gw_error err;

	cr_assert_eq(host_memory_check(root, size, &err), -ENOMEM);
	cr_assert(strstr(err.text, says), "%s", err.text);
}

static void given(uint64_t size)
{
	struct gw_error err;

	cr_assert_eq(host_memory_check(root, size, &err), 0, "%s", err.text);
}

Test(host_memory, what_the_host_has)
{
	given(2560 * MIB);
	refused(2561 * MIB,
	        "2561 MiB of this host's memory are needed, and 2048 MiB are available, "
	        "with 512 MiB of swap");
	/* What says nothing limits nothing. */
	put("/proc/meminfo", "MemTotal: 1 kB\n");
	given(4096 * GIB);
}

Test(host_memory, what_its_cgroups_may_have)
{
	put("/proc/self/cgroup", "0::/machines/web\n");
	put("/sys/fs/cgroup/machines/web/memory.max", "max\n");
	given(2560 * MIB);
	/* One above has a limit: 1 GiB, of which 512 MiB are used, 100 of them for caches. */
	put("/sys/fs/cgroup/machines/memory.max", "1073741824\n");
	put("/sys/fs/cgroup/machines/memory.current", "536870912\n");
	put("/sys/fs/cgroup/machines/memory.stat",
	    "anon 1\nfile 2\ninactive_file 52428800\nactive_file 52428800\n");
	put("/sys/fs/cgroup/machines/memory.swap.max", "0\n");
	given(612 * MIB);
	refused(613 * MIB,
	        "613 MiB of memory are needed, and cgroup /machines may have 1024 MiB, of "
	        "which 612 MiB are left");
	put("/sys/fs/cgroup/machines/memory.swap.max", "104857600\n");
	put("/sys/fs/cgroup/machines/memory.swap.current", "0\n");
	given(712 * MIB);
	/* One that lets nobody have anything more. */
	put("/sys/fs/cgroup/machines/web/memory.max", "0\n");
	put("/sys/fs/cgroup/machines/web/memory.swap.max", "0\n");
	refused(1 * MIB, "cgroup /machines/web may have 0 MiB");
}

Test(host_memory, in_no_cgroup_or_an_old_one)
{
	put("/proc/self/cgroup", "0::/\n");
	given(2560 * MIB);
	put("/proc/self/cgroup", "5:memory:/old\n");
	given(2560 * MIB);
}

Test(host_memory, what_may_be_pinned)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct rlimit limit = { 1 * MIB, 1 * MIB };
	struct gw_error err;

	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	cr_assert_eq(syscall(SYS_capset, &header, none), 0);
	cr_assert_eq(host_memory_may_lock(1 * MIB, &err), 0, "%s", err.text);
	cr_assert_eq(host_memory_may_lock(2 * MIB, &err), -EPERM);
	cr_assert(strstr(err.text, "2 MiB of memory are pinned, and RLIMIT_MEMLOCK is 1024 KiB"),
	          "%s", err.text);
}
