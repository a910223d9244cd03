/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that comes to a host which is another one: what is refused, by which name; and time. */
#include "harness.h"

#include "base/bytes.h"
#include "base/util.h"
#include "guest.h"
#include "vmm/arm64/arm64.h"
#include "vmm/arm64/gic.h"
#include "vmm/memory.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct gw_error err;

static struct guest *made(unsigned cpus, const char *more)
{
	return guest_made("mixer", cpus, 32, more);
}

static struct participant *participant_of(struct guest *g, const char *name)
{
	struct participant *p = participant_find(&g->vm->machine->participants, name);

	cr_assert(p, "no participant %s", name);
	return p;
}

/* ---- records that are changed on their way --------------------------------------------------- */

struct forged {
	struct sink sink;
	struct participant *to;
	uint16_t type; /* of the record that is changed */
	uint64_t id;   /* of the register in it that is, or the place of 8 bytes */
	bool is_place;
	uint64_t flip; /* these bits of it; in a register that is not there, its value */
	bool done;
};

/* Registers in a record: an id, and the value. */
static uint8_t *find_register(uint8_t *record, size_t len, uint64_t id)
{
	for (size_t at = 0; at + 8 < len;) {
		uint64_t here;

		memcpy(&here, record + at, 8);
		if (here == id)
			return record + at + 8;
		at += 8 + reg_size(here);
	}
	return NULL;
}

static int forge(struct sink *sink, struct participant *p, uint16_t type, const void *head,
                 size_t head_len, const void *body, size_t body_len, struct gw_error *e)
{
	struct forged *f = container_of(sink, struct forged, sink);
	uint8_t *copy = calloc(1, head_len + 16), *at;
	size_t len = head_len;
	uint64_t word = 0;
	int r;

	cr_assert_eq(body_len, 0, "%p", body);
	memcpy(copy, head, head_len);
	if (type == f->type) {
		at = f->is_place ? copy + f->id : find_register(copy, len, f->id);
		if (!at) {
			memcpy(copy + len, &f->id, 8);
			at = copy + len + 8;
			len += 16;
		}
		memcpy(&word, at, 8);
		word ^= f->flip;
		memcpy(at, &word, MIN(8u, (size_t)(copy + len - at)));
		f->done = true;
	}
	r = f->to->ops->load(f->to, p->ops->version, type, copy, len, e);
	free(copy);
	return r;
}

static const struct sink_ops forger = { .record = forge };

/* The participant's state goes from one machine to the other, with one thing changed. */
static int take(struct guest *from, struct guest *to, const char *name, struct forged *f)
{
	struct participant *p = participant_of(from, name);
	int r;

	f->sink.ops = &forger;
	f->to = participant_of(to, name);
	r = p->ops->save(p, &f->sink, &err);
	if (!r)
		r = f->to->ops->settle(f->to, &err);
	cr_assert(f->done, "%s has no such record", name);
	return r;
}

enum { FEATURES = 1, REGISTERS = 2 }; /* records of a vCPU */

#define SYS(op0, op1, crn, crm, op2) ARM64_SYS_REG(op0, op1, crn, crm, op2)

