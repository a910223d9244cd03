/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net: what it offers, what it keeps, how it is made. */
#include "vmm/virtio/net.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"
#include "vmm/virtio/devices.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define VHOST_PATH "/dev/vhost-net"
#define SPEED 10000 /* Mbit/s: a tap has none; bonding drivers want one */
#define DUPLEX_FULL 1

/* ---- addresses ------------------------------------------------------------------------------ */

static int parse_mac(const char *text, uint8_t mac[NET_MAC_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < 3 * NET_MAC_SIZE - 1; i++) {
		const char *digit =
		        text[i] ? strchr(digits, tolower((unsigned char)text[i])) : NULL;

		if (i % 3 == 2 ? text[i] != ':' : !digit)
			return -EINVAL;
		if (i % 3 != 2)
			mac[i / 3] = (uint8_t)(mac[i / 3] << 4 | (digit - digits));
	}
	return text[3 * NET_MAC_SIZE - 1] ? -EINVAL : 0;
}

static int check_mac(const char *text, struct gw_error *err)
{
	uint8_t mac[NET_MAC_SIZE] = { 0 };

	if (!text[0])
		return 0;
	if (parse_mac(text, mac) < 0)
		return error_set(err, -EINVAL, "\"%s\" is not like 52:54:00:12:34:56", text);
	if (mac[0] & 1)
		return error_set(err, -EINVAL, "%s is a group address", text);
	return 0;
}

/* Locally administered, of one station. */
static int random_mac(uint8_t mac[NET_MAC_SIZE], struct gw_error *err)
{
	if (getrandom(mac, NET_MAC_SIZE, 0) != NET_MAC_SIZE)
		return error_set_sys(err, -errno, "mac: getrandom");
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
	return 0;
}

static bool add_mac(cJSON *info, const uint8_t *mac)
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
	         mac[3], mac[4], mac[5]);
	return cJSON_AddStringToObject(info, "mac", text);
}

/* ---- what is offered ------------------------------------------------------------------------- */

static const struct virtio_feature_name feature_names[] = {
	{ NET_F_CSUM, "VIRTIO_NET_F_CSUM" },
	{ NET_F_GUEST_CSUM, "VIRTIO_NET_F_GUEST_CSUM" },
	{ NET_F_CTRL_GUEST_OFFLOADS, "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS" },
	{ NET_F_MTU, "VIRTIO_NET_F_MTU" },
	{ NET_F_MAC, "VIRTIO_NET_F_MAC" },
	{ NET_F_GUEST_TSO4, "VIRTIO_NET_F_GUEST_TSO4" },
	{ NET_F_GUEST_TSO6, "VIRTIO_NET_F_GUEST_TSO6" },
	{ NET_F_GUEST_ECN, "VIRTIO_NET_F_GUEST_ECN" },
	{ NET_F_HOST_TSO4, "VIRTIO_NET_F_HOST_TSO4" },
	{ NET_F_HOST_TSO6, "VIRTIO_NET_F_HOST_TSO6" },
	{ NET_F_HOST_ECN, "VIRTIO_NET_F_HOST_ECN" },
	{ NET_F_MRG_RXBUF, "VIRTIO_NET_F_MRG_RXBUF" },
	{ NET_F_STATUS, "VIRTIO_NET_F_STATUS" },
	{ NET_F_CTRL_VQ, "VIRTIO_NET_F_CTRL_VQ" },
	{ NET_F_CTRL_RX, "VIRTIO_NET_F_CTRL_RX" },
	{ NET_F_CTRL_VLAN, "VIRTIO_NET_F_CTRL_VLAN" },
	{ NET_F_GUEST_ANNOUNCE, "VIRTIO_NET_F_GUEST_ANNOUNCE" },
	{ NET_F_MQ, "VIRTIO_NET_F_MQ" },
	{ NET_F_CTRL_MAC_ADDR, "VIRTIO_NET_F_CTRL_MAC_ADDR" },
	{ NET_F_GUEST_USO4, "VIRTIO_NET_F_GUEST_USO4" },
	{ NET_F_GUEST_USO6, "VIRTIO_NET_F_GUEST_USO6" },
	{ NET_F_HOST_USO, "VIRTIO_NET_F_HOST_USO" },
	{ NET_F_STANDBY, "VIRTIO_NET_F_STANDBY" },
	{ NET_F_SPEED_DUPLEX, "VIRTIO_NET_F_SPEED_DUPLEX" },
	{ 0, NULL },
};

