/* SPDX-License-Identifier: Apache-2.0 */
/* A guest with virtio-vsock, played by the test, and processes of the host, played by it too. */
#ifndef UNIT_VSOCK_WORLD_H
#define UNIT_VSOCK_WORLD_H

#include "virtio_driver.h"

#include "vmm/virtio/devices.h"
#include "vmm/virtio/vsock.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CID 42
#define HDR sizeof(struct vsock_header)
#define BUFFER 4096u
#define QUIET 300 /* ms in which what must not come would */

/* A guest with `d`, and a directory for sockets. */
struct world {
	struct vmachine *vm;
	struct vdriver d;
	char dir[40];
	struct vsock_options o;
	uint64_t rx[64]; /* by descriptor, where its buffer is */
};

static inline void add_buffers(struct world *w, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const uint64_t at = vmachine_alloc(w->vm, BUFFER, 16);
		const uint16_t id =
		        vdriver_add(&w->d, VSOCK_RX, (struct vbuf[]){ { at, BUFFER, true } }, 1);

		cr_assert_lt(id, ARRAY_SIZE(w->rx));
		w->rx[id] = at;
	}
	vdriver_kick(&w->d, VSOCK_RX);
}

static inline void begin(struct world *w, unsigned buffers)
{
	*w = (struct world){ .vm = vmachine_new(8 * MIB), .dir = "/tmp/godwit-vsock-XXXXXX" };
	cr_assert_not_null(mkdtemp(w->dir));
	w->o = (struct vsock_options){ .cid = CID };
	snprintf(w->o.socket, sizeof(w->o.socket), "%s/v", w->dir);
	vdriver_begin(&w->d, w->vm, vmachine_add(w->vm, &virtio_vsock_driver, &w->o, sizeof(w->o)),
	              0);
	add_buffers(w, buffers);
}

static inline void end(struct world *w)
{
	char path[120];

	vmachine_free(w->vm);
	cr_assert_lt(access(w->o.socket, F_OK), 0, "it has removed its socket");
	snprintf(path, sizeof(path), "%s_52", w->o.socket);
	unlink(path);
	rmdir(w->dir);
}

/* ---- the guest ------------------------------------------------------------------------------- */

static inline struct vsock_header header(enum vsock_op op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_header){ .src_cid = CID,
		                      .dst_cid = VSOCK_CID_HOST,
		                      .src_port = guest_port,
		                      .dst_port = host_port,
		                      .type = VSOCK_TYPE_STREAM,
		                      .op = (uint16_t)op,
		                      .buf_alloc = 65536 };
}

static inline void guest_send(struct world *w, const struct vsock_header *h, const void *data,
                              uint32_t len)
{
	uint8_t *packet = malloc(HDR + len);
	struct vsock_header raw = *h;

	raw.len = len;
	memcpy(packet, &raw, HDR);
	if (len)
		memcpy(packet + HDR, data, len);
	vdriver_add_out(&w->d, VSOCK_TX, packet, (uint32_t)(HDR + len));
	vdriver_kick(&w->d, VSOCK_TX);
	free(packet);
}

static inline void guest_op(struct world *w, enum vsock_op op, uint32_t guest_port,
                            uint32_t host_port)
{
	const struct vsock_header h = header(op, guest_port, host_port);

	guest_send(w, &h, NULL, 0);
}

struct arrived {
	struct world *w;
	struct vused used;
};

static inline bool has_packet(void *opaque)
{
	struct arrived *a = opaque;

	return vdriver_used(&a->w->d, VSOCK_RX, &a->used);
}

/* The next packet; its data, if `data` is not NULL. */
static inline struct vsock_header guest_receive(struct world *w, void *data)
{
	struct arrived a = { .w = w };
	struct vsock_header h;
	const char *at;

	cr_assert(vmachine_wait(w->vm, has_packet, &a, patience_ms()), "no packet");
	at = vmachine_at(w->vm, w->rx[a.used.id]);
	memcpy(&h, at, HDR);
	cr_assert_eq(a.used.len, HDR + h.len);
	cr_assert_eq(h.dst_cid, CID);
	if (data)
		memcpy(data, at + HDR, h.len);
	return h;
}

