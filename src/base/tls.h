/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.2 and 1.3 with certificates on both sides, on a socket, by GnuTLS.
 *
 * The library is loaded with the first identity: whoever has no use for TLS
 * spends neither time nor memory on it.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A CA, our certificate and its key. */
struct tls_identity;
struct tls_session;

enum tls_role { TLS_SERVER, TLS_CLIENT };

/* `dir` holds ca-cert.pem, and server-cert.pem and server-key.pem, or client-cert.pem and
 * client-key.pem. Errors name the file. -ENOSYS: GnuTLS is not installed. */
int tls_identity_load(const char *dir, enum tls_role role, struct tls_identity **out,
                      struct gw_error *err);
void tls_identity_free(struct tls_identity *identity);

/*
 * On a connected socket, which stays the caller's, as the identity does; both outlive the
 * session. The peer has to show a certificate of our CA that is meant for its role; `host`
 * (clients) is the name that it must be for.
 */
int tls_session_create(const struct tls_identity *identity, int fd, const char *host,
                       struct tls_session **out, struct gw_error *err);
/* Tells the peer, if that can be done without waiting. NULL is fine. */
void tls_session_free(struct tls_session *session);

/*
 * These return -EAGAIN where a socket that is non-blocking cannot go on; tls_wants_write() says
 * which way. -EPROTO: the session is over, and tls_reason() says why. A write that could not go
 * on has to be given the same bytes again. A read with room for 16 KiB leaves nothing behind that
 * poll(2) would not tell of.
 */
int tls_handshake(struct tls_session *session);
ssize_t tls_read(struct tls_session *session, void *buf, size_t len);
ssize_t tls_write(struct tls_session *session, const void *buf, size_t len);
bool tls_wants_write(struct tls_session *session);
/* What the last -EPROTO was. Valid until the next call. */
const char *tls_reason(struct tls_session *session);

#endif
