/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots that somebody else made: what they claim costs nothing, what
 * stands in place of a file is not waited for, and what a disk made of the
 * bytes it got is found out.
 */
#include <criterion/criterion.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/util.h"
#include "fake_vm.h"
#include "faults.h"
#include "migration/frame.h"
#include "migration/inspect.h"
#include "migration/snapshot.h"
#include "migration/sums.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define TIB (1024 * GIB)

static const char *const files[] = { "manifest.json", "state", "memory", "memory.sums" };

struct place {
	struct tally tally;
	char parent[64], dir[96];
	struct fake_vm *src;
};

static void place_init(struct place *x)
{
	memset(x, 0, sizeof(*x));
	strcpy(x->parent, "/tmp/godwit-strangers-XXXXXX");
	cr_assert(mkdtemp(x->parent));
	snprintf(x->dir, sizeof(x->dir), "%s/snap", x->parent);
	x->src = fake_vm_new(&x->tally, false, true);
}

static char *path_of(const struct place *x, const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", x->dir, name);
	return path;
}

static void remove_snapshot(struct place *x)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (unlink(path_of(x, files[i])))
			rmdir(path_of(x, files[i]));
	rmdir(x->dir);
}

static void place_fini(struct place *x)
{
	fake_vm_free(x->src);
	remove_snapshot(x);
	cr_assert_eq(rmdir(x->parent), 0, "something is left");
}

static void save_ok(struct place *x)
{
	struct gw_error err;

	cr_assert_eq(migration_save(x->src->mig, x->dir, false, &err), 0, "%s", err.text);
}

/* Inspected and loaded: both say this, and nothing is made of it. */
static void refused(struct place *x, int code, const char *want)
{
	struct fake_vm *dst = fake_vm_new(&x->tally, true, false);
	struct gw_error err = { 0 };
	char *json;
	int r = inspect_path(x->dir, &json, &err);

	cr_assert_eq(r, code, "%d, %s", r, err.text);
	cr_assert(strstr(err.text, want), "\"%s\" lacks \"%s\"", err.text, want);
	cr_assert(strstr(json, "\"whole\":\tfalse"), "%s", json);
	free(json);
	err.text[0] = 0;
	r = migration_load(dst->mig, x->dir, true, &err);
	cr_assert_eq(r, code, "%d, %s", r, err.text);
	cr_assert(strstr(err.text, want), "\"%s\" lacks \"%s\"", err.text, want);
	cr_assert_str_eq(dst->trace, "");
	fake_vm_free(dst);
}

