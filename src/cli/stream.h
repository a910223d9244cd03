/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to a control socket: a UNIX socket by its path, or tls:HOST:PORT. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "godwit.h"

#include <stdint.h>
#include <sys/types.h>

struct stream;

/* `deadline_ms` is a time of now_ms(), -1: none. With one, a socket that is not there yet is waited
 * for. `tls_dir` holds ca-cert.pem, client-cert.pem, client-key.pem; only TLS needs it. */
int stream_connect(const char *where, const char *tls_dir, int64_t deadline_ms, struct stream **out,
                   struct gw_error *err);
void stream_close(struct stream *stream);

/* Bytes, 0 at the end; -ETIMEDOUT. */
ssize_t stream_read(struct stream *stream, void *buf, size_t len, int64_t deadline_ms,
                    struct gw_error *err);
int stream_write(struct stream *stream, const void *buf, size_t len, int64_t deadline_ms,
                 struct gw_error *err);
/* Readable when something may have come. */
int stream_fd(const struct stream *stream);

#endif
