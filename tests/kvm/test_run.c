/* SPDX-License-Identifier: Apache-2.0 */
/* Running, stopping, resetting: no wake-up is lost, no instruction run twice. */
#include "harness.h"

#include "guest.h"
#include "vmm/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The mixer's answer, run without a pause. */
static void reference(char out[64])
{
	struct guest *g = guest_boot("mixer", 1, 32);
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await_end(g);
	cr_assert_eq(strlen(guest_output(g)), 19, "output \"%s\"", guest_output(g));
	strcpy(out, guest_output(g));
	guest_free(g);
}

Test(run, same_answer_when_paused)
{
	char expected[64];
	unsigned seed = 7, pauses = 0;
	struct guest *g;

	reference(expected);
	g = guest_boot("mixer", 1, 32);
	while (gw_vm_state(g->vm) != GW_STATE_SHUTDOWN && pauses < 20) {
		guest_run_us(g, next_random(&seed, 20000));
		pauses++;
	}
	if (gw_vm_state(g->vm) != GW_STATE_SHUTDOWN)
		gw_vm_cont(g->vm, false, NULL);
	guest_await_end(g);
	cr_assert(pauses > 2, "it ended before it was paused");
	cr_assert_str_eq(guest_output(g), expected);
	guest_free(g);
}

Test(run, no_wakeup_is_lost)
{
	struct guest *g = guest_boot("dirtier", 1, 128);
	volatile uint64_t *counter;
	uint64_t before = 0;

	counter = memory_hva(g->vm->machine->memory, GUEST_RAM + 0x1ff0000, 8);
	cr_assert(counter);
	for (int i = 0; i < 300; i++) {
		struct gw_error err_;

		cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
		cr_assert(gw_vm_stop(g->vm, &err_) == 0, "%s", err_.text);
	}
	before = *counter;
	usleep(20000);
	cr_assert_eq(*counter, before, "it runs although it was stopped");
	gw_vm_cont(g->vm, false, NULL);
	wait_turning(*counter != before, usleep(1000), "it does not run although it was told to");
	guest_free(g);
}

Test(run, reset_boots_again)
{
	struct guest *g = guest_boot("mixer", 1, 32);
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\n");
	cr_assert(gw_vm_reset(g->vm, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\nS\n");
	guest_await_end(g);
	guest_await_event(g, "RESET ");
	guest_await_event(g, "SHUTDOWN ");
	guest_free(g);
}

/* What becomes of the kernel's file afterwards is no matter: for a reset, a save, a reset there. */
Test(run, outlives_its_boot_image)
{
	char dir[] = "/tmp/godwit-guests-XXXXXX", path[64], from[256], copy[600];
	struct guest *g, *h;
	struct gw_error err_;

	cr_assert(mkdtemp(dir));
	guest_image("mixer", from, sizeof(from));
	snprintf(path, sizeof(path), "%s%s", dir, strrchr(from, '/'));
	snprintf(copy, sizeof(copy), "cp '%s' '%s'", from, path);
	cr_assert_eq(system(copy), 0);
	setenv("GODWIT_GUESTS", dir, 1);
	g = guest_boot("mixer", 1, 32);
	cr_assert_eq(truncate(path, 0), 0);
	cr_assert_eq(gw_vm_reset(g->vm, &err_), 0, "%s", err_.text);
	guest_save(g);
	h = guest_restored(g, false);
	cr_assert_eq(gw_vm_reset(h->vm, &err_), 0, "%s", err_.text);
	cr_assert_eq(gw_vm_cont(h->vm, false, &err_), 0, "%s", err_.text);
	guest_await(h, "S\n");
	guest_await_end(h);
	guest_free(g);
	guest_free(h);
	unlink(path);
	rmdir(dir);
}

/* By what its architecture has for that: a triple fault, or PSCI. */
Test(run, the_guest_resets_itself)
{
	struct guest *g = guest_boot("fault", 1, 32);
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\nS\nS\n");
	guest_await_event(g, "RESET ");
	cr_assert(gw_vm_stop(g->vm, &err_) == 0, "%s", err_.text);
	guest_free(g);
}

Test(run, two_vms_one_process)
{
	struct guest *a = guest_boot("mixer", 1, 32), *b = guest_boot("dirtier", 1, 128);
	struct gw_error err_;

	cr_assert(gw_vm_cont(b->vm, false, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_cont(a->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(b, "S\n");
	guest_free(b);
	guest_await_end(a);
	guest_free(a);
}
