/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: consoles and named ports, whose far ends are those of the
 * serial port. The guest's output waits for a client that is there, in its
 * ring; without one it is dropped. Input waits for the guest.
 *
 * Everything is done on the machine's loop under the worker's lock, which is
 * the ends' lock too. A buffer of output that fits into the ends only in part
 * goes back to the ring, and `sent` says how much of it is out.
 * Source: VIRTIO 1.2, 5.3.
 */
#include "vmm/virtio/console.h"
#include "vmm/virtio/devices.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/machine.h"

#include <string.h>

#define QUEUE_SIZE 128

static const struct virtio_feature_name feature_names[] = {
	{ CONSOLE_F_SIZE, "VIRTIO_CONSOLE_F_SIZE" },
	{ CONSOLE_F_MULTIPORT, "VIRTIO_CONSOLE_F_MULTIPORT" },
	{ CONSOLE_F_EMERG_WRITE, "VIRTIO_CONSOLE_F_EMERG_WRITE" },
	{ 0, NULL },
};

static struct console *of(struct virtio *v)
{
	return container_of(v, struct console, v);
}

static bool sized(const struct console *c)
{
	return c->v.offered & CONSOLE_F_SIZE;
}

/* 5.3.2: after port 0's two queues come those for control messages. */
static struct console_port *port_of(struct console *c, const struct virtio_queue *q)
{
	return &c->ports[q->index < 2 ? 0 : q->index / 2 - 1];
}

/* ---- active or not ------------------------------------------------------------------ */

/* While it is not active, input stays with those who send it. */
static void hold(struct console *c, bool held)
{
	pthread_mutex_lock(console_lock(c));
	for (unsigned i = 0; i < c->port_count; i++) {
		console_update_open(&c->ports[i]);
		serial_ends_hold(c->ports[i].ends, held);
	}
	pthread_mutex_unlock(console_lock(c));
}

static int console_start(struct virtio *v, struct gw_error *err)
{
	(void)err;
	hold(of(v), false);
	return 0;
}

static void console_stop(struct virtio *v)
{
	hold(of(v), true);
}

/* Buffers that were in the queue are gone. */
static void console_stop_queue(struct virtio *v, struct virtio_queue *q)
{
	struct console *c = of(v);

	if (q->index % 2 == 0 || q->index == 3)
		return;
	pthread_mutex_lock(console_lock(c));
	port_of(c, q)->sent = 0;
	pthread_mutex_unlock(console_lock(c));
}

static void console_reset(struct virtio *v)
{
	struct console *c = of(v);

	pthread_mutex_lock(console_lock(c));
	for (unsigned i = 0; i < c->port_count; i++) {
		struct console_port *port = &c->ports[i];

		port->sent = port->tell = 0;
		port->ready = port->guest_open = port->told_open = false;
	}
	pthread_mutex_unlock(console_lock(c));
}

/* 5.3.4: a character at once, also where no driver is at work yet. */
static void console_config_written(struct virtio *v, unsigned offset, unsigned size)
{
	struct console *c = of(v);
	const uint8_t byte = (uint8_t)virtio_config_get(v, CONFIG_EMERG, 4);

	(void)size;
	if (offset > CONFIG_EMERG)
		return;
	pthread_mutex_lock(console_lock(c));
	serial_ends_write(c->ports[0].ends, &byte, 1);
	pthread_mutex_unlock(console_lock(c));
}

/* ---- state -------------------------------------------------------------------------- */

static void console_save(struct virtio *v, struct bytes *out)
{
	struct console *c = of(v);

	pthread_mutex_lock(console_lock(c));
	bytes_put8(out, (uint8_t)c->port_count);
	for (unsigned i = 0; i < c->port_count; i++) {
		const struct console_port *port = &c->ports[i];
		const uint8_t *input;
		const size_t len = serial_ends_peek(port->ends, &input);

		bytes_put32(out, port->sent);
		bytes_put8(out, port->tell);
		bytes_put8(out,
		           (uint8_t)(port->ready | port->guest_open << 1 | port->told_open << 2));
		bytes_put32(out, (uint32_t)len);
		bytes_put(out, input, len);
	}
	pthread_mutex_unlock(console_lock(c));
}

