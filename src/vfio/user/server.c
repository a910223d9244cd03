/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: made and gone, its clients, and their commands one by one.
 *
 * There is one client at a time; others wait in the socket's backlog. What a
 * client leaves behind when it goes is given back: memory, eventfds, sessions.
 * The device keeps its state and stands still until the next one comes.
 */
#include "vfio/user/server_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static void close_client(struct server *s);

/* ---- the device ------------------------------------------------------------------------------ */

void server_pause(struct server *s)
{
	if (!s->paused)
		machine_pause(s->machine);
	s->paused = true;
}

void server_run(struct server *s)
{
	if (s->paused)
		machine_run(s->machine);
	s->paused = false;
}

void server_reset_device(struct server *s)
{
	server_pause(s);
	machine_reset_outside(s->machine);
	machine_lock(s->machine);
	server_irqs_apply(s);
	machine_unlock(s->machine);
}

void server_reset(struct server *s)
{
	server_mig_drop(s);
	server_reset_device(s);
	server_run(s);
}

static int reset(struct server *s, struct request *q)
{
	(void)q;
	server_reset(s);
	return 0;
}

/* So that whoever has the function behind the client can reset it, too: each is given a
 * function-level reset, in the form that conventional PCI has. */
static void add_function_reset(struct server *s)
{
	static const uint8_t af[PCI_CAP_AF_SIZEOF] = {
		[PCI_AF_LENGTH] = PCI_CAP_AF_SIZEOF,
		[PCI_AF_CAP] = PCI_AF_CAP_TP | PCI_AF_CAP_FLR,
	};

	s->af_cap = pci_add_capability(s->function, PCI_CAP_ID_AF, af, sizeof(af));
}

/* ---- versions -------------------------------------------------------------------------------- */

static int make_twin(struct server *s, struct request *q)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	s->twin = pair[0];
	q->fds[q->fd_count++] = pair[1];
	return 0;
}

/* Agrees on what both can: the smaller of two limits, a feature that both know. */
static int exchange_versions(struct server *s, struct request *q)
{
	struct wire_version version;
	struct wire_caps theirs, reply;
	struct gw_error err = { 0 };
	autofree char *text = NULL;
	int r;

	memcpy(&version, q->data, sizeof(version));
	if (s->agreed || version.major != WIRE_MAJOR)
		return -EINVAL;
	r = wire_caps_parse((const char *)q->data + sizeof(version), q->len - sizeof(version),
	                    &theirs, &err);
	if (r < 0)
		return -EINVAL;
	s->caps = theirs;
	s->caps.max_data_xfer_size = MIN(theirs.max_data_xfer_size, WIRE_MAX_DATA);
	s->caps.max_msg_fds = MIN(theirs.max_msg_fds, (uint32_t)WIRE_MAX_FDS);
	reply = (struct wire_caps){
		.max_msg_fds = WIRE_MAX_FDS,
		.max_data_xfer_size = s->caps.max_data_xfer_size,
		.max_dma_maps = MIN(theirs.max_dma_maps, SERVER_DMA_MAPS_MAX),
		.pgsizes = PAGE_SIZE,
		.twin_fd = -1,
		.write_multiple = theirs.write_multiple,
	};
	if (theirs.twin_socket && theirs.max_msg_fds && make_twin(s, q) == 0) {
		reply.twin_socket = true;
		reply.twin_fd = 0;
	}
	text = wire_caps_print(&reply);
	if (!text)
		return -ENOMEM;
	version.minor = MIN(version.minor, (uint16_t)WIRE_MINOR);
	memcpy(q->reply, &version, sizeof(version));
	q->reply_len = sizeof(version) + strlen(text) + 1;
	memcpy(q->reply + sizeof(version), text, strlen(text) + 1);
	s->agreed = true;
	server_run(s);
	return 0;
}

/* ---- commands -------------------------------------------------------------------------------- */

