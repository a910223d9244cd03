/* SPDX-License-Identifier: Apache-2.0 */
/* Writes frames: to a connection or a file, with a small buffer before it. It is a sink. */
#ifndef MIGRATION_WRITER_H
#define MIGRATION_WRITER_H

#include "migration/frame.h"
#include "migration/transport.h"
#include "vmm/participant.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the bytes go. Changes iov. */
struct output {
	int (*write)(struct output *out, struct iovec *iov, int count, struct gw_error *err);
};

/* Told of what has been sent, in frames. May be NULL each. */
struct writer_watch {
	void *opaque;
	void (*frame)(void *opaque, uint16_t type, const struct participant *p, uint64_t bytes,
	              uint64_t pages);
	/* Before each record and each frame of pages: waits for the bandwidth limit; -ECANCELED. */
	int (*throttle)(void *opaque, struct gw_error *err);
	bool (*pause_wanted)(void *opaque);
	/* The last pass over RAM begins. */
	void (*last_pass)(void *opaque, uint64_t pages);
};

struct writer {
	struct sink sink;
	struct output *output;
	const struct participant_list *participants; /* numbers are their places in the list */
	struct writer_watch watch;
	uint32_t sequence;
	uint64_t bytes;
	uint16_t pass;   /* what frames of pages say of themselves (frame.h) */
	uint8_t *buffer; /* BUFFER_SIZE: small frames wait here */
	size_t buffered;
	uint8_t *pages; /* copies of pages: the guest may write to them meanwhile */
};

int writer_init(struct writer *w, struct output *output, const struct participant_list *list,
                const struct writer_watch *watch, struct gw_error *err);
void writer_fini(struct writer *w);

/* A frame of `head` and `body` one after the other. p may be NULL. */
int writer_frame(struct writer *w, enum frame_type type, uint16_t record,
                 const struct participant *p, const void *head, size_t head_len, const void *body,
                 size_t body_len, struct gw_error *err);
int writer_flush(struct writer *w, struct gw_error *err);

/* HELLO, CONFIG and TABLE; and END. */
int writer_begin(struct writer *w, const char *config, struct gw_error *err);
int writer_end(struct writer *w, bool run, struct gw_error *err);

/* True if the page is all zeros. */
bool page_is_zero(const void *page);

/* The participants as JSON; released with free(). NULL: out of memory. */
char *table_print(const struct participant_list *list);

#endif
