/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest and the checksums of a snapshot, as saving, loading and inspecting need them. */
#include "migration/snapshot.h"

#include "base/io.h"
#include "base/util.h"
#include "migration/frame.h"
#include "migration/sums.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST_LIMIT (4 * MIB)
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
		*sum = sum_of(text, strlen(text));
	return text;
}

static bool add_config(cJSON *root, const char *config)
{
	cJSON *parsed = cJSON_Parse(config);

	if (parsed && cJSON_AddItemToObject(root, "config", parsed))
		return true;
	cJSON_Delete(parsed);
	return false;
}

char *manifest_print(const struct snapshot_manifest *m, const char *config)
{
	cJSON *root = cJSON_CreateObject();
	char *text = NULL;
	uint64_t sum;
	bool ok = root && cJSON_AddStringToObject(root, "format", FORMAT) &&
	          cJSON_AddNumberToObject(root, "version", m->version) &&
	          cJSON_AddStringToObject(root, "architecture", frame_machine_name(m->machine)) &&
	          cJSON_AddNumberToObject(root, "machine", m->machine) &&
	          add_file(root, "state", m->state_size, &m->state_sum) &&
	          add_file(root, "memory.sums", m->sums_size, &m->sums_sum) &&
	          add_file(root, "memory", m->memory_size, NULL) &&
	          add_ranges(cJSON_GetObjectItemCaseSensitive(root, "memory"), m) &&
	          add_config(root, config) && sum_manifest(root, &sum) &&
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

/* Ranges follow each other in `memory`; `*at` is where this one has to begin. */
static int read_range(const cJSON *row, struct snapshot_manifest *m, uint64_t *at,
                      struct gw_error *err)
{
	const cJSON *name = cJSON_GetObjectItemCaseSensitive(row, "participant");
	struct snapshot_range *r = &m->ranges[m->range_count];

	if (m->range_count == SNAPSHOT_RANGES_MAX || !cJSON_IsString(name) ||
	    strlen(name->valuestring) >= sizeof(r->participant) ||
	    !get_number(row, "gpa", &r->gpa) || !get_number(row, "size", &r->size) ||
	    !get_number(row, "offset", &r->offset) || (r->gpa | r->size | r->offset) % PAGE_SIZE ||
	    !r->size || r->offset != *at || r->size > m->memory_size - *at)
		return error_set(err, -EBADMSG, "manifest.json: memory.ranges[%u] cannot be",
		                 m->range_count);
	strcpy(r->participant, name->valuestring);
	m->range_count++;
	*at += r->size;
	return 0;
}

static int read_ranges(const cJSON *memory, struct snapshot_manifest *m, struct gw_error *err)
{
	const cJSON *row;
	uint64_t at = 0;
	int r = 0;

	if (m->memory_size > SNAPSHOT_MEMORY_MAX)
		return error_set(err, -EFBIG,
		                 "manifest.json: memory of %llu bytes, and no machine has more "
		                 "than %llu",
		                 (unsigned long long)m->memory_size, SNAPSHOT_MEMORY_MAX);
	if (m->sums_size != DIV_ROUND_UP(m->memory_size, (uint64_t)SNAPSHOT_BLOCK) * 8)
		return error_set(err, -EBADMSG,
		                 "manifest.json: memory.sums is not as long as memory");
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(memory, "ranges"))
	{
		r = read_range(row, m, &at, err);
		if (r < 0)
			return r;
	}
	if (at != m->memory_size)
		return error_set(err, -EBADMSG,
		                 "manifest.json: memory.ranges are %llu bytes, memory is %llu",
		                 (unsigned long long)at, (unsigned long long)m->memory_size);
	return 0;
}

static int read_manifest(const cJSON *root, struct snapshot_manifest *m, struct gw_error *err)
{
	const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
	const cJSON *memory = cJSON_GetObjectItemCaseSensitive(root, "memory");
	uint64_t version, machine;

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
	return read_ranges(memory, m, err);
}

