/* SPDX-License-Identifier: Apache-2.0 */
/* vfio-user: messages over a socket, and what two sides say of themselves. */
#include "vfio/user/wire.h"

#include "patience.h"

#include "base/util.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct ends {
	int a, b;
	struct wire_message in;
};

static struct ends connected(void)
{
	struct ends e = { 0 };
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	e.a = pair[0];
	e.b = pair[1];
	e.in.payload = malloc(WIRE_MESSAGE_MAX);
	return e;
}

static void done(struct ends *e)
{
	free(e->in.payload);
	close(e->a);
	if (e->b >= 0)
		close(e->b);
}

Test(vfio_user_wire, a_message_with_parts_and_descriptors)
{
	struct ends e = connected();
	struct wire_header h = { .id = 7, .command = WIRE_REGION_WRITE, .flags = WIRE_NO_REPLY };
	struct wire_region_access access = { 0x100, 2, 4 };
	const struct iovec parts[] = { { &access, sizeof(access) }, { "data", 4 } };
	int fds[WIRE_MAX_FDS], taken;

	for (unsigned i = 0; i < WIRE_MAX_FDS; i++)
		fds[i] = eventfd(i + 1, EFD_CLOEXEC);
	cr_assert_eq(wire_send(e.a, &h, parts, 2, fds, WIRE_MAX_FDS, patience_ms()), 0);
	cr_assert_eq(wire_receive(e.b, &e.in, patience_ms()), 0);
	cr_assert_eq(e.in.header.id, 7);
	cr_assert_eq(e.in.header.size, 16 + sizeof(access) + 4);
	cr_assert_eq(e.in.len, sizeof(access) + 4);
	cr_assert_eq(memcmp(e.in.payload, &access, sizeof(access)), 0);
	cr_assert_eq(memcmp(e.in.payload + sizeof(access), "data", 4), 0);
	cr_assert_eq(e.in.fd_count, WIRE_MAX_FDS);
	taken = wire_take_fd(&e.in, 3);
	cr_assert_geq(taken, 0);
	cr_assert(fcntl(taken, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(wire_take_fd(&e.in, WIRE_MAX_FDS), -1);
	wire_close_fds(&e.in);
	cr_assert_geq(fcntl(taken, F_GETFD), 0, "who has taken one keeps it");
	close(taken);
	for (unsigned i = 0; i < WIRE_MAX_FDS; i++)
		close(fds[i]);
	done(&e);
}

static void *read_slowly(void *opaque)
{
	char some[4096];

	while (read(*(int *)opaque, some, sizeof(some)) > 0)
		usleep(20000);
	return NULL;
}

/* A peer that always takes a little holds nobody up for longer than one that takes nothing. */
Test(vfio_user_wire, the_time_for_a_whole_message)
{
	struct ends e = connected();
	const struct wire_header h = { .command = WIRE_REGION_WRITE };
	uint8_t *data = calloc(1, WIRE_MAX_DATA);
	const struct iovec part = { data, WIRE_MAX_DATA };
	pthread_t reader;
	int64_t begun = now_ms();

	cr_assert_eq(setsockopt(e.a, SOL_SOCKET, SO_SNDBUF, &(int){ 8192 }, sizeof(int)), 0);
	cr_assert_eq(pthread_create(&reader, NULL, read_slowly, &e.b), 0);
	cr_assert_eq(wire_send(e.a, &h, &part, 1, NULL, 0, 500), -ETIMEDOUT);
	cr_assert_geq(now_ms() - begun, 500);
	shutdown(e.a, SHUT_RDWR);
	pthread_join(reader, NULL);
	free(data);
	done(&e);
}

Test(vfio_user_wire, sizes_that_no_message_has)
{
	const uint32_t sizes[] = { 0, 15, WIRE_MESSAGE_MAX + 1, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct ends e = connected();
		struct wire_header h = { .size = sizes[i] };

		cr_assert_eq(write(e.a, &h, sizeof(h)), (ssize_t)sizeof(h));
		cr_assert_eq(wire_receive(e.b, &e.in, patience_ms()), -EPROTO, "%u", sizes[i]);
		done(&e);
	}
}

Test(vfio_user_wire, ends_before_in_and_after_a_message)
{
	struct wire_header h = { .size = 32 };
	const size_t lens[] = { 0, 5, sizeof(h), sizeof(h) };
	const int codes[] = { -ENODATA, -EPIPE, -EPIPE, -ETIMEDOUT };

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct ends e = connected();

		cr_assert_eq(write(e.b, &h, lens[i]), (ssize_t)lens[i]);
		if (codes[i] != -ETIMEDOUT) {
			close(e.b);
			e.b = -1;
		}
		cr_assert_eq(wire_receive(e.a, &e.in, 50), codes[i], "%zu", i);
		done(&e);
	}
}

/* More than one message may carry: the first are kept, and none is leaked. */
Test(vfio_user_wire, too_many_descriptors)
{
	struct ends e = connected();
	int fds[WIRE_MAX_FDS + 4], next, after;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(fds))];
	} control = { .head = { CMSG_LEN(sizeof(fds)), SOL_SOCKET, SCM_RIGHTS } };
	struct wire_header h = { .size = sizeof(h) };
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr msg = { .msg_iov = &iov,
		              .msg_iovlen = 1,
		              .msg_control = &control,
		              .msg_controllen = sizeof(control) };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = e.a;
	memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
	next = dup(e.a);
	close(next);
	cr_assert_eq(sendmsg(e.a, &msg, 0), (ssize_t)sizeof(h));
	cr_assert_eq(wire_receive(e.b, &e.in, patience_ms()), 0);
	cr_assert(e.in.fds_dropped);
	cr_assert_eq(e.in.fd_count, WIRE_MAX_FDS);
	wire_close_fds(&e.in);
	after = dup(e.a);
	cr_assert_eq(after, next, "a descriptor was left open");
	close(after);
	done(&e);
}

