/* SPDX-License-Identifier: Apache-2.0 */
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
};

static const struct options usual = { .size = 64 * MIB, .requested = 16 * MIB };

struct request {
	uint64_t type, addr, blocks;
};

static void begin_with(struct vdriver *d, const struct options *o)
{
	struct vmachine *vm = vmachine_new(RAM);

	ram_participant_init(vm->m->memory);
	vdriver_begin(d, vm, vmachine_add(vm, &virtio_mem_driver, o, sizeof(*o)), 2);
}

static void begin(struct vdriver *d)
{
	begin_with(d, &usual);
}

struct wait {
	struct vdriver *d;
	struct vused used;
};

static bool was_used(void *opaque)
{
	struct wait *w = opaque;

	return vdriver_used(w->d, 0, &w->used);
}

/* Sends a request of `len` bytes; the answer's type, and its state in *state. */
static unsigned ask_raw(struct vdriver *d, const void *request, uint32_t len, unsigned *state)
{
	const uint64_t out = vmachine_alloc(d->vm, len, 16), in = vmachine_alloc(d->vm, 16, 16);
	struct wait w = { .d = d };
	uint16_t answer[5];

	memcpy(vmachine_at(d->vm, out), request, len);
	memset(vmachine_at(d->vm, in), 0xff, 16);
	vdriver_add(d, 0, (struct vbuf[]){ { out, len, false }, { in, 10, true } }, 2);
	vdriver_kick(d, 0);
	cr_assert(vmachine_wait(d->vm, was_used, &w, 5000));
	cr_assert_eq(w.used.len, 10);
	memcpy(answer, vmachine_at(d->vm, in), sizeof(answer));
	*state = answer[4];
	return answer[0];
}

static unsigned ask(struct vdriver *d, unsigned type, uint64_t addr, unsigned blocks)
{
	const struct request q = { type, addr, blocks };
	unsigned state;

	return ask_raw(d, &q, sizeof(q), &state);
}

static unsigned state_of(struct vdriver *d, uint64_t addr, unsigned blocks)
{
	const struct request q = { STATE, addr, blocks };
	unsigned state;

	cr_assert_eq(ask_raw(d, &q, sizeof(q), &state), ACK);
	return state;
}

static uint64_t plugged(struct vdriver *d)
{
	return vdriver_config(d, 40, 4) | vdriver_config(d, 44, 4) << 32;
}

static int request_size(struct vdriver *d, const char *args, struct gw_error *err)
{
	cJSON *parsed = cJSON_Parse(args), *ret = NULL;
	int r = virtio_mem_driver.command(&d->v->device, "requested-size", parsed, &ret, err);

	cJSON_Delete(parsed);
	return r;
}

static struct memory *memory_of(struct vdriver *d)
{
	return d->vm->m->memory;
}

static uint8_t *at(struct vdriver *d, uint64_t gpa)
{
	return memory_region(memory_of(d), 1)->hva + (gpa - AT);
}

static bool resident(struct vdriver *d, uint64_t gpa)
{
	unsigned char in_core = 0;

	cr_assert_eq(mincore(at(d, gpa), PAGE_SIZE, &in_core), 0);
	return in_core & 1;
}

Test(virtio_mem, says_what_there_is)
{
	struct vdriver d;

	begin(&d);
	cr_assert_eq(vdriver_offered(&d) & 0xffffff, 2, "VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE");
	cr_assert_eq(vdriver_config(&d, 0, 4), BLOCK);
	cr_assert_eq(vdriver_config(&d, 16, 4), 0);
	cr_assert_eq(vdriver_config(&d, 20, 4), 1, "4 GiB");
	cr_assert_eq(vdriver_config(&d, 24, 4), 64 * MIB);
	cr_assert_eq(vdriver_config(&d, 32, 4), 64 * MIB);
	cr_assert_eq(vdriver_config(&d, 40, 4), 0);
	cr_assert_eq(vdriver_config(&d, 48, 4), 16 * MIB);
	vdriver_config_write(&d, 48, 4, 0x400000);
	cr_assert_eq(vdriver_config(&d, 48, 4), 16 * MIB, "not the guest's to change");
	vmachine_free(d.vm);
}

