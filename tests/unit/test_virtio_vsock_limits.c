/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: credit, a hostile guest, another host, the kernel's vhost. */
#include "vsock_world.h"

#include <linux/vm_sockets.h>

/* ---- credit --------------------------------------------------------------------- */

Test(virtio_vsock, no_more_than_the_guest_has_room_for)
{
	struct vsock_header h = header(VSOCK_OP_CREDIT_UPDATE, 1000, 52);
	char text[BUFFER];
	struct world w;
	int fd;

	begin(&w, 16);
	fd = guest_connects(&w, 10);
	cr_assert_eq(write(fd, "0123456789abcdefghij", 20), 20);
	cr_assert_eq(guest_receive(&w, text).len, 10);
	cr_assert_eq(op_of(&w), VSOCK_OP_CREDIT_REQUEST);
	cr_assert(quiet(&w));
	h.buf_alloc = 10;
	h.fwd_cnt = 4;
	guest_send(&w, &h, NULL, 0);
	cr_assert_eq(guest_receive(&w, text).len, 4);
	cr_assert_eq(memcmp(text, "abcd", 4), 0);
	cr_assert_eq(op_of(&w), VSOCK_OP_CREDIT_REQUEST);
	/* More consumed than was ever sent: no room. */
	h.fwd_cnt = 1000;
	guest_send(&w, &h, NULL, 0);
	cr_assert(quiet(&w));
	h.fwd_cnt = 14;
	guest_send(&w, &h, NULL, 0);
	cr_assert_eq(guest_receive(&w, text).len, 6);
	close(fd);
	end(&w);
}

/* The guest writes 4 KiB pieces until it has filled `bytes`. */
static void guest_fills(struct world *w, size_t bytes)
{
	const struct vsock_header h = header(VSOCK_OP_RW, 1000, 52);
	static char piece[BUFFER];

	for (size_t done = 0; done < bytes; done += sizeof(piece)) {
		memset(piece, (int)(done / sizeof(piece)), sizeof(piece));
		guest_send(w, &h, piece, sizeof(piece));
		taken(w, 1);
	}
}

Test(virtio_vsock, a_slow_host_is_waited_for)
{
	const int small = 4096;
	size_t total = 0, expected;
	char text[256];
	uint32_t fwd;
	struct world w;
	struct vsock_conn *c;
	int fd;

	begin(&w, 32);
	fd = guest_connects(&w, 65536);
	c = vsock_of(w.d.v)->conns;
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	guest_fills(&w, VSOCK_BUFFER);
	fwd = c->fwd;
	cr_assert_lt(fwd, VSOCK_BUFFER, "the socket is full");
	cr_assert_eq(c->len, VSOCK_BUFFER - fwd);
	/* As much as has been told to be free. */
	expected = VSOCK_BUFFER + ALIGN_DOWN(fwd, BUFFER);
	guest_fills(&w, ALIGN_DOWN(fwd, BUFFER));
	while (total < expected) {
		ssize_t n = host_read(&w, fd, text);

		cr_assert_gt(n, 0);
		for (ssize_t i = 0; i < n; i++) {
			const size_t at = (total + (size_t)i) % VSOCK_BUFFER / BUFFER;

			/* The second filling counts from 0 again. */
			cr_assert_eq(text[i], (char)at, "byte %zu", total + (size_t)i);
		}
		total += (size_t)n;
	}
	cr_assert_eq(op_of(&w), VSOCK_OP_CREDIT_UPDATE, "the guest is told of the room");
	close(fd);
	end(&w);
}

Test(virtio_vsock, a_guest_that_sends_more_than_it_may_is_cut_off)
{
	const int small = 4096;
	struct vsock_conn *c;
	struct world w;
	int op, fd;

	begin(&w, 32);
	fd = guest_connects(&w, 65536);
	c = vsock_of(w.d.v)->conns;
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	guest_fills(&w, 3 * VSOCK_BUFFER);
	while ((op = op_of(&w)) == VSOCK_OP_CREDIT_UPDATE)
		continue;
	cr_assert_eq(op, VSOCK_OP_RST);
	await_conns(&w, 0);
	close(fd);
	end(&w);
}

Test(virtio_vsock, without_receive_buffers_everything_waits)
{
	struct vsock_header h;
	char text[BUFFER];
	struct world w;
	int fd, listener;

	begin(&w, 0);
	listener = listen_port_52(&w);
	guest_op(&w, VSOCK_OP_REQUEST, 1000, 52);
	guest_op(&w, VSOCK_OP_RW, 5, 5);
	fd = accept(listener, NULL, NULL);
	cr_assert_eq(write(fd, "hello", 5), 5);
	cr_assert(quiet(&w));
	add_buffers(&w, 8);
	h = guest_receive(&w, NULL);
	cr_assert_eq(h.op, VSOCK_OP_RST);
	cr_assert_eq(h.dst_port, 5);
	cr_assert_eq(op_of(&w), VSOCK_OP_RESPONSE);
	cr_assert_eq(guest_receive(&w, text).len, 5);
	close(fd);
	close(listener);
	end(&w);
}