static const struct {
	server_command run;
	size_t least; /* bytes of payload */
} commands[WIRE_COMMANDS] = {
	[WIRE_VERSION] = { exchange_versions, sizeof(struct wire_version) },
	[WIRE_DMA_MAP] = { server_dma_map, sizeof(struct wire_dma_map) },
	[WIRE_DMA_UNMAP] = { server_dma_unmap, sizeof(struct wire_dma_unmap) },
	[WIRE_DEVICE_GET_INFO] = { server_get_info, 16 },
	[WIRE_DEVICE_GET_REGION_INFO] = { server_get_region_info, sizeof(struct vfio_region_info) },
	[WIRE_DEVICE_GET_REGION_IO_FDS] = { server_get_region_io_fds, sizeof(struct wire_io_fds) },
	[WIRE_DEVICE_GET_IRQ_INFO] = { server_get_irq_info, sizeof(struct vfio_irq_info) },
	[WIRE_DEVICE_SET_IRQS] = { server_set_irqs, sizeof(struct vfio_irq_set) },
	[WIRE_REGION_READ] = { server_region_read, sizeof(struct wire_region_access) },
	[WIRE_REGION_WRITE] = { server_region_write, sizeof(struct wire_region_access) },
	[WIRE_DEVICE_RESET] = { reset, 0 },
	[WIRE_REGION_WRITE_MULTI] = { server_region_write_multi, 8 },
	[WIRE_DEVICE_FEATURE] = { server_feature, sizeof(struct vfio_device_feature) },
	[WIRE_MIG_DATA_READ] = { server_mig_data_read, sizeof(struct wire_mig_data) },
	[WIRE_MIG_DATA_WRITE] = { server_mig_data_write, sizeof(struct wire_mig_data) },
};

static int run_command(struct server *s, struct request *q)
{
	const unsigned command = q->message->header.command;

	if (command >= WIRE_COMMANDS || !commands[command].run)
		return -ENOTSUP;
	/* Versions first; and a client whose version does not fit is let go of. */
	if (!s->agreed && command != WIRE_VERSION)
		return -EINVAL;
	if (q->len < commands[command].least)
		return -EINVAL;
	return commands[command].run(s, q);
}

static void answer(struct server *s, const struct request *q, int error)
{
	const struct wire_header *asked = &q->message->header;
	const struct wire_header header = {
		.id = asked->id,
		.command = asked->command,
		.flags = WIRE_TYPE_REPLY | (error ? WIRE_ERROR : 0),
		.error = error ? (uint32_t)-error : 0,
	};
	const struct iovec part = { q->reply, q->reply_len };

	if (asked->flags & WIRE_NO_REPLY)
		return;
	if (wire_send(s->socket, &header, &part, error || !q->reply_len ? 0 : 1, q->fds,
	              error ? 0 : q->fd_count, SERVER_TIMEOUT_MS) < 0)
		s->hang_up = true;
}

static void die(struct server *s)
{
	log_warn(s->options.log, "device %s: its server ends now, as was asked for", s->device->id);
	s->dead = s->hang_up = true;
	loop_unwatch(s->listening);
	s->listening = NULL;
}

static void deal_with(struct server *s, struct wire_message *message)
{
	struct request q = {
		.message = message,
		.data = message->payload,
		.len = message->len,
		.reply = s->reply,
	};
	const bool had_twin = s->twin >= 0;
	int r;

	if ((message->header.flags & WIRE_TYPE_MASK) != WIRE_TYPE_COMMAND) {
		s->hang_up = true;
	} else if (s->agreed && server_faults_die(s, message->header.command)) {
		die(s);
	} else {
		r = run_command(s, &q);
		answer(s, &q, r);
		if (!s->agreed)
			s->hang_up = true;
		/* The client has its own end of the twin now. */
		if (s->twin >= 0 && !had_twin)
			close(q.fds[0]);
	}
	wire_close_fds(message);
}

/* ---- asking the client ------------------------------------------------------------------------
 */

