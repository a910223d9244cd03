/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: their ids, their way to the server, the wait for the reply. */
#include "vfio/user/client_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/thread.h"
#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static bool is_slow(enum wire_command command)
{
	return command == WIRE_DEVICE_RESET || command == WIRE_DEVICE_FEATURE ||
	       command == WIRE_DMA_UNMAP;
}

/* ---- the end of a connection --------------------------------------------------------------- */

void vfu_break(struct vfu *c, const char *why)
{
	pthread_mutex_lock(&c->lock);
	if (c->state != VFU_DOWN) {
		c->state = VFU_DOWN;
		snprintf(c->why, sizeof(c->why), "%s", why);
		/* The reader, and who sends, find out at once. */
		if (c->main >= 0)
			shutdown(c->main, SHUT_RDWR);
		if (c->twin >= 0)
			shutdown(c->twin, SHUT_RDWR);
		for (struct vfu_flight *f = c->flights; f; f = f->next) {
			f->done = true;
			f->result = -ENOTCONN;
			pthread_cond_signal(&f->answered);
		}
		c->flights = NULL;
	}
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

int vfu_give_up(struct vfu *c, const char *format, ...)
{
	char why[200];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	vfu_break(c, why);
	return -ENOTCONN;
}

static int broke_sending(struct vfu *c, int r)
{
	if (r == -ETIMEDOUT)
		return vfu_give_up(c, "it takes nothing any more");
	return vfu_give_up(c, "sending: %s", strerror(-r));
}

/* ---- posted writes --------------------------------------------------------------------------- */

int vfu_flush(struct vfu *c, int timeout_ms)
{
	const struct wire_header h = { .command = WIRE_REGION_WRITE_MULTI,
		                       .flags = WIRE_TYPE_COMMAND | WIRE_NO_REPLY };
	const struct iovec parts[] = { { &c->wr_count, sizeof(c->wr_count) },
		                       { c->batch, c->wr_count * sizeof(c->batch[0]) } };
	int r;

	if (!c->wr_count)
		return 0;
	r = wire_send(c->main, &h, parts, 2, NULL, 0, timeout_ms);
	if (!r)
		c->wr_count = 0;
	return r;
}

/* May this thread make requests now? With `lock`. */
static bool may_call(const struct vfu *c)
{
	return c->state == VFU_UP ||
	       (c->state == VFU_SETUP && pthread_equal(c->setter, pthread_self()));
}

static int send_write(struct vfu *c, const struct wire_write *w, int timeout_ms)
{
	const struct wire_header h = { .command = WIRE_REGION_WRITE,
		                       .flags = WIRE_TYPE_COMMAND | WIRE_NO_REPLY };
	const struct wire_region_access access = { w->offset, w->region, w->count };
	const struct iovec parts[] = { { (void *)(uintptr_t)&access, sizeof(access) },
		                       { (void *)(uintptr_t)w->data, w->count } };

	return wire_send(c->main, &h, parts, 2, NULL, 0, timeout_ms);
}

/* With `sending`. A server that is slow to read does not hold up a vCPU for the first
 * VFU_BATCH writes, if it takes several in one message. */
static int post(struct vfu *c, const struct wire_write *w)
{
	int r = 0;

	if (c->wr_count == VFU_BATCH)
		r = vfu_flush(c, vfu_time_left(c));
	if (!r && !c->wr_count) {
		r = send_write(c, w, vfu_caps(c).write_multiple ? 0 : vfu_time_left(c));
		if (r != -EAGAIN)
			return r;
		r = 0;
	}
	if (r < 0)
		return r;
	c->batch[c->wr_count++] = *w;
	io_eventfd_signal(c->wake_fd);
	return 0;
}

int vfu_post_write(struct vfu *c, uint32_t region, uint64_t offset, const void *data, uint32_t len)
{
	struct wire_write w = { .offset = offset, .region = region, .count = len };
	bool may;
	int r = -ENOTCONN;

	memcpy(w.data, data, MIN(len, sizeof(w.data)));
	pthread_mutex_lock(&c->sending);
	pthread_mutex_lock(&c->lock);
	may = may_call(c);
	pthread_mutex_unlock(&c->lock);
	if (may) {
		r = post(c, &w);
		if (r < 0)
			r = broke_sending(c, r);
	}
	pthread_mutex_unlock(&c->sending);
	return r;
}

/* ---- requests ----------------------------------------------------------------------------------
 */

struct vfu_flight *vfu_land(struct vfu *c, uint16_t id)
{
	for (struct vfu_flight **pp = &c->flights; *pp; pp = &(*pp)->next) {
		struct vfu_flight *f = *pp;

		if (f->id != id)
			continue;
		*pp = f->next;
		return f;
	}
	return NULL;
}

static bool is_used(const struct vfu *c, uint16_t id)
{
	for (const struct vfu_flight *f = c->flights; f; f = f->next)
		if (f->id == id)
			return true;
	return false;
}

static int take_off(struct vfu *c, struct vfu_flight *f)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (!may_call(c)) {
		r = -ENOTCONN;
	} else {
		do
			f->id = c->next_id++;
		while (is_used(c, f->id));
		f->next = c->flights;
		c->flights = f;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static int transmit(struct vfu *c, struct vfu_flight *f)
{
	const struct vfu_request *r = f->request;
	const struct wire_header h = { .id = f->id,
		                       .command = (uint16_t)r->command,
		                       .flags = WIRE_TYPE_COMMAND };
	bool done;
	int ret = 0;

	pthread_mutex_lock(&c->sending);
	/* Another connection than that which the request was made for? */
	pthread_mutex_lock(&c->lock);
	done = f->done;
	pthread_mutex_unlock(&c->lock);
	if (!done) {
		ret = vfu_flush(c, vfu_time_left(c));
		if (!ret)
			ret = wire_send(c->main, &h, r->parts, r->part_count, r->fds, r->fd_count,
			                vfu_time_left(c));
		if (ret < 0)
			broke_sending(c, ret);
	}
	pthread_mutex_unlock(&c->sending);
	return ret;
}

/* The earliest of three ends; `*hurry` says which of the two that are for all replies together it
 * is, if it is one. With `lock`. */
static int64_t first_end(const struct vfu *c, int64_t own, const char **hurry)
{
	int64_t end = own;

	*hurry = NULL;
	if (c->set_up_by && c->set_up_by < end) {
		end = c->set_up_by;
		*hurry = "setting it up takes too long";
	}
	if (c->leave_by && c->leave_by < end) {
		end = c->leave_by;
		*hurry = "the VM was told to quit";
	}
	return end;
}

/* Whoever waits in vain ends the connection: an answer that comes later finds nobody. */
static void wait_for_reply(struct vfu *c, struct vfu_flight *f)
{
	const enum wire_command command = f->request->command;
	const int64_t ms = (int64_t)c->owner.timeout_ms * (is_slow(command) ? VFU_SLOW_FACTOR : 1);
	const int64_t own = now_ms() + ms;
	const char *hurry;
	bool in_vain;

	pthread_mutex_lock(&c->lock);
	/* An end may be set while it waits, and then it is woken. */
	while (!f->done && now_ms() < first_end(c, own, &hurry))
		thread_cond_wait(&f->answered, &c->lock, first_end(c, own, &hurry));
	in_vain = !f->done;
	first_end(c, own, &hurry);
	pthread_mutex_unlock(&c->lock);
	if (in_vain && hurry)
		vfu_give_up(c, "%s: still no reply to %s", hurry, wire_command_name(command));
	else if (in_vain)
		vfu_give_up(c, "no reply to %s within %lld ms", wire_command_name(command),
		            (long long)ms);
	/* Breaking has answered it, if nobody else has. */
}

int vfu_call(struct vfu *c, struct vfu_request *r)
{
	struct vfu_flight f = { .request = r };
	int ret;

	r->len = r->fds_came = 0;
	thread_cond_init(&f.answered);
	ret = take_off(c, &f);
	if (!ret) {
		transmit(c, &f);
		wait_for_reply(c, &f);
		ret = f.result;
	}
	pthread_cond_destroy(&f.answered);
	return ret;
}

ssize_t vfu_ask(struct vfu *c, enum wire_command command, const void *ask, size_t len, void *reply,
                size_t room)
{
	struct vfu_request r = {
		.command = command,
		.parts = { { (void *)(uintptr_t)ask, len } },
		.part_count = len ? 1 : 0,
		.reply = reply,
		.room = room,
	};
	int ret = vfu_call(c, &r);

	return ret < 0 ? ret : (ssize_t)r.len;
}

/* ---- life ------------------------------------------------------------------------------------ */

struct wire_caps vfu_caps(struct vfu *c)
{
	struct wire_caps caps;

	pthread_mutex_lock(&c->lock);
	caps = c->caps;
	pthread_mutex_unlock(&c->lock);
	return caps;
}

bool vfu_admit(struct vfu *c)
{
	bool was;

	pthread_mutex_lock(&c->lock);
	was = c->state == VFU_READY;
	if (was)
		c->state = VFU_UP;
	pthread_mutex_unlock(&c->lock);
	return was;
}

void vfu_settle(struct vfu *c)
{
	pthread_mutex_lock(&c->lock);
	c->set_up_by = 0;
	pthread_mutex_unlock(&c->lock);
}

void vfu_say_why(struct vfu *c, struct gw_error *err)
{
	pthread_mutex_lock(&c->lock);
	if (c->state != VFU_UP)
		error_append(err, "%s: %s", c->owner.name, c->why);
	else if (c->departure[0])
		error_append(err, "%s: %s", c->owner.name, c->departure);
	pthread_mutex_unlock(&c->lock);
}

bool vfu_why_lost(struct vfu *c, char *why, size_t size)
{
	bool lost;

	pthread_mutex_lock(&c->lock);
	lost = c->state != VFU_UP;
	snprintf(why, size, "%s", lost ? c->why : "");
	pthread_mutex_unlock(&c->lock);
	return lost;
}

int vfu_time_left(struct vfu *c)
{
	int64_t left = c->owner.timeout_ms;

	pthread_mutex_lock(&c->lock);
	if (c->leave_by)
		left = MAX(MIN(left, c->leave_by - now_ms()), (int64_t)1);
	pthread_mutex_unlock(&c->lock);
	return (int)left;
}

/* The VM was told to quit: from now on all replies together have the time of one. */
static void on_quit(void *opaque)
{
	struct vfu *c = opaque;

	pthread_mutex_lock(&c->lock);
	if (!c->leave_by)
		c->leave_by = now_ms() + c->owner.timeout_ms;
	for (struct vfu_flight *f = c->flights; f; f = f->next)
		pthread_cond_signal(&f->answered);
	pthread_mutex_unlock(&c->lock);
}

bool vfu_is_lost(struct vfu *c)
{
	bool lost;

	pthread_mutex_lock(&c->lock);
	lost = c->state != VFU_UP;
	pthread_mutex_unlock(&c->lock);
	return lost;
}

int vfu_create(const struct vfu_owner *owner, struct vfu **out, struct gw_error *err)
{
	struct vfu *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	c->owner = *owner;
	c->main = c->twin = -1;
	c->wake_fd = io_eventfd();
	pthread_mutex_init(&c->sending, NULL);
	pthread_mutex_init(&c->lock, NULL);
	thread_cond_init(&c->changed);
	c->quit_hook = (struct machine_quit_hook){ .call = on_quit, .opaque = c };
	if (owner->on_quit)
		owner->on_quit(owner->opaque, &c->quit_hook, true);
	c->in.payload = malloc(WIRE_MESSAGE_MAX);
	c->out = malloc(WIRE_MAX_DATA);
	if (!c->in.payload || !c->out)
		r = error_set(err, -ENOMEM, "out of memory");
	else if (c->wake_fd < 0)
		r = error_set_sys(err, c->wake_fd, "eventfd");
	if (!r)
		r = vfu_connect(c, err);
	if (!r) {
		pthread_mutex_lock(&c->lock);
		if (c->state == VFU_SETUP)
			c->state = VFU_UP;
		pthread_mutex_unlock(&c->lock);
		r = vfu_start_keeper(c, err);
	}
	if (r < 0) {
		vfu_destroy(c);
		return error_context(err, "%s", owner->name);
	}
	*out = c;
	return 0;
}

void vfu_stop(struct vfu *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_mutex_unlock(&c->lock);
	vfu_break(c, "it is not needed any more");
}

void vfu_destroy(struct vfu *c)
{
	if (!c)
		return;
	vfu_stop(c);
	if (c->has_keeper)
		pthread_join(c->keeper, NULL);
	vfu_drop(c);
	if (c->owner.on_quit)
		c->owner.on_quit(c->owner.opaque, &c->quit_hook, false);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	free(c->in.payload);
	free(c->out);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->sending);
	free(c);
}
