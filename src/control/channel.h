/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's bytes, whatever carries them: a socket as it is, or TLS on
 * top of one. Nothing here waits: what cannot go on returns -EAGAIN.
 */
#ifndef CONTROL_CHANNEL_H
#define CONTROL_CHANNEL_H

#include "base/tls.h"
#include "control/inbox.h"
#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct channel;

struct channel_ops {
	/* Until it returns 0, nothing is read or written. NULL: nothing to agree upon. */
	int (*handshake)(struct channel *channel);
	/* Bytes, 0 at the end, or a negative errno. Descriptors that come along go to `inbox`. */
	ssize_t (*read)(struct channel *channel, void *buf, size_t len, struct inbox *inbox);
	ssize_t (*write)(struct channel *channel, const void *buf, size_t len);
	/* EPOLLIN or EPOLLOUT: what the handshake's -EAGAIN waits for. NULL without a handshake. */
	uint32_t (*wants)(struct channel *channel);
	void (*destroy)(struct channel *channel);
};

/* A kind of channel begins with this. */
struct channel {
	const struct channel_ops *ops;
	int fd;
};

/* Both take fd (non-blocking) over, in every case; the identity outlives the channel. -ENOMEM. */
int channel_plain_create(int fd, struct channel **out, struct gw_error *err);
int channel_tls_create(int fd, const struct tls_identity *identity, struct channel **out,
                       struct gw_error *err);
/* Closes it. NULL is fine. */
void channel_destroy(struct channel *channel);

#endif
