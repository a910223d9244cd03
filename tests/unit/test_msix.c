/* SPDX-License-Identifier: Apache-2.0 */
/* MSI and MSI-X against an owner that writes down what it is told. */
#include <criterion/criterion.h>

#include "base/error.h"
#include "base/util.h"
#include "vmm/msi.h"
#include "vmm/msix.h"
#include "vmm/pci.h"

#include <stdio.h>
#include <string.h>

struct owner {
	char story[1024]; /* "use0 commit fire0 ..." */
	struct msi_message last;
	uint64_t raised; /* bits of vectors that were raised while masked */
};

static void tell(struct owner *o, const char *what, int vector)
{
	size_t at = strlen(o->story);

	if (vector < 0)
		snprintf(o->story + at, sizeof(o->story) - at, "%s ", what);
	else
		snprintf(o->story + at, sizeof(o->story) - at, "%s%d ", what, vector);
}

static void on_use(void *opaque, unsigned vector, const struct msi_message *msg)
{
	struct owner *o = opaque;

	o->last = *msg;
	tell(o, "use", (int)vector);
}

static void on_mask(void *opaque, unsigned vector)
{
	tell(opaque, "mask", (int)vector);
}

static void on_release(void *opaque, unsigned vector)
{
	tell(opaque, "release", (int)vector);
}

static bool on_raised(void *opaque, unsigned vector)
{
	struct owner *o = opaque;
	bool raised = vector < 64 && (o->raised >> vector & 1);

	if (raised)
		o->raised &= ~(1ull << vector);
	return raised;
}

static void on_fire(void *opaque, unsigned vector, const struct msi_message *msg)
{
	struct owner *o = opaque;

	o->last = *msg;
	tell(o, "fire", (int)vector);
}

static void on_commit(void *opaque)
{
	tell(opaque, "commit", -1);
}

static const struct msi_vector_ops ops = {
	.use = on_use,
	.mask = on_mask,
	.release = on_release,
	.raised = on_raised,
	.fire = on_fire,
	.commit = on_commit,
};

#define expect_story(o, text)                                                                      \
	do {                                                                                       \
		cr_assert_str_eq((o)->story, text);                                                \
		(o)->story[0] = '\0';                                                              \
	} while (0)

static struct msix *new_msix(struct owner *o, unsigned vectors)
{
	struct msix *x;

	*o = (struct owner){ 0 };
	cr_assert_eq(msix_create(vectors, &ops, o, &x, NULL), 0);
	return x;
}

static void control(struct msix *x, bool enable, bool function_mask)
{
	uint8_t cap[MSIX_CAP_SIZE] = { 0 };

	pci_set(cap, 2, 2, (enable ? 0x8000 : 0) | (function_mask ? 0x4000 : 0));
	msix_update(x, cap);
}

static void program(struct msix *x, unsigned vector, uint64_t address, uint32_t data)
{
	msix_table_write(x, vector * 16, 8, address);
	msix_table_write(x, vector * 16 + 8, 4, data);
}

static void set_mask(struct msix *x, unsigned vector, bool masked)
{
	msix_table_write(x, vector * 16 + 12, 4, masked);
}

Test(msix, parse)
{
	uint8_t cap[MSIX_CAP_SIZE] = { 0x11, 0 };
	struct msix_layout l;
	struct gw_error err = { 0 };

	/* The 82574L's: 5 vectors, table at BAR 3 + 0, pending bits at BAR 3 + 0x2000. */
	pci_set(cap, 2, 2, 4);
	pci_set(cap, 4, 4, 0x3);
	pci_set(cap, 8, 4, 0x2003);
	cr_assert_eq(msix_parse(cap, &l, &err), 0);
	cr_assert_eq(l.vectors, 5);
	cr_assert_eq(l.table_bar, 3);
	cr_assert_eq(l.table_size, 80);
	cr_assert_eq(l.pba_offset, 0x2000);
	cr_assert_eq(l.pba_size, 8);
	pci_set(cap, 8, 4, 0x48 | 3);
	cr_assert_eq(msix_parse(cap, &l, &err), -EINVAL, "inside the table");
	pci_set(cap, 8, 4, 0x50 | 3);
	cr_assert_eq(msix_parse(cap, &l, &err), 0, "just behind it");
	pci_set(cap, 8, 4, 6);
	cr_assert_eq(msix_parse(cap, &l, &err), -EINVAL, "BAR 6");
}

