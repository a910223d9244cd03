/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-net share.
 *
 *      net.c        made and gone, options, features, configuration space, state
 *      net_run.c    started, stopped: in user space or by the kernel's vhost-net
 *      net_rx.c     frames from the tap to the guest
 *      net_tx.c     frames from the guest to the tap
 *      net_ctrl.c   what the driver asks for by the control queue
 *
 * A pair is a receive queue, a transmit queue and a queue of the tap; a thread
 * of its own serves it. The control queue is served on the machine's loop, with
 * the device lock, since what it changes belongs to that.
 *
 * Source: VIRTIO 1.2, 5.1.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "base/util.h"
#include "vmm/virtio/tap.h"
#include "vmm/virtio/vhost.h"
#include "vmm/virtio/virtio.h"

#define NET_PAIRS_MAX 8
#define NET_QUEUE_SIZE 256
#define NET_MAC_SIZE 6

/* 5.1.3 */
#define NET_F_CSUM (1ull << 0)
#define NET_F_GUEST_CSUM (1ull << 1)
#define NET_F_CTRL_GUEST_OFFLOADS (1ull << 2)
#define NET_F_MTU (1ull << 3)
#define NET_F_MAC (1ull << 5)
#define NET_F_GUEST_TSO4 (1ull << 7)
#define NET_F_GUEST_TSO6 (1ull << 8)
#define NET_F_GUEST_ECN (1ull << 9)
#define NET_F_HOST_TSO4 (1ull << 11)
#define NET_F_HOST_TSO6 (1ull << 12)
#define NET_F_HOST_ECN (1ull << 13)
#define NET_F_MRG_RXBUF (1ull << 15)
#define NET_F_STATUS (1ull << 16)
#define NET_F_CTRL_VQ (1ull << 17)
#define NET_F_CTRL_RX (1ull << 18)
#define NET_F_CTRL_VLAN (1ull << 19)
#define NET_F_GUEST_ANNOUNCE (1ull << 21)
#define NET_F_MQ (1ull << 22)
#define NET_F_CTRL_MAC_ADDR (1ull << 23)
#define NET_F_GUEST_USO4 (1ull << 54)
#define NET_F_GUEST_USO6 (1ull << 55)
#define NET_F_HOST_USO (1ull << 56)
#define NET_F_STANDBY (1ull << 62)
#define NET_F_SPEED_DUPLEX (1ull << 63)

/* How frames may come to the guest: what CTRL_GUEST_OFFLOADS switches. */
#define NET_GUEST_OFFLOADS                                                                         \
	(NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN |                \
	 NET_F_GUEST_USO4 | NET_F_GUEST_USO6)

/* What the kernel must do itself in a ring that it serves. */
#define NET_RING_FEATURES                                                                          \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED | \
	 NET_F_MRG_RXBUF)

/* Configuration space (5.1.4). */
enum {
	NET_CONFIG_MAC = 0,
	NET_CONFIG_STATUS = 6,
	NET_CONFIG_PAIRS = 8,
	NET_CONFIG_MTU = 10,
	NET_CONFIG_SPEED = 12,
	NET_CONFIG_DUPLEX = 16,
	NET_CONFIG_SIZE = 17,
};
#define NET_STATUS_LINK_UP 1u
#define NET_STATUS_ANNOUNCE 2u

/* Before each frame (5.1.6). */
struct net_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct net_header) == TAP_HEADER_SIZE, "the tap's header is the guest's");
#define NET_HDR_NEEDS_CSUM 1u

enum net_vhost { NET_VHOST_AUTO, NET_VHOST_ON, NET_VHOST_OFF };

struct net_options {
	char tap[16];
	char fd[64];
	char mac[18];
	uint32_t mtu, queues, vhost;
	bool offload, standby;
};

struct net_counters {
	uint64_t frames, bytes, dropped;
};

/* Receive buffers that are popped and not yet used: as many as a ring has. */
#define NET_HELD NET_QUEUE_SIZE

