/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends a test that hangs. Criterion's own limits are no use here: .timeout is a constant of the
 * program, and its option --timeout holds for those tests alone that have one, and can but make it
 * shorter. Criterion starts each test as a process of its own, which is known by a variable of its
 * environment.
 */
#include "patience.h"

__attribute__((constructor)) static void guard(void)
{
	if (getenv("BXFI_MAP"))
		alarm(patience_test_s());
}
