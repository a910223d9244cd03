/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console's queues: data to and from the ports' far ends, and the
 * messages by which driver and device tell each other of ports.
 * Source: VIRTIO 1.2, 5.3.6.
 */
#include "vmm/virtio/console.h"

#include "base/io.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <endian.h>
#include <string.h>

#define TURN_MAX (256 * KIB) /* of output, before others on the loop get their turn */

/* 5.3.2: after port 0's two queues come those for control messages. */
enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 };

/* 5.3.6.2 */
enum {
	EVENT_DEVICE_READY = 0,
	EVENT_PORT_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_RESIZE = 5,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};
struct control {
	uint32_t id;
	uint16_t event, value; /* little-endian */
} __attribute__((packed));

/* What a port has to tell the driver, in this order. */
static const uint16_t tells[CONSOLE_TELLS] = { EVENT_PORT_ADD, EVENT_CONSOLE_PORT, EVENT_RESIZE,
	                                       EVENT_PORT_NAME, EVENT_PORT_OPEN };

static struct console *of(struct virtio *v)
{
	return container_of(v, struct console, v);
}

/* The queue for input of a port; the one for output is next to it. NULL: not in use now. */
static struct virtio_queue *queue_of(struct console_port *port, bool output)
{
	struct console *c = port->console;
	const unsigned first = port->index ? 2 + 2 * port->index : 0;
	struct virtio_queue *q = &c->v.queues[first + output];

	return c->v.active && q->ring.enabled && (!port->index || console_multiport(c)) ? q : NULL;
}

/* The next buffer; where there is none, the driver will kick. */
static bool next(struct console *c, struct virtio_queue *q)
{
	int r;

	do {
		r = virtq_pop(&q->ring, &c->chain);
	} while (!r && virtq_kicks_on(&q->ring));
	if (r < 0)
		virtio_break(&c->v, q->ring.broken ? q->ring.broken : "out of memory");
	return r > 0;
}

/* ---- data --------------------------------------------------------------------------- */

/* Puts out what is left of the buffer; true if that was all of it. */
static bool put_out(struct console_port *port, uint64_t *turn)
{
	const struct virtq_chain *c = &port->console->chain;
	size_t skip = port->sent;

	for (unsigned i = 0; i < c->out; i++) {
		const struct iovec *iov = &c->iov[i];
		size_t want, n;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		want = MIN(iov->iov_len - skip, *turn);
		n = serial_ends_write(port->ends, (const uint8_t *)iov->iov_base + skip, want);
		port->sent += (uint32_t)n;
		*turn -= n;
		if (skip + n < iov->iov_len)
			return false;
		skip = 0;
	}
	port->sent = 0;
	return true;
}

static void transmit(struct console_port *port)
{
	struct virtio_queue *q = queue_of(port, true);
	struct console *c = port->console;
	uint64_t turn = TURN_MAX;
	bool all = true;

	while (q && all && next(c, q)) {
		all = put_out(port, &turn);
		if (all)
			virtq_fill(&q->ring, &c->chain, 0);
		else
			virtq_unpop(&q->ring, &c->chain);
	}
	if (q)
		virtio_publish(q);
	if (!turn)
		io_eventfd_signal(q->kick_fd);
}

static bool wants_input(const struct console_port *port)
{
	return port->guest_open || !console_multiport(port->console);
}

static void receive(struct console_port *port)
{
	struct virtio_queue *q = queue_of(port, false);
	struct console *c = port->console;
	uint8_t buf[SERIAL_INPUT_MAX];
	const uint8_t *at;

	while (q && wants_input(port) && serial_ends_peek(port->ends, &at) && next(c, q)) {
		const size_t n =
		        serial_ends_take(port->ends, buf, MIN(c->chain.in_len, sizeof(buf)));

		virtq_chain_write(&c->chain, 0, buf, n);
		virtq_fill(&q->ring, &c->chain, (uint32_t)n);
	}
	if (q)
		virtio_publish(q);
}

/* ---- control messages --------------------------------------------------------------- */

static uint16_t tell_value(struct console_port *port, uint16_t event)
{
	if (event == EVENT_PORT_OPEN) {
		port->told_open = serial_ends_open(port->ends);
		return port->told_open;
	}
	return event == EVENT_CONSOLE_PORT || event == EVENT_PORT_NAME;
}

static uint32_t write_message(struct console_port *port, uint16_t event)
{
	const struct console *c = port->console;
	const struct control head = { .id = htole32(port->index),
		                      .event = htole16(event),
		                      .value = htole16(tell_value(port, event)) };
	size_t n = virtq_chain_write(&c->chain, 0, &head, sizeof(head));

	/* Columns, then rows, as configuration space has them. */
	if (event == EVENT_RESIZE)
		n += virtq_chain_write(&c->chain, n, c->v.config, 4);
	if (event == EVENT_PORT_NAME)
		n += virtq_chain_write(&c->chain, n, port->config.name, strlen(port->config.name));
	return (uint32_t)n;
}

