/* SPDX-License-Identifier: Apache-2.0 */
/* A socket as it is. */
#include "control/channel.h"

#include "base/error.h"
#include "base/util.h"

#include <string.h>
#include <sys/socket.h>

/* unix(7): descriptors come in one control message with each recvmsg() that reads bytes sent with
 * them. What does not fit is closed by the kernel. */
static void take_descriptors(struct msghdr *msg, struct inbox *inbox)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		const size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			inbox_put(inbox, fd);
		}
	}
}

static ssize_t plain_read(struct channel *channel, void *buf, size_t len, struct inbox *inbox)
{
	union {
		char space[CMSG_SPACE(INBOX_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t n;

	do
		n = recvmsg(channel->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_descriptors(&msg, inbox);
	return n;
}

static ssize_t plain_write(struct channel *channel, const void *buf, size_t len)
{
	ssize_t n;

	do
		n = send(channel->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void plain_destroy(struct channel *channel)
{
	close(channel->fd);
	free(channel);
}

static const struct channel_ops plain_ops = {
	.read = plain_read,
	.write = plain_write,
	.destroy = plain_destroy,
};

int channel_plain_create(int fd, struct channel **out, struct gw_error *err)
{
	struct channel *channel = malloc(sizeof(*channel));

	if (!channel) {
		close(fd);
		return error_set(err, -ENOMEM, "client: out of memory");
	}
	*channel = (struct channel){ .ops = &plain_ops, .fd = fd };
	*out = channel;
	return 0;
}

void channel_destroy(struct channel *channel)
{
	if (channel)
		channel->ops->destroy(channel);
}
