/* SPDX-License-Identifier: Apache-2.0 */
/* The generation id: kept by a live migration, renewed by a restore, which the guest is told. */
#include "pins.h"

#include "vmm/memory.h"
#include "vmm/pm.h"
#include "vmm/vmgenid.h"
#include "vmm/x86/layout.h"
#include "vmm/x86/pm_ports.h"

struct bench {
	struct platform *p;
	struct vmgenid *g;
};

static struct bench bench_new(void)
{
	struct bench b = { .p = platform_new_kvm() };
	struct machine *m = &b.p->m;
	struct gw_error err = { 0 };

	cr_assert_eq(memory_create(m, 2 * MIB, &m->memory, &err), 0, "%s", err.text);
	cr_assert_eq(pm_create(m, &m->pm, &err), 0, "%s", err.text);
	cr_assert_eq(vmgenid_create(m, &b.g, &err), 0, "%s", err.text);
	return b;
}

static void bench_free(struct bench *b)
{
	vmgenid_destroy(b->g);
	pm_destroy(b->p->m.pm);
	memory_destroy(b->p->m.memory);
	platform_free(b->p);
}

static void read_id(struct bench *b, uint8_t id[VMGENID_SIZE])
{
	cr_assert_eq(memory_read(b->p->m.memory, LAYOUT_VMGENID, id, VMGENID_SIZE), 0);
}

static struct participant *part(struct bench *b)
{
	return participant_find(&b->p->m.participants, "vmgenid");
}

static uint32_t events(struct bench *b)
{
	return (uint32_t)bus_read(&b->p->m.pio, PM_PORT + PM_EVENTS, 4);
}

Test(vmgenid, each_machine_has_its_own)
{
	struct bench a = bench_new(), b = bench_new();
	uint8_t ia[VMGENID_SIZE], ib[VMGENID_SIZE], zero[VMGENID_SIZE] = { 0 };

	vmgenid_write(a.g);
	vmgenid_write(b.g);
	read_id(&a, ia);
	read_id(&b, ib);
	cr_assert(memcmp(ia, ib, sizeof(ia)) && memcmp(ia, zero, sizeof(ia)));
	cr_assert_eq(events(&a), 0);
	bench_free(&a);
	bench_free(&b);
}

/* The id that came is in memory already, as a part of RAM; `restored` makes all the difference. */
static void arrive(bool restored)
{
	struct bench src = bench_new(), dst = bench_new();
	uint8_t before[VMGENID_SIZE], after[VMGENID_SIZE];
	struct gw_error err = { 0 };
	struct kept k;

	vmgenid_write(src.g);
	read_id(&src, before);
	kept_save(&k, part(&src));
	cr_assert_eq(memory_write(dst.p->m.memory, LAYOUT_VMGENID, before, sizeof(before)), 0);
	dst.p->m.restored = restored;
	cr_assert_eq(kept_load(&k, part(&dst), &err), 0, "%s", err.text);
	cr_assert_eq(part(&dst)->ops->settle(part(&dst), &err), 0, "%s", err.text);
	read_id(&dst, after);
	cr_assert_eq(!memcmp(before, after, sizeof(before)), !restored);
	cr_assert_eq(part(&dst)->ops->resume(part(&dst), 0, &err), 0);
	cr_assert_eq(platform_pin(dst.p, PM_GSI), 0, "vCPUs may not have their state yet");
	cr_assert_eq(part(&dst)->ops->resume(part(&dst), 1, &err), 0);
	cr_assert_eq(platform_pin(dst.p, PM_GSI), restored);
	cr_assert_eq(events(&dst), restored ? PM_EVENT_GENERATION : 0);
	/* A reset writes the id that counts now. */
	memory_write(dst.p->m.memory, LAYOUT_VMGENID, "overwritten by x", VMGENID_SIZE);
	vmgenid_write(dst.g);
	read_id(&dst, before);
	cr_assert_arr_eq(before, after, sizeof(before));
	bench_free(&src);
	bench_free(&dst);
}

Test(vmgenid, a_restore_renews_it_and_tells)
{
	arrive(true);
}

Test(vmgenid, a_migration_keeps_it)
{
	arrive(false);
}

Test(vmgenid, refuses_what_is_no_id)
{
	struct bench b = bench_new();
	const struct participant_ops *ops = part(&b)->ops;
	struct gw_error err = { 0 };
	uint8_t id[VMGENID_SIZE + 1] = { 0 };

	cr_assert_eq(ops->load(part(&b), 1, 1, id, VMGENID_SIZE + 1, &err), -EINVAL);
	cr_assert_eq(ops->load(part(&b), 1, 2, id, VMGENID_SIZE, &err), -EINVAL);
	cr_assert_eq(ops->settle(part(&b), &err), -EINVAL, "it did not come");
	bench_free(&b);
}
