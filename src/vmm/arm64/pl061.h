/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arm's PrimeCell GPIO as a chip: eight pins, each an input here unless the
 * guest makes it an output, which is connected to nothing; one interrupt
 * output. Whose pins they are is the owner's (pm.c).
 * Source: ARM PrimeCell General Purpose Input/Output (PL061) technical reference manual
 * (DDI 0190), 3.
 */
#ifndef ARM64_PL061_H
#define ARM64_PL061_H

#include <stdbool.h>
#include <stdint.h>

struct pl061 {
	uint8_t inputs;  /* what comes in from outside */
	uint8_t outputs; /* what the guest has written */
	uint8_t direction;
	uint8_t level;  /* 1: the interrupt is by level, not by edge */
	uint8_t both;   /* 1: by both edges */
	uint8_t high;   /* 1: high level or rising edge */
	uint8_t enable; /* 1: the interrupt is let through */
	uint8_t edges;  /* that have come */
	uint8_t mode;   /* alternate functions, of which there are none */
};

/* All but the pins' levels go to what they are after a reset. */
void pl061_reset(struct pl061 *gpio);
uint8_t pl061_read(const struct pl061 *gpio, uint64_t offset);
void pl061_write(struct pl061 *gpio, uint64_t offset, uint8_t value);
void pl061_set_pin(struct pl061 *gpio, unsigned pin, bool high);
/* The interrupt output. */
bool pl061_line(const struct pl061 *gpio);

#endif
