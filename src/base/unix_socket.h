/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UNIX socket that appears at its path when it already listens, with mode
 * 0600 from the first instant (0660 for a group), and replaces one that nobody listens on.
 */
#ifndef BASE_UNIX_SOCKET_H
#define BASE_UNIX_SOCKET_H

#include "godwit.h"

#include <sys/stat.h>

struct unix_socket {
	int fd; /* non-blocking; -1: none */
	char *path;
	dev_t dev; /* of what stands at path, so that nothing else is removed */
	ino_t ino;
};

/* `group` may use it as well; NULL: none. Errors: -EADDRINUSE (somebody listens), -EEXIST
 * (something that is no socket), -ENAMETOOLONG. */
int unix_socket_open(const char *path, const gid_t *group, struct unix_socket *out,
                     struct gw_error *err);
void unix_socket_close(struct unix_socket *socket);

/* One that somebody else has made, of whatever family, and that is to be served on: it must be a
 * stream socket that listens (-EINVAL), and becomes non-blocking. */
int listening_socket_adopt(int fd, int *family, struct gw_error *err);

#endif