static int keep_for_later(struct server *s, struct wire_message *message)
{
	struct wire_message *place;

	if (s->pending_count == SERVER_PENDING_MAX)
		return -ENOBUFS;
	place = &s->pending[(s->pending_first + s->pending_count) % SERVER_PENDING_MAX];
	*place = *message;
	place->payload = malloc(message->len ? message->len : 1);
	if (!place->payload)
		return -ENOMEM;
	memcpy(place->payload, message->payload, message->len);
	message->fd_count = 0; /* they are the copy's */
	s->pending_count++;
	return 0;
}

/* A client knows how many descriptors a message may carry. */
static int receive(int socket, struct wire_message *out)
{
	int r = wire_receive(socket, out, SERVER_TIMEOUT_MS);

	if (!r && out->fds_dropped) {
		wire_close_fds(out);
		r = -EPROTO;
	}
	return r;
}

static int wait_readable(int socket)
{
	struct pollfd pfd = { .fd = socket, .events = POLLIN };
	int r;

	do
		r = poll(&pfd, 1, SERVER_TIMEOUT_MS);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

/* The reply to command `id`. What comes in between on a socket for both ways are commands. */
static int take_reply(struct server *s, int socket, struct wire_message *reply, uint16_t id,
                      uint16_t command)
{
	int r;

	for (;;) {
		r = wait_readable(socket);
		if (!r)
			r = receive(socket, reply);
		if (r < 0)
			return r;
		if ((reply->header.flags & WIRE_TYPE_MASK) == WIRE_TYPE_REPLY)
			break;
		r = socket == s->socket ? keep_for_later(s, reply) : -EPROTO;
		wire_close_fds(reply);
		if (r < 0)
			return r;
	}
	wire_close_fds(reply);
	return reply->header.id == id && reply->header.command == command ? 0 : -EPROTO;
}

ssize_t server_ask(struct server *s, uint16_t command, const struct iovec *parts, unsigned count,
                   void *reply, size_t room)
{
	const int socket = s->twin >= 0 ? s->twin : s->socket;
	autofree uint8_t *buffer = malloc(WIRE_MESSAGE_MAX);
	struct wire_message message = { .payload = buffer };
	const struct wire_header header = {
		.id = ++s->next_id,
		.command = command,
		.flags = WIRE_TYPE_COMMAND,
	};
	int r;

	if (!buffer || socket < 0 || s->hang_up)
		return buffer ? -ENOTCONN : -ENOMEM;
	r = wire_send(socket, &header, parts, count, NULL, 0, SERVER_TIMEOUT_MS);
	if (!r)
		r = take_reply(s, socket, &message, header.id, command);
	if (r < 0) {
		s->hang_up = true;
		return r;
	}
	if (message.header.flags & WIRE_ERROR)
		return -EFAULT;
	memcpy(reply, message.payload, MIN(room, message.len));
	return (ssize_t)MIN(room, message.len);
}

/* ---- clients ----------------------------------------------------------------------------------
 */

static void run_pending(struct server *s)
{
	while (s->pending_count && !s->hang_up) {
		struct wire_message message = s->pending[s->pending_first];

		s->pending_first = (s->pending_first + 1) % SERVER_PENDING_MAX;
		s->pending_count--;
		deal_with(s, &message);
		free(message.payload);
	}
}

static void on_message(void *opaque, int fd, uint32_t events)
{
	struct server *s = opaque;
	int r;

	(void)events;
	r = receive(fd, &s->in);
	if (r < 0 && r != -ENODATA)
		log_warn(s->options.log, "device %s: its client: %s", s->device->id, strerror(-r));
	if (r < 0)
		s->hang_up = true;
	else
		deal_with(s, &s->in);
	run_pending(s);
	if (s->hang_up)
		close_client(s);
}

static void on_connection(void *opaque, int fd, uint32_t events)
{
	struct server *s = opaque;
	struct gw_error err;
	int r;

	(void)events;
	s->socket = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s->socket < 0)
		return;
	s->hang_up = s->agreed = false;
	r = loop_watch(s->options.loop, s->socket, EPOLLIN, on_message, s, &s->connected, &err);
	if (r < 0) {
		log_error(s->options.log, "device %s: its client: %s", s->device->id, err.text);
		close(s->socket);
		s->socket = -1;
		return;
	}
	/* One at a time. */
	loop_watch_events(s->listening, 0);
	log_info(s->options.log, "device %s: a client has connected", s->device->id);
}

