/* SPDX-License-Identifier: Apache-2.0 */
#include "patience.h"
#include "vfu_lies.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

void vfu_put(struct vfu_reply *r, const void *data, size_t len)
{
	cr_assert_leq(r->len + len, sizeof(r->payload));
	memcpy(r->payload + r->len, data, len);
	r->len += len;
}

int vfu_failed(struct vfu_reply *r, int code)
{
	r->head.flags |= WIRE_ERROR;
	r->head.error = (uint32_t)code;
	r->len = 0;
	return 0;
}

void vfu_send_reply(struct vfu_server *s, const struct vfu_reply *r)
{
	const struct iovec part = { (void *)(uintptr_t)r->payload, r->len };

	wire_send(s->socket, &r->head, &part, 1, r->fds, r->fd_count, patience_ms());
}

static void send_raw(struct vfu_server *s, const struct vfu_reply *r, uint32_t size, size_t len)
{
	struct wire_header h = r->head;
	const ssize_t want = (ssize_t)MIN(len, sizeof(h));

	h.size = size;
	if (send(s->socket, &h, (size_t)want, MSG_NOSIGNAL) != want)
		return;
}

static void send_fds(struct vfu_server *s, const struct vfu_reply *r, unsigned count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * 32)];
	} control = { .head = { CMSG_LEN(sizeof(int) * count), SOL_SOCKET, SCM_RIGHTS } };
	struct wire_header h = r->head;
	struct iovec parts[] = { { &h, sizeof(h) }, { (void *)(uintptr_t)r->payload, r->len } };
	struct msghdr msg = { .msg_iov = parts,
		              .msg_iovlen = 2,
		              .msg_control = &control,
		              .msg_controllen = CMSG_SPACE(sizeof(int) * count) };

	h.size = (uint32_t)(sizeof(h) + r->len);
	for (unsigned i = 0; i < count; i++)
		memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &s->bar2_fd, sizeof(int));
	cr_assert_gt(sendmsg(s->socket, &msg, MSG_NOSIGNAL), 0);
}

bool vfu_lie(struct vfu_server *s, struct vfu_reply *r, enum vfu_lie what)
{
	switch (what) {
	case LIE_ID:
		r->head.id ^= 0x5555;
		break;
	case LIE_COMMAND:
		r->head.command = r->head.command == 4 ? 5 : 4;
		break;
	case LIE_TWICE:
		vfu_send_reply(s, r);
		break;
	case LIE_LARGER:
		vfu_put(r, "larger!", 8);
		break;
	case LIE_SHORTER:
		r->len -= 4;
		break;
	case LIE_FDS:
		while (r->fd_count < WIRE_MAX_FDS)
			r->fds[r->fd_count++] = fcntl(s->bar2_fd, F_DUPFD_CLOEXEC, 3);
		break;
	case LIE_TOO_MANY_FDS:
		send_fds(s, r, 32);
		return true;
	case LIE_ERROR_PAYLOAD:
		r->head.flags |= WIRE_ERROR;
		r->head.error = EIO;
		r->len = MAX(r->len, (size_t)4);
		break;
	case LIE_FLAGS:
		r->head.flags |= 1u << 31;
		break;
	case LIE_TYPE:
		r->head.flags |= 2;
		break;
	case LIE_TINY:
	case LIE_HUGE:
		send_raw(s, r, what == LIE_TINY ? 15 : UINT32_MAX, sizeof(r->head));
		return true;
	case LIE_STALL:
	case LIE_CLOSE_WITHIN:
		send_raw(s, r, 32, sizeof(r->head));
		return what == LIE_STALL;
	case LIE_CLOSE:
		return false;
	case LIE_SILENCE:
		return true;
	case LIE_LATE:
		usleep((unsigned)patience_ms() / 60 * 1000);
		break;
	case LIE_FIRST_BYTES:
		r->payload[0] ^= 0x80;
		r->payload[3] ^= 0x80;
		break;
	case LIE_EIO:
		vfu_failed(r, EIO);
		break;
	case LIE_ERRNO:
		vfu_failed(r, INT32_MIN);
		break;
	case LIE_PAYLOAD:
		r->head.flags = WIRE_TYPE_REPLY;
		r->len = 0;
		vfu_put(r, s->payload, s->payload_len);
		break;
	case LIE_NONE:
		break;
	}
	vfu_send_reply(s, r);
	return true;
}