static void write_file(struct place *x, const char *name, const void *data, size_t len)
{
	int fd = open(path_of(x, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(io_write_full(fd, data, len), 0);
	close(fd);
}

static void write_manifest(struct place *x, const struct snapshot_manifest *m)
{
	autofree char *text = manifest_print(m, "{}");

	write_file(x, "manifest.json", text, strlen(text));
}

/* A whole snapshot's, to be changed. */
static struct snapshot_manifest manifest_of(struct place *x)
{
	struct snapshot_manifest m;
	struct gw_error err;
	int dir = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_eq(manifest_read(dir, &m, &err), 0, "%s", err.text);
	close(dir);
	return m;
}

static long peak_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* ---- claims ------------------------------------------------------------------------------- */

/* Memory of `size` bytes that is one hole, as are its sums. */
static void claim_memory(struct place *x, uint64_t size)
{
	struct snapshot_manifest m = manifest_of(x);

	m.memory_size = size;
	m.sums_size = size / SNAPSHOT_BLOCK * 8;
	m.range_count = 1;
	m.ranges[0] = (struct snapshot_range){ "ram", 0, size, 0 };
	cr_assert_eq(truncate(path_of(x, "memory"), 0), 0);
	cr_assert_eq(truncate(path_of(x, "memory.sums"), 0), 0);
	if (truncate(path_of(x, "memory"), (off_t)size))
		cr_skip_test("a file system without such files");
	cr_assert_eq(truncate(path_of(x, "memory.sums"), (off_t)m.sums_size), 0);
	write_manifest(x, &m);
}

Test(strangers, memory_that_is_claimed_costs_none)
{
	struct place x;
	long before;

	place_init(&x);
	save_ok(&x);
	before = peak_kib();
	claim_memory(&x, 8 * TIB);
	refused(&x, -EBADMSG, "memory.sums: damaged");
	cr_assert_lt(peak_kib() - before, 24 << 10, "%ld KiB more", peak_kib() - before);
	place_fini(&x);
}

Test(strangers, more_memory_than_a_machine_has_is_refused)
{
	const struct snapshot_manifest huge = {
		.version = SNAPSHOT_VERSION,
		.machine = HOST_ELF_MACHINE,
		.memory_size = SNAPSHOT_MEMORY_MAX + SNAPSHOT_BLOCK,
		.sums_size = (SNAPSHOT_MEMORY_MAX / SNAPSHOT_BLOCK + 1) * 8,
		.ranges = { { "ram", 0, SNAPSHOT_MEMORY_MAX + SNAPSHOT_BLOCK, 0 } },
		.range_count = 1,
	};
	struct place x;

	place_init(&x);
	cr_assert_eq(mkdir(x.dir, 0700), 0);
	write_manifest(&x, &huge);
	refused(&x, -EFBIG, "no machine has more");
	place_fini(&x);
}

/* Holes of a true snapshot are not read, however large. */
Test(strangers, a_large_guest_of_zeros_is_whole)
{
	const uint64_t size = 256 * GIB, count = size / SNAPSHOT_BLOCK;
	struct snapshot_manifest m;
	struct block_sums sums;
	struct gw_error err;
	struct place x;
	char *json;

	place_init(&x);
	save_ok(&x);
	claim_memory(&x, size);
	block_sums_init(&sums);
	block_sums_add_zeros(&sums, size);
	cr_assert(block_sums_end(&sums));
	cr_assert_eq(sums.count, count);
	m = manifest_of(&x);
	m.sums_sum = sum_of(sums.sums, count * 8);
	write_file(&x, "memory.sums", sums.sums, count * 8);
	write_manifest(&x, &m);
	cr_assert_eq(inspect_path(x.dir, &json, &err), 0, "%s", err.text);
	free(json);
	block_sums_fini(&sums);
	place_fini(&x);
}

/* To read all of it would take longer than any test. */
Test(strangers, state_that_is_a_hole_is_not_read)
{
	struct snapshot_manifest m;
	struct place x;

	place_init(&x);
	save_ok(&x);
	m = manifest_of(&x);
	m.state_size = 8 * TIB;
	if (truncate(path_of(&x, "state"), (off_t)m.state_size))
		cr_skip_test("a file system without such files");
	write_manifest(&x, &m);
	refused(&x, -EBADMSG, "state: frame ");
	place_fini(&x);
}

Test(strangers, nothing_stands_behind_the_last_frame)
{
	struct snapshot_manifest m;
	struct place x;

	place_init(&x);
	save_ok(&x);
	m = manifest_of(&x);
	m.state_size += 4096;
	cr_assert_eq(truncate(path_of(&x, "state"), (off_t)m.state_size), 0);
	write_manifest(&x, &m);
	refused(&x, -EBADMSG, "there is something behind it");
	place_fini(&x);
}

static void put_frame(struct bytes *out, uint32_t *sequence, enum frame_type type, uint16_t record,
                      uint32_t participant, const void *payload, uint32_t len)
{
	uint8_t header[FRAME_HEADER_SIZE];

	frame_encode(&(struct frame_header){ .type = type,
	                                     .record = record,
	                                     .participant = participant,
	                                     .sequence = (*sequence)++,
	                                     .length = len,
	                                     .sum = frame_sum(payload, len, NULL, 0) },
	             header);
	bytes_put(out, header, sizeof(header));
	bytes_put(out, payload, len);
}

/* One of each type, over and over, so that none follows its like. With a search for each it would
 * take longer than any test. */
Test(strangers, records_are_counted_whatever_their_types)
{
	enum { ROUNDS = 4, TYPES = 65536 };
	const struct frame_hello hello = frame_hello();
	const char *const table = "[{\"name\":\"a\",\"kind\":\"b\",\"version\":1}]";
	const cJSON *list, *records;
	struct frame_end end = { 0 };
	struct bytes out = { 0 };
	struct gw_error err;
	struct place x;
	uint32_t n = 0;
	cJSON *root;
	char *json;

	place_init(&x);
	cr_assert_eq(mkdir(x.dir, 0700), 0);
	put_frame(&out, &n, FRAME_HELLO, 0, NO_PARTICIPANT, &hello, sizeof(hello));
	put_frame(&out, &n, FRAME_CONFIG, 0, NO_PARTICIPANT, "{}", 2);
	put_frame(&out, &n, FRAME_TABLE, 0, NO_PARTICIPANT, table, (uint32_t)strlen(table));
	for (uint32_t i = 0; i < ROUNDS * TYPES; i++)
		put_frame(&out, &n, FRAME_RECORD, (uint16_t)i, 0, &i, 4);
	end.frames = htole64(n);
	end.bytes = htole64(out.len);
	put_frame(&out, &n, FRAME_END, 0, NO_PARTICIPANT, &end, sizeof(end));
	write_file(&x, "state", out.data, out.len);
	bytes_free(&out);
	cr_assert_eq(inspect_path(path_of(&x, "state"), &json, &err), 0, "%s", err.text);
	root = cJSON_Parse(json);
	list = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "participants"), 0);
	records = cJSON_GetObjectItem(list, "record-bytes");
	cr_assert_eq(cJSON_GetArraySize(records), TYPES);
	n = 0;
	for (const cJSON *row = records->child; row; row = row->next, n++) {
		cr_assert_eq(strtoul(row->string, NULL, 10), n);
		cr_assert_eq(row->valuedouble, ROUNDS * 4);
	}
	cJSON_Delete(root);
	free(json);
	place_fini(&x);
}