/* What a tap that can do `tap` lets us offer. */
static const struct {
	unsigned tap;
	uint64_t features;
} by_tap[] = {
	{ TAP_CSUM, NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_CTRL_GUEST_OFFLOADS },
	{ TAP_TSO4, NET_F_HOST_TSO4 | NET_F_GUEST_TSO4 },
	{ TAP_TSO6, NET_F_HOST_TSO6 | NET_F_GUEST_TSO6 },
	{ TAP_TSO_ECN, NET_F_HOST_ECN | NET_F_GUEST_ECN },
	{ TAP_USO4 | TAP_USO6, NET_F_HOST_USO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6 },
};

static void offer(struct net *n)
{
	struct virtio *v = &n->v;
	const unsigned tap = n->options.offload ? n->pairs[0].tap.offered : 0;

	v->offered |= NET_F_MRG_RXBUF | NET_F_MAC | NET_F_STATUS | NET_F_CTRL_VQ | NET_F_CTRL_RX |
	              NET_F_CTRL_MAC_ADDR | NET_F_CTRL_VLAN | NET_F_GUEST_ANNOUNCE |
	              NET_F_SPEED_DUPLEX;
	for (size_t i = 0; i < ARRAY_SIZE(by_tap); i++)
		if ((tap & by_tap[i].tap) == by_tap[i].tap)
			v->offered |= by_tap[i].features;
	if (n->options.mtu)
		v->offered |= NET_F_MTU;
	if (n->options.standby)
		v->offered |= NET_F_STANDBY;
	if (n->pair_count > 1)
		v->offered |= NET_F_MQ;
	/* A guest that arrives may have been served in user space before, with features that the
	 * kernel lacks; with "auto" it is so here, too. */
	if (n->vhost_ready && !(n->options.vhost == NET_VHOST_AUTO && v->device.machine->incoming))
		v->offered &= ~(NET_RING_FEATURES & ~vhost_features(n->pairs[0].vhost));

	virtio_config_set(v, NET_CONFIG_STATUS, 2, NET_STATUS_LINK_UP);
	virtio_config_set(v, NET_CONFIG_PAIRS, 2, n->pair_count);
	virtio_config_set(v, NET_CONFIG_MTU, 2, n->options.mtu);
	virtio_config_set(v, NET_CONFIG_SPEED, 4, SPEED);
	virtio_config_set(v, NET_CONFIG_DUPLEX, 1, DUPLEX_FULL);
	memcpy(v->config + NET_CONFIG_MAC, n->mac, NET_MAC_SIZE);
}

/* ---- state ------------------------------------------------------------------------------------
 */

static void net_reset(struct virtio *v)
{
	struct net *n = net_of(v);
	const uint64_t status = virtio_config_get(v, NET_CONFIG_STATUS, 2);

	n->pairs_in_use = 1;
	n->guest_offloads = 0;
	n->guest_offloads_set = false;
	n->rx_modes = 0;
	n->unicast = n->multicast = 0;
	n->announce_owed = n->standby_told = false;
	memcpy(v->config + NET_CONFIG_MAC, n->mac, NET_MAC_SIZE);
	virtio_config_set(v, NET_CONFIG_STATUS, 2, status & NET_STATUS_LINK_UP);
}

static void net_save(struct virtio *v, struct bytes *out)
{
	const struct net *n = net_of(v);

	bytes_put(out, n->mac, NET_MAC_SIZE);
	bytes_put16(out, (uint16_t)n->pairs_in_use);
	bytes_put8(out, n->guest_offloads_set);
	bytes_put64(out, n->guest_offloads);
	bytes_put8(out, n->rx_modes);
	bytes_put32(out, n->unicast);
	bytes_put32(out, n->multicast);
}

static int net_load(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	struct net *n = net_of(v);

	bytes_take(in, n->mac, NET_MAC_SIZE);
	n->pairs_in_use = bytes_take16(in);
	n->guest_offloads_set = bytes_take8(in);
	n->guest_offloads = bytes_take64(in);
	n->rx_modes = bytes_take8(in);
	n->unicast = bytes_take32(in);
	n->multicast = bytes_take32(in);
	if (in->failed)
		return error_set(err, -EINVAL, "device state is too short");
	if (!n->pairs_in_use || n->pairs_in_use > n->pair_count)
		return error_set(err, -EINVAL, "%u queue pairs in use of %u", n->pairs_in_use,
		                 n->pair_count);
	if (n->guest_offloads & ~(v->features & NET_GUEST_OFFLOADS))
		return error_set(err, -EINVAL, "offloads 0x%llx, which were not negotiated",
		                 (unsigned long long)n->guest_offloads);
	n->announce_owed = true;
	return 0;
}

