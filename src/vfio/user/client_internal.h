/* SPDX-License-Identifier: Apache-2.0 */
/* What client*.c share, and nobody else sees. */
#ifndef VFIO_USER_CLIENT_INTERNAL_H
#define VFIO_USER_CLIENT_INTERNAL_H

#include "vfio/user/client.h"

#include <pthread.h>

/* Writes that did not go at once, until there is room in the socket. */
#define VFU_BATCH 64

/* What may take a server long, all that it has under way having to come to an end, may take so many
 * times as long. */
#define VFU_SLOW_FACTOR 6

enum vfu_state {
	VFU_DOWN,  /* no connection */
	VFU_SETUP, /* there is one, for the thread that sets it up */
	VFU_READY, /* it was set up, and waits for vfu_admit() */
	VFU_UP,
};

struct vfu_flight {
	uint16_t id;
	struct vfu_request *request;
	pthread_cond_t answered;
	bool done;
	int result;
	struct vfu_flight *next;
};

/* Locks, in the order in which they are taken: `sending`, `lock`. */
struct vfu {
	struct vfu_owner owner;

	/* What goes to the server, in order. `main` and `twin` are open while there is a reader,
	 * and closed with this lock. */
	pthread_mutex_t sending;
	int main, twin;    /* twin -1: commands of the server come over main */
	uint64_t wr_count; /* of `batch` */
	struct wire_write batch[VFU_BATCH];

	pthread_mutex_t lock; /* the rest */
	pthread_cond_t changed;
	struct wire_caps caps; /* vfu_caps() */
	enum vfu_state state;
	pthread_t setter;  /* in VFU_SETUP: who may make requests */
	int64_t set_up_by; /* by now_ms(): what is under way until vfu_settle(); 0: nothing is */
	int64_t leave_by;  /* the same once the VM was told to quit */
	struct machine_quit_hook quit_hook;
	bool stopping;
	char why[256];       /* VFU_DOWN came so, or is not over for that reason */
	unsigned departed;   /* bits: what was logged of this connection, enum vfu_departure */
	char departure[256]; /* the last one for which a request has failed; "": none */
	uint16_t next_id;
	struct vfu_flight *flights;

	int wake_fd; /* for the reader: look at `batch` */
	pthread_t reader, keeper;
	bool has_reader, has_keeper;
	struct wire_message in; /* the reader's */
	uint8_t *out;           /* the reader's room for what it answers */
};

/* ---- client.c ---- */
/* What waits in the batch goes; with `sending`. timeout_ms as with wire_send(). */
int vfu_flush(struct vfu *c, int timeout_ms);
/* The flight with this id, taken off the list; with `lock`. NULL: there is none. */
struct vfu_flight *vfu_land(struct vfu *c, uint16_t id);
/* What is left of a timeout, for sending and for replies that are not requests'. */
int vfu_time_left(struct vfu *c);

/* ---- client_reader.c ---- */
int vfu_start_reader(struct vfu *c, struct gw_error *err);

/* ---- client_keeper.c ---- */
/* Takes apart what is left of a connection. */
void vfu_drop(struct vfu *c);
/* A connection, up to the agreed version; for this thread's requests. */
int vfu_connect(struct vfu *c, struct gw_error *err);
int vfu_start_keeper(struct vfu *c, struct gw_error *err);

#endif
