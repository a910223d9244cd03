/* SPDX-License-Identifier: Apache-2.0 */
/* What comes from the server: replies to requests, and its own requests for guest memory. */
#include "vfio/user/client_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"

#include <poll.h>
#include <string.h>

/* ---- replies -------------------------------------------------------------------------------- */

/* The errno in an error reply; it may be none, and it may be nonsense. */
static int error_of(const struct wire_header *h)
{
	return h->error > 0 && h->error < 4096 ? -(int)h->error : -EIO;
}

static bool is_error(const struct wire_message *in)
{
	return in->header.flags & WIRE_ERROR;
}

/* What came in surplus stays in the message, and goes with that. */
static void deliver(struct vfu_flight *f, struct wire_message *in)
{
	struct vfu_request *r = f->request;

	f->result = is_error(in) ? error_of(&in->header) : 0;
	if (!f->result) {
		r->len = MIN(in->len, r->room);
		r->fds_came = MIN(in->fd_count, r->fd_room);
	}
	if (r->len)
		memcpy(r->reply, in->payload, r->len);
	for (unsigned i = 0; i < r->fds_came; i++)
		r->reply_fds[i] = wire_take_fd(in, i);
	f->done = true;
	pthread_cond_signal(&f->answered);
}

/* What is in a reply and was not asked for. */
static void note_surplus(struct vfu *c, const struct wire_message *in, size_t room,
                         unsigned fd_room)
{
	const char *name = wire_command_name(in->header.command);

	if (is_error(in)) {
		if (in->len)
			vfu_departs(c, VFU_ERROR_PAYLOAD, "%s: an error reply with a payload",
			            name);
		room = in->len;
		fd_room = 0;
	}
	if (in->len > room)
		vfu_departs(c, VFU_LONG_REPLY, "%s: a reply of %zu bytes where %zu were asked for",
		            name, in->len, room);
	if (in->fds_dropped)
		vfu_departs(c, VFU_SURPLUS_FDS, "%s: a reply with more than %d descriptors", name,
		            WIRE_MAX_FDS);
	else if (in->fd_count > fd_room)
		vfu_departs(c, VFU_SURPLUS_FDS, "%s: a reply with %u descriptors where %u belong",
		            name, in->fd_count, fd_room);
}

/* This and what follows: 0, or the connection has ended. */
static int take_reply(struct vfu *c, struct wire_message *in)
{
	const struct wire_header *h = &in->header;
	struct vfu_flight *f;
	bool other = false;
	size_t room = 0;
	unsigned fd_room = 0;

	pthread_mutex_lock(&c->lock);
	for (f = c->flights; f && f->id != h->id; f = f->next)
		;
	if (f) {
		room = f->request->room;
		fd_room = f->request->fd_room;
		other = h->command != f->request->command;
	}
	if (f && !other)
		deliver(vfu_land(c, h->id), in);
	pthread_mutex_unlock(&c->lock);
	if (!f)
		return vfu_departs(c, VFU_OTHER_REPLY, "a reply that nobody waits for");
	if (other)
		return vfu_departs(c, VFU_OTHER_REPLY, "a reply that names another command");
	note_surplus(c, in, room, fd_room);
	return 0;
}

/* ---- the server's commands --------------------------------------------------------------------
 */

static int answer(struct vfu *c, int socket, int code, const void *payload, size_t len,
                  size_t data_len)
{
	const struct wire_header h = {
		.id = c->in.header.id,
		.command = c->in.header.command,
		.flags = WIRE_TYPE_REPLY | (code < 0 ? WIRE_ERROR : 0),
		.error = code < 0 ? (uint32_t)-code : 0,
	};
	const struct iovec parts[] = { { (void *)(uintptr_t)payload, len }, { c->out, data_len } };
	int r;

	if (c->in.header.flags & WIRE_NO_REPLY)
		return 0;
	if (socket == c->main)
		pthread_mutex_lock(&c->sending);
	r = wire_send(socket, &h, parts, code < 0 ? 0 : 2, NULL, 0, vfu_time_left(c));
	if (socket == c->main)
		pthread_mutex_unlock(&c->sending);
	return r;
}

static int reply_to(struct vfu *c, int socket, int code, const void *payload, size_t len,
                    size_t data_len)
{
	const int r = answer(c, socket, code, payload, len, data_len);

	return r < 0 ? vfu_give_up(c, "it takes no replies: %s", strerror(-r)) : 0;
}

