/* SPDX-License-Identifier: Apache-2.0 */
#include "control/listener.h"

#include "base/error.h"
#include "base/util.h"
#include "control/tcp.h"

#include <sys/socket.h>

/* ---- opening ------------------------------------------------------------------------------- */

/* A socket from elsewhere: is it one to serve on? */
static int adopt(const struct gw_control_options *options, struct listener *l, struct gw_error *err)
{
	int family, r = listening_socket_adopt(options->listen_fd, &family, err);

	if (r < 0)
		return r;
	l->is_unix = family == AF_UNIX;
	if (!l->is_unix && family != AF_INET && family != AF_INET6)
		return error_set(err, -EINVAL, "listen_fd %d: neither UNIX nor TCP",
		                 options->listen_fd);
	return 0;
}

static int check(const struct gw_control_options *options, struct gw_error *err)
{
	const int places = !!options->path + !!options->tcp + (options->listen_fd >= 0);

	if (places != 1)
		return error_set(err, -EINVAL, "one of path, listen_fd and tcp is needed, not %d",
		                 places);
	if (options->tcp && options->group)
		return error_set(err, -EINVAL, "group: with TLS, certificates say who may come");
	if (options->path && options->tls_dir)
		return error_set(err, -EINVAL, "tls_dir: a UNIX socket has no use for it");
	return 0;
}

/* What of TLS and credentials the kind of socket asks for. */
static int prepare_checks(const struct gw_control_options *options, struct listener *l,
                          struct gw_error *err)
{
	if (l->is_unix)
		return peer_rule_init(&l->rule, options->group, err);
	if (!options->tls_dir)
		return error_set(err, -EINVAL, "TCP is served with TLS only: tls_dir is needed");
	return tls_identity_load(options->tls_dir, TLS_SERVER, &l->identity, err);
}

int listener_open(const struct gw_control_options *options, struct listener *out,
                  struct gw_error *err)
{
	int r = check(options, err);

	*out = (struct listener){ .fd = -1, .socket.fd = -1, .is_unix = options->path };
	if (!r && options->listen_fd >= 0)
		r = adopt(options, out, err);
	if (!r)
		r = prepare_checks(options, out, err);
	if (!r && options->path) {
		r = unix_socket_open(options->path, options->group ? &out->rule.group : NULL,
		                     &out->socket, err);
		out->fd = out->socket.fd;
	} else if (!r && options->tcp) {
		r = tcp_listen(options->tcp, &out->fd, err);
	} else if (!r) {
		out->fd = options->listen_fd;
	}
	if (r < 0)
		listener_close(out);
	return r;
}

void listener_close(struct listener *l)
{
	if (l->socket.fd >= 0)
		unix_socket_close(&l->socket);
	else if (l->fd >= 0)
		close(l->fd);
	tls_identity_free(l->identity);
	*l = (struct listener){ .fd = -1, .socket.fd = -1 };
}

/* ---- clients ------------------------------------------------------------------------------- */

int listener_accept(struct listener *l, struct channel **out, enum peer_kind *kind)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	/* accept(2): errors of the connection itself come here too, and are to be tried again. */
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS
		               ? -errno
		               : -EAGAIN;
	*kind = PEER_REMOTE;
	if (!l->is_unix) {
		tcp_prepare(fd);
		return channel_tls_create(fd, l->identity, out, NULL);
	}
	if (peer_check(&l->rule, fd, kind) < 0) {
		close(fd);
		return -EAGAIN;
	}
	return channel_plain_create(fd, out, NULL);
}
