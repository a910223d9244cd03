/* SPDX-License-Identifier: Apache-2.0 */
#include "net_wire.h"

static bool broken(void *opaque)
{
	return vdriver_status(opaque) & VIRTIO_NEEDS_RESET;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

Test(virtio_net, configuration_space)
{
	struct net_options o = plain;
	struct wire w;

	o.mtu = 9000;
	o.queues = 2;
	wire_begin(&w, &o, ~0ull);
	cr_assert_eq(pci_get(w.d.v->function.config, 0, 4), 0x10411af4);
	cr_assert_eq(vdriver_config(&w.d, 0, 4), 0x12005452);
	cr_assert_eq(vdriver_config(&w.d, 4, 2), 0x5634);
	cr_assert_eq(vdriver_config(&w.d, NET_CONFIG_STATUS, 2), 1);
	cr_assert_eq(vdriver_config(&w.d, NET_CONFIG_PAIRS, 2), 2);
	cr_assert_eq(vdriver_config(&w.d, NET_CONFIG_MTU, 2), 9000);
	cr_assert_eq(w.d.queues, 5);
	cr_assert(w.d.v->features & NET_F_MQ);
	cr_assert(!(w.d.v->features & (NET_F_CSUM | NET_F_HOST_TSO4)), "a socket has no offloads");
	wire_end(&w);
}

Test(virtio_net, an_address_is_made_up_where_none_is_given)
{
	struct net_options o = plain;
	struct wire a, b;

	o.mac[0] = 0;
	wire_begin(&a, &o, 0);
	wire_begin(&b, &o, 0);
	cr_assert_eq(vdriver_config(&a.d, 0, 1) & 3, 2, "locally administered, one station");
	cr_assert_neq(memcmp(a.d.v->config, b.d.v->config, 6), 0);
	cr_assert(!(a.d.v->offered & (NET_F_MTU | NET_F_MQ)));
	wire_end(&a);
	wire_end(&b);
}

Test(virtio_net, options_are_checked)
{
	static const char *const bad[] = { "52:54:00:12:34",     "52:54:00:12:34:5",
		                           "52:54:00:12:34:567", "52-54-00-12-34-56",
		                           "5g:54:00:12:34:56",  " 2:54:00:12:34:56",
		                           "53:54:00:12:34:56" };
	struct gw_error err = { 0 };
	struct net_options o = plain;
	const struct config_key *mac = virtio_net_driver.keys;

	while (strcmp(mac->name, "mac"))
		mac++;
	cr_assert_eq(mac->check("52:54:00:aB:Cd:56", &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_lt(mac->check(bad[i], &err), 0, "%s", bad[i]);
	cr_assert_eq(virtio_net_driver.check_host(&o, &err), 0);
	strcpy(o.tap, "tap0");
	cr_assert_eq(virtio_net_driver.check_host(&o, &err), -EINVAL);
	o.tap[0] = o.fd[0] = 0;
	cr_assert_eq(virtio_net_driver.check_host(&o, &err), -EINVAL);
	cr_assert(strstr(err.text, "tap: ") == err.text, "%s", err.text);
	o = plain;
	o.standby = true;
	cr_assert_eq(virtio_net_driver.check_host(&o, &err), 0);
	cr_assert(virtio_net_driver.may_stand_in(&o));
	cr_assert_not(virtio_net_driver.may_stand_in(&plain));
	o.mac[0] = 0;
	cr_assert_eq(virtio_net_driver.check_host(&o, &err), -EINVAL, "by what would it be found?");
	cr_assert(strstr(err.text, "standby: ") == err.text, "%s", err.text);
}

/* ---- beside another NIC ---------------------------------------------------------------------- */

static bool stands_in(struct wire *w)
{
	return virtio_net_driver.stands_in(&w->d.v->device);
}

Test(virtio_net, standby_is_the_drivers_to_accept)
{
	struct net_options o = plain;
	struct wire w;

	wire_begin(&w, &o, ~0ull);
	cr_assert_not(w.d.v->offered & NET_F_STANDBY);
	cr_assert_not(stands_in(&w));
	cr_assert_eq(w.vm->event_count, 0);
	wire_end(&w);

	o.standby = true;
	wire_begin(&w, &o, ~NET_F_STANDBY);
	cr_assert(w.d.v->offered & NET_F_STANDBY);
	cr_assert_not(stands_in(&w));
	cr_assert_eq(w.vm->event_count, 0);
	wire_end(&w);

	wire_begin(&w, &o, ~0ull);
	cr_assert(stands_in(&w));
	cr_assert_eq(w.vm->event_count, 1);
	cr_assert_str_eq(w.vm->events[0].name, "FAILOVER_NEGOTIATED");
	cr_assert(strstr(w.vm->events[0].data, w.d.v->device.id), "%s", w.vm->events[0].data);
	/* A pause changes nothing, and is not told again. */
	virtio_net_driver.pause(&w.d.v->device);
	cr_assert(stands_in(&w));
	virtio_net_driver.run(&w.d.v->device);
	cr_assert_eq(w.vm->event_count, 1);
	vdriver_reset(&w.d);
	cr_assert_not(stands_in(&w));
	wire_end(&w);
}

Test(virtio_net, who_takes_over_announces_the_address)
{
	struct net_options o = plain;
	uint8_t frame[HDR + 100];
	struct wire w;
	ssize_t n;

	o.standby = true;
	wire_begin(&w, &o, ~0ull);
	machine_lock(w.vm->m);
	virtio_net_driver.take_over(&w.d.v->device);
	machine_unlock(w.vm->m);
	wait_until((n = recv(w.peer, frame, sizeof(frame), MSG_DONTWAIT)) >= 0);
	cr_assert_eq(n, HDR + 60);
	cr_assert_eq(frame[HDR + 12], 0x80);
	cr_assert_eq(frame[HDR + 13], 0x35);
	cr_assert_eq(memcmp(frame + HDR + 6, "\x52\x54\x00\x12\x34\x56", 6), 0);
	wire_end(&w);
}

Test(virtio_net, descriptors_that_are_no_tap_are_refused)
{
	struct vmachine *vm = vmachine_new(8 * MIB);
	int fds[2];

	cr_assert_null(vmachine_add(vm, &virtio_net_driver, &plain, sizeof(plain)));
	cr_assert(strstr(vm->error, "no descriptor \"nic\""), "%s", vm->error);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	vm->fd = fds[0];
	cr_assert_null(vmachine_add(vm, &virtio_net_driver, &plain, sizeof(plain)));
	cr_assert(strstr(vm->error, "no tap"), "%s", vm->error);
	close(fds[0]);
	close(fds[1]);
	vm->fd = open("/dev/null", O_RDWR);
	cr_assert_null(vmachine_add(vm, &virtio_net_driver, &plain, sizeof(plain)));
	close(vm->fd);
	vmachine_free(vm);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

Test(virtio_net, a_frame_comes_in)
{
	uint8_t frame[2000];
	struct vused used;
	struct wire w;
	uint64_t at;

	wire_begin(&w, &plain, 0);
	at = vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 100);
	used = next_used(&w, 0);
	cr_assert_eq(used.len, HDR + 100);
	make_frame(frame, 100);
	frame[10] = 1; /* num_buffers */
	cr_assert_eq(memcmp(vmachine_at(w.vm, at), frame, HDR + 100), 0);
	cr_assert_eq(described(&w, "rx_frames"), 1);
	cr_assert_eq(described(&w, "rx_bytes"), 100);
	wire_end(&w);
}

Test(virtio_net, frames_wait_for_buffers)
{
	struct wire w;

	wire_begin(&w, &plain, 0);
	for (unsigned i = 0; i < 3; i++)
		peer_send(&w, 60 + i);
	cr_assert(none_used(&w, 0));
	for (unsigned i = 0; i < 3; i++)
		vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(next_used(&w, 0).len, HDR + 60 + i, "in their order");
	wire_end(&w);
}

Test(virtio_net, flags_that_were_not_negotiated_are_cleared)
{
	uint8_t frame[HDR + 60];
	struct wire w;
	uint64_t at;

	wire_begin(&w, &plain, 0);
	at = vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	make_frame(frame, 60);
	frame[0] = 2; /* checksum known to be good */
	cr_assert_eq(send(w.peer, frame, sizeof(frame), 0), sizeof(frame));
	next_used(&w, 0);
	cr_assert_eq(*(uint8_t *)vmachine_at(w.vm, at), 0);
	wire_end(&w);
}

Test(virtio_net, a_frame_larger_than_its_buffer_is_dropped)
{
	struct wire w;

	wire_begin(&w, &plain, 0);
	vdriver_add_in(&w.d, 0, HDR + 100);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 101);
	peer_send(&w, 100);
	cr_assert_eq(next_used(&w, 0).len, HDR + 100, "the buffer is still there for the next");
	cr_assert_eq(described(&w, "rx_dropped"), 1);
	wire_end(&w);
}

/* What was received into `count` buffers of `each` bytes is the frame of `len` bytes. */
static void check_merged(struct wire *w, const uint64_t *at, unsigned count, size_t each,
                         size_t len)
{
	static uint8_t want[TAP_FRAME_MAX], got[TAP_FRAME_MAX];
	size_t total = make_frame(want, len), done = 0;

	want[10] = (uint8_t)count;
	for (unsigned i = 0; i < count; i++) {
		const struct vused used = next_used(w, 0);

		cr_assert_eq(used.len, MIN(each, total - done), "buffer %u", i);
		memcpy(got + done, vmachine_at(w->vm, at[i]), used.len);
		done += used.len;
	}
	cr_assert_eq(done, total);
	cr_assert_eq(memcmp(got, want, total), 0);
}

Test(virtio_net, a_frame_is_spread_over_merged_buffers)
{
	uint64_t at[40];
	struct wire w;

	wire_begin(&w, &plain, NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		at[i] = vdriver_add_in(&w.d, 0, 256);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 244);
	check_merged(&w, at, 1, 256, 244);
	peer_send(&w, 245);
	check_merged(&w, at + 1, 2, 256, 245);
	/* More than the usual frame has: the rest comes by way of the spare buffer. */
	peer_send(&w, 7000);
	check_merged(&w, at + 3, 28, 256, 7000);
	peer_send(&w, 60);
	check_merged(&w, at + 31, 1, 256, 60);
	wire_end(&w);
}

Test(virtio_net, a_large_frame_waits_for_more_buffers)
{
	uint64_t at[10];
	struct wire w;

	wire_begin(&w, &plain, NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < 3; i++)
		at[i] = vdriver_add_in(&w.d, 0, 1024);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 6000);
	cr_assert(none_used(&w, 0));
	for (unsigned i = 3; i < 6; i++)
		at[i] = vdriver_add_in(&w.d, 0, 1024);
	vdriver_kick(&w.d, 0);
	check_merged(&w, at, 6, 1024, 6000);
	wire_end(&w);
}

Test(virtio_net, a_frame_that_fits_into_no_ring_is_dropped)
{
	struct wire w;

	wire_begin(&w, &plain, NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < NET_QUEUE_SIZE; i++)
		vdriver_add_in(&w.d, 0, 16);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 16 * NET_QUEUE_SIZE);
	peer_send(&w, 30);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(next_used(&w, 0).len, i < 2 ? 16 : 10);
	cr_assert_eq(described(&w, "rx_dropped"), 1);
	wire_end(&w);
}