/* ---- hostile -------------------------------------------------------------------- */

Test(virtio_vsock, packets_that_make_no_sense)
{
	static const struct {
		uint64_t src, dst;
		uint16_t type, op;
		int answer;
	} rows[] = {
		{ CID, 2, 1, VSOCK_OP_RW, VSOCK_OP_RST },
		{ CID, 2, 1, VSOCK_OP_RST, 0 },
		{ CID, 2, 1, 0, VSOCK_OP_RST },
		{ CID, 2, 1, 999, VSOCK_OP_RST },
		{ CID, 2, 7, VSOCK_OP_REQUEST, VSOCK_OP_RST },
		{ CID, 3, 1, VSOCK_OP_REQUEST, VSOCK_OP_RST },
		{ CID + 1, 2, 1, VSOCK_OP_REQUEST, 0 },
		{ (1ull << 32) + CID, 2, 1, VSOCK_OP_REQUEST, 0 },
	};
	struct world w;

	begin(&w, 32);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vsock_header h = header(rows[i].op, 1000, 52);

		h.src_cid = rows[i].src;
		h.dst_cid = rows[i].dst;
		h.type = rows[i].type;
		guest_send(&w, &h, NULL, 0);
		if (rows[i].answer)
			cr_assert_eq(op_of(&w), rows[i].answer, "row %zu", i);
		else
			cr_assert(quiet(&w), "row %zu", i);
	}
	vdriver_add_out(&w.d, VSOCK_TX, "short", 5);
	vdriver_kick(&w.d, VSOCK_TX);
	await_dropped(&w, 3);
	cr_assert(quiet(&w));
	cr_assert_eq(vdriver_status(&w.d) & VIRTIO_NEEDS_RESET, 0);
	end(&w);
}

Test(virtio_vsock, a_length_beyond_the_packet)
{
	struct vsock_header h = header(VSOCK_OP_RW, 1000, 52);
	struct world w;
	char byte;
	int fd;

	begin(&w, 8);
	fd = guest_connects(&w, 65536);
	h.len = 1000;
	vdriver_add_out(&w.d, VSOCK_TX, &h, sizeof(h));
	vdriver_kick(&w.d, VSOCK_TX);
	await_dropped(&w, 1);
	cr_assert_lt(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	cr_assert_eq(errno, EAGAIN);
	close(fd);
	end(&w);
}

Test(virtio_vsock, operations_in_the_wrong_state_end_the_connection)
{
	static const enum vsock_op ops[] = { VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE,
		                             (enum vsock_op)77 };

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct world w;
		int fd;

		begin(&w, 8);
		fd = guest_connects(&w, 65536);
		guest_op(&w, ops[i], 1000, 52);
		cr_assert_eq(op_of(&w), VSOCK_OP_RST);
		await_conns(&w, 0);
		close(fd);
		end(&w);
	}
}

Test(virtio_vsock, a_guest_that_asks_and_takes_nothing_fills_no_memory)
{
	struct vused used;
	struct world w;

	begin(&w, 0);
	for (unsigned i = 0; i < 128; i++) {
		const struct vsock_header h = header(VSOCK_OP_RW, i, 9);

		vdriver_add_out(&w.d, VSOCK_TX, &h, sizeof(h));
	}
	vdriver_kick(&w.d, VSOCK_TX);
	taken(&w, VSOCK_REPLIES);
	guest_op(&w, VSOCK_OP_RW, 500, 9);
	cr_assert(quiet(&w));
	cr_assert(!vdriver_used(&w.d, VSOCK_TX, &used), "no more is looked at");
	add_buffers(&w, 64);
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(op_of(&w), VSOCK_OP_RST);
	end(&w);
}

/* ---- moved ---------------------------------------------------------------------- */

struct told {
	struct vdriver *d;
	struct vused used;
};

static bool has_event(void *opaque)
{
	struct told *t = opaque;

	return vdriver_used(t->d, VSOCK_EVENT, &t->used);
}