Test(vfio_user_wire, who_does_not_wait_sends_all_or_nothing)
{
	struct ends e = connected();
	struct wire_header h = { .command = WIRE_REGION_WRITE };
	char data[4096] = { 0 };
	const struct iovec part = { data, sizeof(data) };
	unsigned sent = 0, got = 0;
	int r;

	while ((r = wire_send(e.a, &h, &part, 1, NULL, 0, 0)) == 0)
		sent++;
	cr_assert_eq(r, -EAGAIN);
	cr_assert_gt(sent, 1);
	cr_assert_eq(wire_send(e.a, &h, &part, 1, NULL, 0, 20), -ETIMEDOUT);
	for (; got < sent; got++)
		cr_assert_eq(wire_receive(e.b, &e.in, patience_ms()), 0);
	cr_assert_eq(recv(e.b, data, 1, MSG_DONTWAIT), -1, "nothing but whole messages");
	close(e.b);
	e.b = -1;
	cr_assert_eq(wire_send(e.a, &h, &part, 1, NULL, 0, 0), -EPIPE, "and no signal");
	done(&e);
}

/* ---- capabilities ---------------------------------------------------------------------- */

Test(vfio_user_wire, capabilities_there_and_back)
{
	struct wire_caps caps = { 16, 65536, 100, 0x201000, true, 2, true }, back;
	struct gw_error err;
	char *text = wire_caps_print(&caps);

	cr_assert_eq(wire_caps_parse(text, strlen(text) + 1, &back, &err), 0, "%s", err.text);
	cr_assert_eq(back.max_msg_fds, 16);
	cr_assert_eq(back.max_data_xfer_size, 65536);
	cr_assert_eq(back.max_dma_maps, 100);
	cr_assert_eq(back.pgsizes, 0x201000);
	cr_assert(back.twin_socket);
	cr_assert_eq(back.twin_fd, 2);
	cr_assert(back.write_multiple);
	free(text);
	cr_assert_eq(wire_caps_parse(NULL, 0, &back, &err), 0);
	cr_assert_eq(back.max_msg_fds, 1);
	cr_assert_eq(back.max_data_xfer_size, 1048576);
	cr_assert_eq(back.max_dma_maps, 65535);
	cr_assert_eq(back.pgsizes, 4096);
	cr_assert_not(back.twin_socket);
}

Test(vfio_user_wire, capabilities_that_make_no_sense)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{} x",
		"{\"capabilities\":{\"max_msg_fds\":-1}}",
		"{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
		"{\"capabilities\":{\"max_data_xfer_size\":7}}",
		"{\"capabilities\":{\"max_data_xfer_size\":1e300}}",
		"{\"capabilities\":{\"max_dma_maps\":0}}",
		"{\"capabilities\":{\"pgsizes\":0}}",
		"{\"capabilities\":{\"pgsizes\":1e19}}",
		"{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":16}}}",
	};
	struct wire_caps caps;
	struct gw_error err;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		cr_assert_eq(wire_caps_parse(texts[i], strlen(texts[i]) + 1, &caps, &err), -EPROTO,
		             "%s", texts[i]);
	cr_assert_eq(wire_caps_parse("{}", 2, &caps, &err), -EPROTO, "without its end");
	cr_assert_eq(wire_caps_parse("{}\0", 4, &caps, &err), -EPROTO, "with two");
	cr_assert_eq(wire_caps_parse("{\"capabilities\":{\"new\":1}}", 27, &caps, &err), 0);
}
