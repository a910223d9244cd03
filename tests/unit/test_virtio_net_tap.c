/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net on a real tap, in a network namespace of its own. */
#include "net_wire.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>

#include "vmm/memory_internal.h"

/* A network of its own; the test is skipped where that cannot be had. */
static void need_tap(void)
{
	int fd = unshare(CLONE_NEWNET) < 0 ? -1 : open("/dev/net/tun", O_RDWR);

	if (fd < 0)
		cr_skip_test("no network namespace, or no /dev/net/tun");
	close(fd);
}

static int open_packet_socket(const char *name)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));

	cr_assert_geq(fd, 0);
	cr_assert_neq(at.sll_ifindex, 0, "there is no interface %s", name);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/* The next frame with our EtherType: the kernel has things to say of its own. */
static ssize_t next_ours(struct wire *w, uint8_t *to, size_t room)
{
	ssize_t n;

	while ((n = next_frame(w, to, room)) >= 14)
		if (!memcmp(to + 12, "\x88\xb5", 2))
			break;
	return n;
}

/* A frame of our own, broadcast, with the EtherType for local experiments. */
static void our_frame(uint8_t frame[HDR + 100])
{
	make_frame(frame, 100);
	memset(frame + HDR, 0xff, 6);
	memcpy(frame + HDR + 12, "\x88\xb5", 2);
}

static void send_ours(struct wire *w)
{
	uint8_t frame[HDR + 100], got[2000];

	our_frame(frame);
	vdriver_add_out(&w->d, 1, frame, sizeof(frame));
	vdriver_kick(&w->d, 1);
	cr_assert_eq(next_ours(w, got, sizeof(got)), 100);
	cr_assert_eq(memcmp(got, frame + HDR, 100), 0);
	next_used(w, 1);
}

/* Among what the kernel sends by itself. The buffers' addresses by descriptor. */
static uint64_t receive_ours(struct wire *w, const uint64_t *at)
{
	struct waiting x = { .w = w };
	uint8_t frame[HDR + 100];

	our_frame(frame);
	frame[HDR + 20] = 42;
	cr_assert_eq(send(w->peer, frame + HDR, 100, 0), 100);
	for (;;) {
		const char *got;

		cr_assert(vmachine_wait(w->vm, has_used, &x, patience_ms()));
		got = vmachine_at(w->vm, at[x.used.id]);
		cr_assert_eq(((const struct net_header *)got)->num_buffers, 1);
		if (x.used.len == HDR + 100 && !memcmp(got + HDR, frame + HDR, 100))
			return at[x.used.id];
	}
}

static void through_a_tap(enum net_vhost vhost)
{
	struct net_options o = { .tap = "gwtest0",
		                 .mac = "52:54:00:12:34:56",
		                 .queues = 1,
		                 .vhost = vhost,
		                 .offload = true };
	struct wire w = { .peer = -1 };
	uint64_t at[64];

	w.vm = vmachine_new(8 * MIB);
	vdriver_begin(&w.d, w.vm, vmachine_add(w.vm, &virtio_net_driver, &o, sizeof(o)),
	              ~(NET_F_MQ | NET_F_MTU | VIRTIO_F_RING_PACKED));
	cr_assert(w.d.v->features & NET_F_CSUM);
	cr_assert(w.d.v->features & NET_F_GUEST_TSO4);
	cr_assert_eq(net_of(w.d.v)->vhost_on, vhost == NET_VHOST_ON);
	w.peer = open_packet_socket("gwtest0");
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		at[i] = vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	send_ours(&w);
	receive_ours(&w, at);
	/* Again, after a pause; and the pages that were written are known. */
	vmachine_pause(w.vm);
	vmachine_run(w.vm);
	send_ours(&w);
	receive_ours(&w, at);
	vdriver_isr(&w.d);
	send_ours(&w);
	vmachine_free(w.vm);
	close(w.peer);
	cr_assert_eq(if_nametoindex("gwtest0"), 0, "it went with the device");
}

Test(virtio_net, frames_pass_a_real_tap)
{
	need_tap();
	through_a_tap(NET_VHOST_OFF);
}

static void need_vhost(void)
{
	if (access("/dev/vhost-net", R_OK | W_OK) < 0)
		cr_skip_test("no /dev/vhost-net");
	need_tap();
}

Test(virtio_net, frames_pass_the_kernels_vhost)
{
	need_vhost();
	through_a_tap(NET_VHOST_ON);
}

