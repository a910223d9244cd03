/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vfio-user server for tests of the client: a PCI function with a trapped
 * BAR 0 (4 KiB), a mappable BAR 2 (64 KiB, two pages of it), MSI-X with 4
 * vectors in BAR 4, migration with STOP_COPY and PRE_COPY, and a DMA log. On
 * request it lies.
 */
#ifndef UNIT_VFU_SERVER_H
#define UNIT_VFU_SERVER_H

#include "patience.h"
#include "vfio/user/wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum vfu_lie {
	LIE_NONE,
	LIE_ID,            /* a reply to nothing */
	LIE_COMMAND,       /* that names another command */
	LIE_TWICE,         /* two replies */
	LIE_LARGER,        /* 8 bytes more than there should be */
	LIE_SHORTER,       /* 4 bytes fewer */
	LIE_FDS,           /* 16 descriptors that do not belong there */
	LIE_TOO_MANY_FDS,  /* more than any message may have */
	LIE_ERROR_PAYLOAD, /* an error, and a payload */
	LIE_FLAGS,         /* flags that are none */
	LIE_TYPE,          /* neither command nor reply */
	LIE_TINY,          /* a header that says 15 bytes */
	LIE_HUGE,          /* and one that says 4 GiB */
	LIE_CLOSE,         /* closes instead of a reply */
	LIE_CLOSE_WITHIN,  /* in the middle of one */
	LIE_SILENCE,       /* says nothing */
	LIE_STALL,         /* begins a reply and says no more */
	LIE_LATE,          /* replies when the client has given up */
	LIE_FIRST_BYTES,   /* changes the payload's first 4 bytes */
	LIE_EIO,           /* no lie: an error */
	LIE_ERRNO,         /* an error of number 2^31 */
	LIE_PAYLOAD,       /* payload, payload_len in place of what belongs there */
};

struct vfu_server {
	/* Before it starts: */
	const char *caps;   /* the version's JSON; NULL: twin socket, 16 descriptors */
	uint16_t minor;     /* of its version */
	bool plain_file;    /* BAR 2's file is not sealed */
	bool no_features;   /* it knows no DEVICE_FEATURE at all */
	uint32_t bar0_size; /* 0: 4096 */
	uint32_t rom_size;  /* 0: it has none; at most sizeof(rom) */
	unsigned bells;     /* so many registers of BAR 0 have an eventfd; at most 8 */
	unsigned notifies;  /* 1: it can ask for its device, and say that it is in error */
	/* When a command comes for the nth time from now on. */
	enum vfu_lie lie;
	enum wire_command on;
	unsigned nth;
	const void *payload;
	size_t payload_len;

	int client;       /* the client's end, for it to take */
	int socket, twin; /* its own; -1 */
	int bar2_fd;      /* a memfd */
	unsigned seen[WIRE_COMMANDS];
	uint8_t config[4096], bar0[4096], bar2[65536], rom[8192];
	uint32_t state;       /* migration's */
	uint8_t data[262144]; /* what a migration reads, and has written */
	unsigned data_len, data_at;
	int vectors[4];  /* eventfds; -1 */
	int bell_fds[8]; /* of the registers at 4 * i, for writes of 0x100 + i; -1 */
	int request_fd, error_fd;
	struct {
		uint64_t address, size;
		bool by_fd;
	} maps[64];
	unsigned map_count;
	uint64_t dirty; /* page of guest memory that the log reports next; 0: none */
	pthread_t thread;
	bool started;
};

/* Fills in what it is; then `s` may be changed, and then it is started, on a new pair of sockets.
 * It can be started again when it has stopped, and is as it was. */
void vfu_server_init(struct vfu_server *s);
void vfu_server_start(struct vfu_server *s);
/* Closes its sockets and waits for its thread. */
void vfu_server_stop(struct vfu_server *s);
void vfu_server_free(struct vfu_server *s);

/* It reads or writes guest memory by message. 0 or the errno of the reply. */
int vfu_server_dma(struct vfu_server *s, bool write, uint64_t address, void *buf, uint32_t len);

#endif