Test(strangers, text_that_is_nested_deep_is_refused)
{
	char text[400];
	struct bytes out = { 0 };
	const struct frame_hello hello = frame_hello();
	struct gw_error err;
	struct place x;
	uint32_t n = 0;
	char *json;

	place_init(&x);
	cr_assert_eq(mkdir(x.dir, 0700), 0);
	memset(text, '[', 200);
	memset(text + 200, ']', 200);
	put_frame(&out, &n, FRAME_HELLO, 0, NO_PARTICIPANT, &hello, sizeof(hello));
	put_frame(&out, &n, FRAME_CONFIG, 0, NO_PARTICIPANT, text, sizeof(text));
	write_file(&x, "state", out.data, out.len);
	bytes_free(&out);
	cr_assert_eq(inspect_path(path_of(&x, "state"), &json, &err), -EPROTO);
	cr_assert(strstr(err.text, "nested deeper"), "%s", err.text);
	free(json);
	place_fini(&x);
}

/* ---- what is no file -------------------------------------------------------------------------
 */

static int make_fifo(const char *path)
{
	return mkfifo(path, 0600);
}

static int make_directory(const char *path)
{
	return mkdir(path, 0700);
}

static int make_link(const char *path)
{
	return symlink("/proc/self/exe", path);
}

static int make_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr));
}

static int make_device(const char *path)
{
	return mknod(path, S_IFCHR | 0600, makedev(1, 5));
}

Test(strangers, what_is_no_file_is_named_and_not_waited_for)
{
	static const struct {
		int (*make)(const char *path);
		const char *what;
	} kinds[] = {
		{ make_fifo, "is a FIFO, not a file" },
		{ make_directory, "is a directory, not a file" },
		{ make_link, "is a symbolic link, not a file" },
		{ make_socket, "is a socket, not a file" },
		{ make_device, "is a character device, not a file" },
	};
	struct place x;

	place_init(&x);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			char want[80];

			save_ok(&x);
			cr_assert_eq(unlink(path_of(&x, files[i])), 0);
			/* Not everybody may make device nodes. */
			if (!kinds[k].make(path_of(&x, files[i]))) {
				snprintf(want, sizeof(want), "%s %s", files[i], kinds[k].what);
				refused(&x, -EINVAL, want);
			} else {
				cr_assert(kinds[k].make == make_device, "%s", strerror(errno));
			}
			remove_snapshot(&x);
		}
	}
	place_fini(&x);
}

Test(strangers, inspect_looks_into_files_and_directories_alone)
{
	struct gw_error err = { 0 };
	struct place x;
	char *json;

	place_init(&x);
	cr_assert_eq(mkfifo(x.dir, 0600), 0);
	cr_assert_eq(inspect_path(x.dir, &json, &err), -EINVAL);
	cr_assert(strstr(err.text, "snap is a FIFO, not a file or a directory"), "%s", err.text);
	free(json);
	unlink(x.dir);
	place_fini(&x);
}

