/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs and memory of the machine, as the host has them. */
#include "harness.h"

#include "base/util.h"
#include "vmm/vcpu.h"

#include <sched.h>
#include <string.h>

TestSuite(platform, .timeout = 120);

static struct gw_error err;

static struct guest *made(unsigned cpus, const char *more)
{
	return guest_made("mixer", cpus, 32, more);
}

Test(platform, runs_with_255_vcpus)
{
	struct guest *g = made(255, "");

	cr_assert_eq(g->vm->machine->vcpu_count, 255);
	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	guest_await(g, "S\n");
	cr_assert_eq(gw_vm_stop(g->vm, &err), 0, "%s", err.text);
	guest_free(g);
}

Test(platform, vcpus_are_pinned)
{
	struct guest *g = made(2, "\"cpu\":{\"affinity\":[\"0\",\"0\"]}");

	for (unsigned i = 0; i < 2; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		cr_assert_eq(sched_getaffinity(g->vm->machine->vcpus[i]->tid, sizeof(set), &set),
		             0);
		cr_assert_eq(CPU_COUNT(&set), 1);
		cr_assert(CPU_ISSET(0, &set));
	}
	guest_free(g);
}

/* Data of a snapshot are copied in where its file may not be mapped; the guest ends as ever. */
Test(platform, restores_into_preallocated_memory)
{
	struct guest *g = made(1, "\"backing\":{\"prealloc\":true,\"pages\":\"4K\"}"), *h;

	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	guest_await(g, "S\n");
	guest_save(g);
	h = guest_restored(g, true);
	guest_await_end(g);
	guest_await_end(h);
	cr_assert(strstr(guest_output(g), guest_output(h)), "\"%s\" and \"%s\"", guest_output(g),
	          guest_output(h));
	guest_free(g);
	guest_free(h);
}

/* Snapshots into huge pages, where the host has reserved some. */
Test(platform, restores_into_huge_pages)
{
	struct guest *g = guest_new(), *h;
	int r = guest_configure(g, "mixer", 1, 32, "\"backing\":{\"pages\":\"2M\"}", &err);

	if (r < 0) {
		cr_assert(strstr(err.text, "backing.pages: "), "%s", err.text);
		guest_free(g);
		return;
	}
	guest_run_us(g, 3000);
	guest_save(g);
	h = guest_restored(g, false);
	guest_compare(g, h);
	guest_free(g);
	guest_free(h);
}

Test(platform, each_restore_has_another_generation)
{
	struct guest *g = made(1, ""), *h, *i;

	guest_run_us(g, 3000);
	guest_save(g);
	h = guest_restored(g, false);
	i = guest_restored(g, false);
	cr_assert(!guest_same_generation(g, h) && !guest_same_generation(h, i) &&
	          !guest_same_generation(g, i));
	guest_free(g);
	guest_free(h);
	guest_free(i);
}
