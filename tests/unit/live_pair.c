/* SPDX-License-Identifier: Apache-2.0 */
#include "live_pair.h"

#include <criterion/criterion.h>

#include "base/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void pair_init(struct pair *x, bool runs)
{
	memset(x, 0, sizeof(*x));
	/* Shared, for the tests that fork. */
	x->tally = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(x->dir, "/tmp/godwit-live-XXXXXX");
	cr_assert(mkdtemp(x->dir));
	snprintf(x->wire.from, sizeof(x->wire.from), "%s/from", x->dir);
	snprintf(x->wire.to, sizeof(x->wire.to), "%s/to", x->dir);
	x->src = fake_vm_new(x->tally, false, runs);
	x->dst = fake_vm_new(x->tally, true, false);
	strcpy(x->label, "plain");
}

void pair_fini(struct pair *x)
{
	fake_vm_free(x->src);
	fake_vm_free(x->dst);
	unlink(x->wire.to);
	rmdir(x->dir);
	munmap(x->tally, 4096);
}

const char *pair_uri(struct pair *x, const char *path)
{
	snprintf(x->uri, sizeof(x->uri), "unix:%s", path);
	return x->uri;
}

void pair_listen(struct pair *x)
{
	struct gw_error err;

	cr_assert_eq(migration_listen(x->dst->mig, pair_uri(x, x->wire.to), &err), 0, "%s",
	             err.text);
}

void pair_run(struct pair *x)
{
	struct gw_error err;

	pair_listen(x);
	wire_start(&x->wire);
	cr_assert_eq(migration_start(x->src->mig, pair_uri(x, x->wire.from), &err), 0, "%s",
	             err.text);
	migration_wait(x->src->mig);
	wire_stop(&x->wire);
	if (!x->wire.connected)
		migration_cancel(x->dst->mig, NULL);
	migration_wait(x->dst->mig);
	snprintf(x->src_error, sizeof(x->src_error), "%s", fake_vm_error(x->src));
	snprintf(x->dst_error, sizeof(x->dst_error), "%s", fake_vm_error(x->dst));
}

/* The source after a failure before GO: as if nothing had been. */
void pair_source_goes_on(struct pair *x, bool ran)
{
	cr_assert_eq(x->src->runs, ran, "%s: the source does not go on", x->label);
	cr_assert_not(x->src->tracking, "%s", x->label);
	cr_assert(fake_vm_all(x->src, AT_REST), "%s: not all were taken back: %s", x->label,
	          x->src->trace);
	cr_assert(x->src_error[0], "%s: no word of why", x->label);
}

void pair_destination_is_gone(struct pair *x)
{
	cr_assert_not(x->dst->started, "%s: the destination ran", x->label);
	if (!x->dst->complete)
		return;
	cr_assert(x->dst->abandoned, "%s", x->label);
	cr_assert(fake_vm_all(x->dst, DISCARDED) || fake_vm_all(x->dst, AT_REST), "%s: %s",
	          x->label, x->dst->trace);
}

/* What must hold, whatever happened. */
void pair_check(struct pair *x)
{
	cr_assert_leq(x->tally->most, 1, "%s: both sides ran", x->label);
	if (!x->src->handed_over) {
		pair_source_goes_on(x, true);
		pair_destination_is_gone(x);
		cr_assert_eq(x->wire.passed[TO_DESTINATION][FRAME_GO], 0, "%s", x->label);
		return;
	}
	cr_assert_not(x->src->runs, "%s: resumed after GO", x->label);
	cr_assert(fake_vm_all(x->src, FINISHED), "%s", x->label);
	cr_assert_eq(x->dst->started, x->wire.passed[TO_DESTINATION][FRAME_GO] == 1, "%s",
	             x->label);
	if (!x->dst->started) {
		pair_destination_is_gone(x);
	} else {
		cr_assert(fake_vm_same(x->src, x->dst), "%s: not the same guest", x->label);
		cr_assert(fake_vm_all(x->dst, RUNS), "%s", x->label);
		cr_assert_str_eq(fake_vm_status(x->dst), "completed", "%s", x->label);
	}
	if (x->wire.passed[TO_SOURCE][FRAME_RUNNING]) {
		cr_assert_str_eq(fake_vm_status(x->src), "completed", "%s", x->label);
	} else {
		cr_assert_str_eq(fake_vm_status(x->src), "failed", "%s", x->label);
		cr_assert(strstr(x->src_error, "handed over"), "%s: %s", x->label, x->src_error);
	}
}
