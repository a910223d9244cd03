/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest and the checksums of a snapshot, as saving, loading and inspecting need them. */
#include "migration/snapshot.h"

#include "base/io.h"
#include "base/util.h"
#include "migration/frame.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MANIFEST_LIMIT (16 * MIB)
#define FORMAT "godwit-snapshot"

/* ---- the manifest ------------------------------------------------------------------------- */

/* Sums do not fit JSON's numbers: 16 hexadecimal digits. */
static bool add_sum(cJSON *to, const char *name, uint64_t sum)
{
	char text[20];

	snprintf(text, sizeof(text), "%016" PRIx64, sum);
	return cJSON_AddStringToObject(to, name, text);
}

static bool add_file(cJSON *root, const char *name, uint64_t size, const uint64_t *sum)
{
	cJSON *file = cJSON_AddObjectToObject(root, name);

	return file && cJSON_AddNumberToObject(file, "size", (double)size) &&
	       (!sum || add_sum(file, "xxh3-64", *sum));
}

static bool add_ranges(cJSON *memory, const struct snapshot_manifest *m)
{
	cJSON *ranges = cJSON_AddArrayToObject(memory, "ranges");

	for (unsigned i = 0; i < m->range_count && ranges; i++) {
		const struct snapshot_range *r = &m->ranges[i];
		cJSON *row = cJSON_CreateObject();

		if (!row || !cJSON_AddItemToArray(ranges, row) ||
		    !cJSON_AddStringToObject(row, "participant", r->participant) ||
		    !cJSON_AddNumberToObject(row, "gpa", (double)r->gpa) ||
		    !cJSON_AddNumberToObject(row, "size", (double)r->size) ||
		    !cJSON_AddNumberToObject(row, "offset", (double)r->offset))
			return false;
	}
	return ranges;
}

/* The manifest vouches for the other files; "check" vouches for it: the XXH3-64 of its JSON,
 * printed without white space and without this member. */
static bool sum_manifest(const cJSON *root, uint64_t *sum)
{
	autofree char *text = cJSON_PrintUnformatted(root);

	if (text)
		*sum = snapshot_sum_block(text, strlen(text));
	return text;
}

char *manifest_print(const struct snapshot_manifest *m, const char *config)
{
	cJSON *root = cJSON_CreateObject();
	cJSON *parsed = cJSON_Parse(config);
	char *text = NULL;
	uint64_t sum;
	bool ok = root && cJSON_AddStringToObject(root, "format", FORMAT) &&
	          cJSON_AddNumberToObject(root, "version", m->version) &&
	          cJSON_AddStringToObject(root, "architecture", frame_machine_name(m->machine)) &&
	          cJSON_AddNumberToObject(root, "machine", m->machine) &&
	          add_file(root, "state", m->state_size, &m->state_sum) &&
	          add_file(root, "memory.sums", m->sums_size, &m->sums_sum) &&
	          add_file(root, "memory", m->memory_size, NULL) &&
	          add_ranges(cJSON_GetObjectItemCaseSensitive(root, "memory"), m) && parsed &&
	          cJSON_AddItemToObject(root, "config", parsed) && sum_manifest(root, &sum) &&
	          add_sum(root, "check", sum);

	if (ok)
		text = cJSON_Print(root);
	cJSON_Delete(root);
	return text;
}

static bool get_number(const cJSON *from, const char *name, uint64_t *out)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, name);

	if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
	    item->valuedouble > 9007199254740992.0)
		return false;
	*out = (uint64_t)item->valuedouble;
	return true;
}

static bool get_file(const cJSON *root, const char *name, uint64_t *size, uint64_t *sum)
{
	const cJSON *file = cJSON_GetObjectItemCaseSensitive(root, name);
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(file, "xxh3-64");
	char *end;

	if (!get_number(file, "size", size))
		return false;
	if (!sum)
		return true;
	if (!cJSON_IsString(text) || strlen(text->valuestring) != 16)
		return false;
	*sum = strtoull(text->valuestring, &end, 16);
	return !*end;
}