Test(virtio_mem, plugs_and_unplugs)
{
	struct vdriver d;

	begin(&d);
	cr_assert_null(memory_hva(memory_of(&d), AT, 1));
	cr_assert_eq(ask(&d, PLUG, AT + BLOCK, 2), ACK);
	cr_assert_eq(plugged(&d), 2 * BLOCK);
	cr_assert_eq(memory_plugged(memory_of(&d)), 2 * BLOCK);
	cr_assert_eq(memory_size(memory_of(&d)), RAM, "what it began with");
	cr_assert_str_eq(vmachine_event(d.vm, "MEMORY_DEVICE_SIZE_CHANGE"),
	                 "{\"id\":\"virtio-mem0\",\"size\":4194304,"
	                 "\"qom-path\":\"/machine/virtio-mem0\"}");
	cr_assert_eq(memory_hva(memory_of(&d), AT + BLOCK, 2 * BLOCK), at(&d, AT + BLOCK));
	cr_assert_null(memory_hva(memory_of(&d), AT + BLOCK, 2 * BLOCK + 1));
	cr_assert_null(memory_hva(memory_of(&d), AT + BLOCK - 1, 2));
	cr_assert_eq(state_of(&d, AT, 1), UNPLUGGED);
	cr_assert_eq(state_of(&d, AT, 2), MIXED);
	cr_assert_eq(state_of(&d, AT + BLOCK, 2), PLUGGED);
	memset(at(&d, AT + BLOCK), 0x5a, 2 * BLOCK);
	cr_assert(resident(&d, AT + BLOCK));
	cr_assert_eq(ask(&d, UNPLUG, AT + BLOCK, 1), ACK);
	cr_assert_eq(plugged(&d), BLOCK);
	cr_assert(!resident(&d, AT + BLOCK), "the host has it again");
	cr_assert(resident(&d, AT + 2 * BLOCK));
	cr_assert_eq(ask(&d, PLUG, AT + BLOCK, 1), ACK);
	cr_assert_eq(at(&d, AT + BLOCK)[5], 0);
	cr_assert_eq(at(&d, AT + 2 * BLOCK)[5], 0x5a);
	cr_assert_eq(ask(&d, UNPLUG_ALL, 0, 0), ACK);
	cr_assert_eq(plugged(&d), 0);
	cr_assert(!resident(&d, AT + 2 * BLOCK));
	cr_assert_eq(ask(&d, UNPLUG_ALL, 0, 0), ACK, "nothing to do");
	vmachine_free(d.vm);
}

Test(virtio_mem, refuses_what_is_not_right)
{
	static const struct {
		unsigned type;
		uint64_t addr;
		unsigned blocks, answer;
	} cases[] = {
		{ PLUG, AT, 0, ERROR },
		{ PLUG, AT + 4096, 1, ERROR },
		{ PLUG, AT - BLOCK, 1, ERROR },
		{ PLUG, AT - BLOCK, 2, ERROR },
		{ PLUG, 0, 1, ERROR },
		{ PLUG, AT + 64 * MIB, 1, ERROR },
		{ PLUG, AT + 62 * MIB, 2, ERROR },
		{ PLUG, UINT64_MAX - BLOCK + 1, 1, ERROR },
		{ PLUG, AT, 65535, ERROR },
		{ PLUG, AT, 9, NACK }, /* more than was requested */
		{ PLUG, AT + 8 * MIB, 4, ACK },
		{ PLUG, AT + 8 * MIB, 1, ERROR }, /* it is there */
		{ PLUG, AT + 6 * MIB, 2, ERROR }, /* one of them is */
		{ PLUG, AT, 5, NACK },
		{ UNPLUG, AT, 1, ERROR },
		{ UNPLUG, AT + 6 * MIB, 2, ERROR },
		{ UNPLUG, AT + 8 * MIB, 5, ERROR },
		{ UNPLUG, AT + 8 * MIB + 1, 1, ERROR },
		{ UNPLUG, RAM - BLOCK, 1, ERROR },
		{ STATE, AT, 0, ERROR },
		{ STATE, AT + 63 * MIB, 1, ERROR },
		{ STATE, 0, 1, ERROR },
		{ 4, AT, 1, ERROR },
		{ 65535, AT, 1, ERROR },
		{ PLUG, AT, 4, ACK },
		{ PLUG, AT + 16 * MIB, 1, NACK },
	};
	struct vdriver d;

	begin(&d);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cr_assert_eq(ask(&d, cases[i].type, cases[i].addr, cases[i].blocks),
		             cases[i].answer, "case %zu", i);
	cr_assert_eq(plugged(&d), 16 * MIB);
	vmachine_free(d.vm);
}

