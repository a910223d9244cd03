/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where clients come from, and whom of them we take: a UNIX socket of our own
 * or one that was handed over, with a look at the peer's credentials; or TCP,
 * with TLS and nothing less.
 */
#ifndef CONTROL_LISTENER_H
#define CONTROL_LISTENER_H

#include "control/channel.h"
#include "control/peer.h"
#include "base/unix_socket.h"
#include "godwit.h"

struct listener {
	int fd; /* non-blocking; -1: none */
	bool is_unix;
	struct unix_socket socket;     /* with a path of our own */
	struct peer_rule rule;         /* UNIX */
	struct tls_identity *identity; /* TCP */
};

/* Takes options->listen_fd over if it succeeds. */
int listener_open(const struct gw_control_options *options, struct listener *out,
                  struct gw_error *err);
void listener_close(struct listener *listener);

/* The next client, and what is known of it. -EAGAIN: none, or one that was turned away. Others: no
 * descriptor or memory is left. */
int listener_accept(struct listener *listener, struct channel **out, enum peer_kind *kind);

#endif
