/* SPDX-License-Identifier: Apache-2.0 */
/* Where memory that is added to a machine goes: a place of RAM's that is free, and that the guest
 * reaches. */
#ifndef VMM_VIRTIO_MEM_PLACE_H
#define VMM_VIRTIO_MEM_PLACE_H

#include "vmm/machine.h"

#define MEM_PLACE_ALIGN (4 * GIB)

/* The lowest free place for `size` bytes; where there is none, one that mem_place_check() refuses.
 */
uint64_t mem_place_find(const struct machine *m, uint64_t size);
/* -EINVAL: not a multiple of MEM_PLACE_ALIGN; -ENOSPC: not where memory can be added, with the
 * places where it can. */
int mem_place_check(const struct machine *m, uint64_t gpa, uint64_t size, struct gw_error *err);

#endif
