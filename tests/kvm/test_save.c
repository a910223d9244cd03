/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and restoring at random points: every register and every page. */
#include "harness.h"

#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

TestSuite(save, .timeout = 300);

static struct guest *restore(struct guest *from, const char *name, bool run)
{
	struct guest *g = guest_new();
	struct gw_map map[] = { { "serial.log", NULL } };
	struct gw_error err_;
	char dir[128], log[128];

	snprintf(dir, sizeof(dir), "%s/%s", from->dir, name);
	snprintf(log, sizeof(log), "%s/out", g->dir);
	map[0].value = log;
	cr_assert(gw_vm_restore(g->vm, dir, map, 1, run, &err_) == 0, "%s", err_.text);
	return g;
}

static int vcpu_fd(struct guest *g)
{
	return g->vm->machine->vcpus[0]->fd;
}

static void save(struct guest *g, const char *name)
{
	struct gw_error err_;
	char dir[128];

	snprintf(dir, sizeof(dir), "%s/%s", g->dir, name);
	cr_assert(gw_vm_save(g->vm, dir, &err_) == 0, "%s", err_.text);
}

Test(save, every_register_and_page)
{
	unsigned seed = 11;

	for (int i = 0; i < 6; i++) {
		struct guest *g = guest_boot(i & 1 ? "dirtier" : "mixer", 1 + i % 2, 128), *h;

		guest_run_us(g, 1000 + next_random(&seed, 60000));
		cr_assert_eq(gw_vm_state(g->vm), GW_STATE_PAUSED);
		save(g, "snap");
		h = restore(g, "snap", true);
		cr_assert_eq(gw_vm_state(h->vm), GW_STATE_PAUSED, "it was paused when saved");
		guest_compare(g, h);
		guest_free(h);
		guest_free(g);
	}
}

/* A page fault that waits, whose address CR2 does not have yet; a triple fault that does. */
Test(save, what_waits_for_the_guest)
{
	const struct kvm_vcpu_events waiting[] = {
		{ .exception = { .pending = 1, .nr = 14, .has_error_code = 1, .error_code = 6 },
		  .exception_has_payload = 1,
		  .exception_payload = 0x123456789000,
		  .flags = KVM_VCPUEVENT_VALID_PAYLOAD },
		{ .triple_fault.pending = 1, .flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
		struct guest *g = guest_boot("mixer", 1, 32), *h;
		struct kvm_vcpu_events is;

		guest_run_us(g, 1000);
		cr_assert_eq(ioctl(vcpu_fd(g), KVM_SET_VCPU_EVENTS, &waiting[i]), 0);
		save(g, "snap");
		h = restore(g, "snap", false);
		cr_assert_eq(ioctl(vcpu_fd(h), KVM_GET_VCPU_EVENTS, &is), 0);
		cr_assert_eq(memcmp(&is.exception, &waiting[i].exception, sizeof(is.exception)), 0);
		cr_assert_eq(is.exception_has_payload, waiting[i].exception_has_payload);
		cr_assert_eq(is.exception_payload, waiting[i].exception_payload);
		cr_assert_eq(is.triple_fault.pending, waiting[i].triple_fault.pending);
		guest_compare(g, h);
		guest_free(h);
		guest_free(g);
	}
}

Test(save, same_answer_over_a_chain_of_saves)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	char expected[64], tail[64] = "";
	struct gw_error err_;
	unsigned seed = 13;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await_end(g);
	strcpy(expected, strchr(guest_output(g), '\n') + 1);
	guest_free(g);

	g = guest_boot("mixer", 1, 32);
	for (int i = 0; i < 8 && gw_vm_state(g->vm) != GW_STATE_SHUTDOWN; i++) {
		guest_run_us(g, 500 + next_random(&seed, 30000));
		if (gw_vm_state(g->vm) == GW_STATE_SHUTDOWN)
			break;
		save(g, "snap");
		h = restore(g, "snap", true);
		guest_free(g);
		g = h;
	}
	if (gw_vm_state(g->vm) != GW_STATE_SHUTDOWN)
		cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await_end(g);
	strncat(tail, guest_output(g), sizeof(tail) - 1);
	cr_assert(strstr(tail, expected), "\"%s\" does not end in \"%s\"", tail, expected);
	guest_free(g);
}

Test(save, running_guest_goes_on)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	struct gw_error err_;

	cr_assert(gw_vm_cont(g->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(g, "S\n");
	save(g, "snap");
	h = restore(g, "snap", true);
	guest_await_end(g);
	guest_await_end(h);
	cr_assert(strstr(guest_output(g), guest_output(h)), "\"%s\" and \"%s\"", guest_output(g),
	          guest_output(h));
	guest_free(g);
	guest_free(h);
}

/* The images travel along: the restored guest boots again without the files it came from. */
Test(save, restored_guest_can_be_reset)
{
	struct guest *g = guest_boot("mixer", 1, 32), *h;
	struct gw_error err_;

	guest_run_us(g, 3000);
	save(g, "snap");
	h = restore(g, "snap", true);
	guest_free(g);
	cr_assert(gw_vm_reset(h->vm, &err_) == 0, "%s", err_.text);
	cr_assert(gw_vm_cont(h->vm, false, &err_) == 0, "%s", err_.text);
	guest_await(h, "S\n");
	guest_await_end(h);
	guest_free(h);
}
