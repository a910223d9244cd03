/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the library and of tests that fail when a test wants it: the unit
 * tests are linked so that these go through here (Makefile, FAULTS).
 * Allocations that are made while it watches are counted until they are freed.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stddef.h>

enum fault {
	FAULT_ALLOC, /* malloc, calloc, realloc, strdup: out of memory */
	FAULT_FSYNC, /* EIO */
};

/* From now on allocations are watched, and the call number `nth` of the kind (from 1) fails. All
 * threads' count. */
void faults_arm(enum fault kind, unsigned nth);
/* Nothing fails any more. True: the call came, and failed. */
bool faults_disarm(void);
/* Allocations made while it was armed, and not freed since. */
size_t faults_left(void);

#endif