static int take_port(struct console_port *port, struct bytes_reader *in, struct gw_error *err)
{
	const uint32_t sent = bytes_take32(in);
	const uint8_t tell = bytes_take8(in), flags = bytes_take8(in);
	const uint32_t len = bytes_take32(in);
	const uint8_t *input;

	if (tell >= 1u << CONSOLE_TELLS || flags > 7)
		return error_set(err, -EINVAL, "port %u: flags 0x%x, 0x%x", port->index, tell,
		                 flags);
	if (len > SERIAL_INPUT_MAX)
		return error_set(err, -EINVAL, "port %u: %u bytes of input", port->index, len);
	input = bytes_take_view(in, len);
	if (in->failed)
		return error_set(err, -EINVAL, "port %u: cut short", port->index);
	port->sent = sent;
	port->tell = tell;
	port->ready = flags & 1;
	port->guest_open = flags >> 1 & 1;
	port->told_open = flags >> 2 & 1;
	return serial_ends_refill(port->ends, input, len, err);
}

static int console_load(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	struct console *c = of(v);
	const uint8_t count = bytes_take8(in);
	int r = 0;

	if (count != c->port_count)
		return error_set(err, -EINVAL, "%u ports there, %u here", count, c->port_count);
	pthread_mutex_lock(console_lock(c));
	for (unsigned i = 0; i < count && !r; i++)
		r = take_port(&c->ports[i], in, err);
	pthread_mutex_unlock(console_lock(c));
	return r;
}

/* ---- made and gone ------------------------------------------------------------------ */

static void console_release(struct virtio *v)
{
	struct console *c = of(v);

	for (unsigned i = 0; i < c->port_count; i++)
		serial_ends_destroy(c->ports[i].ends);
	virtq_chain_free(&c->chain);
}

static int open_port(struct console_port *port, struct gw_error *err)
{
	struct virtio *v = &port->console->v;
	struct machine *m = v->device.machine;
	struct serial_ends_config config = {
		.name = v->device.id,
		.keys = "",
		.socket = port->config.socket,
		.log = port->config.log,
		.fd = -1,
		.lossless = true,
	};
	int r;

	if (port->config.fd[0]) {
		config.fd = machine_fd(m, port->config.fd);
		if (config.fd < 0)
			return error_set(err, config.fd, "fd: no descriptor was given as \"%s\"",
			                 port->config.fd);
	}
	r = serial_ends_create(v->workers[0].loop, m->log, console_lock(port->console), &config,
	                       &console_ends_ops, port, &port->ends, err);
	return r;
}

static int console_open(struct virtio *v, struct gw_error *err)
{
	struct console *c = of(v);
	int r = 0;

	for (unsigned i = 0; i < c->port_count && !r; i++) {
		r = open_port(&c->ports[i], err);
		if (r < 0 && c->port_count > 1)
			error_context(err, "ports[%u]", i);
	}
	if (!r)
		hold(c, true);
	return r;
}

static const struct virtio_ops console_ops = {
	.id = 3,
	.class_code = 0x078000, /* a communication controller */
	.feature_names = feature_names,
	.kick = console_kick,
	.start = console_start,
	.stop = console_stop,
	.stop_queue = console_stop_queue,
	.reset = console_reset,
	.config_written = console_config_written,
	.save = console_save,
	.load = console_load,
	.open = console_open,
	.release = console_release,
};

static const struct participant_ops console_participant = VIRTIO_PARTICIPANT("virtio-console");

static void set_size(struct console *c, uint32_t columns, uint32_t rows)
{
	virtio_config_set(&c->v, CONFIG_COLS, 2, columns);
	virtio_config_set(&c->v, CONFIG_ROWS, 2, rows);
}

