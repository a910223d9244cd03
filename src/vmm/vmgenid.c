/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmgenid.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/pm.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { RECORD_ID = 1 };

struct vmgenid {
	struct machine *machine;
	struct participant participant;
	uint8_t id[VMGENID_SIZE];
	bool loaded;
};

static int choose(struct vmgenid *g, struct gw_error *err)
{
	if (getrandom(g->id, sizeof(g->id), 0) != (ssize_t)sizeof(g->id))
		return error_set_sys(err, -errno, "generation id: getrandom");
	return 0;
}

/* It is in memory that every machine has. */
void vmgenid_write(struct vmgenid *g)
{
	memory_write(g->machine->memory, arch_platform.generation_id, g->id, sizeof(g->id));
}

/* ---- as a participant ---- */

static struct vmgenid *vmgenid_of(struct participant *p)
{
	return container_of(p, struct vmgenid, participant);
}

static int vmgenid_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct vmgenid *g = vmgenid_of(p);

	return sink_record(sink, p, RECORD_ID, g->id, sizeof(g->id), err);
}

static int vmgenid_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                        size_t len, struct gw_error *err)
{
	struct vmgenid *g = vmgenid_of(p);

	(void)version;
	if (type != RECORD_ID || len != sizeof(g->id))
		return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
	memcpy(g->id, buf, sizeof(g->id));
	g->loaded = true;
	return 0;
}

/* RAM has been loaded: the guest finds the new id with its first instruction. */
static int vmgenid_settle(struct participant *p, struct gw_error *err)
{
	struct vmgenid *g = vmgenid_of(p);
	int r;

	if (!g->loaded)
		return error_set(err, -EINVAL, "the generation id did not come");
	if (!g->machine->restored)
		return 0;
	r = choose(g, err);
	if (r < 0)
		return r;
	vmgenid_write(g);
	return 0;
}

/* And the notification too. Not earlier: an interrupt raised before all of the interrupt
 * controller has its state would be lost with what that held, and on x86 the I/O APIC wait for its
 * end for ever. */
static int vmgenid_resume(struct participant *p, int pass, struct gw_error *err)
{
	struct machine *m = vmgenid_of(p)->machine;

	(void)err;
	if (pass == 0 || !m->restored)
		return 0;
	machine_lock(m);
	pm_generation_changed(m->pm);
	machine_unlock(m);
	return 0;
}

static const struct participant_ops vmgenid_ops = {
	.kind = "vmgenid",
	.version = 1,
	.class = PARTICIPANT_DEVICE,
	.save = vmgenid_save,
	.load = vmgenid_load,
	.settle = vmgenid_settle,
	.resume = vmgenid_resume,
};

int vmgenid_create(struct machine *m, struct vmgenid **out, struct gw_error *err)
{
	struct vmgenid *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return error_set(err, -ENOMEM, "generation id: out of memory");
	g->machine = m;
	g->participant.ops = &vmgenid_ops;
	snprintf(g->participant.name, sizeof(g->participant.name), "vmgenid");
	r = choose(g, err);
	if (!r)
		r = participant_add(&m->participants, &g->participant, err);
	if (r < 0) {
		free(g);
		return r;
	}
	*out = g;
	return 0;
}

void vmgenid_destroy(struct vmgenid *g)
{
	if (!g)
		return;
	participant_remove(&g->machine->participants, &g->participant);
	free(g);
}