static int serve(struct vfu *c, int socket)
{
	const struct wire_message *in = &c->in;
	const bool write = in->header.command == WIRE_DMA_WRITE;
	struct wire_dma_access access;
	size_t data;
	int code;

	if (in->header.command != WIRE_DMA_READ && !write)
		return reply_to(c, socket, -EOPNOTSUPP, NULL, 0, 0);
	if (in->len < sizeof(access))
		return vfu_departs(c, VFU_BAD_DMA, "a malformed request for guest memory");
	memcpy(&access, in->payload, sizeof(access));
	data = in->len - sizeof(access);
	if (data != (write ? access.count : 0))
		return vfu_departs(c, VFU_BAD_DMA, "a request for guest memory whose sizes differ");
	if (in->fd_count)
		vfu_departs(c, VFU_SURPLUS_FDS, "a request for guest memory with %u descriptors",
		            in->fd_count);
	if (access.count > WIRE_MAX_DATA)
		code = -EINVAL;
	else
		code = c->owner.dma(c->owner.opaque, write, access.address,
		                    write ? in->payload + sizeof(access) : c->out, access.count);
	return reply_to(c, socket, code, &access, sizeof(access), write || code ? 0 : access.count);
}

/* ---- the thread
 * ---------------------------------------------------------------------------------- */

static const char *receive_fault(int code)
{
	switch (code) {
	case -ENODATA:
		return "it has closed the connection";
	case -EPIPE:
		return "it has closed the connection in the middle of a message";
	case -ETIMEDOUT:
		return "it has stopped in the middle of a message";
	default:
		return strerror(-code);
	}
}

static int take_command(struct vfu *c, int socket)
{
	if (socket == c->main && c->twin >= 0)
		vfu_departs(c, VFU_BESIDE_TWIN, "a command beside the twin socket");
	return serve(c, socket);
}

static int take_message(struct vfu *c, int socket)
{
	struct wire_message *in = &c->in;
	const uint32_t flags = in->header.flags;

	if (flags & ~(WIRE_TYPE_MASK | WIRE_NO_REPLY | WIRE_ERROR))
		vfu_departs(c, VFU_UNKNOWN_FLAGS, "a message with flags that do not exist (0x%x)",
		            flags);
	switch (flags & WIRE_TYPE_MASK) {
	case WIRE_TYPE_COMMAND:
		return take_command(c, socket);
	case WIRE_TYPE_REPLY:
		if (socket == c->main)
			return take_reply(c, in);
		return vfu_departs(c, VFU_OTHER_REPLY, "a reply on the twin socket");
	default:
		return vfu_departs(c, VFU_BAD_FRAMING,
		                   "a message that is neither command nor reply");
	}
}

static int receive(struct vfu *c, int socket)
{
	int r = wire_receive(socket, &c->in, c->owner.timeout_ms);

	if (r == -EPROTO)
		return vfu_departs(c, VFU_BAD_FRAMING, "a message of a size that none has");
	if (r < 0)
		return vfu_give_up(c, "%s", receive_fault(r));
	r = take_message(c, socket);
	wire_close_fds(&c->in);
	return r;
}

/* Is something waiting for room in the socket? It goes if there is. */
static int flush(struct vfu *c, bool room, bool *waiting)
{
	int r = 0;

	pthread_mutex_lock(&c->sending);
	if (room)
		r = vfu_flush(c, 0);
	*waiting = c->wr_count > 0;
	pthread_mutex_unlock(&c->sending);
	return r < 0 && r != -EAGAIN ? vfu_give_up(c, "it has closed the connection") : 0;
}

static void *reader_main(void *opaque)
{
	struct vfu *c = opaque;
	bool waiting = false;
	int r = 0;

	while (!r) {
		struct pollfd pfds[] = {
			{ .fd = c->main, .events = (short)(POLLIN | (waiting ? POLLOUT : 0)) },
			{ .fd = c->wake_fd, .events = POLLIN },
			{ .fd = c->twin, .events = POLLIN },
		};

		if (poll(pfds, ARRAY_SIZE(pfds), -1) < 0) {
			r = errno == EINTR ? 0 : vfu_give_up(c, "%s", strerror(errno));
			continue;
		}
		if (pfds[1].revents)
			io_eventfd_drain(c->wake_fd);
		if (pfds[1].revents || waiting)
			r = flush(c, pfds[0].revents & POLLOUT, &waiting);
		if (!r && pfds[0].revents & ~POLLOUT)
			r = receive(c, c->main);
		if (!r && pfds[2].revents)
			r = receive(c, c->twin);
	}
	return NULL;
}

int vfu_start_reader(struct vfu *c, struct gw_error *err)
{
	int r = thread_start(&c->reader, reader_main, c, "godwit-vfu");

	c->has_reader = !r;
	return r < 0 ? error_set_sys(err, r, "thread") : 0;
}
