/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs whose work is done by the test's own poll() loop, on the thread that makes all other calls
 * too.
 */
#ifndef KVM_EXTERNAL_H
#define KVM_EXTERNAL_H

#include "harness.h"

/* An empty VM; one with this guest, which does not run yet. */
struct guest *external(void);
struct guest *external_boot(const char *name, unsigned memory_mib);
void run(struct guest *g);

/* One round for up to two VMs: waits on their descriptors alone. */
void turn(struct guest *a, struct guest *b);
/* Rounds until something is so. */
void turn_until_output(struct guest *g, const char *text);
void turn_until_state(struct guest *g, struct guest *other, enum gw_state state);
void turn_until_event(struct guest *g, const char *event);

bool seen(struct guest *g, const char *event);

#endif
