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
	cJSON *records; /* bytes by record type */
};

struct inspect {
	struct input input;
	struct reader reader;
	int fd;
	cJSON *root;
	struct tally *tallies; /* one a participant */
};

static int file_read(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct inspect *in = container_of(input, struct inspect, input);
	int r = io_read_full(in->fd, buf, len);

	return r < 0 ? error_set(err, r, "it ends too early") : 0;
}

static void count_record(struct tally *t, const struct frame_header *h)
{
	char type[8];
	cJSON *bytes;

	snprintf(type, sizeof(type), "%u", h->record);
	bytes = cJSON_GetObjectItemCaseSensitive(t->records, type);
	if (bytes)
		cJSON_SetNumberValue(bytes, bytes->valuedouble + h->length);
	else
		cJSON_AddNumberToObject(t->records, type, h->length);
}

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
	if (h->type == FRAME_RECORD)
		count_record(t, h);
	if (h->type == FRAME_PAGES)
		t->pages += h->length / PAGE_SIZE;
	if (h->type == FRAME_ZERO && h->length == 16) {
		memcpy(&count, in->reader.payload + 8, sizeof(count));
		t->zero_pages += le64toh(count);
	}
	return 0;
}

static int read_frames(struct inspect *in, struct gw_error *err)
{
	const char *config;
	int r = reader_begin(&in->reader, &config, err);

	if (r < 0)
		return r;
	cJSON_AddItemToObject(in->root, "config", cJSON_Parse(config));
	r = reader_table(&in->reader, err);
	if (r < 0)
		return r;
	in->tallies = calloc(in->reader.table_count + 1, sizeof(in->tallies[0]));
	if (!in->tallies)
		return error_set(err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < in->reader.table_count; i++)
		in->tallies[i].records = cJSON_CreateObject();
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

static void describe_participants(struct inspect *in)
{
	cJSON *list = cJSON_AddArrayToObject(in->root, "participants");

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
		cJSON_AddItemToObject(item, "record-bytes", t->records);
		cJSON_AddItemToArray(list, item);
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
		cJSON_AddItemToArray(ranges, row);
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
		keep_first(&first, snapshot_verify_memory(dir_fd, memory_fd, &m, &found), &found,
		           err);
	in->fd = snapshot_open(dir_fd, "state", m.state_size, &found);
	keep_first(&first, in->fd, &found, err);
	if (in->fd < 0)
		return first;
	keep_first(&first, snapshot_verify_state(in->fd, &m, &found), &found, err);
	r = inspect_stream(in, &found);
	if (r < 0)
		error_context(&found, "state");
	keep_first(&first, r, &found, err);
	return first;
}

int inspect_path(const char *path, char **json, struct gw_error *err)
{
	struct inspect in = { .input.read = file_read, .fd = -1, .root = cJSON_CreateObject() };
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct gw_error own = { 0 };
	struct stat st;
	int r = 0;

	*json = NULL;
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = error_set_sys(&own, -errno, "open");
	} else if (S_ISDIR(st.st_mode)) {
		r = inspect_snapshot(&in, fd, &own);
		if (in.fd >= 0)
			close(in.fd);
	} else {
		in.fd = fd;
		cJSON_AddStringToObject(in.root, "format", "stream");
		r = inspect_stream(&in, &own);
	}
	cJSON_AddBoolToObject(in.root, "whole", r == 0);
	*json = cJSON_Print(in.root);
	cJSON_Delete(in.root);
	if (!*json)
		r = error_set(&own, -ENOMEM, "out of memory");
	if (r < 0 && err)
		*err = own;
	return r < 0 ? error_context(err, "%s", path) : 0;
}
