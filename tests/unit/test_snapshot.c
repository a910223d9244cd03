/* SPDX-License-Identifier: Apache-2.0 */
/* Saving to a directory and loading from it: whole, or not at all. */
#include <criterion/criterion.h>

#include "base/io.h"
#include "base/util.h"
#include "fake_vm.h"
#include "migration/inspect.h"
#include "migration/snapshot.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *const files[] = { "manifest.json", "state", "memory", "memory.sums" };

struct place {
	struct tally tally;
	char parent[64], dir[96];
};

static void place_init(struct place *x)
{
	memset(x, 0, sizeof(*x));
	strcpy(x->parent, "/tmp/godwit-snapshot-XXXXXX");
	cr_assert(mkdtemp(x->parent));
	snprintf(x->dir, sizeof(x->dir), "%s/snap", x->parent);
}

static unsigned entries(const char *path, bool remove)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	unsigned count = 0;

	while (dir && (e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		count++;
		if (remove && unlinkat(dirfd(dir), e->d_name, 0) < 0) {
			char sub[512];

			snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
			entries(sub, true);
			rmdir(sub);
		}
	}
	if (dir)
		closedir(dir);
	return count;
}

static void place_fini(struct place *x)
{
	entries(x->parent, true);
	rmdir(x->parent);
}

static void save_ok(struct place *x, struct fake_vm *src)
{
	struct gw_error err;

	cr_assert_eq(migration_save(src->mig, x->dir, false, &err), 0, "%s", err.text);
}

/* Loads into a new VM; on failure nothing may have come of it. */
static int load(struct place *x, struct fake_vm **out, struct gw_error *err)
{
	struct fake_vm *dst = fake_vm_new(&x->tally, true, false);
	int r = migration_load(dst->mig, x->dir, true, err);

	if (r < 0)
		cr_assert_not(dst->started);
	*out = dst;
	return r;
}

/* It is refused before anything was made of it. */
static void refused(struct place *x, int code, const char *want, const char *label)
{
	struct gw_error err = { 0 };
	struct fake_vm *dst;
	int r = load(x, &dst, &err);

	cr_assert_eq(r, code, "%s: %d, %s", label, r, err.text);
	cr_assert(strstr(err.text, want), "%s: \"%s\" lacks \"%s\"", label, err.text, want);
	cr_assert_str_eq(dst->trace, "", "%s: something was made of it", label);
	fake_vm_free(dst);
}

static int open_file(struct place *x, const char *name)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", x->dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s", path);
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_size;
}

static uint8_t flip(int fd, off_t at, uint8_t mask)
{
	uint8_t byte, was;

	cr_assert_eq(pread(fd, &byte, 1, at), 1);
	was = byte;
	byte ^= mask;
	cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
	return was;
}

/* ---- there and back ---------------------------------------------------------------------- */

static void round_trip(bool ran, bool run)
{
	struct place x;
	struct fake_vm *src, *dst;
	struct gw_error err;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, ran);
	save_ok(&x, src);
	cr_assert_eq(src->runs, ran, "the guest goes on as before");
	cr_assert(fake_vm_all(src, AT_REST));
	cr_assert_eq(entries(x.parent, false), 1, "something is left beside it");
	cr_assert_eq(entries(x.dir, false), 4);
	cr_assert_eq(load(&x, &dst, &err), 0, "%s", err.text);
	cr_assert(fake_vm_same(src, dst));
	cr_assert(ran && run ? fake_vm_all(dst, RUNS) : fake_vm_asleep(dst));
	cr_assert_eq(dst->runs, ran && run);
	fake_vm_free(dst);
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, comes_back_as_it_was)
{
	round_trip(true, true);
	round_trip(false, true);
}

