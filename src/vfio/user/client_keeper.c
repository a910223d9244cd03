/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is made, agreed on, and made again when the server was lost.
 * The protocol has no word for a client that comes back: a server that is
 * restarted knows nothing of us, and one that lived on has dropped our memory
 * and interrupts (specification, Client Disconnection). Either is set up from
 * the beginning.
 */
#include "vfio/user/client_internal.h"

#include "base/error.h"
#include "base/thread.h"
#include "base/util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACK_OFF_MS 100
#define BACK_OFF_MAX_MS 5000

/* ---- the version ------------------------------------------------------------------------------
 */

static int propose(struct vfu *c, struct gw_error *err)
{
	const struct wire_caps ours = {
		.max_msg_fds = WIRE_MAX_FDS,
		.max_data_xfer_size = WIRE_MAX_DATA,
		.max_dma_maps = WIRE_MAX_DMA_MAPS,
		.pgsizes = PAGE_SIZE,
		.twin_socket = true,
		.twin_fd = -1,
		.write_multiple = true,
	};
	const struct wire_header h = { .command = WIRE_VERSION, .flags = WIRE_TYPE_COMMAND };
	struct wire_version version = { WIRE_MAJOR, WIRE_MINOR };
	autofree char *text = wire_caps_print(&ours);
	struct iovec parts[] = { { &version, sizeof(version) }, { text, 0 } };
	int r;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	parts[1].iov_len = strlen(text) + 1;
	r = wire_send(c->main, &h, parts, 2, NULL, 0, vfu_time_left(c));
	return r < 0 ? error_set_sys(err, r, "version: sending") : 0;
}

static int await_reply(struct vfu *c, struct gw_error *err)
{
	struct pollfd pfd = { .fd = c->main, .events = POLLIN };
	const int ms = vfu_time_left(c);
	int r;

	do
		r = poll(&pfd, 1, ms);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return error_set(err, -ETIMEDOUT, "version: no reply within %d ms", ms);
	r = wire_receive(c->main, &c->in, c->owner.timeout_ms);
	return r < 0 ? error_set_sys(err, r == -ENODATA ? -ECONNRESET : r, "version: no reply") : 0;
}

/* The twin socket, if there is one: a connected UNIX socket, like the main one. */
static int take_twin(struct vfu *c, const struct wire_caps *theirs, struct gw_error *err)
{
	int domain = -1, type = -1, fd;
	socklen_t len = sizeof(domain);

	if (!theirs->twin_socket)
		return 0;
	fd = theirs->twin_fd < 0 ? -1 : wire_take_fd(&c->in, (unsigned)theirs->twin_fd);
	if (fd < 0)
		return error_set(err, -EPROTO, "version: a twin socket without its descriptor");
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	len = sizeof(type);
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	if (domain != AF_UNIX || type != SOCK_STREAM) {
		close(fd);
		return error_set(err, -EPROTO, "version: its twin socket is no UNIX stream socket");
	}
	pthread_mutex_lock(&c->lock);
	c->twin = fd;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static int take_version(struct vfu *c, struct gw_error *err)
{
	const struct wire_message *in = &c->in;
	struct wire_version version;
	struct wire_caps theirs;
	int r;

	if (in->header.command != WIRE_VERSION ||
	    (in->header.flags & WIRE_TYPE_MASK) != WIRE_TYPE_REPLY || in->header.id != 0)
		return error_set(err, -EPROTO, "version: something else came instead of a reply");
	if (in->header.flags & WIRE_ERROR)
		return error_set(err, -EPROTO, "version: it refuses %d.%d", WIRE_MAJOR, WIRE_MINOR);
	if (in->len < sizeof(version))
		return error_set(err, -EPROTO, "version: a reply of %zu bytes", in->len);
	memcpy(&version, in->payload, sizeof(version));
	if (version.major != WIRE_MAJOR || version.minor > WIRE_MINOR)
		return error_set(err, -EPROTO, "version: it speaks %u.%u, not %d.%d", version.major,
		                 version.minor, WIRE_MAJOR, WIRE_MINOR);
	r = wire_caps_parse((const char *)in->payload + sizeof(version), in->len - sizeof(version),
	                    &theirs, err);
	if (!r && !(theirs.pgsizes & PAGE_SIZE))
		r = error_set(err, -ENOTSUP, "version: it takes no memory in pages of 4096 bytes");
	if (!r)
		r = take_twin(c, &theirs, err);
	if (r < 0)
		return r;
	theirs.max_msg_fds = MIN(theirs.max_msg_fds, (uint32_t)WIRE_MAX_FDS);
	theirs.max_data_xfer_size = MIN(theirs.max_data_xfer_size, WIRE_MAX_DATA);
	pthread_mutex_lock(&c->lock);
	c->caps = theirs;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static int agree(struct vfu *c, struct gw_error *err)
{
	int r = propose(c, err);

	if (!r)
		r = await_reply(c, err);
	if (!r) {
		r = take_version(c, err);
		wire_close_fds(&c->in);
	}
	return r;
}

/* ---- a connection -------------------------------------------------------------------------------
 */

void vfu_drop(struct vfu *c)
{
	if (c->has_reader)
		pthread_join(c->reader, NULL);
	c->has_reader = false;
	pthread_mutex_lock(&c->sending);
	pthread_mutex_lock(&c->lock);
	if (c->main >= 0)
		close(c->main);
	if (c->twin >= 0)
		close(c->twin);
	c->main = c->twin = -1;
	c->wr_count = 0;
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&c->sending);
}

int vfu_connect(struct vfu *c, struct gw_error *err)
{
	int fd = c->owner.connect(c->owner.opaque, err), r = 0;

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&c->lock);
	c->main = fd;
	c->set_up_by = now_ms() + 2ll * VFU_SLOW_FACTOR * c->owner.timeout_ms;
	if (c->stopping)
		r = error_set(err, -ESHUTDOWN, "it is not needed any more");
	else
		c->state = VFU_SETUP;
	c->setter = pthread_self();
	c->departed = 0;
	c->departure[0] = 0;
	pthread_mutex_unlock(&c->lock);
	if (!r)
		r = agree(c, err);
	if (!r)
		r = vfu_start_reader(c, err);
	if (r < 0) {
		vfu_break(c, "it could not be set up");
		vfu_drop(c);
	}
	return r;
}

