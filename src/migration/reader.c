/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/reader.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

/* Of JSON in a frame. */
#define DEPTH_MAX 64

int reader_init(struct reader *r, struct input *input, struct gw_error *err)
{
	*r = (struct reader){ .input = input, .payload = malloc(FRAME_PAYLOAD_MAX + 1) };
	return r->payload ? 0 : error_set(err, -ENOMEM, "stream: out of memory");
}

void reader_fini(struct reader *r)
{
	free(r->payload);
	free(r->table);
	r->payload = NULL;
	r->table = NULL;
}

const char *reader_participant_name(const struct reader *r)
{
	return r->h.participant < r->table_count ? r->table[r->h.participant].name : "-";
}

int reader_next(struct reader *r, struct gw_error *err)
{
	uint8_t header[FRAME_HEADER_SIZE];
	int ret = r->input->read(r->input, header, sizeof(header), err);

	if (ret < 0)
		return error_context(err, "frame %u", r->sequence);
	ret = frame_decode(header, r->sequence, &r->h, err);
	if (ret < 0)
		return ret;
	if (r->h.length) {
		ret = r->input->read(r->input, r->payload, r->h.length, err);
		if (ret < 0)
			return error_context(err, "frame %u (%s, %s)", r->sequence,
			                     frame_type_name(r->h.type),
			                     reader_participant_name(r));
	}
	ret = frame_check_payload(&r->h, r->payload, err);
	if (ret < 0)
		return r->h.participant < r->table_count
		               ? error_context(err, "%s", reader_participant_name(r))
		               : ret;
	r->payload[r->h.length] = 0;
	r->sequence++;
	r->bytes += FRAME_HEADER_SIZE + r->h.length;
	return 0;
}

int reader_expect(struct reader *r, enum frame_type type, struct gw_error *err)
{
	int ret = reader_next(r, err);

	if (!ret && r->h.type != type)
		ret = error_set(err, -EPROTO, "frame %u is %s, not %s", r->h.sequence,
		                frame_type_name(r->h.type), frame_type_name(type));
	return ret;
}

/* How deep objects and arrays are nested. */
static unsigned depth_of(const char *text)
{
	unsigned depth = 0, deepest = 0;
	bool quoted = false;

	for (; *text; text++) {
		if (quoted && *text == '\\' && text[1])
			text++;
		else if (*text == '"')
			quoted = !quoted;
		else if (!quoted && (*text == '{' || *text == '[')) {
			depth++;
			deepest = MAX(deepest, depth);
		} else if (!quoted && depth && (*text == '}' || *text == ']'))
			depth--;
	}
	return deepest;
}

/* JSON text must not end early by a NUL in its middle, nor be nested so deep that it becomes
 * many times as long when it is printed. */
static int check_text(const struct reader *r, struct gw_error *err)
{
	const char *text = (const char *)r->payload;

	if (strlen(text) != r->h.length)
		return error_set(err, -EPROTO, "frame %u (%s): NUL in text", r->h.sequence,
		                 frame_type_name(r->h.type));
	if (depth_of(text) > DEPTH_MAX)
		return error_set(err, -EPROTO, "frame %u (%s): nested deeper than %d",
		                 r->h.sequence, frame_type_name(r->h.type), DEPTH_MAX);
	return 0;
}

int reader_hello(struct reader *r, struct gw_error *err)
{
	int ret = reader_expect(r, FRAME_HELLO, err);

	return ret ? ret : frame_check_hello(r->payload, r->h.length, &r->version, err);
}

int reader_config(struct reader *r, const char **config, struct gw_error *err)
{
	int ret = reader_expect(r, FRAME_CONFIG, err);

	if (!ret)
		ret = check_text(r, err);
	*config = (const char *)r->payload;
	return ret;
}

int reader_begin(struct reader *r, const char **config, struct gw_error *err)
{
	int ret = reader_hello(r, err);

	return ret ? ret : reader_config(r, config, err);
}

static bool copy_text(const cJSON *row, const char *key, char *to, size_t size)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, key);

	if (!cJSON_IsString(item) || strlen(item->valuestring) >= size)
		return false;
	strcpy(to, item->valuestring);
	return true;
}

static bool read_row(const cJSON *row, struct table_row *out)
{
	const cJSON *version = cJSON_GetObjectItemCaseSensitive(row, "version");

	if (!copy_text(row, "name", out->name, sizeof(out->name)) ||
	    !copy_text(row, "kind", out->kind, sizeof(out->kind)) || !cJSON_IsNumber(version) ||
	    version->valuedouble < 1 || version->valuedouble > 1e6)
		return false;
	out->version = (uint32_t)version->valuedouble;
	return true;
}

