/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs, memory and time of the machine, as KVM and the host have them. */
#include "harness.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/memory.h"
#include "vmm/vcpu.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/x86.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static struct gw_error err;

static struct guest *made(unsigned cpus, const char *more)
{
	return guest_made("mixer", cpus, 32, more);
}

static struct vcpu *vcpu(struct guest *g, unsigned i)
{
	return g->vm->machine->vcpus[i];
}

/* ---- vCPUs ---- */

Test(platform_x86, vcpus_have_the_ids_of_the_topology)
{
	static const uint32_t ids[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
	struct guest *g = made(12, "\"cpu\":{\"sockets\":2,\"cores\":3,\"threads\":2}");
	struct kvm_cpuid2 *c = cpuid_alloc();

	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		struct kvm_lapic_state lapic;

		cr_assert_eq(ioctl(vcpu(g, i)->fd, KVM_GET_LAPIC, &lapic), 0);
		cr_assert_eq((uint8_t)lapic.regs[0x23], ids[i], "vcpu%u: its APIC", i);
		c->nent = CPUID_ENTRIES_MAX;
		cr_assert_eq(ioctl(vcpu(g, i)->fd, KVM_GET_CPUID2, c), 0);
		cr_assert_eq(cpuid_value(c, 1, 0, CPUID_EBX) >> 24, ids[i], "vcpu%u: CPUID", i);
		cr_assert_eq(cpuid_value(c, 0xb, 1, CPUID_EDX), ids[i]);
	}
	free(c);
	guest_free(g);
}

Test(platform_x86, a_topology_with_too_many_ids_is_refused)
{
	struct guest *g = guest_new();

	cr_assert_eq(
	        guest_configure(g, "mixer", 255, 32, "\"cpu\":{\"cores\":51,\"threads\":5}", &err),
	        -EINVAL);
	cr_assert(strstr(err.text, "APIC ids up to 404"), "%s", err.text);
	guest_free(g);
}

/* On a host that has the level, a guest runs with it; else the features that lack are named. */
Test(platform_x86, a_named_model)
{
	struct guest *g = guest_new();
	struct kvm_cpuid2 *c = cpuid_alloc();
	int r = guest_configure(g, "mixer", 1, 32, "\"cpu\":{\"model\":\"x86-64-v2\"}", &err);

	if (r < 0) {
		cr_assert_eq(r, -ENOTSUP);
		cr_assert(strstr(err.text, "x86-64-v2 needs "), "%s", err.text);
	} else {
		c->nent = CPUID_ENTRIES_MAX;
		cr_assert_eq(ioctl(vcpu(g, 0)->fd, KVM_GET_CPUID2, c), 0);
		cr_assert_eq(cpuid_value(c, 1, 0, CPUID_ECX) >> 26 & 1, 0, "no XSAVE");
		cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
		guest_await_end(g);
	}
	free(c);
	guest_free(g);
}

Test(platform_x86, firmware_is_refused_with_what_works_instead)
{
	struct guest *g = guest_new();
	char json[256];

	snprintf(json, sizeof(json), "{\"memory\":\"32M\",\"boot\":{\"firmware\":\"%s\"}}",
	         "/proc/self/exe");
	cr_assert_eq(gw_vm_configure(g->vm, json, "p", &err), -ENOTSUP);
	cr_assert(strstr(err.text, "boot.firmware: /proc/self/exe: ") &&
	                  strstr(err.text, "docs/firmware.md"),
	          "%s", err.text);
	guest_free(g);
}

/* One record of a vCPU is changed on its way: CPUID gets a feature that no host has. */
struct forged {
	struct sink sink;
	struct participant *to;
};

static int forge(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                 size_t head_len, const void *body, size_t body_len, struct gw_error *e)
{
	struct forged *f = container_of(sink, struct forged, sink);
	char *copy = malloc(head_len + body_len + 1);
	int r;

	memcpy(copy, head, head_len);
	if (body_len)
		memcpy(copy + head_len, body, body_len);
	if (type == 2)
		cpuid_find((struct kvm_cpuid2 *)copy, 7, 0)->ebx |= 1u << 26;
	r = f->to->ops->load(f->to, p->ops->version, type, copy, head_len + body_len, e);
	free(copy);
	return r;
}

Test(platform_x86, a_guest_with_a_feature_that_is_not_here_is_refused)
{
	static const struct sink_ops ops = { .record = forge };
	struct guest *a = made(1, ""), *b = made(1, "");
	struct forged f = { .sink.ops = &ops, .to = &vcpu(b, 0)->participant };
	struct participant *from = &vcpu(a, 0)->participant;

	cr_assert_eq(from->ops->save(from, &f.sink, &err), 0, "%s", err.text);
	cr_assert_eq(f.to->ops->settle(f.to, &err), -ENOTSUP);
	cr_assert_str_eq(err.text, "vcpu0: the guest uses avx512pf, which this host's KVM does not "
	                           "offer");
	guest_free(a);
	guest_free(b);
}

