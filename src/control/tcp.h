/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP socket to listen on, and what its connections need to notice a peer that is gone. */
#ifndef CONTROL_TCP_H
#define CONTROL_TCP_H

#include "godwit.h"

/* `where` is HOST:PORT, an IPv6 address in brackets, no host: every address. The socket is
 * non-blocking. Errors: -EINVAL (form), -EADDRINUSE, and the system's. */
int tcp_listen(const char *where, int *out, struct gw_error *err);

/* A peer that says nothing for a minute, not even that it is there, is gone. */
void tcp_prepare(int fd);

#endif
