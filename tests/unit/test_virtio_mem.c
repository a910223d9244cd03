/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_mem_driver.h"

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
	wait_turning(vdriver_status(&d) & 64, loop_once(d.vm->m->loop, 5), "it needs a reset");
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

/* More than there is room for below the 64-bit window, where the guest has the addresses. */
Test(virtio_mem, behind_the_window)
{
	struct options o = { .size = 300 * GIB };
	struct vmachine *vm = vmachine_new(8 * MIB);
	const uint64_t end = arch_pci.mmio64.gpa + arch_pci.mmio64.size;

	vm->m->address_bits = 38;
	cr_assert_null(vmachine_add(vm, &virtio_mem_driver, &o, sizeof(o)));
	cr_assert(strstr(vm->error, "and memory can be added from 0x"), "%s", vm->error);
	vm->m->address_bits = 41;
	cr_assert_not_null(vmachine_add(vm, &virtio_mem_driver, &o, sizeof(o)), "%s", vm->error);
	cr_assert_eq(memory_region(vm->m->memory, 1)->gpa, end);
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
	cr_assert_eq(memory_add_region(mem, 64 * GIB, BLOCK, BLOCK, 0, &err), -EBUSY);
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
	cr_assert_eq(memory_add_region(memory_of(&d), 64 * GIB, BLOCK, BLOCK, 0, &err), -E2BIG);
	cr_assert_null(region_find(memory_of(&d), 64 * GIB, 1, &(uint64_t){ 0 }));
	memory_remove_listener(memory_of(&d), &f.l);
	memory_remove_listener(memory_of(&d), &g.l);
	vmachine_free(d.vm);
}

/* ---- nodes -------------------------------------------------------------------------- */

Test(virtio_mem, belongs_to_a_node)
{
	struct options o = usual;
	struct vmachine *vm = vmachine_new(RAM);
	struct vdriver d;

	vm->m->config.node_count = 2;
	ram_participant_init(vm->m->memory);
	o.node = 2;
	cr_assert_null(vmachine_add(vm, &virtio_mem_driver, &o, sizeof(o)));
	cr_assert(strstr(vm->error, "node: 2, and there are 2 (numa)"), "%s", vm->error);
	o.node = 1;
	vdriver_begin(&d, vm, vmachine_add(vm, &virtio_mem_driver, &o, sizeof(o)), 3);
	cr_assert_eq(vdriver_offered(&d) & 0xffffff, 3, "VIRTIO_MEM_F_ACPI_PXM too");
	cr_assert_eq(vdriver_config(&d, 8, 4), 1, "node_id, and nothing behind it");
	cr_assert_eq(vdriver_config(&d, 16, 4), 0);
	cr_assert_eq(memory_region(memory_of(&d), 1)->node, 1);
	cr_assert_eq(ask(&d, PLUG, AT, 1), ACK);
	vmachine_free(vm);
}

/* What has gone is bound to its node still. */
Test(virtio_mem, a_region_comes_again_on_its_own_node_alone)
{
	struct gw_error err = { 0 };
	struct memory *mem;
	struct vdriver d;
	size_t count;

	begin(&d);
	mem = memory_of(&d);
	cr_assert_eq(memory_add_region(mem, 64 * GIB, BLOCK, BLOCK, 1, &err), 0, "%s", err.text);
	count = memory_region_count(mem);
	memory_remove_region(mem, 64 * GIB);
	cr_assert_eq(memory_add_region(mem, 68 * GIB, BLOCK, BLOCK, 0, &err), 0, "%s", err.text);
	cr_assert_eq(memory_region_count(mem), count + 1);
	cr_assert_eq(memory_add_region(mem, 72 * GIB, BLOCK, BLOCK, 1, &err), 0, "%s", err.text);
	cr_assert_eq(memory_region_count(mem), count + 1);
	vmachine_free(d.vm);
}