Test(virtio_net, buffers_too_small_for_a_header_break_the_device)
{
	struct wire w;

	wire_begin(&w, &plain, 0);
	vdriver_add_in(&w.d, 0, HDR - 1);
	vdriver_kick(&w.d, 0);
	cr_assert(vmachine_wait(w.vm, broken, &w.d, patience_ms()));
	peer_send(&w, 60);
	vdriver_begin(&w.d, w.vm, &w.d.v->device, 0);
	vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	cr_assert_eq(next_used(&w, 0).len, HDR + 60, "after a reset it goes on");
	wire_end(&w);
}

Test(virtio_net, received_pages_are_dirty)
{
	struct wire w;
	uint64_t at;

	wire_begin(&w, &plain, 0);
	at = vmachine_alloc(w.vm, 8192, 4096);
	vdriver_add(&w.d, 0, (struct vbuf[]){ { at, 8192, true } }, 1);
	vmachine_track(w.vm);
	vdriver_kick(&w.d, 0);
	peer_send(&w, 60);
	next_used(&w, 0);
	cr_assert(vmachine_dirty(w.vm, at));
	cr_assert(!vmachine_dirty(w.vm, at + 4096));
	cr_assert(vmachine_dirty(w.vm, w.d.rings[0].used));
	wire_end(&w);
}

