/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/frame.h"

#include "base/util.h"

#include <elf.h>
#include <endian.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t frame_sum(const void *head, size_t head_len, const void *body, size_t body_len)
{
	XXH3_state_t state;

	if (!body_len)
		return XXH3_64bits(head, head_len);
	if (!head_len)
		return XXH3_64bits(body, body_len);
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, head, head_len);
	XXH3_64bits_update(&state, body, body_len);
	return XXH3_64bits_digest(&state);
}

static void put16(uint8_t *to, uint16_t v)
{
	v = htole16(v);
	memcpy(to, &v, sizeof(v));
}

static void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof(v));
}

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof(v));
}

static uint16_t get16(const uint8_t *from)
{
	uint16_t v;

	memcpy(&v, from, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return le64toh(v);
}

void frame_encode(const struct frame_header *h, uint8_t out[FRAME_HEADER_SIZE])
{
	put32(out, FRAME_MAGIC);
	put16(out + 4, h->type);
	put16(out + 6, h->record);
	put32(out + 8, h->participant);
	put32(out + 12, h->sequence);
	put64(out + 16, h->sum);
	put32(out + 24, h->length);
	put32(out + 28, (uint32_t)XXH3_64bits(out, 28));
}

int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], uint32_t sequence, struct frame_header *h,
                 struct gw_error *err)
{
	if (get32(in) != FRAME_MAGIC || get32(in + 28) != (uint32_t)XXH3_64bits(in, 28))
		return error_set(err, -EBADMSG, "frame %u: header damaged (checksum mismatch)",
		                 sequence);
	*h = (struct frame_header){
		.type = get16(in + 4),
		.record = get16(in + 6),
		.participant = get32(in + 8),
		.sequence = get32(in + 12),
		.sum = get64(in + 16),
		.length = get32(in + 24),
	};
	if (h->sequence != sequence)
		return error_set(err, -EPROTO, "frame %u: its number is %u", sequence, h->sequence);
	if (!h->type || h->type >= FRAME_TYPES || h->length > FRAME_PAYLOAD_MAX)
		return error_set(err, -EPROTO, "frame %u: type %u, %u bytes: no such frame",
		                 sequence, h->type, h->length);
	return 0;
}

int frame_check_payload(const struct frame_header *h, const void *payload, struct gw_error *err)
{
	if (frame_sum(payload, h->length, NULL, 0) == h->sum)
		return 0;
	return error_set(err, -EBADMSG, "frame %u (%s): payload damaged (checksum mismatch)",
	                 h->sequence, frame_type_name(h->type));
}

const char *frame_type_name(unsigned type)
{
	static const char *const names[FRAME_TYPES] = {
		[FRAME_HELLO] = "hello", [FRAME_CONFIG] = "config",
		[FRAME_TABLE] = "table", [FRAME_RECORD] = "record",
		[FRAME_PAGES] = "pages", [FRAME_ZERO] = "zero",
		[FRAME_END] = "end",     [FRAME_GO] = "go",
		[FRAME_READY] = "ready", [FRAME_RUNNING] = "running",
		[FRAME_ERROR] = "error", [FRAME_ACCEPTED] = "accepted",
		[FRAME_MARK] = "mark",   [FRAME_ACK] = "ack",
	};

	return type < FRAME_TYPES && names[type] ? names[type] : "?";
}

uint32_t frame_machine(void)
{
	return HOST_ELF_MACHINE;
}

const char *frame_machine_name(uint32_t machine)
{
	return machine == EM_X86_64 ? "x86-64" : machine == EM_AARCH64 ? "arm64" : "unknown";
}

struct frame_hello frame_hello(void)
{
	struct frame_hello hello = {
		.version = htole32(STREAM_VERSION),
		.machine = htole32(frame_machine()),
	};

	memcpy(hello.magic, STREAM_MAGIC, sizeof(hello.magic));
	return hello;
}

int frame_check_hello(const void *payload, size_t len, uint32_t *version, struct gw_error *err)
{
	struct frame_hello hello;

	if (len != sizeof(hello))
		return error_set(err, -EPROTO, "hello: %zu bytes", len);
	memcpy(&hello, payload, sizeof(hello));
	if (memcmp(hello.magic, STREAM_MAGIC, sizeof(hello.magic)))
		return error_set(err, -EPROTO, "hello: not a godwit stream");
	*version = le32toh(hello.version);
	if (*version < STREAM_VERSION_OLDEST || *version > STREAM_VERSION)
		return error_set(err, -EPROTONOSUPPORT, "hello: stream version %u, not %u",
		                 *version, STREAM_VERSION);
	if (le32toh(hello.machine) != frame_machine())
		return error_set(err, -ENOEXEC, "hello: a guest for %s (%u), and this is %s",
		                 frame_machine_name(le32toh(hello.machine)), le32toh(hello.machine),
		                 frame_machine_name(frame_machine()));
	return 0;
}