/* What the options say, before anything is made. */
static int set_up(struct console *c, const struct console_options *options, struct gw_error *err)
{
	autofree struct console_port_config *ports = calloc(CONSOLE_PORTS_MAX, sizeof(*ports));
	int n = ports ? console_read_ports(options, ports, err)
	              : error_set(err, -ENOMEM, "out of memory");

	if (n < 0)
		return n;
	c->port_count = (unsigned)n;
	for (unsigned i = 0; i < c->port_count; i++)
		c->ports[i] = (struct console_port){ .console = c, .index = i, .config = ports[i] };
	c->v.offered = CONSOLE_F_EMERG_WRITE;
	if (n > 1 || ports[0].name[0])
		c->v.offered |= CONSOLE_F_MULTIPORT;
	if (options->columns && options->rows)
		c->v.offered |= CONSOLE_F_SIZE;
	c->v.config_size = CONFIG_SIZE_ALL;
	set_size(c, options->columns, options->rows);
	virtio_config_set(&c->v, CONFIG_PORTS, 4, (unsigned)n);
	virtio_config_allow_write(&c->v, CONFIG_EMERG, 4);
	return 0;
}

static int console_create(struct machine *m, const struct config_device *config, bool hot,
                          struct device **out, struct gw_error *err)
{
	struct virtio_setup setup = {
		.ops = &console_ops,
		.participant = &console_participant,
		.driver = &virtio_console_driver,
		.queues = 2,
		.queue_size = QUEUE_SIZE,
	};
	struct console *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	r = set_up(c, virtio_options(config), err);
	if (r < 0) {
		free(c);
		return r;
	}
	if (c->v.offered & CONSOLE_F_MULTIPORT)
		setup.queues = 2 + 2 * c->port_count;
	r = virtio_plug(&c->v, m, config, hot, &setup, err);
	if (!r)
		*out = &c->v.device;
	return r;
}

/* ---- asked at run time
 * --------------------------------------------------------------------------- */

static bool console_describe(struct device *d, cJSON *info)
{
	struct console *c = container_of(d, struct console, v.device);
	cJSON *list = cJSON_AddArrayToObject(info, "chardevs");
	bool ok = list;

	pthread_mutex_lock(console_lock(c));
	for (unsigned i = 0; i < c->port_count && ok; i++) {
		const struct console_port *port = &c->ports[i];

		ok = console_describe_port(list, d->id, i, c->port_count == 1, &port->config,
		                           console_multiport(c) ? port->guest_open : c->v.active);
	}
	pthread_mutex_unlock(console_lock(c));
	return ok;
}

static int read_dimension(const cJSON *args, const char *key, uint32_t *out, struct gw_error *err)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(args, key);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1 && item->valuedouble <= 65535) ||
	    item->valuedouble != (uint32_t)item->valuedouble)
		return error_set(err, -EINVAL, "%s: not a number from 1 to 65535", key);
	*out = (uint32_t)item->valuedouble;
	return 0;
}

/* {"columns", "rows"}: the far end's window has changed. */
static int resize(struct console *c, const cJSON *args, struct gw_error *err)
{
	struct machine *m = c->v.device.machine;
	uint32_t columns, rows;
	int r = read_dimension(args, "columns", &columns, err);

	if (!r)
		r = read_dimension(args, "rows", &rows, err);
	if (!r && !sized(c))
		r = error_set(err, -ENOTSUP, "it was made without columns and rows");
	if (r < 0)
		return r;
	machine_lock(m);
	set_size(c, columns, rows);
	virtio_config_changed(&c->v);
	pthread_mutex_lock(console_lock(c));
	for (unsigned i = 0; i < c->port_count; i++)
		if (c->ports[i].ready && !c->ports[i].config.name[0])
			c->ports[i].tell |= TELL_RESIZE;
	console_send_control(c);
	pthread_mutex_unlock(console_lock(c));
	machine_unlock(m);
	return 0;
}

static int console_command(struct device *d, const char *name, const cJSON *args, cJSON **ret,
                           struct gw_error *err)
{
	(void)ret;
	if (strcmp(name, "resize"))
		return -EOPNOTSUPP;
	return resize(container_of(d, struct console, v.device), args, err);
}

const struct device_driver virtio_console_driver = {
	.type = "virtio-console",
	.help = "consoles and named ports, by socket, file or descriptor",
	.keys = console_keys,
	.check_host = console_check_host,
	.create = console_create,
	VIRTIO_DRIVER_CALLS,
	.describe = console_describe,
	.command = console_command,
};
