/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame: what a stream and a snapshot's state file are made of. A header
 * of 32 bytes, little-endian, then the payload (docs/stream.md):
 *
 *     0  u32  magic
 *     4  u16  type
 *     6  u16  RECORD: record type; PAGES, ZERO: FRAME_PASS_*; else 0
 *     8  u32  participant's number in the TABLE (NO_PARTICIPANT where none)
 *    12  u32  sequence number, from 0
 *    16  u64  XXH3-64 of the payload
 *    24  u32  length of the payload
 *    28  u32  low half of XXH3-64 of the 28 bytes before
 *
 * The header has a checksum of its own, so that a damaged length is noticed
 * before anybody waits for that many bytes.
 */
#ifndef MIGRATION_FRAME_H
#define MIGRATION_FRAME_H

#include "base/error.h"
#include "vmm/participant.h"

#include <stddef.h>
#include <stdint.h>

#define FRAME_MAGIC 0x31465747u /* "GWF1" */
#define FRAME_HEADER_SIZE 32
#define FRAME_PAYLOAD_MAX (RECORD_MAX + 64)
#define NO_PARTICIPANT 0xffffffffu
/* Of pages on a connection, for those who watch: the number of the pass, from 1, which stays at the
 * largest; and whether the guest is stopped. 0: not told. */
#define FRAME_PASS_MAX 0x7fffu
#define FRAME_PASS_STOPPED 0x8000u
#define STREAM_VERSION 2
/* Files of this version can still be read; a connection needs both sides to be of one. */
#define STREAM_VERSION_OLDEST 1
#define STREAM_MAGIC "GODWITST"

enum frame_type {
	FRAME_HELLO = 1, /* struct frame_hello */
	FRAME_CONFIG,    /* the machine's configuration, JSON */
	FRAME_TABLE,     /* the participants, JSON */
	FRAME_RECORD,    /* a participant's record */
	FRAME_PAGES,     /* u64 gpa, then whole pages */
	FRAME_ZERO,      /* u64 gpa, u64 count: pages of zeros */
	FRAME_END,       /* struct frame_end: nothing follows but GO */
	FRAME_GO,        /* source: run the guest */
	FRAME_READY,     /* destination: all is loaded and checked */
	FRAME_RUNNING,   /* destination: the guest runs */
	FRAME_ERROR,     /* destination: text */
	FRAME_ACCEPTED,  /* destination: the machine is made, and the TABLE fits it */
	FRAME_MARK,      /* source: all initial data of the participant have been sent */
	FRAME_ACK,       /* destination: u32 participant: they have been loaded */
	FRAME_TYPES
};

struct frame_hello {
	char magic[8];
	uint32_t version;
	uint32_t machine; /* ELF's number of the architecture: 62 x86-64, 183 arm64 */
};

struct frame_end {
	uint64_t frames; /* before this one */
	uint64_t bytes;  /* before this one, with headers */
	uint32_t run;    /* 1: the guest ran; 0: it arrives paused */
	uint32_t reserved;
};

struct frame_header {
	uint16_t type;
	uint16_t record;
	uint32_t participant;
	uint32_t sequence;
	uint32_t length;
	uint64_t sum;
};

/* XXH3-64 of two pieces, one after the other. */
uint64_t frame_sum(const void *head, size_t head_len, const void *body, size_t body_len);

void frame_encode(const struct frame_header *h, uint8_t out[FRAME_HEADER_SIZE]);
/* -EBADMSG: damaged; -EPROTO: whole, but its number is not `sequence`, or its length or type
 * cannot be. The text names the frame by `sequence`. */
int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], uint32_t sequence, struct frame_header *h,
                 struct gw_error *err);
/* -EBADMSG: the payload is not what the header's checksum says. */
int frame_check_payload(const struct frame_header *h, const void *payload, struct gw_error *err);

/* "pages", "record", ...; "?" for a number that is none. */
const char *frame_type_name(unsigned type);

/* The architecture that this library was built for, as struct frame_hello has it. */
uint32_t frame_machine(void);
const char *frame_machine_name(uint32_t machine);
struct frame_hello frame_hello(void);
/* Checks a HELLO: format, version (into *version), architecture. */
int frame_check_hello(const void *payload, size_t len, uint32_t *version, struct gw_error *err);

#endif