Test(snapshot, comes_back_paused_if_asked)
{
	struct place x;
	struct fake_vm *src, *dst;
	struct gw_error err;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, true);
	save_ok(&x, src);
	dst = fake_vm_new(&x.tally, true, false);
	cr_assert_eq(migration_load(dst->mig, x.dir, false, &err), 0, "%s", err.text);
	cr_assert(dst->started);
	cr_assert_not(dst->runs);
	fake_vm_free(dst);
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, zero_pages_are_holes)
{
	struct place x;
	struct fake_vm *src;
	struct stat st;
	int fd;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, true);
	memset(src->mem + FAKE_PAGES / 2 * PAGE_SIZE, 0, FAKE_PAGES / 2 * PAGE_SIZE);
	save_ok(&x, src);
	fd = open_file(&x, "memory");
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_size, (off_t)(FAKE_PAGES * PAGE_SIZE));
	cr_assert_leq(st.st_blocks * 512, st.st_size / 2);
	close(fd);
	fake_vm_free(src);
	place_fini(&x);
}

/* ---- damage --------------------------------------------------------------------------------- */

Test(snapshot, flipped_bit_in_any_file_is_caught_before_anything_is_built)
{
	static const struct {
		const char *name, *want;
		int steps;
	} rows[] = {
		{ "state", "damaged (checksum mismatch)", 150 },
		{ "memory", "memory: block at offset", 150 },
		{ "memory.sums", "memory.sums: damaged", 16 },
	};
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, false);
	save_ok(&x, src);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int fd = open_file(&x, rows[i].name);
		off_t size = size_of(fd);

		/* Holes of `memory` are among the places. */
		for (int step = 0; step < rows[i].steps; step++) {
			off_t at = step * (size - 1) / (rows[i].steps - 1);
			uint8_t mask = (uint8_t)(1u << (step % 8));

			flip(fd, at, mask);
			refused(&x, -EBADMSG, rows[i].want, rows[i].name);
			flip(fd, at, mask);
		}
		close(fd);
	}
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, flipped_bit_in_the_manifest_is_caught)
{
	struct fake_vm *src;
	struct place x;
	off_t size;
	int fd;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, false);
	save_ok(&x, src);
	fd = open_file(&x, "manifest.json");
	size = size_of(fd);
	for (off_t at = 0; at < size; at++) {
		struct gw_error err = { 0 };
		struct fake_vm *dst;
		uint8_t was = flip(fd, at, 1);
		int r = load(&x, &dst, &err);

		/* White space is none of what it says. */
		cr_assert(r == -EBADMSG || (!r && was <= ' '), "byte %lld: %d, %s", (long long)at,
		          r, err.text);
		cr_assert(!r || strstr(err.text, "manifest.json"), "%s", err.text);
		cr_assert(!r || !dst->trace[0]);
		fake_vm_free(dst);
		flip(fd, at, 1);
	}
	close(fd);
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, file_of_another_length_is_refused)
{
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, false);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int fd;
		off_t size;

		save_ok(&x, src);
		fd = open_file(&x, files[i]);
		size = size_of(fd);
		cr_assert_eq(ftruncate(fd, size - 2), 0);
		refused(&x, -EBADMSG, files[i], "shorter");
		cr_assert_eq(ftruncate(fd, 0), 0);
		refused(&x, -EBADMSG, files[i], "empty");
		cr_assert_eq(ftruncate(fd, size + 4096), 0);
		refused(&x, -EBADMSG, files[i], "longer");
		close(fd);
		entries(x.dir, true);
		rmdir(x.dir);
	}
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, missing_file_is_named)
{
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, false);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[160];

		save_ok(&x, src);
		snprintf(path, sizeof(path), "%s/%s", x.dir, files[i]);
		cr_assert_eq(unlink(path), 0);
		refused(&x, -ENOENT, files[i], "missing");
		entries(x.dir, true);
		rmdir(x.dir);
	}
	refused(&x, -ENOENT, "open", "no directory");
	fake_vm_free(src);
	place_fini(&x);
}

