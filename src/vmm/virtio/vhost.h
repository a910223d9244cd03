/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two queues of a virtio device that the kernel serves: /dev/vhost-net and
 * /dev/vhost-vsock speak the same language but for the few calls at the end.
 *
 * The device stays what the guest sees. While it is active the kernel has the
 * rings, the eventfd of the guest's kicks and an eventfd for its own
 * interrupts; in between the rings are the virtqueue's again, where the kernel
 * has stopped. What it writes to guest memory is a dirty source of its own.
 *
 * All calls with the device lock held but for open and close, where it does
 * not matter; no worker's lock.
 */
#ifndef VMM_VIRTIO_VHOST_H
#define VMM_VIRTIO_VHOST_H

#include "godwit.h"

#include <stdbool.h>
#include <stdint.h>

struct virtio;
struct vhost;

#define VHOST_RINGS 2

/* The system calls, so that each can be made to fail. */
struct vhost_calls {
	int (*open)(const char *path); /* a descriptor, or a negative errno */
	int (*ioctl)(int fd, unsigned long request, void *arg);
};
extern const struct vhost_calls vhost_kernel;

/* For the device's queues `first` and `first` + 1, which exist already (within ops->open). */
int vhost_open(struct virtio *v, unsigned first, const char *path, const struct vhost_calls *calls,
               struct vhost **out, struct gw_error *err);
/* Stopped before. NULL is fine. */
void vhost_close(struct vhost *vh);
/* What the kernel offers. */
uint64_t vhost_features(const struct vhost *vh);

/* Gives the kernel memory and negotiated features, and the rings of those queues that are enabled.
 * The backend's call comes after. On error vhost_stop() is to be called. */
int vhost_start(struct vhost *vh, struct gw_error *err);
/* For a queue (0 or 1 here) that was enabled later. */
int vhost_start_ring(struct vhost *vh, unsigned ring, struct gw_error *err);
bool vhost_has_ring(const struct vhost *vh, unsigned ring);
/* Takes the rings back. The backend has been told to stop. */
void vhost_stop(struct vhost *vh);

/* fd: a tap; -1: none, then what is in flight has ended when it returns. */
int vhost_net_backend(struct vhost *vh, unsigned ring, int fd, struct gw_error *err);
int vhost_vsock_cid(struct vhost *vh, uint64_t cid, struct gw_error *err);
int vhost_vsock_running(struct vhost *vh, bool running, struct gw_error *err);

#endif
