/* SPDX-License-Identifier: Apache-2.0 */
/* Where RAM is, and where memory may be added: around what else is in the address space. */
#ifndef VMM_RAM_LAYOUT_H
#define VMM_RAM_LAYOUT_H

#include "vmm/arch.h"

/* RAM of this size fills the architecture's places for it (arch_platform.ram) one after the other;
 * returns how many it takes. */
unsigned ram_layout(uint64_t ram_size, struct arch_range out[ARCH_RAM_RANGES]);
/* The first address behind it. */
uint64_t ram_end(uint64_t ram_size);

/* What is left of these places, from multiples of 4 GiB on, for a guest whose physical addresses
 * have so many bits; returns how many there are, the lowest first. */
unsigned ram_rooms(uint64_t ram_size, unsigned bits, struct arch_range out[ARCH_RAM_RANGES]);

#endif