Test(virtio_net, what_vhost_writes_is_dirty)
{
	struct net_options o = { .tap = "gwtest0", .queues = 1, .vhost = NET_VHOST_ON };
	struct wire w = { .peer = -1 };
	struct gw_error err = { 0 };
	struct dirty_source *source;
	uint64_t at[64], got;

	need_vhost();
	w.vm = vmachine_new(8 * MIB);
	vdriver_begin(&w.d, w.vm, vmachine_add(w.vm, &virtio_net_driver, &o, sizeof(o)),
	              NET_F_MRG_RXBUF);
	w.peer = open_packet_socket("gwtest0");
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		at[i] = vmachine_alloc(w.vm, 4096, 4096);
		vdriver_add(&w.d, 0, (struct vbuf[]){ { at[i], 4096, true } }, 1);
	}
	vdriver_kick(&w.d, 0);
	source = w.vm->m->memory->sources;
	cr_assert_eq(source->start(source, &err), 0, "%s", err.text);
	vmachine_track(w.vm);
	got = receive_ours(&w, at);
	vmachine_pause(w.vm);
	cr_assert_eq(source->sync(source, w.vm->m->memory, &err), 0);
	cr_assert(vmachine_dirty(w.vm, got), "the frame");
	cr_assert(vmachine_dirty(w.vm, w.d.rings[0].used), "the ring");
	cr_assert(!vmachine_dirty(w.vm, at[ARRAY_SIZE(at) - 1]), "nothing else");
	source->stop(source);
	vmachine_free(w.vm);
	close(w.peer);
}

Test(virtio_net, a_guest_goes_between_vhost_and_user_space)
{
	struct net_options o = { .tap = "gwtest0", .queues = 1, .vhost = NET_VHOST_ON };
	struct net_options other = { .tap = "gwtest1", .queues = 1, .vhost = NET_VHOST_OFF };
	struct kept *kept = calloc(1, sizeof(*kept));
	struct wire a = { .peer = -1 }, b = { .peer = -1 };
	struct gw_error err = { 0 };
	uint64_t at[64];

	need_vhost();
	a.vm = vmachine_new(8 * MIB);
	b.vm = vmachine_new(8 * MIB);
	vdriver_begin(&a.d, a.vm, vmachine_add(a.vm, &virtio_net_driver, &o, sizeof(o)),
	              NET_F_MRG_RXBUF);
	a.peer = open_packet_socket("gwtest0");
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		at[i] = vdriver_add_in(&a.d, 0, 1526);
	vdriver_kick(&a.d, 0);
	receive_ours(&a, at);
	send_ours(&a);
	vdriver_save(&a.d, kept);
	cr_assert_eq(vdriver_load(&b.d, b.vm,
	                          vmachine_add(b.vm, &virtio_net_driver, &other, sizeof(other)),
	                          &a.d, kept, &err),
	             0, "%s", err.text);
	b.peer = open_packet_socket("gwtest1");
	vmachine_run(b.vm);
	cr_assert(!net_of(b.d.v)->vhost_on);
	receive_ours(&b, at);
	send_ours(&b);
	vmachine_free(a.vm);
	vmachine_free(b.vm);
	close(a.peer);
	close(b.peer);
	free(kept);
}

Test(virtio_net, several_queues_of_a_real_tap)
{
	struct net_options o = {
		.tap = "gwtest%d", .queues = 4, .vhost = NET_VHOST_OFF, .mtu = 1400
	};
	struct vmachine *vm;
	struct wire w;
	struct ifreq request = { 0 };
	int fd;

	need_tap();
	vm = w.vm = vmachine_new(8 * MIB);
	vdriver_begin(&w.d, vm, vmachine_add(vm, &virtio_net_driver, &o, sizeof(o)),
	              NET_F_MQ | NET_F_CTRL_VQ | NET_F_MTU);
	strcpy(request.ifr_name, "gwtest0");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(ioctl(fd, SIOCGIFMTU, &request), 0);
	cr_assert_eq(request.ifr_mtu, 1400);
	cr_assert_eq(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	cr_assert(request.ifr_flags & IFF_UP);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(control(&w, 8, (uint8_t[]){ 4, 0, 4, 0 }, 4), 0);
		cr_assert_eq(control(&w, 8, (uint8_t[]){ 4, 0, 1, 0 }, 4), 0);
	}
	cr_assert_eq(described(&w, "queues_in_use"), 1);
	cr_assert(!net_of(w.d.v)->pairs[0].gone && !net_of(w.d.v)->pairs[3].gone);
	close(fd);
	vmachine_free(vm);
}

Test(virtio_net, names_that_are_no_tap)
{
	struct net_options o = { .tap = "lo", .queues = 1, .vhost = NET_VHOST_OFF };
	struct vmachine *vm;

	need_tap();
	vm = vmachine_new(8 * MIB);
	cr_assert_null(vmachine_add(vm, &virtio_net_driver, &o, sizeof(o)));
	cr_assert(strstr(vm->error, "tap: interface lo"), "%s", vm->error);
	vmachine_free(vm);
}
