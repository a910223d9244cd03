/* SPDX-License-Identifier: Apache-2.0 */
/* A device server as a program has it: its socket from elsewhere, its loop in the program's hands.
 */
#include "server_client.h"

#include "base/unix_socket.h"

#define BALLAST "{\"id\":\"dev\",\"type\":\"ballast\",\"size\":\"64K\"%s}"

static int create(const char *more, struct gw_device_server_options options,
                  struct gw_device_server **out, struct gw_error *err)
{
	char json[256];

	snprintf(json, sizeof(json), BALLAST, more);
	options.size = sizeof(options);
	return gw_device_server_new(json, &options, out, err);
}

static void refused(struct gw_device_server_options options, int error, const char *words)
{
	struct gw_device_server *server = NULL;
	struct gw_error err = { 0 };

	cr_assert_eq(create("", options, &server, &err), error, "%s: %s", words, err.text);
	cr_assert(strstr(err.text, words), "%s", err.text);
	cr_assert_null(server);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* One that listens, at a name that the kernel picks (unix(7), autobind). */
static int listen_unix(int type)
{
	const struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	cr_assert_eq(bind(fd, (const struct sockaddr *)&sun, sizeof(sa_family_t)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

Test(device_server, sockets_that_will_not_do_stay_the_callers)
{
	struct gw_error err;
	int pair[2], packets = listen_unix(SOCK_SEQPACKET), good = listen_unix(SOCK_STREAM);
	int tcp = socket(AF_INET, SOCK_STREAM, 0), file = memfd_create("x", 0);
	struct gw_device_server *server;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(listen(tcp, 1), 0);
	refused((struct gw_device_server_options){ .listen_fd = -1 }, -EINVAL, "one of path");
	refused((struct gw_device_server_options){ .listen_fd = good, .path = "/tmp/x" }, -EINVAL,
	        "one of path");
	refused((struct gw_device_server_options){ .listen_fd = 999 }, -EINVAL, "Bad file");
	refused((struct gw_device_server_options){ .listen_fd = file }, -EINVAL,
	        "Socket operation");
	refused((struct gw_device_server_options){ .listen_fd = pair[0] }, -EINVAL, "that listens");
	refused((struct gw_device_server_options){ .listen_fd = packets }, -EINVAL, "stream");
	refused((struct gw_device_server_options){ .listen_fd = tcp }, -EINVAL, "not a UNIX");
	/* A good one, and a device that is none. */
	cr_assert_eq(create(",\"fail\":\"x\"",
	                    (struct gw_device_server_options){ .listen_fd = good }, &server, &err),
	             -EINVAL);
	cr_assert(is_open(good) && is_open(pair[0]) && is_open(packets) && is_open(tcp));
	close(good);
	close(packets);
	close(pair[0]);
	close(pair[1]);
	close(tcp);
	close(file);
}

/* A reply to `command`, with the server's loop turned by hand; 0: there is none. */
static size_t ask(struct gw_device_server *server, int socket, unsigned command, const void *data,
                  size_t len, int *dispatched)
{
	static uint8_t room[WIRE_MESSAGE_MAX];
	const struct wire_header header = { .command = (uint16_t)command };
	const struct iovec part = { (void *)(uintptr_t)data, len };
	struct wire_message reply = { .payload = room };
	struct pollfd pfd = { .fd = socket, .events = POLLIN };
	struct gw_error err;

	cr_assert_eq(wire_send(socket, &header, &part, 1, NULL, 0, patience_ms()), 0);
	wait_turning(poll(&pfd, 1, 0) == 1,
	             *dispatched = gw_device_server_dispatch(server, 100, &err), "no reply");
	if (wire_receive(socket, &reply, patience_ms()) < 0)
		return 0;
	wire_close_fds(&reply);
	return reply.header.flags & WIRE_ERROR ? 0 : reply.len;
}

Test(device_server, the_programs_loop_and_socket)
{
	const struct wire_version version = { WIRE_MAJOR, WIRE_MINOR };
	const uint32_t info[4] = { 16 };
	struct gw_device_server *server;
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	struct gw_error err = { 0 };
	int dispatched = 0, fd = listen_unix(SOCK_STREAM);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sun, &len), 0);
	cr_assert_eq(
	        create(",\"die-at\":\"2\"",
	               (struct gw_device_server_options){ .listen_fd = fd, .external_loop = true },
	               &server, &err),
	        0, "%s", err.text);
	cr_assert_geq(gw_device_server_fd(server), 0);
	cr_assert_eq(gw_device_server_wait(server, 0, &err), -EINVAL);
	cr_assert_eq(connect(client, (struct sockaddr *)&sun, len), 0);
	cr_assert(ask(server, client, WIRE_VERSION, &version, sizeof(version), &dispatched));
	cr_assert_eq(ask(server, client, WIRE_DEVICE_GET_INFO, info, sizeof(info), &dispatched),
	             16);
	cr_assert_eq(dispatched, 0);
	cr_assert_eq(ask(server, client, WIRE_DEVICE_GET_INFO, info, sizeof(info), &dispatched), 0);
	cr_assert_eq(dispatched, -ESHUTDOWN, "the second was its last");
	cr_assert(is_open(fd));
	gw_device_server_free(server);
	cr_assert_not(is_open(fd), "it was taken over");
	close(client);
}

/* A socket at a path goes with its server, also with one that was made to fail. */
Test(device_server, the_path_goes_with_it)
{
	struct sclient *c = sclient_new("\"type\":\"ballast\",\"size\":\"64K\",\"die-at\":\"1\"",
	                                GW_SERVER_V2, GW_SERVER_TRAPPED);
	struct gw_error err;
	char path[64];

	strcpy(path, c->path);
	sclient_version(c, false);
	cr_assert_eq(sclient_call(c, WIRE_DEVICE_RESET, NULL, 0, NULL, 0), -EPIPE);
	cr_assert_eq(gw_device_server_wait(c->server, patience_ms(), &err), -ESHUTDOWN);
	cr_assert_eq(access(path, F_OK), 0);
	sclient_free(c);
	cr_assert_lt(access(path, F_OK), 0);
}
