/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection between two hosts: tcp:HOST:PORT or unix:PATH. Every wait
 * ends when the migration is cancelled; a peer that is silent where it must
 * not be, or takes nothing, is given up after a time limit; a dead host is
 * noticed by TCP keep-alive and user timeout.
 */
#ifndef MIGRATION_TRANSPORT_H
#define MIGRATION_TRANSPORT_H

#include "base/error.h"

#include <stdint.h>
#include <sys/uio.h>

struct channel {
	int fd;
	int cancel_fd;  /* readable: -ECANCELED; -1: cannot be cancelled any more */
	int stall_ms;   /* a write without progress for this long: -ETIMEDOUT */
	uint64_t taken; /* bytes that the socket has taken, all in all */
	/* Where given: called in a read whenever wake_fd is readable; ends the read if it fails. */
	int (*woken)(void *opaque, struct gw_error *err);
	void *opaque;
	int wake_fd;
};

/* Checks a URI without doing anything. -EINVAL. */
int transport_check_uri(const char *uri, struct gw_error *err);

/* -EACCES: tcp: to or from another host, which has to be asked for by `plain`. */
int transport_connect(const char *uri, bool plain, int cancel_fd, uint64_t timeout_ms,
                      struct channel *out, struct gw_error *err);
/* A listening socket; and one connection from it. */
int transport_listen(const char *uri, bool plain, int *fd, struct gw_error *err);
int transport_accept(int listen_fd, int cancel_fd, uint64_t timeout_ms, struct channel *out,
                     struct gw_error *err);

/* All of iov, which is changed meanwhile. */
int channel_write(struct channel *ch, struct iovec *iov, int count, struct gw_error *err);
/* Exactly len bytes, within timeout_ms all in all; -1: no limit while the connection stands.
 * -ENODATA: the peer has closed it before the first byte. */
int channel_read(struct channel *ch, void *buf, size_t len, int timeout_ms, struct gw_error *err);
/* -ECANCELED if it was cancelled. */
int channel_check_cancel(const struct channel *ch, struct gw_error *err);
/* Is there something to read (or an end)? */
bool channel_readable(const struct channel *ch);
void channel_close(struct channel *ch);

#endif