Test(virtio_net, the_hosts_end_goes)
{
	struct wire w;

	wire_begin(&w, &plain, 0);
	vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	close(w.peer);
	cr_assert(none_used(&w, 0));
	vdriver_add_out(&w.d, 1, "0123456789ab0123456789abcdef", 28);
	vdriver_kick(&w.d, 1);
	next_used(&w, 1);
	cr_assert_eq(described(&w, "tx_dropped"), 1);
	cr_assert(!(vdriver_status(&w.d) & VIRTIO_NEEDS_RESET));
	w.peer = -1;
	wire_end(&w);
}

/* ---- sending ------------------------------------------------------------------------------------
 */

Test(virtio_net, a_frame_goes_out)
{
	uint8_t frame[HDR + 1500], got[2000];
	struct wire w;
	uint64_t at;

	wire_begin(&w, &plain, 0);
	make_frame(frame, 1500);
	at = vmachine_alloc(w.vm, 4096, 16);
	memcpy(vmachine_at(w.vm, at), frame, sizeof(frame));
	/* In pieces that split header and frame oddly. */
	vdriver_add(&w.d, 1,
	            (struct vbuf[]){
	                    { at, 5, false }, { at + 5, 100, false }, { at + 105, 1407, false } },
	            3);
	vdriver_kick(&w.d, 1);
	cr_assert_eq(next_frame(&w, got, sizeof(got)), HDR + 1500);
	cr_assert_eq(memcmp(got, frame, sizeof(frame)), 0);
	cr_assert_eq(next_used(&w, 1).len, 0);
	cr_assert_eq(described(&w, "tx_frames"), 1);
	cr_assert_eq(described(&w, "tx_bytes"), 1500);
	wire_end(&w);
}

