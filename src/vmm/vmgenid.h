/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM generation id: 128 random bits in the guest's memory, which change
 * when the guest goes on from a snapshot, so that it renews what must not be
 * used twice (its random number generator's state, above all). After a live
 * migration there is still one guest only, and the id stays.
 * Source: Microsoft, Virtual Machine Generation ID (2012).
 */
#ifndef VMM_VMGENID_H
#define VMM_VMGENID_H

#include "godwit.h"

struct machine;
struct vmgenid;

#define VMGENID_SIZE 16

/* With an id of its own, as participant "vmgenid". */
int vmgenid_create(struct machine *m, struct vmgenid **out, struct gw_error *err);
void vmgenid_destroy(struct vmgenid *g);
/* Puts the id where the guest looks for it (arch_platform.generation_id). */
void vmgenid_write(struct vmgenid *g);

#endif
