/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net, started and stopped: each pair by its worker, or by the kernel.
 *
 * While a pair is served here, its tap is watched (level-triggered) on its
 * worker's loop for what can be done: read while there are receive buffers,
 * written while a frame waits. The watch is added and changed by the worker's
 * thread alone, and removed by net_stop() when that does not look any more.
 */
#include "vmm/virtio/net.h"

#include "base/error.h"
#include "base/io.h"
#include "vmm/machine.h"

#include <stdio.h>
#include <string.h>

/* Frames that tell switches where the guest is now; each so many milliseconds after the last. */
static const int announce_after[] = { 50, 100, 150 };

/* ---- the worker --------------------------------------------------------------------------- */

void net_lose_tap(struct net_pair *p)
{
	struct virtio *v = &p->net->v;

	/* A queue that was detached just now looks the same. */
	if (p->gone || !net_attached(p))
		return;
	p->gone = true;
	log_warn(v->device.machine->log, "device %s: pair %u: the host's end is gone", v->device.id,
	         p->index);
}

static void on_tap(void *opaque, int fd, uint32_t events)
{
	struct net_pair *p = opaque;

	(void)fd;
	pthread_mutex_lock(&p->rx->worker->lock);
	if (p->net->v.active) {
		const bool reads = p->events & EPOLLIN;

		if (reads && p->rx->ring.enabled)
			net_rx(p);
		if (p->tx_full && p->tx->ring.enabled)
			net_tx(p);
		/* An error is reported whether it was asked for or not, again and again. */
		if (!reads && events & (EPOLLERR | EPOLLHUP))
			net_lose_tap(p);
		net_update_watch(p);
	}
	pthread_mutex_unlock(&p->rx->worker->lock);
}

void net_update_watch(struct net_pair *p)
{
	const uint32_t events = (p->rx->ring.enabled && !p->starved ? (uint32_t)EPOLLIN : 0) |
	                        (p->tx_full ? (uint32_t)EPOLLOUT : 0);
	struct gw_error err;

	if (p->gone || !net_attached(p)) {
		loop_unwatch(p->watch);
		p->watch = NULL;
		return;
	}
	if (!p->watch) {
		if (loop_watch(p->rx->worker->loop, p->tap.fd, events, on_tap, p, &p->watch, &err) <
		    0)
			net_lose_tap(p);
	} else if (events != p->events) {
		loop_watch_events(p->watch, events);
	}
	p->events = events;
}

void net_kick(struct virtio *v, struct virtio_queue *q)
{
	struct net *n = net_of(v);
	struct net_pair *p;

	/* Both need the device lock. */
	if (net_is_ctrl(n, q->index) || n->vhost_on) {
		machine_defer(v->device.machine);
		return;
	}
	if (q->index >= 2 * n->pair_count)
		return;
	p = &n->pairs[q->index / 2];
	if (q == p->rx)
		net_rx(p);
	else
		net_tx(p);
}

/* ---- the kernel --------------------------------------------------------------------------- */

static void stop_vhost(struct net *n)
{
	struct gw_error err;

	for (unsigned i = 0; i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];

		for (unsigned ring = 0; ring < VHOST_RINGS; ring++)
			if (vhost_has_ring(p->vhost, ring) &&
			    vhost_net_backend(p->vhost, ring, -1, &err) < 0)
				log_error(n->v.device.machine->log, "device %s: pair %u: %s",
				          n->v.device.id, i, err.text);
		vhost_stop(p->vhost);
	}
	n->vhost_on = false;
}

static int connect_ring(struct net_pair *p, unsigned ring, struct gw_error *err)
{
	if (!vhost_has_ring(p->vhost, ring))
		return 0;
	return vhost_net_backend(p->vhost, ring, net_link_up(p->net) ? p->tap.fd : -1, err);
}

static int start_vhost(struct net *n, struct gw_error *err)
{
	int r = 0;

	n->vhost_on = true;
	for (unsigned i = 0; i < net_pairs_known(n) && !r; i++) {
		struct net_pair *p = &n->pairs[i];

		r = vhost_start(p->vhost, err);
		for (unsigned ring = 0; ring < VHOST_RINGS && !r; ring++)
			r = connect_ring(p, ring, err);
		if (r < 0)
			error_context(err, "pair %u", i);
	}
	if (r < 0)
		stop_vhost(n);
	return r;
}