/* The guest knows its address and its link; what the host's side is like must be no less. */
static int net_load_config(struct virtio *v, const uint8_t *theirs, struct gw_error *err)
{
	struct net *n = net_of(v);
	struct virtio there = { 0 };
	uint64_t mtu, status;

	memcpy(there.config, theirs, NET_CONFIG_SIZE);
	mtu = virtio_config_get(&there, NET_CONFIG_MTU, 2);
	if (virtio_has(v, NET_F_MTU) && mtu > n->options.mtu)
		return error_set(err, -EINVAL, "mtu: the guest uses %llu, here it is %u",
		                 (unsigned long long)mtu, n->options.mtu);
	if (virtio_config_get(&there, NET_CONFIG_PAIRS, 2) != n->pair_count)
		return error_set(err, -EINVAL, "queues: %llu there, %u here",
		                 (unsigned long long)virtio_config_get(&there, NET_CONFIG_PAIRS, 2),
		                 n->pair_count);
	memcpy(v->config, theirs, NET_CONFIG_SIZE);
	status = virtio_config_get(v, NET_CONFIG_STATUS, 2);
	virtio_config_set(v, NET_CONFIG_STATUS, 2,
	                  status & (NET_STATUS_LINK_UP | NET_STATUS_ANNOUNCE));
	__atomic_store_n(&n->link_up, status & NET_STATUS_LINK_UP, __ATOMIC_RELAXED);
	return 0;
}

/* ---- made and gone ------------------------------------------------------------------------------
 */

static int check_options(const struct net_options *o, struct gw_error *err)
{
	if (!o->tap[0] == !o->fd[0])
		return error_set(err, -EINVAL, "tap: either tap or fd is needed");
	/* A guest puts two NICs together by their address. */
	if (o->standby && !o->mac[0])
		return error_set(err, -EINVAL,
		                 "standby: mac is needed, that of the NIC that it stands in for");
	return 0;
}

static int net_check_host(const void *options, struct gw_error *err)
{
	const struct net_options *o = options;
	int r = check_options(o, err);

	if (!r && o->vhost == NET_VHOST_ON && access(VHOST_PATH, R_OK | W_OK) < 0)
		r = error_set_sys(err, -errno, "vhost: %s", VHOST_PATH);
	return r;
}

/* NAME, NAME.1, NAME.2, ...: one for each pair. */
static int adopt(struct net_pair *p, const char *name, struct gw_error *err)
{
	char full[80];
	int fd;

	snprintf(full, sizeof(full), p->index ? "%s.%u" : "%s", name, p->index);
	fd = machine_fd(p->net->v.device.machine, full);
	if (fd < 0)
		return error_set(err, fd, "fd: no descriptor \"%s\" was given", full);
	return tap_adopt(fd, &p->tap, err) < 0 ? error_context(err, "fd: %s", full) : 0;
}

static int open_tap(struct net_pair *p, struct gw_error *err)
{
	const struct net_options *o = &p->net->options;
	/* A name that is a pattern was made one name by the first. */
	const char *name = p->index ? p->net->pairs[0].tap.name : o->tap;

	if (o->fd[0])
		return adopt(p, o->fd, err);
	return tap_open(name, o->queues > 1, o->mtu, &p->tap, err) < 0 ? error_context(err, "tap")
	                                                               : 0;
}

static int open_vhost(struct net *n, struct gw_error *err)
{
	int r = 0;

	if (n->options.vhost == NET_VHOST_OFF)
		return 0;
	if (!n->pairs[0].tap.name[0])
		r = error_set(err, -EINVAL, "vhost: the host's end is no tap");
	else if (n->v.device.machine->outside)
		r = error_set(err, -EINVAL, "vhost: the guest's memory is not this process's");
	for (unsigned i = 0; i < n->pair_count && !r; i++)
		r = vhost_open(&n->v, 2 * i, VHOST_PATH, &vhost_kernel, &n->pairs[i].vhost, err);
	n->vhost_ready = !r;
	if (!r || n->options.vhost == NET_VHOST_ON)
		return r;
	for (unsigned i = 0; i < n->pair_count; i++) {
		vhost_close(n->pairs[i].vhost);
		n->pairs[i].vhost = NULL;
	}
	return 0;
}

static int make_pairs(struct net *n, struct gw_error *err)
{
	int r = 0;

	n->pairs = calloc(n->options.queues, sizeof(*n->pairs));
	if (!n->pairs)
		return error_set(err, -ENOMEM, "out of memory");
	n->pair_count = n->options.queues;
	for (unsigned i = 0; i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];

		p->net = n;
		p->index = i;
		p->tap.fd = -1;
		p->rx = &n->v.queues[2 * i];
		p->tx = &n->v.queues[2 * i + 1];
	}
	for (unsigned i = 0; i < n->pair_count && !r; i++)
		r = open_tap(&n->pairs[i], err);
	return r;
}