/* What no host has or no guest may choose. */
Test(platform_arm64, a_guest_of_another_cpu_is_refused_by_the_registers_name)
{
	static const struct {
		uint64_t id, flip;
		const char *says;
	} others[] = {
		{ SYS(3, 0, 0, 0, 0), 0x10, "vcpu0: MIDR_EL1: the guest's is 0x" },
		{ SYS(3, 0, 0, 0, 5), 0x101, "vcpu0: MPIDR_EL1: the guest's is 0x" },
		{ SYS(3, 0, 0, 4, 0), 0xfull << 8, "vcpu0: ID_AA64PFR0_EL1: the guest's is 0x" },
		{ SYS(3, 0, 0, 6, 0), 0xfull << 60, "vcpu0: ID_AA64ISAR0_EL1: the guest's is 0x" },
		{ SYS(3, 0, 0, 6, 1), 0xfull, "vcpu0: ID_AA64ISAR1_EL1: the guest's is 0x" },
		{ SYS(3, 0, 0, 7, 0), 0xf, "vcpu0: ID_AA64MMFR0_EL1: the guest's is 0x" },
		{ KVM_REG_ARM_PSCI_VERSION, 0xff0000,
		  "vcpu0: the PSCI version: the guest's is 0x" },
		{ SYS(3, 0, 1, 2, 0), 3,
		  "vcpu0: the guest's ZCR_EL1 is 0x3, and this host's KVM "
		  "has no such register" },
	};
	struct guest *a = made(1, "\"cpu\":{\"sve\":\"off\"}");
	struct guest *b = made(1, "\"cpu\":{\"sve\":\"off\"}");

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		struct forged f = { .type = REGISTERS, .id = others[i].id, .flip = others[i].flip };

		cr_assert_eq(take(a, b, "vcpu0", &f), -ENOTSUP, "%s", others[i].says);
		cr_assert_eq(strncmp(err.text, others[i].says, strlen(others[i].says)), 0, "%s",
		             err.text);
	}
	guest_free(a);
	guest_free(b);
}

/* Hosts whose longest vectors are alike may differ in the shorter ones. */
Test(platform_arm64, a_guest_with_other_vector_lengths_is_refused)
{
	struct forged f = { .type = REGISTERS, .id = KVM_REG_ARM64_SVE_VLS, .flip = 1 << 2 };
	const char *const says = "vcpu0: SVE vector lengths: the guest's is 0x";
	struct guest *a = made(1, ""), *b = made(1, "");

	if (!(a->vm->machine->arch->init.features[0] >> KVM_ARM_VCPU_SVE & 1))
		cr_skip_test("this KVM has no SVE");
	cr_assert_eq(take(a, b, "vcpu0", &f), -ENOTSUP);
	cr_assert_eq(strncmp(err.text, says, strlen(says)), 0, "%s", err.text);
	f.flip = 0;
	cr_assert_eq(take(a, b, "vcpu0", &f), 0, "%s", err.text);
	guest_free(a);
	guest_free(b);
}

Test(platform_arm64, a_guest_with_other_features_is_refused)
{
	static const struct {
		unsigned bit;
		const char *name;
	} features[] = {
		{ KVM_ARM_VCPU_SVE, "sve" },
		{ KVM_ARM_VCPU_PTRAUTH_ADDRESS, "pauth" },
		{ KVM_ARM_VCPU_PMU_V3, "pmu" },
	};
	struct guest *a = made(1, ""), *b = made(1, "");

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		struct forged f = { .type = FEATURES,
			            .is_place = true,
			            .flip = 1ull << features[i].bit };
		char want[128];

		snprintf(want, sizeof(want),
		         "vcpu0: the guest's CPU and this machine's differ in: %s",
		         features[i].name);
		cr_assert_eq(take(a, b, "vcpu0", &f), -ENOTSUP);
		cr_assert_str_eq(err.text, want);
	}
	guest_free(a);
	guest_free(b);
}

Test(platform_arm64, a_counter_of_another_rate_is_refused)
{
	struct guest *a = made(1, ""), *b = made(1, "");
	struct forged f = { .type = 1, .is_place = true, .id = 8, .flip = 1 << 20 };

	cr_assert_eq(take(a, b, "clock", &f), -ENOTSUP);
	cr_assert(strstr(err.text, "the guest's counter runs at ") &&
	                  strstr(err.text, " Hz, this host's at "),
	          "%s", err.text);
	guest_free(a);
	guest_free(b);
}

