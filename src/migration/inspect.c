/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/inspect.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "migration/reader.h"
#include "migration/snapshot.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct tally {
	uint64_t frames, bytes, pages, zero_pages;
};

/* Bytes of the records of one type of one participant. */
struct record_tally {
	uint64_t key; /* the participant's number, then the type */
	uint64_t bytes;
};

struct inspect {
	struct input input;
	struct reader reader;
	int fd;
	cJSON *root;
	struct tally *tallies;        /* one a participant */
	struct record_tally *records; /* ordered and merged only up to where they last were full */
	size_t record_count, record_room;
};

static int file_read(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct inspect *in = container_of(input, struct inspect, input);
	int r = io_read_full(in->fd, buf, len);

	return r < 0 ? error_set(err, r, "it ends too early") : 0;
}

/* ---- records by type ---------------------------------------------------------------------
 */

#define KEY_BITS 48

/* By one byte of the key after the other, the lowest first: in time that grows as the rows do.
 * Behind the rows there is as much room again, for every second time; after an even number they are
 * back. */
static void sort_by_key(struct record_tally *rows, struct record_tally *scratch, size_t count)
{
	for (unsigned shift = 0; shift < KEY_BITS; shift += 8) {
		struct record_tally *from = shift % 16 ? scratch : rows;
		struct record_tally *to = shift % 16 ? rows : scratch;
		size_t begin[257] = { 0 };

		for (size_t i = 0; i < count; i++)
			begin[(from[i].key >> shift & 0xff) + 1]++;
		for (unsigned i = 1; i < 256; i++)
			begin[i] += begin[i - 1];
		for (size_t i = 0; i < count; i++)
			to[begin[from[i].key >> shift & 0xff]++] = from[i];
	}
}

/* One row a key is left. */
static void merge_records(struct inspect *in)
{
	struct record_tally *rows = in->records;
	size_t count = 0;

	if (!in->record_count)
		return;
	sort_by_key(rows, rows + in->record_room, in->record_count);
	for (size_t i = 1; i < in->record_count; i++) {
		if (rows[i].key == rows[count].key)
			rows[count].bytes += rows[i].bytes;
		else
			rows[++count] = rows[i];
	}
	in->record_count = count + 1;
}

/* Rows are appended as records come, and merged when there is no room: so neither time nor memory
 * depends on how many types there are, and how they are mixed. */
static int make_room(struct inspect *in, struct gw_error *err)
{
	const size_t room = in->record_room ? in->record_room * 2 : 256;
	struct record_tally *more;

	if (in->record_count < in->record_room)
		return 0;
	merge_records(in);
	if (in->record_count < in->record_room / 2)
		return 0;
	more = realloc(in->records, 2 * room * sizeof(*more));
	if (!more)
		return error_set(err, -ENOMEM, "out of memory");
	in->records = more;
	in->record_room = room;
	return 0;
}

static int count_record(struct inspect *in, const struct frame_header *h, struct gw_error *err)
{
	const uint64_t key = (uint64_t)h->participant << 16 | h->record;
	struct record_tally *last = in->record_count ? &in->records[in->record_count - 1] : NULL;
	int r = 0;

	if (last && last->key == key) {
		last->bytes += h->length;
		return 0;
	}
	r = make_room(in, err);
	if (!r)
		in->records[in->record_count++] = (struct record_tally){ key, h->length };
	return r;
}

/* ---- reading the frames ------------------------------------------------------------------ */

static int count_frame(struct inspect *in, struct gw_error *err)
{
	const struct frame_header *h = &in->reader.h;
	struct tally *t;
	uint64_t count;

	if (h->type != FRAME_RECORD && h->type != FRAME_PAGES && h->type != FRAME_ZERO)
		return error_set(err, -EPROTO, "frame %u (%s) is out of place", h->sequence,
		                 frame_type_name(h->type));
	if (h->participant >= in->reader.table_count)
		return error_set(err, -EPROTO, "frame %u (%s): there is no participant %u",
		                 h->sequence, frame_type_name(h->type), h->participant);
	t = &in->tallies[h->participant];
	t->frames++;
	t->bytes += h->length;
	if (h->type == FRAME_PAGES)
		t->pages += h->length / PAGE_SIZE;
	if (h->type == FRAME_ZERO && h->length == 16) {
		memcpy(&count, in->reader.payload + 8, sizeof(count));
		t->zero_pages += le64toh(count);
	}
	return h->type == FRAME_RECORD ? count_record(in, h, err) : 0;
}

static void add_parsed(cJSON *to, const char *name, const char *text)
{
	cJSON *item = cJSON_Parse(text);

	if (!cJSON_AddItemToObject(to, name, item))
		cJSON_Delete(item);
}

static int read_frames(struct inspect *in, struct gw_error *err)
{
	const char *config;
	int r = reader_begin(&in->reader, &config, err);

	if (r < 0)
		return r;
	add_parsed(in->root, "config", config);
	r = reader_table(&in->reader, err);
	if (r < 0)
		return r;
	in->tallies = calloc(in->reader.table_count + 1, sizeof(in->tallies[0]));
	if (!in->tallies)
		return error_set(err, -ENOMEM, "out of memory");
	for (;;) {
		bool run;

		r = reader_next(&in->reader, err);
		if (!r && in->reader.h.type != FRAME_END)
			r = count_frame(in, err);
		else if (!r) {
			r = reader_end(&in->reader, &run, err);
			if (!r)
				cJSON_AddBoolToObject(in->root, "was-running", run);
			return r;
		}
		if (r < 0)
			return r;
	}
}