/* A manifest as a liar would write it: its own checksum is right. */
Test(snapshot, manifest_that_cannot_be_is_refused)
{
	const struct snapshot_manifest good = {
		.version = SNAPSHOT_VERSION,
		.machine = HOST_ELF_MACHINE,
		.memory_size = 2 * SNAPSHOT_BLOCK,
		.sums_size = 16,
		.ranges = { { "ram", 0, SNAPSHOT_BLOCK, 0 },
		            { "ram", GIB, SNAPSHOT_BLOCK, SNAPSHOT_BLOCK } },
		.range_count = 2,
	};
	struct place x;

	place_init(&x);
	cr_assert_eq(mkdir(x.dir, 0700), 0);
	for (int i = 0; i < 10; i++) {
		struct snapshot_manifest m = good, read;
		struct gw_error err;
		char path[160], *text;
		int fd, dir, r;

		m.version += i == 1;
		m.sums_size += i == 2 ? 8 : 0;
		m.ranges[0].gpa += i == 3;
		m.ranges[0].offset += i == 4 ? SNAPSHOT_BLOCK + PAGE_SIZE : 0;
		m.ranges[0].size += i == 5 ? 2 * SNAPSHOT_BLOCK : 0;
		m.ranges[0].size = i == 6 ? 0 : m.ranges[0].size;
		/* offset + size overflows */
		m.ranges[0].offset = i == 7 ? (1ull << 53) - PAGE_SIZE : m.ranges[0].offset;
		/* Two ranges at one place; a place without a range. */
		m.ranges[1].offset -= i == 8 ? PAGE_SIZE : 0;
		m.range_count -= i == 9;
		text = manifest_print(&m, "{}");
		snprintf(path, sizeof(path), "%s/manifest.json", x.dir);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		cr_assert_eq(io_write_full(fd, text, strlen(text)), 0);
		close(fd);
		dir = open(x.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = manifest_read(dir, &read, &err);
		cr_assert_eq(r == 0, i == 0, "row %d: %d", i, r);
		cr_assert(!r || strstr(err.text, "manifest.json"), "%s", err.text);
		close(dir);
		free(text);
	}
	place_fini(&x);
}

/* ---- failures ----------------------------------------------------------------------------------
 */

static void check_untouched(struct place *x, struct fake_vm *src, const char *label)
{
	cr_assert(src->runs, "%s: the guest does not go on", label);
	cr_assert(fake_vm_all(src, AT_REST), "%s: %s", label, src->trace);
	cr_assert_eq(access(x->dir, F_OK), -1, "%s: there is something", label);
	cr_assert_eq(entries(x->parent, false), 0, "%s: something is left", label);
	cr_assert_not(migration_active(src->mig), "%s", label);
}

Test(snapshot, failed_save_leaves_nothing_and_costs_nothing)
{
	static const enum fake_op ops[] = { OP_STOP_GUEST, OP_PREPARE, OP_QUIESCE, OP_STOP,
		                            OP_SAVE };
	static const char *const names[] = { "host", "boot", "ram",  "chip", "disk",
		                             "tty",  "nic",  "cpu0", "clock" };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		for (size_t n = ops[i] != OP_STOP_GUEST; n < (ops[i] == OP_STOP_GUEST ? 1 : 9);
		     n++) {
			struct gw_error err;
			struct fake_vm *src;
			struct place x;

			place_init(&x);
			src = fake_vm_new(&x.tally, false, true);
			src->fail_op = ops[i];
			src->fail_at = names[n];
			cr_assert_eq(migration_save(src->mig, x.dir, false, &err), -EIO);
			cr_assert(strstr(err.text, "it broke"), "%s", err.text);
			cr_assert(!n || strstr(err.text, names[n]), "%s", err.text);
			check_untouched(&x, src, names[n]);
			fake_vm_free(src);
			place_fini(&x);
		}
	}
}