Test(msix, nothing_happens_before_unmask_and_enable)
{
	struct owner o;
	struct msix *x = new_msix(&o, 3);

	cr_assert_eq(msix_table_read(x, 12, 4), 1, "masked at first");
	program(x, 0, 0xfee00000, 0x41);
	set_mask(x, 0, false);
	expect_story(&o, "");
	set_mask(x, 0, true);
	control(x, true, false);
	cr_assert(msix_enabled(x));
	expect_story(&o, "");
	set_mask(x, 0, false);
	expect_story(&o, "use0 commit ");
	cr_assert_eq(o.last.address, 0xfee00000);
	cr_assert_eq(o.last.data, 0x41);
	msix_destroy(x);
	expect_story(&o, "release0 commit ");
}

Test(msix, function_mask_and_enable_move_all_at_once)
{
	struct owner o;
	struct msix *x = new_msix(&o, 4);

	for (unsigned i = 0; i < 3; i++) {
		program(x, i, 0xfee00000, 0x40 + i);
		set_mask(x, i, false);
	}
	control(x, true, true);
	expect_story(&o, "");
	control(x, true, false);
	expect_story(&o, "use0 use1 use2 commit ");
	control(x, true, true);
	expect_story(&o, "mask0 mask1 mask2 commit ");
	control(x, false, true);
	expect_story(&o, "release0 release1 release2 commit ");
	msix_destroy(x);
	expect_story(&o, "");
}

Test(msix, messages_may_change_on_the_fly)
{
	struct owner o;
	struct msix *x = new_msix(&o, 1);

	program(x, 0, 0xfee00000, 0x41);
	control(x, true, false);
	set_mask(x, 0, false);
	expect_story(&o, "use0 commit ");
	msix_table_write(x, 8, 4, 0x41);
	expect_story(&o, "");
	msix_table_write(x, 0, 4, 0xfee01003);
	expect_story(&o, "use0 commit ");
	cr_assert_eq(o.last.address, 0xfee01000, "the two lowest bits are none");
	msix_table_write(x, 8, 8, 0x1000000fful); /* data and mask at once */
	expect_story(&o, "mask0 commit ");
	set_mask(x, 0, false);
	expect_story(&o, "use0 commit ");
	cr_assert_eq(o.last.data, 0xff);
	msix_destroy(x);
}

Test(msix, pending_while_masked_fires_on_unmask)
{
	struct owner o;
	struct msix *x = new_msix(&o, 40);

	control(x, true, false);
	program(x, 33, 0xfee00000, 0x61);
	set_mask(x, 33, false);
	set_mask(x, 33, true);
	o.story[0] = '\0';
	cr_assert_eq(msix_pba_read(x, 0, 8), 0);
	o.raised = 1ull << 33;
	cr_assert_eq(msix_pba_read(x, 4, 4), 2);
	cr_assert_eq(msix_pba_read(x, 0, 8), 1ull << 33, "stays until it is delivered");
	set_mask(x, 33, false);
	expect_story(&o, "use33 commit fire33 ");
	cr_assert_eq(msix_pba_read(x, 0, 8), 0);
	/* Not looked at by the guest in between. */
	set_mask(x, 33, true);
	o.story[0] = '\0';
	o.raised = 1ull << 33;
	set_mask(x, 33, false);
	expect_story(&o, "use33 commit fire33 ");
	msix_destroy(x);
}

Test(msix, an_emulated_function_sends_none_before_it_is_a_bus_master)
{
	struct pci_function f = { 0 };
	struct owner o;
	struct msix *x = new_msix(&o, 1);

	pci_set(f.config + 0x40, 2, 2, 0x8000);
	set_mask(x, 0, false);
	msix_update_of(x, &f, 0x40);
	msix_raise(x, 0);
	expect_story(&o, "");
	cr_assert_eq(msix_pba_read(x, 0, 4), 1);
	pci_set(f.config, 4, 2, 4);
	msix_update_of(x, &f, 0x40);
	expect_story(&o, "use0 commit fire0 ");
	pci_set(f.config, 4, 2, 0);
	msix_update_of(x, &f, 0x40);
	expect_story(&o, "mask0 commit ");
	msix_destroy(x);
}

