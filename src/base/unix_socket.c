/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket is bound under a name of its own, set to listen, and then linked
 * to its path. So whoever finds a socket at the path that refuses connections
 * knows that its owner is gone, and not that it is about to listen.
 */
#include "base/unix_socket.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 16
/* Others may take the path between our looks at it; give up after so many. */
#define ATTEMPTS 8

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	return sun;
}

/* Does somebody listen? 1, 0, or a negative errno. */
static int is_alive(const char *path)
{
	const struct sockaddr_un sun = address_of(path);
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0)
		return 1;
	switch (errno) {
	case EAGAIN: /* its backlog is full */
		return 1;
	case ECONNREFUSED:
		return 0;
	default:
		return -errno;
	}
}

/* Removes a socket that nobody listens on. -EAGAIN: it has just gone or changed. */
static int remove_stale(const char *path, struct gw_error *err)
{
	struct stat before, after;
	int alive;

	if (lstat(path, &before) < 0)
		return errno == ENOENT ? -EAGAIN : error_set_sys(err, -errno, "%s", path);
	if (!S_ISSOCK(before.st_mode))
		return error_set(err, -EEXIST, "%s: exists, and is no socket", path);
	alive = is_alive(path);
	if (alive > 0)
		return error_set(err, -EADDRINUSE, "%s: somebody listens there already", path);
	if (alive == -ENOENT)
		return -EAGAIN;
	if (alive < 0)
		return error_set_sys(err, alive, "%s: connect", path);
	if (lstat(path, &after) < 0 || after.st_ino != before.st_ino ||
	    after.st_dev != before.st_dev)
		return -EAGAIN;
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set_sys(err, -errno, "%s: unlink", path);
	return 0;
}

static int publish(const char *bound, const char *path, struct gw_error *err)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int r;

		if (link(bound, path) == 0)
			return 0;
		if (errno != EEXIST)
			return error_set_sys(err, -errno, "%s: link", path);
		r = remove_stale(path, err);
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	return error_set(err, -EADDRINUSE, "%s: others take it again and again", path);
}

/*
 * unix(7): bind() gives the new name the mode that fchmod() has set on the socket before. The group
 * gets its share when the socket is the group's, not before.
 */
static int bind_and_listen(int fd, const char *bound, const gid_t *group, struct gw_error *err)
{
	const struct sockaddr_un sun = address_of(bound);

	unlink(bound); /* of a process that had our thread's id, and died in here */
	if (fchmod(fd, 0600) < 0)
		return error_set_sys(err, -errno, "%s: fchmod", bound);
	if (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0)
		return error_set_sys(err, -errno, "%s: bind", bound);
	if (group && lchown(bound, (uid_t)-1, *group) < 0)
		return error_set_sys(err, -errno, "%s: chown to group %u", bound, *group);
	if (group && chmod(bound, 0660) < 0)
		return error_set_sys(err, -errno, "%s: chmod", bound);
	if (listen(fd, BACKLOG) < 0)
		return error_set_sys(err, -errno, "%s: listen", bound);
	return 0;
}

int unix_socket_open(const char *path, const gid_t *group, struct unix_socket *out,
                     struct gw_error *err)
{
	char bound[sizeof(((struct sockaddr_un *)0)->sun_path)];
	autofree char *kept = NULL;
	autoclose int fd = -1;
	struct stat st;
	int r;

	*out = (struct unix_socket){ .fd = -1 };
	if ((size_t)snprintf(bound, sizeof(bound), "%s.%x", path, (unsigned)gettid()) >=
	    sizeof(bound))
		return error_set(err, -ENAMETOOLONG, "%s: too long for a socket (at most %zu)",
		                 path, sizeof(bound) - sizeof(".ffffffff"));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_sys(err, -errno, "%s: socket", path);
	kept = strdup(path);
	if (!kept)
		return error_set(err, -ENOMEM, "%s: out of memory", path);
	r = bind_and_listen(fd, bound, group, err);
	if (!r && lstat(bound, &st) < 0)
		r = error_set_sys(err, -errno, "%s", bound);
	if (!r)
		r = publish(bound, path, err);
	unlink(bound);
	if (r < 0)
		return r;
	out->path = take_ptr(&kept);
	out->fd = take_fd(&fd);
	out->dev = st.st_dev;
	out->ino = st.st_ino;
	return 0;
}

static int option_of(int fd, int name, int *out)
{
	socklen_t size = sizeof(*out);

	return getsockopt(fd, SOL_SOCKET, name, out, &size) < 0 ? -errno : 0;
}

int listening_socket_adopt(int fd, int *family, struct gw_error *err)
{
	int listens, type;
	int r = option_of(fd, SO_ACCEPTCONN, &listens);

	if (!r)
		r = option_of(fd, SO_TYPE, &type);
	if (!r)
		r = option_of(fd, SO_DOMAIN, family);
	if (r == -EBADF || r == -ENOTSOCK)
		return error_set(err, -EINVAL, "listen_fd %d: %s", fd, strerror(-r));
	if (r < 0)
		return error_set_sys(err, r, "listen_fd %d", fd);
	if (!listens || type != SOCK_STREAM)
		return error_set(err, -EINVAL, "listen_fd %d: not a stream socket that listens",
		                 fd);
	r = io_set_nonblock(fd, 1);
	if (r < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return error_set_sys(err, r < 0 ? r : -errno, "listen_fd %d", fd);
	return 0;
}

void unix_socket_close(struct unix_socket *s)
{
	struct stat st;

	if (s->fd < 0)
		return;
	if (lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	close(s->fd);
	free(s->path);
	*s = (struct unix_socket){ .fd = -1 };
}
