/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs and memory of the machine, as the host has them. */
#include "harness.h"

#include "base/util.h"
#include "guest.h"
#include "vmm/vcpu.h"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

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

/* ---- keys that are about CPUs of another architecture ---- */

static const struct {
	uint32_t machine;
	const char *cpu, *says;
} foreign[] = {
	{ EM_X86_64, "\"sve\":\"256\"", "cpu.sve: there is none on x86-64" },
	{ EM_X86_64, "\"pauth\":\"on\"", "cpu.pauth: there is none on x86-64" },
	{ EM_X86_64, "\"pmu\":true", "cpu.pmu: there is none on x86-64" },
	/* What asks for nothing is fine. */
	{ EM_X86_64, "\"sve\":\"off\",\"pauth\":\"auto\",\"pmu\":false", NULL },
	{ EM_AARCH64, "\"model\":\"x86-64-v2\"",
	  "cpu.model: that is a model of another architecture" },
	{ EM_AARCH64, "\"model\":\"x86-64-v3\"",
	  "cpu.model: that is a model of another architecture" },
	{ EM_AARCH64, "\"model\":\"host\"", NULL },
};

Test(platform, keys_of_another_architecture_are_refused_by_name)
{
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		struct guest *g;
		char more[96];
		int r;

		if (foreign[i].machine != GUEST_MACHINE)
			continue;
		g = guest_new();
		snprintf(more, sizeof(more), "\"cpu\":{%s}", foreign[i].cpu);
		r = guest_configure(g, "mixer", 1, 32, more, &err);
		cr_assert_eq(r, foreign[i].says ? -ENOTSUP : 0, "%s: %d", more, r);
		if (foreign[i].says)
			cr_assert(strstr(err.text, foreign[i].says), "%s", err.text);
		guest_free(g);
	}
}
