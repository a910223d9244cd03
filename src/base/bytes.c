/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include "base/util.h"

#include <endian.h>
#include <string.h>

static bool make_room(struct bytes *b, size_t len)
{
	size_t room = MAX(b->room * 2, (size_t)256);
	uint8_t *data;

	if (b->failed || len > SIZE_MAX / 4 - b->len)
		return false;
	if (b->len + len <= b->room)
		return true;
	room = MAX(room, b->len + len);
	data = realloc(b->data, room);
	if (!data)
		return false;
	b->data = data;
	b->room = room;
	return true;
}

void bytes_put(struct bytes *b, const void *data, size_t len)
{
	if (!make_room(b, len)) {
		b->failed = true;
		return;
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

void bytes_put8(struct bytes *b, uint8_t value)
{
	bytes_put(b, &value, sizeof(value));
}

void bytes_put16(struct bytes *b, uint16_t value)
{
	value = htole16(value);
	bytes_put(b, &value, sizeof(value));
}

void bytes_put32(struct bytes *b, uint32_t value)
{
	value = htole32(value);
	bytes_put(b, &value, sizeof(value));
}

void bytes_put64(struct bytes *b, uint64_t value)
{
	value = htole64(value);
	bytes_put(b, &value, sizeof(value));
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ 0 };
}

const uint8_t *bytes_take_view(struct bytes_reader *r, size_t len)
{
	const uint8_t *at = r->data;

	if (r->failed || len > r->len) {
		r->failed = true;
		return NULL;
	}
	r->data += len;
	r->len -= len;
	return at;
}

void bytes_take(struct bytes_reader *r, void *out, size_t len)
{
	const uint8_t *from = bytes_take_view(r, len);

	if (from && len)
		memcpy(out, from, len);
	else
		memset(out, 0, len);
}

uint8_t bytes_take8(struct bytes_reader *r)
{
	uint8_t value;

	bytes_take(r, &value, sizeof(value));
	return value;
}

uint16_t bytes_take16(struct bytes_reader *r)
{
	uint16_t value;

	bytes_take(r, &value, sizeof(value));
	return le16toh(value);
}

uint32_t bytes_take32(struct bytes_reader *r)
{
	uint32_t value;

	bytes_take(r, &value, sizeof(value));
	return le32toh(value);
}

uint64_t bytes_take64(struct bytes_reader *r)
{
	uint64_t value;

	bytes_take(r, &value, sizeof(value));
	return le64toh(value);
}

bool bytes_all_taken(const struct bytes_reader *r)
{
	return !r->failed && !r->len;
}
