/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vfio-user protocol's messages, as client and server share them: a header
 * of 16 bytes in the host's byte order, then the command's own struct, which
 * is the kernel's where there is one. Descriptors travel as SCM_RIGHTS.
 * Source: the vfio-user protocol specification, version 0.9.2;
 * <linux/vfio.h>.
 */
#ifndef VFIO_USER_WIRE_H
#define VFIO_USER_WIRE_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum wire_command {
	WIRE_VERSION = 1,
	WIRE_DMA_MAP = 2,
	WIRE_DMA_UNMAP = 3,
	WIRE_DEVICE_GET_INFO = 4,
	WIRE_DEVICE_GET_REGION_INFO = 5,
	WIRE_DEVICE_GET_REGION_IO_FDS = 6,
	WIRE_DEVICE_GET_IRQ_INFO = 7,
	WIRE_DEVICE_SET_IRQS = 8,
	WIRE_REGION_READ = 9,
	WIRE_REGION_WRITE = 10,
	WIRE_DMA_READ = 11,  /* server to client */
	WIRE_DMA_WRITE = 12, /* server to client */
	WIRE_DEVICE_RESET = 13,
	WIRE_REGION_WRITE_MULTI = 15,
	WIRE_DEVICE_FEATURE = 16,
	WIRE_MIG_DATA_READ = 17,
	WIRE_MIG_DATA_WRITE = 18,
	WIRE_COMMANDS
};

#define WIRE_TYPE_MASK 0xfu /* of flags */
#define WIRE_TYPE_COMMAND 0u
#define WIRE_TYPE_REPLY 1u
#define WIRE_NO_REPLY (1u << 4)
#define WIRE_ERROR (1u << 5)

struct wire_header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* with this header */
	uint32_t flags;
	uint32_t error; /* errno, with WIRE_ERROR */
};

/* Followed by JSON text with its NUL. */
struct wire_version {
	uint16_t major, minor;
};
#define WIRE_MAJOR 0
#define WIRE_MINOR 1

#define WIRE_DMA_FLAG_READ 1u
#define WIRE_DMA_FLAG_WRITE 2u
struct wire_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

struct wire_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

/* Read and write; with the data behind it where there are any. */
struct wire_region_access {
	uint64_t offset;
	uint32_t region, count;
};

struct wire_dma_access {
	uint64_t address, count;
};

struct wire_mig_data {
	uint32_t argsz, size;
};

/* One of the writes of WIRE_REGION_WRITE_MULTI, behind a u64 that counts them. */
struct wire_write {
	uint64_t offset;
	uint32_t region, count; /* count: at most 8 */
	uint8_t data[8];
};

/* WIRE_DEVICE_GET_REGION_IO_FDS; each entry is at 16 + i * (argsz - 16) / count. */
struct wire_io_fds {
	uint32_t argsz, flags, index, count;
};
#define WIRE_IO_FD_EVENTFD 0u
#define WIRE_IO_FD_REGIONFD 1u
struct wire_io_fd {
	uint64_t offset, size;
	uint32_t fd_index, type, flags, padding;
	uint64_t datamatch;
};

/* WIRE_DEVICE_FEATURE's data for DMA logging, where the kernel's structs have pointers. */
struct wire_logging_start {
	uint64_t page_size;
	uint32_t range_count, reserved;
	struct {
		uint64_t iova, length;
	} ranges[];
};
struct wire_logging_report {
	uint64_t iova, length, page_size; /* and in the reply the bitmap */
};

/* What each side takes at least, and most that we ask or allow. */
#define WIRE_MAX_FDS 16
#define WIRE_MAX_DATA (1u << 20)
#define WIRE_MAX_DMA_MAPS 65535u
/* A message: its data, and what surrounds them. */
#define WIRE_MESSAGE_MAX (WIRE_MAX_DATA + 4096u)

/* ---- messages over a socket (wire.c) ---- */

/* "REGION_READ"; "?" for what is none. */
const char *wire_command_name(unsigned command);

struct wire_message {
	struct wire_header header;
	uint8_t *payload; /* the caller's room: WIRE_MESSAGE_MAX bytes */
	size_t len;       /* of payload */
	int fds[WIRE_MAX_FDS];
	unsigned fd_count; /* the caller's to close: wire_close_fds() */
	bool fds_dropped;  /* there were more, which are closed */
};

/*
 * Sends a whole message: header.size is set here. It takes at most `timeout_ms` (-1: no
 * limit). With `timeout_ms` 0 either all of it goes at once or nothing: -EAGAIN. Other errors
 * leave the connection useless: -ETIMEDOUT, -EPIPE, -ECONNRESET. SIGPIPE is not raised.
 */
int wire_send(int socket, const struct wire_header *header, const struct iovec *parts,
              unsigned count, const int *fds, unsigned fd_count, int timeout_ms);

/*
 * Receives the next message. Waits for its first byte without limit, for the rest at most
 * `timeout_ms`. -ENODATA: the peer has closed; -EPIPE: in the middle of a message; -EPROTO: a size
 * that no message has; -ETIMEDOUT. After any of these the connection is useless, and no descriptors
 * are left in `out`. Of the descriptors the first WIRE_MAX_FDS are kept.
 */
int wire_receive(int socket, struct wire_message *out, int timeout_ms);

void wire_close_fds(struct wire_message *message);
/* Takes a descriptor out of a message; -1: there is none of this index. */
int wire_take_fd(struct wire_message *message, unsigned index);

/* ---- what the two sides agree on (wire_caps.c) ---- */

/* Without a word about one of these the other side means the default. */
struct wire_caps {
	uint32_t max_msg_fds;        /* 1 */
	uint32_t max_data_xfer_size; /* 1 MiB */
	uint32_t max_dma_maps;       /* 65535 */
	uint64_t pgsizes;            /* 4096 */
	bool twin_socket;            /* false */
	int twin_fd;                 /* index among the reply's descriptors; -1 */
	bool write_multiple;         /* false */
};

/* As the JSON text of a version message, with its NUL; released with free(). NULL: no memory. */
char *wire_caps_print(const struct wire_caps *caps);
/* The text of a version message: `len` bytes, 0: there is none. What it does not know it passes
 * over. -EPROTO: not JSON, not ended, a number that makes no sense. */
int wire_caps_parse(const char *text, size_t len, struct wire_caps *out, struct gw_error *err);

#endif
