/* SPDX-License-Identifier: Apache-2.0 */
/* Before main(): the godwit that this is linked into has device servers that speak as libvfio-user
 * does. */
#include "manner/manner.h"

static void __attribute__((constructor)) begin(void)
{
	manner_set(MANNER_ALL);
}
