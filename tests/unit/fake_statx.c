/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_statx.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fake_statx fake_statx;

/* In place of the C library's. */
int statx_here(int fd, const char *path, int flags, unsigned mask,
               struct statx *x) __asm__("statx");
int statx_here(int fd, const char *path, int flags, unsigned mask, struct statx *x)
{
	const long r = syscall(SYS_statx, fd, path, flags, mask, x);

	if (!r && fake_statx.direct_align) {
		x->stx_mask |= STATX_DIOALIGN;
		x->stx_dio_offset_align = x->stx_dio_mem_align = fake_statx.direct_align;
	}
	if (!r && fake_statx.by_verity)
		x->stx_attributes |= STATX_ATTR_VERITY;
	return (int)r;
}