Test(virtio_mem, short_requests)
{
	const struct request q = { PLUG, AT, 1 };
	unsigned state;
	struct vdriver d;

	begin(&d);
	cr_assert_eq(ask_raw(&d, &q, 1, &state), ERROR);
	cr_assert_eq(ask_raw(&d, &q, 16, &state), ERROR, "no number of blocks");
	cr_assert_eq(ask_raw(&d, &q, 18, &state), ACK);
	cr_assert_eq(plugged(&d), BLOCK);
	/* No room for an answer. */
	vdriver_add(&d, 0,
	            (struct vbuf[]){ { vmachine_alloc(d.vm, 24, 8), 24, false },
	                             { vmachine_alloc(d.vm, 24, 8), 9, true } },
	            2);
	vdriver_kick(&d, 0);
	for (int i = 0; i < 200 && !(vdriver_status(&d) & 64); i++) {
		usleep(5000);
		vmachine_turn(d.vm);
	}
	cr_assert(vdriver_status(&d) & 64, "it needs a reset");
	cr_assert_eq(plugged(&d), BLOCK);
	vmachine_free(d.vm);
}

Test(virtio_mem, the_owner_asks_for_a_size)
{
	struct gw_error err = { 0 };
	struct vdriver d;

	begin(&d);
	cr_assert_eq(request_size(&d, "{\"size\":33554432}", &err), 0, "%s", err.text);
	cr_assert_eq(vdriver_config(&d, 48, 4), 32 * MIB);
	cr_assert_eq(vdriver_isr(&d) & 2, 2, "the configuration has changed");
	cr_assert_eq(ask(&d, PLUG, AT, 16), ACK);
	cr_assert_eq(request_size(&d, "{\"size\":0}", &err), 0);
	cr_assert_eq(ask(&d, PLUG, AT + 32 * MIB, 1), NACK);
	cr_assert_eq(plugged(&d), 32 * MIB, "nothing is taken by force");
	cr_assert_eq(request_size(&d, "{\"size\":67108864}", &err), 0);
	cr_assert_eq(request_size(&d, "{\"size\":69206016}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{\"size\":1048576}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{\"size\":-2097152}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{\"size\":0.5}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{\"size\":1e300}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{\"size\":\"2M\"}", &err), -EINVAL);
	cr_assert_eq(request_size(&d, "{}", &err), -EINVAL);
	cr_assert_eq(vdriver_config(&d, 48, 4), 64 * MIB);
	vmachine_free(d.vm);
}