Test(virtio_vsock, moves_without_its_connections)
{
	struct kept *kept = calloc(1, sizeof(*kept));
	struct vmachine *there = vmachine_new(8 * MIB);
	struct vsock_options o = { .cid = 43 };
	struct gw_error err = { 0 };
	struct vdriver b;
	struct told told = { .d = &b };
	struct world w;
	uint64_t event;
	int fd;

	begin(&w, 8);
	fd = guest_connects(&w, 65536);
	event = vdriver_add_in(&w.d, VSOCK_EVENT, 4);
	*(uint32_t *)vmachine_at(w.vm, event) = 0xdead;
	vdriver_kick(&w.d, VSOCK_EVENT);
	vdriver_save(&w.d, kept);
	snprintf(o.socket, sizeof(o.socket), "%s/w", w.dir);
	cr_assert_eq(vdriver_load(&b, there,
	                          vmachine_add(there, &virtio_vsock_driver, &o, sizeof(o)), &w.d,
	                          kept, &err),
	             0, "%s", err.text);
	vmachine_run(there);
	cr_assert(vmachine_wait(there, has_event, &told, patience_ms()));
	cr_assert_eq(told.used.len, 4);
	cr_assert_eq(*(uint32_t *)vmachine_at(there, event), 0, "transport reset");
	cr_assert_eq(vdriver_config(&b, 0, 4), 43, "the new host's address");
	/* The source goes on as if nothing had been. */
	vmachine_run(w.vm);
	cr_assert_eq(write(fd, "still here", 10), 10);
	cr_assert_eq(guest_receive(&w, NULL).len, 10);
	close(fd);
	vmachine_free(there);
	end(&w);
	free(kept);
}

Test(virtio_vsock, a_reset_ends_all_connections)
{
	char text[256];
	struct world w;
	int fd;

	begin(&w, 8);
	fd = guest_connects(&w, 65536);
	vdriver_reset(&w.d);
	cr_assert_eq(host_read(&w, fd, text), 0);
	close(fd);
	end(&w);
}

Test(virtio_vsock, a_stale_socket_is_replaced_a_live_one_is_not)
{
	struct world w;
	struct vmachine *other = vmachine_new(8 * MIB);
	char path[120];

	begin(&w, 0);
	cr_assert_null(vmachine_add(other, &virtio_vsock_driver, &w.o, sizeof(w.o)));
	cr_assert(strstr(other->error, "Address already in use"), "%s", other->error);
	snprintf(path, sizeof(path), "%.80s/old", w.dir);
	close(unix_socket(path, true));
	snprintf(w.o.socket, sizeof(w.o.socket), "%.90s", path);
	cr_assert_not_null(vmachine_add(other, &virtio_vsock_driver, &w.o, sizeof(w.o)), "%s",
	                   other->error);
	vmachine_free(other);
	end(&w);
}

Test(virtio_vsock, options_are_checked)
{
	struct gw_error err = { 0 };
	struct vsock_options o = { .cid = 3, .socket = "/tmp/x" };

	cr_assert_eq(virtio_vsock_driver.check_host(&o, &err), 0);
	o.vhost = 1;
	cr_assert_eq(virtio_vsock_driver.check_host(&o, &err), -EINVAL, "both");
	o.vhost = 2;
	o.socket[0] = 0;
	cr_assert_eq(virtio_vsock_driver.check_host(&o, &err), -EINVAL, "neither");
	o = (struct vsock_options){ .cid = 2, .socket = "/tmp/x" };
	cr_assert_eq(virtio_vsock_driver.check_host(&o, &err), -EINVAL);
}

/* ---- the kernel's --------------------------------------------------------------- */

Test(virtio_vsock, the_kernels_vhost)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK,
		                  .svm_cid = VMADDR_CID_ANY,
		                  .svm_port = 52 };
	const struct vsock_header rw = header(VSOCK_OP_RW, 1000, 52);
	struct world w = { .o = { .cid = CID } };
	struct vsock_header h;
	char text[BUFFER];
	int listener, fd;

	if (access("/dev/vhost-vsock", R_OK | W_OK) < 0)
		cr_skip_test("no /dev/vhost-vsock");
	w.vm = vmachine_new(8 * MIB);
	vdriver_begin(&w.d, w.vm, vmachine_add(w.vm, &virtio_vsock_driver, &w.o, sizeof(w.o)), 0);
	add_buffers(&w, 16);
	listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 1), 0);
	guest_op(&w, VSOCK_OP_REQUEST, 1000, 52);
	cr_assert_eq(op_of(&w), VSOCK_OP_RESPONSE);
	fd = accept(listener, NULL, NULL);
	guest_send(&w, &rw, "hello, host", 11);
	cr_assert_eq(host_read(&w, fd, text), 11);
	vmachine_pause(w.vm);
	vmachine_run(w.vm);
	cr_assert_eq(write(fd, "hello, guest", 12), 12);
	/* The kernel tells of its room when it sees fit. */
	while ((h = guest_receive(&w, text)).op == VSOCK_OP_CREDIT_UPDATE)
		continue;
	cr_assert_eq(h.op, VSOCK_OP_RW, "%u", h.op);
	cr_assert_eq(h.len, 12);
	cr_assert_eq(memcmp(text, "hello, guest", 12), 0);
	close(fd);
	close(listener);
	vmachine_free(w.vm);
}