static int check_manifest(cJSON *root, struct gw_error *err)
{
	cJSON *check = cJSON_DetachItemFromObjectCaseSensitive(root, "check");
	char text[20] = "";
	uint64_t sum;

	if (sum_manifest(root, &sum))
		snprintf(text, sizeof(text), "%016" PRIx64, sum);
	if (!cJSON_IsString(check) || strcmp(check->valuestring, text)) {
		cJSON_Delete(check);
		return error_set(err, -EBADMSG, "manifest.json: damaged (checksum mismatch)");
	}
	cJSON_Delete(check);
	return 0;
}

static int read_range(const cJSON *row, struct snapshot_manifest *m, struct gw_error *err)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(row, "participant");
	struct snapshot_range *r = &m->ranges[m->range_count];

	if (m->range_count == SNAPSHOT_RANGES_MAX || !cJSON_IsString(name) ||
	    strlen(name->valuestring) >= sizeof(r->participant) ||
	    !get_number(row, "gpa", &r->gpa) || !get_number(row, "size", &r->size) ||
	    !get_number(row, "offset", &r->offset) || (r->gpa | r->size | r->offset) % PAGE_SIZE ||
	    !r->size || r->size > m->memory_size || r->offset > m->memory_size - r->size)
		return error_set(err, -EBADMSG, "manifest.json: memory.ranges[%u] cannot be",
		                 m->range_count);
	strcpy(r->participant, name->valuestring);
	m->range_count++;
	return 0;
}

static int read_manifest(const cJSON *root, struct snapshot_manifest *m, struct gw_error *err)
{
	const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
	const cJSON *memory = cJSON_GetObjectItemCaseSensitive(root, "memory");
	uint64_t version, machine;
	const cJSON *row;
	int r = 0;

	if (!cJSON_IsString(format) || strcmp(format->valuestring, FORMAT))
		return error_set(err, -EBADMSG, "manifest.json: not of a godwit snapshot");
	if (!get_number(root, "version", &version) || !get_number(root, "machine", &machine) ||
	    !get_file(root, "state", &m->state_size, &m->state_sum) ||
	    !get_file(root, "memory.sums", &m->sums_size, &m->sums_sum) ||
	    !get_file(root, "memory", &m->memory_size, NULL))
		return error_set(err, -EBADMSG, "manifest.json: incomplete");
	m->version = (uint32_t)version;
	m->machine = (uint32_t)machine;
	if (version != SNAPSHOT_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "manifest.json: version %llu, not %d",
		                 (unsigned long long)version, SNAPSHOT_VERSION);
	if (m->sums_size != DIV_ROUND_UP(m->memory_size, (uint64_t)SNAPSHOT_BLOCK) * 8)
		return error_set(err, -EBADMSG,
		                 "manifest.json: memory.sums is not as long as memory");
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(memory, "ranges")) r =
	        r ? r : read_range(row, m, err);
	return r;
}

int manifest_read(int dir_fd, struct snapshot_manifest *m, struct gw_error *err)
{
	autofree char *text = NULL;
	char path[64];
	cJSON *root;
	int r;

	*m = (struct snapshot_manifest){ 0 };
	snprintf(path, sizeof(path), "/proc/self/fd/%d/manifest.json", dir_fd);
	r = io_read_file(path, MANIFEST_LIMIT, &text, NULL, err);
	if (r == -ENOENT)
		return error_set(err, r, "no manifest.json: not a snapshot");
	if (r < 0)
		return error_set_sys(err, r, "manifest.json");
	root = cJSON_Parse(text);
	if (!root)
		return error_set(err, -EBADMSG, "manifest.json: not JSON");
	r = check_manifest(root, err);
	if (!r)
		r = read_manifest(root, m, err);
	cJSON_Delete(root);
	return r;
}

/* ---- files and their checksums ----------------------------------------------------------------
 */

