/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock in user space: connections of both sides, and how they end. */
#include "vsock_world.h"

/* ---- the guest connects --------------------------------------------------------- */

Test(virtio_vsock, configuration_space)
{
	struct stat st;
	struct world w;

	begin(&w, 0);
	cr_assert_eq(pci_get(w.d.v->function.config, 0, 4), 0x10531af4);
	cr_assert_eq(vdriver_config(&w.d, 0, 4), CID);
	cr_assert_eq(vdriver_config(&w.d, 4, 4), 0);
	cr_assert_eq(stat(w.o.socket, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	end(&w);
}

Test(virtio_vsock, a_connection_of_the_guests)
{
	const struct vsock_header rw = header(VSOCK_OP_RW, 1000, 52);
	char text[BUFFER] = "";
	struct vsock_header h;
	struct world w;
	int fd;

	begin(&w, 16);
	fd = guest_connects(&w, 65536);
	guest_send(&w, &rw, "hello, host", 11);
	cr_assert_eq(host_read(&w, fd, text), 11);
	cr_assert_eq(memcmp(text, "hello, host", 11), 0);
	cr_assert_eq(write(fd, "hello, guest", 12), 12);
	h = guest_receive(&w, text);
	cr_assert_eq(h.op, VSOCK_OP_RW);
	cr_assert_eq(h.len, 12);
	cr_assert_eq(h.fwd_cnt, 11, "what the host has taken");
	cr_assert_eq(memcmp(text, "hello, guest", 12), 0);
	/* The guest ends it. */
	h = header(VSOCK_OP_SHUTDOWN, 1000, 52);
	h.flags = VSOCK_NO_BOTH;
	guest_send(&w, &h, NULL, 0);
	cr_assert_eq(op_of(&w), VSOCK_OP_RST);
	cr_assert_eq(host_read(&w, fd, text), 0);
	await_conns(&w, 0);
	close(fd);
	end(&w);
}

Test(virtio_vsock, nobody_listens)
{
	struct vsock_header h;
	struct world w;

	begin(&w, 4);
	guest_op(&w, VSOCK_OP_REQUEST, 1000, 52);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_RST);
	cr_assert_eq(h.src_port, 52);
	cr_assert_eq(h.dst_port, 1000);
	end(&w);
}

Test(virtio_vsock, the_host_ends_it)
{
	struct vsock_header h;
	struct world w;
	int fd;

	begin(&w, 16);
	fd = guest_connects(&w, 65536);
	cr_assert_eq(write(fd, "last words", 10), 10);
	close(fd);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_RW);
	cr_assert_eq(h.len, 10);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_SHUTDOWN);
	cr_assert_eq(h.flags, VSOCK_NO_BOTH);
	await_conns(&w, 1); /* until the guest confirms */
	guest_op(&w, VSOCK_OP_RST, 1000, 52);
	await_conns(&w, 0);
	cr_assert(quiet(&w));
	end(&w);
}

Test(virtio_vsock, half_closed)
{
	const struct vsock_header rw = header(VSOCK_OP_RW, 1000, 52);
	struct vsock_header h;
	char text[256];
	struct world w;
	int fd;

	begin(&w, 16);
	fd = guest_connects(&w, 65536);
	shutdown(fd, SHUT_WR);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_SHUTDOWN);
	cr_assert_eq(h.flags, VSOCK_NO_SEND);
	guest_send(&w, &rw, "more", 4);
	cr_assert_eq(host_read(&w, fd, text), 4);
	close(fd);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_SHUTDOWN);
	cr_assert_eq(h.flags, VSOCK_NO_BOTH);
	end(&w);
}

Test(virtio_vsock, the_guest_sends_no_more_but_reads)
{
	struct vsock_header h = header(VSOCK_OP_SHUTDOWN, 1000, 52);
	char text[BUFFER];
	struct world w;
	int fd;

	begin(&w, 16);
	fd = guest_connects(&w, 65536);
	h.flags = VSOCK_NO_SEND;
	guest_send(&w, &h, NULL, 0);
	cr_assert_eq(host_read(&w, fd, text), 0);
	cr_assert_eq(write(fd, "answer", 6), 6);
	cr_assert_eq(guest_receive(&w, text).len, 6);
	h = header(VSOCK_OP_RW, 1000, 52);
	guest_send(&w, &h, "x", 1);
	cr_assert_eq(op_of(&w), VSOCK_OP_RST, "it said that it would not");
	close(fd);
	end(&w);
}

/* ---- the host connects ---------------------------------------------------------- */

Test(virtio_vsock, a_connection_of_the_hosts)
{
	struct vsock_header h;
	char text[256], want[64];
	struct world w;
	int fd;

	begin(&w, 16);
	fd = unix_socket(w.o.socket, false);
	cr_assert_eq(write(fd, "CONNECT 7", 9), 9);
	cr_assert(quiet(&w), "the line is not whole");
	cr_assert_eq(write(fd, "7\nearly", 7), 7);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_REQUEST);
	cr_assert_eq(h.dst_port, 77);
	guest_op(&w, VSOCK_OP_RESPONSE, 77, h.src_port);
	snprintf(want, sizeof(want), "OK %u\n", h.src_port);
	cr_assert_eq(host_read(&w, fd, text), (ssize_t)strlen(want));
	cr_assert_eq(memcmp(text, want, strlen(want)), 0);
	h = guest_receive(&w, text);
	cr_assert_eq(h.op, VSOCK_OP_RW);
	cr_assert_eq(h.len, 5);
	cr_assert_eq(memcmp(text, "early", 5), 0);
	close(fd);
	end(&w);
}

Test(virtio_vsock, a_connection_that_the_guest_refuses)
{
	struct vsock_header h;
	char text[256];
	struct world w;
	int fd;

	begin(&w, 4);
	fd = unix_socket(w.o.socket, false);
	cr_assert_eq(write(fd, "CONNECT 77\n", 11), 11);
	h = guest_receive(&w, NULL);
	guest_op(&w, VSOCK_OP_RST, 77, h.src_port);
	cr_assert_eq(host_read(&w, fd, text), 0);
	close(fd);
	end(&w);
}

Test(virtio_vsock, lines_that_make_no_sense)
{
	static const char *const lines[] = { "HELLO\n",
		                             "CONNECT \n",
		                             "CONNECT -1\n",
		                             "CONNECT 4294967296\n",
		                             "CONNECT 5 6\n",
		                             "connect 5\n",
		                             "CONNECT 00000000000000000000000000000005\n" };
	char text[256];
	struct world w;

	begin(&w, 8);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		int fd = unix_socket(w.o.socket, false);

		cr_assert_eq(write(fd, lines[i], strlen(lines[i])), (ssize_t)strlen(lines[i]));
		cr_assert_eq(host_read(&w, fd, text), 0, "%s", lines[i]);
		close(fd);
	}
	cr_assert(quiet(&w));
	await_conns(&w, 0);
	end(&w);
}

Test(virtio_vsock, the_host_gives_up_before_the_guest_answers)
{
	struct vsock_header h;
	struct world w;
	int fd;

	begin(&w, 4);
	fd = unix_socket(w.o.socket, false);
	cr_assert_eq(write(fd, "CONNECT 77\n", 11), 11);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_REQUEST);
	close(fd);
	cr_assert_eq(op_of(&w), VSOCK_OP_RST);
	end(&w);
}