/* ---- the keeper
 * ------------------------------------------------------------------------------------ */

/* True: nobody wants it any more. */
static bool pause_for(struct vfu *c, int ms)
{
	const int64_t until = now_ms() + ms;
	bool stopping;

	pthread_mutex_lock(&c->lock);
	while (!c->stopping && thread_cond_wait(&c->changed, &c->lock, until))
		;
	stopping = c->stopping;
	pthread_mutex_unlock(&c->lock);
	return stopping;
}

/* Sets up a connection; true: it can be admitted. */
static bool try_again(struct vfu *c, struct gw_error *err)
{
	int r = vfu_connect(c, err);

	if (r < 0)
		return false;
	r = c->owner.again(c->owner.opaque, err);
	pthread_mutex_lock(&c->lock);
	if (!r && c->state == VFU_SETUP)
		c->state = VFU_READY;
	else if (!r)
		r = error_set(err, -ECONNRESET, "%s", c->why);
	pthread_mutex_unlock(&c->lock);
	if (r < 0) {
		vfu_break(c, "it could not be set up");
		vfu_drop(c);
	}
	return !r;
}

/* Why there is no connection yet: for who asks. */
static void note_trouble(struct vfu *c, const char *why)
{
	pthread_mutex_lock(&c->lock);
	if (c->state == VFU_DOWN && !c->stopping)
		snprintf(c->why, sizeof(c->why), "%.*s", (int)sizeof(c->why) - 1, why);
	pthread_mutex_unlock(&c->lock);
}

/* Reasons that alternate, such as a server that refuses and one that is not there, are logged once
 * each. */
struct reasons {
	char said[4][sizeof(((struct gw_error *)0)->text)];
	unsigned next; /* the one to be forgotten */
};

static bool is_new(struct reasons *reasons, const char *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons->said); i++)
		if (!strcmp(reasons->said[i], why))
			return false;
	snprintf(reasons->said[reasons->next], sizeof(reasons->said[0]), "%s", why);
	reasons->next = (reasons->next + 1) % ARRAY_SIZE(reasons->said);
	return true;
}

/* Until there is a server again, or none is wanted. *delay is what the next attempt waits for. */
static void regain(struct vfu *c, int *delay)
{
	struct reasons reasons = { 0 };
	struct gw_error err;

	while (!pause_for(c, *delay)) {
		*delay = MIN(2 * *delay, BACK_OFF_MAX_MS);
		if (try_again(c, &err)) {
			c->owner.ready(c->owner.opaque);
			return;
		}
		note_trouble(c, err.text);
		if (is_new(&reasons, err.text))
			log_warn(c->owner.log, "%s: %s; trying on", c->owner.name, err.text);
	}
}

static void *keeper_main(void *opaque)
{
	struct vfu *c = opaque;
	char why[sizeof(c->why)];
	int64_t since = now_ms();
	int delay = BACK_OFF_MS;

	for (;;) {
		bool stopping;

		pthread_mutex_lock(&c->lock);
		while (c->state != VFU_DOWN && !c->stopping)
			pthread_cond_wait(&c->changed, &c->lock);
		stopping = c->stopping;
		memcpy(why, c->why, sizeof(why));
		pthread_mutex_unlock(&c->lock);
		if (stopping)
			return NULL;
		vfu_drop(c);
		c->owner.lost(c->owner.opaque, why);
		/* One that is lost again and again is not looked for the faster. */
		if (now_ms() - since >= BACK_OFF_MAX_MS)
			delay = BACK_OFF_MS;
		regain(c, &delay);
		since = now_ms();
	}
}

int vfu_start_keeper(struct vfu *c, struct gw_error *err)
{
	int r = thread_start(&c->keeper, keeper_main, c, "godwit-vfu-keep");

	c->has_keeper = !r;
	return r < 0 ? error_set_sys(err, r, "thread") : 0;
}
