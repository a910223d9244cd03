/* SPDX-License-Identifier: Apache-2.0 */
/* Where the guests of tests/guests/arm64 are. */
#ifndef KVM_ARM64_GUEST_H
#define KVM_ARM64_GUEST_H

#include <elf.h>

#define GUEST_SUFFIX "image"
#define GUEST_RAM 0x40000000
#define GUEST_CODE 0x40200000
#define GUEST_MACHINE EM_AARCH64

#endif