void net_late_queues(struct net *n)
{
	struct gw_error err;

	for (unsigned i = 0; i < 2 * net_pairs_known(n) && n->v.active && n->vhost_on; i++) {
		struct net_pair *p = &n->pairs[i / 2];

		if (!n->v.queues[i].ring.enabled || vhost_has_ring(p->vhost, i % 2))
			continue;
		if (vhost_start_ring(p->vhost, i % 2, &err) < 0 ||
		    connect_ring(p, i % 2, &err) < 0) {
			log_error(n->v.device.machine->log, "device %s: %s", n->v.device.id,
			          err.text);
			virtio_break(&n->v, "the kernel does not take a queue");
		}
	}
}

/* What a guest brought along may be more than the kernel does; then it is done here. */
static bool vhost_fits(const struct net *n)
{
	return n->vhost_ready &&
	       !(n->v.features & NET_RING_FEATURES & ~vhost_features(n->pairs[0].vhost));
}

/* ---- what the tap is told ------------------------------------------------------------------- */

static const struct {
	uint64_t feature;
	unsigned tap;
} offloads[] = {
	{ NET_F_GUEST_CSUM, TAP_CSUM }, { NET_F_GUEST_TSO4, TAP_TSO4 },
	{ NET_F_GUEST_TSO6, TAP_TSO6 }, { NET_F_GUEST_ECN, TAP_TSO_ECN },
	{ NET_F_GUEST_USO4, TAP_USO4 }, { NET_F_GUEST_USO6, TAP_USO6 },
};

int net_apply_offloads(struct net *n, struct gw_error *err)
{
	const uint64_t large = NET_GUEST_OFFLOADS & ~(NET_F_GUEST_CSUM | NET_F_GUEST_ECN);
	const uint64_t mtu =
	        virtio_has(&n->v, NET_F_MTU) ? virtio_config_get(&n->v, NET_CONFIG_MTU, 2) : 1500;
	unsigned flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (n->guest_offloads & offloads[i].feature)
			flags |= offloads[i].tap;
	/* Segments without checksums are nothing that a tap could give. */
	if (!(flags & TAP_CSUM))
		flags = 0;
	__atomic_store_n(&n->frame_room,
	                 n->guest_offloads & large ? TAP_FRAME_MAX : TAP_HEADER_SIZE + 18 + mtu,
	                 __ATOMIC_RELAXED);
	/* One queue speaks for the interface. */
	return tap_set_offload(&n->pairs[0].tap, flags, err);
}

int net_apply_pairs(struct net *n, struct gw_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];
		const bool attached = i < n->pairs_in_use;
		struct gw_error one;

		/* In this order a queue that is detached is never taken for a tap that is gone. */
		if (!attached)
			__atomic_store_n(&p->attached, false, __ATOMIC_RELEASE);
		if (tap_attach(&p->tap, attached, &one) < 0 && !r) {
			r = -EIO;
			if (err)
				*err = one;
		}
		if (attached)
			__atomic_store_n(&p->attached, true, __ATOMIC_RELEASE);
		/* Its worker sees to the watch. */
		if (n->v.active && p->rx->ring.enabled)
			io_eventfd_signal(p->rx->kick_fd);
	}
	return r;
}

static void switch_backends(struct net *n)
{
	struct gw_error err;

	for (unsigned i = 0; i < 2 * n->pair_count; i++)
		if (connect_ring(&n->pairs[i / 2], i % 2, &err) < 0)
			log_error(n->v.device.machine->log, "device %s: %s", n->v.device.id,
			          err.text);
}

void net_set_link(struct net *n, bool up)
{
	struct virtio *v = &n->v;
	uint64_t status =
	        virtio_config_get(v, NET_CONFIG_STATUS, 2) & ~(uint64_t)NET_STATUS_LINK_UP;

	if (up == net_link_up(n))
		return;
	__atomic_store_n(&n->link_up, up, __ATOMIC_RELAXED);
	virtio_config_set(v, NET_CONFIG_STATUS, 2, status | (up ? NET_STATUS_LINK_UP : 0));
	if (n->vhost_on)
		switch_backends(n);
	virtio_config_changed(v);
}

/* ---- announcing ----------------------------------------------------------------------------- */