Test(virtio_mem, what_was_left_open_is_decided_and_kept)
{
	struct vmachine *vm = vmachine_new(RAM);
	struct config_device config = { .id = "m", .type = "virtio-mem" };
	struct options *o = (struct options *)config.options;
	struct gw_error err = { 0 };
	static const struct options bad[] = {
		{ .size = 3 * MIB },
		{ .size = 64 * MIB, .requested = 66 * MIB },
		{ .size = 64 * MIB, .requested = 3 * MIB },
		{ .size = 64 * MIB, .block = 3 * MIB },
		{ .size = 64 * MIB, .address = 4 * GIB + BLOCK },
		{ .size = 64 * MIB, .address = 4096 * GIB },
		{ .size = 1024 * GIB },
	};
	/* RAM has one place here of those that memory has. */
	struct device *devices[MEMORY_REGIONS_MAX - 1], *more;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_null(vmachine_add(vm, &virtio_mem_driver, &bad[i], sizeof(bad[i])),
		               "case %zu", i);
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		*o = (struct options){ .size = 64 * MIB };
		snprintf(config.id, sizeof(config.id), "m%u", i);
		cr_assert_eq(virtio_mem_driver.create(vm->m, &config, false, &devices[i], &err), 0,
		             "%s", err.text);
		cr_assert_eq(o->block, BLOCK);
		cr_assert_eq(o->address, AT * (i + 1));
	}
	*o = (struct options){ .size = 64 * MIB };
	strcpy(config.id, "more");
	cr_assert_eq(virtio_mem_driver.create(vm->m, &config, false, &more, &err), -ENOSPC);
	*o = (struct options){ .size = 64 * MIB, .address = 2 * AT };
	cr_assert_eq(virtio_mem_driver.create(vm->m, &config, false, &more, &err), -EEXIST);
	/* The place of one that has gone is another's. */
	virtio_mem_driver.destroy(devices[1]);
	*o = (struct options){ .size = 128 * MIB };
	cr_assert_eq(virtio_mem_driver.create(vm->m, &config, false, &more, &err), -ENOSPC,
	             "as large as it was");
	*o = (struct options){ .size = 64 * MIB };
	cr_assert_eq(virtio_mem_driver.create(vm->m, &config, false, &more, &err), 0, "%s",
	             err.text);
	cr_assert_eq(o->address, 2 * AT);
	cr_assert_eq(memory_region_count(vm->m->memory), MEMORY_REGIONS_MAX);
	devices[1] = more;
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		virtio_mem_driver.destroy(devices[i]);
	vmachine_free(vm);
}

Test(virtio_mem, gone_with_its_memory)
{
	struct vdriver d;
	struct memory *mem;
	uint8_t *hva;

	begin(&d);
	mem = memory_of(&d);
	cr_assert_eq(ask(&d, PLUG, AT, 4), ACK);
	hva = memory_hva(mem, AT, 4096);
	memset(hva, 1, BLOCK);
	memset(hva + 32 * MIB, 1, 4096); /* where nothing is plugged */
	machine_forget_device(d.vm->m, &d.v->device);
	virtio_mem_driver.destroy(&d.v->device);
	cr_assert_null(memory_hva(mem, AT, 1));
	cr_assert_null(memory_hva(mem, UINT64_MAX, 1));
	cr_assert_eq(memory_plugged(mem), 0);
	cr_assert_eq(hva[0], 0, "what is in flight hits nobody");
	cr_assert_eq(hva[32 * MIB], 0);
	memory_mark_dirty(mem, AT, 4096);
	cr_assert_eq(memory_discard(mem, AT, 4096), -EINVAL);
	vmachine_free(d.vm);
}

Test(virtio_mem, resets)
{
	struct vdriver d;

	begin(&d);
	cr_assert_eq(ask(&d, PLUG, AT, 4), ACK);
	vdriver_reset(&d);
	cr_assert_eq(plugged(&d), 4 * BLOCK, "the driver's reset takes nothing");
	cr_assert_not_null(memory_hva(memory_of(&d), AT, 4 * BLOCK));
	vmachine_pause(d.vm);
	machine_lock(d.vm->m);
	pci_reset(d.vm->m->pci);
	machine_unlock(d.vm->m);
	cr_assert_eq(virtio_config_get(d.v, 40, 8), 0, "the machine's does");
	cr_assert_eq(virtio_config_get(d.v, 48, 8), 16 * MIB, "what is requested stays");
	cr_assert_null(memory_hva(memory_of(&d), AT, 1));
	cr_assert_str_eq(vmachine_event(d.vm, "MEMORY_DEVICE_SIZE_CHANGE"),
	                 "{\"id\":\"virtio-mem0\",\"size\":0,"
	                 "\"qom-path\":\"/machine/virtio-mem0\"}");
	vmachine_free(d.vm);
}

Test(virtio_mem, unplugged_only_when_empty)
{
	struct gw_error err = { 0 };
	struct vdriver d;

	begin(&d);
	cr_assert_eq(virtio_mem_driver.request_unplug(&d.v->device, &err), -EBUSY);
	request_size(&d, "{\"size\":4194304}", &err);
	cr_assert_eq(ask(&d, PLUG, AT, 2), ACK);
	request_size(&d, "{\"size\":0}", &err);
	cr_assert_eq(virtio_mem_driver.request_unplug(&d.v->device, &err), -EBUSY);
	cr_assert(strstr(err.text, "4194304"), "%s", err.text);
	vmachine_free(d.vm);
}