Test(msix, raise)
{
	struct owner o;
	struct msix *x = new_msix(&o, 2);

	msix_raise(x, 0);
	cr_assert_eq(msix_pba_read(x, 0, 4), 0, "disabled: dropped");
	control(x, true, false);
	msix_raise(x, 1);
	msix_raise(x, 2);
	cr_assert_eq(msix_pba_read(x, 0, 4), 2);
	set_mask(x, 1, false);
	expect_story(&o, "use1 commit fire1 ");
	msix_raise(x, 1);
	expect_story(&o, "fire1 ");
	set_mask(x, 1, true);
	msix_raise(x, 1);
	control(x, false, false);
	control(x, true, false);
	cr_assert_eq(msix_pba_read(x, 0, 4), 0, "disabling forgets");
	msix_destroy(x);
}

Test(msix, odd_accesses_and_ends)
{
	struct owner o;
	struct msix *x = new_msix(&o, 2);

	program(x, 1, 0xfee00000, 0x1234);
	msix_table_write(x, 24, 1, 0xff);
	msix_table_write(x, 24, 2, 0xffff);
	msix_table_write(x, 26, 4, 0xffffffff);
	msix_table_write(x, 20, 8, UINT64_MAX);
	cr_assert_eq(msix_table_read(x, 24, 4), 0x1234);
	cr_assert_eq(msix_table_read(x, 16, 8), 0xfee00000);
	cr_assert_eq(msix_table_read(x, 24, 2), UINT64_MAX);
	msix_table_write(x, 32, 8, UINT64_MAX);
	msix_table_write(x, 1ull << 40, 4, UINT64_MAX);
	cr_assert_eq(msix_table_read(x, 32, 4), 0);
	cr_assert_eq(msix_pba_read(x, 8, 8), 0);
	cr_assert_eq(msix_pba_read(x, 1ull << 40, 8), 0);
	msix_table_write(x, 28, 4, 0xfffffffe);
	cr_assert_eq(msix_table_read(x, 28, 4), 0, "only the mask bit is there");
	msix_destroy(x);
}

Test(msix, state)
{
	struct owner o, o2;
	struct msix *x = new_msix(&o, 65), *y = new_msix(&o2, 65);
	size_t size = msix_state_size(x);
	uint8_t *state = malloc(size);
	struct gw_error err = { 0 };

	cr_assert_eq(size, 65 * 16 + 12);
	control(x, true, false);
	program(x, 64, 0xfee02000, 0x77);
	set_mask(x, 64, false);
	program(x, 7, 0xfee03000, 0x78);
	set_mask(x, 7, false);
	set_mask(x, 7, true);
	o.raised = 1u << 7;
	msix_save(x, state);
	cr_assert_eq(msix_load(y, state, size - 1, &err), -EINVAL);
	cr_assert_eq(msix_load(y, state, size, &err), 0);
	expect_story(&o2, "");
	control(y, true, false);
	expect_story(&o2, "use64 commit ");
	cr_assert_eq(o2.last.data, 0x77);
	cr_assert_eq(msix_pba_read(y, 0, 8), 1u << 7);
	set_mask(y, 7, false);
	expect_story(&o2, "use7 commit fire7 ");
	/* What is there is given up before. */
	cr_assert_eq(msix_load(y, state, size, &err), 0);
	expect_story(&o2, "release7 release64 commit ");
	msix_reset(y);
	cr_assert_eq(msix_pba_read(y, 0, 8), 0);
	cr_assert_eq(msix_table_read(y, 64 * 16 + 12, 4), 1);
	free(state);
	msix_destroy(x);
	msix_destroy(y);
}

/* ---- MSI ---- */

struct msi_fixture {
	struct owner o;
	struct msi *msi;
	struct msi_layout l;
	uint8_t cap[MSI_CAP_SIZE_MAX];
};

static void new_msi(struct msi_fixture *f, uint32_t control)
{
	struct gw_error err = { 0 };

	memset(f, 0, sizeof(*f));
	pci_set(f->cap, 2, 2, control);
	cr_assert_eq(msi_parse(f->cap, &f->l, &err), 0, "%s", err.text);
	cr_assert_eq(msi_create(&f->l, &ops, &f->o, &f->msi, &err), 0, "%s", err.text);
}