static void drop_pending(struct server *s)
{
	for (; s->pending_count; s->pending_count--) {
		struct wire_message *message = &s->pending[s->pending_first];

		wire_close_fds(message);
		free(message->payload);
		s->pending_first = (s->pending_first + 1) % SERVER_PENDING_MAX;
	}
}

static void close_client(struct server *s)
{
	loop_unwatch(s->connected);
	s->connected = NULL;
	drop_pending(s);
	server_pause(s);
	server_mig_drop(s);
	server_irqs_drop(s);
	server_dma_drop(s);
	if (s->twin >= 0)
		close(s->twin);
	close(s->socket);
	s->socket = s->twin = -1;
	s->agreed = false;
	if (s->listening)
		loop_watch_events(s->listening, EPOLLIN);
	log_info(s->options.log, "device %s: its client has gone", s->device->id);
	if (s->dead && s->options.ended)
		s->options.ended(s->options.opaque);
}

/* ---- made and gone -----------------------------------------------------------------------------
 */

int server_create(const struct server_options *options, struct server **out, struct gw_error *err)
{
	static const struct machine_notify nobody;
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, "server: out of memory");
	s->options = *options;
	s->socket = s->twin = s->v1.fd = s->irqs.pin_fd = s->irqs.unmask_fd = -1;
	s->state = MIG_RUNNING;
	s->paused = true;
	s->outside = (struct machine_outside){
		.opaque = s,
		.hva = server_dma_hva,
		.access = server_dma_access,
		.dirty = server_dma_dirty,
		.vector_fd = server_irqs_vector_fd,
		.set_pin = server_irqs_set_pin,
	};
	r = server_dma_init(s, err);
	if (r < 0) {
		free(s);
		return r;
	}
	s->in.payload = malloc(WIRE_MESSAGE_MAX);
	s->reply = malloc(WIRE_MESSAGE_MAX);
	if (!s->in.payload || !s->reply)
		r = error_set(err, -ENOMEM, "server: out of memory");
	if (!r)
		r = server_v1_create(s, err);
	if (!r)
		r = machine_create_outside(&s->outside, options->loop, options->log, &nobody,
		                           &s->machine, err);
	if (r < 0)
		server_destroy(s);
	else
		*out = s;
	return r;
}

struct machine *server_machine(struct server *s)
{
	return s->machine;
}

int server_open(struct server *s, struct device *device, struct gw_error *err)
{
	int r;

	s->device = device;
	s->function = pci_slot(s->machine->pci, device->slot, 0);
	s->participant = participant_find(&s->machine->participants, device->id);
	if (!s->function || !s->participant)
		return error_set(err, -EINVAL, "device %s: no PCI function", device->id);
	add_function_reset(s);
	r = server_irqs_init(s, err);
	if (r < 0)
		return r;
	/* As a machine that is switched on. */
	machine_reset_outside(s->machine);
	return loop_watch(s->options.loop, s->options.listen_fd, EPOLLIN, on_connection, s,
	                  &s->listening, err);
}

void server_destroy(struct server *s)
{
	if (!s)
		return;
	loop_unwatch(s->listening);
	s->listening = NULL;
	s->options.ended = NULL;
	if (s->socket >= 0)
		close_client(s);
	if (s->machine) {
		server_pause(s);
		machine_destroy(s->machine);
	}
	server_irqs_fini(s);
	server_dma_fini(s);
	server_v1_destroy(s);
	bytes_free(&s->stream.buf);
	free(s->in.payload);
	free(s->reply);
	free(s);
}