Test(virtio_mem, nothing_changes_while_memory_moves)
{
	struct gw_error err = { 0 };
	struct vdriver d;
	struct memory *mem;

	begin(&d);
	mem = memory_of(&d);
	cr_assert_eq(ask(&d, PLUG, AT, 1), ACK);
	vmachine_track(d.vm);
	mem->regions[1].dirty = calloc(region_words(&mem->regions[1]), 8);
	cr_assert_eq(ask(&d, PLUG, AT + BLOCK, 1), BUSY);
	cr_assert_eq(ask(&d, UNPLUG, AT, 1), BUSY);
	cr_assert_eq(ask(&d, UNPLUG_ALL, 0, 0), BUSY);
	cr_assert_eq(state_of(&d, AT, 2), MIXED);
	cr_assert_eq(plugged(&d), BLOCK);
	cr_assert_eq(memory_add_region(mem, 64 * GIB, BLOCK, BLOCK, &err), -EBUSY);
	/* Only what is there gets dirty. */
	memory_mark_dirty(mem, AT + BLOCK - 4096, 8192);
	cr_assert_eq(mem->regions[1].dirty[7], 1ull << 63);
	cr_assert_eq(mem->regions[1].dirty[8], 0);
	vdriver_isr(&d);
	vmachine_turn(d.vm);
	cr_assert_eq(vdriver_isr(&d) & 2, 0);
	memory_dirty_stop(mem);
	vmachine_turn(d.vm);
	cr_assert_eq(vdriver_isr(&d) & 2, 2, "it may try again");
	cr_assert_eq(ask(&d, PLUG, AT + BLOCK, 1), ACK);
	vmachine_free(d.vm);
}

/* ---- listeners ---------------------------------------------------------------------- */

struct follower {
	struct memory_listener l;
	uint64_t mapped, unmapped;
	unsigned calls, changes;
	bool refuse;
};

static int follow_plugged(struct memory_listener *l, uint64_t gpa, uint64_t size, uint64_t block,
                          void *hva, struct gw_error *err)
{
	struct follower *f = container_of(l, struct follower, l);

	cr_assert_geq(gpa, AT);
	cr_assert_eq(block, BLOCK);
	cr_assert_not_null(hva);
	f->calls++;
	if (f->refuse)
		return error_set(err, -ENOMEM, "no room");
	f->mapped += size;
	return 0;
}

static void follow_unplugged(struct memory_listener *l, uint64_t gpa, uint64_t size)
{
	(void)gpa;
	container_of(l, struct follower, l)->unmapped += size;
}

static int follow_changed(struct memory_listener *l, struct gw_error *err)
{
	struct follower *f = container_of(l, struct follower, l);

	f->changes++;
	return f->refuse ? error_set(err, -E2BIG, "no room for regions") : 0;
}

static void follow(struct vdriver *d, struct follower *f)
{
	f->l.plugged = follow_plugged;
	f->l.unplugged = follow_unplugged;
	f->l.regions_changed = follow_changed;
	memory_add_listener(memory_of(d), &f->l);
}

