/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine of nothing but passed-through devices of different kinds, which
 * are stand-ins that speak v1 and v2; and the records that they send, which
 * another such machine can be given.
 */
#ifndef UNIT_STATE_WORLD_H
#define UNIT_STATE_WORLD_H

#include "v1_device.h"
#include "v2_device.h"

#include "migration/sequence.h"
#include "vfio/vfio_pci.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORLD_DEVICES 4
#define WORLD_V1 UINT64_MAX /* instead of v2's flags */

struct world_record {
	char name[40];
	uint16_t type;
	size_t len;
	uint8_t *bytes;
};

struct state_world {
	struct machine m;
	struct vfio_pci *pci[WORLD_DEVICES]; /* "dev0", ... */
	struct v2_device *v2[WORLD_DEVICES]; /* or */
	struct v1_device *v1[WORLD_DEVICES];
	struct sink sink;
	struct world_record *records;
	size_t record_count;
	struct sequence sequence;
	enum phase phase; /* the last that was begun */
	char degraded[512];
	unsigned degraded_count;
};

struct state_world *world_new(const uint64_t kinds[WORLD_DEVICES]);
void world_free(struct state_world *w);

/* Phases as a live migration has them, up to `last`; with a second look at what is pending. */
int world_send(struct state_world *w, enum phase last, struct gw_error *err);
/* Takes the records, and settles. */
int world_take(struct state_world *w, const struct state_world *from, struct gw_error *err);
int world_run(struct state_world *w, enum phase phase, struct gw_error *err);
void world_undo(struct state_world *w, struct gw_error *err);
/* The devices that run; and a device's resets so far. */
unsigned world_running(const struct state_world *w);
unsigned world_resets(const struct state_world *w, unsigned i);
/* Is the state that `from` had in device i of `w` now? */
bool world_has(const struct state_world *w, const struct state_world *from, unsigned i);
/* As if the guest had reset it. */
void world_reset(struct state_world *w, unsigned i);

/* How many records of this type device i has sent. */
unsigned world_count(const struct state_world *w, unsigned i, uint16_t type);

#endif
