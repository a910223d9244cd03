/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arm's PrimeCell peripherals say what they are in eight bytes at the end of
 * their page, one in each word: four of the part, four that all of them have.
 * Source: ARM PrimeCell UART, RTC, GPIO technical reference manuals, "peripheral identification
 * registers"; Linux finds drivers by these (drivers/amba).
 */
#ifndef ARM64_PRIMECELL_H
#define ARM64_PRIMECELL_H

#include <stdint.h>

#define PRIMECELL_ID 0xfe0
#define PRIMECELL_SIZE 0x1000

/* The byte at an offset of PRIMECELL_ID and above, for a part number ("0x031"). */
static inline uint8_t primecell_id(uint32_t part, uint64_t offset)
{
	const uint8_t bytes[8] = {
		(uint8_t)part, (uint8_t)(0x10 | part >> 8), 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1
	};

	return bytes[(offset - PRIMECELL_ID) / 4 % 8];
}

#endif