Test(virtio_mem, translations_follow)
{
	struct follower f = { 0 }, g = { 0 };
	struct gw_error err = { 0 };
	struct vdriver d;

	begin(&d);
	follow(&d, &f);
	cr_assert_eq(ask(&d, PLUG, AT, 2), ACK);
	cr_assert_eq(f.mapped, 0, "not asked for yet");
	cr_assert_eq(memory_follow(memory_of(&d), &f.l, &err), 0);
	cr_assert_eq(f.mapped, 2 * BLOCK);
	cr_assert_eq(ask(&d, PLUG, AT + 4 * BLOCK, 1), ACK);
	cr_assert_eq(f.mapped, 3 * BLOCK);
	memset(at(&d, AT), 1, BLOCK);
	cr_assert_eq(memory_discard(memory_of(&d), AT, BLOCK), -EBUSY, "pinned");
	cr_assert_eq(ask(&d, UNPLUG, AT, 1), ACK);
	cr_assert_eq(f.unmapped, BLOCK);
	cr_assert(!resident(&d, AT), "given back none the less");
	/* The second of two refuses. The newest listener is asked first. */
	f.refuse = true;
	follow(&d, &g);
	cr_assert_eq(memory_follow(memory_of(&d), &g.l, &err), 0);
	cr_assert_eq(g.mapped, 2 * BLOCK);
	cr_assert_eq(ask(&d, PLUG, AT, 1), BUSY);
	cr_assert_eq(g.mapped, 3 * BLOCK);
	cr_assert_eq(g.unmapped, BLOCK, "and is told that it came to nothing");
	cr_assert_eq(plugged(&d), 2 * BLOCK);
	cr_assert_null(memory_hva(memory_of(&d), AT, 1));
	cr_assert_eq(memory_add_region(memory_of(&d), 64 * GIB, BLOCK, BLOCK, &err), -E2BIG);
	cr_assert_null(region_find(memory_of(&d), 64 * GIB, 1, &(uint64_t){ 0 }));
	memory_remove_listener(memory_of(&d), &f.l);
	memory_remove_listener(memory_of(&d), &g.l);
	vmachine_free(d.vm);
}

/* ---- saved, moved ------------------------------------------------------------------- */

static void both_ram(struct vdriver *from, struct vmachine *to, struct kept *records,
                     struct gw_error *err, int expected)
{
	struct participant *p = memory_participant(to->m->memory);
	int r;

	(void)from;
	ram_participant_init(to->m->memory);
	cr_assert_eq(p->ops->begin_load(p, err), 0);
	r = kept_load(records, p, err);
	if (!r)
		r = p->ops->settle(p, err);
	cr_assert_eq(r, expected, "%s", err->text);
}

/* What a destination would have of it. */
struct copy {
	struct kept kept;
	struct participant *to; /* NULL: only counted */
	uint64_t pages, above;
	unsigned calls_above;
	uint64_t end;
};

static int copy_pages(struct sink *sink, struct participant *p, uint64_t gpa, const void *hva,
                      size_t count, struct gw_error *err)
{
	struct copy *c = container_of(sink, struct copy, kept.sink);

	(void)p;
	c->pages += count;
	if (gpa >= AT) {
		c->above += count;
		c->calls_above += gpa != c->end;
		c->end = gpa + count * PAGE_SIZE;
	}
	return c->to ? c->to->ops->load_pages(c->to, gpa, hva, count, err) : 0;
}

static const struct sink_ops copy_ops = { .record = kept_record, .pages = copy_pages };

static void save_ram(struct vdriver *d, struct copy *c, struct participant *to)
{
	struct participant *p = memory_participant(memory_of(d));
	struct gw_error err = { 0 };

	*c = (struct copy){ .kept.sink.ops = &copy_ops, .to = to };
	cr_assert_eq(p->ops->prepare(p, false, &err), 0);
	cr_assert_eq(p->ops->save(p, &c->kept.sink, &err), 0, "%s", err.text);
}

Test(virtio_mem, only_what_is_there_is_saved)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver d;

	begin(&d);
	cr_assert_eq(ask(&d, PLUG, AT, 2), ACK);
	cr_assert_eq(ask(&d, PLUG, AT + 8 * BLOCK, 1), ACK);
	memset(at(&d, AT), 7, BLOCK);
	memset(at(&d, AT + 20 * BLOCK), 7, BLOCK); /* a guest that does what it may not */
	save_ram(&d, c, NULL);
	cr_assert_eq(c->kept.count, 1);
	cr_assert_eq(c->kept.records[0].len, 24 + 8);
	cr_assert_eq(c->kept.records[0].bytes[24], 3);
	cr_assert_eq(c->kept.records[0].bytes[25], 1);
	cr_assert_eq(c->above, 3 * BLOCK / PAGE_SIZE);
	cr_assert_eq(c->pages - c->above, RAM / PAGE_SIZE);
	cr_assert_eq(c->calls_above, 2);
	/* With many gaps they are filled: a snapshot has not as many ranges. */
	cr_assert_eq(request_size(&d, "{\"size\":67108864}", &err), 0);
	for (unsigned i = 10; i < 32; i += 2)
		cr_assert_eq(ask(&d, PLUG, AT + i * BLOCK, 1), ACK);
	save_ram(&d, c, NULL);
	cr_assert_eq(c->calls_above, 1);
	cr_assert_eq(c->above, 31 * BLOCK / PAGE_SIZE);
	free(c);
	vmachine_free(d.vm);
}

