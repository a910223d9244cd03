/* SPDX-License-Identifier: Apache-2.0 */
#include "vfio/user/wire.h"

#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define PARTS_MAX 8

static const char *const names[WIRE_COMMANDS] = {
	[WIRE_VERSION] = "VERSION",
	[WIRE_DMA_MAP] = "DMA_MAP",
	[WIRE_DMA_UNMAP] = "DMA_UNMAP",
	[WIRE_DEVICE_GET_INFO] = "DEVICE_GET_INFO",
	[WIRE_DEVICE_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
	[WIRE_DEVICE_GET_REGION_IO_FDS] = "DEVICE_GET_REGION_IO_FDS",
	[WIRE_DEVICE_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
	[WIRE_DEVICE_SET_IRQS] = "DEVICE_SET_IRQS",
	[WIRE_REGION_READ] = "REGION_READ",
	[WIRE_REGION_WRITE] = "REGION_WRITE",
	[WIRE_DMA_READ] = "DMA_READ",
	[WIRE_DMA_WRITE] = "DMA_WRITE",
	[WIRE_DEVICE_RESET] = "DEVICE_RESET",
	[WIRE_REGION_WRITE_MULTI] = "REGION_WRITE_MULTI",
	[WIRE_DEVICE_FEATURE] = "DEVICE_FEATURE",
	[WIRE_MIG_DATA_READ] = "MIG_DATA_READ",
	[WIRE_MIG_DATA_WRITE] = "MIG_DATA_WRITE",
};

const char *wire_command_name(unsigned command)
{
	return command < WIRE_COMMANDS && names[command] ? names[command] : "?";
}

/* ---- sending ------------------------------------------------------------------------------- */

static int wait_for(int socket, short what, int timeout_ms)
{
	struct pollfd pfd = { .fd = socket, .events = what };
	int r;

	do
		r = poll(&pfd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int left_until(int64_t deadline)
{
	return (int)MAX(deadline - now_ms(), (int64_t)0);
}

/* Takes `sent` bytes off the front. */
static void advance(struct msghdr *msg, size_t sent)
{
	while (sent && msg->msg_iovlen) {
		struct iovec *part = &msg->msg_iov[0];
		size_t n = MIN(sent, part->iov_len);

		part->iov_base = (char *)part->iov_base + n;
		part->iov_len -= n;
		sent -= n;
		if (!part->iov_len) {
			msg->msg_iov++;
			msg->msg_iovlen--;
		}
	}
}

static size_t left_in(const struct msghdr *msg)
{
	size_t left = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		left += msg->msg_iov[i].iov_len;
	return left;
}

static int send_all(int socket, struct msghdr *msg, int timeout_ms)
{
	/* What has begun has to be ended, or the stream is of no use any more. */
	const int64_t deadline = now_ms() + (timeout_ms ? timeout_ms : 1000);
	bool begun = false;

	while (left_in(msg)) {
		ssize_t n = sendmsg(socket, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n >= 0) {
			advance(msg, (size_t)n);
			/* Descriptors travel with the first byte. */
			msg->msg_control = NULL;
			msg->msg_controllen = 0;
			begun = true;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != ENOBUFS)
			return -errno;
		if (!timeout_ms && !begun)
			return -EAGAIN;
		r = wait_for(socket, POLLOUT, timeout_ms < 0 ? -1 : left_until(deadline));
		if (r < 0)
			return r;
	}
	return 0;
}

int wire_send(int socket, const struct wire_header *header, const struct iovec *parts,
              unsigned count, const int *fds, unsigned fd_count, int timeout_ms)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
	} control = { 0 };
	struct wire_header head = *header;
	struct iovec iov[PARTS_MAX + 1] = { { &head, sizeof(head) } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count + 1 };
	size_t size = sizeof(head);

	if (count > PARTS_MAX || fd_count > WIRE_MAX_FDS)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		iov[i + 1] = parts[i];
		size += parts[i].iov_len;
	}
	if (size > WIRE_MESSAGE_MAX)
		return -EMSGSIZE;
	head.size = (uint32_t)size;
	if (fd_count) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * fd_count);
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	}
	return send_all(socket, &msg, timeout_ms);
}

/* ---- receiving ------------------------------------------------------------------------------ */

/* Those that there is no room for are closed, by the kernel or here. */
static void keep_fds(struct wire_message *out, struct msghdr *msg)
{
	if (msg->msg_flags & MSG_CTRUNC)
		out->fds_dropped = true;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (out->fd_count < WIRE_MAX_FDS) {
				out->fds[out->fd_count++] = fd;
				continue;
			}
			close(fd);
			out->fds_dropped = true;
		}
	}
}

/* A piece of the message, and descriptors that came with it. */
static int receive_some(int socket, struct wire_message *out, void *buf, size_t len)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
	} control;
	struct iovec iov = { buf, len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	keep_fds(out, &msg);
	return (int)n;
}

/* `deadline` by now_ms(); -1: none yet, it begins with the first byte. */
static int receive_all(int socket, struct wire_message *out, void *buf, size_t len,
                       int64_t *deadline, int timeout_ms)
{
	size_t done = 0;

	while (done < len) {
		int n = receive_some(socket, out, (char *)buf + done, len - done), r;

		if (n > 0) {
			done += (size_t)n;
			if (*deadline < 0 && timeout_ms >= 0)
				*deadline = now_ms() + timeout_ms;
			continue;
		}
		if (!n)
			return done || *deadline >= 0 ? -EPIPE : -ENODATA;
		if (n != -EAGAIN)
			return n;
		r = wait_for(socket, POLLIN, *deadline < 0 ? -1 : left_until(*deadline));
		if (r < 0)
			return r;
	}
	return 0;
}

int wire_receive(int socket, struct wire_message *out, int timeout_ms)
{
	int64_t deadline = -1;
	int r;

	out->len = 0;
	out->fd_count = 0;
	out->fds_dropped = false;
	r = receive_all(socket, out, &out->header, sizeof(out->header), &deadline, timeout_ms);
	if (!r && (out->header.size < sizeof(out->header) || out->header.size > WIRE_MESSAGE_MAX))
		r = -EPROTO;
	if (!r) {
		out->len = out->header.size - sizeof(out->header);
		r = receive_all(socket, out, out->payload, out->len, &deadline, timeout_ms);
	}
	if (r < 0)
		wire_close_fds(out);
	return r;
}

void wire_close_fds(struct wire_message *message)
{
	for (unsigned i = 0; i < message->fd_count; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);
	message->fd_count = 0;
}

int wire_take_fd(struct wire_message *message, unsigned index)
{
	return index < message->fd_count ? take_fd(&message->fds[index]) : -1;
}
