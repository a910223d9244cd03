/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/tap.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define TUN_PATH "/dev/net/tun"

/* Widest first: Linux takes all of a set that it knows, or refuses it. */
static const unsigned offload_sets[] = {
	TAP_CSUM | TAP_TSO4 | TAP_TSO6 | TAP_TSO_ECN | TAP_USO4 | TAP_USO6,
	TAP_CSUM | TAP_TSO4 | TAP_TSO6 | TAP_TSO_ECN,
	TAP_CSUM,
};

static int set_offload(int fd, unsigned offload)
{
	return io_ioctl(fd, TUNSETOFFLOAD, (void *)(uintptr_t)offload);
}

/* The header's size, and what it can say. Nothing is on afterwards. */
static int prepare(struct tap *t, struct gw_error *err)
{
	int size = TAP_HEADER_SIZE;
	int r = io_ioctl(t->fd, TUNSETVNETHDRSZ, &size);

	if (r < 0)
		return error_set_sys(err, r, "%s: TUNSETVNETHDRSZ", t->name);
	for (size_t i = 0; i < ARRAY_SIZE(offload_sets) && !t->offered; i++)
		if (set_offload(t->fd, offload_sets[i]) >= 0)
			t->offered = offload_sets[i];
	set_offload(t->fd, 0);
	return 0;
}

/* An interface that was made just now belongs to nobody else who could set it up. */
static int set_up(const struct tap *t, unsigned mtu, struct gw_error *err)
{
	autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	if (fd < 0)
		return error_set_sys(err, -errno, "%s: socket", t->name);
	memcpy(request.ifr_name, t->name, sizeof(t->name));
	request.ifr_mtu = (int)mtu;
	if (mtu && ioctl(fd, SIOCSIFMTU, &request) < 0)
		return error_set_sys(err, -errno, "%s: MTU %u", t->name, mtu);
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return error_set_sys(err, -errno, "%s: SIOCGIFFLAGS", t->name);
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return error_set_sys(err, -errno, "%s: SIOCSIFFLAGS", t->name);
	return 0;
}

static int attach_queue(struct tap *t, const char *name, struct gw_error *err)
{
	struct ifreq request = { 0 };
	int r;

	request.ifr_flags =
	        (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (t->multi ? IFF_MULTI_QUEUE : 0));
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	r = io_ioctl(t->fd, TUNSETIFF, &request);
	if (r == -EBUSY)
		return error_set(err, r, "interface %s is in use by somebody else", name);
	if (r == -EINVAL)
		return error_set(err, r, "interface %s is no tap with %s, or has no queue left",
		                 name, t->multi ? "several queues" : "one queue");
	if (r < 0)
		return error_set_sys(err, r, "interface %s: TUNSETIFF", name);
	memcpy(t->name, request.ifr_name, sizeof(t->name));
	t->name[sizeof(t->name) - 1] = 0;
	return 0;
}

int tap_open(const char *name, bool multi, unsigned mtu, struct tap *out, struct gw_error *err)
{
	struct tap t = { .multi = multi };
	const bool existed = if_nametoindex(name) != 0;
	int r;

	if (!name[0] || strlen(name) >= sizeof(t.name))
		return error_set(err, -EINVAL, "\"%s\" is no name of an interface", name);
	t.fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t.fd < 0)
		return error_set_sys(err, -errno, TUN_PATH);
	r = attach_queue(&t, name, err);
	if (!r)
		r = prepare(&t, err);
	if (!r && !existed)
		r = set_up(&t, mtu, err);
	if (r < 0)
		tap_close(&t);
	else
		*out = t;
	return r;
}

/* Stream sockets, files and pipes do not keep frames apart. */
static int check_socket(int fd, struct gw_error *err)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	    (type != SOCK_SEQPACKET && type != SOCK_DGRAM))
		return error_set(err, -EINVAL, "the descriptor is no tap and no packet socket");
	return 0;
}

int tap_adopt(int fd, struct tap *out, struct gw_error *err)
{
	struct tap t = { .fd = fd };
	struct ifreq request = { 0 };
	int r = io_set_nonblock(fd, 1);

	if (r < 0)
		r = error_set_sys(err, r, "the descriptor cannot be made non-blocking");
	else if (ioctl(fd, TUNGETIFF, &request) < 0)
		r = check_socket(fd, err);
	else if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_VNET_HDR) ||
	         !(request.ifr_flags & IFF_NO_PI))
		r = error_set(err, -EINVAL,
		              "interface %.16s: flags must be IFF_TAP, IFF_NO_PI, IFF_VNET_HDR",
		              request.ifr_name);
	else {
		memcpy(t.name, request.ifr_name, sizeof(t.name));
		t.name[sizeof(t.name) - 1] = 0;
		t.multi = request.ifr_flags & IFF_MULTI_QUEUE;
		r = prepare(&t, err);
	}
	if (r < 0)
		tap_close(&t);
	else
		*out = t;
	return r;
}

void tap_close(struct tap *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

int tap_set_offload(const struct tap *t, unsigned offload, struct gw_error *err)
{
	int r = t->name[0] ? set_offload(t->fd, offload & t->offered) : 0;

	return r < 0 ? error_set_sys(err, r, "%s: TUNSETOFFLOAD 0x%x", t->name, offload) : 0;
}

int tap_attach(const struct tap *t, bool attached, struct gw_error *err)
{
	struct ifreq request = { 0 };
	int r;

	if (!t->multi)
		return 0;
	request.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
	r = io_ioctl(t->fd, TUNSETQUEUE, &request);
	/* -EINVAL: it is so already. */
	return r < 0 && r != -EINVAL ? error_set_sys(err, r, "%s: TUNSETQUEUE", t->name) : 0;
}