Test(platform_arm64, a_guest_of_another_gic_is_refused)
{
	struct guest *a = made(1, ""), *b = made(1, "");
	struct forged f = { .type = 1, .is_place = true, .flip = 1 };

	cr_assert_eq(take(a, b, "gic", &f), -ENOTSUP);
	cr_assert(strstr(err.text, "the guest has a GICv2, and this host's KVM offers a GICv3") ||
	                  strstr(err.text,
	                         "the guest has a GICv3, and this host's KVM offers a GICv2"),
	          "%s", err.text);
	guest_free(a);
	guest_free(b);
}

/* Where KVM lets us choose, a guest that has less than this host could give keeps to that, and has
 * it after a reset too. */
Test(platform_arm64, a_guest_with_less_keeps_it)
{
	const uint64_t isar0 = SYS(3, 0, 0, 6, 0), crc32 = 0xfull << 16;
	struct guest *a = made(1, ""), *b = made(1, "");
	struct vcpu *v = b->vm->machine->vcpus[0];
	struct forged f = { .type = REGISTERS, .id = isar0 };
	uint64_t here, there;

	cr_assert_eq(reg_get(v, isar0, &here), 0);
	if (reg_set(v, isar0, &(uint64_t){ here & ~crc32 }) < 0)
		cr_skip_test("this KVM lets nobody choose");
	cr_assert_eq(reg_set(v, isar0, &here), 0);
	f.flip = here & crc32;
	cr_assert_neq(f.flip, 0, "this CPU has no CRC32");
	cr_assert_eq(take(a, b, "vcpu0", &f), 0, "%s", err.text);
	cr_assert_eq(reg_get(v, isar0, &there), 0);
	cr_assert_eq(there, here & ~crc32);
	cr_assert_eq(gw_vm_reset(b->vm, &err), 0, "%s", err.text);
	cr_assert_eq(reg_get(v, isar0, &there), 0);
	cr_assert_eq(there, here & ~crc32);
	guest_free(a);
	guest_free(b);
}

/* Of a register of the interrupt controller's, its value among all that are read. */
static uint64_t *gic_value(struct gic *gic, struct gic_values *values, bool own, const char *name)
{
	const struct gic_word *words = own ? gic->own : gic->shared;
	const unsigned count = own ? gic->own_count : gic->shared_count;

	cr_assert_eq(gic_words_get(gic->fd, gic_cpu_attr(gic, 0), words, count, values, &err), 0,
	             "%s", err.text);
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(words[i].name, name))
			return &values->value[i];
	cr_assert_fail("no %s", name);
	return NULL;
}

/* One priority bit less, and KVM's behaviour of one revision before: KVM takes both from a guest
 * that comes, and fewer priorities for good. */
Test(platform_arm64, a_guest_of_a_lesser_gic_is_reset_with_what_it_has)
{
	struct guest *a = made(2, ""), *b;
	struct gic *from = a->vm->machine->arch->gic, *to;
	struct gic_values shared, own;
	uint64_t *iidr, *ctlr, revision, priorities;

	if (gic_version(from) != GIC_V3)
		cr_skip_test("the host has no GICv3");
	ctlr = gic_value(from, &own, true, "ICC_CTLR_EL1");
	iidr = gic_value(from, &shared, false, "GICD_IIDR");
	priorities = *ctlr - (1 << 8);
	revision = *iidr - (1 << 12);
	*ctlr = priorities;
	*iidr = revision;
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(gic_words_set(from->fd, gic_cpu_attr(from, i), from->own,
		                           from->own_count, &own, &err),
		             0, "%s", err.text);
	cr_assert_eq(gic_words_set(from->fd, 0, from->shared, from->shared_count, &shared, &err), 0,
	             "%s", err.text);
	guest_save(a);
	b = guest_restored(a, false);
	to = b->vm->machine->arch->gic;
	guest_compare_chips(a->vm->machine, b->vm->machine);
	cr_assert_eq(gw_vm_reset(b->vm, &err), 0, "%s", err.text);
	cr_assert_eq(*gic_value(to, &own, true, "ICC_CTLR_EL1"), priorities);
	cr_assert_eq(*gic_value(to, &shared, false, "GICD_IIDR"), revision);
	guest_free(a);
	guest_free(b);
}

