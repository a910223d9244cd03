/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of a tap interface: a descriptor that gives and takes one Ethernet
 * frame a call, with a header of 12 bytes before it which is the one that
 * virtio-net has (VIRTIO 1.2, 5.1.6: struct virtio_net_hdr, num_buffers
 * included). A packet socket pair end (SOCK_SEQPACKET or SOCK_DGRAM) on which
 * somebody speaks the same serves as well, without offloads.
 */
#ifndef VMM_VIRTIO_TAP_H
#define VMM_VIRTIO_TAP_H

#include "godwit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAP_HEADER_SIZE 12
/* The largest frame with its header: 64 KiB of IP packet, Ethernet header, a VLAN tag. */
#define TAP_FRAME_MAX (TAP_HEADER_SIZE + 65535 + 18)

/* What the reader of a tap can take (TUNSETOFFLOAD, Linux's Documentation/networking/tuntap). */
#define TAP_CSUM 0x01u
#define TAP_TSO4 0x02u
#define TAP_TSO6 0x04u
#define TAP_TSO_ECN 0x08u
#define TAP_USO4 0x20u
#define TAP_USO6 0x40u

struct tap {
	int fd;           /* non-blocking; -1: none */
	char name[16];    /* of the interface; "" where it is a socket */
	bool multi;       /* one of several queues */
	unsigned offered; /* TAP_* that tap_set_offload() can take */
};

/* A queue of the interface `name`, which is made if there is none (and then set up, with `mtu` if
 * it is not 0). `multi`: more queues will follow. */
int tap_open(const char *name, bool multi, unsigned mtu, struct tap *out, struct gw_error *err);
/* A descriptor that was given; it is closed on error, too. */
int tap_adopt(int fd, struct tap *out, struct gw_error *err);
void tap_close(struct tap *t);

/* How frames may come: TAP_* or nothing. */
int tap_set_offload(const struct tap *t, unsigned offload, struct gw_error *err);
/* Whether frames are queued here, of an interface with several queues. */
int tap_attach(const struct tap *t, bool attached, struct gw_error *err);

#endif
