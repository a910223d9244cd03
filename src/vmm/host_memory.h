/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host can give of its memory, asked before it is taken: the kernel's own answer, once it
 * is too much, is to end a process.
 */
#ifndef VMM_HOST_MEMORY_H
#define VMM_HOST_MEMORY_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * -ENOMEM, with the numbers, unless the host has `size` bytes more: MemAvailable and SwapFree of
 * /proc/meminfo (proc(5)), and what the limits of this process's cgroup and of those above it leave
 * (Linux, cgroup-v2.rst, 5-2-1; caches that can be dropped do not count). What cannot be read
 * limits nothing. `root` is "" (tests have their own).
 */
int host_memory_check(const char *root, uint64_t size, struct gw_error *err);

/* -EPERM, with the numbers, unless this process may pin so many bytes (RLIMIT_MEMLOCK,
 * getrlimit(2)). */
int host_memory_may_lock(uint64_t size, struct gw_error *err);

#endif
