/* SPDX-License-Identifier: Apache-2.0 */
/* Where the guests of tests/guests/x86 are. */
#ifndef KVM_X86_GUEST_H
#define KVM_X86_GUEST_H

#include <elf.h>

#define GUEST_SUFFIX "elf"
#define GUEST_RAM 0
#define GUEST_CODE 0x100000
#define GUEST_MACHINE EM_X86_64

#endif
