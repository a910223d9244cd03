/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: the device, in user space or with the kernel's vhost-vsock. */
#include "vmm/virtio/vsock.h"

#include "base/error.h"
#include "vmm/machine.h"
#include "vmm/virtio/devices.h"

#include <string.h>

#define VHOST_PATH "/dev/vhost-vsock"
#define QUEUE_SIZE 128

#define VSOCK_F_STREAM (1ull << 0)
#define VSOCK_F_SEQPACKET (1ull << 1)

/* What the kernel must do itself in a ring that it serves. */
#define RING_FEATURES                                                                              \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED)

enum { VHOST_AUTO, VHOST_ON, VHOST_OFF };

static bool wants_vhost(const struct vsock_options *o)
{
	return o->vhost == VHOST_ON || (o->vhost == VHOST_AUTO && !o->socket[0]);
}

/* ---- the kernel -------------------------------------------------------------------------------
 */

static void stop_vhost(struct vsock *s)
{
	struct gw_error err;

	if (vhost_vsock_running(s->vhost, false, &err) < 0)
		log_error(s->v.device.machine->log, "device %s: %s", s->v.device.id, err.text);
	vhost_stop(s->vhost);
	s->vhost_on = false;
}

/* It takes both queues or none. */
static int start_vhost(struct vsock *s, struct gw_error *err)
{
	int r;

	if (s->vhost_on || !s->v.queues[VSOCK_RX].ring.enabled ||
	    !s->v.queues[VSOCK_TX].ring.enabled)
		return 0;
	s->vhost_on = true;
	r = vhost_start(s->vhost, err);
	if (!r)
		r = vhost_vsock_running(s->vhost, true, err);
	if (r < 0)
		stop_vhost(s);
	return r;
}

static void vsock_deferred(struct device *d)
{
	struct vsock *s = container_of(d, struct vsock, v.device);
	struct gw_error err;

	if (s->vhost && s->v.active && start_vhost(s, &err) < 0) {
		log_error(d->machine->log, "device %s: %s", d->id, err.text);
		virtio_break(&s->v, "the kernel does not take the queues");
	}
	virtio_deferred(d);
}

/* ---- active ------------------------------------------------------------------------------------
 */

static void vsock_kick(struct virtio *v, struct virtio_queue *q)
{
	struct vsock *s = vsock_of(v);

	if (q->index == VSOCK_EVENT)
		vsock_event(s);
	else if (s->vhost)
		machine_defer(v->device.machine); /* enabled after the start */
	else if (q->index == VSOCK_RX)
		vsock_rx(s);
	else
		vsock_tx(s);
}

static int vsock_start(struct virtio *v, struct gw_error *err)
{
	struct vsock *s = vsock_of(v);
	struct virtio_worker *w = &v->workers[0];
	int r;

	if (s->vhost)
		return start_vhost(s, err);
	r = loop_watch(w->loop, s->listen_fd, EPOLLIN, vsock_on_listen, s, &s->listen_watch, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&w->lock);
	for (struct vsock_conn *c = s->conns; c; c = c->next)
		vsock_conn_update_watch(c);
	s->ticking = true;
	pthread_mutex_unlock(&w->lock);
	loop_timer_set(s->timer, 0);
	return 0;
}

/* Nothing is in flight outside a handler. Those that still come see that it is not active and touch
 * nothing, so the watches are nobody else's; and they want the worker's lock, so it is not held. */
static void vsock_stop(struct virtio *v)
{
	struct vsock *s = vsock_of(v);

	if (s->vhost_on)
		stop_vhost(s);
	if (s->vhost)
		return;
	loop_timer_set(s->timer, -1);
	loop_unwatch(s->listen_watch);
	s->listen_watch = NULL;
	for (struct vsock_conn *c = s->conns; c; c = c->next) {
		loop_unwatch(c->watch);
		c->watch = NULL;
	}
}

static void vsock_reset(struct virtio *v)
{
	struct vsock *s = vsock_of(v);
	struct virtio_worker *w = &v->workers[0];

	pthread_mutex_lock(&w->lock);
	vsock_conn_free_all(s);
	s->reply_count = 0;
	s->tx_blocked = false;
	s->reset_owed = false;
	pthread_mutex_unlock(&w->lock);
}

/* ---- state
 * --------------------------------------------------------------------------------------- */

/* Connections have their other end on the host that the guest left: all that comes along is that
 * the guest must hear of it. */
static int vsock_load(struct virtio *v, struct bytes_reader *in, struct gw_error *err)
{
	(void)in;
	(void)err;
	vsock_of(v)->reset_owed = true;
	return 0;
}

/* The address is this host's to give; the guest asks anew after the event (5.10.6.7). */
static int vsock_load_config(struct virtio *v, const uint8_t *theirs, struct gw_error *err)
{
	(void)v;
	(void)theirs;
	(void)err;
	return 0;
}

/* ---- made and gone
 * ---------------------------------------------------------------------------------- */

static int check_options(const struct vsock_options *o, struct gw_error *err)
{
	if (o->cid < 3 || o->cid == UINT32_MAX)
		return error_set(err, -EINVAL, "cid: %u is no guest's", o->cid);
	if (o->vhost == VHOST_ON && o->socket[0])
		return error_set(err, -EINVAL, "socket: the kernel's vhost uses none");
	if (o->vhost == VHOST_OFF && !o->socket[0])
		return error_set(err, -EINVAL, "socket: is needed without vhost");
	return 0;
}