static struct vdriver arrive(struct vdriver *a, const struct options *o, struct kept *ram,
                             int expected, struct gw_error *err)
{
	struct vmachine *there = vmachine_new(RAM);
	struct device *device = vmachine_add(there, &virtio_mem_driver, o, sizeof(*o));
	struct kept *kept = malloc(sizeof(*kept));
	struct vdriver b;

	vdriver_save(a, kept);
	both_ram(a, there, ram, err, 0);
	cr_assert_eq(vdriver_load(&b, there, device, a, kept, err), expected, "%s", err->text);
	free(kept);
	return b;
}

Test(virtio_mem, moves)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b;
	struct participant *p;
	uint8_t page[PAGE_SIZE];

	begin(&a);
	request_size(&a, "{\"size\":33554432}", &err);
	cr_assert_eq(ask(&a, PLUG, AT + BLOCK, 3), ACK);
	save_ram(&a, c, NULL);
	b = arrive(&a, &usual, &c->kept, 0, &err);
	vmachine_run(b.vm);
	cr_assert_eq(plugged(&b), 3 * BLOCK);
	cr_assert_eq(vdriver_config(&b, 48, 4), 32 * MIB);
	cr_assert_eq(state_of(&b, AT + BLOCK, 3), PLUGGED);
	cr_assert_eq(state_of(&b, AT + 4 * BLOCK, 5), UNPLUGGED);
	cr_assert_eq(ask(&b, PLUG, AT + 8 * BLOCK, 13), ACK);
	vmachine_free(b.vm);
	/* Pages of blocks that are there, and of others. */
	b.vm = vmachine_new(RAM);
	cr_assert_not_null(vmachine_add(b.vm, &virtio_mem_driver, &usual, sizeof(usual)));
	ram_participant_init(b.vm->m->memory);
	p = memory_participant(b.vm->m->memory);
	memset(page, 9, sizeof(page));
	cr_assert_eq(p->ops->begin_load(p, &err), 0);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, page, 1, &err), -EINVAL, "too early");
	cr_assert_eq(kept_load(&c->kept, p, &err), 0, "%s", err.text);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, page, 1, &err), 0);
	cr_assert_eq(p->ops->load_pages(p, AT, page, 1, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT, NULL, 1, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + 3 * BLOCK, NULL, 513, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + 3 * BLOCK, NULL, SIZE_MAX, &err), -EINVAL);
	cr_assert_eq(p->ops->load_pages(p, AT + BLOCK, NULL, 0, &err), -EINVAL);
	cr_assert_eq(at(&b, AT + BLOCK)[77], 9);
	cr_assert_eq(kept_load(&c->kept, p, &err), -EINVAL, "a second time");
	p->ops->discard(p);
	vmachine_free(b.vm);
	free(c);
	vmachine_free(a.vm);
}

Test(virtio_mem, a_put_off_driver_hears_of_it_where_it_arrives)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b;

	begin(&a);
	vmachine_track(a.vm);
	memory_of(&a)->regions[1].dirty = calloc(region_words(&memory_of(&a)->regions[1]), 8);
	cr_assert_eq(ask(&a, PLUG, AT, 1), BUSY);
	vmachine_pause(a.vm);
	memory_of(&a)->tracking = false;
	save_ram(&a, c, NULL);
	b = arrive(&a, &usual, &c->kept, 0, &err);
	vdriver_isr(&b);
	vmachine_run(b.vm);
	vmachine_turn(b.vm);
	cr_assert_eq(vdriver_isr(&b) & 2, 2);
	cr_assert_eq(ask(&b, PLUG, AT, 1), ACK);
	free(c);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}