/* The rows of participant `i`, which begin at *next, as "type": bytes. */
static void describe_records(const struct inspect *in, uint32_t i, size_t *next, cJSON *item)
{
	cJSON *to = cJSON_AddObjectToObject(item, "record-bytes");
	char type[8];

	for (; *next < in->record_count && in->records[*next].key >> 16 == i; (*next)++) {
		snprintf(type, sizeof(type), "%u", (unsigned)(in->records[*next].key & 0xffff));
		cJSON_AddNumberToObject(to, type, (double)in->records[*next].bytes);
	}
}

static void describe_participants(struct inspect *in)
{
	cJSON *list = cJSON_AddArrayToObject(in->root, "participants");
	size_t next = 0;

	merge_records(in);
	for (uint32_t i = 0; i < in->reader.table_count && in->tallies; i++) {
		const struct table_row *row = &in->reader.table[i];
		const struct tally *t = &in->tallies[i];
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "name", row->name);
		cJSON_AddStringToObject(item, "kind", row->kind);
		cJSON_AddNumberToObject(item, "version", row->version);
		cJSON_AddNumberToObject(item, "frames", (double)t->frames);
		cJSON_AddNumberToObject(item, "bytes", (double)t->bytes);
		if (t->pages || t->zero_pages) {
			cJSON_AddNumberToObject(item, "pages", (double)t->pages);
			cJSON_AddNumberToObject(item, "zero-pages", (double)t->zero_pages);
		}
		describe_records(in, i, &next, item);
		if (!cJSON_AddItemToArray(list, item))
			cJSON_Delete(item);
	}
}

static int inspect_stream(struct inspect *in, struct gw_error *err)
{
	int r = reader_init(&in->reader, &in->input, err);

	if (!r)
		r = read_frames(in, err);
	describe_participants(in);
	cJSON_AddNumberToObject(in->root, "frames", in->reader.sequence);
	cJSON_AddNumberToObject(in->root, "bytes", (double)in->reader.bytes);
	reader_fini(&in->reader);
	free(in->tallies);
	free(in->records);
	return r;
}

static void describe_memory(struct inspect *in, const struct snapshot_manifest *m, int fd)
{
	cJSON *memory = cJSON_AddObjectToObject(in->root, "memory");
	cJSON *ranges = cJSON_AddArrayToObject(memory, "ranges");
	struct stat st;

	cJSON_AddNumberToObject(memory, "size", (double)m->memory_size);
	if (fd >= 0 && fstat(fd, &st) == 0)
		cJSON_AddNumberToObject(memory, "on-disk", (double)st.st_blocks * 512);
	for (unsigned i = 0; i < m->range_count; i++) {
		cJSON *row = cJSON_CreateObject();

		cJSON_AddStringToObject(row, "participant", m->ranges[i].participant);
		cJSON_AddNumberToObject(row, "gpa", (double)m->ranges[i].gpa);
		cJSON_AddNumberToObject(row, "size", (double)m->ranges[i].size);
		cJSON_AddNumberToObject(row, "offset", (double)m->ranges[i].offset);
		if (!cJSON_AddItemToArray(ranges, row))
			cJSON_Delete(row);
	}
}

/* The first failure counts; the rest is looked at all the same. */
static void keep_first(int *first, int r, const struct gw_error *found, struct gw_error *err)
{
	if (r >= 0 || *first < 0)
		return;
	*first = r;
	*err = *found;
}

static int inspect_snapshot(struct inspect *in, int dir_fd, struct gw_error *err)
{
	struct snapshot_manifest m;
	struct gw_error found;
	autoclose int memory_fd = -1;
	int r = manifest_read(dir_fd, &m, err), first = 0;

	cJSON_AddStringToObject(in->root, "format", "snapshot");
	if (r < 0)
		return r;
	cJSON_AddStringToObject(in->root, "architecture", frame_machine_name(m.machine));
	memory_fd = snapshot_open(dir_fd, "memory", m.memory_size, &found);
	keep_first(&first, memory_fd, &found, err);
	describe_memory(in, &m, memory_fd);
	if (memory_fd >= 0)
		keep_first(&first, snapshot_verify_memory(dir_fd, memory_fd, &m, -1, &found),
		           &found, err);
	in->fd = snapshot_open(dir_fd, "state", m.state_size, &found);
	keep_first(&first, in->fd, &found, err);
	if (in->fd < 0)
		return first;
	keep_first(&first, snapshot_verify_state(in->fd, &m, -1, &found), &found, err);
	r = inspect_stream(in, &found);
	if (r < 0)
		error_context(&found, "state");
	keep_first(&first, r, &found, err);
	return first;
}

/* A directory is a snapshot, a file a stream. */
static int inspect_open(struct inspect *in, int fd, struct gw_error *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set_sys(err, -errno, "fstat");
	if (S_ISDIR(st.st_mode)) {
		r = inspect_snapshot(in, fd, err);
		if (in->fd >= 0)
			close(in->fd);
		return r;
	}
	in->fd = fd;
	cJSON_AddStringToObject(in->root, "format", "stream");
	return inspect_stream(in, err);
}

int inspect_path(const char *path, char **json, struct gw_error *err)
{
	struct inspect in = { .input.read = file_read, .fd = -1, .root = cJSON_CreateObject() };
	struct gw_error own = { 0 };
	autoclose int fd = io_open(AT_FDCWD, path, O_RDONLY, IO_FILE | IO_DIRECTORY, &own);
	int r = fd;

	if (fd >= 0) {
		r = inspect_open(&in, fd, &own);
		if (r < 0)
			error_context(&own, "%s", path);
	}
	cJSON_AddBoolToObject(in.root, "whole", r == 0);
	*json = cJSON_Print(in.root);
	cJSON_Delete(in.root);
	if (!*json)
		r = error_set(&own, -ENOMEM, "%s: out of memory", path);
	if (r < 0 && err)
		*err = own;
	return r;
}