static int vsock_check_host(const void *options, struct gw_error *err)
{
	const struct vsock_options *o = options;
	int r = check_options(o, err);

	if (!r && wants_vhost(o) && access(VHOST_PATH, R_OK | W_OK) < 0)
		r = error_set_sys(err, -errno, "vhost: %s", VHOST_PATH);
	return r;
}

static void vsock_release(struct virtio *v)
{
	struct vsock *s = vsock_of(v);

	vhost_close(s->vhost);
	vsock_conn_free_all(s);
	loop_timer_destroy(s->timer);
	vsock_unlisten(s);
	virtq_chain_free(&s->chain);
	virtq_chain_free(&s->tx_chain);
}

static int open_vhost(struct vsock *s, struct gw_error *err)
{
	int r = vhost_open(&s->v, VSOCK_RX, VHOST_PATH, &vhost_kernel, &s->vhost, err);

	if (!r && (r = vhost_vsock_cid(s->vhost, s->options.cid, err)) < 0)
		error_context(err, "cid: %u", s->options.cid);
	if (r < 0)
		return r;
	s->v.offered |= vhost_features(s->vhost) & VSOCK_F_SEQPACKET;
	s->v.offered &= ~(RING_FEATURES & ~vhost_features(s->vhost));
	return 0;
}

static int vsock_open(struct virtio *v, struct gw_error *err)
{
	struct vsock *s = vsock_of(v);
	int r;

	v->offered |= VSOCK_F_STREAM;
	virtio_config_set(v, 0, 8, s->options.cid);
	if (wants_vhost(&s->options))
		return open_vhost(s, err);
	r = vsock_listen(s, err);
	return r ? r : loop_timer_create(v->workers[0].loop, vsock_on_timer, s, &s->timer, err);
}

static const struct virtio_feature_name feature_names[] = {
	{ VSOCK_F_STREAM, "VIRTIO_VSOCK_F_STREAM" },
	{ VSOCK_F_SEQPACKET, "VIRTIO_VSOCK_F_SEQPACKET" },
	{ 0, NULL },
};

static const struct virtio_ops vsock_ops = {
	.id = 19,
	.class_code = 0x078000, /* communication, other */
	.feature_names = feature_names,
	.kick = vsock_kick,
	.start = vsock_start,
	.stop = vsock_stop,
	.reset = vsock_reset,
	.load = vsock_load,
	.load_config = vsock_load_config,
	.open = vsock_open,
	.release = vsock_release,
};

static const struct participant_ops vsock_participant = VIRTIO_PARTICIPANT("virtio-vsock");

static int vsock_create(struct machine *m, const struct config_device *config, bool hot,
                        struct device **out, struct gw_error *err)
{
	const struct vsock_options *o = virtio_options(config);
	const struct virtio_setup setup = {
		.ops = &vsock_ops,
		.participant = &vsock_participant,
		.driver = &virtio_vsock_driver,
		.queues = VSOCK_QUEUES,
		.queue_size = QUEUE_SIZE,
		.threads = 1,
	};
	struct vsock *s;
	int r = check_options(o, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->options = *o;
	s->listen_fd = -1;
	s->pending_end = &s->pending;
	s->v.config_size = 8;
	r = virtio_plug(&s->v, m, config, hot, &setup, err);
	if (!r)
		*out = &s->v.device;
	return r;
}

/* ---- asked
 * ------------------------------------------------------------------------------------------ */

static bool vsock_describe(struct device *d, cJSON *info)
{
	struct vsock *s = container_of(d, struct vsock, v.device);
	struct virtio_worker *w = &s->v.workers[0];
	unsigned conns;
	uint64_t dropped;

	pthread_mutex_lock(&w->lock);
	conns = s->conn_count;
	dropped = s->dropped;
	pthread_mutex_unlock(&w->lock);
	if (!cJSON_AddNumberToObject(info, "cid", s->options.cid) ||
	    !cJSON_AddBoolToObject(info, "vhost", s->vhost != NULL))
		return false;
	return s->vhost || (cJSON_AddStringToObject(info, "socket", s->options.socket) &&
	                    cJSON_AddNumberToObject(info, "connections", conns) &&
	                    cJSON_AddNumberToObject(info, "dropped", (double)dropped));
}

static const char *const vhost_words[] = { "auto", "on", "off", NULL };

static const struct config_key vsock_keys[] = {
	CONFIG_ROW_NUMBER(NULL, "cid", CONFIG_UINT, CONFIG_REQUIRED | CONFIG_OF_HOST,
	                  struct vsock_options, cid, 3, UINT32_MAX - 1, NULL,
	                  "the guest's address, one of its own on this host"),
	CONFIG_ROW_TEXT(
	        NULL, "socket", CONFIG_OF_HOST, struct vsock_options, socket,
	        "UNIX socket to be made: processes connect there and say \"CONNECT PORT\"; the "
	        "guest's connections to port P go to this path with _P behind it"),
	CONFIG_ROW_ENUM(NULL, "vhost", struct vsock_options, vhost, "\"auto\"", vhost_words,
	                "whether the host's kernel does it (" VHOST_PATH
	                "), with AF_VSOCK sockets; auto: if there is no socket"),
	CONFIG_ROW_END,
};

const struct device_driver virtio_vsock_driver = {
	.type = "virtio-vsock",
	.help = "streams between the guest and processes of the host",
	.keys = vsock_keys,
	.check_host = vsock_check_host,
	.create = vsock_create,
	.request_unplug = virtio_request_unplug,
	.destroy = virtio_destroy,
	.run = virtio_run,
	.pause = virtio_pause,
	.deferred = vsock_deferred,
	.describe = vsock_describe,
};
