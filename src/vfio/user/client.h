/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's end of vfio-user: one connection to a server, which several
 * threads use at once.
 *
 * A request waits for the reply with its id; a thread of the client's reads
 * them (client_reader.c), and answers what the server asks of guest memory.
 * Silence ends the connection, and so do some of the things that the protocol
 * does not allow; others are tolerated (client_rules.c). When it has ended all
 * requests fail with -ENOTCONN, and another thread (client_keeper.c) tries to
 * get a new one, ever less often.
 */
#ifndef VFIO_USER_CLIENT_H
#define VFIO_USER_CLIENT_H

#include "base/log.h"
#include "godwit.h"
#include "vfio/user/wire.h"
#include "vmm/machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vfu;

/* What its owner does for it. */
struct vfu_owner {
	void *opaque;
	const char *name;      /* of the server, for messages */
	const struct log *log; /* may be NULL */
	int timeout_ms;        /* for a reply */
	/* A connected socket, which becomes the client's; when the server was lost, again. */
	int (*connect)(void *opaque, struct gw_error *err);
	/* The server reads or writes guest memory. -EFAULT: it may not. On the reader's thread. */
	int (*dma)(void *opaque, bool write, uint64_t address, void *buf, size_t len);
	/* On the keeper's thread: the server is gone; a new one is there and is to be set up by
	 * requests from this thread (an error drops it again); and it was, so that the owner
	 * may call vfu_admit(). */
	void (*lost)(void *opaque, const char *why);
	int (*again)(void *opaque, struct gw_error *err);
	void (*ready)(void *opaque);
	/* Has `hook` called when the VM is told to quit, or no longer. NULL: it never is. */
	void (*on_quit)(void *opaque, struct machine_quit_hook *hook, bool on);
};

/* Connects and agrees on a version. The owner's struct is copied. */
int vfu_create(const struct vfu_owner *owner, struct vfu **out, struct gw_error *err);
/* Ends it for good: requests under way fail, and all that come. NULL is fine, twice as well. */
void vfu_stop(struct vfu *c);
void vfu_destroy(struct vfu *c);

/* The owner has set it up. Before that, from vfu_create() or from a new connection on, all replies
 * together have twice the time that one of a slow kind has: a server that is slow with each of them
 * does not hold up for long whoever waits for all. */
void vfu_settle(struct vfu *c);
/* Why there is no connection, added to an error that comes from that. */
void vfu_say_why(struct vfu *c, struct gw_error *err);
/* Is there no connection now (""), and if so why. */
bool vfu_why_lost(struct vfu *c, char *why, size_t size);

/* What was agreed on with the newest server: of the server's, and no more than we can use. */
struct wire_caps vfu_caps(struct vfu *c);

/* A new server has been set up, and requests of all threads may go there from now on; false:
 * there is none. */
bool vfu_admit(struct vfu *c);
/* No request will be answered now. Any thread. */
bool vfu_is_lost(struct vfu *c);

struct vfu_request {
	enum wire_command command;
	struct iovec parts[3]; /* of the payload */
	unsigned part_count;
	const int *fds;
	unsigned fd_count;
	/* The reply: room for its payload, and how much came. One descriptor may come along for
	 * each place in `reply_fds`. What there is no room for is dropped. */
	void *reply;
	size_t room, len;
	int *reply_fds;
	unsigned fd_room, fds_came;
};

/* Sends it and waits for the reply. 0; what the server said, a negative errno; or -ENOTCONN. Where
 * it fails no descriptors came. */
int vfu_call(struct vfu *c, struct vfu_request *r);
/* The same for one piece each way: the length of the reply, which has at most `room` bytes. */
ssize_t vfu_ask(struct vfu *c, enum wire_command command, const void *ask, size_t len, void *reply,
                size_t room);
/* A write to a region that nobody waits for. At most 8 bytes. */
int vfu_post_write(struct vfu *c, uint32_t region, uint64_t offset, const void *data, uint32_t len);
/* The most of a message's payload that the client makes longer than the command needs: a server may
 * read it with one recv(), which gives what was sent as one piece. Linux cuts what is written to a
 * UNIX stream socket into pieces of 32 KiB and a little more. */
#define VFU_PAYLOAD_MAX 32768u
/* How many bytes of data fit into one message behind `head` bytes. */
size_t vfu_data_max(struct vfu *c, size_t head);

/* Ends the connection, for this reason; a new one is made. */
void vfu_break(struct vfu *c, const char *why);
/* The same with a text to be put together. Returns -ENOTCONN. */
int vfu_give_up(struct vfu *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something that the protocol does not allow, or that the client cannot use. What becomes of it is
 * said in one table (client_rules.c). */
enum vfu_departure {
	VFU_BAD_FRAMING,    /* a message whose size or type cannot be right */
	VFU_OTHER_REPLY,    /* a reply that is none to what was asked */
	VFU_BAD_NUMBERS,    /* numbers that the client could not work with safely */
	VFU_BAD_DMA,        /* a request for guest memory whose sizes differ */
	VFU_KEEPS_MEMORY,   /* guest memory that it was told to give up */
	VFU_SHORT_REPLY,    /* less than was asked for */
	VFU_LONG_REPLY,     /* more than was asked for */
	VFU_ERROR_PAYLOAD,  /* something behind the header of an error */
	VFU_SURPLUS_FDS,    /* descriptors that do not belong there, or too many */
	VFU_UNKNOWN_FLAGS,  /* in a header */
	VFU_BESIDE_TWIN,    /* a command that was to come on the twin socket */
	VFU_USELESS_IO_FDS, /* descriptors for registers that cannot be used */
	VFU_DEPARTURES
};
/* Ends the connection or logs it, once for each connection and kind. Returns -ENOTCONN if it has
 * ended the connection, else -EPROTO: for who cannot go on without what should have come. */
int vfu_departs(struct vfu *c, enum vfu_departure kind, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#endif