/* ---- memory ---- */

Test(platform_x86, memory_is_the_descriptor_given)
{
	struct guest *g = guest_new();
	int fd = memfd_create("given", MFD_CLOEXEC);
	char there[16], here[16];

	cr_assert_eq(gw_vm_give_fd(g->vm, "memory", fd, &err), 0, "%s", err.text);
	cr_assert_eq(guest_configure(g, "mixer", 1, 32, "", &err), 0, "%s", err.text);
	cr_assert_eq(pread(fd, there, sizeof(there), LAYOUT_RSDP), (ssize_t)sizeof(there));
	cr_assert_eq(memory_read(g->vm->machine->memory, LAYOUT_RSDP, here, sizeof(here)), 0);
	cr_assert_arr_eq(there, here, sizeof(here));
	cr_assert_arr_eq(there, "RSD PTR ", 8);
	close(fd);
	guest_free(g);
}

/* ---- time ---- */

static uint64_t clock_ns(struct guest *g)
{
	struct kvm_clock_data data = { 0 };

	cr_assert_eq(ioctl(g->vm->machine->vm_fd, KVM_GET_CLOCK, &data), 0);
	return data.clock;
}

static uint64_t tsc_ms(struct guest *g)
{
	uint64_t tsc;

	cr_assert_eq(msr_get(vcpu(g, 0), MSR_IA32_TSC, &tsc), 0);
	return tsc / (uint64_t)ioctl(vcpu(g, 0)->fd, KVM_GET_TSC_KHZ, 0);
}

/* A KVM that does not trap RDTSC shows the host's, whatever is set. */
static bool tsc_can_be_set(void)
{
	struct guest *g = made(1, "");
	uint64_t tsc = 0;
	bool can;

	cr_assert_eq(msr_set(vcpu(g, 0), MSR_IA32_TSC, 1ull << 60), 0);
	cr_assert_eq(msr_get(vcpu(g, 0), MSR_IA32_TSC, &tsc), 0);
	can = tsc >> 60 & 1;
	guest_free(g);
	return can;
}

/* In milliseconds. */
struct gap {
	int64_t clock[2],
	        tsc;        /* how far the guest's have gone on; the TSC's is between the clock's */
	int64_t whole, ran; /* by the test's clock: in all, and while it runs; or somewhat more */
};

/*
 * Stopped for a second: how far have both clocks gone on? The guest runs when they are read, and
 * its vCPU is let out of KVM_RUN for the TSC at some time between two readings of the clock.
 * Before, they are read of a guest that stands still, where KVM's clocks go on until the guest
 * does: what has been by then is less than nothing.
 */
static void gap(const char *more, bool through_snapshot, struct gap *gap)
{
	const struct timespec second = { 1, 0 };
	struct guest *g = made(1, more), *h = g;
	int64_t before[2], begun, going;

	guest_run_us(g, 3000);
	begun = now_ms();
	before[0] = (int64_t)(clock_ns(g) / 1000000);
	gap->tsc = (int64_t)tsc_ms(g);
	before[1] = (int64_t)(clock_ns(g) / 1000000);
	if (through_snapshot)
		guest_save(g);
	nanosleep(&second, NULL);
	if (through_snapshot)
		h = guest_restored(g, false);
	going = now_ms();
	cr_assert_eq(gw_vm_cont(h->vm, false, &err), 0, "%s", err.text);
	gap->clock[0] = (int64_t)(clock_ns(h) / 1000000) - before[1];
	gap->tsc = (int64_t)tsc_ms(h) - gap->tsc;
	gap->clock[1] = (int64_t)(clock_ns(h) / 1000000) - before[0];
	gap->ran = now_ms() - going;
	gap->whole = now_ms() - begun;
	if (h != g)
		guest_free(h);
	guest_free(g);
}

Test(platform_x86, time_stands_still_or_catches_up)
{
	bool tsc_too = tsc_can_be_set();

	for (int i = 0; i < 4; i++) {
		struct gap is;

		gap(i & 1 ? "\"clock\":\"realtime\"" : "\"clock\":\"continue\"", i & 2, &is);
		if (i & 1)
			cr_assert(is.clock[0] >= 990 && is.clock[0] < is.whole + 1000,
			          "%lld ms of %lld", (long long)is.clock[0], (long long)is.whole);
		else
			cr_assert(is.clock[0] < is.ran + 700, "%lld ms, it ran for %lld",
			          (long long)is.clock[0], (long long)is.ran);
		cr_assert(!tsc_too || (is.tsc + 50 > is.clock[0] && is.tsc < is.clock[1] + 50),
		          "the TSC is at %lld ms, the clock between %lld and %lld",
		          (long long)is.tsc, (long long)is.clock[0], (long long)is.clock[1]);
	}
}
