/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each allocation of a save, a load, an inspection and a live migration fails
 * in turn: what is refused is refused with words, leaves nothing behind, and
 * costs the guest nothing.
 */
#include <criterion/criterion.h>

#include "base/util.h"
#include "config_drivers.h"
#include "fake_vm.h"
#include "faults.h"
#include "migration/inspect.h"
#include "vmm/config.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct run {
	struct tally tally;
	char parent[64], dir[96], uri[112];
	struct fake_vm *src, *dst;
	struct gw_error err;
	int result;
};

/* cJSON's nodes and texts are watched like everything else. */
static void watch_json(bool on)
{
	cJSON_Hooks hooks = { malloc, free };

	cJSON_InitHooks(on ? &hooks : NULL);
}

static void run_init(struct run *x)
{
	memset(x, 0, sizeof(*x));
	/* Not on a disk: it is saved hundreds of times. */
	snprintf(x->parent, sizeof(x->parent), "%s/godwit-memory-XXXXXX",
	         access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	cr_assert(mkdtemp(x->parent));
	snprintf(x->dir, sizeof(x->dir), "%s/snap", x->parent);
	snprintf(x->uri, sizeof(x->uri), "unix:%s/socket", x->parent);
	x->src = fake_vm_new(&x->tally, false, true);
	x->dst = fake_vm_new(&x->tally, true, false);
}

static unsigned remove_all(const char *path)
{
	static const char *const names[] = { "manifest.json", "state", "memory", "memory.sums" };
	unsigned count = 0;
	char name[512];
	DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(name, sizeof(name), "%s/%s/%s", path, e->d_name, names[i]);
			unlink(name);
		}
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (rmdir(name))
			unlink(name);
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

static void run_fini(struct run *x)
{
	fake_vm_free(x->src);
	if (x->dst)
		fake_vm_free(x->dst);
	remove_all(x->parent);
	rmdir(x->parent);
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void save(struct run *x)
{
	x->result = migration_save(x->src->mig, x->dir, false, &x->err);
}

static void load(struct run *x)
{
	x->result = migration_load(x->dst->mig, x->dir, true, &x->err);
}

static void inspect(struct run *x)
{
	char *json = NULL;

	x->result = inspect_path(x->dir, &json, &x->err);
	free(json);
}

static void live(struct run *x)
{
	x->result = migration_listen(x->dst->mig, x->uri, &x->err);
	if (x->result < 0)
		return;
	x->result = migration_start(x->src->mig, x->uri, &x->err);
	if (!x->result)
		migration_wait(x->src->mig);
	migration_cancel(x->dst->mig, NULL);
	migration_wait(x->dst->mig);
}

static void check_saved(struct run *x, unsigned nth)
{
	const bool there = access(x->dir, F_OK) == 0;

	cr_assert(x->src->runs, "allocation %u: the guest does not go on", nth);
	cr_assert(fake_vm_all(x->src, AT_REST), "allocation %u: %s", nth, x->src->trace);
	cr_assert_eq(there, x->result == 0, "allocation %u: %s", nth, x->err.text);
	if (there) {
		inspect(x);
		cr_assert_eq(x->result, 0, "allocation %u: %s", nth, x->err.text);
	}
	cr_assert_eq(remove_all(x->parent), there, "allocation %u: something is left", nth);
}

static void check_loaded(struct run *x, unsigned nth)
{
	cr_assert_eq(x->dst->started, x->result == 0, "allocation %u", nth);
	cr_assert(!x->result || !x->dst->complete || x->dst->abandoned, "allocation %u: %s", nth,
	          x->dst->trace);
}

static void check_moved(struct run *x, unsigned nth)
{
	cr_assert_leq(x->tally.most, 1, "allocation %u: both ran", nth);
	cr_assert_eq(x->src->runs + x->dst->runs, 1, "allocation %u: %s, %s", nth,
	             fake_vm_error(x->src), fake_vm_error(x->dst));
}

/* Does it with the nth allocation failing; false: there were not so many. */
static bool attempt(struct run *x, unsigned nth, void (*act)(struct run *x))
{
	bool hit;

	watch_json(true);
	faults_arm(FAULT_ALLOC, nth);
	act(x);
	hit = faults_disarm();
	watch_json(false);
	cr_assert(x->result >= 0 || x->err.text[0], "allocation %u: not a word", nth);
	return hit;
}

static void check_nothing_left(unsigned nth, unsigned files)
{
	cr_assert_eq(faults_left(), 0, "allocation %u: %zu allocations are left", nth,
	             faults_left());
	cr_assert_eq(open_files(), files, "allocation %u: a descriptor is left", nth);
}

/* With new machines. */
static bool once(unsigned nth, void (*act)(struct run *x),
                 void (*check)(struct run *x, unsigned nth))
{
	const unsigned files = open_files();
	struct run x;
	bool hit;

	run_init(&x);
	hit = attempt(&x, nth, act);
	check(&x, nth);
	run_fini(&x);
	check_nothing_left(nth, files);
	return hit;
}

static void check_count(unsigned nth)
{
	cr_assert_gt(nth, 10, "only %u allocations", nth);
}

Test(out_of_memory, saving)
{
	unsigned nth = 1;

	while (once(nth, save, check_saved))
		nth++;
	check_count(nth);
}

Test(out_of_memory, loading)
{
	unsigned nth = 0, files;
	struct run x;
	bool hit;

	run_init(&x);
	save(&x);
	fake_vm_free(x.dst);
	files = open_files();
	do {
		x.dst = fake_vm_new(&x.tally, true, false);
		hit = attempt(&x, ++nth, load);
		check_loaded(&x, nth);
		fake_vm_free(x.dst);
		check_nothing_left(nth, files);
	} while (hit);
	check_count(nth);
	x.dst = NULL;
	run_fini(&x);
}

Test(out_of_memory, inspecting)
{
	unsigned nth = 1, files;
	struct run x;

	run_init(&x);
	save(&x);
	files = open_files();
	for (; attempt(&x, nth, inspect); nth++)
		check_nothing_left(nth, files);
	check_count(nth);
	run_fini(&x);
}

Test(out_of_memory, live_migration)
{
	unsigned nth = 1;

	while (once(nth, live, check_moved))
		nth++;
	check_count(nth);
}

/* A save prints it, and where it arrives it is read. */
static bool config_once(unsigned nth, char **whole)
{
	static const char json[] =
	        "{\"cpus\":2,\"memory\":\"64M\",\"name\":\"x\",\"boot\":{\"kernel\":\"/k\"},"
	        "\"numa\":[{\"cpus\":\"0\",\"memory\":\"32M\"},{\"cpus\":\"1\",\"memory\":"
	        "\"32M\"}],\"devices\":[{\"type\":\"t\",\"id\":\"a\",\"host\":\"b\",\"any\":{"
	        "\"c\":[1,2]}},{\"type\":\"plain\",\"id\":\"d\"}]}";
	struct config *config = calloc(1, sizeof(*config));
	struct gw_error err = { 0 };
	char *text = NULL;
	bool hit;
	int r;

	watch_json(true);
	faults_arm(FAULT_ALLOC, nth);
	r = config_parse(json, "x", &drivers, config, &err);
	if (!r)
		text = config_print(config, &drivers);
	if (nth && text)
		cr_assert_str_eq(text, *whole, "allocation %u: it lacks something", nth);
	if (nth)
		free(text);
	else
		*whole = text;
	hit = faults_disarm();
	watch_json(false);
	cr_assert(hit || (!r && text), "%s", err.text);
	if (!nth)
		return false;
	cr_assert(!r || err.text[0], "allocation %u: not a word", nth);
	cr_assert_eq(faults_left(), 0, "allocation %u: %zu allocations are left", nth,
	             faults_left());
	free(config);
	return hit;
}

Test(out_of_memory, the_configuration)
{
	char *whole = NULL;
	unsigned nth = 1;

	config_once(0, &whole);
	while (config_once(nth, &whole))
		nth++;
	cr_assert_gt(nth, 10, "only %u allocations", nth);
	free(whole);
}