Test(virtio_mem, state_that_does_not_fit)
{
	struct options o = usual;
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct kept *kept = malloc(sizeof(*kept));
	struct vmachine *there;
	struct device *device;
	struct vdriver a, b;
	uint8_t *bytes;

	begin(&a);
	cr_assert_eq(ask(&a, PLUG, AT, 2), ACK);
	save_ram(&a, c, NULL);
	vdriver_save(&a, kept);
	bytes = c->kept.records[0].bytes;
	/* RAM says something else than the device. */
	bytes[24] = 7;
	b = arrive(&a, &usual, &c->kept, -EINVAL, &err);
	cr_assert(strstr(err.text, "4194304 bytes plugged there, and 6291456 came"), "%s",
	          err.text);
	vmachine_free(b.vm);
	bytes[24] = 3;
	/* Another size, block, address; bits beyond the end; too long, too short, none. */
	for (unsigned i = 0; i < 7; i++) {
		struct kept_record r = c->kept.records[0];

		there = vmachine_new(RAM);
		o = usual;
		if (i == 0)
			o.size = 128 * MIB;
		else if (i == 1)
			o.block = 4 * MIB;
		else if (i == 2)
			o.address = 8 * GIB;
		else if (i == 3)
			bytes[28] = 1;
		else if (i == 4)
			c->kept.records[0].len -= 8;
		else if (i == 5)
			c->kept.records[0].len += 8;
		else
			c->kept.count = 0;
		cr_assert_not_null(vmachine_add(there, &virtio_mem_driver, &o, sizeof(o)));
		both_ram(&a, there, &c->kept, &err, -EINVAL);
		vmachine_free(there);
		c->kept.records[0] = r;
	}
	/* The device's: as large, elsewhere. */
	c->kept.count = 1;
	there = vmachine_new(RAM);
	o = (struct options){ .size = 64 * MIB, .address = 8 * GIB };
	device = vmachine_add(there, &virtio_mem_driver, &o, sizeof(o));
	cr_assert_eq(vdriver_load(&b, there, device, &a, kept, &err), -EINVAL);
	cr_assert(strstr(err.text, "address"), "%s", err.text);
	vmachine_free(there);
	free(kept);
	free(c);
	vmachine_free(a.vm);
}

Test(virtio_mem, a_file_leaves_nothing_where_nothing_is_plugged)
{
	struct copy *c = malloc(sizeof(*c));
	struct gw_error err = { 0 };
	struct vdriver a, b = { 0 };
	struct participant *p;
	int fd = memfd_create("snapshot", 0);
	uint8_t byte = 0x66;

	begin(&a);
	cr_assert_eq(ask(&a, PLUG, AT, 1), ACK);
	save_ram(&a, c, NULL);
	b.vm = vmachine_new(RAM);
	cr_assert_not_null(vmachine_add(b.vm, &virtio_mem_driver, &usual, sizeof(usual)));
	ram_participant_init(b.vm->m->memory);
	p = memory_participant(b.vm->m->memory);
	cr_assert_eq(ftruncate(fd, 3 * BLOCK), 0);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)(i * BLOCK)), 1);
	cr_assert_eq(p->ops->begin_load(p, &err), 0);
	cr_assert_eq(p->ops->map_file(p, AT, 3 * BLOCK, fd, 0, &err), 0, "%s", err.text);
	cr_assert_eq(at(&b, AT + 2 * BLOCK)[0], 0x66);
	cr_assert_eq(kept_load(&c->kept, p, &err), 0, "%s", err.text);
	cr_assert_eq(p->ops->settle(p, &err), 0, "%s", err.text);
	cr_assert_eq(at(&b, AT)[0], 0x66);
	cr_assert_eq(at(&b, AT + BLOCK)[0], 0);
	cr_assert_eq(at(&b, AT + 2 * BLOCK)[0], 0);
	cr_assert_eq(p->ops->map_file(p, AT + 63 * MIB, BLOCK, fd, 0, &err), -EINVAL);
	close(fd);
	free(c);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
}
