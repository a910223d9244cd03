/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of virtio-mem: requests and their answers. */
#ifndef UNIT_VIRTIO_MEM_DRIVER_H
#define UNIT_VIRTIO_MEM_DRIVER_H

#include "virtio_driver.h"

#include "vmm/arch.h"
#include "vmm/memory_internal.h"
#include "vmm/virtio/devices.h"

#include <stdio.h>
#include <sys/mman.h>

#define RAM (8 * MIB)
#define BLOCK (2 * MIB)
#define AT (4 * GIB)

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { PLUGGED, UNPLUGGED, MIXED };

/* As the driver has it. */
struct options {
	uint64_t size, requested, block, address;
	uint32_t node;
};

static const struct options usual = { .size = 64 * MIB, .requested = 16 * MIB };

struct request {
	uint64_t type, addr, blocks;
};

static inline void begin_with(struct vdriver *d, const struct options *o)
{
	struct vmachine *vm = vmachine_new(RAM);

	ram_participant_init(vm->m->memory);
	vdriver_begin(d, vm, vmachine_add(vm, &virtio_mem_driver, o, sizeof(*o)), 2);
}

static inline void begin(struct vdriver *d)
{
	begin_with(d, &usual);
}

struct wait {
	struct vdriver *d;
	struct vused used;
};

static inline bool was_used(void *opaque)
{
	struct wait *w = opaque;

	return vdriver_used(w->d, 0, &w->used);
}

/* Sends a request of `len` bytes; the answer's type, and its state in *state. */
static inline unsigned ask_raw(struct vdriver *d, const void *request, uint32_t len,
                               unsigned *state)
{
	const uint64_t out = vmachine_alloc(d->vm, len, 16), in = vmachine_alloc(d->vm, 16, 16);
	struct wait w = { .d = d };
	uint16_t answer[5];

	memcpy(vmachine_at(d->vm, out), request, len);
	memset(vmachine_at(d->vm, in), 0xff, 16);
	vdriver_add(d, 0, (struct vbuf[]){ { out, len, false }, { in, 10, true } }, 2);
	vdriver_kick(d, 0);
	cr_assert(vmachine_wait(d->vm, was_used, &w, patience_ms()));
	cr_assert_eq(w.used.len, 10);
	memcpy(answer, vmachine_at(d->vm, in), sizeof(answer));
	*state = answer[4];
	return answer[0];
}

static inline unsigned ask(struct vdriver *d, unsigned type, uint64_t addr, unsigned blocks)
{
	const struct request q = { type, addr, blocks };
	unsigned state;

	return ask_raw(d, &q, sizeof(q), &state);
}

static inline unsigned state_of(struct vdriver *d, uint64_t addr, unsigned blocks)
{
	const struct request q = { STATE, addr, blocks };
	unsigned state;

	cr_assert_eq(ask_raw(d, &q, sizeof(q), &state), ACK);
	return state;
}

static inline uint64_t plugged(struct vdriver *d)
{
	return vdriver_config(d, 40, 4) | vdriver_config(d, 44, 4) << 32;
}

static inline int request_size(struct vdriver *d, const char *args, struct gw_error *err)
{
	cJSON *parsed = cJSON_Parse(args), *ret = NULL;
	int r = virtio_mem_driver.command(&d->v->device, "requested-size", parsed, &ret, err);

	cJSON_Delete(parsed);
	return r;
}

static inline struct memory *memory_of(struct vdriver *d)
{
	return d->vm->m->memory;
}

static inline uint8_t *at(struct vdriver *d, uint64_t gpa)
{
	return memory_region(memory_of(d), 1)->hva + (gpa - AT);
}

static inline bool resident(struct vdriver *d, uint64_t gpa)
{
	unsigned char in_core = 0;

	cr_assert_eq(mincore(at(d, gpa), PAGE_SIZE, &in_core), 0);
	return in_core & 1;
}

#endif