int manifest_read(int dir_fd, struct snapshot_manifest *m, struct gw_error *err)
{
	autofree char *text = NULL;
	autoclose int fd = io_open(dir_fd, "manifest.json", O_RDONLY | O_NOFOLLOW, IO_FILE, err);
	cJSON *root;
	int r;

	*m = (struct snapshot_manifest){ 0 };
	if (fd == -ENOENT)
		return error_set(err, fd, "no manifest.json: not a snapshot");
	r = fd < 0 ? fd : io_read_all(fd, "manifest.json", MANIFEST_LIMIT, &text, NULL, err);
	if (r < 0)
		return r;
	root = cJSON_Parse(text);
	if (!root)
		return error_set(err, -EBADMSG, "manifest.json: not JSON");
	r = check_manifest(root, err);
	if (!r)
		r = read_manifest(root, m, err);
	cJSON_Delete(root);
	return r;
}

/* ---- files -------------------------------------------------------------------------------- */

int snapshot_open(int dir_fd, const char *name, uint64_t size, struct gw_error *err)
{
	int fd = io_open(dir_fd, name, O_RDONLY | O_NOFOLLOW, IO_FILE, err);
	struct stat st;

	if (fd < 0)
		return fd;
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

/* ---- verifying them -------------------------------------------------------------------------
 */

static int check_cancelled(int cancel_fd, struct gw_error *err)
{
	struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };

	return poll(&cancel, 1, 0) > 0 ? error_set(err, -ECANCELED, "cancelled") : 0;
}