int snapshot_open(int dir_fd, const char *name, uint64_t size, struct gw_error *err)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return error_set_sys(err, -errno, "%s", name);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size) {
		close(fd);
		return error_set(err, -EBADMSG, "%s: %lld bytes, the manifest says %llu", name,
		                 (long long)st.st_size, (unsigned long long)size);
	}
	return fd;
}

void snapshot_close_files(int dir_fd, int state_fd, int memory_fd)
{
	const int fds[] = { memory_fd, state_fd, dir_fd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int snapshot_sum_file(int fd, const char *name, uint64_t *sum, struct gw_error *err)
{
	autofree uint8_t *buf = malloc(SNAPSHOT_BLOCK);
	XXH3_state_t state;
	off_t at = 0;

	if (!buf)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	XXH3_64bits_reset(&state);
	for (;;) {
		ssize_t n = pread(fd, buf, SNAPSHOT_BLOCK, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_sys(err, -errno, "%s", name);
		if (n == 0)
			break;
		XXH3_64bits_update(&state, buf, (size_t)n);
		at += n;
	}
	*sum = XXH3_64bits_digest(&state);
	return 0;
}

uint64_t snapshot_sum_block(const void *block, uint64_t len)
{
	return XXH3_64bits(block, len);
}

int snapshot_verify_state(int fd, const struct snapshot_manifest *m, struct gw_error *err)
{
	uint64_t sum;
	int r = snapshot_sum_file(fd, "state", &sum, err);

	if (!r && sum != m->state_sum)
		r = error_set(err, -EBADMSG, "state: damaged (checksum mismatch)");
	return r;
}

/* True if there is no data in [at, at + len). */
static bool is_hole(int fd, uint64_t at, uint64_t len)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= at + len;
}

static int verify_blocks(int fd, const struct snapshot_manifest *m, const uint64_t *sums,
                         struct gw_error *err)
{
	autofree uint8_t *buf = malloc(SNAPSHOT_BLOCK);
	autofree uint8_t *zeros = calloc(1, SNAPSHOT_BLOCK);
	uint64_t zero_sum;

	if (!buf || !zeros)
		return error_set(err, -ENOMEM, "memory: out of memory");
	zero_sum = snapshot_sum_block(zeros, SNAPSHOT_BLOCK);
	for (uint64_t at = 0, i = 0; at < m->memory_size; at += SNAPSHOT_BLOCK, i++) {
		uint64_t len = MIN(m->memory_size - at, (uint64_t)SNAPSHOT_BLOCK), sum;
		int r;

		if (len == SNAPSHOT_BLOCK && is_hole(fd, at, len)) {
			sum = zero_sum;
		} else {
			r = io_pread_full(fd, buf, len, (off_t)at);
			if (r < 0)
				return error_set_sys(err, r, "memory: at offset %llu",
				                     (unsigned long long)at);
			sum = snapshot_sum_block(buf, len);
		}
		if (sum != le64toh(sums[i]))
			return error_set(err, -EBADMSG,
			                 "memory: block at offset %llu damaged (checksum mismatch)",
			                 (unsigned long long)at);
	}
	return 0;
}

int snapshot_verify_memory(int dir_fd, int memory_fd, const struct snapshot_manifest *m,
                           struct gw_error *err)
{
	autoclose int fd = snapshot_open(dir_fd, "memory.sums", m->sums_size, err);
	autofree uint64_t *sums = malloc(m->sums_size + 8);
	uint64_t sum;
	int r;

	if (fd < 0)
		return fd;
	if (!sums)
		return error_set(err, -ENOMEM, "memory.sums: out of memory");
	r = io_pread_full(fd, sums, m->sums_size, 0);
	if (r < 0)
		return error_set_sys(err, r, "memory.sums");
	sum = snapshot_sum_block(sums, m->sums_size);
	if (sum != m->sums_sum)
		return error_set(err, -EBADMSG, "memory.sums: damaged (checksum mismatch)");
	return verify_blocks(memory_fd, m, sums, err);
}
