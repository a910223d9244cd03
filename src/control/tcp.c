/* SPDX-License-Identifier: Apache-2.0 */
#include "control/tcp.h"

#include "base/error.h"
#include "base/util.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 16
#define IDLE_S 30
#define PROBE_S 10
#define PROBES 3

/* Cuts "HOST:PORT" or "[HOST]:PORT" in place. */
static bool split(char *where, char **host, char **port)
{
	char *colon = strrchr(where, ':');

	if (!colon || !colon[1])
		return false;
	*colon = 0;
	*port = colon + 1;
	*host = where;
	if (*where == '[') {
		if (colon - where < 3 || colon[-1] != ']')
			return false;
		colon[-1] = 0;
		*host = where + 1;
		return true;
	}
	return !strchr(where, ':');
}

static int listen_on(const struct addrinfo *address)
{
	autoclose int fd =
	        socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

int tcp_listen(const char *where, int *out, struct gw_error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	autofree char *copy = strdup(where);
	struct addrinfo *list = NULL;
	char *host, *port;
	int r;

	if (!copy)
		return error_set(err, -ENOMEM, "%s: out of memory", where);
	if (!split(copy, &host, &port))
		return error_set(err, -EINVAL, "%s: not HOST:PORT", where);
	r = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (r)
		return error_set(err, r == EAI_MEMORY ? -ENOMEM : -EINVAL, "%s: %s", where,
		                 gai_strerror(r));
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a && r < 0; a = a->ai_next)
		r = listen_on(a);
	freeaddrinfo(list);
	if (r < 0)
		return error_set_sys(err, r, "%s", where);
	*out = r;
	return 0;
}

/* tcp(7). Nothing here is worth losing a connection for. */
void tcp_prepare(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, PROBE_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, PROBES },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (IDLE_S + PROBE_S * PROBES) * 1000 },
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}
