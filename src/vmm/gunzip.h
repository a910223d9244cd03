/* SPDX-License-Identifier: Apache-2.0 */
/* Source: RFC 1952. */
#ifndef VMM_GUNZIP_H
#define VMM_GUNZIP_H

#include <stddef.h>

#define GZIP_MAGIC "\x1f\x8b"
#define GZIP_MAGIC_LEN 2

/* Unpacks [in, in + len) to `out`, which has room for `room` bytes; *taken and *used are how far it
 * got in either. What is packed may be anybody's. -EBADMSG: damaged or cut off; -ENOSPC: more than
 * there is room for; -ENOMEM. */
int gunzip(const void *in, size_t len, size_t *taken, void *out, size_t room, size_t *used);

#endif
