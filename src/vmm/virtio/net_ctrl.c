/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue: commands of a class, a number and data, each answered by
 * one byte. Filters are best effort (5.1.6.5): a tap gives what its bridge
 * sends there, so wishes about addresses and VLANs are checked, noted and
 * hold anyway.
 * Source: VIRTIO 1.2, 5.1.6.5.
 */
#include "vmm/virtio/net.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <string.h>

#define ACK_OK 0
#define ACK_ERROR 1

#define VLANS 4096
/* An interface takes no more addresses in a table than that from a hostile driver either. */
#define TABLE_MAX 65536u

/* A command's data: what is left of the chain's part to read. */
struct input {
	const struct virtq_chain *chain;
	size_t offset;
};

static bool take(struct input *in, void *out, size_t len)
{
	const size_t n = virtq_chain_read(in->chain, in->offset, out, len);

	in->offset += n;
	return n == len;
}

static bool take16(struct input *in, uint16_t *value)
{
	if (!take(in, value, sizeof(*value)))
		return false;
	*value = le16toh(*value);
	return true;
}

/* ---- commands; true: done ------------------------------------------------------------------ */

static bool set_rx_mode(struct net *n, uint8_t command, struct input *in)
{
	uint8_t on;

	if (!take(in, &on, sizeof(on)))
		return false;
	n->rx_modes &= (uint8_t) ~(1u << command);
	n->rx_modes |= (uint8_t)(!!on << command);
	return true;
}

static bool take_table(struct input *in, uint32_t *count)
{
	uint32_t entries;

	if (!take(in, &entries, sizeof(entries)))
		return false;
	*count = le32toh(entries);
	if (*count > TABLE_MAX || *count * NET_MAC_SIZE > in->chain->out_len - in->offset)
		return false;
	in->offset += *count * NET_MAC_SIZE;
	return true;
}

static bool set_mac_table(struct net *n, uint8_t command, struct input *in)
{
	uint32_t unicast, multicast;

	(void)command;
	if (!take_table(in, &unicast) || !take_table(in, &multicast))
		return false;
	n->unicast = unicast;
	n->multicast = multicast;
	return true;
}

static bool set_mac(struct net *n, uint8_t command, struct input *in)
{
	uint8_t mac[NET_MAC_SIZE];

	(void)command;
	if (!take(in, mac, sizeof(mac)))
		return false;
	memcpy(n->v.config + NET_CONFIG_MAC, mac, sizeof(mac));
	return true;
}

static bool check_vlan(struct net *n, uint8_t command, struct input *in)
{
	uint16_t id;

	(void)n;
	(void)command;
	return take16(in, &id) && id < VLANS;
}

static bool acknowledge_announce(struct net *n, uint8_t command, struct input *in)
{
	const uint64_t status = virtio_config_get(&n->v, NET_CONFIG_STATUS, 2);

	(void)command;
	(void)in;
	virtio_config_set(&n->v, NET_CONFIG_STATUS, 2, status & ~(uint64_t)NET_STATUS_ANNOUNCE);
	return true;
}

static bool log_failure(struct net *n, const struct gw_error *err)
{
	log_warn(n->v.device.machine->log, "device %s: %s", n->v.device.id, err->text);
	return false;
}

static bool set_pairs(struct net *n, uint8_t command, struct input *in)
{
	const unsigned before = n->pairs_in_use;
	struct gw_error err;
	uint16_t pairs;

	(void)command;
	if (!take16(in, &pairs) || !pairs || pairs > n->pair_count)
		return false;
	n->pairs_in_use = pairs;
	if (net_apply_pairs(n, &err) == 0)
		return true;
	n->pairs_in_use = before;
	net_apply_pairs(n, NULL);
	return log_failure(n, &err);
}

static bool set_offloads(struct net *n, uint8_t command, struct input *in)
{
	const uint64_t before = n->guest_offloads;
	struct gw_error err;
	uint64_t wanted;

	(void)command;
	if (!take(in, &wanted, sizeof(wanted)))
		return false;
	wanted = le64toh(wanted);
	if (wanted & ~(n->v.features & NET_GUEST_OFFLOADS))
		return false;
	n->guest_offloads = wanted;
	if (net_apply_offloads(n, &err) == 0)
		return true;
	n->guest_offloads = before;
	return log_failure(n, &err);
}

static const struct {
	uint8_t class, first, last;
	uint64_t feature;
	bool (*run)(struct net *n, uint8_t command, struct input *in);
} commands[] = {
	{ 0, 0, 1, NET_F_CTRL_RX, set_rx_mode },
	{ 1, 0, 0, NET_F_CTRL_RX, set_mac_table },
	{ 1, 1, 1, NET_F_CTRL_MAC_ADDR, set_mac },
	{ 2, 0, 1, NET_F_CTRL_VLAN, check_vlan },
	{ 3, 0, 0, NET_F_GUEST_ANNOUNCE, acknowledge_announce },
	{ 4, 0, 0, NET_F_MQ, set_pairs },
	{ 5, 0, 0, NET_F_CTRL_GUEST_OFFLOADS, set_offloads },
};

static bool run(struct net *n, const struct virtq_chain *c)
{
	struct input in = { .chain = c };
	uint8_t head[2];

	if (!take(&in, head, sizeof(head)))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].class == head[0] && head[1] >= commands[i].first &&
		    head[1] <= commands[i].last && virtio_has(&n->v, commands[i].feature))
			return commands[i].run(n, head[1], &in);
	return false;
}

/* ---- the queue --------------------------------------------------------------------------------
 */

static void one(struct virtio_queue *q, struct virtq_chain *c)
{
	struct net *n = net_of(q->virtio);
	const uint8_t ack = run(n, c) ? ACK_OK : ACK_ERROR;

	if (virtq_chain_write(c, 0, &ack, sizeof(ack)) != sizeof(ack))
		virtio_break(&n->v, "a control command has no room for its answer");
	virtq_fill(&q->ring, c, (uint32_t)MIN(c->in_len, sizeof(ack)));
}

void net_ctrl(struct net *n)
{
	struct virtio *v = &n->v;
	struct virtio_queue *q = &v->queues[2 * net_pairs_known(n)];
	struct virtq_chain chain = { 0 };

	if (!virtio_has(v, NET_F_CTRL_VQ))
		return;
	pthread_mutex_lock(&q->worker->lock);
	if (v->active && q->ring.enabled)
		virtio_drain(q, &chain, one);
	pthread_mutex_unlock(&q->worker->lock);
	virtq_chain_free(&chain);
}