Test(virtio_net, a_full_tap_holds_frames_back)
{
	uint8_t frame[HDR + 1500], got[2000];
	unsigned sent = 0, came = 0;
	struct wire w;

	wire_begin(&w, &plain, 0);
	for (; sent < NET_QUEUE_SIZE; sent++) {
		make_frame(frame, 60 + sent);
		vdriver_add_out(&w.d, 1, frame, HDR + 60 + sent);
	}
	vdriver_kick(&w.d, 1);
	while (came < sent && next_frame(&w, got, sizeof(got)) == HDR + 60 + (int)came)
		came++;
	cr_assert_eq(came, sent, "none is lost, none out of order");
	cr_assert(no_frame(&w), "none is doubled");
	for (unsigned i = 0; i < sent; i++)
		next_used(&w, 1);
	cr_assert_eq(described(&w, "tx_dropped"), 0);
	wire_end(&w);
}

/* How the header of one frame of 100 bytes fares. */
static bool passes(struct wire *w, const struct net_header *h)
{
	uint8_t frame[HDR + 100], got[2000];

	make_frame(frame, 100);
	memcpy(frame, h, sizeof(*h));
	vdriver_add_out(&w->d, 1, frame, sizeof(frame));
	make_frame(frame, 77); /* what shows that the first has been looked at */
	vdriver_add_out(&w->d, 1, frame, HDR + 77);
	vdriver_kick(&w->d, 1);
	if (next_frame(w, got, sizeof(got)) != HDR + 100)
		return false;
	cr_assert_eq(next_frame(w, got, sizeof(got)), HDR + 77);
	return true;
}

