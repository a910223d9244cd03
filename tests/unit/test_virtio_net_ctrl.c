/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: its control queue, its link, its way to another host. */
#include "net_wire.h"

#define CTRL_ALL                                                                                   \
	(NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_VLAN | NET_F_CTRL_MAC_ADDR | NET_F_STATUS |    \
	 NET_F_GUEST_ANNOUNCE)

Test(virtio_net, control_commands)
{
	static const struct {
		uint8_t bytes[24];
		uint32_t len;
		int answer;
	} rows[] = {
		{ { 0, 0, 1 }, 3, 0 },
		{ { 0, 1, 1 }, 3, 0 },
		{ { 0, 0 }, 2, 1 },    /* no data */
		{ { 0, 2, 1 }, 3, 1 }, /* not offered */
		{ { 1, 1, 2, 0, 0, 0, 0, 9 }, 8, 0 },
		{ { 1, 1, 2, 0, 0, 0, 0 }, 7, 1 },
		{ { 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0 }, 16, 0 },
		{ { 1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0 }, 16, 1 },
		{ { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 10, 1 },
		{ { 2, 0, 0xff, 0x0f }, 4, 0 },
		{ { 2, 1, 0x00, 0x10 }, 4, 1 },
		{ { 3, 0 }, 2, 0 },
		{ { 4, 0, 1, 0 }, 4, 1 }, /* one pair: no MQ */
		{ { 5, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, 1 },
		{ { 200, 0, 0 }, 3, 1 },
		{ { 0 }, 1, 1 },
	};
	struct wire w;

	wire_begin(&w, &plain, CTRL_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		cr_assert_eq(control(&w, 2, rows[i].bytes, rows[i].len), rows[i].answer, "row %zu",
		             i);
	cr_assert_eq(vdriver_config(&w.d, 0, 1), 2, "the address shows in configuration space");
	cr_assert_eq(vdriver_config(&w.d, 5, 1), 9);
	vdriver_reset(&w.d);
	cr_assert_eq(vdriver_config(&w.d, 0, 1), 0x52, "and is the permanent one again");
	wire_end(&w);
}

Test(virtio_net, without_several_queues_control_is_the_third)
{
	struct net_options o = plain;
	struct wire w;

	o.queues = 3;
	wire_begin(&w, &o, CTRL_ALL);
	cr_assert_eq(w.d.queues, 7);
	cr_assert_eq(control(&w, 2, (uint8_t[]){ 0, 0, 1 }, 3), 0);
	wire_end(&w);
	wire_begin(&w, &o, CTRL_ALL | NET_F_MQ);
	cr_assert_eq(control(&w, 6, (uint8_t[]){ 0, 0, 1 }, 3), 0);
	cr_assert_eq(control(&w, 6, (uint8_t[]){ 4, 0, 3, 0 }, 4), 0);
	cr_assert_eq(described(&w, "queues_in_use"), 3);
	cr_assert_eq(control(&w, 6, (uint8_t[]){ 4, 0, 4, 0 }, 4), 1);
	cr_assert_eq(control(&w, 6, (uint8_t[]){ 4, 0, 0, 0 }, 4), 1);
	cr_assert_eq(described(&w, "queues_in_use"), 3);
	wire_end(&w);
}

Test(virtio_net, a_link_that_is_down)
{
	cJSON *down = cJSON_Parse("{\"up\":false}"), *up = cJSON_Parse("{\"up\":true}");
	struct gw_error err = { 0 };
	uint8_t frame[HDR + 60];
	cJSON *ret = NULL;
	struct wire w;

	wire_begin(&w, &plain, NET_F_STATUS);
	vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	vdriver_isr(&w.d);
	cr_assert_eq(virtio_net_driver.command(&w.d.v->device, "set-link", down, &ret, &err), 0);
	cr_assert_eq(vdriver_config(&w.d, NET_CONFIG_STATUS, 2), 0);
	cr_assert_eq(vdriver_isr(&w.d) & 2, 2, "the guest is told");
	peer_send(&w, 60);
	make_frame(frame, 60);
	vdriver_add_out(&w.d, 1, frame, sizeof(frame));
	vdriver_kick(&w.d, 1);
	next_used(&w, 1);
	cr_assert(no_frame(&w));
	cr_assert(none_used(&w, 0));
	cr_assert_eq(virtio_net_driver.command(&w.d.v->device, "set-link", up, &ret, &err), 0);
	peer_send(&w, 61);
	cr_assert_eq(next_used(&w, 0).len, HDR + 61, "what came before is lost");
	cr_assert_eq(virtio_net_driver.command(&w.d.v->device, "set-link", NULL, &ret, &err),
	             -EINVAL);
	cr_assert_eq(virtio_net_driver.command(&w.d.v->device, "resize", up, &ret, &err),
	             -EOPNOTSUPP);
	cJSON_Delete(down);
	cJSON_Delete(up);
	wire_end(&w);
}

/* ---- moved
 * ------------------------------------------------------------------------------------------ */

static int move(struct wire *from, struct wire *to, const struct net_options *o,
                struct gw_error *err)
{
	struct kept *kept = calloc(1, sizeof(*kept));
	int r;

	wire_open(to);
	to->vm->m->incoming = true;
	vdriver_save(&from->d, kept);
	r = vdriver_load(&to->d, to->vm, vmachine_add(to->vm, &virtio_net_driver, o, sizeof(*o)),
	                 &from->d, kept, err);
	free(kept);
	return r;
}

Test(virtio_net, moves_and_announces_itself)
{
	struct net_options o = plain;
	struct gw_error err = { 0 };
	struct wire a, b;
	uint8_t got[200];

	o.mac[0] = 0;
	wire_begin(&a, &o, CTRL_ALL | NET_F_MRG_RXBUF);
	cr_assert_eq(control(&a, 2, (uint8_t[]){ 0, 1, 1 }, 3), 0);
	for (unsigned i = 0; i < 4; i++)
		vdriver_add_in(&a.d, 0, 1526);
	vdriver_kick(&a.d, 0);
	peer_send(&a, 60);
	next_used(&a, 0);
	cr_assert_eq(move(&a, &b, &o, &err), 0, "%s", err.text);
	vmachine_run(b.vm);
	cr_assert_eq(memcmp(a.d.v->config, b.d.v->config, 6), 0, "the address stays");
	cr_assert_eq(vdriver_config(&b.d, NET_CONFIG_STATUS, 2), 3, "link up, announce");
	cr_assert_eq(vdriver_isr(&b.d) & 2, 2);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(next_frame(&b, got, sizeof(got)), HDR + 60, "frame %u", i);
		cr_assert_eq(got[HDR], 0xff);
		cr_assert_eq(memcmp(got + HDR + 6, a.d.v->config, 6), 0);
		cr_assert_eq(memcmp(got + HDR + 12, "\x80\x35", 2), 0, "RARP");
	}
	cr_assert(no_frame(&b), "three are enough");
	cr_assert_eq(control(&b, 2, (uint8_t[]){ 3, 0 }, 2), 0);
	cr_assert_eq(vdriver_config(&b.d, NET_CONFIG_STATUS, 2), 1);
	/* Buffers that were held are there, the ring stands where it stood. */
	peer_send(&b, 99);
	cr_assert_eq(next_used(&b, 0).len, HDR + 99);
	cr_assert_eq(net_of(b.d.v)->rx_modes, 2);
	vmachine_pause(b.vm);
	vmachine_run(b.vm);
	cr_assert_eq(vdriver_config(&b.d, NET_CONFIG_STATUS, 2), 1, "once only");
	wire_end(&a);
	wire_end(&b);
}

Test(virtio_net, what_does_not_fit_is_refused)
{
	struct net_options o = plain, less = plain;
	struct gw_error err = { 0 };
	struct wire a, b;

	o.mtu = 9000;
	less.mtu = 1500;
	wire_begin(&a, &o, NET_F_MTU | NET_F_STATUS);
	cr_assert_eq(move(&a, &b, &less, &err), -EINVAL);
	cr_assert(strstr(err.text, "mtu"), "%s", err.text);
	wire_end(&b);
	less.mtu = 0;
	cr_assert_lt(move(&a, &b, &less, &err), 0);
	cr_assert(strstr(err.text, "VIRTIO_NET_F_MTU"), "%s", err.text);
	wire_end(&b);
	less = o;
	less.queues = 2;
	cr_assert_lt(move(&a, &b, &less, &err), 0);
	wire_end(&b);
	wire_end(&a);
}

Test(virtio_net, a_paused_guest_gets_and_sends_nothing)
{
	uint8_t got[100], frame[HDR + 60];
	struct wire w;

	wire_begin(&w, &plain, 0);
	vdriver_add_in(&w.d, 0, 1526);
	vdriver_kick(&w.d, 0);
	vmachine_pause(w.vm);
	peer_send(&w, 60);
	make_frame(frame, 60);
	vdriver_add_out(&w.d, 1, frame, sizeof(frame));
	vdriver_kick(&w.d, 1);
	cr_assert(none_used(&w, 0));
	cr_assert(no_frame(&w));
	vmachine_run(w.vm);
	cr_assert_eq(next_used(&w, 0).len, HDR + 60);
	cr_assert_eq(next_frame(&w, got, sizeof(got)), HDR + 60);
	wire_end(&w);
}
