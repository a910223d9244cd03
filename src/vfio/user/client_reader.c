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

/* What is wrong with a reply, of which only the header is looked at; NULL. */
static const char *fault_of(const struct wire_message *in, const struct vfu_request *r)
{
	const struct wire_header *h = &in->header;

	if (h->command != r->command)
		return "a reply that names another command";
	if (h->flags & WIRE_ERROR)
		return in->len || in->fd_count ? "an error reply with a payload" : NULL;
	if (in->len > r->room)
		return "a reply larger than was asked for";
	if (in->fd_count > r->fd_room)
		return "a reply with more descriptors than belong there";
	return NULL;
}

static void deliver(struct vfu_flight *f, struct wire_message *in)
{
	struct vfu_request *r = f->request;

	f->result = in->header.flags & WIRE_ERROR ? error_of(&in->header) : 0;
	if (in->len)
		memcpy(r->reply, in->payload, in->len);
	r->len = in->len;
	r->fds_came = in->fd_count;
	for (unsigned i = 0; i < in->fd_count; i++)
		r->reply_fds[i] = wire_take_fd(in, i);
	f->done = true;
	pthread_cond_signal(&f->answered);
}

static const char *take_reply(struct vfu *c, struct wire_message *in)
{
	struct vfu_flight *f, *list;
	const char *fault = "a reply that nobody waits for";

	pthread_mutex_lock(&c->lock);
	for (list = c->flights; list && list->id != in->header.id; list = list->next)
		;
	if (list)
		fault = fault_of(in, list->request);
	if (!fault) {
		f = vfu_land(c, in->header.id);
		deliver(f, in);
	}
	pthread_mutex_unlock(&c->lock);
	return fault;
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
	r = wire_send(socket, &h, parts, code < 0 ? 0 : 2, NULL, 0, c->owner.timeout_ms);
	if (socket == c->main)
		pthread_mutex_unlock(&c->sending);
	return r;
}

static const char *serve(struct vfu *c, int socket)
{
	const struct wire_message *in = &c->in;
	const bool write = in->header.command == WIRE_DMA_WRITE;
	struct wire_dma_access access;
	int code;

	if (in->header.command != WIRE_DMA_READ && !write)
		return answer(c, socket, -EOPNOTSUPP, NULL, 0, 0) < 0 ? "it takes no replies"
		                                                      : NULL;
	if (in->len < sizeof(access) || in->fd_count)
		return "a malformed request for guest memory";
	memcpy(&access, in->payload, sizeof(access));
	if (in->len - sizeof(access) != (write ? access.count : 0))
		return "a request for guest memory whose sizes differ";
	if (access.count > WIRE_MAX_DATA)
		code = -EINVAL;
	else
		code = c->owner.dma(c->owner.opaque, write, access.address,
		                    write ? in->payload + sizeof(access) : c->out, access.count);
	if (answer(c, socket, code, &access, sizeof(access), write || code ? 0 : access.count) < 0)
		return "it takes no replies";
	return NULL;
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
	case -EPROTO:
		return "a message of a size, or with a number of descriptors, that none has";
	default:
		return strerror(-code);
	}
}

static const char *receive(struct vfu *c, int socket)
{
	struct wire_message *in = &c->in;
	int r = wire_receive(socket, in, c->owner.timeout_ms);
	const uint32_t flags = in->header.flags;
	const char *fault;

	if (r < 0)
		return receive_fault(r);
	if (flags & ~(WIRE_TYPE_MASK | WIRE_NO_REPLY | WIRE_ERROR))
		fault = "a message with flags that do not exist";
	else if ((flags & WIRE_TYPE_MASK) == WIRE_TYPE_REPLY)
		fault = socket == c->main ? take_reply(c, in) : "a reply on the twin socket";
	else if ((flags & WIRE_TYPE_MASK) != WIRE_TYPE_COMMAND)
		fault = "a message that is neither command nor reply";
	else if (socket == c->main && c->twin >= 0)
		fault = "a command beside the twin socket";
	else
		fault = serve(c, socket);
	wire_close_fds(in);
	return fault;
}

/* Is something waiting for room in the socket? It goes if there is. */
static const char *flush(struct vfu *c, bool room, bool *waiting)
{
	int r = 0;

	pthread_mutex_lock(&c->sending);
	if (room)
		r = vfu_flush(c, 0);
	*waiting = c->wr_count > 0;
	pthread_mutex_unlock(&c->sending);
	return r < 0 && r != -EAGAIN ? "it has closed the connection" : NULL;
}

static void *reader_main(void *opaque)
{
	struct vfu *c = opaque;
	const char *fault = NULL;
	bool waiting = false;

	while (!fault) {
		struct pollfd pfds[] = {
			{ .fd = c->main, .events = (short)(POLLIN | (waiting ? POLLOUT : 0)) },
			{ .fd = c->wake_fd, .events = POLLIN },
			{ .fd = c->twin, .events = POLLIN },
		};

		if (poll(pfds, ARRAY_SIZE(pfds), -1) < 0) {
			fault = errno == EINTR ? NULL : strerror(errno);
			continue;
		}
		if (pfds[1].revents)
			io_eventfd_drain(c->wake_fd);
		if (pfds[1].revents || waiting)
			fault = flush(c, pfds[0].revents & POLLOUT, &waiting);
		if (!fault && pfds[0].revents & ~POLLOUT)
			fault = receive(c, c->main);
		if (!fault && pfds[2].revents)
			fault = receive(c, c->twin);
	}
	vfu_break(c, fault);
	return NULL;
}

int vfu_start_reader(struct vfu *c, struct gw_error *err)
{
	int r = thread_start(&c->reader, reader_main, c, "godwit-vfu");

	c->has_reader = !r;
	return r < 0 ? error_set_sys(err, r, "thread") : 0;
}