static void net_release(struct virtio *v)
{
	struct net *n = net_of(v);

	loop_timer_destroy(n->announce_timer);
	for (unsigned i = 0; i < n->pair_count; i++) {
		struct net_pair *p = &n->pairs[i];

		vhost_close(p->vhost);
		tap_close(&p->tap);
		virtq_chain_free(&p->chain);
		for (unsigned c = 0; c < NET_HELD; c++)
			virtq_chain_free(&p->held[c]);
	}
	free(n->pairs);
}

static int net_open(struct virtio *v, struct gw_error *err)
{
	struct net *n = net_of(v);
	int r = check_mac(n->options.mac, err);

	if (r < 0)
		return error_context(err, "mac");
	if (n->options.mac[0])
		parse_mac(n->options.mac, n->mac);
	else
		r = random_mac(n->mac, err);
	if (!r)
		r = make_pairs(n, err);
	if (!r)
		r = open_vhost(n, err);
	if (!r)
		r = loop_timer_create(v->workers[0].loop, net_on_announce, n, &n->announce_timer,
		                      err);
	if (r < 0)
		return r;
	n->link_up = true;
	n->pairs_in_use = 1;
	offer(n);
	return 0;
}

static const struct virtio_ops net_ops = {
	.id = 1,
	.class_code = 0x020000, /* Ethernet controller */
	.feature_names = feature_names,
	.kick = net_kick,
	.start = net_start,
	.stop = net_stop,
	.reset = net_reset,
	.save = net_save,
	.load = net_load,
	.load_config = net_load_config,
	.open = net_open,
	.release = net_release,
};

static const struct participant_ops net_participant = VIRTIO_PARTICIPANT("virtio-net");

static unsigned pair_of(unsigned queue)
{
	return queue / 2;
}

static int net_create(struct machine *m, const struct config_device *config, bool hot,
                      struct device **out, struct gw_error *err)
{
	const struct net_options *o = virtio_options(config);
	const struct virtio_setup setup = {
		.ops = &net_ops,
		.participant = &net_participant,
		.driver = &virtio_net_driver,
		.queues = 2 * o->queues + 1,
		.queue_size = NET_QUEUE_SIZE,
		.threads = o->queues,
		.worker_of = pair_of,
	};
	struct net *n;
	int r = check_options(o, err);

	if (r < 0)
		return r;
	n = calloc(1, sizeof(*n));
	if (!n)
		return error_set(err, -ENOMEM, "out of memory");
	n->options = *o;
	n->v.config_size = NET_CONFIG_SIZE;
	r = virtio_plug(&n->v, m, config, hot, &setup, err);
	if (!r)
		*out = &n->v.device;
	return r;
}

/* ---- asked
 * ---------------------------------------------------------------------------------------- */

static void net_deferred(struct device *d)
{
	struct net *n = container_of(d, struct net, v.device);

	net_late_queues(n);
	net_ctrl(n);
	virtio_deferred(d);
}

static bool add_counters(cJSON *info, const struct net *n)
{
	uint64_t sum[6] = { 0 };
	static const char *const names[] = { "rx_frames", "rx_bytes", "rx_dropped",
		                             "tx_frames", "tx_bytes", "tx_dropped" };

	for (unsigned i = 0; i < n->pair_count; i++) {
		const struct net_pair *p = &n->pairs[i];
		const uint64_t *const each[] = {
			&p->received.frames, &p->received.bytes, &p->received.dropped,
			&p->sent.frames,     &p->sent.bytes,     &p->sent.dropped,
		};

		for (unsigned c = 0; c < ARRAY_SIZE(each); c++)
			sum[c] += __atomic_load_n(each[c], __ATOMIC_RELAXED);
	}
	for (unsigned c = 0; c < ARRAY_SIZE(names); c++)
		if (!cJSON_AddNumberToObject(info, names[c], (double)sum[c]))
			return false;
	return true;
}