static void tell_all(struct console *c, struct console_port *port, struct virtio_queue *q)
{
	for (unsigned i = 0; i < ARRAY_SIZE(tells); i++) {
		const uint8_t bit = (uint8_t)(1u << i);

		if (!(port->tell & bit))
			continue;
		if (!next(c, q))
			return;
		if (c->chain.in_len < sizeof(struct control)) {
			virtio_break(&c->v, "a buffer for control messages is too small for one");
			virtq_unpop(&q->ring, &c->chain);
			return;
		}
		port->tell &= (uint8_t)~bit;
		virtq_fill(&q->ring, &c->chain, write_message(port, tells[i]));
	}
}

void console_send_control(struct console *c)
{
	struct virtio_queue *q = &c->v.queues[QUEUE_CONTROL_IN];

	if (!c->v.active || !console_multiport(c) || !q->ring.enabled)
		return;
	for (unsigned i = 0; i < c->port_count; i++)
		tell_all(c, &c->ports[i], q);
	virtio_publish(q);
}

static bool sized(const struct console *c)
{
	return c->v.offered & CONSOLE_F_SIZE;
}

/* Our side of a port has opened or closed, or the driver must be told anew. */
void console_update_open(struct console_port *port)
{
	if (port->ready && port->told_open != serial_ends_open(port->ends))
		port->tell |= TELL_OPEN;
}

static void on_port_ready(struct console_port *port, bool good)
{
	port->ready = good;
	port->told_open = false;
	if (!good)
		return;
	if (port->config.name[0])
		port->tell |= TELL_NAME;
	else
		port->tell |= TELL_CONSOLE | (sized(port->console) ? TELL_RESIZE : 0);
	console_update_open(port);
}

/* VSERPORT_CHANGE: whoever waits for an agent in the guest hears that it is there. */
static void tell_guest_open(struct console_port *port)
{
	struct virtio *v = &port->console->v;
	const struct machine_notify *n = &v->device.machine->notify;
	char label[CONSOLE_LABEL_SIZE], *text = NULL;
	cJSON *data = cJSON_CreateObject();

	console_port_label(v->device.id, port->index, port->console->port_count == 1, &port->config,
	                   label);
	if (n->event && cJSON_AddStringToObject(data, "id", label) &&
	    cJSON_AddBoolToObject(data, "open", port->guest_open))
		text = cJSON_PrintUnformatted(data);
	if (text)
		n->event(n->opaque, "VSERPORT_CHANGE", text);
	free(text);
	cJSON_Delete(data);
}

static void on_message(struct console *c, const struct control *message)
{
	const uint16_t event = le16toh(message->event), value = le16toh(message->value);
	const uint32_t id = le32toh(message->id);
	struct console_port *port = id < c->port_count ? &c->ports[id] : NULL;

	if (event == EVENT_DEVICE_READY && value) {
		for (unsigned i = 0; i < c->port_count; i++)
			c->ports[i].tell = TELL_ADD;
	} else if (event == EVENT_PORT_READY && port) {
		on_port_ready(port, value);
	} else if (event == EVENT_PORT_OPEN && port) {
		if (port->guest_open != !!value) {
			port->guest_open = value;
			tell_guest_open(port);
		}
		receive(port);
	}
}

static void receive_control(struct console *c)
{
	struct virtio_queue *q = &c->v.queues[QUEUE_CONTROL_OUT];

	while (next(c, q)) {
		struct control message;
		const size_t n = virtq_chain_read(&c->chain, 0, &message, sizeof(message));

		/* on_message() uses the chain. */
		virtq_fill(&q->ring, &c->chain, 0);
		if (n == sizeof(message))
			on_message(c, &message);
	}
	virtio_publish(q);
	console_send_control(c);
}

void console_kick(struct virtio *v, struct virtio_queue *q)
{
	struct console *c = of(v);

	if (q->index < QUEUE_CONTROL_IN)
		q->index ? transmit(&c->ports[0]) : receive(&c->ports[0]);
	else if (!console_multiport(c))
		return;
	else if (q->index == QUEUE_CONTROL_IN)
		console_send_control(c);
	else if (q->index == QUEUE_CONTROL_OUT)
		receive_control(c);
	else if (q->index % 2)
		transmit(&c->ports[q->index / 2 - 1]);
	else
		receive(&c->ports[q->index / 2 - 1]);
}

/* ---- the ends' calls ---------------------------------------------------------------- */

static void on_input(void *opaque)
{
	receive(opaque);
}

static void on_room(void *opaque)
{
	transmit(opaque);
}

static void on_opened(void *opaque, bool open)
{
	struct console_port *port = opaque;

	(void)open;
	console_update_open(port);
	console_send_control(port->console);
}

const struct serial_ends_ops console_ends_ops = {
	.input = on_input,
	.room = on_room,
	.opened = on_opened,
};
