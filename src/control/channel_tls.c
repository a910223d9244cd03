/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on a socket. */
#include "control/channel.h"

#include "base/error.h"
#include "base/util.h"

#include <sys/epoll.h>

struct tls_channel {
	struct channel channel;
	struct tls_session *session;
};

static struct tls_session *session_of(struct channel *channel)
{
	return container_of(channel, struct tls_channel, channel)->session;
}

static int handshake(struct channel *channel)
{
	return tls_handshake(session_of(channel));
}

static ssize_t read_bytes(struct channel *channel, void *buf, size_t len, struct inbox *inbox)
{
	(void)inbox;
	return tls_read(session_of(channel), buf, len);
}

static ssize_t write_bytes(struct channel *channel, const void *buf, size_t len)
{
	return tls_write(session_of(channel), buf, len);
}

static uint32_t wants(struct channel *channel)
{
	return tls_wants_write(session_of(channel)) ? EPOLLOUT : EPOLLIN;
}

static void destroy(struct channel *channel)
{
	tls_session_free(session_of(channel));
	close(channel->fd);
	free(container_of(channel, struct tls_channel, channel));
}

static const struct channel_ops tls_ops = {
	.handshake = handshake,
	.read = read_bytes,
	.write = write_bytes,
	.wants = wants,
	.destroy = destroy,
};

int channel_tls_create(int fd, const struct tls_identity *identity, struct channel **out,
                       struct gw_error *err)
{
	struct tls_channel *tls = calloc(1, sizeof(*tls));
	int r;

	if (!tls) {
		close(fd);
		return error_set(err, -ENOMEM, "client: out of memory");
	}
	tls->channel = (struct channel){ .ops = &tls_ops, .fd = fd };
	r = tls_session_create(identity, fd, NULL, &tls->session, err);
	if (r < 0) {
		destroy(&tls->channel);
		return r;
	}
	*out = &tls->channel;
	return 0;
}