Test(snapshot, failed_load_discards_all)
{
	static const enum fake_op ops[] = { OP_BUILD,  OP_BEGIN_LOAD, OP_MAP_FILE, OP_LOAD,
		                            OP_SETTLE, OP_ANSWER_DMA, OP_RUN };
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, false);
	save_ok(&x, src);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct fake_vm *dst = fake_vm_new(&x.tally, true, false);
		struct gw_error err;

		dst->fail_op = ops[i];
		cr_assert_eq(migration_load(dst->mig, x.dir, true, &err), -EIO);
		cr_assert(strstr(err.text, "it broke"), "%s", err.text);
		cr_assert_not(dst->started);
		cr_assert_eq(dst->abandoned, ops[i] != OP_BUILD);
		cr_assert(!dst->complete || fake_vm_all(dst, DISCARDED), "%s", dst->trace);
		fake_vm_free(dst);
	}
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, what_exists_is_not_replaced)
{
	for (int kind = 0; kind < 3; kind++) {
		struct gw_error err;
		struct fake_vm *src;
		struct place x;
		struct stat before, after;

		place_init(&x);
		src = fake_vm_new(&x.tally, false, true);
		if (kind == 0)
			cr_assert_eq(mkdir(x.dir, 0700), 0);
		else if (kind == 1)
			close(open(x.dir, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		else
			cr_assert_eq(symlink("nowhere", x.dir), 0);
		lstat(x.dir, &before);
		cr_assert_eq(migration_save(src->mig, x.dir, false, &err), -EEXIST, "%s", err.text);
		lstat(x.dir, &after);
		cr_assert_eq(before.st_ino, after.st_ino);
		cr_assert(src->runs);
		cr_assert_eq(entries(x.parent, false), 1);
		fake_vm_free(src);
		place_fini(&x);
	}
}

Test(snapshot, blocked_guest_is_not_saved)
{
	struct gw_error err;
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, true);
	src->blocker = "tty: has no migration";
	cr_assert_eq(migration_save(src->mig, x.dir, false, &err), -ENOTSUP);
	cr_assert_str_eq(err.text, "tty: has no migration");
	cr_assert_str_eq(src->trace, "", "the guest was not even stopped");
	check_untouched(&x, src, "blocked");
	fake_vm_free(src);
	place_fini(&x);
}

/* Room for so many bytes in a file: as a disk that is full there. */
static void limit_files(rlim_t bytes)
{
	const struct rlimit limit = { bytes, RLIM_INFINITY };

	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static const rlim_t limits[] = { 0, 8, 1000, 100000, 1 << 20, (1 << 20) + 30000, 1500000 };

Test(snapshot, full_disk_while_saving_costs_nothing)
{
	struct gw_error err;
	struct fake_vm *src;
	struct place x;

	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		place_init(&x);
		src = fake_vm_new(&x.tally, false, true);
		limit_files(limits[i]);
		cr_assert_eq(migration_save(src->mig, x.dir, false, &err), -EFBIG, "%s", err.text);
		limit_files(RLIM_INFINITY);
		cr_assert(strstr(err.text, "/memory") || strstr(err.text, "/state"), "%s",
		          err.text);
		check_untouched(&x, src, "full");
		save_ok(&x, src);
		fake_vm_free(src);
		place_fini(&x);
	}
}

Test(snapshot, full_file_system_while_saving_costs_nothing)
{
	struct gw_error err;
	struct fake_vm *src;
	struct place x;

	place_init(&x);
	/* Needs the right to mount; without it the test above has to do. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", x.parent, "tmpfs", 0, "size=1600k") < 0) {
		place_fini(&x);
		cr_skip_test("no right to mount");
	}
	src = fake_vm_new(&x.tally, false, true);
	cr_assert_eq(migration_save(src->mig, x.dir, false, &err), -ENOSPC, "%s", err.text);
	cr_assert(strstr(err.text, "No space"), "%s", err.text);
	check_untouched(&x, src, "full");
	fake_vm_free(src);
	umount(x.parent);
	place_fini(&x);
}

/* The kernel kills it in the middle of a write that goes beyond the limit. */
Test(snapshot, killed_while_saving_leaves_no_snapshot)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct place x;
		int status;
		pid_t child;

		place_init(&x);
		child = fork();
		if (!child) {
			const struct rlimit no_core = { 0, 0 };
			struct fake_vm *src = fake_vm_new(&x.tally, false, true);

			setrlimit(RLIMIT_CORE, &no_core);
			signal(SIGXFSZ, SIG_DFL);
			limit_files(limits[i]);
			migration_save(src->mig, x.dir, false, NULL);
			_exit(0);
		}
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ, "%d", status);
		cr_assert_eq(access(x.dir, F_OK), -1);
		refused(&x, -ENOENT, "open", "killed");
		place_fini(&x);
	}
}