/* XXH3-64 of a whole file. */
static int sum_file(int fd, const char *name, int cancel_fd, uint64_t *sum, struct gw_error *err)
{
	autofree uint8_t *buf = malloc(SNAPSHOT_BLOCK);
	XXH3_state_t state;
	off_t at = 0;
	int r;

	if (!buf)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	XXH3_64bits_reset(&state);
	while (!(r = check_cancelled(cancel_fd, err))) {
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
	return r;
}

/* Headers alone are looked at, and a header's own checksum is right nowhere by chance: so a file
 * that claims to be large, and is holes, is found out before it is read. */
static int walk_frames(int fd, uint64_t size, int cancel_fd, struct gw_error *err)
{
	struct frame_header h = { 0 };
	uint8_t buf[4096];
	uint64_t begin = 0, end = 0, at = 0; /* what is in buf; where the frame begins */
	int r = 0;

	for (uint32_t n = 0; at < size && !r; n++) {
		if (size - at < FRAME_HEADER_SIZE)
			return error_set(err, -EBADMSG, "state: frame %u: it ends too early", n);
		if (at + FRAME_HEADER_SIZE > end) {
			begin = at;
			end = at + MIN(size - at, sizeof(buf));
			r = io_pread_full(fd, buf, end - begin, (off_t)begin);
			if (r < 0)
				return error_set_sys(err, r, "state: at offset %llu",
				                     (unsigned long long)at);
			r = check_cancelled(cancel_fd, err);
		}
		if (!r && (r = frame_decode(buf + (at - begin), n, &h, err)) < 0)
			error_context(err, "state");
		at += FRAME_HEADER_SIZE + h.length;
		if (!r && (at > size || (h.type == FRAME_END) != (at == size)))
			r = error_set(err, -EBADMSG, "state: frame %u (%s): %s", n,
			              frame_type_name(h.type),
			              at < size ? "there is something behind it"
			                        : "it ends too early");
	}
	return r;
}

int snapshot_verify_state(int fd, const struct snapshot_manifest *m, int cancel_fd,
                          struct gw_error *err)
{
	uint64_t sum;
	int r = walk_frames(fd, m->state_size, cancel_fd, err);

	if (!r)
		r = sum_file(fd, "state", cancel_fd, &sum, err);
	if (!r && sum != m->state_sum)
		r = error_set(err, -EBADMSG, "state: damaged (checksum mismatch)");
	return r;
}

/* Goes through `memory` and `memory.sums` side by side. */
struct blocks {
	int fd, sums_fd, cancel_fd;
	const struct snapshot_manifest *manifest;
	uint8_t *buf;
	uint64_t zero_sum;
	uint64_t data; /* there are none before, from the last block on */
	uint64_t sums[1024];
};

/* True if there is no data in [at, at + len). The search ends where data begin, and is not repeated
 * before that. */
static bool is_hole(struct blocks *b, uint64_t at, uint64_t len)
{
	if (b->data <= at) {
		const off_t data = lseek(b->fd, (off_t)at, SEEK_DATA);

		b->data = data >= 0 ? (uint64_t)data : errno == ENXIO ? UINT64_MAX : at;
	}
	return b->data >= at + len;
}

static int sum_block(struct blocks *b, uint64_t at, uint64_t *sum, struct gw_error *err)
{
	const uint64_t len = MIN(b->manifest->memory_size - at, (uint64_t)SNAPSHOT_BLOCK);
	int r;

	*sum = b->zero_sum;
	if (len == SNAPSHOT_BLOCK && is_hole(b, at, len))
		return 0;
	r = io_pread_full(b->fd, b->buf, len, (off_t)at);
	if (r < 0)
		return error_set_sys(err, r, "memory: at offset %llu", (unsigned long long)at);
	*sum = sum_of(b->buf, len);
	return check_cancelled(b->cancel_fd, err);
}

/* The block's number in the file of sums is `i`; they are read some at a time. */
static int read_sum(struct blocks *b, uint64_t i, uint64_t *sum, struct gw_error *err)
{
	const size_t slot = i % ARRAY_SIZE(b->sums);
	const uint64_t left = b->manifest->sums_size - i * sizeof(b->sums[0]);
	int r = 0;

	if (!slot)
		r = io_pread_full(b->sums_fd, b->sums, MIN(left, sizeof(b->sums)),
		                  (off_t)(i * sizeof(b->sums[0])));
	*sum = le64toh(b->sums[slot]);
	return r < 0 ? error_set_sys(err, r, "memory.sums") : 0;
}

static int verify_blocks(struct blocks *b, struct gw_error *err)
{
	for (uint64_t i = 0; i < b->manifest->sums_size / sizeof(b->sums[0]); i++) {
		const uint64_t at = i * SNAPSHOT_BLOCK;
		uint64_t want = 0, sum = 0;
		int r = read_sum(b, i, &want, err);

		if (!r)
			r = sum_block(b, at, &sum, err);
		if (r < 0)
			return r;
		if (sum != want)
			return error_set(err, -EBADMSG,
			                 "memory: block at offset %llu damaged (checksum mismatch)",
			                 (unsigned long long)at);
	}
	return 0;
}

int snapshot_verify_memory(int dir_fd, int memory_fd, const struct snapshot_manifest *m,
                           int cancel_fd, struct gw_error *err)
{
	autoclose int fd = snapshot_open(dir_fd, "memory.sums", m->sums_size, err);
	autofree uint8_t *buf = calloc(1, SNAPSHOT_BLOCK);
	struct blocks b = {
		.fd = memory_fd,
		.sums_fd = fd,
		.cancel_fd = cancel_fd,
		.manifest = m,
		.buf = buf,
	};
	uint64_t sum;
	int r;

	if (fd < 0)
		return fd;
	if (!buf)
		return error_set(err, -ENOMEM, "memory: out of memory");
	b.zero_sum = sum_of(buf, SNAPSHOT_BLOCK);
	r = sum_file(fd, "memory.sums", cancel_fd, &sum, err);
	if (!r && sum != m->sums_sum)
		r = error_set(err, -EBADMSG, "memory.sums: damaged (checksum mismatch)");
	return r ? r : verify_blocks(&b, err);
}