struct net_pair {
	struct net *net;
	unsigned index;
	struct tap tap;
	struct vhost *vhost; /* NULL: user space alone */
	struct virtio_queue *rx, *tx;
	bool attached; /* atomic: the tap queues frames for it */

	/* From here on under the worker's lock. */
	struct loop_watch *watch;          /* of the tap */
	uint32_t events;                   /* that it asks for */
	bool gone;                         /* the host's end of it */
	struct virtq_chain held[NET_HELD]; /* a ring of them */
	unsigned held_first, held_count;
	size_t held_room;    /* bytes in them */
	size_t frame;        /* one that has been read and not given, with its header; 0: none */
	size_t frame_placed; /* bytes of it that are in `held` already; the others are in `spare` */
	bool starved;        /* waits for the driver's buffers */
	bool tx_full;        /* waits until the tap can be written */
	struct virtq_chain chain;           /* transmit */
	struct net_counters received, sent; /* as the guest sees it */
	uint8_t spare[TAP_FRAME_MAX];
};

struct net {
	struct virtio v;
	struct net_options options;
	struct net_pair *pairs;
	unsigned pair_count;
	uint8_t mac[NET_MAC_SIZE]; /* permanent: a reset brings it back */
	bool vhost_ready;          /* each pair has one */

	/* Device lock. */
	bool vhost_on; /* while active: the kernel has the pairs */
	unsigned pairs_in_use;
	uint64_t guest_offloads;
	bool guest_offloads_set;     /* since the reset */
	uint8_t rx_modes;            /* a bit for each command of the class */
	uint32_t unicast, multicast; /* addresses in the driver's tables */
	bool announce_owed;          /* it arrived from elsewhere, and has not run yet */
	bool standby_told;           /* that the driver knows STANDBY, since the reset */
	/* Atomic: the workers look at them. */
	bool link_up;
	size_t frame_room; /* how large frames from the tap usually get */

	struct loop_timer *announce_timer;
	unsigned announce_round; /* worker 0's lock */
};

static inline struct net *net_of(struct virtio *v)
{
	return container_of(v, struct net, v);
}

/* Pairs that the driver can know of; the control queue comes behind them (5.1.2). */
static inline unsigned net_pairs_known(const struct net *n)
{
	return virtio_has(&n->v, NET_F_MQ) ? n->pair_count : 1;
}

static inline bool net_is_ctrl(const struct net *n, unsigned queue)
{
	return queue == 2 * net_pairs_known(n);
}

static inline bool net_link_up(const struct net *n)
{
	return __atomic_load_n(&n->link_up, __ATOMIC_RELAXED);
}

static inline bool net_attached(const struct net_pair *p)
{
	return __atomic_load_n(&p->attached, __ATOMIC_ACQUIRE);
}

static inline void net_count(uint64_t *counter, uint64_t by)
{
	__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* ---- net_run.c; with the device lock ---- */
int net_start(struct virtio *v, struct gw_error *err);
void net_stop(struct virtio *v);
void net_kick(struct virtio *v, struct virtio_queue *q);
/* Queues that the driver has enabled since the start go to the kernel, too. */
void net_late_queues(struct net *n);
void net_set_link(struct net *n, bool up);
/* The tap does as guest_offloads and pairs_in_use say. */
int net_apply_offloads(struct net *n, struct gw_error *err);
int net_apply_pairs(struct net *n, struct gw_error *err);
/* Worker 0's loop: what announces the guest to the network. */
void net_on_announce(void *net);
/* Has that begin. */
void net_announce(struct net *n);

/* ---- with the worker's lock, on its thread ---- */
/* The tap is to be watched for what rx and tx wait for. */
void net_update_watch(struct net_pair *p);
/* It is of no use any more, until the next start. */
void net_lose_tap(struct net_pair *p);
void net_rx(struct net_pair *p);
void net_tx(struct net_pair *p);
/* Unused receive buffers go back; a frame that waits for room is lost. Not active. */
void net_rx_forget(struct net_pair *p);

/* ---- net_ctrl.c; with the device lock ---- */
void net_ctrl(struct net *n);

#endif