/* ---- looking into it
 * ------------------------------------------------------------------------------- */

static cJSON *inspect(const char *path, int want, struct gw_error *err)
{
	char *json;
	cJSON *root;

	cr_assert_eq(inspect_path(path, &json, err), want, "%s", want ? "not refused" : err->text);
	root = cJSON_Parse(json);
	cr_assert(root);
	cr_assert_eq(cJSON_IsTrue(cJSON_GetObjectItem(root, "whole")), want == 0);
	free(json);
	return root;
}

static double number(const cJSON *from, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

	cr_assert(cJSON_IsNumber(item), "%s", name);
	return item->valuedouble;
}

Test(snapshot, inspect_describes_it)
{
	struct gw_error err = { 0 };
	struct fake_vm *src;
	const cJSON *list, *row, *tty = NULL, *ranges;
	struct place x;
	cJSON *root;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, true);
	save_ok(&x, src);
	root = inspect(x.dir, 0, &err);
	list = cJSON_GetObjectItem(root, "participants");
	cr_assert_eq(cJSON_GetArraySize(list), FAKE_PARTS);
	cJSON_ArrayForEach(row, list) if (!strcmp(cJSON_GetObjectItem(row, "name")->valuestring,
	                                          "tty")) tty = row;
	cr_assert_str_eq(cJSON_GetObjectItem(tty, "kind")->valuestring, "vfio-pci");
	cr_assert_eq(number(tty, "frames"), 8);
	cr_assert_eq(number(cJSON_GetObjectItem(tty, "record-bytes"), "3"), 8);
	cr_assert_eq(number(cJSON_GetObjectItem(tty, "record-bytes"), "2"),
	             number(tty, "bytes") - 8);
	ranges = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "memory"), "ranges");
	cr_assert_eq(cJSON_GetArraySize(ranges), 2);
	cr_assert_eq(number(cJSON_GetArrayItem(ranges, 1), "gpa"), (double)FAKE_HIGH);
	cr_assert_eq(number(cJSON_GetArrayItem(ranges, 1), "offset"), FAKE_SPLIT * 4096.0);
	cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(root, "was-running")));
	cr_assert_str_eq(
	        cJSON_GetObjectItem(cJSON_GetObjectItem(root, "config"), "name")->valuestring,
	        "fake");
	cJSON_Delete(root);
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, inspect_names_what_is_damaged)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{ "manifest.json", "manifest.json: damaged" },
		{ "state", "state: damaged" },
		{ "memory", "memory: block at offset 1048576 damaged" },
		{ "memory.sums", "memory.sums: damaged" },
	};
	struct gw_error err;
	struct fake_vm *src;
	struct place x;
	char path[160];
	int fd;

	place_init(&x);
	src = fake_vm_new(&x.tally, false, true);
	save_ok(&x, src);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		off_t at;

		fd = open_file(&x, rows[i].name);
		at = i ? size_of(fd) * 3 / 4 : 40;
		flip(fd, at, 4);
		err = (struct gw_error){ 0 };
		cJSON_Delete(inspect(x.dir, -EBADMSG, &err));
		cr_assert(strstr(err.text, rows[i].want), "%s", err.text);
		flip(fd, at, 4);
		close(fd);
	}
	/* By itself the file of frames says which frame, and whose. */
	fd = open_file(&x, "state");
	flip(fd, size_of(fd) / 2, 4);
	close(fd);
	snprintf(path, sizeof(path), "%s/state", x.dir);
	cJSON_Delete(inspect(path, -EBADMSG, &err));
	cr_assert(strstr(err.text, "tty: frame ") && strstr(err.text, "checksum mismatch"), "%s",
	          err.text);
	fake_vm_free(src);
	place_fini(&x);
}

Test(snapshot, inspect_of_something_else_is_an_error)
{
	struct gw_error err = { 0 };

	cJSON_Delete(inspect("/proc/version", -EBADMSG, &err));
	cJSON_Delete(inspect("/nowhere", -ENOENT, &err));
	cJSON_Delete(inspect("/proc", -ENOENT, &err));
	cr_assert(strstr(err.text, "not a snapshot"), "%s", err.text);
}