static inline int op_of(struct world *w)
{
	return guest_receive(w, NULL).op;
}

/* Nothing is said to the guest. */
static inline bool quiet(struct world *w)
{
	struct arrived a = { .w = w };

	return !vmachine_wait(w->vm, has_packet, &a, QUIET);
}

struct count {
	struct world *w;
	const void *of; /* within the device, whose worker changes it */
	uint64_t want;
};

static inline bool has_count(void *opaque)
{
	const struct count *c = opaque;
	struct vsock *s = vsock_of(c->w->d.v);
	bool equal;

	pthread_mutex_lock(&s->v.workers[0].lock);
	equal = (c->of == &s->dropped ? s->dropped : s->conn_count) == c->want;
	pthread_mutex_unlock(&s->v.workers[0].lock);
	return equal;
}

/* So many connections are there in the end; so many packets have been dropped. */
static inline void await_conns(struct world *w, unsigned want)
{
	struct count c = { w, &vsock_of(w->d.v)->conn_count, want };

	cr_assert(vmachine_wait(w->vm, has_count, &c, patience_ms()));
}

static inline void await_dropped(struct world *w, unsigned want)
{
	struct count c = { w, &vsock_of(w->d.v)->dropped, want };

	cr_assert(vmachine_wait(w->vm, has_count, &c, patience_ms()));
}

static inline bool has_taken_packet(void *opaque)
{
	struct world *w = opaque;
	struct vused used;

	return vdriver_used(&w->d, VSOCK_TX, &used);
}

/* The device has done with the `count` packets that the guest sent, whatever it did. */
static inline void taken(struct world *w, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cr_assert(vmachine_wait(w->vm, has_taken_packet, w, patience_ms()), "packet %u", i);
}

/* ---- the host ----------------------------------------------------------------------- */

static inline int unix_socket(const char *path, bool listening)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_lt(snprintf(at.sun_path, sizeof(at.sun_path), "%s", path),
	             (int)sizeof(at.sun_path));
	if (listening) {
		cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
		cr_assert_eq(listen(fd, 8), 0);
	} else {
		cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	}
	return fd;
}

static inline int listen_port_52(struct world *w)
{
	char path[120];

	snprintf(path, sizeof(path), "%s_52", w->o.socket);
	return unix_socket(path, true);
}

struct reading {
	int fd;
	char text[256];
	ssize_t len;
};

static inline bool has_text(void *opaque)
{
	struct reading *r = opaque;

	r->len = recv(r->fd, r->text, sizeof(r->text) - 1, MSG_DONTWAIT);
	return r->len >= 0;
}

/* Bytes read, 0 at the end. */
static inline ssize_t host_read(struct world *w, int fd, char text[256])
{
	struct reading r = { .fd = fd };

	cr_assert(vmachine_wait(w->vm, has_text, &r, patience_ms()), "nothing to read");
	memcpy(text, r.text, sizeof(r.text));
	return r.len;
}

/* The guest's connection from port 1000 to port 52: the host's end. */
static inline int guest_connects(struct world *w, uint32_t room)
{
	struct vsock_header h = header(VSOCK_OP_REQUEST, 1000, 52);
	int listener = listen_port_52(w), fd;

	h.buf_alloc = room;
	guest_send(w, &h, NULL, 0);
	taken(w, 1);
	h = guest_receive(w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_RESPONSE);
	cr_assert_eq(h.src_cid, VSOCK_CID_HOST);
	cr_assert_eq(h.src_port, 52);
	cr_assert_eq(h.dst_port, 1000);
	cr_assert_eq(h.type, VSOCK_TYPE_STREAM);
	cr_assert_eq(h.buf_alloc, VSOCK_BUFFER);
	fd = accept(listener, NULL, NULL);
	close(listener);
	return fd;
}

#endif
