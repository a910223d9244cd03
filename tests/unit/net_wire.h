/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-net device whose tap is one end of a packet socket pair, for tests: the other end is the
 * test's. */
#ifndef UNIT_NET_WIRE_H
#define UNIT_NET_WIRE_H

#include "virtio_driver.h"

#include "vmm/virtio/devices.h"
#include "vmm/virtio/net.h"

#include <stdio.h>
#include <sys/socket.h>

#define HDR TAP_HEADER_SIZE

/* A device whose tap is a packet socket; the other end is `peer`. */
struct wire {
	struct vmachine *vm;
	struct vdriver d;
	int peer;
};

static const struct net_options plain = { .fd = "nic",
	                                  .mac = "52:54:00:12:34:56",
	                                  .queues = 1,
	                                  .vhost = NET_VHOST_OFF,
	                                  .offload = true };

static inline void wire_open(struct wire *w)
{
	int fds[2];

	w->vm = vmachine_new(8 * MIB);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	w->vm->fd = fds[0];
	w->peer = fds[1];
}

static inline void wire_begin(struct wire *w, const struct net_options *o, uint64_t features)
{
	wire_open(w);
	vdriver_begin(&w->d, w->vm, vmachine_add(w->vm, &virtio_net_driver, o, sizeof(*o)),
	              features);
}

static inline void wire_end(struct wire *w)
{
	const int fd = w->vm->fd;

	vmachine_free(w->vm);
	close(fd);
	close(w->peer);
}

/* A frame as the tap gives it: header, then `len` bytes that count up. */
static inline size_t make_frame(uint8_t *to, size_t len)
{
	memset(to, 0, HDR);
	for (size_t i = 0; i < len; i++)
		to[HDR + i] = (uint8_t)(i * 7 + len);
	return HDR + len;
}

static inline void peer_send(struct wire *w, size_t len)
{
	static uint8_t frame[TAP_FRAME_MAX + 1000];
	const size_t n = make_frame(frame, len);

	cr_assert_eq(send(w->peer, frame, n, 0), (ssize_t)n);
}

struct waiting {
	struct wire *w;
	unsigned queue;
	struct vused used;
	uint8_t frame[TAP_FRAME_MAX];
	ssize_t len;
};

static inline bool has_used(void *opaque)
{
	struct waiting *x = opaque;

	return vdriver_used(&x->w->d, x->queue, &x->used);
}

static inline bool has_frame(void *opaque)
{
	struct waiting *x = opaque;

	x->len = recv(x->w->peer, x->frame, sizeof(x->frame), MSG_DONTWAIT);
	return x->len >= 0;
}

static inline struct vused next_used(struct wire *w, unsigned queue)
{
	struct waiting x = { .w = w, .queue = queue };

	cr_assert(vmachine_wait(w->vm, has_used, &x, patience_ms()), "queue %u has nothing", queue);
	return x.used;
}

static inline bool none_used(struct wire *w, unsigned queue)
{
	struct waiting x = { .w = w, .queue = queue };

	return !vmachine_wait(w->vm, has_used, &x, 60);
}

static inline ssize_t next_frame(struct wire *w, uint8_t *to, size_t room)
{
	struct waiting *x = calloc(1, sizeof(*x));
	ssize_t len = -1;

	x->w = w;
	if (vmachine_wait(w->vm, has_frame, x, patience_ms())) {
		len = x->len;
		memcpy(to, x->frame, MIN((size_t)len, room));
	}
	free(x);
	return len;
}

static inline bool no_frame(struct wire *w)
{
	struct waiting *x = calloc(1, sizeof(*x));
	bool none;

	x->w = w;
	none = !vmachine_wait(w->vm, has_frame, x, 500);
	free(x);
	return none;
}

/* A number from query-devices. */
static inline double described(struct wire *w, const char *key)
{
	cJSON *info = cJSON_CreateObject();
	double value;

	cr_assert(virtio_net_driver.describe(&w->d.v->device, info));
	cr_assert(cJSON_GetObjectItem(info, key), "%s", key);
	value = cJSON_GetNumberValue(cJSON_GetObjectItem(info, key));
	cJSON_Delete(info);
	return value;
}

/* One command on the control queue: its answer. */
static inline int control(struct wire *w, unsigned queue, const void *command, uint32_t len)
{
	const uint64_t out = vmachine_alloc(w->vm, len, 16), in = vmachine_alloc(w->vm, 1, 16);

	memcpy(vmachine_at(w->vm, out), command, len);
	*(uint8_t *)vmachine_at(w->vm, in) = 0xee;
	vdriver_add(&w->d, queue, (struct vbuf[]){ { out, len, false }, { in, 1, true } }, 2);
	vdriver_kick(&w->d, queue);
	cr_assert_eq(next_used(w, queue).len, 1);
	return *(uint8_t *)vmachine_at(w->vm, in);
}

#endif