static bool net_describe(struct device *d, cJSON *info)
{
	struct net *n = container_of(d, struct net, v.device);
	const struct tap *tap = &n->pairs[0].tap;
	uint8_t mac[NET_MAC_SIZE];
	unsigned in_use;
	bool vhost;

	machine_lock(d->machine);
	memcpy(mac, n->v.config + NET_CONFIG_MAC, sizeof(mac));
	in_use = n->pairs_in_use;
	vhost = n->v.active ? n->vhost_on : n->vhost_ready;
	machine_unlock(d->machine);
	return cJSON_AddStringToObject(info, "tap", tap->name[0] ? tap->name : n->options.fd) &&
	       add_mac(info, mac) && cJSON_AddNumberToObject(info, "mtu", n->options.mtu) &&
	       cJSON_AddNumberToObject(info, "queues", n->pair_count) &&
	       cJSON_AddNumberToObject(info, "queues_in_use", in_use) &&
	       cJSON_AddBoolToObject(info, "vhost", vhost) &&
	       cJSON_AddBoolToObject(info, "link", net_link_up(n)) && add_counters(info, n);
}

static int net_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                       struct gw_error *err)
{
	struct net *n = container_of(d, struct net, v.device);
	const cJSON *up = cJSON_GetObjectItemCaseSensitive(args, "up");

	(void)ret;
	if (strcmp(name, "set-link"))
		return -EOPNOTSUPP;
	if (!cJSON_IsBool(up))
		return error_set(err, -EINVAL, "up: must be true or false");
	machine_lock(d->machine);
	net_set_link(n, cJSON_IsTrue(up));
	machine_unlock(d->machine);
	return 0;
}

/* ---- beside another NIC ---------------------------------------------------------------------- */

static bool net_address(const void *options, uint8_t mac[NET_MAC_SIZE])
{
	const struct net_options *o = options;

	return o->mac[0] && !parse_mac(o->mac, mac);
}

static bool net_may_stand_in(const void *options)
{
	return ((const struct net_options *)options)->standby;
}

static bool net_stands_in(struct device *d)
{
	const struct net *n = container_of(d, struct net, v.device);
	bool ready;

	machine_lock(d->machine);
	ready = (n->v.status & VIRTIO_DRIVER_OK) && virtio_has(&n->v, NET_F_STANDBY);
	machine_unlock(d->machine);
	return ready;
}

/* Frames for the guest still go where they used to, until bridges and switches have heard. */
static void net_take_over(struct device *d)
{
	struct net *n = container_of(d, struct net, v.device);

	if (n->v.active)
		net_announce(n);
}

static const char *const vhost_words[] = { "auto", "on", "off", NULL };

static const struct config_key net_keys[] = {
	CONFIG_ROW_TEXT(
	        NULL, "tap", CONFIG_OF_HOST, struct net_options, tap,
	        "tap interface of the host; it is made, and taken away afterwards, if there "
	        "is none of that name"),
	CONFIG_ROW_TEXT(NULL, "fd", CONFIG_OF_HOST, struct net_options, fd,
	                "instead of tap: name of a given descriptor, a tap with IFF_VNET_HDR or a "
	                "packet socket; further pairs use NAME.1, NAME.2, ..."),
	{ NULL, "mac", CONFIG_TEXT, 0, offsetof(struct net_options, mac), 0,
	  sizeof(((struct net_options *)0)->mac), NULL, NULL,
	  "the guest's address, as 52:54:00:12:34:56; without it one is made up", check_mac },
	CONFIG_ROW_NUMBER(NULL, "mtu", CONFIG_UINT, 0, struct net_options, mtu, 68, 65535, NULL,
	                  "largest packet that the guest is to send; without it the guest decides"),
	CONFIG_ROW_NUMBER(NULL, "queues", CONFIG_UINT, 0, struct net_options, queues, 1,
	                  NET_PAIRS_MAX, "1", "pairs of a receive and a transmit queue"),
	CONFIG_ROW_ENUM(NULL, "vhost", struct net_options, vhost, "\"auto\"", vhost_words,
	                "whether the host's kernel moves the frames (" VHOST_PATH
	                "); auto: where it can"),
	CONFIG_ROW_BOOL(NULL, "offload", struct net_options, offload, "true",
	                "checksums and segmentation may be left to the other side"),
	CONFIG_ROW_BOOL(NULL, "standby", struct net_options, standby, NULL,
	                "offers the guest to stand in for a NIC of the same address, whose "
	                "failover names this one"),
	CONFIG_ROW_END,
};

const struct device_driver virtio_net_driver = {
	.type = "virtio-net",
	.help = "a network interface on a tap of the host",
	.keys = net_keys,
	.check_host = net_check_host,
	.create = net_create,
	.request_unplug = virtio_request_unplug,
	.destroy = virtio_destroy,
	.run = virtio_run,
	.pause = virtio_pause,
	.deferred = net_deferred,
	.address = net_address,
	.may_stand_in = net_may_stand_in,
	.stands_in = net_stands_in,
	.take_over = net_take_over,
	.describe = net_describe,
	.command = net_command,
};