/* ---- what a configuration may ask for -------------------------------------------------------- */

/* Either it is there, or it is refused by its key. */
static void asked_for(const char *key, const char *value, unsigned feature)
{
	struct guest *g = guest_new();
	char more[64];

	snprintf(more, sizeof(more), "\"cpu\":{\"%s\":%s}", key, value);
	if (guest_configure(g, "mixer", 1, 32, more, &err) < 0) {
		char want[64];

		snprintf(want, sizeof(want), "cpu.%s: ", key);
		cr_assert(strstr(err.text, want), "%s", err.text);
	} else {
		cr_assert(g->vm->machine->arch->init.features[0] >> feature & 1, "%s", key);
		guest_run_us(g, 3000);
		guest_save(g);
		guest_free(guest_restored(g, false));
	}
	guest_free(g);
}

Test(platform_arm64, features_that_are_asked_for_are_there_or_refused)
{
	asked_for("sve", "\"128\"", KVM_ARM_VCPU_SVE);
	asked_for("pauth", "\"on\"", KVM_ARM_VCPU_PTRAUTH_ADDRESS);
	asked_for("pmu", "true", KVM_ARM_VCPU_PMU_V3);
}

/* What dumping the device tree says, and where in it a guest finds its initrd; 0: nowhere. */
static int dumped(struct guest *g, uint64_t *initrd)
{
	char tree[65536] = "";
	const char *start;
	int fd = memfd_create("tree", MFD_CLOEXEC), r = gw_vm_dump_device_tree(g->vm, fd, &err);
	ssize_t n = pread(fd, tree, sizeof(tree), 0);

	close(fd);
	*initrd = 0;
	/* A property: 3, its length, its name's place, and its value (Devicetree Specification,
	 * 5.4); this one is the tree's only value of these bytes. */
	for (start = tree; n >= 8 && start <= tree + n - 8; start += 4) {
		uint64_t value;

		memcpy(&value, start, 8);
		if (be64toh(value) == g->vm->machine->arch->initrd)
			*initrd = be64toh(value);
	}
	return r;
}

Test(platform_arm64, a_guest_that_arrived_has_a_device_tree_once_its_initrd_has_a_place)
{
	struct guest *g = guest_new(), *h;
	char json[1024], image[256];
	uint64_t here, there;

	guest_image("mixer", image, sizeof(image));
	snprintf(json, sizeof(json),
	         "{\"name\":\"mixer\",\"memory\":\"32M\",\"boot\":{\"kernel\":\"%s\",\"initrd\":\"%"
	         "s\"},"
	         "\"serial\":{\"log\":\"%s/out\"}}",
	         image, image, g->dir);
	cr_assert_eq(gw_vm_configure(g->vm, json, "mixer", &err), 0, "%s", err.text);
	cr_assert_eq(dumped(g, &here), 0, "%s", err.text);
	cr_assert_neq(here, 0);
	guest_run_us(g, 3000);
	guest_save(g);
	h = guest_restored(g, false);
	cr_assert_eq(dumped(h, &there), -EBUSY);
	cr_assert(strstr(err.text, "initrd"), "%s", err.text);
	cr_assert_eq(gw_vm_reset(h->vm, &err), 0, "%s", err.text);
	cr_assert_eq(dumped(h, &there), 0, "%s", err.text);
	cr_assert_eq(there, here);
	guest_free(g);
	guest_free(h);
}

