/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-vsock share: streams between the guest and
 * processes of the host.
 *
 *      vsock.c        options, the device, the kernel's vhost-vsock
 *      vsock_rings.c  packets out of and into the guest's queues
 *      vsock_conn.c   connections: their states, credit, bytes
 *      vsock_host.c   the UNIX sockets: listening, connecting, the first line
 *
 * In user space a guest's connection to port P of CID 2 goes to the UNIX
 * socket PATH_P. The other way, a process connects to PATH, says "CONNECT P"
 * and a newline, and reads "OK" with the port that it got, and a newline, when
 * the guest has accepted.
 *
 * All of it belongs to one worker: its lock, its thread.
 * Source: VIRTIO 1.2, 5.10.
 */
#ifndef VMM_VIRTIO_VSOCK_H
#define VMM_VIRTIO_VSOCK_H

#include "base/util.h"
#include "vmm/virtio/vhost.h"
#include "vmm/virtio/virtio.h"

#define VSOCK_CID_HOST 2u
#define VSOCK_TYPE_STREAM 1u

#define VSOCK_CONNS_MAX 1024
#define VSOCK_BUCKETS 256
#define VSOCK_BUFFER (64u * 1024) /* bytes from the guest that a connection holds */
#define VSOCK_PACKET_MAX (64u * 1024)
#define VSOCK_REPLIES 128
#define VSOCK_LINE_MAX 32
/* Milliseconds: for the first line, for the guest's answer, for the end of both directions. */
#define VSOCK_LINE_TIME 5000
#define VSOCK_REQUEST_TIME 5000
#define VSOCK_CLOSE_TIME 8000

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

/* 5.10.6 */
enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of VSOCK_OP_SHUTDOWN: no more will be received, sent. */
#define VSOCK_NO_RECEIVE 1u
#define VSOCK_NO_SEND 2u
#define VSOCK_NO_BOTH (VSOCK_NO_RECEIVE | VSOCK_NO_SEND)

/* In the host's byte order here; little-endian in the rings. */
struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_header) == 44, "5.10.6");

enum vsock_state {
	VSOCK_LINE,      /* accepted on PATH; its first line has not come yet */
	VSOCK_REQUESTED, /* the guest has been asked */
	VSOCK_OPEN,
	VSOCK_CLOSING, /* both directions are shut down; the guest is to confirm */
};

struct vsock;

struct vsock_conn {
	struct vsock *vsock;
	enum vsock_state state;
	uint32_t guest_port, host_port;
	int fd;
	struct loop_watch *watch;
	uint32_t events;  /* that it asks for */
	int64_t deadline; /* ms; 0: none */
	char line[VSOCK_LINE_MAX];
	unsigned line_len;

	/* To the guest. */
	unsigned owed; /* a bit for each operation that is to be sent */
	bool readable; /* the socket has more, or its end */
	bool host_eof, host_gone;
	uint32_t peer_alloc, peer_fwd, sent; /* the guest's room, as it told; 5.10.6.3 */
	bool credit_asked;
	uint32_t shut_sent, shut_got; /* VSOCK_NO_* */

	/* From the guest: what the socket has not taken yet. */
	uint8_t *buffer;
	uint32_t first, len;
	uint32_t fwd, fwd_told;
	bool write_shut;

	struct vsock_conn *next_hash;
	struct vsock_conn *prev, *next; /* of all */
	struct vsock_conn *next_pending;
	bool pending;
};

struct vsock_options {
	uint32_t cid;
	char socket[96];
	uint32_t vhost;
};

struct vsock {
	struct virtio v;
	struct vsock_options options;
	struct vhost *vhost; /* NULL: in user space */
	bool vhost_on;       /* device lock */

	/* Worker's lock. */
	bool reset_owed; /* the guest is to be told that it arrived without its connections */
	int listen_fd;
	struct loop_watch *listen_watch;
	struct loop_timer *timer; /* each second while a connection has a deadline */
	bool ticking;
	struct virtq_chain chain, tx_chain;
	bool tx_blocked;                            /* until replies have gone out */
	struct vsock_header replies[VSOCK_REPLIES]; /* without a connection */
	unsigned reply_first, reply_count;
	struct vsock_conn *conns;
	unsigned conn_count;
	struct vsock_conn *buckets[VSOCK_BUCKETS];
	struct vsock_conn *pending, **pending_end; /* have something for the guest */
	uint32_t next_port;
	uint64_t dropped; /* packets that made no sense */
};

static inline struct vsock *vsock_of(struct virtio *v)
{
	return container_of(v, struct vsock, v);
}

/* ---- vsock_rings.c ---- */
void vsock_rx(struct vsock *s);
void vsock_tx(struct vsock *s);
void vsock_event(struct vsock *s);
/* A packet of a connection into the next receive buffer: 1; 0 if there is none; or a negative errno
 * (and the device is broken). */
int vsock_send(struct vsock *s, struct vsock_conn *c, enum vsock_op op, uint32_t flags);
/* As much as the socket has and `limit` allows: bytes, 0 at its end, -EAGAIN; -ENOBUFS: there is no
 * receive buffer; other negative errnos as read(2). */
ssize_t vsock_send_data(struct vsock *s, struct vsock_conn *c, uint32_t limit);
/* RST for a packet that belongs to no connection. */
void vsock_refuse(struct vsock *s, const struct vsock_header *h);
void vsock_reply_rst(struct vsock *s, uint32_t guest_port, uint32_t host_port);

/* ---- vsock_conn.c ---- */
struct vsock_conn *vsock_conn_new(struct vsock *s, int fd, enum vsock_state state);
struct vsock_conn *vsock_conn_find(struct vsock *s, uint32_t guest_port, uint32_t host_port);
/* It has both ports now. */
void vsock_conn_enter(struct vsock_conn *c);
void vsock_conn_free(struct vsock_conn *c);
/* RST to the guest, and gone. */
void vsock_conn_abort(struct vsock_conn *c);
/* A packet of the guest's for it; the data are in the chain behind the header. */
void vsock_conn_packet(struct vsock_conn *c, const struct vsock_header *h,
                       const struct virtq_chain *chain);
/* Sends what it has for the guest, within reason: 1: there is more; 0: not now; -ENOBUFS: no
 * receive buffer; -EPROTO: the device is broken. The connection may be gone unless it says 1 or
 * -ENOBUFS. */
int vsock_conn_serve(struct vsock_conn *c);
void vsock_conn_owe(struct vsock_conn *c, enum vsock_op op);
void vsock_conn_pend(struct vsock_conn *c);
void vsock_conn_set_deadline(struct vsock_conn *c, int ms);
/* What the socket is watched for. */
void vsock_conn_update_watch(struct vsock_conn *c);
void vsock_conn_free_all(struct vsock *s);
void vsock_on_timer(void *vsock);

/* ---- vsock_host.c ---- */
int vsock_listen(struct vsock *s, struct gw_error *err);
void vsock_unlisten(struct vsock *s);
void vsock_on_listen(void *vsock, int fd, uint32_t events);
/* The guest asks for port `port`: a socket, or a negative errno. */
int vsock_connect(struct vsock *s, uint32_t port);
/* More of the first line; the connection may be gone afterwards. */
void vsock_read_line(struct vsock_conn *c);
/* The guest has accepted. False: the process does not hear it any more. */
bool vsock_say_ok(struct vsock_conn *c);

#endif