int reader_table(struct reader *r, struct gw_error *err)
{
	int ret = reader_expect(r, FRAME_TABLE, err);
	const cJSON *row;
	cJSON *table;
	uint32_t n = 0;

	if (!ret)
		ret = check_text(r, err);
	if (ret < 0)
		return ret;
	table = cJSON_Parse((const char *)r->payload);
	if (!cJSON_IsArray(table) || cJSON_GetArraySize(table) > READER_PARTICIPANTS_MAX) {
		cJSON_Delete(table);
		return error_set(err, -EPROTO, "frame %u (table): not a list of participants",
		                 r->h.sequence);
	}
	r->table_count = (uint32_t)cJSON_GetArraySize(table);
	r->table = calloc(r->table_count + 1, sizeof(r->table[0]));
	if (!r->table)
		ret = error_set(err, -ENOMEM, "stream: out of memory");
	cJSON_ArrayForEach(row, table)
	{
		if (ret || read_row(row, &r->table[n++]))
			continue;
		ret = error_set(err, -EPROTO, "frame %u (table): row %u is no participant",
		                r->h.sequence, n - 1);
	}
	cJSON_Delete(table);
	return ret;
}

int reader_match(struct reader *r, struct participant_list *list, struct gw_error *err)
{
	for (uint32_t i = 0; i < r->table_count; i++) {
		struct table_row *row = &r->table[i];
		const struct participant *p = row->p = participant_find(list, row->name);

		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(r->table[j].name, row->name))
				return error_set(err, -EPROTO, "%s is in the table twice",
				                 row->name);
		if (!p)
			return error_set(err, -ENOENT, "%s (%s): this machine has no such thing",
			                 row->name, row->kind);
		if (strcmp(p->ops->kind, row->kind))
			return error_set(err, -EINVAL, "%s: is %s there and %s here", row->name,
			                 row->kind, p->ops->kind);
		if (p->ops->version != row->version)
			return error_set(err, -EPROTONOSUPPORT,
			                 "%s (%s): version %u there, and %u here", row->name,
			                 row->kind, row->version, p->ops->version);
	}
	for (const struct participant *p = list->first; p; p = p->next) {
		bool found = false;

		for (uint32_t i = 0; i < r->table_count && !found; i++)
			found = r->table[i].p == p;
		if (!found)
			return error_set(err, -ENOENT, "%s (%s): its state does not come", p->name,
			                 p->ops->kind);
	}
	return 0;
}

static uint64_t u64_at(const uint8_t *payload, size_t offset)
{
	uint64_t v;

	memcpy(&v, payload + offset, sizeof(v));
	return le64toh(v);
}

static int load(const struct table_row *row, const struct frame_header *h, const uint8_t *payload,
                struct gw_error *err)
{
	struct participant *p = row->p;
	uint32_t len = h->length;

	switch (h->type) {
	case FRAME_RECORD:
		if (!p->ops->load || len > RECORD_MAX)
			break;
		return p->ops->load(p, row->version, h->record, payload, len, err);
	case FRAME_PAGES:
		if (!p->ops->load_pages || len < 8 || (len - 8) % PAGE_SIZE)
			break;
		return p->ops->load_pages(p, u64_at(payload, 0), payload + 8, (len - 8) / PAGE_SIZE,
		                          err);
	case FRAME_ZERO:
		if (!p->ops->load_pages || len != 16)
			break;
		return p->ops->load_pages(p, u64_at(payload, 0), NULL, u64_at(payload, 8), err);
	default:
		break;
	}
	return error_set(err, -EPROTO, "a frame of %u bytes that it cannot take", len);
}

uint64_t reader_pages(const struct reader *r)
{
	if (r->h.type == FRAME_PAGES)
		return (r->h.length - 8) / PAGE_SIZE;
	return r->h.type == FRAME_ZERO ? u64_at(r->payload, 8) : 0;
}

int reader_class(const struct reader *r)
{
	if (r->h.participant >= r->table_count || !r->table[r->h.participant].p)
		return -1;
	return r->table[r->h.participant].p->ops->class;
}

int reader_load(const struct reader *r, const struct frame_header *h, const uint8_t *payload,
                struct gw_error *err)
{
	const struct table_row *row = &r->table[h->participant];
	int ret = load(row, h, payload, err);

	if (ret < 0)
		error_context(err, "%s: load: frame %u (%s)", row->name, h->sequence,
		              frame_type_name(h->type));
	return ret;
}

int reader_end(const struct reader *r, bool *run, struct gw_error *err)
{
	struct frame_end end;

	if (r->h.length != sizeof(end))
		return error_set(err, -EPROTO, "frame %u (end): %u bytes", r->h.sequence,
		                 r->h.length);
	memcpy(&end, r->payload, sizeof(end));
	if (le64toh(end.frames) != r->h.sequence ||
	    le64toh(end.bytes) != r->bytes - FRAME_HEADER_SIZE - r->h.length)
		return error_set(err, -EPROTO, "frame %u (end): counts %llu frames, %llu bytes",
		                 r->h.sequence, (unsigned long long)le64toh(end.frames),
		                 (unsigned long long)le64toh(end.bytes));
	*run = le32toh(end.run) == 1;
	return 0;
}
