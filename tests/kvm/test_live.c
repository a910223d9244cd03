/* SPDX-License-Identifier: Apache-2.0 */
/* Live migration between two VMs of one process, while the guest dirties memory. */
#include "harness.h"

#include "guest.h"
#include "vmm/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BASE (GUEST_RAM + 0x2000000)
#define PAGES 16384
#define COUNTER (GUEST_RAM + 0x1ff0000)

/* See dirtier.S: one generation up to some page, the one before from there on. */
static uint64_t check_memory(struct guest *g)
{
	struct memory *mem = g->vm->machine->memory;
	const uint64_t *counter = memory_hva(mem, COUNTER, 8);
	const uint8_t *base = memory_hva(mem, BASE, PAGES * 4096ull);
	uint64_t generation, last = UINT64_MAX;

	cr_assert(counter && base);
	generation = *counter;
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t value;

		memcpy(&value, base + i * 4096, 8);
		cr_assert(value == generation || value == generation + 1,
		          "page %llu holds generation %llu, the counter says %llu",
		          (unsigned long long)i, (unsigned long long)value,
		          (unsigned long long)generation);
		cr_assert(value <= last, "page %llu is newer than the one before it",
		          (unsigned long long)i);
		last = value;
	}
	return generation;
}

static int as_it_was(struct gw_vm *vm, struct gw_error *err)
{
	(void)vm;
	(void)err;
	return 0;
}

static int cont(struct gw_vm *vm, struct gw_error *err)
{
	return gw_vm_cont(vm, false, err);
}

static struct guest *migrate_and(struct guest *from, int round,
                                 int (*wish)(struct gw_vm *vm, struct gw_error *err))
{
	struct guest *to = guest_new();
	struct gw_map map[] = { { "serial.log", NULL } };
	struct gw_error err_;
	char uri[128], log[128], said[2048];

	snprintf(uri, sizeof(uri), "unix:%s/mig%d", to->dir, round);
	snprintf(log, sizeof(log), "%s/out", to->dir);
	map[0].value = log;
	cr_assert(gw_vm_incoming(to->vm, uri, map, 1, &err_) == 0, "%s", err_.text);
	cr_assert(wish(to->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_migrate(from->vm, uri, &err_) == 0, "%s", err_.text);
	guest_await_migrated(from, said, sizeof(said));
	cr_assert(strstr(said, "completed"), "%s", said);
	cr_assert_eq(gw_vm_state(from->vm), GW_STATE_POSTMIGRATE);
	cr_assert_eq(gw_vm_cont(from->vm, false, &err_), -EPERM, "two guests at once");
	return to;
}

static struct guest *migrate(struct guest *from, int round)
{
	return migrate_and(from, round, as_it_was);
}

Test(live, dirtying_guest_moves)
{
	struct guest *g = guest_boot("dirtier", 1, 128);
	struct gw_migrate_params params = { .downtime_limit_ms = 500 };
	struct gw_error err_;
	uint64_t before = 0;

	cr_assert(gw_vm_set_migrate_params(g->vm, &params, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\n");
	for (int round = 0; round < 5; round++) {
		struct guest *h;

		/* Let it make some generations where it is. */
		usleep(20000);
		h = migrate(g, round);
		guest_free(g);
		g = h;
		cr_assert_eq(gw_vm_state(g->vm), GW_STATE_RUNNING);
		cr_assert(gw_vm_set_migrate_params(g->vm, &params, &err_) == 0, "%s", err_.text);
		cr_assert(gw_vm_stop(g->vm, &err_) == 0, "%s", err_.text);
		cr_assert(check_memory(g) >= before);
		before = check_memory(g);
		cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	}
	guest_free(g);
}

static void await_state(struct guest *g, enum gw_state state)
{
	wait_turning(gw_vm_state(g->vm) == state, usleep(1000), "not %s", gw_state_name(state));
}

/* What the destination was told while it waited, and of that the last word. */
Test(live, arrives_as_the_destination_was_told)
{
	struct guest *g = guest_boot("dirtier", 1, 64), *h;
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\n");
	h = migrate_and(g, 0, gw_vm_stop);
	guest_free(g);
	await_state(h, GW_STATE_PAUSED);
	g = migrate_and(h, 1, cont);
	guest_free(h);
	await_state(g, GW_STATE_RUNNING);
	/* And what it was told then says nothing of the next one. */
	cr_assert(gw_vm_stop(g->vm, &err_) == 0, "%s", err_.text);
	h = migrate(g, 2);
	await_state(h, GW_STATE_PAUSED);
	guest_free(g);
	guest_free(h);
}

Test(live, paused_guest_arrives_paused_and_the_same)
{
	struct guest *g = guest_boot("mixer", 2, 64), *h;

	guest_run_us(g, 20000);
	h = migrate(g, 0);
	cr_assert_eq(gw_vm_state(h->vm), GW_STATE_PAUSED);
	guest_compare(g, h);
	cr_assert(guest_same_generation(g, h), "there is still one guest only");
	guest_free(g);
	guest_free(h);
}