/* ---- who quits does not wait ----------------------------------------------------------------- */

Test(strangers, verifying_ends_when_it_is_cancelled)
{
	int cancel = io_eventfd(), dir, state, memory;
	struct snapshot_manifest m;
	struct gw_error err;
	struct place x;

	place_init(&x);
	save_ok(&x);
	m = manifest_of(&x);
	dir = open(x.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	state = snapshot_open(dir, "state", m.state_size, &err);
	memory = snapshot_open(dir, "memory", m.memory_size, &err);
	cr_assert_eq(snapshot_verify_state(state, &m, cancel, &err), 0);
	cr_assert_eq(snapshot_verify_memory(dir, memory, &m, cancel, &err), 0);
	io_eventfd_signal(cancel);
	cr_assert_eq(snapshot_verify_state(state, &m, cancel, &err), -ECANCELED);
	cr_assert_eq(snapshot_verify_memory(dir, memory, &m, cancel, &err), -ECANCELED);
	snapshot_close_files(dir, state, memory);
	close(cancel);
	place_fini(&x);
}

Test(strangers, saving_ends_when_it_is_cancelled)
{
	struct gw_error err;
	struct place x;

	place_init(&x);
	x.src->cancel_op = OP_STOP;
	cr_assert_eq(migration_save(x.src->mig, x.dir, false, &err), -ECANCELED);
	cr_assert_str_eq(err.text, "cancelled");
	cr_assert(x.src->runs);
	cr_assert(fake_vm_all(x.src, AT_REST), "%s", x.src->trace);
	place_fini(&x);
}

/* ---- what became of it on the disk ----------------------------------------------------------- */

static const char *spoiled;
static struct place *spoiled_in;

/* While it is being saved the disk makes something else of a byte that it has been given. */
static int spoil(struct participant *p, struct sink *sink, struct gw_error *err)
{
	DIR *dir = opendir(spoiled_in->parent);
	struct dirent *e;
	char path[400];
	uint8_t byte;
	int fd = -1;

	(void)p;
	(void)sink;
	(void)err;
	while ((e = readdir(dir)))
		if (strstr(e->d_name, "snap.tmp-")) {
			snprintf(path, sizeof(path), "%s/%s/%s", spoiled_in->parent, e->d_name,
			         spoiled);
			fd = open(path, O_RDWR | O_CLOEXEC);
		}
	closedir(dir);
	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, &byte, 1, 40), 1);
	byte ^= 1;
	cr_assert_eq(pwrite(fd, &byte, 1, 40), 1);
	close(fd);
	return 0;
}

Test(strangers, what_a_disk_spoils_while_it_is_saved_is_found_out)
{
	static const struct {
		const char *name, *want;
	} rows[] = {
		{ "state", "state: damaged (checksum mismatch)" },
		{ "memory", "memory: block at offset 0 damaged" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct place x;

		place_init(&x);
		spoiled = rows[i].name;
		spoiled_in = &x;
		fake_part(x.src, "clock")->ops.save = spoil;
		save_ok(&x);
		refused(&x, -EBADMSG, rows[i].want);
		place_fini(&x);
	}
}

/* The syncs of a save: the files, the directory, and at last the directory above. */
Test(strangers, a_save_whose_last_sync_fails_is_there)
{
	enum { SYNCS = 6 };

	for (unsigned nth = 1; nth <= SYNCS + 1; nth++) {
		struct gw_error err = { 0 };
		struct place x;
		char *json;
		int r;

		place_init(&x);
		faults_arm(FAULT_FSYNC, nth);
		r = migration_save(x.src->mig, x.dir, false, &err);
		cr_assert_eq(faults_disarm(), nth <= SYNCS, "sync %u", nth);
		cr_assert_eq(r, nth <= SYNCS ? -EIO : 0, "sync %u: %s", nth, err.text);
		cr_assert_eq(access(x.dir, F_OK) == 0, nth >= SYNCS, "sync %u", nth);
		cr_assert_eq(!!strstr(err.text, "the snapshot is there and whole"), nth == SYNCS,
		             "sync %u: %s", nth, err.text);
		if (nth >= SYNCS) {
			cr_assert_eq(inspect_path(x.dir, &json, &err), 0, "%s", err.text);
			free(json);
		}
		cr_assert(x.src->runs);
		place_fini(&x);
	}
}