Test(platform_arm64, memory_is_the_descriptor_given)
{
	struct guest *g = guest_new();
	int fd = memfd_create("given", MFD_CLOEXEC);
	char there[8], here[8];

	cr_assert_eq(gw_vm_give_fd(g->vm, "memory", fd, &err), 0, "%s", err.text);
	cr_assert_eq(guest_configure(g, "mixer", 1, 32, "", &err), 0, "%s", err.text);
	cr_assert_eq(pread(fd, there, 8, GUEST_CODE - GUEST_RAM + 56), 8);
	cr_assert_eq(memory_read(g->vm->machine->memory, GUEST_CODE + 56, here, 8), 0);
	cr_assert_arr_eq(there, here, 8);
	cr_assert_arr_eq(there, "ARM\x64", 4);
	close(fd);
	guest_free(g);
}

/* DDI 0487, ESR_EL1: class 0x25 is a data abort of the same level, code 0x10 one from outside. */
Test(platform_arm64, an_access_that_cannot_be_emulated_is_an_abort)
{
	struct guest *g = guest_boot("odd", 1, 32);
	const char *said;
	unsigned long long syndrome;

	cr_assert_eq(gw_vm_cont(g->vm, false, &err), 0, "%s", err.text);
	guest_await_end(g);
	said = guest_output(g);
	cr_assert_eq(sscanf(said, "S\n%llx\n", &syndrome), 1, "%s", said);
	cr_assert_eq(syndrome >> 26, 0x25, "%s", said);
	cr_assert_eq(syndrome & 0x3f, 0x10, "%s", said);
	guest_free(g);
}

/* ---- time ------------------------------------------------------------------------------------ */

struct seen_clock {
	struct sink sink;
	uint64_t count, frequency;
};

static int see(struct sink *sink, struct participant *p, uint16_t type, const void *head,
               size_t head_len, const void *body, size_t body_len, struct gw_error *e)
{
	struct seen_clock *s = container_of(sink, struct seen_clock, sink);
	struct bytes_reader in = { .data = head, .len = head_len };

	(void)p;
	(void)type;
	(void)body;
	(void)body_len;
	(void)e;
	s->count = bytes_take64(&in);
	s->frequency = bytes_take64(&in);
	return 0;
}

/* Of a guest that stands still. */
static uint64_t guest_ms(struct guest *g)
{
	static const struct sink_ops ops = { .record = see };
	struct participant *p = participant_of(g, "clock");
	struct seen_clock s = { .sink.ops = &ops };

	cr_assert_eq(p->ops->save(p, &s.sink, &err), 0, "%s", err.text);
	return s.count / (s.frequency / 1000);
}

/* Stopped for a second: how far has the guest's counter gone on, in milliseconds? And by the test's
 * clock: in all, and while it ran; or somewhat more. */
static uint64_t gap(const char *more, bool through_snapshot, int64_t *whole, int64_t *ran)
{
	const struct timespec second = { 1, 0 };
	struct guest *g = made(1, more), *h = g;
	uint64_t before, after;
	int64_t begun, going;

	guest_run_us(g, 3000);
	begun = now_ms();
	before = guest_ms(g);
	if (through_snapshot)
		guest_save(g);
	nanosleep(&second, NULL);
	if (through_snapshot)
		h = guest_restored(g, false);
	going = now_ms();
	guest_run_us(h, 1000);
	*ran = now_ms() - going;
	*whole = now_ms() - begun;
	after = guest_ms(h);
	if (h != g)
		guest_free(h);
	guest_free(g);
	return after - before;
}

Test(platform_arm64, time_stands_still_or_catches_up)
{
	for (int i = 0; i < 4; i++) {
		const bool realtime = i & 1;
		int64_t whole, ran;
		const int64_t ms =
		        (int64_t)gap(realtime ? "\"clock\":\"realtime\"" : "\"clock\":\"continue\"",
		                     i & 2, &whole, &ran);

		if (realtime)
			cr_assert(ms >= 990 && ms < whole + 1000, "%lld ms of %lld", (long long)ms,
			          (long long)whole);
		else
			cr_assert(ms < ran + 700, "%lld ms, it ran for %lld", (long long)ms,
			          (long long)ran);
	}
}
