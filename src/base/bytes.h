/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State as bytes: little-endian numbers put one after the other, and taken
 * back with every length checked. Both remember a failure, so that a caller
 * looks once, at the end.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: empty. */
struct bytes {
	uint8_t *data;
	size_t len, room;
	bool failed; /* out of memory */
};

void bytes_put(struct bytes *b, const void *data, size_t len);
void bytes_put8(struct bytes *b, uint8_t value);
void bytes_put16(struct bytes *b, uint16_t value);
void bytes_put32(struct bytes *b, uint32_t value);
void bytes_put64(struct bytes *b, uint64_t value);
void bytes_free(struct bytes *b);

struct bytes_reader {
	const uint8_t *data;
	size_t len;
	bool failed; /* something was taken that is not there; it read as zeros */
};

void bytes_take(struct bytes_reader *r, void *out, size_t len);
uint8_t bytes_take8(struct bytes_reader *r);
uint16_t bytes_take16(struct bytes_reader *r);
uint32_t bytes_take32(struct bytes_reader *r);
uint64_t bytes_take64(struct bytes_reader *r);
/* Where the next `len` bytes are, which are then taken; NULL if there are not so many. */
const uint8_t *bytes_take_view(struct bytes_reader *r, size_t len);
/* Everything was there, and nothing is left. */
bool bytes_all_taken(const struct bytes_reader *r);

#endif