Test(msi, parse)
{
	static const struct {
		uint32_t control;
		unsigned vectors, data, mask, pending, size;
	} cases[] = {
		{ 0x0000, 1, 8, 0, 0, 10 },
		{ 0x0080, 1, 12, 0, 0, 14 },
		{ 0x0106, 8, 8, 12, 16, 20 },
		{ 0x018a, 32, 12, 16, 20, 24 },
	};
	uint8_t cap[MSI_CAP_SIZE_MAX] = { 0 }, wmask[MSI_CAP_SIZE_MAX];
	struct msi_layout l;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pci_set(cap, 2, 2, cases[i].control);
		cr_assert_eq(msi_parse(cap, &l, NULL), 0);
		cr_assert_eq(l.vectors, cases[i].vectors);
		cr_assert_eq(l.data_offset, cases[i].data);
		cr_assert_eq(l.mask_offset, cases[i].mask);
		cr_assert_eq(l.pending_offset, cases[i].pending);
		cr_assert_eq(l.size, cases[i].size);
	}
	memset(wmask, 0, sizeof(wmask));
	msi_wmask(&l, wmask);
	cr_assert_eq(pci_get(wmask, 2, 2), 0x71);
	cr_assert_eq(pci_get(wmask, 4, 4), 0xfffffffc);
	cr_assert_eq(pci_get(wmask, 16, 4), 0xffffffff);
	cr_assert_eq(pci_get(wmask, 20, 4), 0);
	pci_set(cap, 2, 2, 0x000c);
	cr_assert_eq(msi_parse(cap, &l, NULL), -EINVAL);
}

Test(msi, several_vectors_share_the_message)
{
	struct msi_fixture f;

	new_msi(&f, 0x0084); /* four vectors, 64 bit */
	pci_set(f.cap, 4, 4, 0xfee00000);
	pci_set(f.cap, 8, 4, 0x1);
	pci_set(f.cap, 12, 2, 0x4143);
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "");
	pci_set(f.cap, 2, 2, 0x0084 | 1 << 4 | 1); /* two granted */
	msi_update(f.msi, f.cap);
	cr_assert(msi_enabled(f.msi));
	expect_story(&f.o, "use0 use1 commit ");
	cr_assert_eq(f.o.last.address, 0x1fee00000);
	cr_assert_eq(f.o.last.data, 0x4143, "(0x4143 & ~1) | 1");
	msi_raise(f.msi, 2);
	expect_story(&f.o, "");
	msi_raise(f.msi, 0);
	expect_story(&f.o, "fire0 ");
	cr_assert_eq(f.o.last.data, 0x4142);
	pci_set(f.cap, 2, 2, 0x0084 | 7 << 4 | 1); /* more than there are */
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "use0 use1 use2 use3 commit ");
	cr_assert_eq(f.o.last.data, 0x4143);
	pci_set(f.cap, 2, 2, 0x0084);
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "release0 release1 release2 release3 commit ");
	msi_destroy(f.msi);
}

Test(msi, masking)
{
	struct msi_fixture f;
	uint8_t state[MSI_STATE_SIZE];

	new_msi(&f, 0x018a | 5 << 4 | 1); /* 32 vectors, all granted, on */
	pci_set(f.cap, 16, 4, 0x7fffffff);
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "use31 commit ");
	pci_set(f.cap, 16, 4, 0xffffffff);
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "mask31 commit ");
	f.o.raised = 1u << 31;
	msi_raise(f.msi, 3);
	cr_assert_eq(msi_pending(f.msi), 0x80000008);
	msi_save(f.msi, state);
	msi_reset(f.msi);
	expect_story(&f.o, "release31 commit ");
	cr_assert_eq(msi_pending(f.msi), 0);
	msi_load(f.msi, state);
	pci_set(f.cap, 16, 4, 0x7fffffff);
	msi_update(f.msi, f.cap);
	expect_story(&f.o, "use31 commit fire31 ");
	cr_assert_eq(msi_pending(f.msi), 8);
	msi_destroy(f.msi);
}
