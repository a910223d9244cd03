/* SPDX-License-Identifier: Apache-2.0 */
/* A migration stream from a hostile source, up to where frames would reach participants. */
#include "base/error.h"
#include "migration/reader.h"

#include <string.h>

struct memory_input {
	struct input input;
	const uint8_t *at;
	size_t left;
};

static int read_memory(struct input *input, void *buf, size_t len, struct gw_error *err)
{
	struct memory_input *in = (struct memory_input *)input;

	if (len > in->left)
		return error_set(err, -EPIPE, "end");
	memcpy(buf, in->at, len);
	in->at += len;
	in->left -= len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer cannot guess XXH3: its bytes are a list of (type, record, participant, length,
 * payload), made into frames whose checksums are right. */
static size_t make_frames(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
	uint32_t sequence = 0;
	size_t used = 0;

	while (size >= 4 && room - used >= FRAME_HEADER_SIZE + 256) {
		struct frame_header h = {
			.type = data[0],
			.record = data[1],
			.participant = data[2] == 255 ? NO_PARTICIPANT : data[2],
			.sequence = sequence++,
			.length = data[3],
		};

		data += 4;
		size -= 4;
		if (h.length > size)
			h.length = (uint32_t)size;
		h.sum = frame_sum(data, h.length, NULL, 0);
		frame_encode(&h, out + used);
		memcpy(out + used + FRAME_HEADER_SIZE, data, h.length);
		used += FRAME_HEADER_SIZE + h.length;
		data += h.length;
		size -= h.length;
	}
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t frames[1 << 16];
	struct memory_input in = { .input.read = read_memory, .at = frames };
	struct reader reader;
	struct gw_error err;
	const char *config;
	bool run;

	if (size && data[0] == 0) { /* raw bytes, too */
		in.at = data + 1;
		in.left = size - 1;
	} else {
		in.left = make_frames(data, size, frames, sizeof(frames));
	}
	if (reader_init(&reader, &in.input, &err) < 0)
		return 0;
	if (reader_begin(&reader, &config, &err) == 0 && reader_table(&reader, &err) == 0) {
		while (reader_next(&reader, &err) == 0)
			if (reader.h.type == FRAME_END)
				reader_end(&reader, &run, &err);
	}
	reader_fini(&reader);
	return 0;
}
