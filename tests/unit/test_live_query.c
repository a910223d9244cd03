/* SPDX-License-Identifier: Apache-2.0 */
/* What query-migrate says of RAM, on both sides, from the first pass to the end: as QEMU counts. */
#include <criterion/criterion.h>

#include "base/util.h"
#include "live_pair.h"
#include "migration/stats.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define TOTAL (FAKE_PAGES * PAGE_SIZE)

/* QMP's MigrationStats, whose members are all there always. */
static const char *const members[] = {
	"transferred",
	"remaining",
	"total",
	"duplicate",
	"normal",
	"normal-bytes",
	"dirty-pages-rate",
	"mbps",
	"dirty-sync-count",
	"page-size",
	"multifd-bytes",
	"pages-per-second",
	"precopy-bytes",
	"downtime-bytes",
	"postcopy-bytes",
	"postcopy-requests",
	"dirty-sync-missed-zero-copy",
};

static cJSON *query(struct fake_vm *vm)
{
	char *json;
	cJSON *root;

	cr_assert_eq(migration_query(vm->mig, &json, NULL), 0);
	root = cJSON_Parse(json);
	free(json);
	return root;
}

static double number(const cJSON *root, const char *name)
{
	const cJSON *ram = cJSON_GetObjectItemCaseSensitive(root, "ram");
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(ram, name);

	cr_assert(cJSON_IsNumber(item), "no %s", name);
	return item->valuedouble;
}

static void has_all_members(const cJSON *root)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		number(root, members[i]);
	cr_assert_eq(number(root, "total"), TOTAL);
	cr_assert_eq(number(root, "page-size"), 4096);
	cr_assert_eq(number(root, "normal-bytes"), number(root, "normal") * 4096);
	cr_assert_eq(number(root, "transferred"),
	             number(root, "precopy-bytes") + number(root, "downtime-bytes"));
	cr_assert_eq(number(root, "multifd-bytes") + number(root, "postcopy-bytes"), 0);
}

static double pages(const cJSON *root)
{
	return number(root, "normal") + number(root, "duplicate");
}

static double received(struct fake_vm *vm)
{
	cJSON *root = query(vm);
	const bool known = cJSON_HasObjectItem(root, "ram");
	const double n = known ? pages(root) : 0;

	cJSON_Delete(root);
	return n;
}

static void is_in_first_pass(struct fake_vm *vm)
{
	cJSON *root = query(vm);

	cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(root, "status")), "active");
	has_all_members(root);
	cr_assert_gt(number(root, "normal"), 0);
	cr_assert_gt(number(root, "remaining"), 0);
	cr_assert_eq(number(root, "remaining"), TOTAL - pages(root) * PAGE_SIZE);
	cr_assert_eq(number(root, "dirty-sync-count"), 1);
	cr_assert_eq(number(root, "downtime-bytes"), 0);
	cJSON_Delete(root);
}

static void limit_bandwidth(struct pair *x, uint64_t limit)
{
	const struct gw_migrate_params params = { .max_bandwidth = limit };

	migration_set_params(x->src->mig, &params, NULL);
}

Test(live_query, first_pass_counts_down_on_both_sides)
{
	struct gw_error err;
	struct pair x;
	cJSON *root;

	pair_init(&x, true);
	limit_bandwidth(&x, 10000);
	pair_listen(&x);
	root = query(x.dst);
	cr_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(root, "status")), "setup");
	cr_assert_not(cJSON_HasObjectItem(root, "ram"), "nothing has come yet");
	cJSON_Delete(root);
	cr_assert_eq(migration_start(x.src->mig, pair_uri(&x, x.wire.to), &err), 0, "%s", err.text);
	wait_until(received(x.src) >= 3);
	is_in_first_pass(x.src);
	cr_assert_eq(x.src->passes, 1);
	limit_bandwidth(&x, 50000); /* what waits in a buffer goes out */
	wait_until(received(x.dst) >= 3);
	is_in_first_pass(x.dst);
	limit_bandwidth(&x, UINT64_MAX);
	migration_wait(x.src->mig);
	migration_wait(x.dst->mig);
	cr_assert_str_eq(fake_vm_status(x.src), "completed");
	pair_fini(&x);
}

Test(live_query, at_the_end_nothing_remains_and_both_sides_agree)
{
	static const char *const same[] = { "total", "duplicate", "normal", "normal-bytes",
		                            "dirty-sync-count" };
	struct pair x;
	cJSON *src, *dst;

	pair_init(&x, true);
	pair_run(&x);
	pair_check(&x);
	src = query(x.src);
	dst = query(x.dst);
	has_all_members(src);
	has_all_members(dst);
	cr_assert_eq(number(src, "remaining"), 0);
	cr_assert_eq(number(dst, "remaining"), 0);
	cr_assert_geq(pages(src), FAKE_PAGES + x.src->last_dirty);
	cr_assert_gt(number(src, "duplicate"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		cr_assert_eq(number(src, same[i]), number(dst, same[i]), "%s: %g, %g", same[i],
		             number(src, same[i]), number(dst, same[i]));
	/* The first pass, those that looks while the guest ran began, and the last. */
	cr_assert_geq(number(src, "dirty-sync-count"), 3);
	cr_assert_eq(number(src, "dirty-sync-count"), x.src->passes);
	cr_assert_gt(number(src, "downtime-bytes"), 0);
	cr_assert_gt(number(src, "mbps"), 0);
	cr_assert_gt(number(src, "pages-per-second"), 0);
	/* GO has to come yet when the destination counts for the last time. */
	cr_assert_leq(number(dst, "transferred"), number(src, "transferred"));
	cr_assert_geq(number(dst, "transferred"), number(src, "transferred") - FRAME_HEADER_SIZE);
	cr_assert_gt(number(dst, "downtime-bytes"), 0);
	cr_assert(cJSON_HasObjectItem(src, "downtime"));
	cr_assert_not(cJSON_HasObjectItem(dst, "downtime"));
	cJSON_Delete(src);
	cJSON_Delete(dst);
	pair_fini(&x);
}

/* ---- the counters alone --------------------------------------------------------------------- */

Test(live_query, rates_are_those_of_late_until_the_end)
{
	struct stats s = { .started = 500, .setup_done = 1000 };

	stats_synced(&s, 1000);
	cr_assert_eq(s.remaining, 1000 * PAGE_SIZE);
	stats_moved(&s, 1000000, 100, 0, 1000);
	cr_assert_eq(stats_rates(&s, 2000).pages_per_second, 100, "over all of it at first");
	stats_moved(&s, 1000000, 50, 50, 1050);
	stats_moved(&s, 1000000, 100, 0, 1100);
	cr_assert_eq(stats_rates(&s, 1150).pages_per_second, 2000);
	cr_assert_float_eq(stats_rates(&s, 1150).mbps, 160, 0.001);
	cr_assert_eq(stats_rates(&s, 3100).pages_per_second, 0, "it has come to a stop since");
	cr_assert_eq(s.remaining, 700 * PAGE_SIZE);
	stats_moved(&s, 1, 701, 0, 3100);
	cr_assert_eq(s.remaining, 0, "more than there was has been sent");
	s.ended = 3000;
	cr_assert_eq(stats_rates(&s, 9999).pages_per_second, 500);
}
