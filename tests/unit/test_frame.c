/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "migration/frame.h"
#include "migration/writer.h"

#include <elf.h>
#include <endian.h>
#include <string.h>

static const struct frame_header sample = {
	.type = FRAME_RECORD,
	.record = 0x1234,
	.participant = 7,
	.sequence = 0x01020304,
	.length = 5,
	.sum = 0x1122334455667788,
};

Test(frame, header_is_as_documented)
{
	static const uint8_t want[28] = {
		'G', 'W', 'F',  '1',  4,    0,    0x34, 0x12, 7,    0,    0, 0, 4, 3,
		2,   1,   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 5, 0, 0, 0,
	};
	uint8_t out[FRAME_HEADER_SIZE];
	uint32_t sum;

	frame_encode(&sample, out);
	cr_assert_arr_eq(out, want, sizeof(want));
	memcpy(&sum, out + 28, 4);
	cr_assert_eq(le32toh(sum), (uint32_t)frame_sum(want, sizeof(want), NULL, 0));
}

Test(frame, what_is_encoded_is_decoded)
{
	uint8_t out[FRAME_HEADER_SIZE];
	struct frame_header h;

	frame_encode(&sample, out);
	cr_assert_eq(frame_decode(out, sample.sequence, &h, NULL), 0);
	cr_assert_eq(h.type, sample.type);
	cr_assert_eq(h.record, sample.record);
	cr_assert_eq(h.participant, sample.participant);
	cr_assert_eq(h.sequence, sample.sequence);
	cr_assert_eq(h.length, sample.length);
	cr_assert_eq(h.sum, sample.sum);
}

Test(frame, every_flipped_header_bit_is_caught)
{
	for (unsigned bit = 0; bit < FRAME_HEADER_SIZE * 8; bit++) {
		uint8_t out[FRAME_HEADER_SIZE];
		struct frame_header h;
		struct gw_error err;

		frame_encode(&sample, out);
		out[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		cr_assert_eq(frame_decode(out, sample.sequence, &h, &err), -EBADMSG, "bit %u", bit);
		cr_assert(strstr(err.text, "frame 16909060"), "%s", err.text);
	}
}

Test(frame, every_flipped_payload_bit_is_caught)
{
	uint8_t payload[200];
	struct frame_header h = sample;
	struct gw_error err;

	memset(payload, 0x5a, sizeof(payload));
	h.length = sizeof(payload);
	h.sum = frame_sum(payload, sizeof(payload), NULL, 0);
	cr_assert_eq(frame_check_payload(&h, payload, &err), 0);
	for (unsigned bit = 0; bit < sizeof(payload) * 8; bit++) {
		payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		cr_assert_eq(frame_check_payload(&h, payload, &err), -EBADMSG, "bit %u", bit);
		cr_assert(strstr(err.text, "(record)"), "%s", err.text);
		payload[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
}

Test(frame, whole_but_impossible_headers_are_refused)
{
	const struct {
		struct frame_header h;
		uint32_t sequence;
	} rows[] = {
		{ { .type = 0, .sequence = 3 }, 3 },
		{ { .type = FRAME_TYPES, .sequence = 3 }, 3 },
		{ { .type = 0xffff, .sequence = 3 }, 3 },
		{ { .type = FRAME_RECORD, .sequence = 3, .length = FRAME_PAYLOAD_MAX + 1 }, 3 },
		{ { .type = FRAME_RECORD, .sequence = 3, .length = UINT32_MAX }, 3 },
		{ { .type = FRAME_RECORD, .sequence = 3 }, 2 },
		{ { .type = FRAME_RECORD, .sequence = 3 }, 4 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t out[FRAME_HEADER_SIZE];
		struct frame_header h;

		frame_encode(&rows[i].h, out);
		cr_assert_eq(frame_decode(out, rows[i].sequence, &h, NULL), -EPROTO, "row %zu", i);
	}
}

Test(frame, sum_of_two_pieces_is_that_of_the_whole)
{
	uint8_t buf[5000];

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * i);
	for (size_t cut = 0; cut <= sizeof(buf); cut += 50)
		cr_assert_eq(frame_sum(buf, cut, buf + cut, sizeof(buf) - cut),
		             frame_sum(buf, sizeof(buf), NULL, 0));
}

Test(frame, hello_of_another_kind_is_named)
{
	struct frame_hello hello = { .version = htole32(STREAM_VERSION),
		                     .machine = htole32(frame_machine()) };
	struct frame_hello bad;
	struct gw_error err;
	uint32_t version;

	memcpy(hello.magic, STREAM_MAGIC, 8);
	cr_assert_eq(frame_check_hello(&hello, sizeof(hello), &version, &err), 0);
	cr_assert_eq(frame_check_hello(&hello, sizeof(hello) - 1, &version, &err), -EPROTO);
	cr_assert_eq(version, STREAM_VERSION);
	bad = hello;
	bad.version = htole32(STREAM_VERSION_OLDEST);
	cr_assert_eq(frame_check_hello(&bad, sizeof(bad), &version, &err), 0);
	cr_assert_eq(version, STREAM_VERSION_OLDEST);
	bad.version = htole32(STREAM_VERSION_OLDEST - 1);
	cr_assert_eq(frame_check_hello(&bad, sizeof(bad), &version, &err), -EPROTONOSUPPORT);
	bad = hello;
	bad.magic[7] ^= 1;
	cr_assert_eq(frame_check_hello(&bad, sizeof(bad), &version, &err), -EPROTO);
	bad = hello;
	bad.version = htole32(STREAM_VERSION + 1);
	cr_assert_eq(frame_check_hello(&bad, sizeof(bad), &version, &err), -EPROTONOSUPPORT);
	bad = hello;
	bad.machine = htole32(frame_machine() ^ 1);
	cr_assert_eq(frame_check_hello(&bad, sizeof(bad), &version, &err), -ENOEXEC);
	cr_assert(strstr(err.text, "unknown"), "%s", err.text);
}

Test(frame, hello_of_another_architecture_is_named)
{
	const bool x86 = frame_machine() == EM_X86_64;
	struct frame_hello hello = frame_hello();
	struct gw_error err;
	uint32_t version;

	cr_assert(x86 || frame_machine() == EM_AARCH64);
	hello.machine = htole32(x86 ? EM_AARCH64 : EM_X86_64);
	cr_assert_eq(frame_check_hello(&hello, sizeof(hello), &version, &err), -ENOEXEC);
	cr_assert_str_eq(err.text, x86 ? "hello: a guest for arm64 (183), and this is x86-64"
	                               : "hello: a guest for x86-64 (62), and this is arm64");
}

Test(frame, every_type_has_a_name)
{
	for (unsigned type = 1; type < FRAME_TYPES; type++)
		cr_assert_str_neq(frame_type_name(type), "?");
	cr_assert_str_eq(frame_type_name(0), "?");
	cr_assert_str_eq(frame_type_name(FRAME_TYPES), "?");
}

Test(frame, one_byte_makes_a_page_not_zero)
{
	static uint64_t page[512];

	cr_assert(page_is_zero(page));
	for (unsigned i = 0; i < sizeof(page); i++) {
		((uint8_t *)page)[i] = 0x80;
		cr_assert_not(page_is_zero(page), "byte %u", i);
		((uint8_t *)page)[i] = 0;
	}
}