Test(virtio_net, headers_are_checked)
{
	static const struct {
		struct net_header h;
		uint64_t features;
		bool passes;
	} rows[] = {
		{ { .num_buffers = 7 }, 0, true },
		{ { .flags = 1, .csum_start = 34, .csum_offset = 16 }, 0, false },
		{ { .flags = 1, .csum_start = 34, .csum_offset = 16 }, NET_F_CSUM, true },
		{ { .flags = 1, .csum_start = 90, .csum_offset = 8 }, NET_F_CSUM, true },
		{ { .flags = 1, .csum_start = 90, .csum_offset = 9 }, NET_F_CSUM, false },
		{ { .flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff }, NET_F_CSUM, false },
		{ { .flags = 1, .gso_type = 1, .gso_size = 50 }, NET_F_CSUM, false },
		{ { .flags = 1, .gso_type = 1, .gso_size = 50 },
		  NET_F_CSUM | NET_F_HOST_TSO4,
		  true },
		{ { .flags = 1, .gso_type = 1 }, NET_F_CSUM | NET_F_HOST_TSO4, false },
		{ { .gso_type = 1, .gso_size = 50 }, NET_F_CSUM | NET_F_HOST_TSO4, false },
		{ { .flags = 1, .gso_type = 4, .gso_size = 50 },
		  NET_F_CSUM | NET_F_HOST_TSO4,
		  false },
		{ { .flags = 1, .gso_type = 0x81, .gso_size = 50 },
		  NET_F_CSUM | NET_F_HOST_TSO4,
		  false },
		{ { .flags = 1, .gso_type = 0x81, .gso_size = 50 },
		  NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_ECN,
		  true },
		{ { .flags = 1, .gso_type = 3, .gso_size = 50 }, ~0ull, false },
		{ { .flags = 1, .gso_type = 0x80, .gso_size = 50 }, ~0ull, false },
		{ { .flags = 1, .gso_type = 1, .gso_size = 50, .hdr_len = 101 }, ~0ull, false },
	};
	pthread_mutex_t *lock;
	struct wire w;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		wire_begin(&w, &plain, 0);
		/* As if negotiated; a socket does not offer them. */
		lock = &w.d.v->queues[1].worker->lock;
		pthread_mutex_lock(lock);
		w.d.v->features |= rows[i].features & (NET_F_CSUM | NET_F_HOST_TSO4 |
		                                       NET_F_HOST_TSO6 | NET_F_HOST_ECN);
		pthread_mutex_unlock(lock);
		cr_assert_eq(passes(&w, &rows[i].h), rows[i].passes, "row %zu", i);
		cr_assert_eq(described(&w, "tx_dropped"), rows[i].passes ? 0 : 1, "row %zu", i);
		wire_end(&w);
	}
}

Test(virtio_net, a_frame_without_a_header_breaks_the_device)
{
	struct wire w;

	wire_begin(&w, &plain, 0);
	vdriver_add_out(&w.d, 1, "0123456789a", HDR - 1);
	vdriver_kick(&w.d, 1);
	cr_assert(vmachine_wait(w.vm, broken, &w.d, patience_ms()));
	wire_end(&w);
}
