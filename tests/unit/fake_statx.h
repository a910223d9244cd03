/* SPDX-License-Identifier: Apache-2.0 */
/* What file systems say of their files: a stand-in for those that the machine has not. */
#ifndef TESTS_FAKE_STATX_H
#define TESTS_FAKE_STATX_H

#include <stdbool.h>

struct fake_statx {
	unsigned direct_align; /* 0: as it is */
	bool by_verity;
};
extern struct fake_statx fake_statx;

#endif
