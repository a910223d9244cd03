/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads frames and checks them: nothing is handed on whose checksum has not
 * been verified. What is wrong is named by frame, type and participant.
 */
#ifndef MIGRATION_READER_H
#define MIGRATION_READER_H

#include "migration/frame.h"
#include "vmm/participant.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the bytes come from: exactly len of them. -ENODATA: the end, at a frame's border. */
struct input {
	int (*read)(struct input *in, void *buf, size_t len, struct gw_error *err);
};

#define READER_PARTICIPANTS_MAX 1024

/* A row of the TABLE. */
struct table_row {
	char name[40];
	char kind[24];
	uint32_t version;
	struct participant *p; /* this machine's; NULL before reader_match */
};

struct reader {
	struct input *input;
	uint32_t sequence;
	uint64_t bytes;
	struct frame_header h; /* of the frame read last */
	uint8_t *payload;      /* FRAME_PAYLOAD_MAX + 1, a NUL behind what was read */
	struct table_row *table;
	uint32_t table_count;
	uint32_t version; /* of the stream, from its HELLO */
};

int reader_init(struct reader *r, struct input *input, struct gw_error *err);
void reader_fini(struct reader *r);

/* The next frame into h and payload. */
int reader_next(struct reader *r, struct gw_error *err);
/* The next frame, which must be of this type. */
int reader_expect(struct reader *r, enum frame_type type, struct gw_error *err);

int reader_hello(struct reader *r, struct gw_error *err);
int reader_config(struct reader *r, const char **config, struct gw_error *err);
/* HELLO and CONFIG; *config is the reader's payload (valid until the next frame). */
int reader_begin(struct reader *r, const char **config, struct gw_error *err);
/* TABLE, parsed. */
int reader_table(struct reader *r, struct gw_error *err);
/* Finds this machine's participant for each row, and a row for each participant. */
int reader_match(struct reader *r, struct participant_list *list, struct gw_error *err);

/* Hands a RECORD, PAGES or ZERO frame, verified, of a participant in the table to that. Any
 * thread; the table stands. */
int reader_load(const struct reader *r, const struct frame_header *h, const uint8_t *payload,
                struct gw_error *err);
/* Checks the END frame in hand; *run: the guest ran. */
int reader_end(const struct reader *r, bool *run, struct gw_error *err);

/* Pages in the PAGES or ZERO frame in hand, which has been loaded; 0: it is another. */
uint64_t reader_pages(const struct reader *r);
/* The class of the frame's participant (enum participant_class); -1 where it has none. */
int reader_class(const struct reader *r);
/* "ram": the name of the frame's participant; "-" where it has none. */
const char *reader_participant_name(const struct reader *r);

#endif
