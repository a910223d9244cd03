/* SPDX-License-Identifier: Apache-2.0 */
#include "control_client.h"

#include <criterion/criterion.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void server_start(struct control_server *s, const char *group)
{
	struct gw_control_options options = {
		.size = sizeof(options), .listen_fd = -1, .path = s->path, .group = group
	};
	struct gw_error err;

	strcpy(s->dir, "/tmp/godwit-srv-XXXXXX");
	cr_assert(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/ctl", s->dir);
	cr_assert_eq(gw_vm_new(NULL, &s->vm, &err), 0, "%s", err.text);
	cr_assert_eq(gw_control_new_with(s->vm, &options, &s->control, &err), 0, "%s", err.text);
}

void server_stop(struct control_server *s)
{
	gw_control_free(s->control);
	gw_vm_free(s->vm);
	cr_expect_eq(rmdir(s->dir), 0, "something is left in %s", s->dir);
}

int server_dial(const struct control_server *s)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, s->path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

int server_talk(const struct control_server *s, bool oob)
{
	int fd = server_dial(s);

	expect_part(fd, "{\"QMP\":{\"version\":");
	say(fd, oob ? "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\r\n"
	            : "{\"execute\":\"qmp_capabilities\"}\r\n");
	expect_line(fd, "{\"return\":{}}");
	return fd;
}

void say(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

void say_with_fd(int fd, const char *text, int sent)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &sent, sizeof(int));
	cr_assert_eq(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

const char *hear(int fd, char *line, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		cr_assert_eq(poll(&pfd, 1, patience_ms()), 1, "nothing comes");
		if (recv(fd, line + len, 1, 0) <= 0)
			break;
		if (line[len] == '\n')
			break;
		len++;
	}
	line[len] = 0;
	if (len) {
		cr_assert_eq(line[len - 1], '\r');
		line[len - 1] = 0;
	}
	return line;
}

void expect_line(int fd, const char *wanted)
{
	char line[65536];

	cr_assert_str_eq(hear(fd, line, sizeof(line)), wanted);
}

void expect_part(int fd, const char *wanted)
{
	char line[65536];

	hear(fd, line, sizeof(line));
	cr_assert(strstr(line, wanted), "\"%s\" is not in: %s", wanted, line);
}

void expect_silence(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	cr_assert_eq(poll(&pfd, 1, ms), 0, "something comes");
}