/* RFC 903: a request that bridges learn the address from and nobody answers. */
static void make_rarp(uint8_t frame[TAP_HEADER_SIZE + 60], const uint8_t mac[NET_MAC_SIZE])
{
	static const uint8_t kind[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
	uint8_t *at = frame + TAP_HEADER_SIZE;

	memset(frame, 0, TAP_HEADER_SIZE + 60);
	memset(at, 0xff, 6);
	memcpy(at + 6, mac, NET_MAC_SIZE);
	memcpy(at + 12, kind, sizeof(kind));
	memcpy(at + 22, mac, NET_MAC_SIZE); /* the sender's, and its IP address of zeros */
	memcpy(at + 32, mac, NET_MAC_SIZE); /* the target's */
}

void net_on_announce(void *opaque)
{
	struct net *n = opaque;
	struct virtio_worker *w = &n->v.workers[0];
	uint8_t frame[TAP_HEADER_SIZE + 60];

	pthread_mutex_lock(&w->lock);
	if (n->v.active && n->announce_round < ARRAY_SIZE(announce_after)) {
		make_rarp(frame, n->v.config + NET_CONFIG_MAC);
		if (net_link_up(n) && write(n->pairs[0].tap.fd, frame, sizeof(frame)) < 0)
			log_debug(n->v.device.machine->log, "device %s: announcing: %s",
			          n->v.device.id, strerror(errno));
		n->announce_round++;
		if (n->announce_round < ARRAY_SIZE(announce_after))
			loop_timer_set(n->announce_timer, announce_after[n->announce_round]);
	}
	pthread_mutex_unlock(&w->lock);
}

void net_announce(struct net *n)
{
	struct virtio_worker *w = &n->v.workers[0];

	pthread_mutex_lock(&w->lock);
	n->announce_round = 0;
	pthread_mutex_unlock(&w->lock);
	loop_timer_set(n->announce_timer, announce_after[0]);
}

/* 5.1.6.5.4: the driver announces itself where it can; the network hears of it before in any case.
 */
static void announce(struct net *n)
{
	struct virtio *v = &n->v;
	const uint64_t status = virtio_config_get(v, NET_CONFIG_STATUS, 2);

	n->announce_owed = false;
	net_announce(n);
	if (!virtio_has(v, NET_F_GUEST_ANNOUNCE))
		return;
	virtio_config_set(v, NET_CONFIG_STATUS, 2, status | NET_STATUS_ANNOUNCE);
	virtio_config_changed(v);
}

/* 5.1.3: with STANDBY the driver puts this device and the one with the same address together. */
static void tell_standby(struct net *n)
{
	const struct machine_notify *notify = &n->v.device.machine->notify;
	char data[64];

	if (!n->standby_told && notify->event) {
		snprintf(data, sizeof(data), "{\"device-id\":\"%s\"}", n->v.device.id);
		notify->event(notify->opaque, "FAILOVER_NEGOTIATED", data);
	}
	n->standby_told = true;
	if (notify->stands_in)
		notify->stands_in(notify->opaque);
}

/* ---- start and stop ------------------------------------------------------------------------- */

int net_start(struct virtio *v, struct gw_error *err)
{
	struct net *n = net_of(v);
	int r;

	if (!n->guest_offloads_set)
		n->guest_offloads = v->features & NET_GUEST_OFFLOADS;
	n->guest_offloads_set = true;
	r = net_apply_offloads(n, err);
	if (!r)
		r = net_apply_pairs(n, err);
	if (!r && vhost_fits(n)) {
		r = start_vhost(n, err);
		if (r < 0 && n->options.vhost == NET_VHOST_AUTO) {
			log_warn(v->device.machine->log, "device %s: served without vhost: %s",
			         v->device.id, err->text);
			r = 0;
		}
	} else if (!r && n->options.vhost == NET_VHOST_ON) {
		r = error_set(err, -ENOTSUP, "vhost: the driver's features are not the kernel's");
	}
	if (!r && n->announce_owed)
		announce(n);
	if (!r && virtio_has(v, NET_F_STANDBY))
		tell_standby(n);
	return r;
}

void net_stop(struct virtio *v)
{
	struct net *n = net_of(v);

	loop_timer_set(n->announce_timer, -1);
	if (n->vhost_on)
		stop_vhost(n);
	for (unsigned i = 0; i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];

		loop_unwatch(p->watch);
		p->watch = NULL;
		pthread_mutex_lock(&p->rx->worker->lock);
		net_rx_forget(p);
		p->tx_full = p->gone = false;
		pthread_mutex_unlock(&p->rx->worker->lock);
	}
}
